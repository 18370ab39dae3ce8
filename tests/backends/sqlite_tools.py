"""Tools of the tests of the SQLite backend: a clock, short forms of transactions, and children that answer."""

from __future__ import annotations

import os
import pickle
import random
import select
import signal
import sqlite3
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from redicts.backends.sqlite.backend import SqliteBackend
from redicts.core.backend import Backend
from redicts.core.minitransaction import (
    VALUES,
    Add,
    AnyRead,
    Check,
    Entries,
    Key,
    Names,
    Outcome,
    Put,
    Read,
    ReadNames,
    Scope,
    Transaction,
    Write,
)

T = TypeVar("T")

TIMEOUT: Final = 20.0
NOBODY: Final = 65534
"""The number of a user without rights, on every POSIX system."""

_connect: Final = sqlite3.connect


class Clock:
    """Milliseconds that pass only when a test says so, shown as seconds."""

    def __init__(self, milliseconds: int = 1_700_000_000_300) -> None:
        self.milliseconds = milliseconds

    def __call__(self) -> float:
        return self.milliseconds / 1000


def key(*path: str, space: str = VALUES) -> Key:
    """Return a key among the values, or in another space."""
    return Key(space, path)


def run(backend: Backend, *writes: Write, checks: tuple[Check, ...] = (), reads: tuple[AnyRead, ...] = ()) -> Outcome:
    """Execute one transaction."""
    return backend.execute(Transaction(checks, reads, writes))


def entries(backend: Backend, read: Read) -> Entries:
    """Return the answer to one read."""
    (answer,) = run(backend, reads=(read,)).answers
    assert isinstance(answer, Entries)
    return answer


def names(backend: Backend, read: ReadNames) -> Names:
    """Return the answer to one read of names."""
    (answer,) = run(backend, reads=(read,)).answers
    assert isinstance(answer, Names)
    return answer


def value(backend: Backend, *path: str) -> bytes | None:
    """Return the value of a leaf, if there is one."""
    return entries(backend, Read(key(*path))).values.get(())


def tree(backend: Backend, *path: str) -> dict[tuple[str, ...], bytes]:
    """Return all values of a subtree by relative path."""
    return dict(entries(backend, Read(key(*path), Scope.SUBTREE)).values)


def count(backend: Backend, *path: str) -> int:
    """Return the sum of a counter as the store adds to it."""
    return run(backend, Add(key(*path), 0)).counters[0]


def plain(path: Path | str) -> sqlite3.Connection:
    """Open the file as any other program would; the caller closes the connection."""
    return _connect(str(path), isolation_level=None, timeout=0)


def sql(path: Path | str, *statements: str) -> Any:
    """Execute statements as any other program would, and return the first row that the last one yields."""
    connection = plain(path)
    try:
        for statement in statements:
            found = connection.execute(statement).fetchone()
    finally:
        connection.close()
    return found


def rows(path: Path) -> int:
    """Count the stored rows, including those of expired values."""
    found: int = sql(path, "SELECT count(*) FROM entries")[0]
    return found


def unused_long_values(path: Path | str) -> int:
    """Count the long values that no row names, after insisting that each row names one that exists."""
    named = (
        "SELECT value AS id FROM entries WHERE typeof(value) = 'integer' "
        "UNION ALL SELECT document FROM documents WHERE typeof(document) = 'integer'"
    )
    assert sql(path, f"SELECT count(*) FROM ({named}) WHERE id NOT IN (SELECT id FROM long_values)") == (0,)
    found: int = sql(path, f"SELECT count(*) FROM long_values WHERE id NOT IN ({named})")[0]
    return found


def is_sound(path: Path) -> bool:
    """Tell whether SQLite finds the file undamaged."""
    found: tuple[str] = sql(path, "PRAGMA integrity_check")
    return found == ("ok",)


def wait_for_kill(child: Child) -> None:
    """Wait for the end of a child that was killed, so that it gave no answer."""
    with pytest.raises(AssertionError, match="without an answer"):
        child.result()


class Opened:
    """The connections that were opened since the fixture of this name was requested."""

    def __init__(self) -> None:
        self.connections: list[sqlite3.Connection] = []

    @property
    def not_closed(self) -> int:
        return len([each for each in self.connections if not _is_closed(each)])


def _is_closed(connection: sqlite3.Connection) -> bool:
    try:
        connection.total_changes  # noqa: B018  (it raises if the connection is closed)
    except sqlite3.ProgrammingError:
        return True
    return False


