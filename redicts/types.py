"""Registered types: pydantic models and dataclasses whose values are stored as leaves and keep their type.

A program registers each type under a stable name, which is stored with its values. No class is looked up or imported
because of what is stored::

    import redicts.types

    @redicts.types.register("invoice")
    class Invoice(BaseModel):
        number: int

The codec ``models`` writes and reads their values.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar, overload

from pydantic import BaseModel, TypeAdapter

from redicts.errors import SettingsError
from redicts.forks import ForkSafeLock

_Type = TypeVar("_Type", bound=type)

_NAME: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,200}")
_TIMES: Final = ("datetime", "time")
_OF_JSON: Final = (dict, list, tuple, str, int, float)

_lock: Final = ForkSafeLock()
_by_name: Final[dict[str, Registered]] = {}
_by_type: Final[dict[type, Registered]] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class Registered:
    """A registered type."""

    name: str
    kind: type
    adapter: TypeAdapter[Any]
    """Converts its values to JSON text and back."""
    has_times: bool
    """Whether its values may have datetimes or times, and so time zones."""


@overload
def register(name: str, kind: _Type) -> _Type: ...


@overload
def register(name: str, kind: None = None) -> Callable[[_Type], _Type]: ...


def register(name: str, kind: _Type | None = None) -> _Type | Callable[[_Type], _Type]:
    """Register a type under the name with which its values are stored.

    Returns the type, or a decorator if no type is given. The name is part of what is stored: keep it when you rename or
    move the class. No round trip.

    Raises :class:`~redicts.errors.SettingsError` if the type is neither a pydantic model nor a dataclass, if pydantic
    cannot handle its fields, or if the name or the type is registered differently already.

    >>> @register("point")
    ... @dataclasses.dataclass
    ... class Point:
    ...     x: int
    >>> named("point").kind is Point
    True
    >>> forget("point")
    """
    if kind is None:
        return lambda decorated: register(name, decorated)
    if not is_name(name):
        raise SettingsError("the name of a registered type must be text of 1 to 200 printable characters")
    adapter = _adapter(name, kind)
    has_times = _mentions_times(adapter.core_schema)
    with _lock:
        for known in (_by_name.get(name), _by_type.get(kind)):
            if known is not None and (known.name, known.kind) != (name, kind):
                raise SettingsError(
                    f"{name!r} cannot be registered as {kind.__qualname__}: {known.name!r} is "
                    f"{known.kind.__qualname__}; give each type exactly one name"
                )
        _by_name[name] = _by_type[kind] = Registered(name, kind, adapter, has_times)
    return kind


def is_name(name: object) -> bool:
    """Return whether a type can be registered under a name."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def can_register(kind: type) -> bool:
    """Return whether :func:`register` accepts a type."""
    try:
        _adapter("", kind)
    except SettingsError:
        return False
    return True


def _adapter(name: str, kind: object) -> TypeAdapter[Any]:
    """Return what converts the values of a type, or raise :class:`~redicts.errors.SettingsError`."""
    if not isinstance(kind, type) or not (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)):
        raise SettingsError(f"the type registered as {name!r} must be a pydantic model or a dataclass")
    if issubclass(kind, _OF_JSON):
        raise SettingsError(
            f"the type registered as {name!r} must not also be a dict, list, tuple, text or number, since its values "
            "would be stored as that"
        )
    try:
        return TypeAdapter(kind)
    except Exception as error:
        raise SettingsError(
            f"the type registered as {name!r} has a field that pydantic cannot handle: {error}"
        ) from error


def _mentions_times(schema: object) -> bool:
    """Return whether the schema of a type has a datetime or a time, at any depth."""
    if isinstance(schema, dict):
        return schema.get("type") in _TIMES or any(map(_mentions_times, schema.values()))
    return isinstance(schema, (list, tuple)) and any(map(_mentions_times, schema))


def forget(name: str) -> None:
    """Undo :func:`register`: values stored under the name can no longer be read. Unknown names are ignored."""
    with _lock:
        known = _by_name.pop(name, None)
        if known is not None:
            del _by_type[known.kind]


def named(name: str) -> Registered | None:
    """Return the type that is registered under a name, or ``None``."""
    return _by_name.get(name)


def of(value: object) -> Registered | None:
    """Return the registered type of a value, which is exactly its class and not a base of it, or ``None``."""
    return _by_type.get(type(value))
