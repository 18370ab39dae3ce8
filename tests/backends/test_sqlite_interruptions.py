"""Signal handlers that call the store, or raise, between any two instructions of a call to a SQLite file."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import random
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

from redicts.backends import sqlite
from redicts.backends.sqlite import backend, write_queue
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.errors import LOCKED
from redicts.contract.interruption import apart
from redicts.core.listener import Listener
from redicts.core.minitransaction import Add, Delete, Equals, Notify, Put, PutDocument, Read, Scope
from redicts.errors import StoreBusy, Unreachable
from redicts.forks import stack
from tests.backends.sqlite_tools import TIMEOUT, Child, entries, is_sound, key, plain, run, tree, value

pytestmark = pytest.mark.usefixtures("no_collections")

PACKAGE: Final = str(Path(sqlite.__file__).parent)
POINTS: Final = 1_000 if os.environ.get("REDICTS_TESTS") == "long" else 45
"""How many instructions of each call are interrupted, chosen by a fixed seed."""

BUSY_SECS: Final = 5.0
"""How long a call waits for another one that holds the lock: longer than a busy machine delays a call."""


class Interrupt(BaseException):
    """What a handler raises, like ``KeyboardInterrupt``."""


def interrupted(work: Callable[[], object], at: int, handler: Callable[[], object]) -> int:
    """Run the handler before the instruction of this number inside the package; return how many there were."""
    passed = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal passed
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            passed += 1
            if passed == at:
                sys.settrace(None)
                handler()
        return trace

    sys.settrace(trace)
    try:
        next(apart(work))
    finally:
        sys.settrace(None)
    return passed


def points(work: Callable[[], object], seed: int = 0) -> Iterator[int]:
    """Yield numbers of instructions of a call, at random."""
    for _ in range(2):
        # The first call may open the file.
        total = interrupted(work, 0, lambda: None)
    yield from sorted(random.Random(seed).sample(range(1, total), min(POINTS, total - 1)))


def raising() -> None:
    """Raise, as Ctrl-C does."""
    raise Interrupt


def busy() -> None:
    """Raise, as a handler does that calls another store."""
    raise StoreBusy("another store is busy")


def in_a_thread(work: Callable[[], object]) -> None:
    """Run in another thread, and raise what it raised; it must end."""
    raised: list[BaseException] = []

    def begin() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=begin, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    assert not thread.is_alive(), "a thread hangs"
    if raised:
        raise raised[0]


@pytest.fixture
def store(path: str) -> Iterator[SqliteBackend]:
    """Open a store with a few values."""
    backend = SqliteBackend(path, busy_timeout_secs=BUSY_SECS)
    run(backend, Put(key("a"), b"0"), Put(key("n"), b"0"), PutDocument(key("d"), b'{"x":1}'))
    yield backend
    backend.close()


def write(store: SqliteBackend) -> None:
    """Write ten leaves, a long value and a counter in one transaction."""
    count = entries(store, Read(key("n"))).values.get((), b"0")
    leaves = [Put(key("leaves", str(each)), b"%d" % (int(count) + 1)) for each in range(10)]
    run(store, Delete(key("leaves"), Scope.SUBTREE), *leaves, Put(key("long"), count * 2_000), Add(key("n"), 1))


CALLS: Final[dict[str, Callable[[SqliteBackend], object]]] = {
    "a transaction": write,
    "a check that fails": lambda store: run(
        store, Put(key("b"), b"1"), checks=(Equals(key("a"), Scope.NODE, {(): b"x"}),)
    ),
    "an overwrite": lambda store: store.overwrite(key("a"), b"1"),
    "a fetch": lambda store: store.fetch(key("a")),
    "a read": tree,
    "a document": lambda store: run(store, PutDocument(key("d"), b'{"x":2}')),
    "listening": lambda store: store.listen("me").close(),
}


def check(store: SqliteBackend) -> None:
    """Insist that a transaction happened whole or not at all, and that this and any other thread can use the store."""
    found = tree(store)
    leaves = {text for path, text in found.items() if path[0] == "leaves"}
    assert leaves in (set(), {found["n",]})
    for each in (lambda work: work(), in_a_thread):
        each(lambda: run(store, Put(key("a"), b"0"), Put(key("c"), b"1")))
    assert value(store, "c") == b"1"


def test_an_interrupted_close_may_be_repeated(file: Path) -> None:
    """After an exception at any instruction of closing a connection, closing it again is no error."""
    number = 0
    while True:
        number += 1
        backend = SqliteBackend(str(file), busy_timeout_secs=BUSY_SECS)
        run(backend, Put(key("a"), b"0"))
        (connection,) = backend._pool.idle
        try:
            interrupted(connection.close, number, raising)
        except Interrupt:
            connection.close()
            backend.close()
        else:
            break
    assert number > 10


@pytest.mark.parametrize("error", [None, sqlite3.OperationalError(LOCKED)], ids=["closing", "rolling back"])
def test_an_interrupted_cleanup_is_completed(error: sqlite3.Error | None, file: Path) -> None:
    """An exception amid a clean-up is raised after that, or at once if the next call cleans up."""
    other = SqliteBackend(str(file), busy_timeout_secs=0.5)
    run(other, Put(key("a"), b"0"))
    begun: list[bool] = []

    def handler() -> None:
        begun.append(any(frame.f_code.co_name == "_reset" for frame in stack()))
        raise Interrupt

    number, passed = 0, 0
    while number <= passed:
        number += 1
        backend = SqliteBackend(str(file), busy_timeout_secs=BUSY_SECS)
        run(backend, Put(key("a"), b"1"))
        (opened,) = backend._pool.idle  # under another name than that by which calls find theirs
        cursor = opened.open()
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute("DELETE FROM entries")
        begun.clear()
        try:
            passed = interrupted(lambda: opened.reset(error), number, handler)  # noqa: B023
            assert not begun, "the exception is lost"
        except Interrupt:
            passed = number
        if begun == [True]:
            run(other, Put(key("b"), b"1"))
        run(backend, Put(key("c"), b"1"))
        assert value(other, "a") == b"1"
        backend.close()
    assert number > 10
    other.close()


def test_an_interrupted_transaction_lets_the_file_be_closed(file: Path) -> None:
    """After an exception in a call, closing leaves one file, though the traceback holds what the call had in use."""
    for at in points(lambda: write(SqliteBackend(str(file)))):
        backend, kept = SqliteBackend(str(file)), None
        write(backend)
        try:
            interrupted(partial(write, backend), at, raising)
        except Interrupt as error:
            kept = error
        was_given_back = bool(backend._pool.idle)  # else the exception came just before
        backend.close()
        if was_given_back:
            assert [each.name for each in file.parent.iterdir()] == ["s.db"]
        del kept
        if not was_given_back:
            gc.collect()  # the traceback holds the connection, and may be part of a cycle


def test_a_call_within_the_first_call_of_memory_loses_nothing() -> None:
    """A handler that writes while its own thread opens a store in memory is refused, or writes what then is there."""
    store, written = SqliteBackend(":memory:"), False

    def first() -> None:
        run(store, Put(key("a"), b"1"))

    def handler() -> None:
        nonlocal written
        with contextlib.suppress(StoreBusy):
            run(store, Put(key("inner"), b"1"))
            written = True

    total = interrupted(first, 0, raising)
    for at in random.Random(0).sample(range(1, total), min(POINTS, total - 1)):
        store, written = SqliteBackend(":memory:"), False
        interrupted(first, at, handler)
        assert tree(store) == {("a",): b"1", **({("inner",): b"1"} if written else {})}


def test_a_fork_within_the_first_call_loses_nothing(file: Path) -> None:
    """A child that a handler forks while its own thread opens the file is refused; else what it writes stays."""
    children: list[Child] = []
    opening: list[bool] = []

    def first() -> None:
        backend = SqliteBackend(str(file))
        run(backend, Put(key("a"), b"1"))
        backend.close()

    def in_the_child(number: bytes) -> bool:
        with contextlib.suppress(Unreachable, StoreBusy):
            run(SqliteBackend(str(file)), Put(key("child"), number))
            return True
        return False

    def fork(number: bytes) -> None:
        opening.append(any(frame.f_code.co_name == "_open_file" for frame in stack()))
        children.append(Child(partial(in_the_child, number)))

    told: list[bool] = []
    for at in points(first):
        interrupted(first, at, partial(fork, b"%d" % at))
        while children:
            told.append(children.pop().result())
            assert not (told[-1] and opening[-1])
            backend = SqliteBackend(str(file))
            assert not told[-1] or value(backend, "child") == b"%d" % at
            backend.close()
    assert set(told) == {True, False}


@pytest.mark.parametrize("call", ["a transaction", "a fetch"])
def test_a_fork_within_a_call_leaves_it_alone(call: str, store: SqliteBackend) -> None:
    """A handler that forks while its own thread is in a call does not disturb it; the child writes or is refused."""
    told: set[str] = set()

    def in_the_child() -> str:
        try:
            run(store, Put(key("child"), b"1"))
        except (StoreBusy, Unreachable) as error:
            return type(error).__name__
        return "written"

    for at in list(points(lambda: CALLS[call](store)))[::3]:
        interrupted(lambda: CALLS[call](store), at, lambda: told.add(Child(in_the_child).result()))
        check(store)
    assert told


@pytest.mark.parametrize("call", CALLS)
def test_an_exception_leaves_the_store_usable(call: str, store: SqliteBackend, path: str) -> None:
    """After an exception between any two instructions no lock is held, and the transaction is whole."""
    other = None if path == ":memory:" else SqliteBackend(path, busy_timeout_secs=0.5)
    for at in points(lambda: CALLS[call](store)):
        kept: BaseException | None = None
        try:
            interrupted(lambda: CALLS[call](store), at, busy if at % 3 == 0 else raising)
        except (Interrupt, StoreBusy) as error:
            # Its traceback keeps everything that the call had in its variables.
            kept = error
        if other is not None:
            run(other, Put(key("e"), b"1"))
        check(store)
        del kept
    if other is not None:
        other.close()
        assert is_sound(Path(path))


@pytest.mark.parametrize("call", CALLS)
def test_a_call_within_a_call_works_or_is_refused_at_once(call: str, store: SqliteBackend) -> None:
    """A handler that reads and writes while its own thread is in a call succeeds, or gets ``StoreBusy`` at once."""
    answers: list[type[BaseException] | None] = []
    texts: set[bool] = set()

    def handler() -> None:
        for work in (lambda: store.fetch(key("a")), lambda: tree(store), lambda: run(store, Add(key("inner"), 1))):
            began = time.monotonic()
            try:
                work()
                answers.append(None)
            except StoreBusy as error:
                answers.append(StoreBusy)
                texts.add("interrupted" in str(error))
            assert time.monotonic() - began < 0.8 * BUSY_SECS, "it waited for the call that it interrupted"

    for at in points(lambda: CALLS[call](store)):
        with contextlib.suppress(StoreBusy):
            # The handler's own write may be what the interrupted call waits for no longer than it takes.
            interrupted(lambda: CALLS[call](store), at, handler)
        check(store)
    assert None in answers
    assert texts <= {True}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_place_in_the_write_queue_is_not_lost(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception anywhere in a write that waits in the queue leaves nothing that delays a thread or a process."""
    monkeypatch.setattr(write_queue, "_JOIN_AFTER_SECS", 0.0)
    monkeypatch.setattr(backend, "LOOK_SECS", 0.0)  # each write looks for the queue
    store = SqliteBackend(str(file), busy_timeout_secs=0.004)
    other = SqliteBackend(str(file), busy_timeout_secs=10.0)
    run(store, Put(key("a"), b"0"))
    holder = plain(file)

    def waiting() -> None:
        with contextlib.suppress(StoreBusy):
            run(store, Put(key("a"), b"1"), Put(key("b"), b"1"))

    holder.execute("BEGIN IMMEDIATE")
    for at in points(waiting):
        kept = None
        try:
            interrupted(waiting, at, raising)
        except Interrupt as error:
            kept = error
        holder.execute("ROLLBACK")
        in_a_thread(lambda: run(other, Put(key("c"), b"1"), Put(key("d"), b"1")))
        run(other, Put(key("c"), b"2"), Put(key("d"), b"2"))
        assert not Path(f"{file}-queue").exists()
        del kept
        holder.execute("BEGIN IMMEDIATE")
    holder.close()
    store.close()
    other.close()


