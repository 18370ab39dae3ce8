"""The report of an examination: the result of each check, and whether the store or codec is certified."""

from __future__ import annotations

import dataclasses
import platform
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import hypothesis

from redicts.contract.check import BASE
from redicts.contract.subjects import RULES, Loss, Subject
from redicts.core.backend import Capabilities
from redicts.core.entry_points import CONTRACT
from redicts.version import __version__

_SHORT: Final = 400
"""Characters of a reason in the text of a report; the dict has all of it."""

_SHORTEST_SECRET: Final = 4
"""The length from which a secret is crossed out: a shorter one is part of half of all words."""

CROSSED_OUT: Final = "*****"
"""The replacement of a secret in a report."""


class Status(Enum):
    """The outcome of a check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one check, and the reason for it."""

    check: str
    says: str
    status: Status
    reason: str = ""
    """Why it failed or did not run."""
    required: bool = True
    """Whether certification needs it to pass. False only for a check that did not run and need not."""
    details: str = ""
    """The traceback of a failure."""
    milliseconds: float = 0.0
    capabilities: tuple[str, ...] = (BASE,)
    """The capabilities that the check is about."""
    subject: Subject | None = None

    def taking(self, milliseconds: float) -> Result:
        """Return this result with its duration."""
        return dataclasses.replace(self, milliseconds=round(milliseconds, 1))

    def without(self, secrets: Sequence[str]) -> Result:
        """Return this result with these texts crossed out."""
        reason, details = crossed_out(self.reason, secrets), crossed_out(self.details, secrets)
        return dataclasses.replace(self, reason=reason, details=details)

    @property
    def blocks_certification(self) -> bool:
        """Whether there is no certificate because of it."""
        return self.status is Status.FAILED or (self.status is Status.NOT_RUN and self.required)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            **dataclasses.asdict(self),
            "status": self.status.value,
            "capabilities": list(self.capabilities),
            "subject": self.check.partition(".")[0],
            "loses": None if self.subject is None else self.subject.loss.value,
            "read": list(self.pages),
        }

    @property
    def pages(self) -> tuple[str, ...]:
        """The pages that explain the rule and how it is examined."""
        if self.subject is None:
            return ()
        return f"docs/{self.subject.page}", f"docs/{RULES}#{self.subject.anchor}"

    def __str__(self) -> str:
        """Tell the outcome; of a failure also the rule, and the pages to read."""
        if self.status is not Status.FAILED:
            return f"{self.status.value} {self.check}: {self.reason}" if self.reason else f"passed {self.check}"
        return f"FAILED {self.check}: {_shortened(self.reason)}{self.told}"

    @property
    def told(self) -> str:
        """The rule and the pages to read, on lines of their own."""
        return f"\n    rule: {self.says}\n    read: {', '.join(self.pages)}"


@dataclass(frozen=True, slots=True)
class CodecCapabilities:
    """The capabilities that a codec declares."""

    name: str
    deterministic: bool
    binds_path: bool
    safe: bool


