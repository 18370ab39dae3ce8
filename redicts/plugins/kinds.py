"""The two kinds of plugins: backends and codecs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from redicts.core.backend import BackendPlugin
from redicts.core.codec import CodecPlugin
from redicts.core.entry_points import BACKENDS, CODECS


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of plugins: its name, and how plugins of this kind are found and checked."""

    noun: str
    """What errors and lists call it."""
    group: str
    """The group of entry points in which distributions name theirs."""
    hook: str
    """The hook that a module of this kind implements."""
    package: str
    """The package whose modules are the built-in plugins."""
    plugin: type[BackendPlugin] | type[CodecPlugin]
    """The type of which the hook returns a list."""


BACKEND: Final = Kind("backend", BACKENDS, "redicts_backends", "redicts.backends", BackendPlugin)
CODEC: Final = Kind("codec", CODECS, "redicts_codecs", "redicts.codecs", CodecPlugin)

KINDS: Final = (BACKEND, CODEC)
