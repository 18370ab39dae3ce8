"""The report: which checks ran, which did not and why, and the status that follows."""

from __future__ import annotations

import dataclasses
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from redicts.contract.check import BASE
from redicts.core.backend import Capabilities
from redicts.core.entry_points import CONTRACT

if TYPE_CHECKING:
    from redicts.contract.codecs.check import CodecClaims

_SHORT: Final = 400
"""Characters of a reason in the text of a report; the dict has all of it."""

_SHORTEST_SECRET: Final = 4
"""Characters that a secret has at least to be crossed out: a shorter one stands in half of all words."""

CROSSED_OUT: Final = "*****"
"""What stands in a report in place of a secret."""


class Status(Enum):
    """What became of a check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one check."""

    check: str
    says: str
    status: Status
    reason: str = ""
    """Why it failed or was not run."""
    demanded: bool = True
    """Whether a certificate needs it to pass. False only for a check that was not run and need not be."""
    details: str = ""
    """The traceback of what failed."""
    milliseconds: float = 0.0
    capabilities: tuple[str, ...] = (BASE,)
    """What the check is about."""

    def taking(self, milliseconds: float) -> Result:
        """Return this result with the time it took."""
        return dataclasses.replace(self, milliseconds=round(milliseconds, 1))

    def without(self, secrets: Sequence[str]) -> Result:
        """Return this result with these texts crossed out."""
        reason, details = crossed_out(self.reason, secrets), crossed_out(self.details, secrets)
        return dataclasses.replace(self, reason=reason, details=details)

    @property
    def stands_in_the_way(self) -> bool:
        """Whether there can be no certificate because of it."""
        return self.status is Status.FAILED or (self.status is Status.NOT_RUN and self.demanded)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            **dataclasses.asdict(self),
            "status": self.status.value,
            "capabilities": list(self.capabilities),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What an examination found. ``str(report)`` is for people, :meth:`to_dict` for programs."""

    harness: str
    backend: str | None
    """The class of the backend or codec, or ``None`` if it could not be opened."""
    capabilities: Capabilities | CodecClaims | None
    """What it claims, or ``None`` if it could not be asked."""
    results: tuple[Result, ...]
    seed: int
    thorough: bool
    names_left_out: int = 0
    """How many of the suite's hostile segments the harness kept from the store."""
    left_out: tuple[str, ...] = ()
    """The checks that nobody asked for. A certificate is over all of them."""
    could_claim: tuple[str, ...] = ()
    """What works although it is not claimed, one sentence each."""
    told: Mapping[str, str] = field(default_factory=dict)
    """What the harness and the store tell: who made the backend, which version the server has."""
    kind: str = "backend"
    """What was examined: ``backend`` or ``codec``."""
    about: Mapping[str, str] = field(
        default_factory=lambda: {
            "redicts": _version("redicts"),
            "contract": str(CONTRACT),
            "hypothesis": _version("hypothesis"),
            "python": sys.version.split()[0],
            "platform": platform.platform(),
        }
    )

    @property
    def kept(self) -> bool:
        """Whether the store was opened, and every check that was selected and required ran and passed.

        With all checks that is a certificate, see :attr:`certified`; with some of them it is a first look.
        """
        found = self.capabilities is not None and bool(self.with_status(Status.PASSED))
        return found and not self.names_left_out and not any(result.stands_in_the_way for result in self.results)

    @property
    def certified(self) -> bool:
        """Whether it could be opened, and every check that its claims demand ran and passed, with all names."""
        return self.kept and not self.left_out

    def with_status(self, status: Status) -> tuple[Result, ...]:
        """Return the results of the checks that passed, failed, or were not run."""
        return tuple(result for result in self.results if result.status is status)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """For each capability, how many checks there are about it: demanded, ran, passed, not run."""
        counted: dict[str, dict[str, int]] = {}
        for result in self.results:
            for capability in result.capabilities:
                count = counted.setdefault(capability, {"demanded": 0, "ran": 0, "passed": 0, "not run": 0})
                count["demanded"] += result.demanded
                count["ran"] += result.status is not Status.NOT_RUN
                count["passed"] += result.status is Status.PASSED
                count["not run"] += result.status is Status.NOT_RUN
        return counted

    @property
    def status(self) -> str:
        """The status, in capitals."""
        if self.certified:
            return "CERTIFIED"
        if self.kept:
            ran = len(self.results)
            return f"NOT A CERTIFICATE: only {ran} {'check' if ran == 1 else 'checks'} of {ran + len(self.left_out)}"
        return "NOT CERTIFIED"

    def to_dict(self) -> dict[str, Any]:
        """Return all of it in dicts, lists, text, numbers and truth values, as JSON has them."""
        return {
            "certified": self.certified,
            "status": self.status,
            "harness": self.harness,
            self.kind: self.backend,
            "capabilities": None if self.capabilities is None else dataclasses.asdict(self.capabilities),
            "could_claim": list(self.could_claim),
            "seed": self.seed,
            "thorough": self.thorough,
            "names_left_out": self.names_left_out,
            "about": dict(self.about),
            "told": dict(self.told),
            "counts": self.counts,
            "checks": [result.to_dict() for result in self.results],
            "left_out": list(self.left_out),
        }

    def __str__(self) -> str:
        thorough = ", thorough" if self.thorough else ""
        lines = [
            ", ".join(f"{what} {version}" for what, version in self.about.items()),
            f"harness {self.harness}, {self.kind} {self.backend or 'not opened'}, seed {self.seed}{thorough}",
            *([", ".join(f"{what} {value}" for what, value in self.told.items())] if self.told else []),
            f"claims: {_claims(self.capabilities)}",
            "",
        ]
        width = max((len(result.check) for result in self.results), default=0)
        for result in self.results:
            reason = f"  {_shortened(result.reason)}" if result.reason else ""
            status = result.status.value.upper() if result.status is Status.FAILED else result.status.value
            lines.append(f"{status:8}{result.check:{width}}{result.milliseconds:9.1f} ms{reason}")
        return "\n".join([*lines, "", *self._counted(), "", *self._status()])

    def _counted(self) -> list[str]:
        lines = [f"{'checks about':16}{'demanded':>10}{'ran':>6}{'passed':>8}{'not run':>9}"]
        for capability, count in self.counts.items():
            ran, passed, not_run = count["ran"], count["passed"], count["not run"]
            lines.append(f"{capability:16}{count['demanded']:10}{ran:6}{passed:8}{not_run:9}")
        return [*lines, *(f"unexpected success: {each}" for each in self.could_claim)]

    def _status(self) -> list[str]:
        passed, failed, not_run = (len(self.with_status(status)) for status in Status)
        counts = f"{passed} checks passed, {failed} failed, {not_run} not run"
        if self.kept:
            return [f"{self.status}: {counts}, none of which was demanded" if not_run else f"{self.status}: {counts}"]
        lines = [f"{self.status}: {counts}"]
        lines += [f"  {result.status.value}: {result.check}" for result in self.results if result.stands_in_the_way]
        if self.names_left_out:
            lines.append(f"  the harness keeps {self.names_left_out} of the suite's names from the store")
        if self.capabilities is None:
            lines.append(f"  the {self.kind} could not be opened and asked what it can do")
        elif not passed:
            lines.append("  no check passed")
        return lines


def _claims(capabilities: Capabilities | CodecClaims | None) -> str:
    if capabilities is None:
        return "unknown"
    return ", ".join(f"{name}={value}" for name, value in dataclasses.asdict(capabilities).items())


def crossed_out(text: str, secrets: Sequence[str]) -> str:
    """Return a text with these secrets crossed out."""
    for secret in sorted(secrets, key=len, reverse=True):  # one may be part of another
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, CROSSED_OUT)
    return text


def _shortened(reason: str) -> str:
    """Return a reason fit for the text of a report: indented, and cut where it is very long."""
    cut = reason if len(reason) <= _SHORT else f"{reason[:_SHORT]}... ({len(reason)} characters)"
    return cut.replace("\n", "\n    ")


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"
