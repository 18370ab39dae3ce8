"""The books of the background work on locks, interrupted between any two instructions.

Before an instruction of one of these modules, an exception comes, as from a signal handler that raises, or a call of
the same object, as from a signal handler or a finalizer that uses locks. Each instruction is tried once.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from dis import opname
from functools import partial
from types import FrameType, ModuleType, SimpleNamespace
from typing import Any, Final

import pytest

from redicts.backends.memory import MemoryBackend
from redicts.core import driver
from redicts.core.locks.acquisition import Grant
from redicts.core.locks.records import Mode, Request
from redicts.locks import held as held_module
from redicts.locks import renewal as renewal_module
from redicts.locks import retention as retention_module
from redicts.locks import scheduler as scheduler_module
from redicts.locks.held import HeldLock, HeldLocks, LockOptions
from redicts.locks.owner import LockOwner, request_name
from redicts.locks.renewal import Renewal
from redicts.locks.retention import Retention
from redicts.locks.scheduler import Scheduler
from tests.locks.locking import own_threads
from tests.support.stores import together
from tests.support.waiting import TIMEOUT, eventually

pytestmark = pytest.mark.usefixtures("no_collections")

LEASE: Final = 30_000
MOST: Final = 5_000
"""More instructions than any of the calls has."""


class Interrupt(BaseException):
    """The exception of a signal handler."""


def interrupt() -> None:
    """Raise what a signal handler raises."""
    raise Interrupt


class Tracer:
    """Acts once before instruction number ``at`` of some modules, in the threads that use it."""

    def __init__(self, at: int, act: Callable[[], object], *modules: ModuleType) -> None:
        self.has_acted = False
        self.skipped = ""
        """A function in which it does not act."""
        self._files = {module.__file__ for module in modules}
        self._left = at
        self._act = act

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        if self.has_acted or code.co_filename not in self._files or code.co_name == self.skipped:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and opname[code.co_code[frame.f_lasti]] != "NOP":  # there, no exception can come
            if self._left == 0:
                self.has_acted = True
                sys.settrace(None)
                self._act()
                return None
            self._left -= 1
        return self

    def run(self, call: Callable[..., object], *arguments: object) -> bool:
        """Run a call, and return whether an exception ended it."""
        try:
            sys.settrace(self)
            call(*arguments)
        except Interrupt:
            return True
        finally:
            sys.settrace(None)
        return False


def every(*modules: ModuleType, first: int = 0) -> Iterator[Callable[[Callable[[], object]], Tracer]]:
    """Yield a function that makes the tracer of each instruction that is reached, and then end."""
    for at in range(first, MOST):
        made: list[Tracer] = []

        def tracer(act: Callable[[], object], at: int = at, made: list[Tracer] = made) -> Tracer:
            made.append(Tracer(at, act, *modules))
            return made[-1]

        yield tracer
        if not any(each.has_acted for each in made):
            assert at > 10, "hardly anything was tried"
            return
    raise AssertionError("there is no end of the instructions")


def ended() -> None:
    """Wait until every thread that redicts started has ended."""
    eventually(lambda: not own_threads(), "no thread is left", every=0.0005)


# The scheduler


class Items:
    """A scheduler of names that are due at once, which notes the names that it has handled."""

    def __init__(self, stays: float = 0) -> None:
        self.handled: list[str] = []
        self.scheduler: Scheduler[str] = Scheduler("redicts-test", lambda _: 0.0, self._handle, stays)

    def _handle(self, names: list[str]) -> None:
        for name in names:
            self.scheduler.discard(name)
            self.handled.append(name)

    def has_handled(self, *names: str) -> None:
        """Wait until some names are handled."""
        eventually(lambda: set(names) <= set(self.handled), f"{names} are handled", every=0.0005)

    def is_idle(self) -> None:
        """Wait until the thread has ended with nothing left."""
        eventually(lambda: not self.scheduler.items() and not own_threads(), "its thread ends", every=0.0005)


@pytest.mark.parametrize("runs", [False, True], ids=["idle", "running"])
def test_an_exception_while_an_item_is_added_loses_nothing(runs: bool) -> None:
    """An item that is in the books after the exception is handled without another call, and later ones are."""
    for tracer in every(scheduler_module):
        items = Items(stays=0.02 if runs else 0)
        if runs:
            items.scheduler.add("first")
            items.has_handled("first")
        tracer(interrupt).run(items.scheduler.add, "item")
        if "item" in items.scheduler.items():
            items.has_handled("item")
        items.scheduler.add("next")
        items.has_handled("next")
        items.is_idle()


def test_an_exception_while_an_item_is_removed_does_no_harm() -> None:
    """The item can be removed again, and the thread handles the others and ends."""
    for tracer in every(scheduler_module):
        due = {"kept": 1e9, "removed": 1e9}
        scheduler: Scheduler[str] = Scheduler("redicts-test", due.__getitem__, lambda _: None)
        for name in due:
            scheduler.add(name)
        tracer(interrupt).run(scheduler.discard, "removed")
        scheduler.discard("removed")
        assert scheduler.items() == ["kept"]
        scheduler.discard("kept")
        ended()


def test_a_call_between_two_instructions_of_the_scheduler_works() -> None:
    """A handler that adds and removes items while an item is added waits for nothing, and every item is handled."""
    for tracer in every(scheduler_module):
        items = Items()

        def visit(items: Items = items) -> None:
            items.scheduler.add("visit")
            items.scheduler.discard("nothing")
            items.scheduler.items()

        traced = tracer(visit)
        assert not traced.run(items.scheduler.add, "item")
        items.has_handled("item", *(["visit"] if traced.has_acted else []))
        items.is_idle()


def test_an_exception_in_the_thread_of_the_scheduler_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever it comes, the items are handled without another call; and a call that comes there works."""
    monkeypatch.setattr(scheduler_module, "_PAUSE_SECS", 0.0)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def handle(items: Items, traced: Tracer) -> None:
        threading.settrace(traced)
        try:
            items.scheduler.add("item")
            items.has_handled("item")
            items.is_idle()
        finally:
            threading.settrace(None)

    for tracer in every(scheduler_module, first=2):  # an exception before that comes before the thread has begun
        handle(Items(), tracer(interrupt))
    for tracer in every(scheduler_module):
        items = Items()
        traced = tracer(partial(items.scheduler.add, "visit"))
        handle(items, traced)
        if traced.has_acted:
            items.has_handled("visit")


