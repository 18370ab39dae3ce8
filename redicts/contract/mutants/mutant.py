"""One mutant: a piece of source text and its replacement."""

from __future__ import annotations

import hashlib
from typing import NamedTuple


class Edit(NamedTuple):
    """A replacement of the bytes of a source from ``start`` to ``end``."""

    kind: str
    """The kind of mutation, for example ``compare``."""
    function: str
    """The function that contains it, for example ``Store.put``, or nothing at the top of a file."""
    start: int
    end: int
    after: bytes

    def applied(self, source: bytes) -> bytes:
        """Return the mutated source."""
        return source[: self.start] + self.after + source[self.end :]


class Mutant(NamedTuple):
    """An edit of one file of a target."""

    file: str
    """The dotted name of a Python module, or that of a package, a slash, and the path of another file in it."""
    edit: Edit
    line: int
    before: str
    after: str
    number: int
    """How many mutants before this one replace the same text in the same function in the same way."""
    source: str
    """The line of source in which the piece begins."""

    @property
    def at(self) -> str:
        """The file and function, for example ``redicts.backends.memory:MemoryBackend.listen``."""
        return f"{self.file}:{self.edit.function}"

    @property
    def id(self) -> str:
        """An identifier that other lines of the file do not change."""
        text = "\0".join((self.at, self.edit.kind, self.before, self.after, str(self.number)))
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def __str__(self) -> str:
        return f"{self.id} {self.at} (line {self.line}, {self.edit.kind}): {self.before!r} -> {self.after!r}"


def numbered(file: str, source: bytes, edits: list[Edit]) -> list[Mutant]:
    """Return the mutants of one file, in the order of its text; the same mutation by two ways counts once."""
    seen: dict[tuple[str, ...], int] = {}
    mutants, lines = [], source.split(b"\n")
    for edit in sorted(set(edits), key=lambda each: (each.start, each.end, each.kind, each.after)):
        before, after = _text(source[edit.start : edit.end]), _text(edit.after)
        key = (edit.function, edit.kind, before, after)
        number = seen[key] = seen.get(key, -1) + 1
        line = source.count(b"\n", 0, edit.start)
        mutants.append(Mutant(file, edit, line + 1, before, after, number, _text(lines[line])))
    return mutants


def _text(piece: bytes) -> str:
    """Return a piece of source in one line, so that its formatting does not matter."""
    return " ".join(piece.decode("utf-8", "backslashreplace").split())
