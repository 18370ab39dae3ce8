"""The settings: turns every accepted form of configuration into one validated, frozen model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeVar, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PlainSerializer,
    SerializeAsAny,
    StrictBool,
    StrictInt,
    ValidationError,
)

from redicts.config import sources
from redicts.config.defaults import CACHE_BYTES, DEFAULT_CODEC, FAKE_BACKEND, LOCK_RETENTION_SECS
from redicts.config.parsing import GENERAL, PluginConfiguration, split
from redicts.config.processes import is_starting
from redicts.config.redaction import shown_name
from redicts.config.validation import main_database, validated, wrong_fields
from redicts.core.plugin_settings import BackendSettings, CodecSettings
from redicts.errors import SettingsError, WrongField
from redicts.plugins import discovery
from redicts.plugins.kinds import BACKEND, CODEC
from redicts.plugins.loading import backend_model, codec_model
from redicts.plugins.suggestions import suggestion

_Value = TypeVar("_Value")

CacheSize = Union[StrictBool, Annotated[StrictInt, Field(ge=1)]]
"""Whether there is a cache, or its size in bytes."""

LockRetention = Annotated[float, Field(ge=0, le=1, strict=True, allow_inf_nan=False)]
"""A number of seconds, at most one."""


def _dict(mapping: Mapping[str, _Value]) -> dict[str, _Value]:
    # Not the class itself: pydantic before 2.8 cannot read the signature of a built-in class.
    return dict(mapping)


_Frozen = Annotated[Mapping[str, _Value], AfterValidator(MappingProxyType), PlainSerializer(_dict)]
"""A read-only mapping."""


class Settings(BaseModel):
    """The settings of an opened store. Made by :func:`parse`, and immutable."""

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
    """The number of the default database."""
    names: _Frozen[NonNegativeInt] = Field(default={}, validate_default=True)
    """The names of other databases, and their numbers."""
    cache: CacheSize = False
    """Whether values that were read are kept in memory until the store tells of a change, or how many bytes of them."""
    mandatory_locks: StrictBool = False
    """Whether a write is refused if another owner's lock covers it."""
    lock_retention: LockRetention = LOCK_RETENTION_SECS
    """For how many seconds an owner that takes its lock again at once may pass waiters; 0 disables it."""

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Give the fields of a configuration that leads to these settings, without secrets and most defaults."""
        yield "backend", self.backend
        yield from _given(self.options)
        if self.default != self.options.main_database:
            yield "default", self.default
        if self.codec != DEFAULT_CODEC or _given(self.codec_options):
            yield "codec", _shown(self.codec, self.codec_options)
        accept = [_shown(name, each) for name, each in self.accept.items()]
        if accept != ([] if self.codec == DEFAULT_CODEC else [DEFAULT_CODEC]):
            yield "accept", accept
        if self.names:
            yield "names", dict(self.names)
        if self.cache is not False:
            yield "cache", self.cache
        if self.mandatory_locks:
            yield "mandatory_locks", True
        if self.lock_retention != LOCK_RETENTION_SECS:
            yield "lock_retention", self.lock_retention

    def __str__(self) -> str:
        """Return the backend and the options that were given for it, without secrets."""
        return " ".join([self.backend, *[f"{name}={value!r}" for name, value in _given(self.options)]])

    def __reduce__(self) -> tuple[Any, ...]:
        if not is_starting():
            raise TypeError(
                "settings may hold passwords, so only the start of a process by multiprocessing pickles them; "
                "give the other process a configuration of its own"
            )
        return _settings, ({name: dict(value) if name in _MAPPINGS else value for name, value in vars(self).items()},)

    @property
    def cache_bytes(self) -> int:
        """How many bytes of values are kept in memory at most, 0 without a cache."""
        return CACHE_BYTES if self.cache is True else int(self.cache)

    def database(self, name: str | None) -> int:
        """Return the number of the database with this name, or of the default one for ``None``.

        Raises :class:`~redicts.errors.SettingsError` for an unknown name.
        """
        if name is None:
            return self.default
        try:
            return self.names[name]
        except KeyError:
            known = suggestion(name, self.names) if self.names else "the settings name none"
            raise SettingsError(f"there is no database {shown_name(name)!r}; {known}") from None


_MAPPINGS: Final = ("accept", "names")


def _given(model: BaseModel) -> list[tuple[str | None, Any]]:
    """Return the fields of a model that were given, as its repr shows them."""
    return [(name, value) for name, value in model.__repr_args__() if name in model.model_fields_set]


def _shown(name: str, codec: CodecSettings) -> object:
    fields = dict(_given(codec))
    return {"name": name, **fields} if fields else name


def _settings(fields: dict[str, Any]) -> Settings:
    """Return settings in another process. Their models of plugins are as they were validated in the first one."""
    return Settings(**fields)


def parse(cfg: Mapping[str, Any] | str | None, *, fake_redis: bool = False) -> Settings:
    """Return the settings for a configuration: a dict, a URL, or ``None`` for the default.

    The default is what :mod:`redicts.config.sources` finds, or else Redis on this host. With ``fake_redis`` no default
    is looked for. Raises :class:`~redicts.errors.SettingsError` or a subclass, which names what is wrong and repeats no
    configured value.
    """
    found = sources.default() if cfg is None and not fake_redis else None
    if found is None:
        return _parsed({} if cfg is None else cfg, fake_redis)
    try:
        return _parsed(found.configuration, False)
    except SettingsError as error:
        raise type(error)(f"{found.where}: {error}") from error


def _parsed(cfg: Mapping[str, Any] | str, fake_redis: bool) -> Settings:
    parts = split(cfg)
    name = FAKE_BACKEND if fake_redis else parts.backend.name
    source = discovery.find(BACKEND, name)
    backend = validated(source, backend_model(name), parts.backend.fields, GENERAL)
    general = parts.general
    number = _pop_number(general)
    try:
        return Settings(
            backend=name,
            options=backend,
            codec=parts.codec.name,
            codec_options=_codec_settings(parts.codec),
            accept=_accepted(parts.codec, parts.accept),
            default=main_database(source, backend) if number is None else number,
            **general,
        )
    except ValidationError as error:
        refusal = wrong_fields(error, None, GENERAL, (), general)
    raise refusal


def _accepted(writer: PluginConfiguration, accept: tuple[PluginConfiguration, ...]) -> dict[str, CodecSettings]:
    """Return the settings of the accepted codecs other than the one that writes, which is always accepted."""
    found = {}
    for each in accept:
        if each.name != writer.name:
            found[each.name] = _codec_settings(each)
        elif each.fields and each.fields != writer.fields:
            raise WrongField(
                f"accept: the codec {each.name!r} writes and is therefore always accepted; put its fields into 'codec'"
            )
    return found


def _codec_settings(codec: PluginConfiguration) -> CodecSettings:
    return validated(discovery.find(CODEC, codec.name), codec_model(codec.name), codec.fields, ())


def _pop_number(general: dict[str, Any]) -> int | None:
    """Remove the number of the default database, which has two names, from the general settings, and return it."""
    numbers = set()
    for key in ("database", "default"):
        value = general.pop(key, None)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise WrongField(f"settings: {key} must be the number of a database, 0 or above")
        numbers.add(value)
    if len(numbers) > 1:
        raise WrongField("settings: database and default give two different numbers; give one of them")
    return next(iter(numbers), None)