def test_the_thread_of_a_scheduler_that_died_is_replaced() -> None:
    """If the thread ended without saying so, the next item starts another one."""
    items = Items()
    dead = threading.Thread(target=int)
    dead.start()
    dead.join()
    items.scheduler._threads["running"] = dead
    items.scheduler.add("item")
    items.has_handled("item")
    items.is_idle()


def test_any_number_of_threads_may_add_and_remove_items() -> None:
    """Every item that is not removed is handled, though the thread ends and starts all the time."""
    items = Items()

    def add(name: str) -> None:
        for number in range(300):
            items.scheduler.add(f"{name} {number}")

    together(*[partial(add, name) for name in "abc"])
    items.has_handled(*[f"{name} {n}" for name in "abc" for n in range(300)])
    items.is_idle()


def test_a_scheduler_is_woken_for_an_item_that_is_due_earlier() -> None:
    """The thread waits for the first item, also if that was added last; a later one does not wake it."""
    begin = time.monotonic()
    due = {"late": begin + 3000, "early": begin + 0.2, "later": begin + 4000}
    handled: list[str] = []

    def handle(names: list[str]) -> None:
        handled.extend(names)
        for name in names:
            scheduler.discard(name)

    scheduler: Scheduler[str] = Scheduler("redicts-test", due.__getitem__, handle)
    scheduler.add("late")
    eventually(lambda: scheduler._waits_until == due["late"], "it waits for the only item")
    scheduler.add("early")
    scheduler.add("later")
    eventually(lambda: handled == ["early"], "the item is handled in time")
    for name in ("late", "later"):
        scheduler.discard(name)
    eventually(lambda: not scheduler._threads, "the thread ends")


# Held locks


def a_lock(*paths: tuple[str, ...], lease: int = LEASE) -> HeldLock:
    """Return a lock of an owner that is alive."""
    request = Request(request_name(), LockOwner("owner", lambda: True).owner, Mode.EXCLUSIVE, paths, 0)
    return HeldLock(request, paths, Grant(1, time.monotonic()), lease, lambda: True)


def test_an_exception_in_the_index_of_held_locks_leaves_it_whole() -> None:
    """Wherever it comes, a lock is found by all its paths or by none, and its removal can be repeated."""
    for change in (HeldLocks.add, HeldLocks.remove):
        for tracer in every(held_module):
            locks, kept, lock = HeldLocks(), a_lock(("a", "b")), a_lock(("a",), ("b", "c"))
            locks.add(kept)
            if change is HeldLocks.remove:
                locks.add(lock)
            tracer(interrupt).run(change, locks, lock)
            is_held = lock.request in locks.requests
            for path in (("a",), ("b", "c"), ("b",), ("b", "c", "d")):
                assert (lock in locks.overlapping(path)) == is_held
                assert (locks.covering((path,), Mode.EXCLUSIVE) is lock) == (is_held and path != ("b",))
            locks.remove(lock)
            locks.remove(lock)
            assert locks.overlapping(()) == [kept]
            locks.remove(kept)
            assert not locks.requests
            assert not locks._at
            assert not locks._below


