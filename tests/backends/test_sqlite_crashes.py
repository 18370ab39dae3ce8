"""Crashes: after any kill, and wherever the log ends, exactly the committed transactions are there."""

from __future__ import annotations

import os
import random
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from redicts import LockError, Pool, Proxy
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.files import Durability
from redicts.core.locks.acquisition import Timing
from redicts.core.minitransaction import Add, Delete, Put, Scope
from tests.backends.sqlite_tools import Child, count, is_sound, key, killed, run, tree, value, wait_for_kill
from tests.faults.actions import begin
from tests.support.waiting import eventually

LONG: Final = os.environ.get("REDICTS_TESTS") == "long"
COUNTS: Final = 100_000 if LONG else 600
KILLS: Final = 100 if LONG else 5
LIMIT_SECS: Final = 3_000 if LONG else 120
ROUNDS: Final = 300 if LONG else 20
PROCESSES: Final = 4
LEAVES: Final = 600

TIMING: Final = Timing(waiter_ttl=0.4, heartbeat=0.1, first_heartbeat=0.05)
"""The processes that are killed usually wait, so a dead waiter must not block others for long."""


class Counter:
    """A process that counts under a lock, and reports each count that it knows to be written."""

    def __init__(self, file: Path, number: int) -> None:
        self.name = f"process {number}"
        self._reading, self._writing = os.pipe()
        self._child = Child(lambda: self._count(file))
        os.close(self._writing)
        self._ended = False

    def _count(self, file: Path) -> None:
        begin({"backend": "sqlite", "path": file, "busy_timeout_secs": 60}, TIMING, deaf=False)
        counts = Proxy("counts", lock_acquire_timeout=60, lock_expire_timeout=0.5)
        mine = 0
        while True:
            try:
                with counts:
                    total = counts.get("total").val(0)
                    if total >= COUNTS:
                        break
                    with counts.transaction() as changes:
                        changes.set("total", total + 1)
                        changes.set(f"by.{self.name}", mine + 1)
            except LockError:
                # The lease of this process or of another one expired while it did not run; nothing was written.
                mine = counts.get(f"by.{self.name}").val(0)
                continue
            mine += 1
            os.write(self._writing, b".")

    def kill(self) -> None:
        """Kill the process."""
        os.kill(self._child.pid, signal.SIGKILL)
        wait_for_kill(self._child)

    def join(self) -> None:
        """Wait until it has counted to the end."""
        self._child.result(within=LIMIT_SECS)

    @property
    def known(self) -> int:
        """How many counts it has reported; ask after its end."""
        found = 0
        while part := os.read(self._reading, 65536):
            found += len(part)
        os.close(self._reading)
        return found


def has_counted(store: SqliteBackend, due: int) -> bool:
    """Tell whether the processes have counted so far."""
    return int(value(store, "counts", "total") or b"0") >= due


@pytest.mark.timeout(2 * LIMIT_SECS)
def test_counting_under_locks_stays_exact_while_processes_are_killed(file: Path) -> None:
    """Four processes count under one lock while one after the other is killed: no count is lost or repeated."""
    watching = SqliteBackend(str(file))
    counting = [Counter(file, number) for number in range(PROCESSES)]
    dead: list[Counter] = []
    for number in range(1, KILLS + 1):
        due = COUNTS * number // (KILLS + 2)
        eventually(partial(has_counted, watching, due), "the processes make progress", within=LIMIT_SECS, every=0.001)
        victim = counting.pop(random.randrange(PROCESSES))
        victim.kill()
        dead.append(victim)
        counting.append(Counter(file, PROCESSES + len(dead)))
    for each in counting:
        each.join()
    watching.close()
    Pool().reload(cfg={"backend": "sqlite", "path": file})
    counts: Any = Proxy("counts").val()
    Pool().reload(cfg={"backend": "memory"})
    assert counts["total"] == COUNTS
    assert sum(counts["by"].values()) == COUNTS
    for each in (*counting, *dead):
        known, written = each.known, counts["by"].get(each.name, 0)
        # A killed process may have written a count that it did not report.
        assert known <= written <= known + (each in dead)
    assert is_sound(file)


def write_large(file: Path, writing: int, durability: Durability) -> None:
    """Replace many leaves by others in each transaction, and write its number after the commit."""
    store = SqliteBackend(str(file), busy_timeout_secs=60, durability=durability)
    number = count(store, "number")
    while True:
        number += 1
        text = b"%d " % number * 40
        leaves = [Put(key("large", f"{number % 3}", str(leaf)), text) for leaf in range(LEAVES)]
        run(store, Delete(key("large"), Scope.SUBTREE), *leaves, Add(key("number"), 1))
        os.write(writing, b"%d\n" % number)


def whole(store: SqliteBackend) -> int:
    """Return the number of the last write in the store, after checking that exactly this write is there."""
    number = count(store, "number")
    assert list(tree(store, "large").values()) == [b"%d " % number * 40] * (LEAVES if number else 0)
    return number


@pytest.mark.timeout(600)
@pytest.mark.parametrize("durability", list(Durability), ids=[each.value for each in Durability])
def test_a_writer_killed_at_any_point_leaves_what_was_committed(durability: Durability, file: Path) -> None:
    """After a kill at a random time of the only process, the file opens with whole transactions."""
    SqliteBackend(str(file)).close()
    for _ in range(ROUNDS):
        committed = killed(lambda writing: write_large(file, writing, durability))
        store = SqliteBackend(str(file))
        assert whole(store) in {committed, committed + 1}
        store.close()
    assert is_sound(file)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("ending", ["cut off", "zeros", "garbage"])
def test_a_torn_log_contains_whole_writes(ending: str, file: Path, tmp_path: Path) -> None:
    """Wherever the log ends, or continues with other bytes, the store contains a whole number of writes."""
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
        directory = tmp_path / "torn"
        directory.mkdir()
        rest = len(log) - point
        tail = {"cut off": b"", "zeros": bytes(rest), "garbage": random.Random(point).randbytes(rest)}[ending]
        (directory / "s.db").write_bytes(main)
        (directory / "s.db-wal").write_bytes(log[:point] + tail)
        torn = SqliteBackend(str(directory / "s.db"))
        found.append(whole(torn))
        # The store is usable.
        run(torn, Add(key("n"), 1))
        torn.close()
        assert is_sound(directory / "s.db")
        shutil.rmtree(directory)
    assert found == sorted(found)
    assert found[-1] == 4
    assert len(set(found)) >= 4
