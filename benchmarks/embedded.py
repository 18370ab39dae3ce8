"""Values in a SQLite file beside ``diskcache`` and ``sqlitedict``, which keep theirs in one too.

Run it from the project's folder with ``python -m benchmarks.embedded``; it needs both libraries, see
``requirements-test.txt``. All three write to files of the same directory, with a write-ahead log and at the same
durability: what each promises after a commit is made the same by ``PRAGMA synchronous``. A dict of a hundred leaves is
one opaque value in the others; in redicts each leaf has a path, and as soon as one was changed by itself
all are rows, so that is measured too.
"""

from __future__ import annotations

import itertools
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
    mapping = sqlitedict.SqliteDict(str(directory / "sqlitedict.db"), journal_mode="WAL")
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
        Pool().reload(cfg={"backend": "sqlite", "path": directory / "redicts.db", "durability": durability})
        stack.callback(Pool().reload, {"backend": "memory"})
        place, branch = section("some.path.to"), section("some.dicts")
        proxy = place.get("leaf")
        place.set("leaf", 42)
        branch.set("read", LEAVES).set("parted", LEAVES).set("parted.name00", 1).set("parted.name00", 0)
        for rival in (cache, mapping):
            rival["some.path.to.leaf"] = 42
            rival["some.dicts.read"] = LEAVES
            rival["some.dicts.written"] = LEAVES
        mapping.commit()

        def into_mapping(key: str, value: object) -> None:
            mapping[key] = value
            mapping.commit()

        numbers = itertools.count()
        versions = [LEAVES, {name: -number for name, number in LEAVES.items()}]

        def other() -> dict[str, int]:
            # Both sides take turns, and SQLite writes nothing where nothing changes: so each gets both in turn.
            return versions[next(numbers) // 2 % 2]

        ours = {
            "read a leaf": proxy.val,
            "write a leaf": lambda: place.set("leaf", next(numbers)),
            "read a dict of 100 leaves": branch.get("read").val,
            "write a dict of 100 leaves": lambda: branch.set("written", other()),
            "read a leaf of the dict": branch.get("read.name50").val,
            "read the dict after a part was changed": branch.get("parted").val,
            "write the dict after a part was changed": lambda: branch.set("parted.name00", 1).set("parted", other()),
        }
        theirs = {
            "diskcache": {
                "read a leaf": lambda: cache["some.path.to.leaf"],
                "write a leaf": lambda: cache.set("some.path.to.leaf", next(numbers)),
                "read a dict of 100 leaves": lambda: cache["some.dicts.read"],
                "write a dict of 100 leaves": lambda: cache.set("some.dicts.written", other()),
            },
            "sqlitedict": {
                "read a leaf": lambda: mapping["some.path.to.leaf"],
                "write a leaf": lambda: into_mapping("some.path.to.leaf", next(numbers)),
                "read a dict of 100 leaves": lambda: mapping["some.dicts.read"],
                "write a dict of 100 leaves": lambda: into_mapping("some.dicts.written", other()),
            },
        }
        whole = {"read a leaf of the dict": "read a dict of 100 leaves"}
        rows = []
        for what, call in ours.items():
            for rival, calls in theirs.items():
                same = whole.get(what, what.replace("the dict after a part was changed", "a dict of 100 leaves"))
                times = medians({"ours": call, "theirs": calls[same]}, rounds)
                most = None if "after" in what else 1.0
                rows.append(row(f"{what} ({durability})", times["ours"], times["theirs"], rival, most, "us"))
    return rows


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
