"""A poller rests while its file is quiet: the kernel tells of the next write, and nobody looks before."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from redicts.backends.sqlite import file_events, poller
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.file_events import Alarm, FileEvents, _inotify
from redicts.backends.sqlite.notifications import SqliteListener
from redicts.core.listener import Listener
from redicts.core.minitransaction import Put
from tests.backends.sqlite_tools import TIMEOUT, Child, key, run, sql
from tests.support.waiting import eventually

PATH = ("a",)
WRITE = "INSERT OR REPLACE INTO entries VALUES (x'3000', x'', NULL)"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of files without a descriptor each")


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rest soon, and then look only after an event. Give a list that grows with each look."""
    counted: list[int] = []
    look = poller.DataVersionPoller.look

    def counting(self: poller.DataVersionPoller) -> poller.News:
        counted.append(1)
        return look(self)

    monkeypatch.setattr(poller, "_LIVELY_SECS", 0.05)
    monkeypatch.setattr(poller, "_LONGEST_REST_SECS", 10 * TIMEOUT)
    monkeypatch.setattr(poller.DataVersionPoller, "look", counting)
    return counted


@pytest.fixture
def resting(file: Path) -> Iterator[Callable[[], SqliteListener]]:
    """Give a function that returns a listener to changes, whose poller rests."""
    store = SqliteBackend(str(file))
    run(store, Put(key(*PATH), b"1"))
    listener = store.listen_to_changes("listener/1", PATH)

    def settle() -> SqliteListener:
        eventually(lambda: not listener.wait(0.1) and is_resting(listener), "the poller rests")
        return listener

    yield settle
    listener.close()
    store.close()


def is_told(listener: Listener) -> bool:
    """Wait for a notification, and return whether it ended the wait."""
    began = monotonic()
    return listener.wait(TIMEOUT) and monotonic() < began + TIMEOUT


def is_resting(listener: Listener) -> bool:
    """Return whether the poller of a listener waits for an event."""
    assert isinstance(listener, SqliteListener)
    found = listener._listeners._poller
    assert found is not None
    return found.is_resting


def write(file: Path) -> None:
    """Write as another program does."""
    sql(file, WRITE)


def replace(file: Path) -> None:
    """Put another store in the place of one."""
    other = file.with_name("other.db")
    store = SqliteBackend(str(other))
    run(store, Put(key(*PATH), b"other"))
    store.close()
    other.replace(file)


def move(file: Path) -> None:
    """Give a store another name."""
    file.replace(file.with_name("moved.db"))


@pytest.mark.parametrize("change", [write, replace, move, Path.unlink])
def test_each_change_ends_a_rest(
    file: Path, resting: Callable[[], SqliteListener], change: Callable[[Path], object]
) -> None:
    """A write of another program, another file in its place, its move and its deletion are told, again and again."""
    for _ in range(2):
        listener = resting()
        change(file)
        assert is_told(listener)


