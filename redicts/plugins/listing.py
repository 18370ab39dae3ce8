"""Lists every plugin that is installed: from where, in which version, and whether it can be used."""

from __future__ import annotations

from dataclasses import dataclass

from redicts.errors import SettingsError
from redicts.plugins import discovery
from redicts.plugins.discovery import OURS, Source
from redicts.plugins.kinds import KINDS, Kind
from redicts.plugins.loading import load


@dataclass(frozen=True, slots=True)
class Installed:
    """A plugin that is installed."""

    kind: str
    """``backend`` or ``codec``."""
    name: str
    distribution: str
    version: str
    builtin: bool
    """Whether it comes with redicts."""
    problem: str | None
    """Why it cannot be used, and what to do; ``None`` if it can."""
    summary: str
    """What it is for, in its own words, where it could be loaded."""

    @property
    def usable(self) -> bool:
        """Whether settings can choose it."""
        return self.problem is None


def installed() -> tuple[Installed, ...]:
    """Return all backends and codecs, ours first, those included that are broken, switched off or in another's way.

    To know whether one can be used it is imported; what fails then is told in ``problem``, and raises nothing.

    >>> [each.usable for each in installed() if each.name == "memory"]
    [True]
    """
    return tuple(_looked_at(source, kind) for kind in KINDS for source in [*_ours(kind), *discovery.third_party(kind)])


def _ours(kind: Kind) -> list[Source]:
    return [source for _, source in sorted(discovery.builtin(kind).items())]


def _looked_at(source: Source, kind: Kind) -> Installed:
    problem, summary = None, ""
    try:
        if not source.builtin and source.name in discovery.builtin(kind):
            problem = f"the name {source.name!r} belongs to the {kind.word} of {OURS}, which is used instead"
        elif discovery.find(kind, source.name) == source:
            summary = str(load(source).summary)
        else:
            problem = f"the {source} is switched off by the environment variable {discovery.DISABLED}"
    except SettingsError as error:
        problem = str(error)
    version = _our_version() if source.builtin else source.version
    return Installed(kind.word, source.name, source.distribution, version, source.builtin, problem, summary)


def _our_version() -> str:
    from importlib import metadata  # noqa: PLC0415  (for the list only)

    try:
        return metadata.version(OURS)
    except metadata.PackageNotFoundError:
        return ""
