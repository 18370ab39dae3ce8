"""Names from the store: each is one segment wherever a key or a path is accepted, and plain text everywhere else."""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import redicts
from redicts import Lock, Name, Packed, PathError, Pool, Proxy, StoreError, root, section
from redicts.core.minitransaction import Outcome, Transaction
from tests.api.test_values import HOSTILE
from tests.support.stores import NoStore, Store, Use, Wrapped

DOTTED = "www.example.org"
ODD = (DOTTED, "back\\slash", ".", "\\", "a\\.b", " ", "é", "\ud800", "\x00", "a..b", ".a.", "name")


def test_every_way_to_walk_gives_names(any_store: Store) -> None:
    """``keys``, ``items``, iteration, ``dict`` and ``**`` of a proxy give names; ``val`` gives plain text."""
    hosts = section("hosts").set([], dict.fromkeys(ODD, 1))
    for names in (hosts.keys(), [*hosts], dict(hosts), [name for name, _ in hosts.items()], {**hosts}):
        assert sorted(names) == sorted(ODD)
        assert {type(name) for name in names} == {Name}
    assert {type(name) for name in hosts.val()} == {str}
    assert {type(each.key()) for each in hosts.children()} == {str}


def test_a_loop_over_names_reaches_every_item(any_store: Store) -> None:
    """``p[name]``, ``name in p`` and ``p.pop(name)`` work for every name, whatever characters it has."""
    value = {name: {"inner": number} for number, name in enumerate((*ODD, *HOSTILE))}
    hosts = section("hosts").set([], value)
    for name in hosts:
        assert name in hosts
        assert hosts[name].key() == Proxy(["hosts", str(name)]).key()
        assert hosts[name]["inner"].val() == value[name]["inner"]
    assert {name: proxy.val() for name, proxy in dict(hosts).items()} == value
    assert {child.key() for child in hosts.children()} == {hosts[name].key() for name in hosts}
    for name in hosts:
        assert hosts.pop(name) == value[name]
    assert not hosts.exists()


def transact(change: Callable[[Any, Name], object]) -> Callable[[Proxy, Name], object]:
    """Return a use of a name in a transaction."""

    def use(proxy: Proxy, name: Name) -> None:
        with proxy.transaction() as changes:
            change(changes, name)

    return use


def value_after(change: Callable[[Proxy, Name], object]) -> Callable[[Proxy, Name], object]:
    """Return a use of a name after which the value under it is 2."""

    def use(proxy: Proxy, name: Name) -> None:
        change(proxy, name)
        assert proxy.val() == {DOTTED: 2}

    return use


def absent_after(change: Callable[[Proxy, Name], object]) -> Callable[[Proxy, Name], object]:
    """Return a use of a name after which nothing is under it."""

    def use(proxy: Proxy, name: Name) -> None:
        change(proxy, name)
        assert proxy.val() is None

    return use


def path_is(found: Callable[[Proxy, Name], str]) -> Callable[[Proxy, Name], object]:
    """Return a use of a name that leads to a path."""

    def use(proxy: Proxy, name: Name) -> None:
        assert found(proxy, name) in (r"hosts.www\.example\.org", r"www\.example\.org")

    return use


USES: dict[str, Callable[[Proxy, Name], object]] = {
    "get": path_is(lambda p, name: p.get(name).key()),
    "[]": path_is(lambda p, name: p[name].key()),
    "set": value_after(lambda p, name: p.set(name, 2)),
    "[] =": value_after(lambda p, name: p.__setitem__(name, 2)),
    "delete": absent_after(lambda p, name: p.delete(name)),
    "del": absent_after(lambda p, name: p.__delitem__(name)),
    "pop": absent_after(lambda p, name: p.pop(name)),
    "setdefault": lambda p, name: [p.setdefault(name, 5)].index(1),
    "transaction.set": value_after(transact(lambda changes, name: changes.set(name, 2))),
    "transaction.add": value_after(transact(lambda changes, name: changes.add(name, 1))),
    "transaction.delete": absent_after(transact(lambda changes, name: changes.delete(name))),
    "transaction.expect": transact(lambda changes, name: changes.expect(name, 1)),
    "transaction.expire": transact(lambda changes, name: changes.expire(name, 60)),
    "a path": path_is(lambda p, name: Proxy(name).key()),
    "a segment of a path": path_is(lambda p, name: Proxy(["hosts", name]).key()),
    "a section": path_is(lambda p, name: section(name).key()),
    "a lock": path_is(lambda p, name: Lock(p, name).key),
    "a lock on a pool": path_is(lambda p, name: Lock(Pool(), name).key),
}


