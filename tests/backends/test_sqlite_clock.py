"""The clock of a file: lives when the wall clock is set, when the machine starts again, and between processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.clock import Machine, this_machine
from redicts.core.minitransaction import Add, Put, Read
from tests.backends.sqlite_tools import Child, as_ordinary_user, entries, key, plain, run, value

DAY: int = 24 * 60 * 60 * 1000


class Model:
    """A machine whose wall clock is set, that sleeps, and that starts again, when told to."""

    def __init__(self, *, named: bool = True) -> None:
        self.wall = 1_700_000_000_000
        self.running = 5_000
        self.starts = 1
        self._named = named

    def passes(self, milliseconds: int) -> None:
        """Let time pass."""
        self.wall += milliseconds
        self.running += milliseconds

    def starts_anew(self, off: int) -> None:
        """Be off for a while."""
        self.wall += off
        self.running = 0
        self.starts += 1

    @property
    def machine(self) -> Machine:
        """What a process on it sees from now on."""
        return Machine(lambda: self.wall, lambda: self.running, f"start {self.starts}" if self._named else "")


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Name a file that is not there yet."""
    return str(tmp_path / "s.db")


@pytest.fixture
def model() -> Model:
    """Give a machine."""
    return Model()


def opened(file: str, model: Model) -> SqliteBackend:
    """Open the file by a process on the machine."""
    return SqliteBackend(file, machine=model.machine)


def ttl(store: SqliteBackend, name: str = "a") -> int | None:
    """Return what is left of a TTL, or ``None`` if the value is gone."""
    found = entries(store, Read(key(name), ttls=True))
    return found.ttls[()] if found.values else None


@pytest.mark.parametrize("step", [-400 * DAY, -1, 1, 400 * DAY])
def test_setting_the_wall_clock_changes_no_ttl(file: str, model: Model, step: int) -> None:
    """Neither a clock set forwards nor one set back makes a TTL shorter or longer, for old and new processes."""
    store = opened(file, model)
    run(store, Put(key("a"), b"1", 10_000))
    model.passes(1_000)
    model.wall += step
    late = opened(file, model)
    for each in (store, late):
        assert ttl(each) == 9_000
    run(late, Put(key("b"), b"1", 500))
    model.passes(8_999)
    assert [ttl(store), ttl(late)] == [1, 1]
    assert ttl(store, "b") is None
    model.passes(1)
    assert [ttl(store), ttl(late)] == [None, None]
    store.close()
    late.close()


def test_ttls_go_on_while_the_machine_is_off(file: str, model: Model) -> None:
    """After a new start the time that the machine was off has passed, by its wall clock."""
    store = opened(file, model)
    run(store, Put(key("a"), b"1", 10_000), Put(key("b"), b"1", 30_000))
    store.close()
    model.starts_anew(off=12_000)
    store = opened(file, model)
    assert (ttl(store), ttl(store, "b")) == (None, 18_000)
    store.close()


@pytest.mark.parametrize("named", [True, False], ids=["named starts", "nameless starts"])
def test_a_start_with_a_clock_set_back_brings_nothing_back(file: str, named: bool) -> None:
    """If the wall clock is behind after a new start, time goes on where it was: lives go on, none begins again."""
    model = Model(named=named)
    store = opened(file, model)
    run(store, Put(key("short"), b"1", 2_000), Put(key("long"), b"1", 60_000))
    model.passes(3_000)
    run(store, Put(key("b"), b"1"), Put(key("c"), b"1"))
    assert ttl(store, "short") is None
    store.close()
    model.starts_anew(off=-100 * DAY)
    store = opened(file, model)
    assert ttl(store, "short") is None
    assert ttl(store, "long") == 57_000
    model.passes(57_000)
    assert ttl(store, "long") is None
    store.close()


def test_again_and_again_set_back_ends_all_the_same(file: str, model: Model) -> None:
    """A machine without a clock of its own, which begins each start at the same time, does not make TTLs endless."""
    store = opened(file, model)
    run(store, Put(key("a"), b"1", 50_000))
    store.close()
    began = model.wall
    for _ in range(6):
        model.starts_anew(off=0)
        model.wall = began
        store = opened(file, model)
        ttl(store)
        model.passes(10_000)
        run(store, Put(key("b"), b"1", 1), Put(key("c"), b"1"))
        store.close()
    store = opened(file, model)
    assert ttl(store) is None
    store.close()


