"""Redis Cluster: each section is on one node, the root is worked section by section, and the rest is refused."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from unittest import mock

import pytest

import redicts
from redicts import ABSENT, Database, Lock, Pool, Proxy
from redicts.backends.redis.cluster import ClusterBackend
from redicts.backends.redis.connections import Connections
from redicts.backends.redis.options import RedisOptions
from redicts.cli import main
from redicts.config.settings import parse
from redicts.core.minitransaction import VALUES, Key, Put, Transaction
from redicts.errors import Deadlock, LockLost, LockTimeout, NotReplicated, SettingsError, StoreBusy, Unsupported
from redicts.transfer import import_lines, lines_of_value
from tests.backends.test_redis_production import PAGE, documented_user_of_functions
from tests.locks.locking import no_thread_is_left
from tests.support.cluster import Cluster, address, sections_in_each
from tests.support.executables import find_executables
from tests.support.servers import RedisServer
from tests.support.waiting import TIMEOUT, eventually


@pytest.fixture
def tree(cluster: Cluster) -> Iterator[Database]:
    """Give a database on an empty cluster."""
    with redicts.open(cluster.configuration) as database:
        yield database


def keys_on(server: RedisServer) -> set[str]:
    """Return the names of all keys on a node."""
    found: Any = server.command("KEYS", "*")
    return {name.decode("utf-8", "surrogatepass") for name in found}


def opened(cluster: Cluster) -> ClusterBackend:
    """Open the backend of a cluster."""
    return ClusterBackend(RedisOptions(cluster=True, nodes=tuple(cluster.nodes)), 0)


def put(section: str, value: bytes) -> Transaction:
    """Return a transaction that puts a value into a section."""
    return Transaction(writes=(Put(Key(VALUES, (section, "x")), value),))


def test_a_section_is_on_one_node(cluster: Cluster, tree: Database) -> None:
    """All keys of a section have its hash tag: values, lock records, sessions, TTLs and the counter of tokens."""
    names = sections_in_each(cluster)
    for name in names:
        tree.proxy(name).set("deep", {"er": 1, "list": [2]}, expire=100)
        with tree.proxy(name):
            tree.proxy(name).set("locked", True)
    for server, name in zip(cluster.primaries, names):
        found = keys_on(server) - {"{0:}sections"}
        assert {key.split("}")[0] for key in found} == {"{0:" + name}
        kinds = {key.split("}")[1].split(":")[0] for key in found}
        assert {"v", "r", "x", "f"} <= kinds


def test_replicas_acknowledge_writes(cluster: Cluster) -> None:
    """With ``acknowledged_by`` a write to a section, and a lock there, counts when the replica of its node has it."""
    eventually(
        lambda: all("state=online" in str(server.info("replication").get("slave0")) for server in cluster.primaries),
        "each primary has its replica",
    )
    with redicts.open({**cluster.configuration, "acknowledged_by": 1}) as database:
        for name in sections_in_each(cluster):
            with database.proxy(name) as node:
                node.set("x", 1)
            assert node.val() == {"x": 1}
    with redicts.open({**cluster.configuration, "acknowledged_by": 2, "socket_timeout_secs": 0.5}) as database:
        node = database.proxy("one")
        with pytest.raises(NotReplicated, match="1 replicas acknowledged") as refused:
            node.set("x", 2)
        assert refused.value.maybe_applied
        with pytest.raises(NotReplicated):
            node.lock(expire_timeout=1).acquire()
        assert node.val() == {"x": 2}
        no_thread_is_left()  # it withdraws the lock until its lease would have ended
    with redicts.open(cluster.configuration) as database:
        assert database.proxy("one").lock().acquire(timeout=TIMEOUT)


@pytest.mark.parametrize("name", ["{a}", "}", "{", "%7D", "a.b", "\x00", "ü ", "\udc80", "0:a", "*", "sections"])
def test_any_name_is_a_section(cluster: Cluster, tree: Database, name: str) -> None:
    """Braces, escapes and all other characters of a first segment are data."""
    tree.proxy([name]).set("x", 1)
    tree.proxy([name]).set("y", {"z": 2})
    with tree.proxy([name]):
        assert tree.proxy([name]).val() == {"x": 1, "y": {"z": 2}}
    assert tree.root().val() == {name: {"x": 1, "y": {"z": 2}}}
    # Not those of sessions: a database of another test may still withdraw a lock.
    assert sum(any("}v:" in key for key in keys_on(server)) for server in cluster.primaries) == 1


def test_databases_share_nothing(cluster: Cluster) -> None:
    """A cluster has one database, so the number is in the hash tag."""
    with redicts.open({**cluster.configuration, "names": {"other": 1}}) as tree:
        tree.proxy("a").set("x", 0)
        tree.proxy("a", db_name="other").set("x", 1)
        assert tree.root().val() == {"a": {"x": 0}}
        assert tree.root(db_name="other").val() == {"a": {"x": 1}}


def test_a_prefix_begins_all_keys(cluster: Cluster) -> None:
    """Two applications share a cluster by their prefixes."""
    with redicts.open({**cluster.configuration, "prefix": "app:"}) as tree:
        tree.proxy("a").set("x", 0)
        assert tree.root().val() == {"a": {"x": 0}}
    assert all(key.startswith("app:{0:") for server in cluster.primaries for key in keys_on(server))


def test_one_node_of_the_settings_is_enough(cluster: Cluster) -> None:
    """A node tells the others, and one that does not answer is passed over."""
    names = sections_in_each(cluster)
    with redicts.open({**cluster.configuration, "nodes": ["127.0.0.1:1", cluster.nodes[-1]]}) as tree:
        for name in names:
            tree.proxy(name).set("x", name)
        assert tree.root().val() == {name: {"x": name} for name in names}


def test_a_url_names_nodes(cluster: Cluster) -> None:
    """``redis+cluster://`` with several nodes, and the number of a database."""
    with redicts.open(f"redis+cluster://{','.join(cluster.nodes[:2])}/2?prefix=p:") as tree:
        tree.proxy("a").set("x", 1)
    assert any("p:{2:a}v:.a" in keys_on(server) for server in cluster.primaries)


