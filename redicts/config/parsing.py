"""Takes a configuration apart: what is said for the pool, for the backend, for each codec. It checks no value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from redicts.config.redaction import fields_of_url, shown_name, unknown_field
from redicts.errors import SettingsError, WrongField
from redicts.plugins import discovery
from redicts.plugins.kinds import BACKEND
from redicts.plugins.loading import backend_plugin

DEFAULT_BACKEND: Final = "redis"
DEFAULT_CODEC: Final = "json"

OWN: Final = ("accept", "backend", "codec", "database", "default", "lock_retention", "mandatory_locks", "names")
"""The settings that are the pool's own. Beside them stand those of the backend, if it is given by its name only."""

_SCHEMES: Final = {"rediss": "redis", "unix": "redis"}
"""Schemes of URLs that are not the name of their backend."""


class Choice(NamedTuple):
    """A backend or codec that was chosen: its name, and what is said for it."""

    name: str
    fields: Mapping[str, Any]


class Parts(NamedTuple):
    """A configuration, taken apart."""

    backend: Choice
    codec: Choice
    accept: tuple[Choice, ...]
    own: dict[str, Any]
    """What else is said for the pool."""


def split_into_leaves(cfg: Mapping[str, Any] | str) -> Parts:
    """Return the parts of a configuration. Raises :class:`~redicts.errors.SettingsError` if it has no known form."""
    if isinstance(cfg, str):
        cfg = _from_url(cfg)
    if not isinstance(cfg, Mapping):
        raise SettingsError(f"settings: cfg is a dict or a URL, not {type(cfg).__name__}")
    own = {key: value for key, value in cfg.items() if key in OWN}
    fields = {key: value for key, value in cfg.items() if key not in OWN}
    backend = own.pop("backend", DEFAULT_BACKEND)
    if isinstance(backend, Mapping):
        if fields:
            strange = ", ".join(map(shown_name, fields))
            raise WrongField(f"settings: {strange} beside a backend given as a dict; put it into that dict")
        chosen = _choice("settings", BACKEND.word, backend)
    else:
        chosen = Choice(_choice("settings", BACKEND.word, backend).name, fields)
    return Parts(
        chosen,
        _choice("settings", "codec", own.pop("codec", DEFAULT_CODEC)),
        _accepted(own.pop("accept", [DEFAULT_CODEC])),
        own,
    )


def _accepted(said: Any) -> tuple[Choice, ...]:
    if not isinstance(said, (list, tuple)):
        raise WrongField('settings: accept is a list of codecs, for instance ["json"]')
    choices = tuple([_choice("accept", "codec", each) for each in said])
    names = [choice.name for choice in choices]
    for name in names:
        if names.count(name) > 1:
            raise WrongField(f"accept: the codec {name!r} is listed twice; leave one out")
    return choices


def _choice(where: str, word: str, said: Any) -> Choice:
    """Return what a name, or a dict with a name and further fields, chooses."""
    name = said
    if isinstance(said, Mapping):
        if "name" not in said:
            near = f"{unknown_field(next(iter(said)), ['name'])}" if said else "give one"
            raise WrongField(f"{where}: a {word} given as a dict has a name; {near}")
        name = said["name"]
    if not isinstance(name, str):
        raise WrongField(f"{where}: {word} is a name, or a dict with a name")
    return Choice(name, {key: value for key, value in said.items() if key != "name"} if said is not name else {})


def _from_url(url: str) -> Mapping[str, Any]:
    scheme = url.partition("://")[0]
    if scheme == url:
        raise SettingsError("settings: a configuration that is text must be a URL, for instance sqlite:///state.db")
    name = _SCHEMES.get(scheme, scheme)
    model = backend_plugin(name).settings
    return {"backend": {"name": name, **fields_of_url(discovery.find(BACKEND, name), model, url)}}
