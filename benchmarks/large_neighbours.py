"""Leaves and locks next to large values, on every backend, compared with a store without any.

Run it from the project's folder with ``python -m benchmarks.large_neighbours``. Each backend holds one database with
large neighbours and an empty one: a leaf of 5 MB, two hundred of 100 kB, and seven hundred dicts of 16 kB that were set
whole. Calls on both alternate, and medians are compared.
"""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import redicts
from benchmarks.report import medians, options, report, row
from redicts import Database
from tests.support.executables import find_executables
from tests.support.servers import RedisServer

_MOST: Final = 1.25
"""The bound of a ratio; without neighbours the same comparison yields up to 1.1."""

_MOST_OF_A_SEARCH: Final = 1.5
"""The bound of writing a dict and of looking for a leaf that is missing. In a file that contains dicts set whole, or
long values, SQLite looks for one that the path is part of, or that is to be replaced, by one more statement for each
range of paths, however many and however large they are."""

_SEARCHES: Final = ("write a dict", "look for a leaf")


@contextmanager
def settings() -> Iterator[dict[str, tuple[dict[str, Any], dict[str, Any]]]]:
    """Yield the settings of two stores of each backend."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(RedisServer(find_executables()[-1]))
        yield {
            "memory": ({"backend": "memory"}, {"backend": "memory"}),
            "sqlite": (
                {"backend": "sqlite", "path": str(directory / "full.db")},
                {"backend": "sqlite", "path": str(directory / "empty.db")},
            ),
            "redis": (
                {"backend": "redis", "port": server.port, "database": 0},
                {"backend": "redis", "port": server.port, "database": 1},
            ),
        }


def fill(database: Database) -> None:
    """Store the neighbours, next to, before and after the paths that are measured."""
    parent = database.section("some.path")
    parent.set("large", "x" * 5_000_000)
    for number in range(200):
        parent.set(f"leaf{number:03}", "x" * 100_000)
    for number in range(500):
        parent.set(f"dict{number:03}", {f"name{name:02}": "x" * 150 for name in range(100)})
    for section in ("earlier", "there are more"):
        for number in range(100):
            database.section(section).set(f"dict{number:03}", {f"name{name:02}": "x" * 150 for name in range(100)})


def calls(database: Database) -> dict[str, Callable[[], object]]:
    """Return what is measured, by name."""
    parent = database.section("some.path")
    parent.set("leaf", 42)
    leaf, missing, lock = parent.get("leaf"), parent.get("none"), database.lock("some.path.job")

    def acquire_and_release() -> None:
        lock.acquire()
        lock.release()

    return {
        "read a leaf": leaf.val,
        "look for a leaf": missing.exists,
        "write a leaf": lambda: parent.set("leaf", 43),
        "write a dict": lambda: parent.set("two", {"a": 1, "b": 2}),
        "acquire and release": acquire_and_release,
    }


def measured(rounds: int) -> list[dict[str, Any]]:
    """Measure every backend."""
    rows = []
    with settings() as stores:
        for backend, (full, empty) in stores.items():
            with redicts.open(full) as large, redicts.open(empty) as small:
                fill(large)
                ours, theirs = calls(large), calls(small)
                for what, call in ours.items():
                    times = medians({"ours": call, "theirs": theirs[what]}, rounds)
                    most = _MOST_OF_A_SEARCH if what in _SEARCHES else _MOST
                    rows.append(row(f"{what} ({backend})", times["ours"], times["theirs"], "no neighbours", most, "us"))
    return rows


if __name__ == "__main__":
    asked = options(__doc__, 1000)
    sys.exit(report(f"next to large values, Python {platform.python_version()}", asked, measured(asked.rounds)))
