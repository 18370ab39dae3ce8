"""Values in a SQLite file beside ``diskcache`` and ``sqlitedict``, which keep theirs in one too.

Run it from the project's folder with ``python -m benchmarks.embedded``; it needs both libraries, see
``requirements-test.txt``. All three write to files of the same directory, with a write-ahead log and at the same
durability: what each promises after a commit is made the same by ``PRAGMA synchronous``. A dict of a hundred leaves is a
hundred rows in redicts, each to be reached by its path, and one opaque value in the others.
"""

from __future__ import annotations

import platform
import sqlite3
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import diskcache
import sqlitedict

from benchmarks.report import medians, options, row, told
from redicts import Pool, section

LEAVES = {f"name{number:02}": number for number in range(100)}
FIRST = dict.fromkeys(LEAVES, 1)

LEVELS: Final = {"process": "NORMAL", "machine": "FULL"}
"""Each durability of redicts, and the ``PRAGMA synchronous`` that promises the same."""


class Rivals(NamedTuple):
    """The two other libraries, opened."""

    cache: Any
    mapping: Any


def open_rivals(directory: Path, synchronous: str, stack: ExitStack) -> Rivals:
    """Open both such that they promise what ``synchronous`` does, and close them when the stack ends."""
    settings = {"sqlite_synchronous": {"NORMAL": 1, "FULL": 2}[synchronous], "sqlite_journal_mode": "wal"}
    cache = diskcache.Cache(str(directory / "diskcache"), eviction_policy="none", **settings)
    stack.callback(cache.close)
    mapping = sqlitedict.SqliteDict(str(directory / "sqlitedict.db"), autocommit=True, journal_mode="WAL")
    # It switches this off for itself, and has no setting for it.
    mapping.conn.execute(f"PRAGMA synchronous = {synchronous}")
    stack.callback(mapping.close)
    for ask, answer in (("synchronous", {"NORMAL": 1, "FULL": 2}[synchronous]), ("journal_mode", "wal")):
        assert mapping.conn.select_one(f"PRAGMA {ask}") == (answer,)
        assert cache._sql(f"PRAGMA {ask}").fetchone() == (answer,)
    return Rivals(cache, mapping)


def measured(durability: str, rounds: int) -> list[dict[str, Any]]:
    """Measure leaves and a dict at one durability, beside both rivals."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        cache, mapping = open_rivals(directory, LEVELS[durability], stack)
        Pool().reload(cfg={"backend": "sqlite", "path": directory / "redicts.db"})
        stack.callback(Pool().reload, {"backend": "memory"})
        place, branch = section("some.path.to"), section("some.dicts")
        proxy, numbers = place.get("leaf"), branch.get("read")
        place.set("leaf", 42)
        branch.set("read", LEAVES)
        for rival in (cache, mapping):
            rival["some.path.to.leaf"] = 42
            rival["some.dicts.read"] = LEAVES
            rival["some.dicts.written"] = LEAVES

        def write_dict() -> None:
            branch.set("written", LEAVES)

        times = medians(
            {
                "read leaf": proxy.val,
                "read leaf diskcache": lambda: cache["some.path.to.leaf"],
                "read leaf sqlitedict": lambda: mapping["some.path.to.leaf"],
                "write leaf": lambda: place.set("leaf", 42),
                "write leaf diskcache": lambda: cache.set("some.path.to.leaf", 42),
                "write leaf sqlitedict": lambda: mapping.__setitem__("some.path.to.leaf", 42),
                "read dict": numbers.val,
                "read dict diskcache": lambda: cache["some.dicts.read"],
                "read dict sqlitedict": lambda: mapping["some.dicts.read"],
                "write dict": write_dict,
                "write dict diskcache": lambda: cache.set("some.dicts.written", LEAVES),
                "write dict sqlitedict": lambda: mapping.__setitem__("some.dicts.written", LEAVES),
            },
            rounds,
        )
        assert numbers.val() == cache["some.dicts.read"] == mapping["some.dicts.read"] == LEAVES
    return [
        row(f"{what} ({durability})", times[what], times[f"{what} {rival}"], rival, 1.0, "us")
        for what in ("read leaf", "write leaf", "read dict", "write dict")
        for rival in ("diskcache", "sqlitedict")
    ]


def main() -> int:
    """Measure everything, print it, and tell by the exit status whether the bounds were kept."""
    asked = options(__doc__, 2000)
    rows = [line for durability in LEVELS for line in measured(durability, asked.rounds)]
    about = (
        f"SQLite {sqlite3.sqlite_version}, diskcache {diskcache.__version__}, sqlitedict {sqlitedict.__version__}, "
        f"Python {platform.python_version()}"
    )
    return told(about, asked, rows)


if __name__ == "__main__":
    sys.exit(main())