def test_the_root_is_read_section_by_section(cluster: Cluster, tree: Database) -> None:
    """Names, values, leaves, existence and TTLs at the root are those of all sections on all nodes."""
    names = sections_in_each(cluster, 3)
    assert tree.root().val() is None
    for number, name in enumerate(names):
        tree.proxy(name).set("x", number)
    tree.root().set("leaf", 5)
    expected: dict[str, Any] = {name: {"x": number} for number, name in enumerate(names)}
    assert tree.root().val() == {**expected, "leaf": 5}
    assert set(tree.root().keys()) == {*names, "leaf"}
    assert tree.root().exists()
    assert {proxy.key() for proxy in tree.root().iter_children()} == {*(f"{name}.x" for name in names), "leaf"}
    assert tree.root().time_to_live() == -1
    tree.proxy(names[0]).delete("x")
    assert set(tree.root().keys()) == {*names[1:], "leaf"}, "a section without values has no name"


def test_the_root_is_changed_section_by_section(cluster: Cluster, tree: Database) -> None:
    """``update``, ``expire``, ``clear`` and ``as_dict`` at the root."""
    names = sections_in_each(cluster)
    tree.root().update({name: {"x": 1, "y": {"z": []}} for name in names})
    tree.root().update({names[0]: {"x": 2}, names[1]: {"e": {}}, "new": 7})
    expected: dict[str, Any] = {name: {"x": 1, "y": {"z": []}} for name in names}
    expected[names[0]]["x"], expected[names[1]]["e"], expected["new"] = 2, {}, 7
    assert tree.root().val() == expected
    tree.root().expire(1000)
    assert 900 < tree.root().time_to_live() <= 1000
    tree.root().clear()
    assert tree.root().val() is None
    assert list(tree.root().keys()) == []


def test_a_large_root_comes_in_pages(tree: Database) -> None:
    """More leaves and sections than one page holds."""
    whole = {f"section{number}": {f"leaf{leaf}": leaf for leaf in range(20)} for number in range(60)}
    whole["large"] = {f"leaf{leaf}": leaf for leaf in range(6_000)}
    tree.root().update(whole)
    assert tree.root().val() == whole
    assert len(list(tree.root().iter_children())) == 60 * 20 + 6_000