def test_a_call_in_the_index_of_held_locks_leaves_it_whole() -> None:
    """Locks that a signal handler acquires or releases between two instructions are found or not, as they should."""
    for change in (HeldLocks.add, HeldLocks.remove):
        for keeps in (False, True):
            for tracer in every(held_module):
                locks, lock, other = HeldLocks(), a_lock(("a",), ("b", "c")), a_lock(("a",), ("b",))
                if change is HeldLocks.remove:
                    locks.add(lock)

                def visit(locks: HeldLocks = locks, other: HeldLock = other, keeps: bool = keeps) -> None:
                    locks.add(other)
                    if not keeps:
                        locks.remove(other)

                traced = tracer(visit)
                assert not traced.run(change, locks, lock)
                expected = {lock} if change is HeldLocks.add else set()
                if keeps and traced.has_acted:
                    expected.add(other)
                for path in (("a",), ("b", "c"), ("b",), ()):
                    assert set(locks.overlapping(path)) == expected


# Renewal


class Called:
    """The renewal of one lock of which the callbacks are noted, on a store that does not hold it."""

    def __init__(self) -> None:
        self.names: list[str] = []
        store: Any = SimpleNamespace(renew=self._renew, withdraw=self._withdraw)
        self.renewal = Renewal(store, lambda steps: driver.run(steps, MemoryBackend()))
        self.lock = a_lock(("a",))
        self.outer = LockOptions(True, None, lambda: self.names.append("outer"))
        self.inner = LockOptions(True, None, lambda: self.names.append("inner"))
        self.withdrawn: list[Request] = []
        self.renewal.add(self.lock, self.outer)

    @staticmethod
    def _renew(requests: list[Any]) -> Any:
        return [False for _ in requests]
        yield

    def _withdraw(self, request: Request) -> Any:
        self.withdrawn.append(request)
        return None
        yield

    def has_called(self, *names: str) -> None:
        """Wait until some callbacks are called."""
        eventually(lambda: set(names) <= set(self.names), f"{names} are called", every=0.0005)

    def has_withdrawn(self) -> None:
        """Wait until a request is withdrawn."""
        eventually(lambda: self.withdrawn, "it is withdrawn", every=0.0005)

    def is_watched_for(self, *names: str) -> None:
        """Check that the lock is renewed, that its loss calls these callbacks once each, and that no thread is left."""
        assert self.lock in self.renewal._renewals.items()
        self.lock.renew_at = 0.0
        self.renewal._renewals.add(self.lock)
        self.has_called(*names)
        ended()
        assert sorted(self.names) == sorted(names)


MODULES: Final = (held_module, renewal_module, scheduler_module)

