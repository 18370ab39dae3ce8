"""Runs the Python examples of the README and the documentation: each page in a folder of its own, on a fresh pool.

A block under a comment ``<!-- file: name.py -->`` is executed like others, and is also part of a file of that name in
this folder, which later blocks, and the processes that they start, can import.
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

_FOLDER = "the folder of this page"
_BEFORE = "the folder before"


def _begin(namespace: dict[str, Any]) -> None:
    namespace[_BEFORE] = os.getcwd()
    namespace[_FOLDER] = tempfile.TemporaryDirectory()
    os.chdir(namespace[_FOLDER].name)
    sys.path.insert(0, namespace[_FOLDER].name)


def _end(namespace: dict[str, Any]) -> None:
    from redicts import Pool  # noqa: PLC0415  (every run of the tests reads this file, also those that measure imports)

    Pool().reload(cfg={"backend": "memory"})
    sys.path.remove(namespace[_FOLDER].name)
    os.chdir(namespace[_BEFORE])
    namespace[_FOLDER].cleanup()


def _files(document: Document) -> Iterator[Region]:
    """Yield what writes the files of a document, before its first block."""
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
