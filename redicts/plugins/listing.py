"""Lists the installed plugins: where each comes from, and whether it can be used."""

from __future__ import annotations

from dataclasses import dataclass

from redicts.errors import SettingsError
from redicts.plugins import discovery
from redicts.plugins.discovery import OURS, Source
from redicts.plugins.kinds import KINDS
from redicts.plugins.loading import load


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
    found = []
    for kind in KINDS:
        ours = discovery.builtin(kind)
        found += [_described(ours[name]) for name in sorted(ours)]
        found += [
            _described(
                source,
                hidden=source.name in ours,
            )
            for source in discovery.third_party(kind)
        ]
    return tuple(found)


def _described(source: Source, *, hidden: bool = False) -> Installed:
    """Return what the list says of a plugin; ``hidden`` if a built-in one has its name."""
    problem, summary = None, ""
    noun = source.kind.noun
    try:
        if hidden:
            problem = f"the name {source.name!r} belongs to the {noun} of {OURS}, which is used instead"
        elif discovery.find(source.kind, source.name) == source:
            summary = str(load(source).summary)
        else:
            problem = f"the {source} is disabled by the environment variable {discovery.DISABLED}"
    except SettingsError as error:
        problem = str(error)
    version = _our_version() if source.builtin else source.version
    return Installed(noun, source.name, source.distribution, version, source.builtin, problem, summary)


def _our_version() -> str:
    from importlib import metadata  # noqa: PLC0415  (for the list only)

    try:
        return metadata.version(OURS)
    except metadata.PackageNotFoundError:
        return ""
