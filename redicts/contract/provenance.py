"""The origin of a plugin for the report, and the secrets of its settings, which no report may contain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Final
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretBytes, SecretStr

from redicts.core.backend import BackendPlugin
from redicts.core.codec import CodecPlugin
from redicts.core.entry_points import BACKENDS, CODECS
from redicts.version import __version__

_SECRET_WORDS: Final = ("password", "secret", "token", "credential")
"""Parts of the names of fields whose text is secret, whatever their type."""


def provenance(plugin: BackendPlugin | CodecPlugin) -> dict[str, str]:
    """Return a plugin's name, distribution, version, and contract version."""
    distribution, version = _distribution(plugin)
    return {
        "plugin": plugin.name,
        "distribution": distribution,
        "version": version,
        "written for contract": str(plugin.contract),
    }


def _distribution(plugin: BackendPlugin | CodecPlugin) -> tuple[str, str]:
    """Return the name and the version of the distribution that a plugin comes from."""
    module = module_of(plugin)
    group = BACKENDS if isinstance(plugin, BackendPlugin) else CODECS
    for entry in metadata.entry_points(group=group, name=plugin.name):
        if entry.dist is not None and entry.module.partition(".")[0] == module.partition(".")[0]:
            return entry.dist.name, entry.dist.version
    package = module.partition(".")[0]
    if package == "redicts":
        return package, __version__
    for name in metadata.packages_distributions().get(package, []):
        try:
            return name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return f"none (module {module})", "unknown"


def module_of(plugin: BackendPlugin | CodecPlugin) -> str:
    """Return the name of the module in which a plugin has its settings, or opens its store if it has none."""
    code: object = plugin.open if plugin.settings is None else plugin.model
    return str(getattr(code, "__module__", type(code).__module__))


def secrets_in(settings: BaseModel) -> Iterator[str]:
    """Yield the secrets in settings, by the type or the name of a field, and the passwords in URLs."""
    for name in type(settings).model_fields:
        yield from _secrets_of(name, getattr(settings, name))


def _secrets_of(name: str, value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, SecretBytes):
        yield value.get_secret_value().decode(errors="replace")
    elif isinstance(value, BaseModel):
        yield from secrets_in(value)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for each in value:
            yield from _secrets_of(name, each)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _secrets_of(str(key), each)
    elif isinstance(value, str):
        if any(word in name for word in _SECRET_WORDS):
            yield value
        yield from _password_in(value)


def _password_in(text: str) -> Iterator[str]:
    if "://" in text:
        try:
            password = urlsplit(text).password
        except ValueError:
            password = text  # any part of it may be a secret
        if password:
            yield from {password, unquote(password)}
