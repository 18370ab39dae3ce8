"""Locks as decorators: a coroutine function that runs in an ``async with`` block of a lock."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import isasyncgenfunction, isclass, iscoroutinefunction
from typing import Any, ParamSpec, TypeVar, cast

from redicts.aio.twins import twin_of
from redicts.api import functions

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@twin_of(functions.LocksFunctions)
class LocksFunctions:
    """An asynchronous context manager that is a decorator too: the function runs in an ``async with`` block."""

    __slots__ = ()

    def __call__(self, function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        """Return the function with each call in a block of this lock. The decorator's use takes no round trip.

        The function is a coroutine function, or an asynchronous generator function, which holds the lock from the first
        item until it ends or is closed. A function may call itself: the inner calls rely on the lock of the outer one.
        Anything else is refused with ``TypeError``.
        """
        lock: Any = self
        found: Any = function
        if isasyncgenfunction(found):

            @wraps(found)
            async def generate(*arguments: Any, **options: Any) -> Any:
                async with lock:
                    items = found(*arguments, **options)
                    try:
                        async for item in items:
                            yield item
                    finally:
                        await items.aclose()

            return cast("Callable[_Arguments, _Result]", generate)
        if not iscoroutinefunction(found) or isclass(found):
            name = getattr(found, "__qualname__", None) or type(found).__name__
            raise TypeError(
                f"a lock of redicts.aio decorates coroutine functions; got {name}; write async def, below "
                "@classmethod or @staticmethod, or use the blocking lock of redicts"
            )

        @wraps(found)
        async def call(*arguments: Any, **options: Any) -> Any:
            async with lock:
                return await found(*arguments, **options)

        return cast("Callable[_Arguments, _Result]", call)