def test_the_noted_time_is_a_second_old_at_most(file: str, model: Model) -> None:
    """Who writes notes the time, though not with each write, so a set-back costs no TTL more than a second."""
    store = opened(file, model)
    run(store, Put(key("a"), b"1", 60_000))
    for _ in range(40):
        model.passes(250)
        run(store, Add(key("n"), 1))
    store.close()
    model.starts_anew(off=-DAY)
    store = opened(file, model)
    left = ttl(store)
    assert left is not None
    assert 50_000 <= left <= 51_000
    store.close()


def test_a_nameless_start_goes_on_by_the_monotonic_clock(file: str) -> None:
    """Where the system does not name its starts, setting the wall clock does nothing to a process that has begun."""
    model = Model(named=False)
    store = opened(file, model)
    run(store, Put(key("a"), b"1", 10_000))
    model.wall -= DAY
    model.passes(4_000)
    assert ttl(store) == 6_000
    store.close()
    assert ttl(store) == 6_000
    late = opened(file, model)
    left = ttl(late)
    assert left is not None
    assert left <= 10_000
    late.close()


def test_another_machine_takes_over_without_going_back(file: str, model: Model) -> None:
    """A copy that is used on another machine, whose clock is behind, goes on from the latest time that is noted."""
    store = opened(file, model)
    run(store, Put(key("a"), b"1", 10_000))
    model.passes(4_000)
    run(store, Put(key("b"), b"1", 10_000))
    store.close()
    other = Model()
    other.wall -= 7 * DAY
    other.starts = 77
    store = opened(file, other)
    assert (ttl(store), ttl(store, "b")) == (6_000, 10_000)
    store.close()


def test_a_file_that_may_only_be_read_has_a_time(tmp_path: Path, model: Model) -> None:
    """After a new start of the machine a read-only file is read by the same rules, and nothing is written."""
    file = tmp_path / "s.db"
    store = opened(str(file), model)
    run(store, Put(key("a"), b"1", 10_000), Put(key("b"), b"1"))
    store.close()
    connection = plain(file)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    model.starts_anew(off=4_000)
    os.chmod(file, 0o444)
    os.chmod(tmp_path, 0o555)
    before = file.read_bytes()

    try:
        for parent in list(tmp_path.parents)[:3]:
            os.chmod(parent, 0o755)
        assert as_ordinary_user(lambda: ttl(SqliteBackend(str(file), machine=model.machine))) == 6_000
    finally:
        os.chmod(tmp_path, 0o755)
    assert file.read_bytes() == before


def test_processes_agree_on_the_time(file: str) -> None:
    """What one process gives a TTL is seen by others, and by later ones, with what is left of that very life."""
    store = SqliteBackend(file)
    run(store, Put(key("a"), b"1", 3_600_000))
    first = ttl(store)
    second = Child(lambda: ttl(SqliteBackend(file))).result()
    third = ttl(store)
    assert first is not None
    assert third is not None
    assert first >= second >= third > 3_500_000
    store.close()


def test_processes_with_a_wall_clock_apart_agree(file: str) -> None:
    """Processes that see different wall clocks on one running machine take the same values for gone."""
    true = this_machine()
    store = SqliteBackend(file)
    run(store, Put(key("a"), b"1", 3_600_000), Put(key("gone"), b"1", 1))

    def other_wall(by: int) -> tuple[int | None, bytes | None]:
        other = SqliteBackend(file, machine=Machine(lambda: true.wall() + by, true.running, true.start))
        run(other, Put(key(f"by {by}"), b"1", 3_600_000))
        return ttl(other), value(other, "gone")

    for by in (-30 * DAY, 30 * DAY):
        left, gone = Child(lambda by=by: other_wall(by)).result()  # type: ignore[misc]
        assert 3_500_000 < left <= 3_600_000
        assert gone is None
        mine = ttl(store, f"by {by}")
        assert mine is not None
        assert 3_500_000 < mine <= 3_600_000
    store.close()


def test_this_machine_tells_its_start() -> None:
    """On Linux the start has a name, the same for all processes; the time since then goes on."""
    machine = this_machine()
    assert machine.start == Child(lambda: this_machine().start).result()
    if os.path.exists("/proc/sys/kernel/random/boot_id"):
        assert machine.start
    earlier = machine.running()
    assert 0 < earlier <= machine.running()
    assert machine.wall() > 1_600_000_000_000


def test_a_store_in_memory_minds_no_wall_clock(model: Model) -> None:
    """A store in memory goes on by itself, too."""
    store = SqliteBackend(":memory:", machine=model.machine)
    run(store, Put(key("a"), b"1", 10_000))
    model.wall -= DAY
    model.passes(4_000)
    assert ttl(store) == 6_000
    store.close()
