"""Finds the backends and codecs that come with redicts by name, and imports each when it is first chosen."""

from __future__ import annotations

import pkgutil
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import redicts.backends
import redicts.codecs
from redicts.core.backend import Backend, BackendPlugin
from redicts.core.codec import Codec, CodecPlugin
from redicts.errors import SettingsError


def backend_plugin(name: str) -> BackendPlugin:
    """Return the backend of this name. Raises :class:`~redicts.errors.SettingsError` if there is none that works."""
    plugin: BackendPlugin = _module("backend", redicts.backends, name).plugin
    return plugin


def adopted(client: object) -> Backend:
    """Return a backend for the store that a client object of the user's is connected to.

    Raises :class:`~redicts.errors.SettingsError` if it is no client that a backend knows.
    """
    backend: Backend | None = None
    adopt = backend_plugin("redis").adopt
    if adopt is not None:
        backend = adopt(client)
    if backend is None:
        raise SettingsError(
            f"{type(client).__name__} leads to no store; give a Proxy, the Pool, a backend, or a client of redis-py"
        )
    return backend


def codec(name: str) -> Codec:
    """Return the codec of this name. Raises :class:`~redicts.errors.SettingsError` if there is none that works."""
    found: Codec = _module("codec", redicts.codecs, name).codec
    return found


def codec_plugin(name: str) -> CodecPlugin:
    """Return the plugin of a codec. Raises :class:`~redicts.errors.SettingsError` if there is none that works."""
    offered: list[CodecPlugin] = _module("codec", redicts.codecs, name).redicts_codecs()
    return next(plugin for plugin in offered if plugin.name == name)


def _module(kind: str, package: Any, name: str) -> Any:
    known = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    if name not in known:
        raise SettingsError(f"there is no {kind} {name!r}; {suggestion(name, known)}")
    try:
        return import_module(f"{package.__name__}.{name}")
    except ImportError as error:
        raise SettingsError(
            f"the {kind} {name!r} cannot be used here: {error}; install the missing package, "
            f"for instance with: pip install 'redicts[{name}]'"
        ) from error


def suggestion(name: str, known: list[str]) -> str:
    """Return what an error says after an unknown name: the nearest known one, or all of them."""
    nearest = get_close_matches(name, known, n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(known)}"
