"""What checks measure and set: the sizes of stores, the wall clock, and pauses in the midst of a call."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from redicts.backends.memory import MemoryBackend
from redicts.contract import Harness
from redicts.contract.pauses import PausedCall, Point
from redicts.contract.sizes import size_of_files, size_of_process
from redicts.contract.wall import set_wall_clock
from redicts.core.backend import Backend
from redicts.core.minitransaction import Equals, Key, Outcome, Put, Scope, Transaction


def test_files_beside_a_store_count(tmp_path: Path) -> None:
    """The size of a file includes the files whose names begin with its name, and that of a directory all below it."""
    (tmp_path / "store").write_bytes(b"x" * 100)
    (tmp_path / "store-log").write_bytes(b"x" * 20)
    (tmp_path / "other").write_bytes(b"x" * 3)
    assert size_of_files(str(tmp_path / "store")) == 120
    assert size_of_files(str(tmp_path)) == 123
    assert size_of_files(str(tmp_path / "nothing")) == 0


def test_free_pages_of_sqlite_do_not_count(tmp_path: Path) -> None:
    """A file of SQLite is as large as its used pages."""
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
        connection.commit()
        full = size_of_files(str(path))
        connection.execute("DELETE FROM t")
        connection.commit()
    assert path.stat().st_size == full > size_of_files(str(path)) + 90_000


def test_objects_make_the_process_larger() -> None:
    """Ten thousand objects show in the size of the process."""
    before = size_of_process()
    kept = [b"%d of many" % number for number in range(10_000)]
    assert size_of_process() - before > 10_000 < len(kept) * 2


def test_the_wall_clock_is_set_back() -> None:
    """Setting the wall clock changes what ``time`` tells, and 0 restores its own functions."""
    true, true_ns, monotonic = time.time, time.time_ns, time.monotonic()
    try:
        set_wall_clock(86_400.0, "redicts")
        assert time.time() - true() > 86_000
        assert time.time_ns() - true_ns() > 86_000 * 10**9
        assert time.monotonic() - monotonic < 80_000
    finally:
        set_wall_clock(0.0, "redicts")
    assert (time.time, time.time_ns) == (true, true_ns)


def test_a_call_stands_still_at_each_point() -> None:
    """A paused call has not returned at any of its points, comes to each once, and goes on."""
    store = MemoryBackend()
    key = Key("v", ("a",))
    points: list[Point] = []
    outcomes: list[Outcome] = []

    def call() -> None:
        outcomes.append(store.execute(Transaction(writes=(Put(key, b"1"),))))

    with PausedCall(call, store, 20.0) as paused:
        for point in paused:
            assert not outcomes
            points.append(point)
    assert len(outcomes) == 1
    assert len(points) == len(set(points)) > 5
    assert store.execute(Transaction(checks=(Equals(key, Scope.NODE, {(): b"1"}),))).applied


def test_hooks_are_optional() -> None:
    """A harness offers no other databases, no size and no clock unless it says so."""

    class Bare(Harness):
        def open(self) -> Backend:
            return MemoryBackend()

    bare = Bare()
    assert (list(bare.databases()), bare.size(), bare.set_clock(1.0)) == ([], None, False)
