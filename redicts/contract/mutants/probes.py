"""Which statements of a target a check executes, so that a mutant needs only the checks that execute its statement.

In a probed copy of the target, each statement first sets a byte of a file that all processes of a trial share: those
that a check forks and spawns too. Files in Lua have no probes.
"""

from __future__ import annotations

import ast
import mmap
import os
from collections.abc import Collection, Iterator, MutableSequence
from pathlib import Path
from typing import Final, NamedTuple

from redicts.contract.mutants.mutant import Mutant
from redicts.contract.mutants.target import Target

_VARIABLE: Final = "REDICTS_PROBES"
"""The environment variable with the path of the file, for spawned processes."""

_BODIES: Final = ("body", "orelse", "finalbody")


class _Statement(NamedTuple):
    """A statement with its range in bytes and its probe."""

    start: int
    end: int
    number: int


class Probes:
    """The probes of a target: one for each statement of its Python files."""

    def __init__(self, target: Target) -> None:
        self._statements: Final[dict[str, list[_Statement]]] = {}
        self._sources: Final[dict[str, bytes]] = {}
        self._count = 0
        for file, path in target.files():
            if path.suffix == ".py":
                self._add(file, path.read_bytes())

    @property
    def files(self) -> Collection[str]:
        """The names of the files with probes."""
        return self._statements.keys()

    def number_of(self, mutant: Mutant) -> int | None:
        """Return the probe of the innermost statement in which a mutant begins, or ``None`` if there is none."""
        at = mutant.edit.start
        found = [each for each in self._statements.get(mutant.file, ()) if each.start <= at < each.end]
        return min(found, key=lambda each: each.end - each.start).number if found else None

    def probed(self, file: str, source: bytes) -> bytes:
        """Return the source of a file with its probes."""
        return self._sources.get(file, source)

    def start(self, directory: Path) -> None:
        """Make the file for this process and for those that it starts."""
        path = directory / "probes"
        path.write_bytes(bytes(self._count + 1))
        os.environ[_VARIABLE] = str(path)
        _open(str(path))

    def executed(self) -> list[int]:
        """Return the numbers of the statements that were executed so far."""
        return [number for number in range(self._count) if hits[number]]

    def _add(self, file: str, source: bytes) -> None:
        tree = ast.parse(source)
        begins = [0]
        for line in source.splitlines(keepends=True):
            begins.append(begins[-1] + len(line))
        statements = self._statements[file] = []
        for body in list(_bodies_in(tree)):
            changed: list[ast.stmt] = []
            for statement in body:
                if not (_is_first(statement) and all(map(_is_first, changed))):
                    assert statement.end_lineno is not None
                    assert statement.end_col_offset is not None
                    start = begins[statement.lineno - 1] + statement.col_offset
                    end = begins[statement.end_lineno - 1] + statement.end_col_offset
                    statements.append(_Statement(start, end, self._count))
                    changed += ast.parse(f"_redicts_hits[{self._count}] = 1").body
                    self._count += 1
                changed.append(statement)
            body[:] = changed
        first = next((index for index, each in enumerate(tree.body) if not _is_first(each)), len(tree.body))
        tree.body[first:first] = ast.parse(f"from {__name__} import hits as _redicts_hits").body
        self._sources[file] = ast.unparse(ast.fix_missing_locations(tree)).encode("utf-8", "surrogatepass")


def _bodies_in(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(tree):
        for name in _BODIES:
            body = getattr(node, name, None)
            if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
                yield body


def _is_first(statement: ast.stmt) -> bool:
    """Tell whether a statement is one that nothing may precede: a docstring or an import from ``__future__``."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"


hits: MutableSequence[int] | mmap.mmap = bytearray()
"""A byte for each statement, which is 1 if the statement was executed."""


def _open(path: str) -> None:
    global hits  # noqa: PLW0603  (what a probed copy imports)
    with open(path, "r+b") as file:
        hits = mmap.mmap(file.fileno(), 0)


if _VARIABLE in os.environ:  # in a spawned process
    _open(os.environ[_VARIABLE])
