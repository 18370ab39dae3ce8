"""Runs the Python examples of the README and the documentation: each page in a folder of its own, on a fresh pool."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

_FOLDER = "the folder of this page"
_BEFORE = "the folder before"


def _begin(namespace: dict[str, Any]) -> None:
    namespace[_BEFORE] = os.getcwd()
    namespace[_FOLDER] = tempfile.TemporaryDirectory()
    os.chdir(namespace[_FOLDER].name)


def _end(namespace: dict[str, Any]) -> None:
    from redicts import Pool  # noqa: PLC0415  (every run of the tests reads this file, also those that measure imports)

    Pool().reload(cfg={"backend": "memory"})
    os.chdir(namespace[_BEFORE])
    namespace[_FOLDER].cleanup()


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md"],
    setup=_begin,
    teardown=_end,
).pytest()
