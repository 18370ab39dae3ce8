"""Writes that count as done when replicas have them: ``acknowledged_by``, on a primary with one replica."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import pytest

import redicts
from redicts import AccessDenied, Lock, NotReplicated, Pool, Proxy, StoreTimeout, aio, root
from redicts.core.minitransaction import Add, Put
from tests.backends.redis_tools import calls, configuration, data, front, key, opened, values, write
from tests.locks.locking import no_thread_is_left
from tests.support.executables import Executable
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisServer
from tests.support.waiting import TIMEOUT, eventually

SHORT: Final[dict[str, Any]] = {"acknowledged_by": 1, "socket_timeout_secs": 0.4}
"""Gives up soon on a replica that does not answer."""


class Pair(NamedTuple):
    """A primary and its replica."""

    primary: RedisServer
    replica: RedisServer

    def is_caught_up(self) -> bool:
        """Tell whether the replica has all that the primary has."""
        found = self.primary.info("replication")
        return found.get("slave0", "").endswith(f"offset={found['master_repl_offset']},lag=0")


@pytest.fixture(scope="module")
def shared_pair(redis_executable: Executable) -> Iterator[Pair]:
    """Run a primary and a replica of each version."""
    with RedisServer(redis_executable) as primary, RedisServer(redis_executable, replica_of=primary) as replica:
        yield Pair(primary, replica)


@pytest.fixture
def pair(shared_pair: Pair) -> Iterator[Pair]:
    """Give an empty primary with a replica that follows it."""
    shared_pair.primary.flush()
    with opened(shared_pair.primary, acknowledged_by=1) as backend:
        write(backend, Put(key("warm"), b"1"))
        write(backend, Put(key("warm"), b"1"))
    shared_pair.primary.command("FLUSHALL")
    yield shared_pair
    shared_pair.replica.resume()
    Pool().reload(cfg={"backend": "memory"})


@contextlib.contextmanager
def paused(server: RedisServer) -> Iterator[None]:
    """Keep a server from answering."""
    server.pause()
    try:
        yield
    finally:
        server.resume()


def test_an_acknowledged_write_is_on_the_replica(pair: Pair) -> None:
    """When a write returns, the replica has it: no test waits for that. Large values and edits too."""
    with front(pair.primary, acknowledged_by=1) as tree:
        for number in range(50):
            tree.set("n", number)
            assert data(pair.replica)[b"v:"] == {b"n": b"%d" % number}
        tree.set("large", {str(number): number for number in range(6_000)})
        assert len(data(pair.replica)[b"v:.large"]) == 6_000
        tree.set("document", {"a": {"b": 1}})
        tree["document.a"].set("b", 2)
        assert data(pair.replica) == data(pair.primary)


def test_each_write_waits_once_and_no_read_does(pair: Pair) -> None:
    """A write is followed by one WAIT. Reads are not, and without the setting nothing is."""
    for required, waits in (0, 0), (1, 3):
        with front(pair.primary, acknowledged_by=required) as tree:
            tree.set("warm", 1)
            pair.primary.command("CONFIG", "RESETSTAT")
            tree.set("a", 1)
            tree["n"].add(1)
            tree.set("b", {"c": 1})
            tree.val()
            tree["a"].val()
            tree.keys()
            assert calls(pair.primary).get("wait", 0) == waits


def test_too_few_replicas_are_an_error(pair: Pair) -> None:
    """It says how many acknowledged, that the write may be there, and it is on the primary, once."""
    with opened(pair.primary, **SHORT) as backend, paused(pair.replica):
        begun = time.monotonic()
        with pytest.raises(NotReplicated, match=r"0 replicas acknowledged.*acknowledged_by is 1") as failed:
            write(backend, Add(key("n"), 1))
        assert failed.value.maybe_applied
        assert time.monotonic() - begun < TIMEOUT
        assert values(backend, "n") == {(): b"1"}
    with opened(pair.primary, acknowledged_by=2, socket_timeout_secs=0.4) as backend:
        with pytest.raises(NotReplicated, match=r"1 replicas acknowledged.*acknowledged_by is 2"):
            write(backend, Add(key("n"), 1))
        assert values(backend, "n") == {(): b"2"}


def test_a_late_replica_is_waited_for_and_the_write_counts_once(pair: Pair) -> None:
    """The second attempt, over a new connection, finds the request carried out and waits for the replica again."""
    with opened(pair.primary, acknowledged_by=1) as backend, ThreadPoolExecutor(1) as thread:
        with paused(pair.replica):
            pair.primary.command("CONFIG", "RESETSTAT")
            writing = thread.submit(write, backend, Add(key("n"), 1))
            eventually(lambda: calls(pair.primary).get("wait", 0) == 2 or writing.done(), "it waits a second time")
            assert not writing.done()
        assert writing.result(TIMEOUT).counters == (1,)
    assert data(pair.replica) == {b"v:": {b"n": b"1"}}


def test_a_repeated_request_needs_acknowledgement_too(pair: Pair) -> None:
    """If the first reply is lost, the repetition writes nothing, and is not done before the replica has the write."""
    with FaultyProxy(pair.primary.port) as proxy, opened(proxy, **SHORT) as backend:
        write(backend, Add(key("n"), 1))
        with paused(pair.replica):
            proxy.drop_replies()
            with pytest.raises(NotReplicated):
                write(backend, Add(key("n"), 1))
        assert write(backend, Add(key("n"), 1)).counters == (3,)


def test_a_refused_write_needs_no_replica(pair: Pair) -> None:
    """A transaction whose check fails has written nothing, so its outcome comes without replicas."""
    with front(pair.primary, **SHORT) as tree:
        tree.set("a", 1)
        with paused(pair.replica), pytest.raises(redicts.Conflict):
            _change_if_two(tree)


def _change_if_two(tree: Proxy) -> None:
    with tree.transaction() as changes:
        changes.expect("a", 2)
        changes.set("a", 3)


def test_a_lock_is_granted_only_if_the_replica_has_its_record(pair: Pair) -> None:
    """Otherwise acquiring it raises NotReplicated, and it is given back."""
    with front(pair.primary, **SHORT):
        with Lock(Pool(), "a"):
            assert data(pair.replica)[b"h:"] == data(pair.primary)[b"h:"]
        lock = Lock(Pool(), "a", acquire_timeout=5)
        with paused(pair.replica):
            with pytest.raises(NotReplicated):
                lock.acquire()
            assert not lock.held
            eventually(lambda: not lock.holders(), "the lock is given back")
        assert lock.acquire()
        lock.release()
        no_thread_is_left()  # before the servers are gone, from which it withdraws locks


def test_an_acquisition_ends_with_its_timeout(pair: Pair) -> None:
    """The server waits for replicas no longer than the timeout of an acquisition, a second at least."""
    with front(pair.primary, acknowledged_by=1):
        with paused(pair.replica):
            begun = time.monotonic()
            with pytest.raises((NotReplicated, StoreTimeout)):
                Lock(Pool(), "a", acquire_timeout=1).acquire()
            assert time.monotonic() - begun < 5
        no_thread_is_left()


def test_a_user_who_may_not_wait(pair: Pair) -> None:
    """The error says so, and that the write may be there: the server has carried it out."""
    pair.primary.command("ACL", "SETUSER", "hasty", "on", ">pw", "~*", "&*", "+@all", "-wait")
    with opened(pair.primary, acknowledged_by=1, username="hasty", password="pw") as backend:
        with pytest.raises(AccessDenied, match="allow it what the documentation lists") as failed:
            write(backend, Add(key("n"), 1))
        assert failed.value.maybe_applied
        assert values(backend, "n") == {(): b"1"}


def test_a_read_may_see_what_no_replica_has(pair: Pair) -> None:
    """Reads do not wait: another client sees a write before it is acknowledged."""
    with opened(pair.primary, acknowledged_by=1) as backend, ThreadPoolExecutor(1) as thread, paused(pair.replica):
        writing = thread.submit(write, backend, Put(key("a"), b"1"))
        eventually(lambda: values(backend, "a") == {(): b"1"}, "the value is read")
        assert not writing.done()
        pair.replica.resume()
        writing.result(TIMEOUT)


def test_another_replica_may_be_promoted(pair: Pair) -> None:
    """One acknowledgement does not say which replica gave it: a write is lost with the promotion of another one."""
    with RedisServer(pair.primary.executable, replica_of=pair.primary) as other:
        other.command("REPLICAOF", other.host, 1)  # its link is broken
        with opened(pair.primary, acknowledged_by=1) as backend:
            write(backend, Put(key("a"), b"1"))
        other.command("REPLICAOF", "NO", "ONE")
        with opened(other) as backend:
            assert values(backend, "a") == {}
        assert data(pair.replica)[b"v:"] == {b"a": b"1"}


def test_tasks_share_their_waits(pair: Pair) -> None:
    """What tasks send together is acknowledged by one WAIT, and each task has its own result."""
    Pool().reload(cfg=configuration(pair.primary, acknowledged_by=1))

    async def main() -> None:
        node = aio.root()["n"]
        await node.add(1)
        pair.primary.command("CONFIG", "RESETSTAT")
        sums = await asyncio.gather(*[node.add(1) for _ in range(100)])
        assert sorted(sums) == list(range(2, 102))
        assert data(pair.replica) == {b"v:": {b"n": b"101"}}

    asyncio.run(asyncio.wait_for(main(), TIMEOUT))
    assert calls(pair.primary)["wait"] <= 50


def test_tasks_read_while_others_wait_for_replicas(pair: Pair) -> None:
    """A write that waits holds up no read. All tasks that wait in vain get the error, and each counted once."""
    Pool().reload(cfg=configuration(pair.primary, **SHORT))

    async def main() -> None:
        node = aio.root()["n"]
        await node.add(1)
        pair.replica.pause()
        writing = [asyncio.ensure_future(node.add(1)) for _ in range(20)]
        while await node.val() != 21:
            await asyncio.sleep(0.001)
        assert not any(each.done() for each in writing)
        for error in await asyncio.gather(*writing, return_exceptions=True):
            assert isinstance(error, NotReplicated)
            assert error.maybe_applied
        assert await node.val() == 21
        pair.replica.resume()
        assert await node.add(1) == 22

    asyncio.run(asyncio.wait_for(main(), TIMEOUT))


def test_the_simulated_server_has_no_replicas() -> None:
    """With ``fake_redis``, the setting has no effect, as the address has none."""
    Pool().reload(cfg={"backend": "redis", "acknowledged_by": 2}, fake_redis=True)
    root().set("a", 1)
    assert Proxy("a").val() == 1
    Pool().reload(cfg={"backend": "memory"})
