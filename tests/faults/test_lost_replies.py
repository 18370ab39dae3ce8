"""Replies that are lost, at each request of each operation: nothing is left, and nothing is held twice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from redicts import Lock, LockTimeout, NotHeld, Pool, StoreError
from redicts.backends.redis import RedisBackend
from redicts.core.locks.records import HOLDERS, WAITERS, Record
from redicts.core.minitransaction import Delete, Key, Put, Scope
from tests.backends.redis_tools import data, opened, write
from tests.locks.locking import Somebody, no_thread_is_left
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisServer
from tests.support.waiting import eventually

MOST: Final = 20
"""More requests than any operation makes."""


class Scene:
    """A victim whose replies get lost on the way, somebody else who is not disturbed, and a look at the store."""

    def __init__(self, server: RedisServer, proxy: FaultyProxy, disturbed: RedisBackend, plain: RedisBackend) -> None:
        self.server = server
        self.proxy = proxy
        self.disturbed = disturbed
        self.plain = plain
        self.look = Lock(plain, "")

    def mine(self, path: str = "a", acquire_timeout: float = 20, *, shared: bool = False, lease: float = 30) -> Lock:
        """Return a lock for the victim."""
        return Lock(self.disturbed, path, lease, acquire_timeout, shared=shared)

    def theirs(self, path: str = "a", acquire_timeout: float = 20) -> Lock:
        """Return a lock for whoever is not disturbed."""
        return Lock(self.plain, path, 30, acquire_timeout)

    def is_free(self) -> bool:
        """Tell whether somebody else can acquire the lock on everything at once."""

        def try_it() -> bool:
            lock = self.theirs("")
            if not lock.acquire(blocking=False):
                return False
            lock.release()
            return True

        with Somebody() as other:
            return other.does(try_it)

    def records(self) -> list[Record]:
        """Return all records of holders and waiters."""
        database = Pool().of_client(self.plain)
        return database.run(database.store.find_locks([Key(HOLDERS, ()), Key(WAITERS, ())]))

    def nothing_is_left(self) -> None:
        """Insist that nothing of any lock is in the store but the counter of tokens; soon, at the latest."""
        eventually(lambda: not self.records(), "nothing is held or waited for")
        no_thread_is_left()
        assert self.is_free()
        write(self.plain, Put(Key("v", ("swept",)), b"1"))
        write(self.plain, Delete(Key("v", ("swept",)), Scope.NODE))
        left = {name for name in data(self.server) if name != b"f:"}
        assert all(name.startswith((b"n:", b"x:")) for name in left), f"beside what listeners leave there is {left}"


@contextlib.contextmanager
def scene(server: RedisServer, proxy: FaultyProxy, retries: int) -> Iterator[Scene]:
    """Open the clients."""
    with opened(proxy, retries=retries) as disturbed, opened(server) as plain:
        write(plain, Put(Key("v", ("swept",)), b"1"))  # the server knows the script from now on
        yield Scene(server, proxy, disturbed, plain)


FAULTS: Final[dict[str, Callable[[FaultyProxy, int], None]]] = {
    "lost": lambda proxy, count: proxy.drop_replies(count),
    "cut short": lambda proxy, count: proxy.cut_replies(count, after=5),
}


@pytest.fixture(params=list(FAULTS))
def fault(request: pytest.FixtureRequest) -> Callable[[FaultyProxy, int], None]:
    """Give what is done to replies."""
    return FAULTS[request.param]


def each_request(proxy: FaultyProxy, fault: Callable[[FaultyProxy, int], None], count: int = 1) -> Iterator[int]:
    """Plan faults for the first request and those after it, then from the second on, until there are no more."""
    for number in range(MOST):
        proxy.pass_requests(number)
        fault(proxy, count)
        yield number
        hit = proxy.pending < count
        proxy.clear()
        if not hit:
            assert number
            return
    raise AssertionError(f"an operation takes more than {MOST} requests")


# What is sent again until it is answered -----------------------------------------------------------------------------


def test_a_free_lock_with_replies_lost(
    redis_server: RedisServer, faulty_proxy: FaultyProxy, fault: Callable[[FaultyProxy, int], None]
) -> None:
    """Acquired, relied on twice, extended and released, with the reply of any of these requests lost."""
    with scene(redis_server, faulty_proxy, retries=3) as stage:
        lock, below, tokens = stage.mine(), stage.mine("a.b"), [0]
        for _ in each_request(faulty_proxy, fault):
            with lock:
                (record,) = stage.records()
                assert record.path == ("a",)
                assert lock.token is not None
                assert lock.token > tokens[-1]
                tokens.append(lock.token)
                with below, lock:
                    pass
                lock.extend(40)
                assert lock.held
                assert not stage.is_free()
            assert not lock.held
            with pytest.raises(NotHeld):
                lock.release()
            stage.nothing_is_left()


def test_a_contended_lock_with_replies_lost(
    redis_server: RedisServer, faulty_proxy: FaultyProxy, fault: Callable[[FaultyProxy, int], None]
) -> None:
    """The victim queues, is notified, and gets the lock once, with the reply of any of its requests lost."""
    with scene(redis_server, faulty_proxy, retries=3) as stage, Somebody() as victim:
        for _ in each_request(faulty_proxy, fault):
            with stage.theirs():
                acquiring = victim.begins(stage.mine("a.b").acquire)
                eventually(lambda: len(stage.look.waiters()) == 1, "the victim waits")
                assert not acquiring.done()
            assert acquiring.result(20)
            (record,) = stage.records()
            assert record.held
            victim.does(stage.mine("a.b").release)
            stage.nothing_is_left()


def test_giving_up_with_replies_lost(
    redis_server: RedisServer, faulty_proxy: FaultyProxy, fault: Callable[[FaultyProxy, int], None]
) -> None:
    """The victim waits in vain: LockTimeout, and its place is given up, with the reply of any of its requests lost."""
    with scene(redis_server, faulty_proxy, retries=3) as stage, Somebody() as other:
        other.does(stage.theirs().acquire)
        for _ in each_request(faulty_proxy, fault):
            with pytest.raises(LockTimeout):
                stage.mine("a.b", 0.1).acquire()
            (record,) = stage.records()
            assert record.path == ("a",)
        other.does(stage.theirs().release)
        stage.nothing_is_left()


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replies", [1, 2], ids=["of one request", "of the withdrawal too"])
def test_errors_while_a_free_lock_is_used(redis_server: RedisServer, faulty_proxy: FaultyProxy, replies: int) -> None:
    """An error of the store that reaches the user leaves nothing held; what it left is removed without his doing."""
    with scene(redis_server, faulty_proxy, retries=0) as stage:
        lock, failed = stage.mine(), 0
        for _ in each_request(faulty_proxy, FAULTS["lost"], replies):
            try:
                with lock:
                    lock.extend(40)
            except StoreError:
                failed += 1
            assert not lock.held
            with pytest.raises(NotHeld):
                lock.release()
            stage.nothing_is_left()
        assert failed >= 2


@pytest.mark.parametrize("replies", [1, 2], ids=["of one request", "of the withdrawal too"])
def test_errors_while_waiting(redis_server: RedisServer, faulty_proxy: FaultyProxy, replies: int) -> None:
    """A waiter whose request fails is told so, and leaves neither a place in the queue nor a lock."""
    with scene(redis_server, faulty_proxy, retries=0) as stage, Somebody() as victim:
        failed = 0
        for _ in each_request(faulty_proxy, FAULTS["lost"], replies):
            with stage.theirs():
                acquiring = victim.begins(stage.mine("a.b").acquire)
                eventually(lambda: stage.look.waiters() or acquiring.done(), "the victim waits, or has failed")  # noqa: B023
            try:
                acquiring.result(20)
                victim.does(stage.mine("a.b").release)
            except StoreError:
                failed += 1
            with pytest.raises(NotHeld):
                victim.does(stage.mine("a.b").release)
            stage.nothing_is_left()
        assert failed >= 3


@pytest.mark.parametrize("shared", [False, True], ids=["exclusive", "shared"])
def test_a_store_that_is_away_for_a_while(redis_server: RedisServer, faulty_proxy: FaultyProxy, shared: bool) -> None:
    """A lock and a place in the queue that cannot be given back go as soon as the store can be reached again."""
    with scene(redis_server, faulty_proxy, retries=0) as stage, Somebody() as waiter:
        lock = stage.mine(shared=shared)
        lock.acquire()
        with stage.theirs("b"):
            acquiring = waiter.begins(stage.mine("b").acquire)
            eventually(lambda: len(stage.look.waiters()) == 1, "the other waits")
            faulty_proxy.refuse()
            faulty_proxy.cut_all()
            with pytest.raises(StoreError):
                lock.release()
            with pytest.raises(StoreError):
                acquiring.result(20)
            assert len(stage.records()) == 3, "nothing could be removed yet"
        assert len(stage.records()) == 2, "nothing could be removed yet"
        faulty_proxy.accept()
        stage.nothing_is_left()


def test_a_request_that_arrives_late(redis_server: RedisServer, faulty_proxy: FaultyProxy) -> None:
    """A request that its sender has given up and withdrawn has no effect when it reaches the server after all."""
    with opened(faulty_proxy, retries=0, socket_timeout_secs=0.3) as slow, opened(redis_server) as plain:
        stage = Scene(redis_server, faulty_proxy, slow, plain)
        with stage.mine("b"):
            pass
        faulty_proxy.hold_requests(1)
        with pytest.raises(StoreError):
            stage.mine().acquire()
        faulty_proxy.release_held()
        stage.nothing_is_left()


def test_a_request_that_arrives_late_while_others_end(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, if another thread's request ends between the failure and the withdrawal."""
    with (
        FaultyProxy(server.port) as proxy,
        opened(proxy, retries=0, socket_timeout_secs=0.3) as slow,
        opened(server) as plain,
    ):
        stage = Scene(server, proxy, slow, plain)
        with stage.mine("b"):
            pass
        others = slow._connections.session()
        proxy.hold_requests(1)
        give_back = slow._connections.give_back

        def with_another(session: object, **doubt: bool) -> None:
            give_back(session, **doubt)  # type: ignore[arg-type]
            monkeypatch.undo()
            give_back(others)

        monkeypatch.setattr(slow._connections, "give_back", with_another)
        with pytest.raises(StoreError):
            stage.mine().acquire()
        proxy.release_held()
        stage.nothing_is_left()
