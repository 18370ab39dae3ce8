"""The write queue: writers that waited long write first, a killed member delays nobody, and nobody starves."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from redicts.backends.sqlite import write_queue
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.write_queue import Retry, WriteQueue, shared_queue
from redicts.core.minitransaction import Add, Put
from redicts.errors import StoreBusy
from tests.backends.sqlite_tools import TIMEOUT, Child, LockOwner, count, error_of, key, run, value, wait_for_kill
from tests.support.waiting import eventually

WRITERS = 16
EACH = 6
LARGE = 400
"""Leaves of a write that takes some milliseconds, so that the lock is rarely free."""


@pytest.fixture
def file(file: Path) -> Path:
    """Create a store."""
    store = SqliteBackend(str(file))
    run(store, Put(key("a"), b"1"))
    store.close()
    return file


@pytest.fixture
def joining_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let writers join the queue as soon as they find the file locked."""
    monkeypatch.setattr(write_queue, "_JOIN_AFTER_SECS", 0.0)


def queue_of(file: Path) -> Path:
    """Return the path of the queue."""
    return file.with_name(file.name + "-queue")


def tickets(file: Path) -> int:
    """Return how many writers have joined the queue since it was created."""
    return queue_of(file).stat().st_size if queue_of(file).exists() else 0


def test_nobody_overtakes_the_queue(file: Path) -> None:
    """While the queue has a member nobody else writes, though the file is free; reads continue."""
    member = Member(file)
    store = SqliteBackend(str(file), busy_timeout_secs=0.2)
    with pytest.raises(StoreBusy):
        run(store, Put(key("a"), b"2"))
    with pytest.raises(StoreBusy):
        run(store, Put(key("b"), b"2"), Put(key("c"), b"2"))
    assert value(store, "a") == b"1"
    member.leave()
    run(store, Put(key("a"), b"3"))
    assert value(store, "a") == b"3"
    assert not queue_of(file).exists()
    store.close()


def test_a_killed_member_delays_nobody(file: Path) -> None:
    """A killed process is no longer a member, and the next writer removes the file of the queue."""
    member = Member(file)
    os.kill(member.child.pid, signal.SIGKILL)
    wait_for_kill(member.child)
    assert queue_of(file).exists()
    store = SqliteBackend(str(file), busy_timeout_secs=TIMEOUT)
    run(store, Put(key("a"), b"2"))
    assert not queue_of(file).exists()
    store.close()


class Member:
    """A process that is a member of the queue until it leaves."""

    def __init__(self, file: Path) -> None:
        self._reading, self._writing = os.pipe()
        self.child = Child(lambda: self._be_member(file))
        eventually(lambda: tickets(file) == 1, "one is in the queue")

    def _be_member(self, file: Path) -> None:
        queue = WriteQueue(str(file))
        retry = Retry(TIMEOUT, queue)
        assert queue.join(retry)
        os.read(self._reading, 1)
        retry.end()

    def leave(self) -> None:
        """Leave the queue."""
        os.write(self._writing, b"x")
        self.child.result()


def queued_writers(file: Path) -> list[Child]:
    """Start four processes that add to a counter and join the queue one after the other."""
    children = []
    for number in range(4):
        children.append(
            Child(lambda: run(SqliteBackend(str(file), busy_timeout_secs=TIMEOUT), Add(key("n"), 1)).counters)
        )
        eventually(lambda number=number: tickets(file) == number + 1, "the next one is in the queue")  # type: ignore[misc]
    return children


@pytest.mark.usefixtures("joining_at_once")
def test_first_come_first_served(file: Path, locked: LockOwner) -> None:
    """Members write in the order in which they joined, and nothing is left of the queue."""
    children = queued_writers(file)
    locked.release()
    assert [child.result() for child in children] == [(1,), (2,), (3,), (4,)]
    assert not queue_of(file).exists()


@pytest.mark.usefixtures("joining_at_once")
def test_killed_members_are_skipped(file: Path, locked: LockOwner) -> None:
    """If members are killed, the others continue in order."""
    children = queued_writers(file)
    for dead in (0, 2):
        os.kill(children[dead].pid, signal.SIGKILL)
        wait_for_kill(children[dead])
    locked.release()
    assert [children[number].result() for number in (1, 3)] == [(1,), (2,)]
    assert not queue_of(file).exists()


