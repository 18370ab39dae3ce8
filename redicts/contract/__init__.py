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

From a shell, ``redicts certify '<configuration>'`` does the same, see :mod:`redicts.certify`.

Each check is one function with one sentence in :mod:`redicts.contract.checks`, and one line of the report. A check
whose
capability is not claimed, or whose hook the harness lacks, is listed as not run, with the reason. A test framework that
shall show each check on its own takes :data:`CHECKS` and an :class:`Examination`.

Codecs have checks of their own, and :func:`~redicts.contract.codecs.certify_codec`: see :mod:`redicts.contract.codecs`.

It needs Hypothesis: ``pip install redicts[contract]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

try:
    import hypothesis  # noqa: F401
except ImportError as error:
    raise ImportError("redicts.contract needs Hypothesis: pip install 'redicts[contract]'") from error

from redicts.contract import checks as _checks  # noqa: F401  (registers them)
from redicts.contract.check import CheckFailed, ConformanceCheck, Need, registered
from redicts.contract.clock import ManualClock
from redicts.contract.configured import Store, StoreHarness
from redicts.contract.examination import Examination, names_left_out
from redicts.contract.harness import Harness, Raw, SharedBackend
from redicts.contract.hostile import HOSTILE_SEGMENTS, HOSTILE_VALUES
from redicts.contract.probes import PROBES
from redicts.contract.report import Report, Result, Status, crossed_out

__all__ = [
    "CHECKS",
    "HOSTILE_SEGMENTS",
    "HOSTILE_VALUES",
    "CheckFailed",
    "ConformanceCheck",
    "Examination",
    "Harness",
    "ManualClock",
    "Need",
    "Raw",
    "Report",
    "Result",
    "SharedBackend",
    "Status",
    "Store",
    "StoreHarness",
    "certify",
]

CHECKS: Final[tuple[ConformanceCheck, ...]] = registered()
"""All checks, in the order of their subjects."""


def certify(
    harness: Harness,
    *,
    thorough: bool = False,
    seed: int = 0,
    timeout: float = 30.0,
    checks: Iterable[ConformanceCheck] = CHECKS,
    watch: Callable[[Result], object] | None = None,
) -> Report:
    """Examine all checks on a store and return the report. It raises nothing that the store raises.

    Cost: seconds on a local store; with ``thorough``, minutes.

    Args:
        harness: The store. It is not closed.
        thorough: Try many more random examples, and races for longer.
        seed: Where random examples start; the same seed makes the same examples. The report names it.
        timeout: Seconds that something may take that should take milliseconds, before it counts as hanging.
        checks: Others than all, for a first look: the report then is no certificate, see :attr:`Report.kept`.
        watch: Called with each result when it is there.

    """
    chosen = tuple(checks)
    examination = Examination(harness, thorough=thorough, seed=seed, timeout=timeout)
    secrets = tuple(harness.secrets)
    results: list[Result] = []
    for check in chosen:
        results.append(examination.examine(check).without(secrets))
        if watch is not None:
            watch(results[-1])
    left_out = tuple(check.name for check in CHECKS if check not in chosen)
    return Report(
        harness=type(harness).__name__,
        backend=examination.backend,
        capabilities=examination.capabilities,
        results=tuple(results),
        seed=seed,
        thorough=thorough,
        names_left_out=names_left_out(harness),
        left_out=left_out,
        could_claim=() if left_out else _could_claim(examination),
        told={what: crossed_out(value, secrets) for what, value in {**harness.about, **examination.about}.items()},
    )


def _could_claim(examination: Examination) -> tuple[str, ...]:
    """Return what works although it is not claimed."""
    worked = [name for name, probe in PROBES.items() if examination.examine(probe).status is Status.PASSED]
    return tuple(f"the store could claim {name}" for name in worked)