CHANGES: Final[dict[str, Callable[[Called], object]]] = {
    "add": lambda called: called.renewal.add(called.lock, called.inner),
    "remove": lambda called: called.renewal.remove(called.lock, called.inner),
    "watch": lambda called: called.renewal.watch(called.lock),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_exception_while_a_lock_is_watched_ends_no_other_acquisition(name: str) -> None:
    """Renewal and callbacks of the outer acquisition continue, and its removal clears those of the inner one."""
    for tracer in every(*MODULES):
        called = Called()
        if name == "remove":
            called.renewal.add(called.lock, called.inner)
        tracer(interrupt).run(CHANGES[name], called)
        called.renewal.remove(called.lock, called.inner)
        called.is_watched_for("outer")


def test_an_exception_while_a_loss_is_recorded_calls_back_all_the_same() -> None:
    """Once the lock counts as lost, its callbacks are called, at the latest by the clock of this process."""
    for tracer in every(*MODULES):
        called = Called()
        called.lock.begin_lease(time.monotonic(), 60)
        called.renewal.watch(called.lock)
        tracer(interrupt).run(called.renewal.lose, called.lock)
        ended()
        assert called.names == ["outer"]


def test_an_exception_in_the_background_is_followed_by_the_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it comes in the threads that renew and call back, each callback is called, at most once more."""
    monkeypatch.setattr(scheduler_module, "_PAUSE_SECS", 0.0)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    for tracer in every(renewal_module, held_module):
        called = Called()
        called.renewal.add(called.lock, called.inner)
        called.renewal.stop(called.lock)
        ended()
        traced = tracer(interrupt)
        traced.skipped = "_call_back"  # there, an exception counts as one of the callback
        threading.settrace(traced)
        try:
            called.lock.renew_at = 0.0
            called.renewal.watch(called.lock)
            called.has_called("inner", "outer")
            ended()
        finally:
            threading.settrace(None)
        assert len(called.names) <= 3


def test_an_exception_while_a_withdrawal_is_scheduled_loses_only_that() -> None:
    """A request that was recorded is withdrawn without another call."""
    for tracer in every(renewal_module, scheduler_module):
        called = Called()
        called.renewal.stop(called.lock)
        tracer(interrupt).run(called.renewal.withdraw_later, called.lock.request, 0)
        if called.renewal._leftovers.items():
            called.has_withdrawn()
        called.renewal.end()
    ended()


# Retention


class Retained:
    """A lock within its retention window, and what the store and its owner know of it."""

    def __init__(self) -> None:
        self.gone: list[Request] = []
        """Released or withdrawn requests, in the store."""
        store: Any = SimpleNamespace(release=self._remove, withdraw=self._remove)
        self.renewal = Renewal(store, self._run)
        self.retention = Retention(store, self.renewal, self._run, TIMEOUT)
        self.retention._can_retain = True
        self.me = LockOwner("owner", lambda: True)
        self.lock = a_lock(("a",))
        self.retention.begin(self.me, self.lock, Grant(1, time.monotonic(), 100))
        self.is_held = True

    @staticmethod
    def _run(steps: driver.Steps[Any]) -> Any:
        return driver.run(steps, MemoryBackend())

    def _remove(self, request: Request) -> driver.Steps[bool]:
        assert not self.is_held, "a lock that its owner holds was released"
        self.gone.append(request)
        return True
        yield driver.Pause(0)

    def release(self) -> None:
        """Release the lock for its owner."""
        self.is_held = False
        if not self._run(self.retention.retain(self.me, self.lock)):
            self._run(self._remove(self.lock.request))

    def take(self) -> None:
        """Reacquire it."""
        self.is_held = self._run(self.retention.take(self.me, (("a",),), Mode.EXCLUSIVE, LEASE)) is self.lock

    def end(self) -> None:
        """Release all retained locks, as another thread does that inspects them."""
        self._run(self.retention.end())

    def abandon(self) -> None:
        """Withdraw the lock unless it is retained, as the lock manager does after an exception."""
        self.is_held = False
        if self.retention.retained.get(self.me) is not self.lock:
            self.renewal.withdraw_later(self.lock.request, LEASE)

    def is_settled(self) -> None:
        """Check that the lock is held, or else released in the end without another call, and that nothing is left."""
        if self.is_held:
            assert not self.gone
            self.release()
        eventually(lambda: self.gone, "it is released in the store", every=0.0005)
        assert not self.retention.is_giving_back
        for window in self.retention._windows.items():
            window.ends = 0.0
        self.renewal.end()
        eventually(lambda: not self.retention._windows.items(), "it is not watched any more", every=0.0005)
        assert not self.retention.retained


RETAINED: Final[dict[str, Callable[[Retained], object]]] = {
    "release": Retained.release,
    "reacquire": Retained.take,
    "end": Retained.end,
    "check": lambda retained: retained.retention._check(retained.retention._windows.items()),
}


def retained(name: str, monkeypatch: pytest.MonkeyPatch) -> Retained:
    """Return a lock that is retained, or is to be, and which the background does not release yet."""
    made = Retained()
    if name != "release":
        monkeypatch.setattr(retention_module, "AT_ONCE_SECS", TIMEOUT)
        made.release()
        monkeypatch.undo()
        assert made.retention.retained
    return made


@pytest.mark.parametrize("name", RETAINED)
def test_an_exception_in_retention_leaves_no_lock_behind(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it comes, the lock is released in the store in the end, and never while its owner holds it."""
    for tracer in every(retention_module):
        case = retained(name, monkeypatch)
        was_interrupted = tracer(interrupt).run(RETAINED[name], case)
        if was_interrupted and name in ("release", "reacquire"):
            case.abandon()
        hasten(case)
        case.is_settled()
    ended()


@pytest.mark.parametrize("name", RETAINED)
def test_a_call_between_two_instructions_of_retention_works(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that ends retention while a lock is released or reacquired waits for nothing and does no harm."""
    for tracer in every(retention_module):
        case = retained(name, monkeypatch)
        traced = tracer(case.end)
        assert not traced.run(RETAINED[name], case)
        hasten(case)
        case.is_settled()
    ended()


def hasten(case: Retained) -> None:
    """Let the background look at a retained lock now."""
    for window in case.retention._windows.items():
        window.look_at = window.retained_at = 0.0
        case.retention._windows.add(window)
