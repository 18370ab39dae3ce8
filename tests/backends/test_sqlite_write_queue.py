"""Turns: who has waited long writes before those who came later, whoever dies in the queue, and nobody starves."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from redicts.backends.sqlite import connections
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.write_queue import Turns, turns_at
from redicts.core.minitransaction import Add, Put
from redicts.errors import StoreBusy
from tests.backends.sqlite_tools import TIMEOUT, Child, count, error_of, key, plain, run, value
from tests.support.waiting import eventually

WRITERS = 16
EACH = 6
LARGE = 400
"""Leaves of a write that takes some milliseconds, so that the lock is hardly ever free."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Make a store."""
    store = SqliteBackend(str(tmp_path / "s.db"))
    run(store, Put(key("a"), b"1"))
    store.close()
    return tmp_path / "s.db"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let writers queue as soon as they find the file locked."""
    monkeypatch.setattr(connections, "_IMPATIENT_AFTER_SECS", 0.0)


class LockOwner:
    """A process that holds the file's write lock; the tests fork, so the connection must not be in theirs."""

    def __init__(self, file: Path) -> None:
        self._telling, self._writing = os.pipe(), os.pipe()
        self._child = Child(lambda: self._hold(file))
        assert os.read(self._telling[0], 1)

    def _hold(self, file: Path) -> None:
        connection = plain(file)
        connection.execute("BEGIN IMMEDIATE")
        os.write(self._telling[1], b"x")
        os.read(self._writing[0], 1)
        connection.close()

    def lets_go(self) -> None:
        """Let the file be free."""
        os.write(self._writing[1], b"x")
        self._child.result()
        for each in (*self._telling, *self._writing):
            os.close(each)


@pytest.fixture
def locked(file: Path) -> LockOwner:
    """Have the file's write lock held until the test lets it go."""
    return LockOwner(file)


def queue_of(file: Path) -> Path:
    """Return where the queue is."""
    return file.with_name(file.name + "-queue")


def tickets(file: Path) -> int:
    """Return how many have come to the queue since it is there."""
    return queue_of(file).stat().st_size if queue_of(file).exists() else 0


def in_the_queue(file: Path, reading: int) -> None:
    """Stand in the queue, in a process of its own, until told to leave."""
    turns = Turns(str(file))
    assert turns.join(TIMEOUT)
    os.read(reading, 1)
    turns.leave()


def test_nobody_overtakes_the_queue(file: Path) -> None:
    """While somebody is in the queue nobody else writes, though the file is free; reads go on; then writes do too."""
    reading, writing = os.pipe()
    first = Child(lambda: in_the_queue(file, reading))
    eventually(lambda: tickets(file) == 1, "one is in the queue")
    store = SqliteBackend(str(file), busy_timeout_secs=0.2)
    with pytest.raises(StoreBusy):
        run(store, Put(key("a"), b"2"))
    with pytest.raises(StoreBusy):
        run(store, Put(key("b"), b"2"), Put(key("c"), b"2"))
    assert value(store, "a") == b"1"
    os.write(writing, b"x")
    first.result()
    run(store, Put(key("a"), b"3"))
    assert value(store, "a") == b"3"
    assert not queue_of(file).exists()
    store.close()
    os.close(reading)
    os.close(writing)


def test_who_dies_in_the_queue_holds_nobody_up(file: Path) -> None:
    """A process that is killed in the queue is out of it at once, and the next who writes removes what it left."""
    reading, writing = os.pipe()
    first = Child(lambda: in_the_queue(file, reading))
    eventually(lambda: tickets(file) == 1, "one is in the queue")
    os.kill(first.pid, signal.SIGKILL)
    with pytest.raises(AssertionError, match="without an answer"):
        first.result()
    assert queue_of(file).exists()
    store = SqliteBackend(str(file), busy_timeout_secs=TIMEOUT)
    run(store, Put(key("a"), b"2"))
    assert not queue_of(file).exists()
    store.close()
    os.close(reading)
    os.close(writing)


@pytest.mark.usefixtures("impatient")
def test_first_come_first_served(file: Path, locked: LockOwner) -> None:
    """Processes that queue write in the order in which they came, and nothing is left of the queue."""
    children = []
    for number in range(4):
        children.append(
            Child(lambda: run(SqliteBackend(str(file), busy_timeout_secs=TIMEOUT), Add(key("n"), 1)).counters)
        )
        eventually(lambda number=number: tickets(file) == number + 1, "the next one is in the queue")  # type: ignore[misc]
    locked.lets_go()
    assert [child.result() for child in children] == [(1,), (2,), (3,), (4,)]
    assert not queue_of(file).exists()


