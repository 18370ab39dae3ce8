"""The ways to the store that the page on architecture shows are those that a tracer sees.

With ``REDICTS_WRITE_TABLES=1`` the tests write the page again instead of comparing it.
"""

from __future__ import annotations

import asyncio  # noqa: F401  (imported or not, it must not change the ways)
import contextvars
import inspect
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

import redicts
from redicts import Lock, Pool, Proxy, root
from redicts.backends.sqlite import poller
from redicts.core.driver import Await
from tests.support.servers import RedisServer
from tests.support.waiting import TIMEOUT

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
PACKAGE: Final = Path(redicts.__file__).parent

MOST: Final = {
    ("redis", "set"): (25, 8),
    ("redis", "val"): (9, 7),
    ("redis", "acquire that waits"): (156, 11),
    ("sqlite", "set"): (25, 9),
    ("sqlite", "val"): (5, 5),
    ("sqlite", "acquire that waits"): (125, 14),
}
"""How many calls and files each way may take. Of an acquire that waits, some calls depend on which thread reads the
notification, and on how long it takes to arrive."""


class Trace:
    """The calls of functions of this package in the thread that makes it: each entered generator counts once."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.waits = threading.Event()
        """Set when an operation that listens begins to wait."""
        self._generators: set[FrameType] = set()

    def __enter__(self) -> Trace:
        sys.setprofile(self._see)
        return self

    def __exit__(self, *details: object) -> None:
        sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        # Comprehensions and lambdas are functions in some versions of Python only.
        if event != "call" or code.co_name.startswith("<") or not code.co_filename.startswith(str(PACKAGE)):
            return
        if code.co_flags & inspect.CO_GENERATOR:
            if frame in self._generators:
                return
            self._generators.add(frame)
        call = Path(code.co_filename).relative_to(PACKAGE).as_posix(), code.co_name
        if call == ("core/driver.py", "_wait") and isinstance(frame.f_locals["request"], Await):
            self.waits.set()
        self.calls.append(call)

    @property
    def files(self) -> list[str]:
        """The files, in the order in which they are first entered."""
        return list(dict.fromkeys(file for file, _ in self.calls))

    def lines(self, *packages: str) -> Iterator[str]:
        """Yield a line for each file, of these packages only if there are any, with its functions."""
        files = [file for file in self.files if not packages or file.startswith(packages)]
        width = max(map(len, files))
        for file in files:
            yield f"{file:{width}}  {', '.join(dict.fromkeys(name for each, name in self.calls if each == file))}"


@pytest.fixture(params=["redis", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Put a store behind the pool and return its name."""
    monkeypatch.delitem(sys.modules, "trio", raising=False)  # where it is imported, a task of it may run
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("server")
        Pool().reload(cfg={"backend": "redis", "host": server.host, "port": server.port})
    else:
        # A thread of this process notifies. Only on a busy machine would a look at the file come before.
        monkeypatch.setattr(poller, "_FIRST_INTERVAL_SECS", TIMEOUT)
        Pool().reload(cfg={"backend": "sqlite", "path": str(tmp_path / "state.db")})
    yield request.param
    root().clear()
    Pool().reload(cfg={"backend": "memory"})


def shown(way: str, lines: list[str]) -> None:
    """Compare a way with the page, or write it there."""
    text = PAGE.read_text(encoding="utf-8")
    marker = re.escape(f"<!-- way: {way} -->")
    found = re.search(rf"({marker}\n\n```text\n)(.*?)(\n```)", text, re.DOTALL)
    assert found, f"the page shows no way of {way}"
    told = "\n".join(lines)
    sys.stdout.write(f"{way}\n{told}\n")
    if os.environ.get("REDICTS_WRITE_TABLES"):
        PAGE.write_text(text[: found.start(2)] + told + text[found.end(2) :], encoding="utf-8")
    assert found[2] == told or os.environ.get("REDICTS_WRITE_TABLES"), (
        f"{PAGE.name} shows another way of {way}; write it again with REDICTS_WRITE_TABLES=1"
    )


def fits(trace: Trace, store: str, way: str) -> None:
    """Insist that a way is not longer than the page promises."""
    calls, files = MOST[store, way]
    assert len(trace.calls) <= calls
    assert len(trace.files) <= files


def counted(trace: Trace) -> str:
    """Return the line that counts a way."""
    return f"{len(trace.calls)} calls in {len(trace.files)} files"


def traced_wait(lock: Lock) -> Trace:
    """Acquire a lock that another thread holds until this thread waits, and release it."""
    held, trace = threading.Event(), Trace()

    def hold() -> None:
        with Lock(Pool(), "garage.car"):
            held.set()
            assert trace.waits.wait(TIMEOUT)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(TIMEOUT)
    with trace:
        lock.acquire()
    lock.release()
    thread.join()
    return trace


def test_the_page_shows_the_way_of_a_set(store: str) -> None:
    """A dict of two leaves is set: from ``Proxy.set`` to the store and back."""
    car = Proxy("garage.car")
    for _ in range(3):
        car.set("paint", {"colour": "red", "coats": 2})
    with Trace() as trace:
        car.set("paint", {"colour": "blue", "coats": 3})
    fits(trace, store, "set")
    shown(f"{store}, set", [*trace.lines(), counted(trace)])


def test_the_page_shows_the_way_of_a_val(store: str) -> None:
    """A leaf is read: from ``Proxy.val`` to the store and back."""
    wheels = Proxy("garage.car.wheels")
    root().set("garage.car.wheels", 4)
    for _ in range(3):
        wheels.val()
    with Trace() as trace:
        assert wheels.val() == 4
    fits(trace, store, "val")
    shown(f"{store}, val", [*trace.lines(), counted(trace)])


def test_the_page_shows_the_way_of_an_acquire_that_waits(store: str) -> None:
    """A thread acquires a lock that another thread holds and releases meanwhile; the process has waited before."""
    lock = Lock(Pool(), "garage.car")
    # On a busy machine the wait may last until a heartbeat, so the shortest way counts.
    # A context of its own is that of no task that another test ran.
    context = contextvars.Context()
    trace = min([context.run(traced_wait, lock) for _ in range(5)], key=lambda each: len(each.calls))
    fits(trace, store, "acquire that waits")
    # What a backend does depends on the thread that reads the notification.
    shown("acquire that waits", list(trace.lines("api/", "locks/", "core/driver", "core/locks/")))