def test_nobody_looks_at_a_quiet_file(
    resting: Callable[[], SqliteListener], looks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing is written, a wait makes no look, and sleeps once, for as long as it is to last."""
    listener = resting()
    rests: list[float] = []
    rest = FileEvents.wait

    def counted(self: FileEvents, alarm: Alarm, seconds: float) -> bool:
        rests.append(seconds)
        return rest(self, alarm, seconds)

    monkeypatch.setattr(FileEvents, "wait", counted)
    looks.clear()
    assert not listener.wait(0.3)
    assert looks == []
    assert len(rests) == 1


def test_a_rest_is_as_long_as_it_is_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is asked to wait for so many milliseconds, and no file that has changed is one."""
    asked: list[float] = []

    class Poll:
        def register(self, *_: int) -> None: ...

        def poll(self, milliseconds: float) -> list[tuple[int, int]]:
            asked.append(milliseconds)
            return []

    events = FileEvents()
    events.have_come(str(tmp_path))
    monkeypatch.setattr(select, "poll", Poll)
    assert events.wait(Alarm(), 0.25) is False
    assert asked == [250]
    events.close()


def open_files() -> list[str]:
    """Return what the descriptors of this process lead to."""
    numbers = [each for each in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{each}")]
    return sorted(os.readlink(f"/proc/self/fd/{each}") for each in numbers)


def test_no_descriptor_stays(resting: Callable[[], SqliteListener], tmp_path: Path) -> None:
    """Rests, and events that are forgotten, leave no open descriptor."""
    listener = resting()
    listener.wait(0.01)
    before = open_files()
    for _ in range(5):
        listener.wait(0.01)
        events = FileEvents()
        assert events.have_come(str(tmp_path))
        events.close()
        assert events.have_come(str(tmp_path))
        del events
    assert open_files() == before
    assert not [each for each in before if "eventfd" in each]


def test_looks_go_on_after_an_event(
    file: Path, resting: Callable[[], SqliteListener], looks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a write, looks go on for a while: the kernel tells of it before others see the commit."""
    listener = resting()
    monkeypatch.setattr(poller, "_LIVELY_SECS", 10 * TIMEOUT)
    sql(file, WRITE)
    assert is_told(listener)
    looks.clear()
    eventually(lambda: not listener.wait(0.1) and len(looks) >= 3, "looks go on")
    assert not is_resting(listener)


def test_this_process_ends_a_rest(file: Path, resting: Callable[[], SqliteListener]) -> None:
    """A thread, and a signal handler that interrupts the rest and waits itself, notify the one that rests."""
    listener = resting()
    store = SqliteBackend(str(file))

    def handle(*_: object) -> None:
        with store.listen("listener/2") as inner:
            inner.wait(0.01)
            listener.notify()
            inner.wait(0.01)

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        assert is_told(listener)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        store.close()


def test_a_child_has_events_of_its_own(file: Path, resting: Callable[[], SqliteListener]) -> None:
    """A child that listens takes no event from its parent, and gets its own."""
    listener = resting()

    def in_child() -> bool:
        store = SqliteBackend(str(file))
        with store.listen_to_changes("listener/2", PATH) as inner:
            eventually(lambda: not inner.wait(0.1) and is_resting(inner), "the child rests")
            os.write(told[1], b"x")
            return is_told(inner)

    told = os.pipe()
    child = Child(in_child)
    os.read(told[0], 1)
    resting()
    sql(file, WRITE)
    assert is_told(listener)
    assert child.result()
    for descriptor in told:
        os.close(descriptor)


@pytest.mark.parametrize("missing", ["inotify", "ctypes", "descriptors"])
def test_without_events_it_is_looked_at(
    file: Path,
    resting: Callable[[], SqliteListener],
    looks: list[int],
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
) -> None:
    """Where the system has no events of files, or gives no more of them, a write is found by some looks a second."""
    answer = None if missing == "inotify" else (lambda _: -1, lambda *_: -1)
    monkeypatch.setattr(file_events, "_inotify", _inotify.__wrapped__ if missing == "ctypes" else lambda: answer)
    monkeypatch.setitem(sys.modules, "ctypes", None)
    store = SqliteBackend(str(file))
    with store.listen_to_changes("listener/2", PATH) as listener:
        eventually(lambda: not listener.wait(0.1), "the first look has passed")
        assert not is_resting(listener)
        looks.clear()
        listener.wait(0.3)
        assert len(looks) < 20
        sql(file, WRITE)
        assert is_told(listener)
    store.close()


def test_a_process_without_free_descriptors_waits(
    resting: Callable[[], SqliteListener], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait that gets no descriptor raises nothing, and a notification of this process ends it."""
    listener = resting()

    refused: list[int] = []

    def refuse(*_: int) -> int:
        refused.append(1)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "eventfd", refuse)
    assert not listener.wait(0.01)
    assert refused == [1], "it does not sleep"
    listener.notify()
    assert is_told(listener)


def test_events_of_a_file(tmp_path: Path) -> None:
    """A file may have changed at the first question, after a write, and when another one has its name; else not.

    The first question after a close is the first one again.
    """
    file, events, alarm = tmp_path / "file", FileEvents(), Alarm()
    file.write_text("1")
    assert events.have_come(str(file))
    assert not events.have_come(str(file))
    assert not events.wait(alarm, 0)
    file.write_text("2")
    assert events.wait(alarm, TIMEOUT)
    assert events.have_come(str(file))
    assert not events.have_come(str(file))
    other = tmp_path / "other"
    other.write_text("3")
    other.replace(file)
    assert events.have_come(str(file))
    events.have_come(str(file))
    assert not events.have_come(str(file))
    file.unlink()
    assert events.have_come(str(file))
    assert events.have_come(str(file))
    alarm.ring()
    events.close()
    events.close()
    file.write_text("4")
    assert events.have_come(str(file))
    assert not events.have_come(str(file))
    assert not events.wait(alarm, TIMEOUT)
    events.close()
