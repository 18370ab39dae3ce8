"""Classes for tasks as twins of blocking ones: their methods return coroutines, and have the same documentation."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from types import FunctionType
from typing import Any, Final, TypeVar

_Class = TypeVar("_Class", bound=type)
_Function = TypeVar("_Function", bound=Callable[..., Any])
_Result = TypeVar("_Result")

Call = Coroutine[Any, Any, _Result]
"""A call to await. Unlike an ``async def``, its method has looked at its arguments and at the running task already.
So a lock that is acquired, or a write, through ``asyncio.gather`` or ``wait_for`` is that of the caller."""

_EXAMPLE: Final = ">>> "


def twin_of(blocking: type) -> Callable[[_Class], _Class]:
    """Give a class, and its methods that have none, the documentation of a blocking class, without its examples.

    Methods that return a :data:`Call` are coroutine functions to frameworks that ask.
    """

    def document(kind: _Class) -> _Class:
        if kind.__doc__ is None:
            kind.__doc__ = _text(blocking.__doc__)
        for name, value in vars(kind).items():
            if value.__doc__ is None and isinstance(value, (FunctionType, property)):
                value.__doc__ = _text(getattr(getattr(blocking, name, None), "__doc__", None))
            if isinstance(value, FunctionType) and str(value.__annotations__.get("return")).startswith("Call["):
                coroutine_function(value)
        return kind

    return document


def coroutine_function(function: _Function) -> _Function:
    """Let frameworks that ask know that a function returns a coroutine."""
    mark = getattr(inspect, "markcoroutinefunction", None)
    if mark is not None:
        mark(function)
    elif hasattr(asyncio.coroutines, "_is_coroutine"):  # before Python 3.12
        function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return function


def _text(documentation: str | None) -> str | None:
    """Return documentation up to its first example."""
    if documentation is None:
        return None
    lines = documentation.splitlines()
    end = next((index for index, line in enumerate(lines) if line.strip().startswith(_EXAMPLE)), len(lines))
    return "\n".join(lines[:end]).rstrip()
