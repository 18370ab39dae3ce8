"""The settings of a pool: every accepted form of configuration, brought to one validated, frozen model."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PlainSerializer,
    SerializeAsAny,
    StrictBool,
    ValidationError,
)

from redicts.config import sources
from redicts.config.parsing import OWN, Choice, split_into_leaves
from redicts.config.redaction import main_database, refused, validated
from redicts.core.backend import BackendSettings
from redicts.core.codec import CodecSettings
from redicts.errors import SettingsError, WrongField
from redicts.plugins import discovery
from redicts.plugins.kinds import BACKEND, CODEC
from redicts.plugins.loading import backend_plugin, codec_plugin
from redicts.plugins.suggestions import suggestion

FAKE_BACKEND: Final = "fakeredis"

LOCK_RETENTION_SECS: Final = 0.005
"""How long an owner may come back to its lock unless the settings say otherwise."""

_Value = TypeVar("_Value")

LockRetention = Annotated[float, Field(ge=0, le=1, strict=True)]
"""A number of seconds, at most one."""

_Frozen = Annotated[Mapping[str, _Value], AfterValidator(MappingProxyType), PlainSerializer(dict)]
"""A mapping that nobody can change."""


class Settings(BaseModel):
    """What a pool works with. Made by :func:`parse`; nothing in it can be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    backend: str
    options: SerializeAsAny[BackendSettings]
    """The backend's own settings."""
    codec: str
    """The codec that writes. What it wrote is always read too."""
    codec_options: SerializeAsAny[CodecSettings]
    """The codec's own settings."""
    accept: _Frozen[SerializeAsAny[CodecSettings]]
    """The other codecs whose values are read, by name, each with its own settings."""
    default: NonNegativeInt
    """The number of the database that is meant when none is named."""
    names: _Frozen[NonNegativeInt] = Field(default={}, validate_default=True)
    """Names for other databases, and their numbers."""
    mandatory_locks: StrictBool = False
    """Whether a write is refused that somebody else's lock covers."""
    lock_retention: LockRetention = LOCK_RETENTION_SECS
    """For how many seconds an owner may pass those who wait if it comes back to its lock at once; 0 for not at all."""

    def database(self, name: str | None) -> int:
        """Return the number of the database with this name; ``None`` stands for the default one.

        Raises :class:`~redicts.errors.SettingsError` for an unknown name.
        """
        if name is None:
            return self.default
        try:
            return self.names[name]
        except KeyError:
            known = suggestion(name, self.names) if self.names else "the settings name none"
            raise SettingsError(f"there is no database {name!r}; {known}") from None


def parse(cfg: Mapping[str, Any] | str | None, *, fake_redis: bool = False) -> Settings:
    """Return the settings that a configuration stands for: a dict, a URL, or ``None`` for the default.

    The default is what :mod:`redicts.config.sources` finds, else Redis on this host. With ``fake_redis`` nothing is
    looked for. Raises :class:`~redicts.errors.SettingsError`, or one of the classes below it, which names what is
    wrong and never repeats a value.
    """
    found = sources.default() if cfg is None and not fake_redis else None
    if found is None:
        return _parsed({} if cfg is None else cfg, fake_redis)
    try:
        return _parsed(found.configuration, False)
    except SettingsError as error:
        raise type(error)(f"{found.where}: {error}") from error


def _parsed(cfg: Mapping[str, Any] | str, fake_redis: bool) -> Settings:
    parts = split_into_leaves(cfg)
    name = FAKE_BACKEND if fake_redis else parts.backend.name
    plugin = backend_plugin(name)
    source = discovery.find(BACKEND, name)
    backend = validated(source, plugin.settings, parts.backend.fields, OWN)
    own = parts.own
    number = _number(own)
    try:
        return Settings(
            backend=name,
            options=backend,
            codec=parts.codec.name,
            codec_options=_codec_settings(parts.codec),
            accept=_others(parts.codec, parts.accept),
            default=main_database(source, backend) if number is None else number,
            **own,
        )
    except ValidationError as error:
        refusal = refused(error, None, OWN, (), own)
    raise refusal


def _others(writing: Choice, accept: tuple[Choice, ...]) -> dict[str, CodecSettings]:
    """Return the settings of the accepted codecs but the one that writes, which is always accepted."""
    found = {}
    for choice in accept:
        if choice.name != writing.name:
            found[choice.name] = _codec_settings(choice)
        elif choice.fields and choice.fields != writing.fields:
            raise WrongField(
                f"accept: the codec {choice.name!r} is the one that writes, which is always accepted; "
                f"put its fields into 'codec'"
            )
    return found


def _codec_settings(choice: Choice) -> CodecSettings:
    plugin = codec_plugin(choice.name)
    return validated(discovery.find(CODEC, choice.name), plugin.settings, choice.fields, ())


def _number(own: dict[str, Any]) -> int | None:
    """Take the number of the default database, which has two names, out of what is said for the pool."""
    said = {}
    for key in ("database", "default"):
        value = own.pop(key, None)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise WrongField(f"settings: {key} is the number of a database, 0 or above")
        said[key] = value
    if len(set(said.values())) > 1:
        raise WrongField("settings: database and default say two different numbers; give one of them")
    return next(iter(said.values()), None)