def test_names_at_the_root_come_in_packets(cluster: Cluster, tree: Database) -> None:
    """The names of many sections cost a few round trips to each node, whichever of them hold values."""
    for number in range(250):
        tree.section(f"n{number}").set("x", number)
    for number in range(0, 250, 5):
        tree.section(f"n{number}").clear()
    packets: list[int] = []
    call = Connections.call

    def counted(self: Connections, command: bytes, *rest: Any) -> Any:
        packets.append(command.count(b"FCALL"))
        return call(self, command, *rest)

    with mock.patch.object(Connections, "call", counted):
        names = set(tree.root().keys())
    assert names == {f"n{number}" for number in range(250) if number % 5}
    assert sum(packets) == 250
    assert len(packets) < 20


def test_what_spans_sections_is_refused(cluster: Cluster, tree: Database) -> None:
    """A transaction, a comparison, an edit or a lock over sections raises ``Unsupported``, and nothing is done."""
    one, other, _ = sections_in_each(cluster)
    tree.proxy(one).set("x", 1)
    before = {address(server): keys_on(server) for server in cluster.primaries}

    def change_both() -> None:
        with tree.root().transaction() as changes:
            changes.set(f"{one}.x", 2)
            changes.set(f"{other}.x", 2)

    with pytest.raises(Unsupported, match=f"the sections '{min(one, other)}', '{max(one, other)}'"):
        change_both()
    with pytest.raises(Unsupported, match="the root"):
        tree.root().compare_and_set({one: {"x": 1}}, {})
    with pytest.raises(Unsupported, match="the root"):
        tree.root().update_with(lambda value: {})
    with pytest.raises(Unsupported, match="the root"):
        tree.root().acquire()
    with pytest.raises(Unsupported, match="the root"), tree.root().edit():
        pass
    with pytest.raises(Unsupported, match="the sections"):
        tree.lock(f"{one}.x", f"{other}.y").acquire()
    with pytest.raises(Unsupported, match="the sections"):
        tree.root().vals(f"{one}.x", f"{other}.y")
    assert {address(server): keys_on(server) for server in cluster.primaries} == before
    assert tree.root().val() == {one: {"x": 1}}
    assert not [thread.name for thread in threading.enumerate() if "leftovers" in thread.name]


def test_one_section_does_what_a_server_does(tree: Database) -> None:
    """Transactions, comparisons, edits and locks of several paths work below one first segment."""
    with tree.root().transaction() as t:
        t.set("stock.apples", 3)
        t.add("stock.sold", 1)
        t.expect("stock.pears", redicts.ABSENT)
    assert not tree.proxy("stock").compare_and_set({"apples": 4}, {})
    assert tree.proxy("stock").compare_and_set({"apples": 3, "sold": 1}, {"apples": 4})
    with tree.proxy("stock").edit() as stock:
        stock["pears"] = [1]
    with tree.lock("stock.apples", "stock.pears"):
        assert tree.lock("stock.apples").is_locked()
    assert tree.root().vals("stock.apples", "stock.pears") == (4, [1])


def test_waiters_are_notified_on_every_node(cluster: Cluster, tree: Database) -> None:
    """A release wakes the waiter of another client, whichever node has the section."""
    names = sections_in_each(cluster)
    with redicts.open(cluster.configuration) as other:
        for name in names:
            held = tree.lock(f"{name}.a")
            held.acquire()
            got = threading.Event()

            def wait(name: str = name, got: threading.Event = got) -> None:
                with other.lock(f"{name}.a.b"):
                    got.set()

            waiter = threading.Thread(target=wait)
            waiter.start()
            eventually(tree.lock(name).waiters, "the other client waits")
            assert not got.is_set()
            held.release()
            waiter.join(30)
            assert got.is_set()
        assert tree.root().lock().holders() == []


def test_tokens_rise_within_a_section(tree: Database) -> None:
    """Each section counts its own fencing tokens."""
    tokens: list[int] = []
    for path in ("a.x", "a.y", "b.x", "a.x"):
        with tree.lock(path) as lock:
            assert lock.token is not None
            tokens.append(lock.token)
    assert tokens[0] < tokens[1] < tokens[3]


def test_guards_hold_at_the_root(tree: Database) -> None:
    """A write at the root is guarded by the locks of its writer, in their sections."""
    with tree.lock("a.x"), tree.lock("b"):
        tree.root().update({"a": {"x": 1}, "b": {"y": 2}, "c": {"z": 3}})
        tree.root().lock().break_locks()
        with pytest.raises(LockLost):
            tree.root().update({"a": {"x": 0}, "c": {"z": 0}})
    assert tree.root().val() == {"a": {"x": 1}, "b": {"y": 2}, "c": {"z": 3}}


