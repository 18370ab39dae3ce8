"""The clock of a file: TTLs when the wall clock is set, when the machine reboots, and between processes."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from redicts.backends.sqlite import clock, statements
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.clock import FileClock, Machine, this_machine
from redicts.backends.sqlite.files import open_store
from redicts.core.minitransaction import Add, Put, Read
from redicts.errors import StoreBusy
from tests.backends.sqlite_tools import Child, as_ordinary_user, entries, key, plain, run, sql, value

DAY: int = 24 * 60 * 60 * 1000


class Model:
    """A machine whose clocks and reboots a test controls, in milliseconds."""

    def __init__(self, *, named: bool = True) -> None:
        self.wall = 1_700_000_000_000
        self.running = 5_000
        self.boots = 1
        self._named = named

    def passes(self, milliseconds: int) -> None:
        """Let time pass."""
        self.wall += milliseconds
        self.running += milliseconds

    def reboots(self, off: int) -> None:
        """Be off for a while, and boot again."""
        self.wall += off
        self.running = 0
        self.boots += 1

    @property
    def machine(self) -> Machine:
        """The clocks that a process on it reads from now on."""
        boot = f"boot {self.boots}" if self._named else ""
        return Machine(lambda: self.wall * 1_000_000, lambda: self.running * 1_000_000, boot)


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Name a file that does not exist."""
    return str(tmp_path / "s.db")


@pytest.fixture
def model() -> Model:
    """Give a machine."""
    return Model()


def opened(file: str, model: Model) -> SqliteBackend:
    """Open the file in a process on the machine."""
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


def test_ttls_elapse_while_the_machine_is_off(file: str, model: Model) -> None:
    """After a reboot the time in which the machine was off has passed, by its wall clock."""
    store = opened(file, model)
    run(store, Put(key("a"), b"1", 10_000), Put(key("b"), b"1", 30_000))
    store.close()
    model.reboots(off=12_000)
    store = opened(file, model)
    assert (ttl(store), ttl(store, "b")) == (None, 18_000)
    store.close()


@pytest.mark.parametrize("named", [True, False], ids=["identified boots", "anonymous boots"])
def test_a_boot_with_a_clock_set_back_revives_nothing(file: str, named: bool) -> None:
    """If the wall clock is behind after a reboot, time continues where it was: TTLs continue, none starts again."""
    model = Model(named=named)
    store = opened(file, model)
    run(store, Put(key("short"), b"1", 2_000), Put(key("long"), b"1", 60_000))
    model.passes(3_000)
    run(store, Put(key("b"), b"1"), Put(key("c"), b"1"))
    assert ttl(store, "short") is None
    store.close()
    model.reboots(off=-100 * DAY)
    store = opened(file, model)
    assert ttl(store, "short") is None
    assert ttl(store, "long") == 57_000
    model.passes(57_000)
    assert ttl(store, "long") is None
    store.close()


def test_ttls_end_though_each_boot_sets_the_clock_back(file: str, model: Model) -> None:
    """TTLs end on a machine without a battery, whose wall clock shows the same time after each boot."""
    store = opened(file, model)
    run(store, Put(key("a"), b"1", 50_000))
    store.close()
    began = model.wall
    for _ in range(6):
        model.reboots(off=0)
        model.wall = began
        store = opened(file, model)
        ttl(store)
        model.passes(10_000)
        run(store, Put(key("b"), b"1", 1), Put(key("c"), b"1"))
        store.close()
    store = opened(file, model)
    assert ttl(store) is None
    store.close()


def test_the_recorded_time_is_at_most_a_second_old(file: str, model: Model) -> None:
    """Writers record the time, though not with each write, so a clock set back extends no TTL by more than a second."""
    store = opened(file, model)
    run(store, Put(key("a"), b"1", 60_000))
    for _ in range(40):
        model.passes(250)
        run(store, Add(key("n"), 1))
    store.close()
    model.reboots(off=-DAY)
    store = opened(file, model)
    left = ttl(store)
    assert left is not None
    assert 50_000 <= left <= 51_000
    store.close()


def test_anonymous_boots_use_the_monotonic_clock(file: str) -> None:
    """Where the system does not identify its boots, setting the wall clock affects no running process."""
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


def test_another_machine_continues_from_the_recorded_time(file: str, model: Model) -> None:
    """A copy used on another machine, whose clock is behind, continues from the latest recorded time."""
    store = opened(file, model)
    run(store, Put(key("a"), b"1", 10_000))
    model.passes(4_000)
    run(store, Put(key("b"), b"1", 10_000))
    store.close()
    other = Model()
    other.wall -= 7 * DAY
    other.boots = 77
    store = opened(file, other)
    assert (ttl(store), ttl(store, "b")) == (6_000, 10_000)
    store.close()


def test_time_does_not_run_back_when_another_machine_sets_it(file: str, model: Model) -> None:
    """If another machine with a clock that is behind opens the file meanwhile, this process continues its own time."""
    run(opened(file, model), Put(key("a"), b"1", 10_000))
    store = opened(file, model)
    assert ttl(store) == 10_000
    model.passes(5_000)
    model.wall -= DAY
    other = Model()
    other.wall, other.boots = model.wall, 77
    run(opened(file, other), Put(key("b"), b"1"))
    store.close()
    assert ttl(store) == 5_000


