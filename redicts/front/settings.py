"""The settings of a pool: every accepted form of configuration, brought to one validated, frozen model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, SerializeAsAny, StrictBool, ValidationError

from redicts.core.backend import BackendSettings
from redicts.errors import SettingsError
from redicts.front.builtins import backend_plugin, codec, suggestion

DEFAULT_BACKEND: Final = "redis"
FAKE_BACKEND: Final = "fakeredis"

_SCHEMES: Final = {"rediss": "redis", "unix": "redis"}
"""Schemes of URLs that are not the name of their backend."""

_OWN: Final = ("backend", "codec", "database", "default", "mandatory_locks", "names")


class Settings(BaseModel):
    """What a pool works with. Made by :func:`parse`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    backend: str
    options: SerializeAsAny[BackendSettings]
    codec: str = "json"
    default: NonNegativeInt
    """The number of the database that is meant when none is named."""
    names: Mapping[str, NonNegativeInt] = Field(default_factory=dict)
    """Names for other databases, and their numbers."""
    mandatory_locks: StrictBool = False
    """Whether a write is refused that somebody else's lock covers."""

    def database(self, name: str | None) -> int:
        """Return the number of the database with this name; ``None`` stands for the default one.

        Raises :class:`~redicts.errors.SettingsError` for an unknown name.
        """
        if name is None:
            return self.default
        try:
            return self.names[name]
        except KeyError:
            known = suggestion(name, sorted(self.names)) if self.names else "the settings name none"
            raise SettingsError(f"there is no database {name!r}; {known}") from None


def parse(cfg: Mapping[str, Any] | str | None, *, fake_redis: bool = False) -> Settings:
    """Return the settings that a configuration stands for: a dict, a URL, or ``None`` for Redis on this host.

    Raises :class:`~redicts.errors.SettingsError`, which names what is wrong and never repeats a value.
    """
    own, options = _taken_apart(cfg)
    name = FAKE_BACKEND if fake_redis else own.pop("backend", DEFAULT_BACKEND)
    own.pop("backend", None)
    plugin = backend_plugin(name)
    try:
        backend = plugin.settings.model_validate(options)
    except ValidationError as error:
        raise _refused(error, f"backend {name!r}", [*plugin.settings.model_fields, *_OWN]) from None
    number = _number(own)
    own["default"] = backend.main_database if number is None else number
    try:
        settings = Settings(backend=name, options=backend, **own)
    except ValidationError as error:
        raise _refused(error, "settings", list(_OWN)) from None
    codec(settings.codec)
    return settings


def _taken_apart(cfg: Mapping[str, Any] | str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a configuration says for the pool, and what it says for the backend."""
    if cfg is None:
        return {}, {}
    if isinstance(cfg, str):
        return _from_url(cfg)
    if not isinstance(cfg, Mapping):
        raise SettingsError(f"settings: cfg is a dict or a URL, not {type(cfg).__name__}")
    own = {key: value for key, value in cfg.items() if key in _OWN}
    options = {key: value for key, value in cfg.items() if key not in _OWN}
    backend = own.get("backend", DEFAULT_BACKEND)
    if isinstance(backend, Mapping):
        if options:
            strange = ", ".join(map(str, options))
            raise SettingsError(f"settings: {strange} beside a backend given as a dict; put it into that dict")
        if "name" not in backend:
            near = [f"there is no setting {str(key)!r}; {suggestion(str(key), ['name'])}" for key in backend]
            raise SettingsError(f"settings: a backend given as a dict has a name; {near[0] if near else 'give one'}")
        options = {key: value for key, value in backend.items() if key != "name"}
        own["backend"] = backend["name"]
    if not isinstance(own.get("backend", ""), str):
        raise SettingsError("settings: backend is a name, or a dict with a name")
    if isinstance(own.get("codec"), Mapping):
        unknown = [str(key) for key in own["codec"] if key != "name"]
        if unknown:
            raise SettingsError(f"codec: there is no setting {unknown[0]!r}; {suggestion(unknown[0], ['name'])}")
        own["codec"] = own["codec"].get("name", "json")
    return own, options


def _number(own: dict[str, Any]) -> int | None:
    """Take the number of the default database, which has two names, out of what is said for the pool."""
    said = {}
    for key in ("database", "default"):
        value = own.pop(key, None)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise SettingsError(f"settings: {key} is the number of a database, 0 or above")
        said[key] = value
    if len(set(said.values())) > 1:
        raise SettingsError("settings: database and default say two different numbers; give one of them")
    return next(iter(said.values()), None)


def _from_url(url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    scheme = url.partition("://")[0]
    if scheme == url:
        raise SettingsError("settings: a configuration that is text must be a URL, for instance sqlite:///state.db")
    name = _SCHEMES.get(scheme, scheme)
    try:
        return {"backend": name}, dict(backend_plugin(name).settings.fields_of_url(url))
    except ValueError as error:
        raise SettingsError(f"backend {name!r}: {error}") from None


def _refused(error: ValidationError, what: str, known: list[str]) -> SettingsError:
    """Return an error that lists each wrong field with the reason, and the nearest right name of an unknown one."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"there is no setting {where!r}; {suggestion(where, known)}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {message}" if where else message)
    return SettingsError(f"{what}: {'; '.join(lines)}")
