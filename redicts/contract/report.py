"""The report: which laws ran, which did not and why, and the verdict that follows."""

from __future__ import annotations

import dataclasses
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from redicts.core.backend import Capabilities

if TYPE_CHECKING:
    from redicts.contract.codecs.law import CodecClaims

_SHORT: Final = 400
"""Characters of a reason in the text of a report; the dict has all of it."""


class Status(Enum):
    """What became of a law."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one law."""

    law: str
    says: str
    status: Status
    reason: str = ""
    """Why it failed or was not run."""
    demanded: bool = True
    """Whether a certificate needs it to pass. False only for a law that was not run and need not be."""
    details: str = ""
    """The traceback of what failed."""
    milliseconds: float = 0.0

    def taking(self, milliseconds: float) -> Result:
        """Return this result with the time it took."""
        return dataclasses.replace(self, milliseconds=round(milliseconds, 1))

    @property
    def stands_in_the_way(self) -> bool:
        """Whether there can be no certificate because of it."""
        return self.status is Status.FAILED or (self.status is Status.NOT_RUN and self.demanded)


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
    kind: str = "backend"
    """What was examined: ``backend`` or ``codec``."""
    about: Mapping[str, str] = field(
        default_factory=lambda: {
            "redicts": _version("redicts"),
            "hypothesis": _version("hypothesis"),
            "python": sys.version.split()[0],
            "platform": platform.platform(),
        }
    )

    @property
    def certified(self) -> bool:
        """Whether it could be opened, and every law that its claims demand ran and passed, with all names."""
        found = self.capabilities is not None and bool(self.results)
        return found and not self.names_left_out and not any(result.stands_in_the_way for result in self.results)

    def with_status(self, status: Status) -> tuple[Result, ...]:
        """Return the results of the laws that passed, failed, or were not run."""
        return tuple(result for result in self.results if result.status is status)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it in dicts, lists, text, numbers and truth values, as JSON has them."""
        return {
            "certified": self.certified,
            "harness": self.harness,
            self.kind: self.backend,
            "capabilities": None if self.capabilities is None else dataclasses.asdict(self.capabilities),
            "seed": self.seed,
            "thorough": self.thorough,
            "names_left_out": self.names_left_out,
            "about": dict(self.about),
            "laws": [{**dataclasses.asdict(result), "status": result.status.value} for result in self.results],
        }

    def __str__(self) -> str:
        thorough = ", thorough" if self.thorough else ""
        lines = [
            f"redicts {self.about['redicts']}, Python {self.about['python']}, {self.about['platform']}",
            f"harness {self.harness}, {self.kind} {self.backend or 'not opened'}, seed {self.seed}{thorough}",
            f"claims: {_claims(self.capabilities)}",
            "",
        ]
        width = max((len(result.law) for result in self.results), default=0)
        for result in self.results:
            reason = f"  {_shortened(result.reason)}" if result.reason else ""
            status = result.status.value.upper() if result.status is Status.FAILED else result.status.value
            lines.append(f"{status:8}{result.law:{width}}{result.milliseconds:9.1f} ms{reason}")
        return "\n".join([*lines, "", *self._verdict()])

    def _verdict(self) -> list[str]:
        passed, failed, not_run = (len(self.with_status(status)) for status in Status)
        counts = f"{passed} laws passed, {failed} failed, {not_run} not run"
        if self.certified:
            return [f"certified: {counts}, none of which was demanded" if not_run else f"certified: {counts}"]
        lines = [f"not certified: {counts}"]
        lines += [f"  {result.status.value}: {result.law}" for result in self.results if result.stands_in_the_way]
        if self.names_left_out:
            lines.append(f"  the harness keeps {self.names_left_out} of the suite's names from the store")
        if self.capabilities is None:
            lines.append(f"  the {self.kind} could not be opened and asked what it can do")
        return lines


def _claims(capabilities: Capabilities | CodecClaims | None) -> str:
    if capabilities is None:
        return "unknown"
    return ", ".join(f"{name}={value}" for name, value in dataclasses.asdict(capabilities).items())


def _shortened(reason: str) -> str:
    """Return a reason fit for the text of a report: indented, and cut where it is very long."""
    cut = reason if len(reason) <= _SHORT else f"{reason[:_SHORT]}... ({len(reason)} characters)"
    return cut.replace("\n", "\n    ")


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"
