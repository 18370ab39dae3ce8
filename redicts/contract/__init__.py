"""The contract suite: certifies a backend by conformance checks.

Subclass :class:`Harness` with a method that opens the store, and call :func:`certify`::

    from redicts.contract import Harness, certify

    class TableHarness(Harness):
        networked = False

        def open(self):
            return TableBackend("table.db")

    report = certify(TableHarness())
    print(report)
    assert report.certified

From a shell, ``redicts certify '<configuration>'`` does the same.

Each check is one function in :mod:`redicts.contract.checks`, whose docstring states its rule, and one line of the
report. The report lists a check as not run, with the reason, if its capability is not declared or the harness lacks its
hook. To run each check as a test of its own, use :data:`CHECKS` and an :class:`Examination`.

For codecs, see :mod:`redicts.contract.codecs`.

The suite needs Hypothesis: ``pip install redicts[contract]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

try:
    import hypothesis  # noqa: F401
except ImportError as error:
    raise ImportError("redicts.contract needs Hypothesis: pip install 'redicts[contract]'") from error

from redicts.contract import checks as _checks  # noqa: F401  (registers them)
from redicts.contract.check import ConformanceCheck, Need, registered
from redicts.contract.clock import ManualClock
from redicts.contract.configured import Store, StoreHarness
from redicts.contract.examination import Examination, names_left_out
from redicts.contract.harness import Harness, Raw, SharedBackend
from redicts.contract.hostile import HOSTILE_SEGMENTS, HOSTILE_VALUES
from redicts.contract.one_section import InOneSection
from redicts.contract.probes import PROBES
from redicts.contract.report import Report, Result, Status, crossed_out
from redicts.contract.requirements import CheckFailed

__all__ = [
    "CHECKS",
    "HOSTILE_SEGMENTS",
    "HOSTILE_VALUES",
    "CheckFailed",
    "ConformanceCheck",
    "Examination",
    "Harness",
    "InOneSection",
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
"""All checks, ordered by subject."""


def certify(
    harness: Harness,
    *,
    thorough: bool = False,
    seed: int = 0,
    timeout: float = 30.0,
    checks: Iterable[ConformanceCheck] = CHECKS,
    watch: Callable[[Result], object] | None = None,
) -> Report:
    """Run the checks on a store and return the report. Errors of the store are results, not raised.

    It takes seconds on a local store, and minutes with ``thorough``.

    Args:
        harness: The store; it is not closed.
        thorough: Try many more random examples, and races for longer.
        seed: The seed of random examples; the same seed makes the same examples.
        timeout: Seconds that an operation may take that should take milliseconds, before it counts as hanging.
        checks: The checks to run. With fewer than all, the report is not a certificate, see :attr:`Report.passed`.
        watch: Called with each result as soon as it is known.

    """
    chosen = tuple(checks)
    secrets = tuple(harness.secrets)
    results: list[Result] = []
    left_out = tuple(check.name for check in CHECKS if check not in chosen)
    with Examination(harness, thorough=thorough, seed=seed, timeout=timeout) as examination:
        for check in sorted(chosen, key=_comes_later):
            results.append(examination.examine(check).without(secrets))
            if len(results) == 1 and not left_out:
                examination.start_processes()
            if watch is not None:
                watch(results[-1])
        could_declare = () if left_out else _could_declare(examination)
    return Report(
        harness=type(harness).__name__,
        backend=examination.backend,
        capabilities=examination.capabilities,
        results=tuple(sorted(results, key=_order_of(chosen))),
        seed=seed,
        thorough=thorough,
        names_left_out=names_left_out(harness),
        left_out=left_out,
        could_declare=could_declare,
        subject={what: crossed_out(value, secrets) for what, value in {**harness.about, **examination.about}.items()},
    )


def _comes_later(check: ConformanceCheck) -> bool:
    """Tell whether a check comes after those that measure: what large values leave free in a file hides what grows."""
    return not check.name.startswith("space.")


def _order_of(checks: tuple[ConformanceCheck, ...]) -> Callable[[Result], int]:
    order = {check.name: number for number, check in enumerate(checks)}
    return lambda result: order[result.check]


def _could_declare(examination: Examination) -> tuple[str, ...]:
    """Return the capabilities that work although they are not declared."""
    worked = [name for name, probe in PROBES.items() if examination.examine(probe).status is Status.PASSED]
    return tuple(f"the store could declare {name}" for name in worked)
