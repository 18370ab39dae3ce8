"""The types whose values are stored as leaves and come back as what they were: pydantic models and dataclasses.

A program registers each under a stable name, which is what is stored. No class is ever looked up, or imported, by what
a store says::

    import redicts.types

    @redicts.types.register("invoice")
    class Invoice(BaseModel):
        number: int

The codec ``models`` writes and reads them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar, overload

from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticUserError

from redicts.errors import SettingsError
from redicts.forks import ForkSafeLock

_Type = TypeVar("_Type", bound=type)

_NAME: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,200}")
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
    """Turns its values into JSON text, and back."""


@overload
def register(name: str, kind: _Type) -> _Type: ...


@overload
def register(name: str, kind: None = None) -> Callable[[_Type], _Type]: ...


def register(name: str, kind: _Type | None = None) -> _Type | Callable[[_Type], _Type]:
    """Have values of a type stored under this name, and what is stored under it come back as the type.

    Returns the type, or, without one, a decorator for it. The name is part of what is stored: keep it when the class is
    renamed or moved. No round trip.

    Raises :class:`~redicts.errors.SettingsError` for a type that is no pydantic model and no dataclass, or whose fields
    pydantic cannot handle, and for a name or a type that is registered otherwise already.

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
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SettingsError("the name of a registered type is text of 1 to 200 printable characters")
    if not isinstance(kind, type) or not (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)):
        raise SettingsError(f"the type registered as {name!r} is no pydantic model and no dataclass")
    if issubclass(kind, _OF_JSON):
        raise SettingsError(
            f"the type registered as {name!r} is a dict, list, tuple, text or number as well, and would be "
            "stored as that"
        )
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
    except (PydanticUserError, NameError) as error:
        raise SettingsError(
            f"the type registered as {name!r} has a field that pydantic cannot handle: {error}"
        ) from error
    with _lock:
        for known in (_by_name.get(name), _by_type.get(kind)):
            if known is not None and (known.name, known.kind) != (name, kind):
                raise SettingsError(
                    f"{name!r} cannot be registered as {kind.__qualname__}: {known.name!r} is "
                    f"{known.kind.__qualname__}; give each type one name of its own"
                )
        _by_name[name] = _by_type[kind] = Registered(name, kind, adapter)
    return kind


def forget(name: str) -> None:
    """Undo :func:`register`: what is stored under the name is refused from now on. No error if there is none."""
    with _lock:
        known = _by_name.pop(name, None)
        if known is not None:
            del _by_type[known.kind]


def named(name: str) -> Registered | None:
    """Return what is registered under a name."""
    return _by_name.get(name)


def of(value: object) -> Registered | None:
    """Return what is registered for exactly the class of a value, not for one above it."""
    return _by_type.get(type(value))