def test_the_recorded_time_does_not_run_back(file: str) -> None:
    """A process whose clock is behind does not record its time over a later one, from which the next one continues."""
    model = Model(named=False)
    ahead = opened(file, model)
    run(ahead, Put(key("a"), b"1", 1_000))
    model.passes(900)
    model.wall -= DAY
    behind = opened(file, model)
    assert ttl(behind) == 1_000
    model.passes(200)
    run(ahead, Put(key("b"), b"1", 10_000))
    run(behind, Put(key("c"), b"1"))
    assert (ttl(behind, "b"), ttl(opened(file, model), "b")) == (10_900, 10_000)


def test_a_new_boot_waits_until_it_may_record_its_time(file: str, model: Model) -> None:
    """The first process of a boot does not use a time of its own while another program has locked the file."""
    store = opened(file, model)
    run(store, Put(key("a"), b"1"))
    store.close()
    model.reboots(off=DAY)
    other = plain(file)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy):
        value(SqliteBackend(file, busy_timeout_secs=0.01, machine=model.machine), "a")
    other.execute("ROLLBACK")
    other.close()
    assert value(opened(file, model), "a") == b"1"


def test_a_read_only_file_has_a_time(public: Path, model: Model) -> None:
    """After a reboot a read-only file is read by the same rules, and nothing is written."""
    file = public / "s.db"
    store = opened(str(file), model)
    run(store, Put(key("a"), b"1", 10_000), Put(key("b"), b"1"))
    store.close()
    sql(file, "PRAGMA journal_mode = DELETE")
    model.reboots(off=4_000)
    os.chmod(file, 0o444)
    os.chmod(public, 0o555)
    before = file.read_bytes()
    assert as_ordinary_user(lambda: ttl(SqliteBackend(str(file), machine=model.machine))) == 6_000
    os.chmod(public, 0o755)
    assert file.read_bytes() == before


def test_processes_with_different_wall_clocks_agree(file: str) -> None:
    """Processes that see different wall clocks on one running machine find the same values expired."""
    true = this_machine()
    store = SqliteBackend(file)
    run(store, Put(key("a"), b"1", 3_600_000), Put(key("gone"), b"1", 1))

    def other_wall(by: int) -> tuple[int | None, bytes | None]:
        other = SqliteBackend(file, machine=Machine(lambda: true.wall() + by * 1_000_000, true.running, true.boot))
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


def test_this_machine_identifies_its_boot() -> None:
    """On Linux the boot has a name, the same for all processes, and the time since then advances."""
    machine = this_machine()
    assert machine.boot == Child(lambda: this_machine().boot).result()
    if os.path.exists("/proc/sys/kernel/random/boot_id"):
        assert machine.boot
    earlier = machine.running()
    assert 0 < earlier <= machine.running()
    assert machine.wall() > 1_600_000_000 * 10**9


def test_a_boot_is_named_with_its_time_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with a time since boot of its own is another boot; a boot without a name has none by it."""
    boot, namespace = tmp_path / "boot", tmp_path / "namespace"
    boot.write_text("b1\n")
    namespace.symlink_to("time:[1]")
    monkeypatch.setattr(clock, "_BOOT_ID", boot)
    monkeypatch.setattr(clock, "_TIME_NAMESPACE", str(namespace))
    assert this_machine().boot == "b1 time:[1]"
    namespace.unlink()
    assert this_machine().boot == "b1"
    namespace.symlink_to("time:[1]")
    boot.unlink()
    assert this_machine().boot == ""


@pytest.mark.skipif(not os.path.exists("/proc/self/ns/time"), reason="the system has no time namespaces")
def test_the_time_since_boot_includes_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux the running time is that of the clock which goes on while the machine sleeps, in this namespace."""
    machine = this_machine()
    assert machine.boot.endswith(os.readlink("/proc/self/ns/time"))
    monkeypatch.setattr(time, "monotonic_ns", lambda: 0)
    monkeypatch.setattr(time, "clock_gettime_ns", {time.CLOCK_BOOTTIME: 7}.__getitem__)
    assert this_machine().running() == 7


def test_a_store_in_memory_ignores_the_wall_clock(model: Model) -> None:
    """Setting the wall clock does not affect a store in memory."""
    store = SqliteBackend(":memory:", machine=model.machine)
    run(store, Put(key("a"), b"1", 10_000))
    model.wall -= DAY
    model.passes(4_000)
    assert ttl(store) == 6_000
    store.close()


class ReadOnlyMeanwhile(sqlite3.Connection):
    """A connection to a file that is found to be read-only when the time is recorded: it has been moved since."""

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        """Refuse to record the time."""
        if sql == statements.SET_CLOCK:
            raise sqlite3.OperationalError("attempt to write a readonly database")
        return super().execute(sql, *arguments)


def test_a_connection_is_opened_without_a_transaction(file: str, model: Model) -> None:
    """If a file becomes read-only while its time is recorded, the time is read, and no transaction stays open."""
    open_store(file).close()
    connection = sqlite3.connect(file, factory=ReadOnlyMeanwhile, isolation_level=None)
    clock = FileClock(model.machine)
    clock.begin(connection)
    assert (connection.in_transaction, clock.now()) == (False, model.wall)
    connection.close()
