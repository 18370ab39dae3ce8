"""The JSON schema of the configurations that are possible with the installed plugins, for editors and validators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, StrictBool, TypeAdapter, create_model

from redicts.config.defaults import DEFAULT_BACKEND, DEFAULT_CODEC, LOCK_RETENTION_SECS
from redicts.config.settings import LockRetention
from redicts.plugins.kinds import BACKEND, CODEC, Kind
from redicts.plugins.listing import installed
from redicts.plugins.loading import backend_plugin, codec_plugin

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Return the JSON schema of a configuration: a URL, or a dict with the backend's settings in it or nested.

    It covers the usable plugins, discriminated by name. A backend or codec whose settings have no JSON schema may have
    any fields.

    >>> sorted(schema())
    ['$defs', '$schema', 'anyOf', 'title']
    """
    backends = {name: backend_plugin(name).model for name in _usable(BACKEND)}
    codecs = {name: codec_plugin(name).model for name in _usable(CODEC)}
    # For the type checker these types, made at run time, are Any.
    forms = _named([_form("Codec", name, model, {"name": _equals(name)}) for name, model in codecs.items()], "name")
    codec: Any = Union[Literal[tuple(codecs)], forms]
    general: dict[str, Any] = {
        "codec": (codec, Field(DEFAULT_CODEC, description="the codec that writes")),
        "accept": (list[codec], Field([DEFAULT_CODEC], description="the other codecs that are read")),
        "database": (Union[NonNegativeInt, None], Field(None, description="the number of the database to use")),
        "default": (Union[NonNegativeInt, None], Field(None, description="the same as database")),
        "names": (dict[str, NonNegativeInt], Field({}, description="the names of other databases, and their numbers")),
        "mandatory_locks": (StrictBool, Field(False, description="refuse writes that another owner's lock covers")),
        "lock_retention": (
            LockRetention,
            Field(LOCK_RETENTION_SECS, description="for how many seconds an owner may pass waiters"),
        ),
    }
    flat = [
        _form("Flat", name, model, {"backend": _equals(name, DEFAULT_BACKEND), **general})
        for name, model in backends.items()
    ]
    nested = [_form("Backend", name, model, {"name": _equals(name)}) for name, model in backends.items()]
    nested_form = create_model(
        "Nested", __config__=ConfigDict(extra="forbid"), backend=(_named(nested, "name"), ...), **general
    )
    url: Any = Annotated[str, Field(pattern="^[a-z][a-z0-9+.-]*://", description="a URL; its scheme names the backend")]
    whole: Any = Union[_named(flat, "backend"), nested_form, url]
    return {"$schema": _DIALECT, "title": "Settings of redicts", **TypeAdapter(whole).json_schema()}


def _usable(kind: Kind) -> list[str]:
    return [each.name for each in installed() if each.kind == kind.noun and each.usable]


def _equals(name: str, default: str | None = None) -> tuple[Any, Any]:
    """Return the definition of a field that has this name as its value, and is optional if that is the default."""
    return Literal[name], name if name == default else ...


def _form(prefix: str, name: str, settings: type[BaseModel], fields: dict[str, Any]) -> type[BaseModel]:
    """Return the model of a dict with a plugin's settings and further fields."""
    title = f"{prefix} {name}"
    try:
        form: type[BaseModel] = create_model(title, __base__=settings, __doc__=settings.__doc__, **fields)
        form.model_json_schema()
    except Exception:  # a field has a type that JSON does not know
        form = create_model(title, __config__=ConfigDict(extra="allow"), **fields)
    return form


def _named(forms: Sequence[type[BaseModel]], discriminator: str) -> Any:
    """Return the union of several forms that are discriminated by a field."""
    if len(forms) == 1:
        return forms[0]
    return Annotated[Union[tuple(forms)], Field(discriminator=discriminator)]
