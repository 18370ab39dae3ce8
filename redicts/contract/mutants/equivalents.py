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

_FIELDS: Final = {"at", "kind", "before", "after", "source"}


class Equivalents:
    """The entries of a TOML file: each is a table ``[[equivalent]]`` with a reason and the mutants of which it is true.

    - ``reason``: why nothing that the contract defines changes;
    - ``mutants``: tables of texts. ``at`` is required: the file and function, or a pattern as ``*:Store.close``.
      ``kind``, ``before`` and ``after`` are the kind of mutation and the texts, in one line. ``source`` is the line of
      source, for a piece that is in a function twice. A missing field matches any text.

    No entry contains a line number, so other changes of the file leave it valid.
    """

    def __init__(self, entries: Sequence[Mapping[str, Any]] = ()) -> None:
        self._known: Final[list[tuple[Mapping[str, str], str]]] = []
        for entry in entries:
            match entry:
                case {"reason": str(reason), "mutants": [*mutants], **others} if reason and mutants and not others:
                    self._known.extend((_checked(mutant), reason) for mutant in mutants)
                case _:
                    raise ValueError(f"an entry must have a reason and mutants, and nothing else; got {dict(entry)}")
        self._used: Final[set[int]] = set()

    @classmethod
    def read(cls, path: Path) -> Equivalents:
        """Read a file. Raises :class:`ValueError` if it is not valid, and :class:`OSError`."""
        return cls(tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", []))

    def reason_for(self, mutant: Mutant) -> str:
        """Return why a mutant is equivalent, or an empty text if it is not known to be."""
        texts = {"kind": mutant.edit.kind, "before": mutant.before, "after": mutant.after, "source": mutant.source}
        for index, (known, reason) in enumerate(self._known):
            same = all(known.get(name, text) == text for name, text in texts.items())
            if same and fnmatchcase(mutant.at, known["at"]):
                self._used.add(index)
                return reason
        return ""

    def unused(self, mutants: Sequence[Mutant]) -> list[Mapping[str, str]]:
        """Return what is known of a file of these mutants, and matches none of them: its code is gone."""
        for mutant in mutants:
            self.reason_for(mutant)
        files = {mutant.file for mutant in mutants}
        return [
            known
            for index, (known, _) in enumerate(self._known)
            if index not in self._used and known["at"].partition(":")[0] in files
        ]


def _checked(mutant: Any) -> Mapping[str, str]:
    if not isinstance(mutant, dict) or "at" not in mutant or not set(mutant) <= _FIELDS:
        raise ValueError(f"a mutant must have at, and may have {', '.join(sorted(_FIELDS - {'at'}))}; got {mutant!r}")
    if not all(type(text) is str for text in mutant.values()):
        raise ValueError(f"a mutant must have texts; got {mutant!r}")
    return mutant