@pytest.mark.parametrize("use", USES)
def test_a_name_is_one_segment_of_each_key_and_path(use: str) -> None:
    """A name is one segment wherever a key or a path is accepted, where the same text is several."""
    hosts = section("hosts").set([DOTTED], 1)
    [name] = hosts
    assert name == DOTTED
    USES[use](hosts, name)  # type: ignore[arg-type]  # it is a Name, which the signature does not promise
    assert root().val() in ({"hosts": {DOTTED: 1}}, {"hosts": {DOTTED: 2}}, None)


def test_a_name_is_one_segment_in_a_database() -> None:
    """The paths of a database take names, too."""
    with redicts.open({"backend": "memory"}) as db:
        name = Name(DOTTED)
        assert db.proxy(name).key() == db.section(name).key() == db.lock(name).key == r"www\.example\.org"


def test_an_empty_name_is_not_the_root() -> None:
    """The empty text is the root where a path is accepted, but no name is empty."""
    for use in (Proxy, section, root().get):
        with pytest.raises(PathError, match="empty segment"):
            use(Name(""))


def test_the_same_text_is_still_a_dotted_path() -> None:
    """Plain text, and a subclass of ``str`` of the user's own, is dotted text as before."""

    class Own(str):
        pass

    for text in (DOTTED, str(Name(DOTTED)), Own(DOTTED)):
        assert Proxy(text) is Proxy(["www", "example", "org"])


def test_names_take_no_round_trip(use: Use) -> None:
    """A proxy for a name is made without a round trip."""
    use(NoStore())
    assert root()[Name("a.b")].key() == r"a\.b"


# Plain text


def calling(method: str, *arguments: object) -> Callable[[str], object]:
    """Return a call of a method of text."""
    return lambda name: getattr(name, method)(*arguments)


def pickled(protocol: int) -> Callable[[str], object]:
    """Return what pickles text and unpickles it."""
    return lambda name: pickle.loads(pickle.dumps(name, protocol))


