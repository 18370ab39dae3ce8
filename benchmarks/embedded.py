"""Values in a SQLite file compared with ``diskcache`` and ``sqlitedict``, which keep theirs in one too.

Run it from the project's folder with ``python -m benchmarks.embedded``; it needs both libraries, see
``requirements-test.txt``. All three write to files of the same directory, with a write-ahead log and the same
``PRAGMA synchronous``, so that a commit has the same durability. A dict of a hundred leaves is one opaque value in the
others. In redicts each leaf has a path, and once a leaf was changed by itself, each is a row; both are measured.
"""

from __future__ import annotations

import itertools
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import diskcache
import sqlitedict

from benchmarks.report import medians, options, report, row
from redicts import Pool, section

LEAVES = {f"name{number:02}": number for number in range(100)}
LEVELS: Final = {"process": "NORMAL", "machine": "FULL"}
"""Each durability of redicts, and the ``PRAGMA synchronous`` that guarantees the same."""


class Rivals(NamedTuple):
    """The two other libraries, opened."""

    cache: Any
    mapping: Any


def open_rivals(directory: Path, synchronous: str, stack: ExitStack) -> Rivals:
    """Open both with this ``PRAGMA synchronous``, to be closed by the stack."""
    settings = {"sqlite_synchronous": {"NORMAL": 1, "FULL": 2}[synchronous], "sqlite_journal_mode": "wal"}
    cache = diskcache.Cache(str(directory / "diskcache"), eviction_policy="none", **settings)
    stack.callback(cache.close)
    mapping = sqlitedict.SqliteDict(str(directory / "sqlitedict.db"), journal_mode="WAL")
    # sqlitedict switches this off, and has no setting for it.
    mapping.conn.execute(f"PRAGMA synchronous = {synchronous}")
    stack.callback(mapping.close)
    for ask, answer in (("synchronous", {"NORMAL": 1, "FULL": 2}[synchronous]), ("journal_mode", "wal")):
        assert mapping.conn.select_one(f"PRAGMA {ask}") == (answer,)
        assert cache._sql(f"PRAGMA {ask}").fetchone() == (answer,)
    return Rivals(cache, mapping)


def measured(durability: str, rounds: int) -> list[dict[str, Any]]:
    """Measure leaves and a dict at one durability, compared with both rivals."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        cache, mapping = open_rivals(directory, LEVELS[durability], stack)
        Pool().reload(cfg={"backend": "sqlite", "path": directory / "redicts.db", "durability": durability})
        stack.callback(Pool().reload, {"backend": "memory"})
        parent, branch = section("some.path.to"), section("some.dicts")
        proxy = parent.get("leaf")
        parent.set("leaf", 42)
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
            # The sides alternate, and SQLite does not write what is unchanged; so each side alternates versions.
            return versions[next(numbers) // 2 % 2]

        ours: dict[str, Callable[[], object]] = {
            "read a leaf": proxy.val,
            "write a leaf": lambda: parent.set("leaf", next(numbers)),
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
    """Measure everything and report; return the exit status."""
    asked = options(__doc__, 2000)
    rows = [line for durability in LEVELS for line in measured(durability, asked.rounds)]
    about = (
        f"SQLite {sqlite3.sqlite_version}, diskcache {diskcache.__version__}, sqlitedict {sqlitedict.__version__}, "
        f"Python {platform.python_version()}"
    )
    return report(about, asked, rows)


if __name__ == "__main__":
    sys.exit(main())
