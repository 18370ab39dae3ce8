"""Finds who offers a backend or codec under a name, and imports none of it.

What comes with redicts wins, and is found without a look at other distributions: their entry points are read when a
name is asked for that is not one of ours, each time again, so that what was just installed is there at once.
"""

from __future__ import annotations

import logging
import os
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final

from redicts.errors import PluginBroken, PluginMissing
from redicts.plugins.kinds import Kind
from redicts.plugins.suggestions import suggestion

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

DISABLED: Final = "REDICTS_DISABLED_PLUGINS"
"""The environment variable that switches plugins off: names or distributions with commas between them, or ``*``."""

OURS: Final = "redicts"
"""The distribution whose plugins are built in."""

_log: Final = logging.getLogger("redicts.plugins")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a plugin comes from."""

    kind: Kind
    name: str
    value: str
    """The module, perhaps with a colon and an object in it."""
    distribution: str = OURS
    version: str = ""
    """The version of the distribution. That of redicts itself is not looked up for this."""

    @property
    def builtin(self) -> bool:
        """Whether it comes with redicts."""
        return self.distribution == OURS

    @property
    def origin(self) -> str:
        """The distribution and its version."""
        return f"{self.distribution} {self.version}".rstrip()

    def __str__(self) -> str:
        return f"{self.kind.word} {self.name!r}" + ("" if self.builtin else f" from {self.origin}")


def find(kind: Kind, name: str) -> Source:
    """Return who offers this name.

    Raises :class:`~redicts.errors.PluginMissing` if nobody does, or if it is switched off, and
    :class:`~redicts.errors.PluginBroken` if two distributions do.
    """
    ours = builtin(kind).get(name)
    if ours is not None:
        return _switched_on(ours)
    others = third_party(kind)
    offers = [source for source in others if source.name == name]
    left = [source for source in offers if not switched_off(source)]
    if len(left) == 1 or (offers and not left):
        return _switched_on((left or offers)[0])
    if left:
        raise PluginBroken(twice(left))
    known = {*builtin(kind), *[source.name for source in others]}
    raise PluginMissing(
        f"there is no {kind.word} {name!r}; {suggestion(name, known)}; otherwise install the package that offers it"
    )


def builtin(kind: Kind) -> dict[str, Source]:
    """Return those that come with redicts, by name: the modules of their package."""
    package = import_module(kind.package)
    return {
        module.name: Source(kind, module.name, f"{kind.package}.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
        if not module.name.startswith("_")
    }


def third_party(kind: Kind) -> list[Source]:
    """Return what other distributions offer, by name, those included that are switched off or take a name of ours."""
    found = {
        Source(kind, point.name, point.value, *_distribution(point.dist))
        for point in _entry_points(kind.group)
        if point.dist is not None
    }
    return sorted(found, key=lambda source: (source.name, source.distribution, source.value))


def is_offered(kind: Kind, name: str) -> bool:
    """Tell whether anybody offers this name, usable or not."""
    return name in builtin(kind) or any(source.name == name for source in third_party(kind))


def switched_off(source: Source) -> bool:
    """Tell whether the environment switches a plugin off: by its name, by its distribution, or with all others."""
    off = {_canonical(each) for each in os.environ.get(DISABLED, "").split(",")}
    if _canonical(source.name) in off:
        return True
    return not source.builtin and ("*" in off or _canonical(source.distribution) in off)


def twice(sources: list[Source]) -> str:
    """Return what an error says of a name that several distributions offer."""
    one = sources[0]
    origins = " and ".join(source.origin for source in sources)
    return (
        f"the {one.kind.word} {one.name!r} is offered by {origins}, and only one may; "
        f"uninstall the other, or switch it off: {DISABLED}={sources[-1].distribution}"
    )


def _switched_on(source: Source) -> Source:
    if switched_off(source):
        raise PluginMissing(f"the {source} is switched off by the environment variable {DISABLED}; take it out there")
    return source


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _entry_points(group: str) -> Iterator[EntryPoint]:
    from importlib import metadata  # noqa: PLC0415  (most programs need no plugin of others)

    try:
        yield from metadata.entry_points(group=group)
    except Exception:  # what one distribution says cannot be read: that must not hide all others
        seen = set()
        for distribution in metadata.distributions():
            try:
                name = _canonical(distribution.metadata["Name"])
                if name not in seen:
                    seen.add(name)
                    yield from [point for point in distribution.entry_points if point.group == group]
            except Exception as error:
                where = getattr(distribution, "_path", "a distribution")
                _log.warning("the entry points of %s cannot be read (%s); reinstall it", where, type(error).__name__)


def _distribution(distribution: Distribution) -> tuple[str, str]:
    """Return the name and the version of a distribution, which may be damaged."""
    try:
        name, version = distribution.metadata["Name"], distribution.version
    except Exception:
        name, version = None, None
    return str(name or "a distribution without a name"), str(version or "")
