"""Splits a configuration into general settings and those of the backend and the codecs, which are validated later."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from redicts.config.defaults import DEFAULT_BACKEND, DEFAULT_CODEC, SCHEMES
from redicts.config.redaction import shown_name
from redicts.config.validation import fields_of_url, unknown_field
from redicts.errors import SettingsError, WrongField
from redicts.plugins import discovery
from redicts.plugins.kinds import BACKEND, CODEC, Kind
from redicts.plugins.loading import backend_model

GENERAL: Final = (
    "accept",
    "backend",
    "cache",
    "codec",
    "database",
    "default",
    "lock_retention",
    "mandatory_locks",
    "names",
)
"""The names of the general settings. In the flat form, all others are settings of the backend."""


class PluginConfiguration(NamedTuple):
    """The name of a backend or codec, and the fields that are given for it."""

    name: str
    fields: Mapping[str, Any]


class Parts(NamedTuple):
    """The parts of a configuration."""

    backend: PluginConfiguration
    codec: PluginConfiguration
    accept: tuple[PluginConfiguration, ...]
    general: dict[str, Any]
    """The other general settings."""


def split(cfg: Mapping[str, Any] | str) -> Parts:
    """Return the parts of a configuration. Raises :class:`~redicts.errors.SettingsError` if it has no known form."""
    if isinstance(cfg, str):
        cfg = _from_url(cfg)
    if not isinstance(cfg, Mapping):
        raise SettingsError(f"settings: cfg must be a dict or a URL, not {type(cfg).__name__}")
    general = {key: value for key, value in cfg.items() if key in GENERAL}
    fields = {key: value for key, value in cfg.items() if key not in GENERAL}
    given = general.pop("backend", DEFAULT_BACKEND)
    backend = _plugin("settings", BACKEND, given)
    if not isinstance(given, Mapping):
        backend = backend._replace(fields=fields)
    elif fields:
        names = ", ".join(map(shown_name, fields))
        raise WrongField(f"settings: {names} must be in the dict that is given as 'backend'; put it into that dict")
    codec = _plugin("settings", CODEC, general.pop("codec", DEFAULT_CODEC))
    return Parts(backend, codec, _accepted(general.pop("accept", [DEFAULT_CODEC])), general)


def _accepted(given: Any) -> tuple[PluginConfiguration, ...]:
    if not isinstance(given, (list, tuple)):
        raise WrongField('settings: accept must be a list of codecs, for instance ["json"]')
    accepted = tuple([_plugin("accept", CODEC, each) for each in given])
    names = [each.name for each in accepted]
    for name in names:
        if names.count(name) > 1:
            raise WrongField(f"accept: the codec {name!r} is listed twice; remove one")
    return accepted


def _plugin(where: str, kind: Kind, given: Any) -> PluginConfiguration:
    """Return the configuration of a plugin that is given as a name, or as a dict with a name and further fields."""
    fields = dict(given) if isinstance(given, Mapping) else {"name": given}
    if "name" not in fields:
        advice = unknown_field(next(iter(fields)), ["name"]) if fields else "give one"
        raise WrongField(f"{where}: a {kind.noun} given as a dict must have a name; {advice}")
    name = fields.pop("name")
    if not isinstance(name, str):
        raise WrongField(f"{where}: {kind.noun} must be a name, or a dict with a name")
    if re.search(r"[:@]", name):  # never repeated, because it may hold a password
        advice = "; give a URL as the whole configuration" if kind is BACKEND else ""
        raise WrongField(f"{where}: {kind.noun} must be a name without colons and @{advice}")
    return PluginConfiguration(name, fields)


def _from_url(url: str) -> Mapping[str, Any]:
    scheme = url.partition("://")[0]
    if scheme == url or not re.fullmatch(r"[A-Za-z][\w+.-]*", scheme, re.ASCII):
        raise SettingsError("settings: a configuration that is text must be a URL, for instance sqlite:///state.db")
    name = SCHEMES.get(scheme, scheme)
    model = backend_model(name)
    return {"backend": {"name": name, **fields_of_url(discovery.find(BACKEND, name), model, url)}}