def test_a_moved_slot_is_followed(cluster: Cluster, tree: Database) -> None:
    """A call to the old node of a slot is sent to the new one, values and sessions with it."""
    (name, *_) = sections_in_each(cluster)
    slot = cluster.slot_of(name)
    source, target = cluster.owner(slot), cluster.primaries[1]
    tree.proxy(name).set("x", {"y": [1], "z": 2})
    try:
        cluster.move(slot, target)
        assert tree.proxy(name).val() == {"x": {"y": [1], "z": 2}}
        assert tree.proxy(name).get("n").add(1) == 1
        assert not any(key.startswith("{0:" + name) for key in keys_on(source))
    finally:
        cluster.move(slot, source)
    assert tree.proxy(name).get("n").add(1) == 2


def messages_to_others(cluster: Cluster) -> int:
    """Return how many published messages the nodes have sent to all others."""
    sent = 0
    for server in cluster.servers:
        info: Any = server.command("CLUSTER", "INFO")
        found = re.search(rb"messages_publish_sent:(\d+)", info)
        sent += int(found[1]) if found else 0
    return sent


def test_a_change_concerns_the_node_of_its_section(cluster: Cluster, tree: Database) -> None:
    """Watches are told on the node that has the section, and a write is published to no other node."""
    names = sections_in_each(cluster)
    for name in names:
        tree.proxy(name).put(0)  # that a section is new concerns all nodes
        tree.proxy(name).clear()
    with redicts.open(cluster.configuration) as other:
        watches = [other.proxy(name).watch(timeout=TIMEOUT) for name in names]
        assert [next(watch) for watch in watches] == [ABSENT] * 3
        for server, name in zip(cluster.primaries, names):
            assert server.command("PUBSUB", "SHARDCHANNELS") == [b"{0:%b}s:/.%b" % (name.encode(), name.encode())]
        before = messages_to_others(cluster)
        for name, watch in zip(names, watches):
            tree.proxy(name).put(name)
            assert next(watch) == name
        assert messages_to_others(cluster) == before
        for watch in watches:
            watch.close()
        for server in cluster.primaries:
            eventually(partial(has_no_channels, server), "nobody is subscribed")
    no_thread_is_left()


@pytest.mark.parametrize("path", ["section", "root"])
def test_a_watch_follows_a_moved_slot(cluster: Cluster, tree: Database, path: str) -> None:
    """Whatever moves, changes are told, also those of a section that is new to a watch of the root."""
    (name, *_) = sections_in_each(cluster)
    slot = cluster.slot_of(name)
    source, target = cluster.owner(slot), cluster.primaries[1]
    tree.proxy(name).put(0)
    with redicts.open(cluster.configuration) as other:
        watched = other.root() if path == "root" else other.proxy(name)
        watch = watched.watch(timeout=TIMEOUT)
        assert next(watch) == tree.proxy("" if path == "root" else name).val()
        try:
            for number, server in enumerate((target, source), 1):
                cluster.move(slot, server)
                tree.proxy(name).put(number)
                assert next(watch) == ({name: number} if path == "root" else number)
                tree.proxy(name).put(-number)
                assert next(watch) == ({name: -number} if path == "root" else -number)
        finally:
            cluster.move(slot, source)
        if path == "root":
            for number in range(2):
                tree.proxy("new").put(number)
                assert next(watch) == {name: -2, "new": number}
        watch.close()


def test_a_watch_follows_a_promoted_replica(cluster: Cluster, tree: Database) -> None:
    """After a failover there and back, changes are told."""
    (name, *_) = sections_in_each(cluster)
    primary = cluster.owner(cluster.slot_of(name))
    replica = cluster.replica_of(primary)
    with redicts.open(cluster.configuration) as other:
        watch = other.proxy(name).watch(timeout=TIMEOUT)
        assert next(watch) is ABSENT
        for number, server in enumerate((replica, primary)):
            eventually(partial(is_in_step, server), "it follows its primary")
            promote(server)
            eventually(partial(cluster.is_ok, server), "it serves its slots")
            tree.proxy(name).put(number)
            assert next(watch) == number
            tree.proxy(name).put(number + 10)
            assert next(watch) == number + 10
        watch.close()


