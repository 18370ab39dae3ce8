"""Locks between processes: the example of 1.0, forks with held locks, Ctrl-C; threads where there is one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from redicts import Lock, LockTimeout, NotHeld, Pool, Proxy, root
from redicts.contract.forked import ForkedChild
from tests.locks.locking import Somebody, in_store, no_thread_is_left, nothing_is_left, try_lock, waiting
from tests.support.stores import Store, together
from tests.support.waiting import TIMEOUT, eventually

LONG = os.environ.get("REDICTS_TESTS") == "long"
ROUNDS = 10_000 if LONG else 40

PREPARED = """
from redicts import Lock, LockTimeout, NotHeld, Pool, Proxy
Pool().reload(cfg={configuration!r})
"""


def is_shared(store: Store) -> bool:
    """Tell whether other processes can open a store."""
    shared = store.name not in {"memory", "fakeredis"}
    assert Pool().database().backend.capabilities.processes is shared
    return shared


@contextmanager
def process(store: Store, program: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program in a process of its own that uses the same store; it is killed if it outlives the block."""
    program = PREPARED.format(configuration=store.configuration) + program
    program += "\nPool().reload(cfg={'backend': 'memory'})\n"
    command = [sys.executable, "-W", "error", "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            if started.poll() is None:
                started.kill()


def add() -> None:
    """Count as the example of 1.0 does."""
    for _ in range(ROUNDS):
        with Proxy("a.b.c") as place:
            place.get("d").add(1)


def read_and_write() -> None:
    """Count so that only the lock keeps counts from getting lost."""
    for _ in range(ROUNDS):
        with Proxy("a.b.c", lock_acquire_timeout=60) as place:
            place.set("d", place.get("d").val() + 1)


@pytest.mark.timeout(1800 if LONG else 120)
@pytest.mark.parametrize("increment", [add, read_and_write])
def test_two_processes_that_count_under_a_lock_lose_nothing(any_store: Store, increment: Callable[[], None]) -> None:
    """Two processes that count under the same lock lose no count; threads where a store has no processes."""
    Proxy("a.b.c").set("d", 0)
    if is_shared(any_store):
        counting = {
            add: "place.get('d').add(1)",
            read_and_write: "place.set('d', place.get('d').val() + 1)",
        }[increment]
        program = f"input()\nfor _ in range({ROUNDS}):\n  with Proxy('a.b.c', 60) as place: {counting}\n"
        with process(any_store, program) as other:
            assert other.stdin is not None
            other.stdin.write("go\n")
            other.stdin.flush()
            increment()
            assert other.wait() == 0
    else:
        together(increment, increment)
    assert Proxy("a.b.c.d").val() == 2 * ROUNDS
    nothing_is_left()


def test_processes_exclude_each_other_above_and_below(any_store: Store) -> None:
    """A path above, at or below a lock of another process cannot be acquired; the error names its owner."""
    if not is_shared(any_store):
        return
    program = "with Proxy('a.b'):\n  print('locked', flush=True)\n  input()\n"
    with process(any_store, program) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "locked\n"
        for path in ("", "a", "a.b", "a.b.c"):
            assert not try_lock(path), path
        assert try_lock("a.c")
        (info,) = Proxy("a.b").lock().holders()
        assert (info.pid, info.thread) == (other.pid, "MainThread")
        with pytest.raises(LockTimeout, match=str(other.pid)):
            Lock(Pool(), "a", acquire_timeout=0.01).acquire()
        with pytest.raises(NotHeld):
            Proxy("a.b").release()
        other.stdin.write("go\n")
        other.stdin.flush()
        with Lock(Pool(), "a", acquire_timeout=TIMEOUT):
            assert not Proxy("a.b").lock().waiters()
        assert other.wait() == 0
    assert not in_store()


def test_ctrl_c_in_a_waiting_process_leaves_nothing(any_store: Store) -> None:
    """A process that is interrupted while it waits takes its waiter's record away before it ends."""
    if not is_shared(any_store):
        return
    program = (
        "try:\n  Lock(Pool(), 'a', acquire_timeout=None).acquire()\n"
        "except KeyboardInterrupt:\n  print('interrupted', flush=True)\n  input()\n"
    )
    with process(any_store, program) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        with Proxy("a.b"):
            waiting(1)
            before = in_store()
            other.send_signal(signal.SIGINT)
            assert other.stdout.readline() == "interrupted\n"
            assert list(in_store()) == ["h"]
            assert in_store()["h"] == before["h"]
            assert try_lock("a.c")
        other.stdin.write("go\n")
        other.stdin.flush()
        assert other.wait() == 0
    assert not in_store()


# Forks


def forked(work: Callable[[], object]) -> None:
    """Do something in a forked child, and wait for it."""
    with ForkedChild(work, TIMEOUT) as child:
        child.finish()


def raises_not_held(release: Callable[[], object]) -> None:
    """Demand that something raises ``NotHeld``."""
    with pytest.raises(NotHeld):
        release()


def test_a_forked_child_holds_nothing(any_store: Store) -> None:
    """A child does not hold what its parent holds: not locked again, not released, not relied on by a write."""
    mine, shared = Lock(Pool(), "a"), Lock(Pool(), "s", shared=True)
    mine.acquire()
    shared.acquire()
    before = in_store()

    def child() -> None:
        assert not mine.held
        assert mine.token is None
        for call in (mine.release, Proxy("a").release, mine.ensure_held, mine.extend, shared.release):
            raises_not_held(call)
        for path in ("", "a", "a.b", "s"):
            assert not try_lock(path), path
        assert Lock(Pool(), "s", shared=True).acquire(blocking=False)
        Lock(Pool(), "s", shared=True).release()
        assert mine.is_locked()
        (info,) = mine.holders()
        assert info.pid == os.getppid()
        with Proxy("x") as place:
            place.set("y", 1)
            (info,) = place.lock().holders()
            assert info.pid == os.getpid()
        Proxy("a").set("written", "without a guard")

    forked(child)
    assert in_store() == before
    assert mine.held
    mine.ensure_held()
    Proxy("a").set("x", 1)
    mine.extend()
    mine.release()
    shared.release()
    assert not in_store()


def test_a_childs_write_is_refused_where_locks_are_mandatory(any_store: Store) -> None:
    """With mandatory locks a child cannot write under its parent's lock."""
    any_store.reload(mandatory_locks=True)

    def child() -> None:
        with pytest.raises(Exception, match="MainThread") as raised:
            Proxy("a").set("x", 2)
        assert type(raised.value).__name__ == "Locked"

    with Proxy("a") as place:
        place.set("x", 1)
        forked(child)
    assert root().val() == {"a": {"x": 1}}


def test_a_forked_child_waits_like_anybody(any_store: Store) -> None:
    """A child that wants its parent's lock waits until the parent releases it, and then holds it."""
    if not is_shared(any_store):
        return

    def child() -> None:
        with Lock(Pool(), "a", acquire_timeout=TIMEOUT) as lock:
            assert lock.held
            Proxy("a").set("child", True)

    with Proxy("a") as place:
        with ForkedChild(child, TIMEOUT) as running:
            waiting(1)
            place.set("parent", True)
            place.release()
            running.finish()
        place.acquire()
    assert place.val() == {"parent": True, "child": True}
    assert not in_store()


def test_parent_and_child_exclude_each_other(any_store: Store) -> None:
    """After a fork the two are owners of their own, whose tokens are in one order."""
    if not is_shared(any_store):
        return
    Proxy("n").set("n", 0)

    def count() -> None:
        for _ in range(20):
            with Lock(Pool(), "n", acquire_timeout=None) as lock:
                place = Proxy("n")
                assert place.get("last").val(0) < (lock.token or 0)
                place.update({"n": place.get("n").val() + 1, "last": lock.token})

    with Proxy("x"), ForkedChild(count, TIMEOUT) as child:
        count()
        child.finish()
    assert Proxy("n.n").val() == 40
    assert not in_store()


def test_a_child_renews_nothing_of_its_parents(any_store: Store) -> None:
    """A lock that the parent has renewed is not renewed by a child, which has its own renewal for its own locks."""
    if not is_shared(any_store):
        return
    lock = Lock(Pool(), "a", 2, renew=True, on_loss=lambda _: None)
    lock.acquire()

    def child() -> None:
        no_thread_is_left()
        with Lock(Pool(), "b", 2, renew=True) as own:
            (first,) = own.holders()
            eventually(
                lambda: (own.holders()[0].until - first.until).total_seconds() > 0.1, "the child's lock is renewed"
            )
        no_thread_is_left()

    forked(child)
    assert lock.held
    lock.release()
    assert not in_store()


def test_a_fork_while_others_wait_and_hold(any_store: Store) -> None:
    """A child that is forked while other threads of its parent hold locks and wait for some can lock at once."""

    def child() -> None:
        with Proxy("x") as place:
            place.set("y", 1)
            with pytest.raises(LockTimeout):
                Lock(Pool(), "a", acquire_timeout=0.01).acquire()

    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            with Lock(Pool(), "busy", acquire_timeout=None, renew=True):
                pass

    with Somebody() as ben, Somebody() as cleo, Proxy("a"):
        got = ben.begins(Proxy("a").acquire)
        waiting(1)
        worked = cleo.begins(work)
        try:
            for _ in range(5):
                forked(child)
        finally:
            stop.set()
        worked.result(TIMEOUT)
        Proxy("a").release()
        assert got.result(TIMEOUT)
        ben.does(Proxy("a").release)
        Proxy("a").acquire()
    nothing_is_left()


def test_a_child_forked_in_a_block_leaves_it_alone(any_store: Store) -> None:
    """A child that runs on in its parent's ``with`` block gets ``NotHeld`` at its end; the parent's lock stays."""
    for place in (Proxy("a"), Lock(Pool(), "a")):
        with place:
            before = in_store()
            forked(partial(raises_not_held, partial(place.__exit__, None, None, None)))
            assert in_store() == before
        assert not in_store()
