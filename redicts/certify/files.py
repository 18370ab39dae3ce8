"""Writing a report to a file: whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from redicts.certify.wrong_use import WrongUse


def examine_place(path: Path) -> None:
    """Make sure, before minutes are spent, that a report can be written there. Raises ``WrongUse`` if it cannot."""
    if path.is_dir():
        raise WrongUse(f"--report {path} is a directory; name a file in it")
    if not path.absolute().parent.is_dir():
        raise WrongUse(f"--report {path}: there is no such directory; make it first")
    if not os.access(path.absolute().parent, os.W_OK):
        raise WrongUse(f"--report {path}: its directory may not be written to")


def write_whole(path: Path, text: str) -> None:
    """Replace a file by this text in one step, so that nobody ever reads half of it. Raises ``OSError``."""
    place = path.absolute()
    number, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    try:
        with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, place)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