class Child:
    """A forked process that runs only ``work``, and passes back what it returned or raised."""

    def __init__(self, work: Callable[[], Any], *, without_rights: bool = False) -> None:
        self._reading, writing = os.pipe()
        with warnings.catch_warnings():
            # From Python 3.12 on a fork with threads warns; whether the backend copes is what the tests are about.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            _work_and_exit(work, writing, without_rights)
        os.close(writing)

    def result(self, within: float = TIMEOUT) -> Any:
        """Wait for the child's end and return what its work returned; raises ``AssertionError`` if that raised."""
        answer = b""
        deadline = time.monotonic() + within
        try:
            while True:
                if not select.select([self._reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
                    os.kill(self.pid, signal.SIGKILL)
                    raise AssertionError(f"the child did not end within {within:g} seconds")
                part = os.read(self._reading, 65536)
                if not part:
                    break
                answer += part
        finally:
            os.close(self._reading)
            os.waitpid(self.pid, 0)
        assert answer, "the child ended without an answer"
        returned, raised = pickle.loads(answer)
        assert raised is None, f"in the child: {raised}"
        return returned


class LockOwner:
    """A process that holds the file's write lock until ``release``; tests fork, so they must not hold it themselves."""

    def __init__(self, file: Path) -> None:
        self._locked, self._released = os.pipe(), os.pipe()
        self._child = Child(lambda: self._hold(file))
        assert os.read(self._locked[0], 1)

    def _hold(self, file: Path) -> None:
        connection = plain(file)
        connection.execute(f"PRAGMA busy_timeout = {TIMEOUT * 1000:.0f}")
        connection.execute("BEGIN IMMEDIATE")
        os.write(self._locked[1], b"x")
        os.read(self._released[0], 1)
        connection.close()

    def release(self) -> None:
        """Release the lock."""
        os.write(self._released[1], b"x")
        self._child.result()
        for each in (*self._locked, *self._released):
            os.close(each)


def as_ordinary_user(work: Callable[[], Any]) -> Any:
    """Return what work returns when run by a user whom permissions stop, unlike root."""
    return Child(work, without_rights=True).result()


def error_of(work: Callable[[], Any]) -> tuple[str, str]:
    """Return the name of the exception's class and its text; work must raise."""
    try:
        work()
    except Exception as error:
        return type(error).__name__, str(error)
    raise AssertionError("nothing was raised")


def _work_and_exit(work: Callable[[], Any], writing: int, without_rights: bool) -> None:
    try:
        if without_rights and os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        answer = pickle.dumps((work(), None))
    except BaseException:
        answer = pickle.dumps((None, traceback.format_exc()))
    finally:
        os.write(writing, answer)
        os._exit(0)


def create_at_once(path: str, name: str, barrier: Any) -> None:
    """Use a new file at the same time as other processes."""
    backend = SqliteBackend(path)
    barrier.wait(TIMEOUT)
    assert run(backend, Put(key(name), b"here")).applied
    backend.close()


def write_pairs_endlessly(path: str) -> None:
    """Write one value to twenty leaves in each transaction, until killed."""
    backend = SqliteBackend(path, busy_timeout_secs=60)
    number = 0
    while True:
        number += 1
        text = b"%d" % number
        run(backend, *[Put(key("pair", str(leaf)), text) for leaf in range(20)], Add(key("count"), 1))


class Meter:
    """Counts the steps of SQLite's virtual machine: the cost of an operation, independent of the machine."""

    def __init__(self) -> None:
        self.steps = 0
        self.statements: list[str] = []

    def _step(self) -> int:
        self.steps += 1
        return 0

    def watch(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        connection.set_progress_handler(self._step, 1)
        connection.set_trace_callback(self.statements.append)
        return connection

    def of(self, work: Callable[[], object]) -> int:
        before = self.steps
        self.statements.clear()
        work()
        return self.steps - before


def killed(work: Callable[[int], Any]) -> int:
    """Kill a process that writes a number after each commit, at a random time; return the last number."""
    reading, writing = os.pipe()
    writer = Child(lambda: work(writing))
    os.close(writing)
    written = os.read(reading, 64)
    time.sleep(random.uniform(0, 0.03))
    os.kill(writer.pid, signal.SIGKILL)
    wait_for_kill(writer)
    while part := os.read(reading, 65536):
        written += part
    os.close(reading)
    return int(written.split()[-1])
