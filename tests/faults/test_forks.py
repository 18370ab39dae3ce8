"""A process that forks while it holds and awaits locks: its child is a different owner, and disturbs nothing."""

from __future__ import annotations

import os
import pickle
import threading
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from redicts import Lock, LockTimeout, NotHeld, Pool, Proxy
from tests.faults.actions import acquire, count, counted, release
from tests.faults.conftest import Site
from tests.support.waiting import TIMEOUT, eventually


class Observed(NamedTuple):
    """The observations of a forked child."""

    held: bool
    token: int | None
    released: bool
    free: bool
    reason: str
    own: bool
    counted: int


def in_child() -> Observed:
    """Try all operations on the parent's locks, and on locks of its own, in a forked child."""
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
    return Observed(held, token, released, free, reason, is_own, count("counter", 20))


def forked(function: Callable[[], Any]) -> Any:
    """Run a function in a forked child; return its result or raise its error."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Newer Pythons warn about forks in a threaded process, which this test needs.
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
    """A thread that waits for a lock, and holds it until the test sets ``let_go``."""

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
    """Hold two locks, one of them renewed, and wait for a third in another thread."""
    Lock(Pool(), "mine").acquire()
    Lock(Pool(), "renewed", expire_timeout=3.0, renew=True).acquire()
    waiting.append(Waiting("theirs"))
    waiting[0].start()


def fork_twice() -> list[Observed]:
    """Fork two children in sequence."""
    return [forked(in_child), forked(in_child)]


def still_holds() -> tuple[bool, bool]:
    """Write under a lock; tell whether that and the renewed lock are held."""
    Proxy("mine")["n"] = 1
    return Lock(Pool(), "mine").held, Lock(Pool(), "renewed").held


def end_waiting() -> bool:
    """Wait until the awaited lock is granted, and release it."""
    got = waiting[0].got.wait(TIMEOUT)
    waiting[0].let_go.set()
    waiting[0].join(TIMEOUT)
    return got and not waiting[0].is_alive()


def test_a_child_is_another_owner(any_site: Site) -> None:
    """It neither holds nor can release its parent's locks, waits for them, and acquires its own."""
    parent, other = any_site.start(2)
    other.call(acquire, "theirs")
    any_site.queue(parent, hold_and_wait)
    parent.result()
    other.begin(count, "counter", 20)
    for observed in parent.call(fork_twice):
        assert observed._replace(reason="", counted=0) == Observed(False, None, False, False, "", True, 0)
        assert f":{parent.pid}@" in observed.reason, "the error names the parent as the holder"
    other.result()
    assert counted("counter") == 60
    assert not waiting
    eventually(
        lambda: any_site.holders() and parent.call(still_holds) == (True, True), "the parent's locks are its own"
    )
    assert len(any_site.waiters()) == 1
    other.call(release, "theirs")
    assert parent.call(end_waiting)
    for path in ("renewed", "mine"):
        parent.call(release, path)
    any_site.nothing_is_left()


def test_renewal_survives_a_fork(site: Site) -> None:
    """Renewal continues in the parent after a fork, for longer than a lease, and after the child's end."""
    (parent,) = site.start()
    parent.call(acquire, "renewed", expire_timeout=2.0, renew=True)
    (before,) = site.holders()
    parent.call(fork_and_leave)
    ttls: list[int] = []

    def renewed_often() -> bool:
        (record,) = site.holders()
        assert record.request == before.request
        assert record.ttl is not None
        if not ttls or record.ttl > ttls[-1]:
            ttls.append(record.ttl)
        else:
            ttls[-1] = record.ttl
        return len(ttls) > 4

    eventually(renewed_often, "it is renewed repeatedly")
    parent.call(release, "renewed")
    site.nothing_is_left()


def fork_and_leave() -> None:
    """Fork a child that ends immediately."""
    forked(lambda: None)
