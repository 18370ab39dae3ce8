"""A process that forks while it holds locks and waits for others: its child is somebody else, and disturbs nothing."""

from __future__ import annotations

import os
import pickle
import threading
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from redicts import Lock, LockTimeout, NotHeld, Pool, Proxy
from tests.faults.actions import acquire, count, counted, release
from tests.faults.conftest import Start, View
from tests.support.servers import RedisServer
from tests.support.waiting import TIMEOUT, eventually


class Told(NamedTuple):
    """What a forked child found out."""

    held: bool
    token: int | None
    released: bool
    free: bool
    reason: str
    own: bool
    counted: int


def in_child() -> Told:
    """Do with locks, in a forked child, what it may do and what not."""
    parents = Lock(Pool(), "mine", acquire_timeout=0.1)
    held, token, released, reason = parents.held, parents.token, True, ""
    try:
        parents.release()
    except NotHeld:
        released = False
    free = parents.acquire(blocking=False)
    try:
        parents.acquire()
    except LockTimeout as error:
        reason = str(error)
    with Lock(Pool(), "childs") as own:
        is_own = own.held
    return Told(held, token, released, free, reason, is_own, count("counter", 20))


def forked(function: Callable[[], Any]) -> Any:
    """Run a function in a forked child, and return or raise what comes of it."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Newer Pythons warn of forks beside threads. That is what is tested here.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            try:
                result: Any = function()
            except BaseException as error:
                result = error
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(result, pipe)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    result = pickle.loads(text)
    if isinstance(result, BaseException):
        raise result
    return result


class Waiting(threading.Thread):
    """A thread that waits for a lock, and holds it until it is told to let go."""

    def __init__(self, path: str) -> None:
        super().__init__(daemon=True)
        self._path = path
        self.got = threading.Event()
        self.let_go = threading.Event()

    def run(self) -> None:
        """Acquire and release."""
        with Lock(Pool(), self._path, acquire_timeout=60):
            self.got.set()
            self.let_go.wait(TIMEOUT)


waiting: list[Waiting] = []


def hold_and_wait() -> None:
    """Hold some locks, one of them renewed all the time, and wait for another in a thread of its own."""
    Lock(Pool(), "mine").acquire()
    Lock(Pool(), "renewed", expire_timeout=0.6, renew=True).acquire()
    waiting.append(Waiting("theirs"))
    waiting[0].start()


def fork_twice() -> list[Told]:
    """Fork two children, one after the other."""
    return [forked(in_child), forked(in_child)]


def still_holds() -> tuple[bool, bool]:
    """Write under a lock, and tell whether that and the renewed lock are held."""
    Proxy("mine")["n"] = 1
    return Lock(Pool(), "mine").held, Lock(Pool(), "renewed").held


def end_waiting() -> bool:
    """Let go of what was waited for, once it is there."""
    got = waiting[0].got.wait(TIMEOUT)
    waiting[0].let_go.set()
    waiting[0].join(TIMEOUT)
    return got and not waiting[0].is_alive()


def test_a_child_is_somebody_else(redis_server: RedisServer, start: Start, view: Callable[..., View]) -> None:
    """It holds none of its parent's locks, can release none, waits for them like anybody, and acquires its own."""
    look = view(redis_server)
    parent, other = start(redis_server, 2)
    other.does(acquire, "theirs")
    look.queue(parent, hold_and_wait)
    parent.result()
    other.begins(count, "counter", 20)
    for told in parent.does(fork_twice):
        assert told._replace(reason="", counted=0) == Told(False, None, False, False, "", True, 0)
        assert f":{parent.pid}:" in told.reason, "the parent is named as the holder"
    other.result()
    assert counted(Proxy("counter")) == 60
    assert not waiting
    eventually(lambda: look.holders() and parent.does(still_holds) == (True, True), "the parent's locks are its own")
    assert len(look.waiters()) == 1
    other.does(release, "theirs")
    assert parent.does(end_waiting)
    for path in ("renewed", "mine"):
        parent.does(release, path)
    look.nothing_is_left()


def test_a_renewed_lock_outlives_forks_and_leases(server: RedisServer, start: Start, view: Callable[..., View]) -> None:
    """Renewal goes on in the parent over a fork, for longer than a lease, and the child's end does not disturb it."""
    look = view(server)
    (parent,) = start(server)
    parent.does(acquire, "renewed", expire_timeout=0.4, renew=True)
    (before,) = look.holders()
    parent.does(fork_and_leave)
    ttls: list[int] = []

    def renewed_often() -> bool:
        (record,) = look.holders()
        assert record.request == before.request
        assert record.ttl is not None
        if not ttls or record.ttl > ttls[-1]:
            ttls.append(record.ttl)
        else:
            ttls[-1] = record.ttl
        return len(ttls) > 6

    eventually(renewed_often, "it is renewed again and again")
    parent.does(release, "renewed")
    look.nothing_is_left()


def fork_and_leave() -> None:
    """Fork a child that ends at once."""
    forked(lambda: None)
