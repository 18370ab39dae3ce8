"""Sizes and files of stores: of files and directories, and of what a process keeps in its memory."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from typing import Final

_BLOCK: Final = 64
"""Bytes that a block of the interpreter's allocator has on average."""

_SQLITE: Final = b"SQLite format 3\x00"
"""How a file of SQLite begins."""


def size_of_process() -> int:
    """Return about how many bytes the objects of this process occupy, but for those of more than 512 bytes.

    Each object takes at least one block, so what grows with every call shows. Cost: a microsecond.
    """
    return sys.getallocatedblocks() * _BLOCK


def size_of_files(path: str) -> int:
    """Return how many bytes a directory occupies, or a file and those beside it whose names begin with its name."""
    if os.path.isdir(path):
        return sum(map(_occupied, files_of(path)))
    directory, begin = os.path.split(os.path.abspath(path))
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return sum(_occupied(os.path.join(directory, name)) for name in names if name.startswith(begin))


def files_of(path: str) -> list[str]:
    """Return the files and directories in a directory, at any depth, or what is beside a file."""
    if os.path.isdir(path):
        return [os.path.join(directory, name) for directory, *both in os.walk(path) for names in both for name in names]
    directory = os.path.dirname(os.path.abspath(path))
    return os.listdir(directory) if os.path.isdir(directory) else []


def _occupied(path: str) -> int:
    """Return the bytes of a file without its holes and, if it is one of SQLite, without its free pages."""
    try:
        found = os.stat(path)
        with open(path, "rb") as file:
            if file.read(len(_SQLITE)) == _SQLITE:
                return _used_pages(path)
    except OSError:  # it is gone meanwhile, or is no file
        return 0
    blocks: int | None = getattr(found, "st_blocks", None)  # not on Windows
    return found.st_size if blocks is None else min(found.st_size, blocks * 512)


def _used_pages(path: str) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        pages, free, size = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
    return (pages - free) * size
