"""The figures of a survey, as the rows of a table in Markdown, and its survivors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from redicts.contract.mutants.mutant import Mutant
from redicts.contract.mutants.survey import Tried

_COLUMNS: Final = ("made", "examined", "refused", "hung", "equivalent", "surviving")


def counts(made: Sequence[Mutant], tried: Sequence[Tried]) -> dict[str, dict[str, int]]:
    """Return for each file, and for all, how many mutants were made and examined, and with what outcome."""
    files = list(dict.fromkeys(mutant.file for mutant in made))
    counted = {file: dict.fromkeys(_COLUMNS, 0) for file in [*files, "all"]}
    for mutant in made:
        for row in (mutant.file, "all"):
            counted[row]["made"] += 1
    for each in tried:
        for row in (each.mutant.file, "all"):
            counted[row]["examined"] += 1
            counted[row][each.outcome] += 1
    return counted if len(files) > 1 else {file: counted[file] for file in files}


def text_of(made: Sequence[Mutant], tried: Sequence[Tried]) -> str:
    """Return the figures and the survivors as Markdown."""
    return "\n".join([*_table(counts(made, tried)), *_survivors(tried)])


def document_of(made: Sequence[Mutant], tried: Sequence[Tried], about: dict[str, Any]) -> dict[str, Any]:
    """Return the figures and all mutants as JSON values."""
    return {**about, "counts": counts(made, tried), "mutants": [each.to_dict() for each in tried]}


def _table(counted: dict[str, dict[str, int]]) -> Iterator[str]:
    yield "| file | " + " | ".join(_COLUMNS) + " |"
    yield "|---|" + "---:|" * len(_COLUMNS)
    for file, row in counted.items():
        yield f"| {file} | " + " | ".join(str(row[column]) for column in _COLUMNS) + " |"


def _survivors(tried: Sequence[Tried]) -> Iterator[str]:
    survivors = sorted((each.mutant for each in tried if each.outcome == "surviving"), key=lambda each: (each.at, each))
    if survivors:
        yield ""
    for mutant in survivors:
        yield f"- {mutant}"