def test_nodes_before_redis_7_publish_to_all() -> None:
    """On nodes without sharded channels, a watch of a section and one of the root are told all the same."""
    with Cluster(find_executables()[0], replicas=0) as cluster:
        with redicts.open(cluster.configuration) as db, redicts.open(cluster.configuration) as other:
            watches = [db.proxy("a").watch(timeout=TIMEOUT), db.root().watch(timeout=TIMEOUT)]
            assert [next(watch) for watch in watches] == [ABSENT] * 2
            for number in range(2):
                other.proxy("a.b").put(number)
                assert [next(watch) for watch in watches] == [{"b": number}, {"a": {"b": number}}]
            for watch in watches:
                watch.close()
        no_thread_is_left()


def has_no_channels(server: RedisServer) -> bool:
    """Tell whether nobody is subscribed on a node."""
    return server.command("PUBSUB", "SHARDCHANNELS") == server.command("PUBSUB", "CHANNELS") == []


def is_in_step(server: RedisServer) -> bool:
    """Tell whether a replica has all that its primary sent."""
    return server.info("replication").get("master_link_status") == "up"


def promote(replica: RedisServer) -> None:
    """Have a replica take over. Its primary ignores the request until it knows it as its replica, so it is repeated."""
    for _ in range(15):
        replica.command("CLUSTER", "FAILOVER")
        with suppress(AssertionError):
            eventually(partial(is_primary, replica), "it is promoted", within=1.5)
            return
    raise AssertionError("the replica was not promoted")


def is_primary(server: RedisServer) -> bool:
    """Tell whether a node is a primary."""
    return server.info("replication")["role"] == "master"


def test_a_slot_that_is_half_moved_is_waited_for(cluster: Cluster, tree: Database) -> None:
    """Writes wait until the move is over; one with a deadline is refused with ``StoreBusy`` and does nothing."""
    (name, *_) = sections_in_each(cluster)
    slot = cluster.slot_of(name)
    source = cluster.owner(slot)
    target = next(server for server in cluster.primaries if server is not source)
    tree.proxy(name).update({"a": {"x": 0}, "b": {"x": 0}})
    backend = opened(cluster)
    steps = cluster.moving(slot, target)
    try:
        for number in steps:
            if number:
                break
        with pytest.raises(StoreBusy, match="being moved") as failed:
            backend.execute_until(put(name, b"1"), time.monotonic() + 0.3)
        assert not failed.value.maybe_applied
        writer = threading.Thread(target=lambda: tree.proxy(name).update({"a": {"x": 1}, "b": {"x": 1}}))
        writer.start()
        for _ in steps:
            pass
        writer.join(30)
        assert not writer.is_alive()
        assert tree.proxy(name).val() == {"a": {"x": 1}, "b": {"x": 1}}
    finally:
        backend.close()
        for _ in steps:  # half a move would stop the other tests
            pass
        cluster.move(slot, source)


def test_a_forked_child_has_connections_of_its_own(tree: Database) -> None:
    """A child of a process that has used the cluster writes too, and each gets its own replies."""
    tree.proxy("a").set("x", 1)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for number in range(50):
                tree.proxy("a").get("child").set("n", number)
            status = 0 if tree.proxy("a.child").get("n").val() == 49 else 2
        finally:
            os._exit(status)
    for number in range(50):
        tree.proxy("a").get("parent").set("n", number)
    assert os.waitpid(child, 0)[1] == 0
    assert tree.proxy("a").val() == {"x": 1, "child": {"n": 49}, "parent": {"n": 49}}


def test_a_process_keeps_few_sections_ready(cluster: Cluster) -> None:
    """The memory for thousands of sections is bounded."""
    backend = opened(cluster)
    for number in range(600):
        backend.execute(put(f"n{number}", b"1"))
    assert len(backend._sections) <= 512
    backend.close()