@pytest.mark.usefixtures("impatient")
def test_the_dead_in_the_midst_are_passed_over(file: Path, locked: LockOwner) -> None:
    """If one in the midst of the queue is killed, the others go on in order."""
    children = []
    for number in range(4):
        children.append(
            Child(lambda: run(SqliteBackend(str(file), busy_timeout_secs=TIMEOUT), Add(key("n"), 1)).counters)
        )
        eventually(lambda number=number: tickets(file) == number + 1, "the next one is in the queue")  # type: ignore[misc]
    for dead in (0, 2):
        os.kill(children[dead].pid, signal.SIGKILL)
        with pytest.raises(AssertionError):
            children[dead].result()
    locked.lets_go()
    assert [children[number].result() for number in (1, 3)] == [(1,), (2,)]
    assert not queue_of(file).exists()


@pytest.mark.usefixtures("impatient")
def test_threads_of_one_process_queue_too(file: Path, locked: LockOwner) -> None:
    """Of one process a thread at a time is in the queue; all of them write in the end, each once."""
    store = SqliteBackend(str(file), busy_timeout_secs=TIMEOUT)
    threads = [threading.Thread(target=lambda: run(store, Add(key("n"), 1))) for _ in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: tickets(file) == 1, "one is in the queue")
    # Those of another process wait behind it, and a fork of this process is not held up.
    other = Child(lambda: run(SqliteBackend(str(file), busy_timeout_secs=TIMEOUT), Add(key("n"), 1)).applied)
    eventually(lambda: tickets(file) >= 2, "the other is in the queue")
    locked.lets_go()
    for thread in threads:
        thread.join(TIMEOUT)
    assert other.result()
    assert count(store, "n") == 9
    assert not queue_of(file).exists()
    store.close()


@pytest.mark.usefixtures("impatient")
def test_who_loses_timeout_leaves_the_queue(file: Path, locked: LockOwner) -> None:
    """A write that is not let in within its time fails as busy, and nothing is left of it in the queue."""
    store = SqliteBackend(str(file), busy_timeout_secs=0.1)
    for _ in range(2):
        name, text = error_of(lambda: run(store, Put(key("a"), b"2")))
        assert (name, "busy_timeout_secs" in text) == (StoreBusy.__name__, True)
        assert not queue_of(file).exists()
    locked.lets_go()
    run(store, Put(key("a"), b"2"))
    store.close()


def test_a_child_is_not_in_its_parents_queue(file: Path) -> None:
    """A child of a process that queues is not in the queue, and what it closes takes no place away from the parent."""
    turns = turns_at(str(file))
    assert turns.join(TIMEOUT)

    def work() -> tuple[str, str]:
        return error_of(lambda: run(SqliteBackend(str(file), busy_timeout_secs=0.1), Put(key("a"), b"child")))

    assert Child(work).result()[0] == StoreBusy.__name__
    # The thread that is in the queue may write itself, as a signal handler of it would.
    store = SqliteBackend(str(file))
    run(store, Put(key("a"), b"own"))
    turns.leave()
    assert not queue_of(file).exists()
    assert value(store, "a") == b"own"
    store.close()


def test_where_no_queue_can_be_made_writers_contend(file: Path, locked: LockOwner) -> None:
    """If something else is in the queue's place, writes wait for the lock as they can."""
    queue_of(file).mkdir()
    store = SqliteBackend(str(file), busy_timeout_secs=TIMEOUT)
    thread = threading.Thread(target=lambda: run(store, Add(key("n"), 1)))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    locked.lets_go()
    thread.join(TIMEOUT)
    assert count(store, "n") == 1
    store.close()


def write_for_ever(path: str, number: int, counts: Any, gaps: Any, over: Any, barrier: Any) -> None:
    """Write in a process of its own until all have written enough; note how many others came between two of mine."""
    store = SqliteBackend(path, busy_timeout_secs=600)
    # One of them has little to write, so it is the one that others keep from it.
    writes = [Put(key(str(number), str(leaf)), b"x" * 100) for leaf in range(LARGE if number else 1)]
    barrier.wait(TIMEOUT)
    earlier = None
    while not over.value:
        (turn,) = run(store, Add(key("turn"), 1), *writes).counters
        if earlier is not None:
            gaps[number] = max(gaps[number], turn - earlier)
        earlier = turn
        counts[number] += 1
        if min(counts) >= EACH:
            over.value = 1
    store.close()


@pytest.mark.timeout(600)
def test_sixteen_writers_all_get_on(file: Path) -> None:
    """Of sixteen processes that write all the time, none is overtaken for long, and none gets many times another's."""
    context = multiprocessing.get_context("fork")
    counts, gaps = context.Array("q", WRITERS, lock=False), context.Array("q", WRITERS, lock=False)
    over, barrier = context.Value("b", 0), context.Barrier(WRITERS)
    children = [
        Child(lambda number=number: write_for_ever(str(file), number, counts, gaps, over, barrier))  # type: ignore[misc]
        for number in range(WRITERS)
    ]
    for child in children:
        child.result(within=300)
    store = SqliteBackend(str(file))
    assert count(store, "turn") == sum(counts)
    store.close()
    assert min(counts) >= EACH
    assert max(gaps) <= 16 * WRITERS
    assert sorted(counts)[-2] <= 12 * min(counts)
    assert not queue_of(file).exists()
