"""Locks as decorators: a function that runs in a ``with`` block of a lock."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from inspect import isasyncgenfunction, isclass, iscoroutinefunction, isgeneratorfunction
from types import CoroutineType
from typing import Any, ParamSpec, TypeVar, cast

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_INSTEAD = (
    "waiting for the lock would block the event loop; decorate it with the same lock of redicts.aio, as in: "
    "from redicts.aio import Proxy"
)


class LocksFunctions:
    """A context manager that is a decorator too: the function runs in a ``with`` block."""

    __slots__ = ()

    def __call__(self, function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        """Return the function with each call in a ``with`` block of this lock. The decorator's use takes no round trip.

        A generator function holds the lock from the first item until it ends or is closed. A function may call itself:
        the inner calls rely on the lock of the outer one. Coroutine functions, classes, and methods that are decorated
        with ``classmethod`` already are refused with ``TypeError``.
        """
        if _is(iscoroutinefunction, function) or _is(isasyncgenfunction, function):
            raise TypeError(f"a lock cannot decorate a coroutine function; got {_named(function)}: {_INSTEAD}")
        if isclass(function) or isinstance(function, (classmethod, property)) or not callable(function):
            raise TypeError(
                f"a lock decorates functions; got {_named(function)}; decorate its methods instead, each below "
                "@classmethod, @staticmethod or @property"
            )
        return cast("Callable[_Arguments, _Result]", _under(cast("AbstractContextManager[Any]", self), function))


def _under(lock: AbstractContextManager[Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs another one in a ``with`` block."""
    if _is(isgeneratorfunction, function):

        @wraps(function)
        def generate(*arguments: Any, **options: Any) -> Any:
            with lock:
                return (yield from function(*arguments, **options))

        return generate

    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        with lock:
            result = function(*arguments, **options)
            if isinstance(result, CoroutineType):
                result.close()
                raise TypeError(
                    f"a function under a lock must do its work before it returns; {_named(function)} returned a "
                    f"coroutine: {_INSTEAD}"
                )
            return result

    return call


def _is(kind: Callable[[Any], bool], function: object) -> bool:
    """Return whether a function, or the method that calls an object, is of some kind."""
    return kind(function) or kind(getattr(type(function), "__call__", None))  # noqa: B004  (whatever it is)


def _named(function: object) -> str:
    return str(getattr(function, "__qualname__", None) or type(function).__name__)