def test_a_section_is_listed_again(cluster: Cluster, tree: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process lists a section before its first write to it, and again after a while, in case the list was lost."""
    monkeypatch.setattr("redicts.backends.redis.cluster._LISTED_SECS", 1_000.0)
    tree.proxy("a").set("x", 1)
    cluster.owner(cluster.slot_of("")).command("DEL", "{0:}sections")
    tree.proxy("a").set("x", 2)
    assert tree.root().val() is None, "the process has listed it lately"
    monkeypatch.setattr("redicts.backends.redis.cluster._LISTED_SECS", -1.0)
    tree.proxy("b").set("x", 3)
    tree.proxy("b").set("x", 4)
    assert tree.root().val() == {"b": {"x": 4}}
    cluster.owner(cluster.slot_of("")).command("DEL", "{0:}sections")
    tree.proxy("b").set("x", 5)
    assert tree.root().val() == {"b": {"x": 5}}


def test_a_deadlock_in_one_section_is_found(tree: Database) -> None:
    """Two owners that wait for each other in one section do not wait for their timeouts."""
    errors = _cross(tree, "a.x", "a.y", timeout=30)
    assert [type(error) for error in errors] == [Deadlock]


def test_a_deadlock_over_sections_ends_by_the_timeout(tree: Database) -> None:
    """Two owners that wait for each other in two sections wait until one of them has waited long enough."""
    errors = _cross(tree, "a.x", "b.x", timeout=0.5)
    assert {type(error) for error in errors} == {LockTimeout}


def _cross(tree: Database, one: str, other: str, timeout: float) -> list[Exception]:
    """Have two threads lock two paths in opposite order; return what their second acquisitions raise."""
    both = threading.Barrier(2)
    errors: list[Exception] = []

    def lock(first: str, second: str) -> None:
        with tree.lock(first):
            both.wait()
            try:
                with tree.lock(second, acquire_timeout=timeout):
                    pass
            except (Deadlock, LockTimeout) as error:
                errors.append(error)

    threads = [threading.Thread(target=lock, args=paths) for paths in ((one, other), (other, one))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return errors


def test_the_documented_user_of_a_cluster(cluster: Cluster) -> None:
    """The user of the page on production, with what that on clusters adds, can do everything."""
    added = re.search(r"\*Users\* need `([^`]+)`", PAGE)
    assert added
    rules = [*documented_user_of_functions().split()[1:], *added[1].split()]
    for server in cluster.servers:
        server.command("ACL", "SETUSER", "app", *rules)
    try:
        with redicts.open(
            {**cluster.configuration, "prefix": "app:", "username": "app", "password": "the-password"}
        ) as tree:
            for name in sections_in_each(cluster):
                tree.proxy(name).set("x", {"y": 1}, expire=100)
                with tree.lock(name), tree.proxy(name).watch(timeout=0) as watch:
                    assert tree.proxy(name).get("x").get("n").add(2**53) == 2**53
                    assert list(watch) == [{"x": {"y": 1, "n": 2**53}}]
            assert next(tree.root().watch()) == tree.root().val()
            assert len(tree.root().val() or ()) == 3
            tree.root().clear()
    finally:
        for server in cluster.servers:
            server.command("ACL", "DELUSER", "app")


@pytest.mark.parametrize("prefix", ["", "app:"])
def test_what_the_pool_gives_can_be_locked(cluster: Cluster, prefix: str) -> None:
    """``Lock(Pool().get_connection(), key)``, the idiom of 1.0, is a lock of the pool's database."""
    Pool().reload({**cluster.configuration, "names": {"other": 1}, "prefix": prefix})
    for name, other in ((None, "other"), ("other", None)):
        client: Any = Pool().get_connection(name)
        with Lock(client, "a.b"):
            assert Proxy("a.b", db_name=name).is_locked()
            assert not Proxy("a.b", db_name=other).is_locked()
        client.close()


def test_doctor_reports_the_nodes(cluster: Cluster, tree: Database, capsys: pytest.CaptureFixture[str]) -> None:
    """``redicts doctor`` names each node with its role, slots and sections, and how far replicas lag behind."""
    names = sections_in_each(cluster)
    for name in names:
        tree.proxy(name).set("x", 1)
    checks = examined(cluster, capsys)
    found = checks["servers"]["servers"]
    assert set(found) == set(cluster.nodes)
    for server, name in zip(cluster.primaries, names):
        assert re.fullmatch(rf"primary of 546\d slots and 1 sections \({name}\)", found[address(server)])
    assert sum(text.startswith("replica of ") for text in found.values()) == 3
    replication = checks["replication"]["servers"]
    assert set(replication) == {address(server) for server in cluster.primaries}
    assert all(len(each["replicas"]) == 1 for each in replication.values())
    assert "min-replicas-to-write 0" in checks["replication"]["text"]


def test_doctor_asks_each_node(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """The memory of a node that evicts, the user of one that lacks a command, and too few replicas are found."""
    evicting, refusing = cluster.servers[0], cluster.servers[1]
    evicting.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    for server in cluster.servers:
        server.command("ACL", "SETUSER", "app", "on", "nopass", "~*", "&*", "+@all")
    refusing.command("ACL", "SETUSER", "app", "-ssubscribe", "-hstrlen")
    try:
        checks = examined(cluster, capsys, {"username": "app", "password": "any", "acknowledged_by": 2}, status=1)
    finally:
        evicting.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        for server in cluster.servers:
            server.command("ACL", "DELUSER", "app")
    policies = {at: each["policy"] for at, each in checks["memory"]["servers"].items()}
    assert policies == {at: "allkeys-lru" if at == address(evicting) else "noeviction" for at in cluster.nodes}
    assert checks["memory"]["status"] == "notice"
    missing = {at: each["missing"] for at, each in checks["permissions"]["servers"].items()}
    assert missing == {at: ["hstrlen", "ssubscribe"] if at == address(refusing) else [] for at in cluster.nodes}
    assert checks["permissions"]["status"] == "notice"
    assert checks["replication"]["status"] == "wrong"
    assert "only 1 replicas can acknowledge" in checks["replication"]["text"]
    assert set(checks["clock"]["servers"]) == set(cluster.nodes)


def test_probes_and_checkpoints_are_in_two_sections(
    cluster: Cluster, tree: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """However often the doctor and imports run, the list of sections, which never shrinks, has one for each."""
    for number in range(3):
        examined(cluster, capsys)
        import_lines(tree, lines_of_value({"a": {"b": number}}, ()))
    backend: Any = tree.backend
    assert set(backend._listed_sections()) == {"a", "doctor", "work"}


def test_doctor_sees_the_servers_behind_a_cache(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """A database that keeps values asks its backend for the servers too."""
    assert "servers" in examined(cluster, capsys, {"cache": True})


def examined(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], settings: Mapping[str, Any] | None = None, status: int = 0
) -> dict[str, Any]:
    """Return the checks that ``redicts doctor`` makes of a cluster, by their names."""
    assert main(["doctor", "--json", "--store", json.dumps({**cluster.configuration, **(settings or {})})]) == status
    return {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}


@pytest.mark.parametrize(
    ("configuration", "nodes"),
    [
        ("redis+cluster://one:7000,two:7001/3?prefix=a:", ("one:7000", "two:7001")),
        ("redis+cluster://user:p%2Cq@one,[::1]:7001/3", ("one:6379", "[::1]:7001")),
        ("rediss+cluster://one/3", ("one:6379",)),
        ({"backend": "redis", "nodes": ["one:7000"], "cluster": True, "default_database": 3}, ("one:7000",)),
    ],
)
def test_settings_of_clusters(configuration: Any, nodes: tuple[str, ...]) -> None:
    """A URL of a cluster has several nodes; the fields are the same as in a dict."""
    settings: Any = parse(configuration)
    assert settings.options.cluster
    assert settings.options.nodes == nodes
    assert settings.default == 3
    assert settings.options.tls is str(configuration).startswith("rediss")


@pytest.mark.parametrize(
    ("configuration", "text"),
    [
        ({"nodes": ["one:7000"]}, "set cluster"),
        ({"cluster": True}, "needs nodes"),
        ({"cluster": True, "nodes": ["one:7000"], "host": "two"}, "remove host"),
        ({"cluster": True, "nodes": ["one:7000"], "sentinels": ["two:26379"], "service": "a"}, "no Sentinels"),
        ({"cluster": True, "nodes": ["one"]}, "host and a port"),
        ({"cluster": True, "nodes": ["one:99999"]}, "host and a port"),
        ({"cluster": True, "nodes": ["one:7000"], "prefix": "{a}:"}, "must not contain {"),
        ("redis+cluster://one:7000,/0", "host and a port"),
        ("redis+cluster://one:7000/0?nodes=two:1", "'nodes'"),
    ],
)
def test_wrong_settings_of_clusters(configuration: Any, text: str) -> None:
    """Half a cluster, an address that is none, and a prefix with a brace are refused."""
    with pytest.raises(SettingsError, match=re.escape(text)):
        parse(configuration)