@pytest.mark.parametrize("call", ["joining", "looking", "leaving"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_exception_leaves_the_queue_free(call: str, file: Path) -> None:
    """After an exception at any instruction of a call of the queue, another thread can join and leave it."""
    run(SqliteBackend(str(file)), Put(key("a"), b"0"))
    queue = write_queue.WriteQueue(str(file))

    def join_and_leave() -> None:
        retry = write_queue.Retry(TIMEOUT, queue)
        assert queue.join(retry)
        retry.end()

    def attempt(at: int) -> int:
        retry = write_queue.Retry(TIMEOUT, queue)
        if call == "looking":
            Path(queue.path).touch()
            return interrupted(queue.admits_others, at, raising)
        if call == "joining":
            return interrupted(lambda: queue.join(retry), at, raising)
        assert queue.join(retry)
        return interrupted(retry.end, at, raising)

    at = 0
    while True:
        at += 1
        try:
            assert attempt(at) < at
        except Interrupt:
            in_a_thread(join_and_leave)
        else:
            break
    assert at > 10
    gc.collect()  # files that an exception has left open


def test_a_call_within_a_call_leaves_the_queue_to_it(file: Path) -> None:
    """A handler that looks at the queue, which others may have begun, keeps the call that it interrupts working."""
    run(SqliteBackend(str(file)), Put(key("a"), b"0"))
    queue = write_queue.WriteQueue(str(file))

    def join_and_leave() -> None:
        retry = write_queue.Retry(TIMEOUT, queue)
        queue.join(retry)
        retry.end()

    def handler() -> None:
        Path(queue.path).touch()
        queue.admits_others()

    for at in points(join_and_leave):
        interrupted(join_and_leave, at, handler)
        in_a_thread(join_and_leave)
        assert queue.admits_others()


def test_polling_is_passed_on(file: Path) -> None:
    """After an exception anywhere in a wait, another thread that waits is notified by another process."""
    store = SqliteBackend(str(file))
    run(store, Put(key("a"), b"0"))
    first = store.listen("first")
    sampled = [(0.003, at) for at in list(points(lambda: first.wait(0.003)))[:: POINTS // 15]]
    poller = first._listeners._poller
    assert poller is not None
    poller.due = math.inf
    total = interrupted(lambda: first.wait(0.0), 0, lambda: None)
    # The end of a wait that does not look, which passes the polling on.
    for seconds, at in (*sampled, *[(0.0, at) for at in range(total - 50, total + 1, 2)]):
        first.wait(0.0)  # a look may have notified it
        poller.due = math.inf if seconds == 0.0 else poller.due
        kept = None
        try:
            interrupted(partial(first.wait, seconds), at, raising)
        except Interrupt as error:
            kept = error
        with store.listen("second") as second:

            def wait(second: Listener = second) -> None:
                second.wait(0.06)
                run(store, Put(key("l", "1", space="n"), b"second"))
                child = Child(lambda: run(SqliteBackend(str(file)), Notify(key("l", space="n"), Scope.BELOW)).applied)
                assert second.wait(TIMEOUT)
                assert child.result()

            in_a_thread(wait)
        del kept
    store.close()