RESULTS: dict[str, Callable[[str], object]] = {
    **{
        f"{method}{arguments!r}": calling(method, *arguments)
        for method, arguments in [
            ("capitalize", ()),
            ("casefold", ()),
            ("center", (0,)),
            ("expandtabs", ()),
            ("format", ()),
            ("format_map", ({},)),
            ("join", (["x"],)),
            ("ljust", (0,)),
            ("lower", ()),
            ("lstrip", ()),
            ("partition", ("z",)),
            ("removeprefix", ("z",)),
            ("removesuffix", ("z",)),
            ("replace", ("z", "y")),
            ("rjust", (0,)),
            ("rpartition", ("z",)),
            ("rsplit", ("z",)),
            ("rstrip", ()),
            ("split", ("z",)),
            ("splitlines", ()),
            ("strip", ()),
            ("swapcase", ()),
            ("title", ()),
            ("translate", ({},)),
            ("upper", ()),
            ("zfill", (0,)),
            ("__format__", ("",)),
        ]
    },
    "str()": str,
    "[:]": lambda name: name[:],
    "[::1]": lambda name: name[::1],
    "[0]": lambda name: name[0],
    "iteration": lambda name: [*name],
    "+ after": lambda name: name + "",
    "+ before": lambda name: "" + name,
    "* 1": lambda name: name * 1,
    "% of nothing": lambda name: name % (),
    "%": lambda name: "%s" % name,  # noqa: UP031  (the old way, too)
    "f-string": lambda name: f"{name}",
    "format()": "{}".format,
    "join of one": lambda name: "".join([name]),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "deepcopy in a dict": lambda name: next(iter(copy.deepcopy({name: name}).items())),
    "JSON": lambda name: next(iter(json.loads(json.dumps({name: name})).items())),
    **{f"pickle {protocol}": pickled(protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
}


@pytest.mark.parametrize("result", RESULTS)
def test_whatever_is_made_from_a_name_is_plain_text(result: str) -> None:
    """Methods, operators, copies and pickles of a name give exactly what those of the text give, of the same types."""
    for text in ("ab", "a.b", "é.\ud800", "1"):
        found, expected = RESULTS[result](Name(text)), RESULTS[result](text)
        assert found == expected
        assert type(found) is type(expected)
        inner = found if isinstance(found, (list, tuple)) else ()
        assert {type(each) for each in inner} <= {str}


def test_every_method_of_text_is_tried() -> None:
    """No method of ``str`` that returns text is missing above."""
    returning = set()
    for method in dir(str):
        with contextlib.suppress(TypeError, ValueError):
            if isinstance(getattr(str, method)("ab"), (str, list, tuple)) and not method.startswith("__"):
                returning.add(method)
    assert returning - {result.partition("(")[0] for result in RESULTS} == set()


def test_a_name_equals_its_text_and_is_shown_like_it() -> None:
    """A name equals the same text, has its hash, order and repr, and finds the same key of a dict."""
    name = Name("a.b")
    assert name == "a.b"
    assert hash(name) == hash("a.b")
    by_text, by_name = {"a.b": 1}, dict[str, int]({name: 1})
    assert by_text[name] == by_name["a.b"] == 1
    assert repr(name) == "'a.b'"
    assert sorted([Name("b"), "a", Name("c")]) == ["a", "b", "c"]
    assert isinstance(name, str)
    with pytest.raises(AttributeError):
        name.more = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("codec", ["json", "models", "msgpack", "pickle"])
def test_names_are_stored_as_text(codec: str) -> None:
    """A name that is stored as a value, alone, in a list or as a key, comes back as plain text, with every codec."""
    options: dict[str, Any] = {"keys": ["k" * 32]} if codec == "pickle" else {}
    Pool().reload(cfg={"backend": "memory", "codec": {"name": codec, **options}})
    [name] = section("hosts").set([DOTTED], 1)
    value = {"one": name, "list": [name], "dict": {name: [{name: name}]}}
    root().set("value", value)
    found = root()["value"].val()
    assert found == value
    texts = [found["one"], *found["list"], *found["dict"], *found["dict"][name][0], *found["dict"][name][0].values()]
    assert {type(text) for text in texts} == {str}


def test_completions_of_a_proxy_are_dotted_text(any_store: Store) -> None:
    """What IPython offers between the brackets of a proxy leads to the item."""
    hosts = section("hosts").set([], dict.fromkeys(ODD, 1))
    completions = hosts._ipython_key_completions_()
    assert len(completions) == len(ODD)
    assert {hosts[text].key() for text in completions} == {hosts[name].key() for name in hosts}


class Failing(Wrapped):
    """A store that never answers."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        raise StoreError("it does not answer")


def test_there_are_no_completions_if_the_store_fails(use: Use) -> None:
    """A store that does not answer does not disturb somebody who types."""
    use(Failing())
    assert root()._ipython_key_completions_() == []


def test_the_keys_of_a_packed_dict_are_no_names() -> None:
    """A packed dict has keys of any type that the codec takes, and ``items`` leaves them as they are."""
    Pool().reload(cfg={"backend": "memory", "codec": {"name": "msgpack"}})
    root().set("packed", Packed({1: 2}))
    assert dict(root()["packed"].items()) == root()["packed"].val()
    assert repr(root()["packed"].items()) == "[(1, 2)]"
