"""What other programs keep at a path of the file system: files and directories that no store may take for its own."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pickle
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

_LETTER: Final = b"This is a letter to an aunt, and not a store.\n"
_RECORDS: Final = {"people": [{"name": "Anna", "age": 41}, {"name": "Bert", "age": 42}]}


def _database(path: Path, *pragmas: str) -> None:
    """Write a SQLite database with one table."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("synchronous = OFF", *pragmas):
            connection.execute(f"PRAGMA {pragma}")
        connection.executescript("CREATE TABLE people (name TEXT, age INTEGER); INSERT INTO people VALUES ('Anna', 41)")


def _directory(path: Path) -> None:
    """Make a directory with a letter, and a directory of letters in it."""
    path.joinpath("letters").mkdir(parents=True)
    for name in ("letter", "letters/1", "letters/2"):
        path.joinpath(name).write_bytes(_LETTER)


FOREIGN: Final[dict[str, Callable[[Path], object]]] = {
    "a text of one line": lambda path: path.write_bytes(_LETTER),
    "a long text": lambda path: path.write_bytes(_LETTER * 500),
    "a single byte": lambda path: path.write_bytes(b"\n"),
    "a file of zeros": lambda path: path.write_bytes(bytes(8192)),
    "a file of JSON": lambda path: path.write_text(json.dumps(_RECORDS), encoding="utf-8"),
    "a pickle": lambda path: path.write_bytes(pickle.dumps(_RECORDS)),
    "a compressed file": lambda path: path.write_bytes(gzip.compress(_LETTER * 500)),
    "a SQLite database of another program": _database,
    "a SQLite database of another program with a log": lambda path: _database(path, "journal_mode = WAL"),
    "a SQLite database of another program with a version": lambda path: _database(path, "user_version = 1"),
    "a SQLite database whose pages are damaged": lambda path: path.write_bytes(b"SQLite format 3\0" + b"\x10" * 8192),
    "a directory with files": _directory,
}
"""What another program may have written at a path, by its name."""


def contents(path: Path) -> dict[str, bytes]:
    """Return the bytes of a file, or of all files in a directory, by their names."""
    if not path.is_dir():
        return {"": path.read_bytes()} if path.exists() else {}
    found = [Path(directory, name) for directory, _, names in os.walk(path) for name in names]
    return {str(each.relative_to(path)): each.read_bytes() for each in found}