@dataclass(frozen=True, slots=True)
class Report:
    """The results of an examination. ``str(report)`` is for people, :meth:`to_dict` for programs."""

    harness: str
    backend: str | None
    """The class of the backend or codec, or ``None`` if it could not be opened."""
    capabilities: Capabilities | CodecCapabilities | None
    """The declared capabilities, or ``None`` if they are unknown."""
    results: tuple[Result, ...]
    seed: int
    thorough: bool
    names_left_out: int = 0
    """How many of the suite's hostile segments the harness withholds from the store."""
    left_out: tuple[str, ...] = ()
    """The checks that were not selected. A certificate covers all of them."""
    could_declare: tuple[str, ...] = ()
    """The capabilities that work although they are not declared, one sentence each."""
    subject: Mapping[str, str] = field(default_factory=dict)
    """The origin and version of the backend or codec and of its server."""
    kind: str = "backend"
    """``backend`` or ``codec``."""
    about: Mapping[str, str] = field(
        default_factory=lambda: {
            "redicts": __version__,
            "contract": str(CONTRACT),
            "hypothesis": hypothesis.__version__,
            "python": sys.version.split()[0],
            "platform": platform.platform(),
        }
    )

    @property
    def passed(self) -> bool:
        """Whether the store was opened, and every selected and required check ran and passed.

        With all checks selected that is a certificate, see :attr:`certified`.
        """
        found = self.capabilities is not None and bool(self.with_status(Status.PASSED))
        return found and not self.names_left_out and not any(result.blocks_certification for result in self.results)

    @property
    def certified(self) -> bool:
        """Whether every check that the declared capabilities require ran and passed, with all names."""
        return self.passed and not self.left_out

    def with_status(self, status: Status) -> tuple[Result, ...]:
        """Return the results with this status."""
        return tuple(result for result in self.results if result.status is status)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """The number of checks on each capability that were required, ran, passed and did not run."""
        counted: dict[str, dict[str, int]] = {}
        for result in self.results:
            for capability in result.capabilities:
                count = counted.setdefault(capability, {"required": 0, "ran": 0, "passed": 0, "not run": 0})
                count["required"] += result.required
                count["ran"] += result.status is not Status.NOT_RUN
                count["passed"] += result.status is Status.PASSED
                count["not run"] += result.status is Status.NOT_RUN
        return counted

    @property
    def losses(self) -> list[dict[str, Any]]:
        """What was examined and what not, by what users would lose, the worst first."""
        found = []
        for loss in Loss:
            results = [each for each in self.results if each.subject is not None and each.subject.loss is loss]
            counts = {status.value: sum(each.status is status for each in results) for status in Status}
            reasons: dict[str, list[str]] = {}
            for each in results:
                if each.status is Status.NOT_RUN:
                    reasons.setdefault(each.reason, []).append(each.check)
            if results:
                found.append({"users would lose": loss.value, **counts, "not examined": reasons})
        return found

    @property
    def status(self) -> str:
        """The result as the text of the report states it."""
        if self.certified:
            return "CERTIFIED"
        if self.passed:
            ran = len(self.results)
            return f"NOT A CERTIFICATE: only {ran} {'check' if ran == 1 else 'checks'} of {ran + len(self.left_out)}"
        return "NOT CERTIFIED"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "certified": self.certified,
            "status": self.status,
            "harness": self.harness,
            self.kind: self.backend,
            "capabilities": None if self.capabilities is None else dataclasses.asdict(self.capabilities),
            "could_declare": list(self.could_declare),
            "seed": self.seed,
            "thorough": self.thorough,
            "names_left_out": self.names_left_out,
            "about": dict(self.about),
            "subject": dict(self.subject),
            "losses": self.losses,
            "counts": self.counts,
            "checks": [result.to_dict() for result in self.results],
            "left_out": list(self.left_out),
        }

    def __str__(self) -> str:
        thorough = ", thorough" if self.thorough else ""
        lines = [
            ", ".join(f"{what} {version}" for what, version in self.about.items()),
            f"harness {self.harness}, {self.kind} {self.backend or 'not opened'}, seed {self.seed}{thorough}",
            *([", ".join(f"{what} {value}" for what, value in self.subject.items())] if self.subject else []),
            f"declares: {_declared(self.capabilities)}",
            "",
        ]
        width = max((len(result.check) for result in self.results), default=0)
        for result in self.results:
            reason = f"  {_shortened(result.reason)}" if result.reason else ""
            if result.status is Status.FAILED:
                reason += result.told
            status = result.status.value.upper() if result.status is Status.FAILED else result.status.value
            lines.append(f"{status:8}{result.check:{width}}{result.milliseconds:9.1f} ms{reason}")
        return "\n".join([*lines, "", *self._examined(), "", *self._counted(), "", *self._status()])

    def _examined(self) -> list[str]:
        width = max((len(each["users would lose"]) for each in self.losses), default=0)
        lines = [f"{'what users would lose':{width}}{'passed':>8}{'failed':>8}{'not run':>9}"] if width else []
        for each in self.losses:
            counts = f"{each['passed']:8}{each['failed']:8}{each['not run']:9}"
            lines.append(f"{each['users would lose']:{width}}{counts}")
            for reason, checks in each["not examined"].items():
                subjects = Counter(check.partition(".")[0] for check in checks)
                counted = ", ".join(f"{subject} ({count})" for subject, count in subjects.items())
                lines.append(f"  not examined: {counted}, since {_shortened(reason)}")
        return lines

    def _counted(self) -> list[str]:
        lines = [f"{'checks about':16}{'required':>10}{'ran':>6}{'passed':>8}{'not run':>9}"]
        for capability, count in self.counts.items():
            ran, passed, not_run = count["ran"], count["passed"], count["not run"]
            lines.append(f"{capability:16}{count['required']:10}{ran:6}{passed:8}{not_run:9}")
        return [*lines, *(f"unexpected success: {each}" for each in self.could_declare)]

    def _status(self) -> list[str]:
        passed, failed, not_run = (len(self.with_status(status)) for status in Status)
        counts = f"{passed} checks passed, {failed} failed, {not_run} not run"
        if self.passed:
            return [f"{self.status}: {counts}, none of which was required" if not_run else f"{self.status}: {counts}"]
        lines = [f"{self.status}: {counts}"]
        lines += [f"  {result.status.value}: {result.check}" for result in self.results if result.blocks_certification]
        if self.names_left_out:
            lines.append(f"  the harness withholds {self.names_left_out} of the suite's names from the store")
        if self.capabilities is None:
            lines.append(f"  the {self.kind} could not be opened")
        elif not passed:
            lines.append("  no check passed")
        return lines


def _declared(capabilities: Capabilities | CodecCapabilities | None) -> str:
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
    """Return a reason for the text of a report: indented, and cut if it is very long."""
    cut = reason if len(reason) <= _SHORT else f"{reason[:_SHORT]}... ({len(reason)} characters)"
    return cut.replace("\n", "\n    ")
