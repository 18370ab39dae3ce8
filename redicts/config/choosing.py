"""Chooses the settings of a configuration. For most URLs it does without pydantic, whose import costs more than a read.

A backend may say of a URL that it is valid (see :attr:`~redicts.core.backend.BackendPlugin.plain`). All other
configurations, and what users see of their settings, are validated by :func:`redicts.config.settings.parse`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Union

from redicts.config import sources
from redicts.config.defaults import DEFAULT_CODEC, LOCK_RETENTION_SECS, SCHEMES
from redicts.plugins.loading import backend_plugin

if TYPE_CHECKING:
    from redicts.config.settings import Settings

_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


class PlainSettings(NamedTuple):
    """The settings of a configuration that chooses a store, and nothing else, in a form that is certainly valid."""

    backend: str
    options: Any = None
    """The fields of the backend's settings, as a named tuple, or ``None`` if it has none."""
    default: int = 0
    """The number of the default database."""
    codec: str = DEFAULT_CODEC
    codec_options: None = None
    accept: Mapping[str, Any] = _NONE
    names: Mapping[str, int] = _NONE
    cache_bytes: int = 0
    mandatory_locks: bool = False
    lock_retention: float = LOCK_RETENTION_SECS

    def database(self, name: str | None) -> int:
        """Return the number of the default database. Raises ``SettingsError`` for a name: these settings have none."""
        return self.default if name is None else self.validated().database(name)

    def validated(self) -> Settings:
        """Return the same settings as a model."""
        from redicts.config.settings import parse  # noqa: PLC0415  (it imports pydantic)

        fields = {} if self.options is None else self.options._asdict()
        defaults = {} if self.options is None else self.options._field_defaults
        names = fields.pop("given", None) or [
            name for name, value in fields.items() if name not in defaults or value != defaults[name]
        ]
        settings = parse({"backend": {"name": self.backend, **{name: fields[name] for name in names}}})
        return settings if settings.default == self.default else settings.model_copy(update={"default": self.default})

    def __str__(self) -> str:
        return str(self.validated())


ChosenSettings = Union[PlainSettings, "Settings"]
"""The settings with which a store is opened."""


def choose(cfg: Mapping[str, Any] | str | ChosenSettings | None, *, fake_redis: bool = False) -> ChosenSettings:
    """Return the settings for a configuration, or those that are given. Raises as ``parse`` does."""
    if isinstance(cfg, PlainSettings):
        return cfg
    if cfg is None and not fake_redis:
        found = sources.default()
        plain = None if found is None else _plain(found.configuration)
    else:
        plain = None if fake_redis else _plain(cfg)
    if plain is not None:
        return plain
    from redicts.config.settings import Settings, parse  # noqa: PLC0415  (it imports pydantic)

    return cfg if isinstance(cfg, Settings) else parse(cfg, fake_redis=fake_redis)


def _plain(cfg: object) -> PlainSettings | None:
    """Return the settings of a URL, or of a dict that only names a backend, if they are certain without a model."""
    if isinstance(cfg, str) and "://" in cfg:
        scheme, _, rest = cfg.partition("://")
        name = SCHEMES.get(scheme, scheme)
    elif isinstance(cfg, dict) and list(cfg) == ["backend"]:
        name, rest = cfg["backend"], ""
    else:
        return None
    if not isinstance(name, str):
        return None
    try:
        plugin = backend_plugin(name)
        if plugin.settings is None:
            return None if rest else PlainSettings(name)
        options = plugin.plain(cfg) if plugin.plain is not None and isinstance(cfg, str) else None
    except Exception:  # the validation says what is wrong
        return None
    return None if options is None else PlainSettings(name, options, getattr(options, "main_database", 0))
