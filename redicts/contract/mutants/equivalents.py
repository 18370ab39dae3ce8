"""Mutants that are known to be equivalent: they change nothing that the contract defines."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from redicts.contract.mutants.mutant import Mutant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FIELDS: Final = {"at", "kind", "before", "after", "source", "reason"}


class Equivalents:
    """The entries of a TOML file, each of which is a table ``[[equivalent]]``.

    - ``at``: the file and function, a pattern as ``*:Store.close``;
    - ``kind``, ``before``, ``after``: the kind of mutation and the texts, in one line;
    - ``source``: the line of source, for a piece that is in a function twice. A missing field matches any text;
    - ``reason``: why nothing that the contract defines changes. It is required.

    No entry contains a line number, so other changes of the file leave it valid.
    """

    def __init__(self, entries: Sequence[Mapping[str, Any]] = ()) -> None:
        for entry in entries:
            if unknown := set(entry) - _FIELDS:
                raise ValueError(f"an entry may have the fields {', '.join(sorted(_FIELDS))}; got {min(unknown)!r}")
            if not all(type(value) is str for value in entry.values()) or not (entry.get("at") and entry.get("reason")):
                raise ValueError(f"an entry must have texts, at least in the fields at and reason; got {dict(entry)}")
        self._entries: Final = entries
        self._used: Final[set[int]] = set()

    @classmethod
    def read(cls, path: Path) -> Equivalents:
        """Read a file. Raises :class:`ValueError` if it is not valid, and :class:`OSError`."""
        return cls(tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", []))

    def reason_for(self, mutant: Mutant) -> str:
        """Return why a mutant is equivalent, or an empty text if it is not known to be."""
        texts = {"kind": mutant.edit.kind, "before": mutant.before, "after": mutant.after, "source": mutant.source}
        for index, entry in enumerate(self._entries):
            if fnmatchcase(mutant.at, entry["at"]) and all(
                entry.get(name, text) == text for name, text in texts.items()
            ):
                self._used.add(index)
                return str(entry["reason"])
        return ""

    def unused(self, mutants: Sequence[Mutant]) -> list[Mapping[str, Any]]:
        """Return the entries that name a file of these mutants, and match none of them: their code is gone."""
        for mutant in mutants:
            self.reason_for(mutant)
        files = {mutant.file for mutant in mutants}
        return [
            entry
            for index, entry in enumerate(self._entries)
            if index not in self._used and entry["at"].partition(":")[0] in files
        ]
