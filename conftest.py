"""Runs the Python examples of the README and the documentation: each page in a directory of its own, on a fresh pool.

A block under a comment ``<!-- file: name.py -->`` is executed like others, and is also part of a file of that name in
the directory, which later blocks, and the processes that they start, can import.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sybil import Document, Example, Region, Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from tests.plugins.tutorial import files_of

pytest_plugins = ["pytester"]

_DIRECTORY = "the directory of this page"
_BEFORE = "the previous directory"


def _begin(namespace: dict[str, Any]) -> None:
    namespace[_BEFORE] = os.getcwd()
    namespace[_DIRECTORY] = tempfile.TemporaryDirectory()
    os.chdir(namespace[_DIRECTORY].name)
    sys.path.insert(0, namespace[_DIRECTORY].name)


def _end(namespace: dict[str, Any]) -> None:
    from redicts import Pool  # noqa: PLC0415  (runs that measure imports read this file too)

    Pool().reload(cfg={"backend": "memory"})
    sys.path.remove(namespace[_DIRECTORY].name)
    os.chdir(namespace[_BEFORE])
    namespace[_DIRECTORY].cleanup()


def _files(document: Document) -> Iterator[Region]:
    """Yield a region that writes the files of a document before its first block."""
    files = files_of(Path(document.path))
    if files:
        yield Region(0, 1, parsed=files, evaluator=_write)


def _write(example: Example) -> None:
    for name, text in example.parsed.items():
        Path(name).write_text(text, encoding="utf-8")


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser(), _files],
    patterns=["README.md", "docs/*.md"],
    setup=_begin,
    teardown=_end,
).pytest()
