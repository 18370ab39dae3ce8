"""The production page: its statements on users, failover, memory, timeouts and monitoring hold on real servers.

The tests read the user from the page, so it is the one that they test.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Final

import pytest
import redis

from redicts import AccessDenied, Lock, LockLost, Pool, Proxy, ReadOnly, StoreFull, root
from redicts.backends.redis import functions
from redicts.backends.redis.settings import RedisSettings
from redicts.core.locks.records import LISTENERS
from redicts.core.minitransaction import Entries, Key, Put, Read, Scope, Transaction
from tests.backends.redis_tools import calls, configuration, front, front_with, key, opened, write
from tests.support.servers import RedisServer, StartRedis, TlsMissing
from tests.support.skips import EXCUSE
from tests.support.waiting import TIMEOUT, eventually

HERE: Final = Path(__file__).parents[2]
PAGE: Final = (HERE / "docs" / "production.md").read_text(encoding="utf-8")
SCRIPT: Final = functions.SCRIPT.decode()
DATABASE: Final = 1
CREDENTIALS: Final = {"username": "app", "password": "the-password", "prefix": "app:"}


def documented_user() -> str:
    """Return the line of the page that defines the user, without its first word, for the database of these tests."""
    (lines,) = re.findall(r"^user (app on .*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    return " ".join(str(lines).split()).replace("s:0:", f"s:{DATABASE}:")


def documented_user_of_functions() -> str:
    """Return the same with the commands that the page adds for a server with functions."""
    (added,) = re.findall(r"^ *(\+fcall.*)$", PAGE, flags=re.MULTILINE)
    return f"{documented_user()} {added}"


def documented_commands() -> set[str]:
    """Return the commands that the page allows on each server."""
    return set(re.findall(r"\+(\w+)", documented_user()))


def has_functions(server: RedisServer) -> bool:
    """Tell whether this server has functions."""
    return int(server.info("server")["redis_version"].split(".")[0]) >= 7


def do_everything(tree: Proxy) -> None:
    """Read, write, expire and lock, also a dict that takes several requests."""
    tree.set("a", {"b": {"c": 1, "d": "x"}, "e": [1]}).update({"a": {"f": {}}}, expire=900)
    whole = {name: {str(number): number for number in range(20)} for name in "abcd"}
    tree.set("whole", whole).set("whole", whole)
    assert tree.pop("whole") == whole
    tree.set("expiring", {"x": 1, "y": 2}, expire=900)
    assert tree["expiring"].time_to_live() == 900
    tree["expiring"].expire(None)
    tree["expiring"].expire(60)
    assert sorted(tree) == ["a", "expiring"]
    assert tree["a.b.c"].add(2**60) == 2**60 + 1
    assert tree["a.b.d"].compare_and_set("x", "y")
    tree["a.e"].update_with(lambda value: [*value, 2])
    with tree["a"].transaction() as changes:
        changes.expect("b.d", "y")
        changes.delete("b")
        changes.expire("e", 50)
    assert tree.pop("a") == {"e": [1, 2], "f": {}}
    tree.set("large", {f"name{number}": number for number in range(12_000)})
    assert len(tree["large"].val()) == len(tree["large"]) == sum(1 for _ in tree["large"].iter_children()) == 12_000
    tree["large"].expire(900)
    tree.delete("large")
    with Proxy("jobs.import", lock_expire_timeout=20) as job:
        job["state"] = {"done": 3}
        with job.lock(shared=True):
            job.lock().extend()
        assert [current_owner.path for current_owner in tree.lock().holders()] == ["jobs.import"]
    wait_for_a_lock(tree)
    with tree.watch(timeout=0) as values:
        assert list(values) == [tree.val()]
    tree.lock().break_locks()
    tree.clear()


def is_listener_registered() -> bool:
    """Tell whether a release would notify a listener."""
    (answer,) = Pool().database().backend.execute(Transaction(reads=(Read(Key(LISTENERS, ()), Scope.SUBTREE),))).answers
    return isinstance(answer, Entries) and bool(answer.values)


def wait_for_a_lock(tree: Proxy) -> None:
    """Have another thread wait for a lock until a notification."""
    with tree.lock():
        other = threading.Thread(target=lambda: tree["waiting"].lock(acquire_timeout=TIMEOUT).acquire())
        other.start()
        eventually(is_listener_registered, "the other thread waits")
    other.join(TIMEOUT)
    assert [current_owner.path for current_owner in tree.lock().holders()] == ["waiting"]


@pytest.fixture
def guarded(redis_server: RedisServer, start_redis: StartRedis) -> RedisServer:
    """Run a server with the user of the documentation."""
    return start_redis(acl=[documented_user_of_functions() if has_functions(redis_server) else documented_user()])


# Users -----------------------------------------------------------------------------------------------------------


def test_the_user_of_the_documentation_can_do_everything(guarded: RedisServer) -> None:
    """Values, TTLs, large dicts, locks and waiting need the permissions of the page only."""
    with front(guarded, database=DATABASE, **CREDENTIALS) as tree:
        do_everything(tree)
    refused = guarded.command("ACL", "LOG")
    assert refused == []


def test_every_command_of_the_documented_user_is_needed(guarded: RedisServer) -> None:
    """The page lists the commands of the script, of plain reads and of connections, and all of them run."""
    in_script = {word.lower() for word in re.findall(r"'([A-Z]{3,})'", SCRIPT)} - {"count", "limit"}
    assert documented_commands() == in_script | {"hrandfield", "evalsha", "eval", "select"} | {
        "subscribe",
        "psubscribe",
    }
    guarded.command("CONFIG", "RESETSTAT")
    with front(guarded, database=DATABASE, **CREDENTIALS) as tree:
        do_everything(tree)
    run = {name.removeprefix("cmdstat_") for name in guarded.info("commandstats")}
    by_name = {"fcall", "function|load"} if has_functions(guarded) else {"evalsha", "eval"}
    assert by_name <= run
    assert documented_commands() - run <= {"evalsha", "eval"} - by_name


@pytest.mark.parametrize("added", ["", " +fcall"])
def test_a_user_who_may_not_load_functions_sends_scripts(
    redis_server: RedisServer, start_redis: StartRedis, added: str
) -> None:
    """A pool finds out once what the server refuses, and then each call is one request."""
    if not has_functions(redis_server):
        added = ""
    server = start_redis(acl=[documented_user() + added])
    with front(server, database=DATABASE, **CREDENTIALS) as tree:
        do_everything(tree)
        server.command("CONFIG", "RESETSTAT")
        tree.set("a", 1)
        assert tree["a"].val() == 1
        ran = calls(server)
    assert ran["evalsha"] == ran["hrandfield"] == 1
    assert ran.keys() & {"fcall", "function|load", "eval"} == set()
    entries = server.command("ACL", "LOG")
    assert isinstance(entries, list)
    assert len(entries) <= 1


def test_the_documented_user_is_confined_to_its_prefix(guarded: RedisServer) -> None:
    """With another prefix the same user is refused, and nothing is written."""
    with front(guarded, **CREDENTIALS | {"prefix": "other:"}) as tree:
        with pytest.raises(AccessDenied):
            tree.set("a", 1)
        with pytest.raises(AccessDenied):
            tree.val()
    assert guarded.command("DBSIZE") == 0


def test_the_documented_user_over_tls(start_redis: StartRedis) -> None:
    """The same user does everything over TLS, waiting for locks included."""
    try:
        server = start_redis(tls=True, acl=[documented_user()])
    except TlsMissing as missing:
        pytest.skip(f"{EXCUSE} {missing}")
    with front(server, database=DATABASE, tls=True, tls_ca_file=str(server.certificate), **CREDENTIALS) as tree:
        do_everything(tree)


# Failover --------------------------------------------------------------------------------------------------------


def test_a_promoted_replica_lacks_what_it_had_not_received(start_redis: StartRedis) -> None:
    """A write that the primary acknowledged is lost if the promoted replica had not received it."""
    primary = start_redis()
    with front(primary) as tree:
        tree.set("a", 1)
        replica = start_redis(replica_of=primary)
        replica.command("REPLICAOF", "NO", "ONE")
        tree.set("a", 2)
        primary.kill()
        Pool().reload(cfg=configuration(replica))
        assert tree["a"].val() == 1
        tree.set("a", 3)


def test_a_lock_lost_in_a_failover_refuses_guarded_writes(start_redis: StartRedis) -> None:
    """A write under a lock that the new primary never had raises ``LockLost``."""
    primary = start_redis()
    replica = start_redis(replica_of=primary)
    replica.command("REPLICAOF", "NO", "ONE")
    address = primary.directory / "address"
    address.symlink_to(primary.socket_path)
    with front_with({"unix_socket": str(address)}) as tree:
        lock = tree["a"].lock()
        lock.acquire()
        primary.kill()
        address.unlink()
        address.symlink_to(replica.socket_path)
        assert lock.held
        with Lock(replica_client(replica), "a") as other:
            assert other.held
            with pytest.raises(LockLost):
                tree.set("a", 1)
        assert not tree["a"].exists()
        lock.release()


def test_a_lock_guards_nothing_in_another_store(start_redis: StartRedis) -> None:
    """A lock belongs to the store that granted it, so after a reload with another address it does not guard writes."""
    former, new = start_redis(), start_redis()
    with front(former) as tree, tree["a"]:
        Pool().reload(cfg=configuration(new))
        tree.set("a", 1)
        assert not tree["a"].is_locked()
        assert tree["a"].val() == 1


def test_a_server_that_became_a_replica_is_read_only(start_redis: StartRedis) -> None:
    """A former primary answers reads and refuses writes. A reload with the new address helps."""
    former, primary = start_redis(), start_redis()
    with front(former) as tree:
        tree.set("a", 1)
        former.command("REPLICAOF", primary.host, primary.port)
        with pytest.raises(ReadOnly, match="primary"):
            tree.set("a", 2)
        Pool().reload(cfg=configuration(primary))
        tree.set("a", 3)


def replica_client(server: RedisServer) -> redis.Redis:
    """Return a client of redis-py."""
    return redis.Redis(host=server.host, port=server.port)


# Memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "left"), [("volatile-lru", {b"v:"}), ("allkeys-lru", set())])
def test_eviction_takes_what_redicts_relies_on(start_redis: StartRedis, policy: str, left: set[bytes]) -> None:
    """A full server evicts records of sessions under one policy, and values under the other."""
    server = start_redis(options={"maxmemory-policy": policy})
    with opened(server) as backend:
        write(backend, Put(key("a"), b"1"))
        before = server.command("KEYS", "*")
        assert isinstance(before, list)
        assert {name[:2] for name in before if isinstance(name, bytes)} == {b"v:", b"r:"}
        server.command("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(StoreFull):
            write(backend, Put(key("b"), b"1"))
        after = server.command("KEYS", "*")
        assert isinstance(after, list)
        assert set(after) == left


def test_one_record_for_each_session(redis_server: RedisServer) -> None:
    """One record is kept for the writes of one session, for five minutes."""
    with opened(redis_server) as one, opened(redis_server) as other:
        for backend in (one, other):
            for number in range(5):
                write(backend, Put(key("a"), b"%d" % number))
    records = redis_server.command("KEYS", "r:*")
    assert isinstance(records, list)
    assert len(records) == 2
    for record in records:
        assert isinstance(record, bytes)
        left = redis_server.command("PTTL", record)
        assert isinstance(left, int)
        assert 0 < left <= 300_000


# Timeouts --------------------------------------------------------------------------------------------------------


def test_the_documented_timeouts_are_the_defaults() -> None:
    """The table of the page has the defaults of the settings."""
    documented = dict(re.findall(r"^\| `(\w+)` \| (\d+)(?: times)? \|", PAGE, flags=re.MULTILINE))
    assert set(documented) == {"connect_timeout_secs", "socket_timeout_secs", "retries", "timeout_secs"}
    settings = RedisSettings.model_validate({})
    assert documented == {name: str(getattr(settings, name)) for name in documented}


def test_idle_connections_may_be_closed(redis_server: RedisServer) -> None:
    """A connection that the server closed is replaced, and the request on it is applied once."""
    with front(redis_server) as tree:
        for expected in (1, 2, 3):
            assert tree["n"].add(1) == expected
            assert redis_server.command("CLIENT", "KILL", "TYPE", "normal") == 1


# Monitoring ------------------------------------------------------------------------------------------------------


def test_the_documented_monitoring(redis_server: RedisServer) -> None:
    """Each command that the page names shows what the page says."""
    redis_server.command("CONFIG", "RESETSTAT")
    with front(redis_server, prefix="app:") as tree:
        tree.set("a", {"b": 1, "c": 2}, expire=900)
        wait_for_a_lock(tree)
        stats = redis_server.info("commandstats")
        line = stats["cmdstat_fcall" if has_functions(redis_server) else "cmdstat_evalsha"]
        calls = re.match(r"calls=(\d+),usec=", line)
        assert calls is not None
        assert int(calls[1]) > 2
        assert redis_server.command("ZCARD", "app:x:") == 2 + len(tree.lock().holders())
        assert isinstance(redis_server.command("SLOWLOG", "GET"), list)
        listening = redis_server.command("PUBSUB", "CHANNELS", "app:s:*")
        assert isinstance(listening, list)
        assert len(listening) == 1
        assert not root().get("health").exists()
        tree.lock().break_locks()
