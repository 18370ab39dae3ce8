"""Finds the distribution that offers a backend or codec under a name, without importing any.

Built-in plugins take precedence and are found without reading the entry points of other distributions. Those are read
each time a name is not built in, so that a distribution is found as soon as it is installed.
"""

from __future__ import annotations

import logging
import os
import pkgutil
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from redicts.errors import PluginBroken, PluginMissing
from redicts.plugins.kinds import Kind
from redicts.plugins.suggestions import suggestion

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

DISABLED: Final = "REDICTS_DISABLED_PLUGINS"
"""The environment variable that disables plugins: names or distributions separated by commas, or ``*``."""

OURS: Final = "redicts"
"""The distribution of the built-in plugins."""

_log: Final = logging.getLogger("redicts.plugins")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a plugin comes from: its module and its distribution."""

    kind: Kind
    name: str
    value: str
    """The module, optionally with a colon and an object in it."""
    distribution: str = OURS
    version: str = ""
    """The version of the distribution; empty for redicts itself, where nothing needs it."""

    @property
    def builtin(self) -> bool:
        """Whether it comes with redicts."""
        return self.distribution == OURS

    @property
    def origin(self) -> str:
        """The distribution and its version."""
        return f"{self.distribution} {self.version}".rstrip()

    @property
    def disabled(self) -> bool:
        """Whether the environment disables it: by its name, by its distribution, or with all that are not built in."""
        off = {_canonical(each) for each in os.environ.get(DISABLED, "").split(",")}
        if _canonical(self.name) in off:
            return True
        return not self.builtin and ("*" in off or _canonical(self.distribution) in off)

    def __str__(self) -> str:
        return f"{self.kind.noun} {self.name!r}" + ("" if self.builtin else f" from {self.origin}")


def find(kind: Kind, name: str) -> Source:
    """Return the source that offers this name.

    Raises :class:`~redicts.errors.PluginMissing` if there is none, or if it is disabled, and
    :class:`~redicts.errors.PluginBroken` if two distributions offer it.
    """
    ours = builtin(kind)
    others = [] if name in ours else third_party(kind)
    offers = [source for source in (*ours.values(), *others) if source.name == name]
    enabled = [source for source in offers if not source.disabled]
    if len(enabled) == 1:
        return enabled[0]
    if enabled:
        origins = " and ".join(source.origin for source in enabled)
        raise PluginBroken(
            f"the {kind.noun} {name!r} is offered by {origins}, but only one may offer it; "
            f"uninstall the other, or disable it: {DISABLED}={enabled[-1].distribution}"
        )
    if offers:
        raise PluginMissing(f"the {offers[0]} is disabled by the environment variable {DISABLED}; remove it from there")
    known = {*ours, *[source.name for source in others]}
    raise PluginMissing(
        f"there is no {kind.noun} {name!r}; {suggestion(name, known)}; otherwise install the package that provides it"
    )


@cache
def builtin(kind: Kind) -> Mapping[str, Source]:
    """Return the built-in plugins by name, in order: the modules of their package, which is listed once."""
    modules = pkgutil.iter_modules(import_module(kind.package).__path__)
    names = [module.name for module in modules if not module.name.startswith("_")]
    return MappingProxyType({name: Source(kind, name, f"{kind.package}.{name}") for name in names})


def third_party(kind: Kind) -> list[Source]:
    """Return what other distributions offer, by name, including what is disabled or has the name of a built-in."""
    found = {
        Source(kind, point.name, point.value, *_distribution(point.dist))
        for point in _entry_points(kind.group)
        if point.dist is not None
    }
    return sorted(found, key=lambda source: (source.name, source.distribution, source.value))


def is_offered(kind: Kind, name: str) -> bool:
    """Tell whether any distribution offers this name, usable or not."""
    return name in builtin(kind) or any(source.name == name for source in third_party(kind))


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _entry_points(group: str) -> Iterator[EntryPoint]:
    from importlib import metadata  # noqa: PLC0415  (most programs use built-in plugins only)

    try:
        yield from metadata.entry_points(group=group)
    except Exception:  # the metadata of one distribution is damaged: read the others one by one
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
    """Return the name and the version of a distribution, whose metadata may be damaged."""
    try:
        name, version = distribution.metadata["Name"], distribution.version
    except Exception:
        name, version = None, None
    return str(name or "a distribution without a name"), str(version or "")
