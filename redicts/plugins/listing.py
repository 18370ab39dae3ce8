"""Lists the installed plugins: where each comes from, and whether it can be used."""

from __future__ import annotations

from dataclasses import dataclass

from redicts.errors import SettingsError
from redicts.plugins import discovery
from redicts.plugins.discovery import OURS, Source
from redicts.plugins.kinds import KINDS
from redicts.plugins.loading import load
from redicts.version import __version__


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed plugin."""

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
    """Its own description in one line, if it could be loaded."""

    @property
    def usable(self) -> bool:
        """Whether settings can choose it."""
        return self.problem is None


def installed() -> tuple[Installed, ...]:
    """Return all backends and codecs, built-in ones first, including broken, disabled and hidden ones.

    A plugin is imported to find out whether it can be used; ``problem`` has the error, and none is raised.

    >>> [each.usable for each in installed() if each.name == "memory"]
    [True]
    """
    sources = [each for kind in KINDS for each in (*discovery.builtin(kind).values(), *discovery.third_party(kind))]
    return tuple(map(_described, sources))


def _described(source: Source) -> Installed:
    """Return the entry of the list for a plugin."""
    problem, summary = None, ""
    kind = source.kind
    try:
        if not source.builtin and source.name in discovery.builtin(kind):
            problem = f"the name {source.name!r} belongs to the {kind.noun} of {OURS}, which is used instead"
        elif discovery.find(kind, source.name) == source:
            summary = str(load(source).summary)
        else:
            problem = f"the {source} is disabled by the environment variable {discovery.DISABLED}"
    except SettingsError as error:
        problem = str(error)
    version = __version__ if source.builtin else source.version
    return Installed(kind.noun, source.name, source.distribution, version, source.builtin, problem, summary)