@pytest.mark.usefixtures("joining_at_once")
def test_threads_of_one_process_take_turns_in_the_queue(file: Path, locked: LockOwner) -> None:
    """One thread of a process at a time is a member; each of them writes once."""
    store = SqliteBackend(str(file), busy_timeout_secs=TIMEOUT)
    threads = [threading.Thread(target=lambda: run(store, Add(key("n"), 1))) for _ in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: tickets(file) == 1, "one is in the queue")
    # Another process joins behind it, and a fork of this process is not delayed.
    other = Child(lambda: run(SqliteBackend(str(file), busy_timeout_secs=TIMEOUT), Add(key("n"), 1)).applied)
    eventually(lambda: tickets(file) >= 2, "the other is in the queue")
    locked.release()
    for thread in threads:
        thread.join(TIMEOUT)
    assert other.result()
    assert count(store, "n") == 9
    assert not queue_of(file).exists()
    store.close()


@pytest.mark.usefixtures("joining_at_once")
@pytest.mark.parametrize("timeout", [1e12, float("inf")])
def test_a_writer_may_wait_for_any_time(timeout: float, file: Path, locked: LockOwner) -> None:
    """A timeout may be longer than any that the system can wait for, in the queue too."""
    store = SqliteBackend(str(file), busy_timeout_secs=timeout)
    threads = [threading.Thread(target=lambda: run(store, Add(key("n"), 1)), daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: tickets(file) >= 1, "one is in the queue")
    locked.release()
    for thread in threads:
        thread.join(TIMEOUT)
    assert count(store, "n") == 3
    store.close()


@pytest.mark.usefixtures("joining_at_once")
def test_a_writer_that_times_out_leaves_the_queue(file: Path, locked: LockOwner) -> None:
    """A write that times out in the queue raises ``StoreBusy``, and nothing is left of it."""
    store = SqliteBackend(str(file), busy_timeout_secs=0.1)
    for _ in range(2):
        name, text = error_of(lambda: run(store, Put(key("a"), b"2")))
        assert (name, "busy_timeout_secs" in text) == (StoreBusy.__name__, True)
        assert not queue_of(file).exists()
    locked.release()
    run(store, Put(key("a"), b"2"))
    store.close()


def test_a_child_is_not_a_member_by_its_parent(file: Path) -> None:
    """A child of a member is not a member, and what it closes does not end the parent's membership."""
    queue = shared_queue(str(file))
    retry = Retry(TIMEOUT, queue)
    assert queue.join(retry)

    def work() -> tuple[str, str]:
        return error_of(lambda: run(SqliteBackend(str(file), busy_timeout_secs=0.1), Put(key("a"), b"child")))

    assert Child(work).result()[0] == StoreBusy.__name__
    # The thread that is a member may write, as a signal handler that interrupts it would.
    store = SqliteBackend(str(file))
    run(store, Put(key("a"), b"own"))
    retry.end()
    assert not queue_of(file).exists()
    assert value(store, "a") == b"own"
    store.close()


@pytest.mark.usefixtures("joining_at_once")
def test_a_child_forked_in_the_midst_of_a_wait_writes(
    file: Path, locked: LockOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a signal handler forks while its thread is a member, the child goes on without a ticket, and both write."""
    forked: list[int] = []

    def sleep(seconds: float) -> None:
        if not forked and tickets(file):
            forked.append(os.fork())
        time.sleep(seconds)

    def work() -> None:
        run(SqliteBackend(str(file), busy_timeout_secs=TIMEOUT / 2), Add(key("n"), 1))
        if not forked[0]:
            os._exit(0)
        assert os.waitpid(forked[0], 0)[1] == 0

    monkeypatch.setattr(write_queue, "sleep", sleep)
    child = Child(work)
    eventually(lambda: tickets(file) == 1, "it is in the queue")
    locked.release()
    child.result()
    store = SqliteBackend(str(file))
    assert count(store, "n") == 2
    store.close()


def test_one_of_two_threads_that_join_at_once_is_a_member(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one thread joins, another one of its process cannot."""
    queue = WriteQueue(str(file))
    joined: list[tuple[str, bool]] = []
    others: list[threading.Thread] = []

    def join(name: str) -> None:
        retry = Retry(TIMEOUT, queue)
        joined.append((name, queue.join(retry)))
        eventually(lambda: len(joined) == 2, "both have tried")
        retry.end()

    def join_meanwhile() -> None:
        if not others:
            others.append(threading.Thread(target=join, args=("the other",)))
            others[0].start()
            others[0].join(0.05)  # it waits for the lock, as long as this one has it
        drop()

    drop = queue._drop
    monkeypatch.setattr(queue, "_drop", join_meanwhile)
    join("the first")
    others[0].join(TIMEOUT)
    assert sorted(joined) == [("the first", True), ("the other", False)]
    assert not queue_of(file).exists()


def test_the_queue_has_the_rights_of_the_store(file: Path) -> None:
    """Who may write to the store may join the queue, and nobody else may, whatever the umask is."""
    umask = os.umask(0o027)
    try:
        for mode in (0o600, 0o664):
            file.chmod(mode)
            queue = WriteQueue(str(file))
            retry = Retry(TIMEOUT, queue)
            assert queue.join(retry)
            assert stat.S_IMODE(queue_of(file).stat().st_mode) == mode
            retry.end()
    finally:
        os.umask(umask)


def require_a_wait_for_the_lock(file: Path, locked: LockOwner) -> None:
    """Require that a write waits until the lock is released, and is applied then."""
    store = SqliteBackend(str(file), busy_timeout_secs=TIMEOUT)
    thread = threading.Thread(target=lambda: run(store, Add(key("n"), 1)))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    locked.release()
    thread.join(TIMEOUT)
    assert count(store, "n") == 1
    store.close()


@pytest.mark.usefixtures("joining_at_once")
def test_writers_contend_where_no_queue_can_be_locked(
    file: Path, locked: LockOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without locks of parts of files, writers wait for the lock of the store without a queue."""

    def lockf(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", lockf)
    queue_of(file).touch()
    require_a_wait_for_the_lock(file, locked)


def test_writers_contend_where_no_queue_can_be_created(file: Path, locked: LockOwner) -> None:
    """If another object has the name of the queue, writers wait for the lock without it."""
    queue_of(file).mkdir()
    require_a_wait_for_the_lock(file, locked)


def write_endlessly(path: str, number: int, counts: Any, gaps: Any, over: Any, barrier: Any) -> None:
    """Write, in a process of its own, until all have written enough; record how many others write in between."""
    store = SqliteBackend(path, busy_timeout_secs=600)
    # One of them writes little, so it is the one most likely to starve.
    writes = [Put(key(str(number), str(leaf)), b"x" * 100) for leaf in range(LARGE if number else 1)]
    barrier.wait(TIMEOUT)
    earlier = None
    while not over.value:
        (order,) = run(store, Add(key("order"), 1), *writes).counters
        if earlier is not None:
            gaps[number] = max(gaps[number], order - earlier)
        earlier = order
        counts[number] += 1
        if min(counts) >= EACH:
            over.value = 1
    store.close()


@pytest.mark.timeout(600)
def test_none_of_sixteen_writers_starves(file: Path) -> None:
    """Of sixteen processes that write all the time, none is overtaken for long, and all write about as often."""
    context = multiprocessing.get_context("fork")
    counts, gaps = context.Array("q", WRITERS, lock=False), context.Array("q", WRITERS, lock=False)
    over, barrier = context.Value("b", 0), context.Barrier(WRITERS)
    children = [
        Child(lambda number=number: write_endlessly(str(file), number, counts, gaps, over, barrier))  # type: ignore[misc]
        for number in range(WRITERS)
    ]
    for child in children:
        child.result(within=300)
    store = SqliteBackend(str(file))
    assert count(store, "order") == sum(counts)
    store.close()
    assert min(counts) >= EACH
    assert max(gaps) <= 16 * WRITERS
    assert sorted(counts)[-2] <= 12 * min(counts)
    assert not queue_of(file).exists()
