"""Operators that a proxy refuses, because they need its value: arithmetic, order, conversion, formats.

A refusal raises ``TypeError``, as Python does without it, and says which method of the proxy to call instead. Type
checkers do not see these methods, so that they report such an expression as before.
"""

from __future__ import annotations

from typing import Any, Final

_BINARY: Final = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "matmul": "@",
    "truediv": "/",
    "floordiv": "//",
    "mod": "%",
    "divmod": "divmod()",
    "pow": "**",
    "lshift": "<<",
    "rshift": ">>",
    "and": "&",
    "or": "|",
    "xor": "^",
}
_ORDER: Final = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_UNARY: Final = {
    "neg": "-",
    "pos": "+",
    "abs": "abs()",
    "invert": "~",
    "round": "round()",
    "trunc": "math.trunc()",
    "int": "int()",
    "float": "float()",
    "complex": "complex()",
    "index": "an index or a count",
}
_IN_PLACE: Final = {
    "add": ", or .add(number) to add to it in the store",
    "sub": ", or .add(-number) to subtract from it in the store",
    "or": ", or .update(dict) to merge a dict into it in the store",
}
"""What changes a value in the store as these operators change one in memory; for others it is ``update_with``."""


class NoOperators:
    """Base class of a path that is not its value: refuses operators with an error that says what to use."""

    __slots__ = ()

    __array_ufunc__ = None
    """Leaves operators to this class: NumPy would make an empty array of a proxy, after a round trip."""

    def __format__(self, spec: str, /) -> str:
        """Return the text of the proxy, as ``str`` does. A format of values, such as ``.2f``, is refused."""
        if spec:
            raise _refusal(f"the format {spec!r}", self)
        return str(self)


def _refusal(operator: str, proxy: object, instead: str = "") -> TypeError:
    reads = getattr(proxy, "_READS", ".val()")
    return TypeError(f"{operator} needs a value, and {proxy!r} is a path; use {reads} to read its value{instead}")


def _refuse(name: str, operator: str, instead: str = "") -> None:
    """Add a method that refuses an operator."""

    def method(self: object, *others: object) -> Any:
        if name == "radd" and hasattr(type(others[0]), "__iadd__"):
            return NotImplemented  # so that a list can be extended by the names: that is no arithmetic
        raise _refusal(operator, self, instead)

    method.__name__ = f"__{name}__"
    method.__qualname__ = f"{NoOperators.__name__}.{method.__name__}"
    method.__doc__ = f"Refuse ``{operator}``, which needs the value: use ``.val()`` to read it{instead}."
    setattr(NoOperators, method.__name__, method)


for _name, _operator in {**_BINARY, **_ORDER, **_UNARY}.items():
    _refuse(_name, _operator)
for _name, _operator in _BINARY.items():
    _refuse(f"r{_name}", _operator)
    if _name != "divmod":
        _refuse(
            f"i{_name}", f"{_operator}=", _IN_PLACE.get(_name, ", or .update_with(function) to change it in the store")
        )
