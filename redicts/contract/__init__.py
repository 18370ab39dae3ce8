"""The contract suite: it certifies a backend, ours or anybody's, against the words of the contract.

Subclass :class:`Harness`, say in it how to open the store, and call :func:`certify`::

    from redicts.contract import Harness, certify

    class TableHarness(Harness):
        networked = False

        def open(self):
            return TableBackend("table.db")

    report = certify(TableHarness())
    print(report)
    assert report.certified

Each law is one function with one sentence in :mod:`redicts.contract.laws`, and one line of the report. A law whose
capability is not claimed, or whose hook the harness lacks, is listed as not run, with the reason. A test framework that
shall show each law on its own takes :data:`LAWS` and an :class:`Examination`.

It needs Hypothesis: ``pip install redicts[contract]``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

try:
    import hypothesis  # noqa: F401
except ImportError as error:
    raise ImportError("redicts.contract needs Hypothesis: pip install 'redicts[contract]'") from error

from redicts.contract import laws as _laws  # noqa: F401  (registers them)
from redicts.contract.clock import ManualClock
from redicts.contract.examination import Examination, names_left_out
from redicts.contract.harness import Harness, SharedBackend
from redicts.contract.hostile import HOSTILE_SEGMENTS, HOSTILE_VALUES
from redicts.contract.law import Law, LawBroken, Need, registered
from redicts.contract.report import Report, Result, Status

__all__ = [
    "HOSTILE_SEGMENTS",
    "HOSTILE_VALUES",
    "LAWS",
    "Examination",
    "Harness",
    "Law",
    "LawBroken",
    "ManualClock",
    "Need",
    "Report",
    "Result",
    "SharedBackend",
    "Status",
    "certify",
]

LAWS: Final[tuple[Law, ...]] = registered()
"""All laws, in the order of their subjects."""


def certify(
    harness: Harness,
    *,
    thorough: bool = False,
    seed: int = 0,
    patience: float = 30.0,
    laws: Iterable[Law] = LAWS,
) -> Report:
    """Examine all laws on a store and return the report. It raises nothing that the store raises.

    Cost: seconds on a local store; with ``thorough``, minutes.

    Args:
        harness: The store. It is not closed.
        thorough: Try many more random examples, and races for longer.
        seed: Where random examples start; the same seed makes the same examples. The report names it.
        patience: Seconds that something may take that should take milliseconds, before it counts as hanging.
        laws: Others than all, for a first look. The verdict is then about these laws alone.

    """
    examination = Examination(harness, thorough=thorough, seed=seed, patience=patience)
    results = tuple([examination.examine(law) for law in laws])
    return Report(
        harness=type(harness).__name__,
        backend=examination.backend,
        capabilities=examination.capabilities,
        results=results,
        seed=seed,
        thorough=thorough,
        names_left_out=names_left_out(harness),
    )
