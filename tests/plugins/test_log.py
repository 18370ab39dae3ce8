"""The backend that appends to a file, as a third-party distribution."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.plugins.fresh import FreshEnvironment

OWN = ["forks.*", "processes.*", "space.*", "databases.*", "failures.*", "names.*", "threads.*"]
OWN += ["pages.*", "pages_meanwhile.*", "sizes.*"]
"""The short tests examine what this backend does itself, and many values. Otherwise transactions are evaluated as in
the tutorial, whose store is slow with those."""


@pytest.mark.timeout(900)
def test_the_command_examines_it(fresh: FreshEnvironment, tmp_path: Path) -> None:
    """From wheels alone, the command finds no failure; the long tests certify the backend."""
    patterns = [] if os.environ.get("REDICTS_TESTS") == "long" else OWN
    configuration = {"backend": {"name": "log", "path": str(tmp_path / "store.log")}}
    options = [word for pattern in patterns for word in ("--check", pattern)]
    done = fresh.run("-m", "redicts", "certify", json.dumps(configuration), *options)
    assert ("CERTIFIED: " if not patterns else "0 failed") in done.stdout


def test_a_line_that_is_not_whole_is_removed(fresh: FreshEnvironment, tmp_path: Path) -> None:
    """A process that was killed in the midst of a line loses that transaction only; another file is left as it is."""
    done = fresh.run("-c", USE, cwd=tmp_path)
    assert done.stdout.split() == ["1", "1", "2", "CorruptData", "b'text'"]


USE = """
from redicts import Pool, root
from redicts.errors import StoreError

Pool().reload(cfg="log://a.log")
root().set("n", 1)
print(root().get("n").val())
with open("a.log", "ab") as file:
    file.write(b'[["76')
print(root().get("n").val())
root().set("n", 2)
Pool().reload(cfg="log://a.log")
print(root().get("n").val())
with open("b.log", "wb") as file:
    file.write(b"text")
Pool().reload(cfg="log://b.log")
try:
    root().set("n", 3)
except StoreError as error:
    print(type(error).__name__)
print(open("b.log", "rb").read())
"""
