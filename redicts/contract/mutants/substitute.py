"""Imports a module or package from a copy, in this process and in those that it spawns.

A process that ``multiprocessing`` spawns first imports the main module of its parent, under the name ``__mp_main__``.
So :func:`install` makes this module the main one: it reads from the environment what to substitute.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

_VARIABLE: Final = "REDICTS_MUTANT"
"""The environment variable with the dotted name and the path of the copy, separated by a colon."""


class _Finder:
    """Finds a module, or a package and what is in it, in a copy."""

    def __init__(self, name: str, copy: Path) -> None:
        self._name: Final = name
        self._copy: Final = copy

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Return the spec of a module of the copy, or ``None`` for any other module."""
        if fullname != self._name and not fullname.startswith(f"{self._name}."):
            return None
        inner = (
            self._copy.joinpath(*fullname[len(self._name) + 1 :].split(".")) if fullname != self._name else self._copy
        )
        package = inner / "__init__.py"
        if package.is_file():
            return importlib.util.spec_from_file_location(fullname, package, submodule_search_locations=[str(inner)])
        file = inner if inner.is_file() else inner.with_suffix(".py")
        return importlib.util.spec_from_file_location(fullname, file) if file.is_file() else None


def install(name: str, copy: Path) -> None:
    """Import this module or package from its copy from now on, although it may be imported already.

    What has imported it before keeps the original, as the reference model of the suite does.
    """
    os.environ[_VARIABLE] = f"{name}:{copy}"
    sys.modules["__main__"] = sys.modules[install.__module__]
    _substitute(name, copy)


def _substitute(name: str, copy: Path) -> None:
    for imported in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
        above, _, last = imported.rpartition(".")
        del sys.modules[imported]
        if above in sys.modules and hasattr(sys.modules[above], last):
            delattr(sys.modules[above], last)
    sys.meta_path.insert(0, _Finder(name, copy))


if __name__ == "__mp_main__" and _VARIABLE in os.environ:
    _name, _, _copy = os.environ[_VARIABLE].partition(":")
    _substitute(_name, Path(_copy))  # the suite is imported by now, with the original of its reference model
