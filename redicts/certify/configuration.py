"""What a configuration on the command line leads to: the one place of the command that knows a pool's settings."""

from __future__ import annotations

from redicts.certify.wrong_use import WrongUse
from redicts.config.settings import parse
from redicts.config.sources import written
from redicts.contract import Store
from redicts.contract.codecs import CodecChoice
from redicts.errors import SettingsError
from redicts.plugins.loading import backend_plugin, codec_plugin


def store_of(text: str) -> Store:
    """Return the store that a URL, a dict as JSON, or the name of a plugin leads to; it is not opened.

    Raises :class:`~redicts.certify.wrong_use.WrongUse`, which never repeats the text: it may hold a password.
    """
    try:
        settings = parse(written(text))
        return Store(backend_plugin(settings.backend), settings.options, settings.default)
    except SettingsError as error:
        raise WrongUse(" ".join(str(error).split())) from None


def codec_of(text: str) -> CodecChoice:
    """Return the codec that a name, or a dict with a name and settings as JSON, stands for; it is not made.

    Raises :class:`~redicts.certify.wrong_use.WrongUse`, which never repeats a value: it may be a key.
    """
    name = text.strip()
    try:
        settings = parse({"backend": "memory", "codec": written(name) if name.startswith("{") else name})
        return CodecChoice(codec_plugin(settings.codec), settings.codec_options)
    except SettingsError as error:
        raise WrongUse(" ".join(str(error).split())) from None
