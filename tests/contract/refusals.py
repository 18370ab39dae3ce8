"""The command that proves that no check is redundant: ``python -m tests.contract.refusals``.

For each check there is a broken backend or codec marked ``alone``, which no other check refuses. The command examines
each of these by every check and prints the checks that refuse it besides the one it names. It takes some twenty
minutes. With names it examines those broken backends and codecs only, and with the names of their modules those marked
in these. The random search of the subject ``model`` is left out, since what it finds depends on its seed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Final

from redicts.contract import CHECKS, ConformanceCheck, Examination, Result
from redicts.contract.codecs import CODEC_CHECKS, CodecExamination
from tests.contract.broken import BROKEN, Broken
from tests.contract.broken_codecs import BROKEN_CODECS, BrokenCodec

_TIMEOUT: Final = 2.0
"""Seconds after which a broken backend counts as hanging."""

_TIMEOUT_OF: Final = {
    "notifications": 0.6,
    "listeners": 0.6,
    "processes": 6.0,
    "processes.processes_notify_each_other": 3.0,
    "changes": 0.8,
    "servers": 0.8,
    "model": 4.0,
}
"""The same in some checks and those of some subjects: most backends that break those on notifications never notify."""

_TIMES_AGAIN: Final = 5.0
"""How many times as long the checks may take that refuse a backend and are not to: they examine it once more."""

SEARCH: Final = "model"
"""The subject whose check searches at random."""

SEEDS: Final = 8
"""How many seeds such a check may try: with one seed in four or so it misses the rarer faults."""


def timeout_of(check: str) -> float:
    """Return the timeout in seconds for a check of a broken backend."""
    return _TIMEOUT_OF.get(check) or _TIMEOUT_OF.get(check.partition(".")[0], _TIMEOUT)


def refusals(broken: Broken, checks: Iterable[ConformanceCheck] = CHECKS, times: float = 1.0) -> Iterator[Result]:
    """Yield the failures of a broken backend in these checks, each examined on a new instance; skip the search.

    ``times`` multiplies the timeouts.
    """
    for check in checks:
        if check.name.startswith(SEARCH):
            continue
        harness = broken.harness()
        try:
            result = Examination(harness, timeout=times * timeout_of(check.name)).examine(check)
        finally:
            harness.close()
        if _refused(result):
            yield result


def codec_refusals(broken: BrokenCodec) -> Iterator[Result]:
    """Yield the failures of a broken codec in all checks, each examined on a new harness."""
    for check in CODEC_CHECKS:
        result = CodecExamination(broken.harness(), timeout=_TIMEOUT).examine(check)
        if _refused(result):
            yield result


def _refused(result: Result) -> bool:
    return result.status.value == "failed" and not result.reason.startswith("did not end")


def main(names: Iterable[str]) -> int:
    """Print which checks refuse what is marked ``alone``, or what these names select; return 1 if a mark is wrong."""
    wrong = 0
    chosen = set(names)
    subjects: list[Broken | BrokenCodec] = [*BROKEN, *BROKEN_CODECS]
    for broken in subjects:
        if broken.name not in chosen and not (broken.alone and (not chosen or broken.module in chosen)):
            continue
        failures = refusals(broken) if isinstance(broken, Broken) else codec_refusals(broken)
        found = {result.check: result.reason for result in failures}
        others = {check: reason for check, reason in found.items() if check not in broken.refused_by}
        if isinstance(broken, Broken):  # a busy machine refuses much by its time
            again = [check for check in CHECKS if check.name in others]
            others = {result.check: result.reason for result in refusals(broken, again, _TIMES_AGAIN)}
        missing = [check for check in broken.refused_by if check not in found and not check.startswith(SEARCH)]
        wrong += broken.alone and bool(others or missing)
        sys.stdout.write(f"{broken.name}: {', '.join(broken.refused_by)}\n")
        sys.stdout.writelines(f"    also {check}: {reason[:160]!r}\n" for check, reason in others.items())
        sys.stdout.writelines(f"    not {check}\n" for check in missing)
        sys.stdout.flush()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
