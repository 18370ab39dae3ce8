"""A proxy is a path and not its value: what operators on it do, and what the errors of the others say."""

from __future__ import annotations

import inspect
import math
import operator
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from redicts import Proxy, root
from tests.locks.locking import counted, meddler
from tests.support.stores import NoStore, Store, Use, Wrapped

BINARY: dict[str, Callable[[Any, Any], object]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "@": operator.matmul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "divmod()": divmod,
    "**": pow,
    "<<": operator.lshift,
    ">>": operator.rshift,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
}
ORDER: dict[str, Callable[[Any, Any], object]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
IN_PLACE: dict[str, tuple[Callable[[Any, Any], object], str]] = {
    "+=": (operator.iadd, ".add(number)"),
    "-=": (operator.isub, ".add(-number)"),
    "*=": (operator.imul, ".update_with(function)"),
    "@=": (operator.imatmul, ".update_with(function)"),
    "/=": (operator.itruediv, ".update_with(function)"),
    "//=": (operator.ifloordiv, ".update_with(function)"),
    "%=": (operator.imod, ".update_with(function)"),
    "**=": (operator.ipow, ".update_with(function)"),
    "<<=": (operator.ilshift, ".update_with(function)"),
    ">>=": (operator.irshift, ".update_with(function)"),
    "&=": (operator.iand, ".update_with(function)"),
    "|=": (operator.ior, ".update(dict)"),
    "^=": (operator.ixor, ".update_with(function)"),
}
CONVERSIONS: dict[str, Callable[[Any], object]] = {
    "-": operator.neg,
    "+": operator.pos,
    "~": operator.invert,
    "abs()": abs,
    "round()": round,
    "int()": int,
    "float()": float,
    "complex()": complex,
    "math.trunc()": math.trunc,
    "an index or a count": range,
    "the format '.2f'": lambda proxy: f"{proxy:.2f}",
}


def refusal(call: Callable[..., object], *arguments: Any, **more: Any) -> str:
    """Return the text of the ``TypeError`` that a call raises."""
    with pytest.raises(TypeError) as caught:
        call(*arguments, **more)
    return str(caught.value)


def test_operators_need_the_value(use: Use) -> None:
    """Arithmetic, order and conversion raise ``TypeError`` that names the path and ``.val()``, and ask nobody."""
    use(NoStore())
    n: Any = Proxy("shop.n")
    tail = " needs a value, and Proxy('shop.n') is a path; use .val() to read its value"
    for symbol, binary in BINARY.items():
        assert refusal(binary, n, 2) == refusal(binary, n, n) == f"{symbol}{tail}"
        for other in (2, 2.5, "a", (), None, {"a": 1}):
            if (symbol, other) != ("%", "a"):  # which formats the proxy
                assert refusal(binary, other, n) == f"{symbol}{tail}"
    for symbol, order in ORDER.items():
        assert refusal(order, n, 2) == refusal(order, n, n) == f"{symbol}{tail}"
    mirrored = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
    for symbol, order in ORDER.items():
        assert refusal(order, 2, n) == f"{mirrored[symbol]}{tail}"
    for symbol, convert in CONVERSIONS.items():
        assert refusal(convert, n) == f"{symbol}{tail}"
    assert refusal(pow, n, 2, 5) == f"**{tail}"
    assert refusal(round, n, 2) == f"round(){tail}"
    assert refusal(sum, [n, n]) == f"+{tail}"
    assert refusal(sorted, [n, n]) == f"<{tail}"
    assert refusal(lambda: [1, 2, 3][n]) == refusal(lambda: "abc"[n:]) == f"an index or a count{tail}"
    assert refusal(math.sqrt, n) == f"float(){tail}"


def test_in_place_operators_name_the_method_that_changes_the_value(any_store: Store) -> None:
    """``p["n"] += 1`` raises ``TypeError`` that names ``add``. It reads, writes and deletes nothing."""
    root().put({"n": 1, "d": {"x": 1}})
    shop: Any = root()
    with counted(meddler()) as transactions:
        for symbol, (change, instead) in IN_PLACE.items():
            said = refusal(change, shop["n"], 1)
            assert said.startswith(
                f"{symbol} needs a value, and Proxy('n') is a path; use .val() to read its value, or "
            )
            assert f"or {instead} to " in said
        with pytest.raises(TypeError, match=r"\+= needs a value.*or \.add\(number\)"):
            shop["n"] += 1
        with pytest.raises(TypeError, match=r"-= needs a value.*or \.add\(-number\)"):
            shop["n"] -= 1
        with pytest.raises(TypeError, match=r"\|= needs a value.*or \.update\(dict\)"):
            shop["d"] |= {"y": 2}
    assert transactions == []
    assert root().val() == {"n": 1, "d": {"x": 1}}


def test_collections_still_take_the_names(any_store: Store) -> None:
    """A proxy iterates over its names, so what takes an iterable or a mapping still takes it."""
    root().put({"a": {"x": 1}})
    place: Any = Proxy("a")
    names, queue, merged = ["w"], deque(["w"]), {"w": 0}
    names += place
    queue += place
    merged |= place
    assert (names, list(queue), list(merged)) == (["w", "x"], ["w", "x"], ["w", "x"])
    with pytest.raises(TypeError, match="list"):
        operator.add(["w"], place)


def test_text_shows_the_path(use: Use) -> None:
    """``str``, f-strings, ``%s`` and ``format`` show the expression that makes the proxy, and read nothing."""
    use(NoStore())
    place = Proxy("shop.n", lock_expire_timeout=5)
    shown = "Proxy('shop.n', lock_expire_timeout=5)"
    assert str(place) == repr(place) == f"{place}" == f"{place!s}" == format(place) == "%s" % place == shown  # noqa: UP031
    assert f"{place.key()}" == "shop.n"


def test_get_takes_no_default(use: Use) -> None:
    """``get`` with a default raises ``TypeError`` that names ``val``, whatever the default is."""
    use(NoStore())
    place: Any = Proxy("shop")
    for default in (None, 5, ""):
        assert "use p.get(key).val(default)" in refusal(place.get, "n", default)
        assert "use p.get(key).val(default)" in refusal(place.get, "n", default=default)
    assert place.get("n") is place.get(key="n") is Proxy("shop.n")


def test_async_with_names_the_asynchronous_proxy(use: Use) -> None:
    """``async with p`` raises ``TypeError`` that names ``redicts.aio``, and nothing takes a proxy for async."""
    use(NoStore())
    place: Any = Proxy("shop")

    async def enter() -> None:
        async with place:
            raise AssertionError("the block ran")

    async def wait() -> None:
        await place

    def first_step(coroutine: Any) -> None:
        coroutine.send(None)

    said = refusal(first_step, enter())
    assert "Proxy('shop')" in said
    assert "from redicts.aio import Proxy" in said
    assert "await" in refusal(first_step, wait())
    # Frameworks ask such questions of any object, to await what can be awaited.
    assert not inspect.isawaitable(place)
    assert not isinstance(place, (Awaitable, AsyncIterable, AbstractAsyncContextManager))
    assert not any(hasattr(each, "__aenter__") for each in (place, Proxy))
    with pytest.raises(AttributeError, match="'Proxy' has no attribute '__aenter__'"):
        _ = Proxy.__aenter__  # type: ignore[attr-defined]


class Array:
    """An array as NumPy's: it takes any sequence for an array, unless that opts out."""

    def __add__(self, other: Any) -> object:
        if getattr(type(other), "__array_ufunc__", self) is None:
            return NotImplemented
        return list(other)


def test_arrays_leave_operators_to_the_proxy(use: Use) -> None:
    """An array does not read a proxy as a sequence."""
    use(NoStore())
    place: Any = Proxy("n")
    assert refusal(lambda: Array() + place).startswith("+ needs a value")


# Truth and equality

COSTS: dict[str, tuple[Callable[[Any, Any], object], object, int]] = {
    "bool(p)": (lambda p, q: bool(p), True, 1),
    "not p": (lambda p, q: not p, False, 1),
    "p == 1": (lambda p, q: p == 1, True, 1),
    "p != 1": (lambda p, q: p != 1, False, 1),
    "1 == p": (lambda p, q: 1 == p, True, 1),  # noqa: SIM300  (that is what is tried)
    "p == q": (lambda p, q: p == q, True, 2),
    "p != q": (lambda p, q: p != q, False, 2),
    "p == p": (lambda p, q: p == p, True, 0),  # noqa: PLR0124  (that is what is tried)
    "p is q": (lambda p, q: p is q, False, 0),
    "p in [2, 1]": (lambda p, q: p in [2, 1], True, 2),
    "p in [p, q]": (lambda p, q: p in [p, q], True, 0),
    "p in [q, p]": (lambda p, q: p in [q, p], True, 2),
    "[q].index(p)": (lambda p, q: [q].index(p), 0, 2),
    "'x' in p": (lambda p, q: "x" in p, False, 1),
    "len(p)": (lambda p, q: len(p), 0, 1),
    "for name in p": (lambda p, q: list(iter(p)), [], 1),
    "str(p)": (lambda p, q: str(p), "Proxy('a')", 0),
}


@pytest.mark.parametrize("expression", COSTS)
def test_what_an_expression_costs(use: Use, expression: str) -> None:
    """Each expression of the page has the result and the number of round trips that it says."""
    store = Wrapped()
    use(store)
    root().put({"a": 1, "b": 1})
    store.transactions.clear()
    call, result, round_trips = COSTS[expression]
    assert call(Proxy("a"), Proxy("b")) == result
    assert len(store.transactions) == round_trips


def test_a_proxy_is_true_if_anything_is_stored(any_store: Store) -> None:
    """A stored value that is false is there, so its proxy is true."""
    values: tuple[Any, ...] = (False, 0, None, "", [], {})
    for value in values:
        root().put({"debug": value})
        assert Proxy("debug")
        assert not Proxy("debug").val()
    root().clear()
    assert not Proxy("debug")


def test_nothing_stored_equals_no_value(any_store: Store) -> None:
    """An absent value equals neither ``None`` nor a dict, but another absent one, and ``!=`` is the opposite."""
    root().put({"none": None, "d": {"x": {}}})
    nothing, none = Proxy("gone"), Proxy("none")
    for place, other, are_equal in (
        (nothing, None, False),
        (nothing, {}, False),
        (none, None, True),
        (nothing, Proxy("gone.too"), True),
        (nothing, none, False),
        (Proxy("d"), {"x": {}}, True),
        (Proxy("d"), {"x": 1}, False),
        (Proxy("d.x"), {}, True),
    ):
        assert (place == other) is (other == place) is are_equal
        assert (place != other) is not are_equal


@pytest.mark.parametrize("name", ["__bool__", "__eq__", "__contains__", "__len__", "__iter__", "__repr__", "__add__"])
def test_help_explains_the_operators(name: str) -> None:
    """``help(Proxy.__bool__)`` and the like say what the operator means and what it costs."""
    said = inspect.getdoc(getattr(Proxy, name)) or ""
    assert "ound trip" in said or ".val()" in said
