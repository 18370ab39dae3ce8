"""Each reply of each lock operation is lost in turn: nothing is left, and nothing is held twice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from redicts import ABSENT, Lock, LockTimeout, NotHeld, Pool, StoreError
from redicts.api.edit import Edit
from redicts.backends.redis import RedisBackend
from redicts.backends.redis.connections import Connections
from redicts.core.locks.records import HOLDERS, WAITERS, Record
from redicts.core.minitransaction import Delete, Key, Put, Scope
from tests.backends.redis_tools import data, opened, write
from tests.locks.locking import Somebody, no_thread_is_left
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisServer
from tests.support.waiting import eventually

MOST: Final = 20
"""An upper limit for the requests of one operation."""


class Scene:
    """A victim whose replies are lost, an undisturbed client, and a view of the store."""

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
        """Return a lock for the undisturbed client."""
        return Lock(self.plain, path, 30, acquire_timeout)

    def edited(self) -> Any:
        """Return the value that the tests edit."""
        with Edit(Lock(self.plain, "edited", shared=True), ABSENT) as value:
            return value

    def is_free(self) -> bool:
        """Tell whether another owner can acquire the lock on the root without waiting."""

        def try_it() -> bool:
            lock = self.theirs("")
            if not lock.acquire(blocking=False):
                return False
            lock.release()
            return True

        with Somebody() as other:
            return other.does(try_it)

    def records(self) -> list[Record]:
        """Return the records of all held locks and waiters."""
        database = Pool().of_client(self.plain)
        return database.run(database.store.find_locks([Key(HOLDERS, ()), Key(WAITERS, ())]))

    def nothing_is_left(self) -> None:
        """Wait until the store holds nothing of any lock but the counter of tokens, and what listeners leave."""
        eventually(lambda: not self.records(), "nothing is held or waited for")
        no_thread_is_left()
        assert self.is_free()
        write(self.plain, Put(Key("v", ("swept",)), b"1"))
        write(self.plain, Delete(Key("v", ("swept",)), Scope.NODE))
        left = {name for name in data(self.server) if name != b"f:"}
        assert all(name.startswith((b"n:", b"x:")) for name in left), (
            f"in addition to what listeners leave there is {left}"
        )


@contextlib.contextmanager
def scene(server: RedisServer, proxy: FaultyProxy, retries: int) -> Iterator[Scene]:
    """Open the clients."""
    with opened(proxy, retries=retries) as disturbed, opened(server) as plain:
        write(plain, Put(Key("v", ("swept",)), b"1"))  # loads the script
        yield Scene(server, proxy, disturbed, plain)


FAULTS: Final[dict[str, Callable[[FaultyProxy, int], None]]] = {
    "lost": lambda proxy, count: proxy.drop_replies(count),
    "cut short": lambda proxy, count: proxy.cut_replies(count, after=5),
}


@pytest.fixture(params=list(FAULTS))
def fault(request: pytest.FixtureRequest) -> Callable[[FaultyProxy, int], None]:
    """Give a function that plans faults."""
    return FAULTS[request.param]


def each_request(proxy: FaultyProxy, fault: Callable[[FaultyProxy, int], None], count: int = 1) -> Iterator[int]:
    """Plan ``count`` faults from the first request on, then from the second on, until no request is hit."""
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


# Requests that are retried ------------------------------------------------------------------------------------------


def test_a_free_lock_survives_lost_replies(
    redis_server: RedisServer, faulty_proxy: FaultyProxy, fault: Callable[[FaultyProxy, int], None]
) -> None:
    """It is acquired, entered again, extended and released, with any one reply lost."""
    with scene(redis_server, faulty_proxy, retries=3) as case:
        lock, below, tokens = case.mine(), case.mine("a.b"), [0]
        for _ in each_request(faulty_proxy, fault):
            with lock:
                (record,) = case.records()
                assert record.path == ("a",)
                assert lock.token is not None
                assert lock.token > tokens[-1]
                tokens.append(lock.token)
                with below, lock:
                    pass
                lock.extend(40)
                assert lock.held
                assert not case.is_free()
            assert not lock.held
            with pytest.raises(NotHeld):
                lock.release()
            case.nothing_is_left()


def test_an_edit_survives_lost_replies(
    redis_server: RedisServer, faulty_proxy: FaultyProxy, fault: Callable[[FaultyProxy, int], None]
) -> None:
    """It counts exactly once, and releases its lock, with any one reply lost."""
    with scene(redis_server, faulty_proxy, retries=3) as case:
        counted = 0
        for _ in each_request(faulty_proxy, fault):
            with Edit(case.mine("edited"), ABSENT) as value:
                value["n"] = value.get("n", 0) + 1
            counted += 1
            assert not case.records()
        assert counted >= 3
        assert case.edited() == {"n": counted}


def test_an_edit_that_fails_is_stored_whole_or_not(redis_server: RedisServer, faulty_proxy: FaultyProxy) -> None:
    """Without retries, a lost reply is an error; both leaves are written or none, and no lock stays."""
    with scene(redis_server, faulty_proxy, retries=0) as case:
        failed = 0
        for _ in each_request(faulty_proxy, FAULTS["lost"]):
            try:
                with Edit(case.mine("edited"), ABSENT) as value:
                    value["n"] = value["m"] = value.get("n", 0) + 1
            except StoreError:
                failed += 1
            eventually(lambda: not case.records(), "nothing is held or waited for")
            assert case.is_free()
            found = case.edited()
            assert found.get("n") == found.get("m")
        assert failed >= 2
        no_thread_is_left()  # before the proxy is gone, through which it withdraws locks


def test_a_contended_lock_survives_lost_replies(
    redis_server: RedisServer, faulty_proxy: FaultyProxy, fault: Callable[[FaultyProxy, int], None]
) -> None:
    """The victim queues, is notified, and gets the lock once, with any one reply lost."""
    with scene(redis_server, faulty_proxy, retries=3) as case, Somebody() as victim:
        for _ in each_request(faulty_proxy, fault):
            with case.theirs():
                acquiring = victim.begins(case.mine("a.b").acquire)
                eventually(lambda: len(case.look.waiters()) == 1, "the victim waits")
                assert not acquiring.done()
            assert acquiring.result(20)
            (record,) = case.records()
            assert record.held
            victim.does(case.mine("a.b").release)
            case.nothing_is_left()


def test_a_timeout_survives_lost_replies(
    redis_server: RedisServer, faulty_proxy: FaultyProxy, fault: Callable[[FaultyProxy, int], None]
) -> None:
    """The victim gets LockTimeout, and its waiter record is removed, with any one reply lost."""
    with scene(redis_server, faulty_proxy, retries=3) as case, Somebody() as other:
        other.does(case.theirs().acquire)
        for _ in each_request(faulty_proxy, fault):
            with pytest.raises(LockTimeout):
                case.mine("a.b", 0.1).acquire()
            (record,) = case.records()
            assert record.path == ("a",)
        other.does(case.theirs().release)
        case.nothing_is_left()


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replies", [1, 2], ids=["of one request", "of the withdrawal too"])
def test_an_error_leaves_no_lock(redis_server: RedisServer, faulty_proxy: FaultyProxy, replies: int) -> None:
    """After a StoreError nothing is held, and what is left in the store is removed in the background."""
    with scene(redis_server, faulty_proxy, retries=0) as case:
        lock, failed = case.mine(), 0
        for _ in each_request(faulty_proxy, FAULTS["lost"], replies):
            try:
                with lock:
                    lock.extend(40)
            except StoreError:
                failed += 1
            assert not lock.held
            with pytest.raises(NotHeld):
                lock.release()
            case.nothing_is_left()
        assert failed >= 2


@pytest.mark.parametrize("replies", [1, 2], ids=["of one request", "of the withdrawal too"])
def test_an_error_while_waiting_leaves_nothing(
    redis_server: RedisServer, faulty_proxy: FaultyProxy, replies: int
) -> None:
    """A waiter whose request fails gets StoreError, and leaves neither a waiter record nor a lock."""
    with scene(redis_server, faulty_proxy, retries=0) as case, Somebody() as victim:
        failed = 0
        for _ in each_request(faulty_proxy, FAULTS["lost"], replies):
            with case.theirs():
                acquiring = victim.begins(case.mine("a.b").acquire)
                eventually(lambda: case.look.waiters() or acquiring.done(), "the victim waits, or has failed")  # noqa: B023
            try:
                acquiring.result(20)
                victim.does(case.mine("a.b").release)
            except StoreError:
                failed += 1
            with pytest.raises(NotHeld):
                victim.does(case.mine("a.b").release)
            case.nothing_is_left()
        assert failed >= 3


@pytest.mark.parametrize("shared", [False, True], ids=["exclusive", "shared"])
def test_an_outage_delays_the_removal_of_records(
    redis_server: RedisServer, faulty_proxy: FaultyProxy, shared: bool
) -> None:
    """A lock and a waiter record that cannot be removed go as soon as the store is reachable again."""
    with scene(redis_server, faulty_proxy, retries=0) as case, Somebody() as waiter:
        lock = case.mine(shared=shared)
        lock.acquire()
        with case.theirs("b"):
            acquiring = waiter.begins(case.mine("b").acquire)
            eventually(lambda: len(case.look.waiters()) == 1, "the other waits")
            faulty_proxy.refuse()
            faulty_proxy.cut_all()
            with pytest.raises(StoreError):
                lock.release()
            with pytest.raises(StoreError):
                acquiring.result(20)
            assert len(case.records()) == 3, "nothing can be removed yet"
        assert len(case.records()) == 2, "nothing can be removed yet"
        faulty_proxy.accept()
        case.nothing_is_left()


def test_a_late_request_has_no_effect(redis_server: RedisServer, faulty_proxy: FaultyProxy) -> None:
    """A request that its sender withdrew has no effect when it reaches the server."""
    with opened(faulty_proxy, retries=0, socket_timeout_secs=0.3) as slow, opened(redis_server) as plain:
        case = Scene(redis_server, faulty_proxy, slow, plain)
        with case.mine("b"):
            pass
        faulty_proxy.hold_requests(1)
        with pytest.raises(StoreError):
            case.mine().acquire()
        faulty_proxy.release_held()
        case.nothing_is_left()


def test_a_late_request_has_no_effect_while_others_end(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, if another thread's request ends between the failure and the withdrawal."""
    with (
        FaultyProxy(server.port) as proxy,
        opened(proxy, retries=0, socket_timeout_secs=0.3) as slow,
        opened(server) as plain,
    ):
        case = Scene(server, proxy, slow, plain)
        with case.mine("b"):
            pass
        connections = slow._connections.get()
        others = connections.session()
        proxy.hold_requests(1)
        call_again = Connections._call_again

        def end_both(*details: Any) -> None:
            monkeypatch.undo()
            try:
                call_again(*details)
            finally:
                connections.idle_sessions.append(others)

        monkeypatch.setattr(Connections, "_call_again", end_both)
        with pytest.raises(StoreError):
            case.mine().acquire()
        proxy.release_held()
        case.nothing_is_left()
