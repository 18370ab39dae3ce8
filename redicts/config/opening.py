"""Opens what the settings have chosen: the backend of one database, and the codecs."""

from __future__ import annotations

from redicts.config import redaction
from redicts.config.settings import Settings
from redicts.core.backend import Backend, Capabilities
from redicts.core.codec import Codec, CodecSettings
from redicts.core.envelope import LeafFormat
from redicts.errors import PluginBroken, SettingsError
from redicts.plugins import discovery
from redicts.plugins.kinds import BACKEND, CODEC
from redicts.plugins.loading import backend_plugin, codec_plugin


def backend(settings: Settings, number: int) -> Backend:
    """Return one opened database. The contract forbids I/O here that can fail for want of a server.

    Raises :class:`~redicts.errors.PluginBroken` if the plugin fails.
    """
    source, plugin, options = (
        discovery.find(BACKEND, settings.backend),
        backend_plugin(settings.backend),
        settings.options,
    )
    found = redaction.opened(source, options, lambda: plugin.open(options, number), Backend)  # type: ignore[type-abstract]  # nothing is made of it
    try:
        redaction.opened(source, options, lambda: found.capabilities, Capabilities)
    except SettingsError:
        found.close()
        raise
    return found


def leaf_format(settings: Settings) -> LeafFormat:
    """Return how leaves are written, and which codecs are read. Raises as :func:`backend` does."""
    readers = [codec(name, options) for name, options in settings.accept.items()]
    writer = codec(settings.codec, settings.codec_options)
    return LeafFormat(writer, readers, lambda name: discovery.is_offered(CODEC, name))


def codec(name: str, options: CodecSettings | None = None) -> Codec:
    """Return an opened codec, without ``options`` on its own defaults. Raises as :func:`backend` does."""
    plugin = codec_plugin(name)
    chosen = plugin.settings() if options is None else options
    source = discovery.find(CODEC, name)
    found: Codec = redaction.opened(source, chosen, lambda: plugin.open(chosen), Codec)  # type: ignore[type-abstract]
    if found.name != name:
        # Values are told apart by it, and accepted by it.
        raise PluginBroken(
            f"the {source} opens a codec that calls itself {found.name!r}; upgrade {source.distribution}"
        )
    return found
