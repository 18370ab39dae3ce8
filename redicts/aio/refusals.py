"""What a path refuses for tasks: operators and functions of Python that would ask the store, and cannot be awaited."""

from __future__ import annotations

from typing import Any, Final, NoReturn

_INSTEAD: Final = {
    "__eq__": ("==", "await p.val() == value"),
    "__ne__": ("!=", "await p.val() != value"),
    "__bool__": ("a truth value", "await p.exists()"),
    "__contains__": ("in", "await p[key].exists()"),
    "__len__": ("len()", "len(await p.keys())"),
    "__iter__": ("iteration", "async for name in p, or await p.keys()"),
    "__setitem__": ("p[key] = value", "await p.set(key, value)"),
    "__delitem__": ("del p[key]", "await p.pop(key), or await p.delete(key)"),
}
"""The methods that cannot be awaited: how they are written, and what to write instead."""


class NotBlocking(TypeError, AttributeError):
    """An object whose calls are awaited was used by ``with``.

    It is an ``AttributeError`` too, so ``hasattr`` still tells frameworks that there is no such method.
    """


class NoWith:
    """Explains ``with`` when Python looks up ``__enter__``, which nothing else finds."""

    def __get__(self, found: object | None, kind: type) -> NoReturn:
        if found is None:
            raise AttributeError(f"type object {kind.__name__!r} has no attribute '__enter__'")
        raise NotBlocking(f"with needs a blocking lock, and the calls of {found!r} are awaited; use: async with")


class NothingBlocking:
    """Base class of a path for tasks: refuses what would need the store, and names the method to await."""

    __slots__ = ()

    _READS = "await .val()"
    """What refusals of operators tell to use."""

    __hash__ = None  # type: ignore[assignment]


def _refuse(name: str, operator: str, instead: str) -> None:
    """Add a method that refuses what it stands for."""

    def method(self: object, *others: object) -> Any:
        if name in ("__eq__", "__ne__") and others[0] is self:
            return name == "__eq__"
        raise TypeError(f"{operator} would ask the store, and cannot be awaited; for {self!r} as p, use: {instead}")

    method.__name__ = name
    method.__qualname__ = f"{NothingBlocking.__name__}.{name}"
    method.__doc__ = f"Refuse ``{operator}``: use ``{instead}``."
    setattr(NothingBlocking, name, method)


for _name, (_operator, _instead) in _INSTEAD.items():
    _refuse(_name, _operator, _instead)
NothingBlocking.__enter__ = NoWith()  # type: ignore[attr-defined]  # it is not a method to type checkers
