"""Crashes: whatever is killed, and wherever the log ends, all that was committed is there, and no half of a write."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any, Final

import pytest

from redicts import LockError, Pool, Proxy
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.files import Durability
from redicts.core.locks.acquisition import Timing
from redicts.core.minitransaction import Add, Delete, Put, Scope
from tests.backends.sqlite_tools import Child, count, key, killed, run, tree, value
from tests.backends.test_sqlite_processes import is_sound
from tests.faults.actions import begin

LONG: Final = os.environ.get("REDICTS_TESTS") == "long"
COUNTS: Final = 100_000 if LONG else 1_000
PATIENT: Final = 3_000 if LONG else 120
ROUNDS: Final = 300 if LONG else 40
PROCESSES: Final = 4
LEAVES: Final = 600

TIMING: Final = Timing(waiter_ttl=0.4, heartbeat=0.1, first_heartbeat=0.05)
"""With one killed every second, and most of them waiting, a dead waiter must not be in the way for longer than that."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Name a file that is not there yet."""
    return tmp_path / "s.db"


class Counter:
    """A process that counts under a lock, and tells how many of its counts it knows to be written."""

    def __init__(self, file: Path, number: int) -> None:
        self.name = f"process {number}"
        self._reading, self._writing = os.pipe()
        self._child = Child(lambda: self._count(file))
        os.close(self._writing)
        self._ended = False

    def _count(self, file: Path) -> None:
        begin({"backend": "sqlite", "path": file, "busy_timeout_secs": 60}, TIMING, deaf=False)
        place = Proxy("counts", lock_acquire_timeout=60, lock_expire_timeout=0.5)
        mine = 0
        while True:
            try:
                with place:
                    total = place.get("total").val(0)
                    if total >= COUNTS:
                        break
                    with place.transaction() as changes:
                        changes.set("total", total + 1)
                        changes.set(f"by.{self.name}", mine + 1)
            except LockError:
                # Its lease ran out while it did not run, and nothing was written; or that happened to another one.
                mine = place.get(f"by.{self.name}").val(0)
                continue
            mine += 1
            os.write(self._writing, b".")

    def dies(self) -> None:
        """Kill it."""
        os.kill(self._child.pid, signal.SIGKILL)
        with pytest.raises(AssertionError, match="without an answer"):
            self._child.result()

    def ends(self) -> None:
        """Wait until it has counted to the end."""
        self._child.result(within=PATIENT)

    @property
    def known(self) -> int:
        """How many counts it has told to be written; ask after its end."""
        found = 0
        while part := os.read(self._reading, 65536):
            found += len(part)
        os.close(self._reading)
        return found


@pytest.mark.timeout(2 * PATIENT)
def test_counting_under_locks_stays_exact_while_processes_are_killed(file: Path) -> None:
    """Four processes count under one lock and one is killed again and again: no count is lost and none made twice."""
    watching = SqliteBackend(str(file))
    counting = [Counter(file, number) for number in range(PROCESSES)]
    dead: list[Counter] = []
    deadline = time.monotonic() + PATIENT
    seen = 0
    while seen < COUNTS * 9 // 10 or not dead:
        assert time.monotonic() < deadline, "they do not get on"
        time.sleep(1)
        seen = int(value(watching, "counts", "total") or b"0")
        if seen >= COUNTS:
            break
        victim = counting.pop(random.randrange(PROCESSES))
        victim.dies()
        dead.append(victim)
        counting.append(Counter(file, PROCESSES + len(dead)))
    for each in counting:
        each.ends()
    watching.close()
    Pool().reload(cfg={"backend": "sqlite", "path": file})
    counts: Any = Proxy("counts").val()
    Pool().reload(cfg={"backend": "memory"})
    assert dead
    assert counts["total"] == COUNTS
    assert sum(counts["by"].values()) == COUNTS
    for each in (*counting, *dead):
        known, written = each.known, counts["by"].get(each.name, 0)
        # One that is killed may have written what it could not tell any more.
        assert known <= written <= known + (each in dead)
    assert is_sound(file)


def write_large(file: Path, writing: int, durability: Durability) -> None:
    """Replace many leaves by others in each transaction, and tell the number of each when it is committed."""
    store = SqliteBackend(str(file), busy_timeout_secs=60, durability=durability)
    number = count(store, "number")
    while True:
        number += 1
        text = b"%d " % number * 40
        leaves = [Put(key("large", f"{number % 3}", str(leaf)), text) for leaf in range(LEAVES)]
        run(store, Delete(key("large"), Scope.SUBTREE), *leaves, Add(key("number"), 1))
        os.write(writing, b"%d\n" % number)


def whole(store: SqliteBackend) -> int:
    """Return the number of the last write that is there, after a look whether all of it is and nothing else."""
    number = count(store, "number")
    assert list(tree(store, "large").values()) == [b"%d " % number * 40] * (LEAVES if number else 0)
    return number


@pytest.mark.timeout(600)
@pytest.mark.parametrize("durability", list(Durability), ids=[each.value for each in Durability])
def test_a_writer_killed_at_any_point_leaves_what_was_committed(durability: Durability, file: Path) -> None:
    """Kill a writer of large transactions at random moments, with nobody else there: the file opens, and is whole."""
    SqliteBackend(str(file)).close()
    for _ in range(ROUNDS):
        committed = killed(lambda writing: write_large(file, writing, durability))
        store = SqliteBackend(str(file))
        assert whole(store) in {committed, committed + 1}
        store.close()
    assert is_sound(file)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("ending", ["cut off", "zeros", "garbage"])
def test_a_torn_log_holds_whole_writes(ending: str, file: Path, tmp_path: Path) -> None:
    """Wherever the log breaks off, or goes on with what was never written, the file holds a whole number of writes."""
    store = SqliteBackend(str(file))
    run(store, Add(key("number"), 0))
    store.close()
    store = SqliteBackend(str(file))
    for number in range(1, 5):
        text = b"%d " % number * 40
        run(store, *[Put(key("large", str(leaf)), text) for leaf in range(LEAVES)], Add(key("number"), 1))
    log = Path(f"{file}-wal").read_bytes()
    main = file.read_bytes()
    store.close()
    points = [*sorted(random.Random(5).sample(range(len(log)), 60)), len(log)]
    found = []
    for point in points:
        place = tmp_path / "torn"
        place.mkdir()
        rest = len(log) - point
        tail = {"cut off": b"", "zeros": bytes(rest), "garbage": random.Random(point).randbytes(rest)}[ending]
        (place / "s.db").write_bytes(main)
        (place / "s.db-wal").write_bytes(log[:point] + tail)
        torn = SqliteBackend(str(place / "s.db"))
        found.append(whole(torn))
        # It goes on from there.
        run(torn, Add(key("n"), 1))
        torn.close()
        assert is_sound(place / "s.db")
        shutil.rmtree(place)
    assert found == sorted(found)
    assert found[-1] == 4
    assert len(set(found)) >= 4
