"""The asynchronous front has the names, parameters, defaults and documentation of the blocking one."""

from __future__ import annotations

import asyncio
import inspect
import sys
from typing import Any, Final

import pytest

import redicts
from redicts import aio
from redicts.aio import edit, locked_proxy, twins
from redicts.api.edit import Edit
from redicts.api.locked_proxy import LockedProxy

TWINS: Final = {
    aio.Database: redicts.Database,
    aio.Lock: redicts.Lock,
    aio.Pool: redicts.Pool,
    aio.Proxy: redicts.Proxy,
    aio.Transaction: redicts.Transaction,
    aio.Watch: redicts.Watch,
    edit.Edit: Edit,
    locked_proxy.LockedProxy: LockedProxy,
}

ONLY_THERE: Final = {
    (redicts.Database, name)
    for name in ("databases", "disconnect", "run", "write", "backend", "store", "locks", "name", "proxies")
} | {(redicts.Pool, name) for name in ("of_client", "databases", "proxies")}
"""What is not for users of the blocking front either: the parts that a database is made of."""

ONLY_HERE: Final = {(aio.Database, "blocking"), (aio.Watch, "aclose")}

OTHER_WORDS: Final = {
    (aio.Proxy, "mapping"),
    (aio.Database, "close"),
    (aio.Watch, "close"),
    (aio.Pool, "database"),
    (aio.Pool, "get_connection"),
}
"""The methods whose documentation differs from that of the blocking ones, because they do."""


def public(kind: type) -> set[str]:
    """Return the public names of a class."""
    return {name for name in dir(kind) if not name.startswith("_")}


CASES: Final = [(kind, name) for kind, other in TWINS.items() for name in sorted(public(kind) & public(other))]


@pytest.mark.parametrize("kind", TWINS, ids=lambda kind: kind.__name__)
def test_the_names_are_the_same(kind: type) -> None:
    """Neither class has a public name that the other one lacks, but for the parts of a database."""
    other = TWINS[kind]
    assert public(other) - public(kind) == {name for each, name in ONLY_THERE if each is other and name in dir(other)}
    assert public(kind) - public(other) == {name for each, name in ONLY_HERE if each is kind}


@pytest.mark.parametrize(("kind", "name"), CASES, ids=lambda case: getattr(case, "__name__", case))
def test_a_method_has_the_same_parameters_and_words(kind: type, name: str) -> None:
    """Parameters, defaults and their order are equal, and so is the documentation up to the first example."""
    one, other = getattr(kind, name), getattr(TWINS[kind], name)
    if callable(one):
        assert parameters(one) == parameters(other)
    if (kind, name) not in OTHER_WORDS:
        assert inspect.getdoc(one) == inspect.cleandoc(twins._text(other.__doc__) or "")
    assert inspect.getdoc(one)


def parameters(function: Any) -> list[tuple[str, object, object]]:
    """Return the names, kinds and defaults of the parameters of a function."""
    found = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.default) for each in found]


@pytest.mark.parametrize("name", ["open", "root", "section"])
def test_a_function_has_the_same_parameters_and_words(name: str) -> None:
    """Functions have the same signature and the same documentation."""
    assert parameters(getattr(aio, name)) == parameters(getattr(redicts, name))
    assert getattr(aio, name).__doc__ == getattr(redicts, name).__doc__


def test_each_class_is_made_with_the_same_arguments() -> None:
    """The constructors have the same parameters and defaults."""
    for kind, other in ((aio.Lock, redicts.Lock), (aio.Proxy, redicts.Proxy), (aio.Pool, redicts.Pool)):
        assert parameters(kind) == parameters(other)


def test_the_names_of_the_module_are_a_part() -> None:
    """Each name of ``redicts.aio`` is one of ``redicts``."""
    assert list(aio.__all__) == sorted(set(aio.__all__))
    assert set(aio.__all__) <= set(redicts.__all__)


def test_frameworks_see_coroutine_functions() -> None:
    """A method that returns a coroutine says so to frameworks, which else would call it in a thread."""
    asks = inspect.iscoroutinefunction if sys.version_info >= (3, 12) else asyncio.iscoroutinefunction
    place = aio.Proxy("a")
    for method in (place.val, place.set, place.add, place.acquire, place.lock().holders, aio.Pool().reload):
        assert asks(method)
    assert not asks(place.get)


REFUSED: Final = {
    "==": (lambda p: p == 1, "await p.val()"),
    "!=": (lambda p: p != 1, "await p.val()"),
    "bool": (bool, "await p.exists()"),
    "in": (lambda p: "x" in p, "await p[key].exists()"),
    "len": (len, "await p.keys()"),
    "iter": (iter, "async for name in p"),
    "set": (lambda p: p.__setitem__("x", 1), "await p.set(key, value)"),
    "del": (lambda p: p.__delitem__("x"), "await p.pop(key)"),
    "hash": (hash, "unhashable"),
    "mapping": (lambda p: p.mapping(), "await p.val()"),
    "+": (lambda p: p + 1, "await .val()"),
    "<": (lambda p: p < 1, "await .val()"),
    "with": (lambda p: p.__enter__(), "async with"),
    "with lock": (lambda p: p.lock().__enter__(), "async with"),
    "if locked": (lambda p: bool(p.locked()), "await p.is_locked()"),
}


@pytest.mark.parametrize("operator", REFUSED)
def test_what_cannot_be_awaited_names_the_method(operator: str) -> None:
    """Operators and functions that would ask the store raise ``TypeError``, which says what to await."""
    use, instead = REFUSED[operator]
    with pytest.raises(TypeError) as raised:
        use(aio.Proxy("a"))
    assert instead in str(raised.value)


def test_a_proxy_equals_itself() -> None:
    """What Python asks of an object without asking the store is answered: a list finds the same proxy."""
    place = aio.Proxy("a")
    assert place == aio.Proxy("a")
    assert [place].index(aio.Proxy("a")) == 0
