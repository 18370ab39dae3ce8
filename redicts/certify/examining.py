"""One examination as the command wants it: which store, which harness, which checks, and what is said meanwhile."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeVar

from redicts.certify.harnesses import Subject, harness_for
from redicts.certify.wrong_use import WrongUse
from redicts.contract import CHECKS, ConformanceCheck, Harness, Report, Result, Status, certify
from redicts.contract.codecs import CODEC_CHECKS, CodecCheck, CodecHarness, certify_codec
from redicts.contract.report import crossed_out
from redicts.core.minitransaction import Transaction

_Check = TypeVar("_Check", ConformanceCheck, CodecCheck)


class Wanted(NamedTuple):
    """How to examine, see :func:`redicts.contract.certify`; ``patterns`` choose checks by name, ``None`` all."""

    patterns: Sequence[str] | None
    seed: int
    thorough: bool
    timeout: float


def examined(subject: Subject | None, named: str | None, wanted: Wanted, say: Callable[[str], None]) -> Report:
    """Examine a store or a codec, or the harness that is named, and return the report.

    Raises :class:`~redicts.certify.wrong_use.WrongUse` if there is no such harness or check.
    """
    harness = harness_for(subject, named)
    on = type(harness).__name__ if subject is None else repr(subject.plugin.name)
    if isinstance(harness, CodecHarness):
        codec_checks = _chosen(CODEC_CHECKS, wanted.patterns)
        say(f"{len(codec_checks)} checks on the codec {on}")
        return certify_codec(harness, checks=codec_checks, **_how(wanted, len(codec_checks)))
    try:
        checks = _chosen(CHECKS, wanted.patterns)
        say(
            f"{len(checks)} checks on the backend {on}. The suite works in spaces of its own and empties them; "
            "all else that the store holds stays as it is"
        )
        if not _opens(harness):
            checks = checks[:1]  # which says why; each of the others would wait for the store and say the same
        return certify(harness, checks=checks, **_how(wanted, len(checks)))
    finally:
        _close(harness, say)


def _how(wanted: Wanted, checks: int) -> dict[str, Any]:
    watch = _Progress(checks) if sys.stderr.isatty() else None
    return {"seed": wanted.seed, "thorough": wanted.thorough, "timeout": wanted.timeout, "watch": watch}


def _chosen(among: Sequence[_Check], patterns: Sequence[str] | None) -> Sequence[_Check]:
    """Return the checks whose names fit one of the patterns. Raises ``WrongUse`` for a pattern that fits none."""
    if patterns is None:
        return among
    for pattern in patterns:
        if not any(fnmatchcase(str(check), pattern) for check in among):
            raise WrongUse(f"--check {pattern}: there is no such check; they are named as {among[0]}")
    return [check for check in among if any(fnmatchcase(str(check), pattern) for pattern in patterns)]


def _opens(harness: Harness) -> bool:
    try:
        backend = harness.open()
        with contextlib.closing(backend):
            backend.execute(Transaction())
    except Exception:
        return False
    return True


class _Progress:
    """One line on a terminal that says how far it is, and one for each check that is broken."""

    def __init__(self, checks: int) -> None:
        self._checks = checks
        self._done = 0

    def __call__(self, result: Result) -> None:
        self._done += 1
        broken = result.status is Status.FAILED
        words = f"FAILED {result.check}\n" if broken else f"{self._done} of {self._checks}"
        sys.stderr.write(f"\r\x1b[K{words}" if self._done < self._checks or broken else "\r\x1b[K")
        sys.stderr.flush()


def _close(harness: Harness, say: Callable[[str], None]) -> None:
    """Close the harness; that it cannot be closed is said, and takes no report away."""
    try:
        harness.close()
    except Exception as error:
        said = crossed_out(" ".join(f"{type(error).__name__}: {error}".split()), tuple(harness.secrets))
        say(f"the harness could not be closed: {said}")
