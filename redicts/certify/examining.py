"""One examination as the command wants it: which store, which harness, which laws, and what is said meanwhile."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from redicts.certify.configuration import store_of
from redicts.certify.harnesses import harness_for
from redicts.certify.wrong_use import WrongUse
from redicts.contract import LAWS, Harness, Law, Report, Result, Status, certify
from redicts.contract.report import crossed_out
from redicts.core.transaction import Transaction


class Wanted(NamedTuple):
    """How to examine, see :func:`redicts.contract.certify`; ``patterns`` choose laws by name, ``None`` all."""

    patterns: Sequence[str] | None
    seed: int
    thorough: bool
    patience: float


def examined(configuration: str | None, named: str | None, wanted: Wanted, say: Callable[[str], None]) -> Report:
    """Examine the store that a configuration leads to, or the harness that is named, and return the report.

    Raises :class:`~redicts.certify.wrong_use.WrongUse` if there is no such store, harness or law.
    """
    laws = _laws(wanted.patterns)
    store = None if configuration is None else store_of(configuration)
    harness = harness_for(store, named)
    try:
        on = type(harness).__name__ if store is None else f"the backend {store.plugin.name!r}"
        say(
            f"{len(laws)} laws on {on}. The suite works in spaces of its own and empties them; "
            "all else that the store holds stays as it is"
        )
        if not _opens(harness):
            laws = laws[:1]  # which says why; each of the others would wait for the store and say the same
        return certify(
            harness,
            laws=laws,
            seed=wanted.seed,
            thorough=wanted.thorough,
            patience=wanted.patience,
            watch=_Progress(len(laws)) if sys.stderr.isatty() else None,
        )
    finally:
        _close(harness, say)


def _laws(patterns: Sequence[str] | None) -> Sequence[Law]:
    if patterns is None:
        return LAWS
    for pattern in patterns:
        if not any(fnmatchcase(law.name, pattern) for law in LAWS):
            raise WrongUse(f"--law {pattern}: there is no such law; they are named as claims.capabilities_are_stated")
    return [law for law in LAWS if any(fnmatchcase(law.name, pattern) for pattern in patterns)]


def _opens(harness: Harness) -> bool:
    try:
        backend = harness.open()
        with contextlib.closing(backend):
            backend.execute(Transaction())
    except Exception:
        return False
    return True


class _Progress:
    """One line on a terminal that says how far it is, and one for each law that is broken."""

    def __init__(self, laws: int) -> None:
        self._laws = laws
        self._done = 0

    def __call__(self, result: Result) -> None:
        self._done += 1
        broken = result.status is Status.FAILED
        words = f"FAILED {result.law}\n" if broken else f"{self._done} of {self._laws}"
        sys.stderr.write(f"\r\x1b[K{words}" if self._done < self._laws or broken else "\r\x1b[K")
        sys.stderr.flush()


def _close(harness: Harness, say: Callable[[str], None]) -> None:
    """Close the harness; that it cannot be closed is said, and takes no report away."""
    try:
        harness.close()
    except Exception as error:
        said = crossed_out(" ".join(f"{type(error).__name__}: {error}".split()), tuple(harness.secrets))
        say(f"the harness could not be closed: {said}")
