"""The two kinds of plugins, and what tells one from the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from redicts.core import hooks
from redicts.core.backend import BackendPlugin, BackendSettings
from redicts.core.codec import CodecPlugin, CodecSettings


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of plugins."""

    word: str
    """What errors call it."""
    group: str
    """The group of entry points that distributions name theirs in."""
    hook: str
    """The hook that a module of this kind implements."""
    package: str
    """The package whose modules are those that come with redicts."""
    plugin: type[BackendPlugin] | type[CodecPlugin]
    """What the hook returns a list of."""
    settings: type[BaseModel]
    """The base of the settings of each."""


BACKEND: Final = Kind(
    "backend", hooks.BACKENDS, hooks.redicts_backends.__name__, "redicts.backends", BackendPlugin, BackendSettings
)
CODEC: Final = Kind("codec", hooks.CODECS, hooks.redicts_codecs.__name__, "redicts.codecs", CodecPlugin, CodecSettings)

KINDS: Final = (BACKEND, CODEC)
