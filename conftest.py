"""Runs the Python examples of the README and the documentation; in one process, for each builds on those before it.

A block under a comment ``<!-- file: name.py -->`` is executed like others, and is also part of a file of that name that
later blocks, and the processes that they start, can import.
"""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sybil import Document, Example, Region, Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from tests.plugins.tutorial import files_of


def files_to_import(document: Document) -> Iterator[Region]:
    """Yield what writes the files of a document, before its first block."""
    files = files_of(Path(document.path))
    if files:
        yield Region(0, 1, parsed=files, evaluator=_write)


def _write(example: Example) -> None:
    directory = tempfile.mkdtemp(prefix="redicts-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    for name, text in example.parsed.items():
        Path(directory, name).write_text(text, encoding="utf-8")
    sys.path.insert(0, directory)


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser(), files_to_import], patterns=["README.md", "docs/*.md"]
).pytest()
