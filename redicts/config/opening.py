"""Opens the backend and the codecs that the settings choose."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TypeVar

from redicts.config.choosing import ChosenSettings
from redicts.core.backend import Backend, Capabilities
from redicts.core.codec import Codec
from redicts.core.envelope import LeafFormat
from redicts.errors import PluginBroken, RedictsError, SettingsError
from redicts.plugins import discovery
from redicts.plugins.discovery import Source
from redicts.plugins.kinds import BACKEND, CODEC
from redicts.plugins.loading import backend_plugin, codec_plugin

_Result = TypeVar("_Result")


def backend(settings: ChosenSettings, number: int) -> Backend:
    """Open one database. The contract forbids I/O here that can fail because a server is unreachable.

    Raises :class:`~redicts.errors.PluginBroken` if the plugin fails.
    """
    source, plugin = discovery.find(BACKEND, settings.backend), backend_plugin(settings.backend)
    options = settings.options
    found = _opened(source, options, lambda: plugin.open(options, number), Backend)  # type: ignore[type-abstract]
    try:
        _opened(source, options, lambda: found.capabilities, Capabilities)
    except SettingsError:
        found.close()
        raise
    return found


def leaf_format(settings: ChosenSettings) -> LeafFormat:
    """Return how leaves are written, and which codecs are read. Raises as :func:`backend` does."""
    readers = [codec(name, options) for name, options in settings.accept.items()]
    writer = codec(settings.codec, settings.codec_options)
    return LeafFormat(writer, readers, lambda name: discovery.is_offered(CODEC, name))


def codec(name: str, options: object = None) -> Codec:
    """Open a codec, by default with the defaults of its settings. Raises as :func:`backend` does."""
    source, plugin = discovery.find(CODEC, name), codec_plugin(name)
    chosen = plugin.model() if options is None and plugin.settings is not None else options
    found = _opened(source, chosen, lambda: plugin.open(chosen), Codec)  # type: ignore[type-abstract]
    if found.name != name:
        # Stored values name their codec, and settings accept codecs by name.
        raise PluginBroken(f"the {source} opens a codec with the name {found.name!r}; upgrade {source.distribution}")
    return found


def _opened(source: Source, settings: object, open_: Callable[[], object], expected: type[_Result]) -> _Result:
    """Return what a plugin opens, after checking its type.

    Errors of redicts pass through. Others, and those that repeat a secret, become
    :class:`~redicts.errors.PluginBroken`.
    """
    cause: BaseException | None = None
    try:
        found = open_()
        if isinstance(found, expected):
            return found
        why = f"it returned {type(found).__name__}, not a {expected.__name__}"
    except (Exception, SystemExit) as error:
        from redicts.config.redaction import repeats_secret  # noqa: PLC0415  (it imports pydantic)

        why = type(error).__name__
        if not repeats_secret("".join(traceback.format_exception(error)), settings):
            if isinstance(error, RedictsError):
                raise
            cause, why = error, f"{why}: {error}" if str(error) else why
    # Raised here and not above: an error that repeats a secret must not become the context of this one.
    raise PluginBroken(
        f"the {source} cannot be opened: {why}; correct its settings, or upgrade {source.distribution}"
    ) from cause
