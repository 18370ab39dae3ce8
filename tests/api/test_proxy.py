"""Proxies: interned by their arguments, without I/O until a method is called, and used like a dict."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterable
from functools import partial

import pytest

from redicts import ABSENT, Pool, Proxy, root, section
from tests.support.stores import NoStore, Store, Use, Wrapped, together

# One object for equal arguments


def test_equal_arguments_give_the_same_object() -> None:
    """However the arguments are written, equal ones give one object."""
    Pool().reload(cfg={"backend": "memory", "names": {"other": 1}})
    proxy = Proxy("a.b", 5, 6, "other")
    assert Proxy(["a", "b"], lock_acquire_timeout=5, lock_expire_timeout=6, db_name="other") is proxy
    assert Proxy(iter(("a", "b")), 5.0, 6.0, "other") is proxy
    assert Proxy("a", 5, 6, "other").get("b") is proxy
    assert section("a", 5, 6, "other")["b"] is proxy
    assert root() is Proxy("") is Proxy([])


@pytest.mark.parametrize(
    "other",
    [
        lambda: Proxy("a.c"),
        lambda: Proxy("a"),
        lambda: Proxy(["a.b"]),
        lambda: Proxy("a.b", 11),
        lambda: Proxy("a.b", 10, 31),
        lambda: Proxy("a.b", db_name="other"),
        lambda: Special("a.b"),
    ],
)
def test_different_arguments_give_different_objects(other: Callable[[], Proxy]) -> None:
    """One argument that differs is enough, and so is another class."""
    proxy = Proxy("a.b")
    assert other() is not proxy


class Special(Proxy):
    """A user's own kind of proxy."""

    __slots__ = ()


def test_a_subclass_leads_to_its_own_kind() -> None:
    """Proxies reached from a proxy of a subclass are of that subclass."""
    Special("a").set("b", {"c": 1})
    below = Special("a").get("b")
    assert type(below) is Special
    assert Special("a.b") is below
    assert [type(each) for each in Special("a").children()] == [Special]
    assert [type(each) for each in Special("a").iter_children()] == [Special]
    assert repr(below) == "Special('a.b')"


def test_interned_proxies_are_weak() -> None:
    """A proxy without references is collected, and the same arguments then create a new one."""
    proxy = Proxy("a.place.of.its.own")
    gone = weakref.ref(proxy)
    assert gone() is proxy
    del proxy
    gc.collect()
    assert gone() is None
    assert Proxy("a.place.of.its.own").key() == "a.place.of.its.own"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_gives_the_same_object(protocol: int) -> None:
    """Unpickling a proxy returns the interned object for its arguments in that process."""
    for proxy in (root(), Proxy([r"a\.", "\ud800", "b"], 1, 2.5, "other"), Special("a")):
        assert pickle.loads(pickle.dumps(proxy, protocol)) is proxy


def test_copying_gives_the_same_object() -> None:
    """A copy of a proxy, deep or not, is that proxy."""
    proxy = Proxy("a.b", 1, 2, "other")
    assert copy.copy(proxy) is proxy

    first, second = copy.deepcopy([proxy, proxy])
    assert first is second is proxy


def test_a_pickled_proxy_has_the_same_arguments_elsewhere() -> None:
    """Another process gets a proxy with the same path, timeouts and database."""
    proxy = Proxy(["a.b", "c"], 1, 2, "other")
    program = "import pickle, sys; print(repr(pickle.load(sys.stdin.buffer)))"
    done = subprocess.run(
        [sys.executable, "-c", program], input=pickle.dumps(proxy), capture_output=True, check=True, timeout=60
    )
    assert done.stdout.decode().strip() == repr(proxy)


def test_threads_get_the_same_object() -> None:
    """Threads that create a proxy for the same path concurrently get one object."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that threads take turns in the middle of what takes microseconds
    try:
        for round_ in range(200):
            asking = [partial(Proxy, f"raced.{round_}")] * 4
            found = together(*asking)
            assert all(each is found[0] for each in found)
    finally:
        sys.setswitchinterval(usual)


# What asks nothing of the store


def test_methods_without_a_round_trip(use: Use) -> None:
    """Creating, naming, printing and pickling a proxy, and getting one below it, take no round trip."""
    use(NoStore())
    proxy = Proxy("a.b", 1)
    assert repr(proxy) == "Proxy('a.b', lock_acquire_timeout=1)"
    assert str(root()) == "Proxy('')"
    assert proxy.get("c").key() == proxy["c"].key() == "a.b.c"
    assert section("a", db_name="x").key() == "a"
    assert pickle.loads(pickle.dumps(proxy)) is proxy
    iterator = proxy.iter_children()
    assert proxy == Proxy("a.b", 1)
    assert (proxy != Proxy("a.b", 1)) is False
    with pytest.raises(AssertionError, match="round trip"):
        next(iterator)


def test_the_repr_makes_the_same_object() -> None:
    """The repr of a proxy is an expression that gives that proxy; defaults are left out."""
    plain = Proxy("a.b")
    assert repr(plain) == "Proxy('a.b')"
    for proxy in (
        plain,
        root(),
        Proxy(["with.dot", "back\\slash", "quote'\"", "line\n"], 0.5, 7, "other"),
        Proxy("a", db_name="x"),
        Proxy("a", lock_expire_timeout=1),
    ):
        assert eval(repr(proxy)) is proxy


def transfer(proxy: Proxy) -> None:
    """Make several changes at once."""
    with proxy.transaction() as changes:
        changes.expect("n", 1)
        changes.set("d", {"other": 1})
        changes.add("n", 1)
        changes.expire("n", 5)
        changes.delete("x")


CALLS: dict[str, tuple[Callable[[Proxy], object], int]] = {
    "val": (lambda p: p.val(), 1),
    "set": (lambda p: p.set("x.y", {"z": 1, "w": {"v": 2}}), 1),
    "exists": (lambda p: p.exists(), 1),
    "delete": (lambda p: p.delete("d"), 1),
    "clear": (lambda p: p.clear(), 1),
    "add": (lambda p: p.get("n").add(1), 1),
    "add of a float": (lambda p: p.get("n").add(1.5), 2),
    "update": (lambda p: p.update({"d": {"new": 1}}), 1),
    "update_with": (lambda p: p.update_with(lambda old: old), 2),
    "compare_and_set": (lambda p: p.get("n").compare_and_set(1, 2), 1),
    "compare_and_set in vain": (lambda p: p.get("n").compare_and_set(7, 2), 1),
    "pop": (lambda p: p.pop("d"), 1),
    "setdefault": (lambda p: p.setdefault("d", 1), 1),
    "setdefault of something new": (lambda p: p.setdefault("new", 1), 1),
    "expire": (lambda p: p.expire(5), 1),
    "time_to_live": (lambda p: p.time_to_live(), 1),
    "iter_children": (lambda p: list(p.iter_children()), 1),
    "children": (lambda p: p.children(), 1),
    "keys": (lambda p: p.keys(), 1),
    "values": (lambda p: p.values(), 1),
    "items": (lambda p: p.items(), 1),
    "[] and del": (lambda p: p.__delitem__("d"), 1),
    "[] =": (lambda p: p.__setitem__("d", 1), 1),
    "in": (lambda p: "d" in p, 1),
    "iter": (lambda p: [*iter(p)], 1),
    "len": (len, 1),
    "bool": (bool, 1),
    "==": (lambda p: p == 5, 1),
    "transaction": (transfer, 1),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_number_of_round_trips(use: Use, name: str) -> None:
    """Each method takes as many round trips as its documentation says."""
    call, trips = CALLS[name]
    watched = Wrapped()
    use(watched)
    root().set("place", {"n": 1, "d": {"x": 1}})
    watched.transactions.clear()
    call(Proxy("place"))
    assert len(watched.transactions) == trips


# Like a dict, and where not


def test_a_proxy_cannot_be_hashed() -> None:
    """Equality is that of values, which change, so a proxy is no key of a dict."""
    with pytest.raises(TypeError, match="unhashable"):
        hash(Proxy("a"))


def test_equality_is_that_of_values(any_store: Store) -> None:
    """A proxy equals the value that is stored, and another proxy with an equal value."""
    root().set("a", {"x": [1]})
    root().set("b.x", [1])
    root().set("c", None)
    assert Proxy("a") == {"x": [1]}
    assert Proxy("a") == Proxy("b")
    assert (Proxy("a") != Proxy("b")) is False
    assert Proxy("a") != {"x": [2]}
    assert Proxy("a") != Proxy("c")
    assert Proxy("a") != None  # noqa: E711
    assert Proxy("a") != "a"


def test_absent_values_are_equal(any_store: Store) -> None:
    """An absent value equals another absent one, but no stored value, ``None`` included."""
    root().set("c", None)
    assert Proxy("c") == None  # noqa: E711
    assert Proxy("gone") != None  # noqa: E711
    assert Proxy("gone") != Proxy("c")
    assert Proxy("gone") == Proxy("gone too")
    assert Proxy("gone") == ABSENT
    assert Proxy("gone") != {}
    assert Proxy("gone") == Proxy("gone")


def test_truth_is_existence(any_store: Store) -> None:
    """A proxy is true if something is stored, even if that is false itself."""
    assert not Proxy("a")
    root().set("a", 0)
    assert Proxy("a")
    assert root()


def test_in_asks_for_existence_below(any_store: Store) -> None:
    """``in`` returns whether a value is stored at a key, which may be dotted."""
    root().set("a", {"b": {"c": None}})
    for key in ("a", "a.b", "a.b.c", ["a", "b"]):
        assert key in root()
    for key in ("b", "a.c", "a.b.c.d", ["a.b"]):
        assert key not in root()
    assert "b.c" in Proxy("a")


def test_len_and_iteration_are_those_of_the_names(any_store: Store) -> None:
    """``len``, ``keys`` and iteration speak of the names directly below; a leaf and nothing have none."""
    root().set("a", {"x": 1, "y": {"z": 1, "w": 2}, "e": {}})
    assert len(Proxy("a")) == 3
    assert sorted(Proxy("a").keys()) == sorted(Proxy("a")) == ["e", "x", "y"]
    for empty in ("a.x", "a.e", "gone", "gone.deep"):
        assert len(Proxy(empty)) == 0
        assert Proxy(empty).keys() == list(Proxy(empty)) == []


def test_values_and_items_are_those_of_the_dict(any_store: Store) -> None:
    """``values`` and ``items`` give what is directly below, dicts included, in the same order."""
    value = {"x": 1, "y": {"z": 1}, "e": {}}
    root().set("a", value)
    assert dict(Proxy("a").items()) == value
    assert Proxy("a").values() == [found for _, found in Proxy("a").items()]
    for empty in ("a.x", "a.e", "gone"):
        assert Proxy(empty).items() == []
        assert Proxy(empty).values() == []


def test_children_are_the_proxies_directly_below(any_store: Store) -> None:
    """``children`` returns the proxy of each name directly below, with the same other arguments."""
    root().set("a", {"x.1": 1, "y": {"z": 1}})
    parent = Proxy("a", 5)
    assert sorted(each.key() for each in parent.children()) == ["a.x\\.1", "a.y"]
    assert {each.key(): each.val() for each in parent.children()} == {"a.x\\.1": 1, "a.y": {"z": 1}}
    assert any(each is parent["y"] for each in parent.children())
    assert Proxy("gone").children() == Proxy("a.y.z").children() == []


def test_a_dict_of_a_proxy_holds_proxies(any_store: Store) -> None:
    """A proxy is a mapping from names to proxies, as ``dict`` and ``**`` see it."""
    root().set("a", {"x": 1, "y": {"z": 1}})
    found = dict(Proxy("a"))
    assert found.keys() == {"x", "y"}
    assert found["x"] is Proxy("a.x")


def test_the_bracket_forms(any_store: Store) -> None:
    """``p[k]`` is ``get``, ``p[k] = v`` is ``set``, and both take dotted keys and lists."""
    place = root()
    place["a.b"] = {"c": 1}
    assert place["a"] is Proxy("a")
    assert place["a.b.c"].val() == 1
    place[["x.y", "z"]] = 2
    assert place.val() == {"a": {"b": {"c": 1}}, "x.y": {"z": 2}}
    del place["a.b"]
    assert place.val() == {"x.y": {"z": 2}}


def test_del_of_nothing_is_a_key_error(any_store: Store) -> None:
    """``del`` raises ``KeyError`` with the whole path if nothing is there, and removes nothing."""
    root().set("a", {"b": 1})
    with pytest.raises(KeyError, match=r"a\.gone"):
        del Proxy("a")["gone"]
    with pytest.raises(KeyError):
        del root()["a.b.c"]
    assert root().val() == {"a": {"b": 1}}


def test_pop_removes_and_returns(any_store: Store) -> None:
    """``pop`` returns what was there, leaf or dict, or the default; without one ``KeyError``."""
    root().set("a", {"b": {"c": [1]}, "d": None})
    assert Proxy("a").pop("b") == {"c": [1]}
    assert root().pop("a.d") is None
    assert root().val() is None
    assert root().pop("a", "default") == "default"
    assert root().pop("a", None) is None
    with pytest.raises(KeyError, match=r"'x\.y'"):
        Proxy("x").pop("y")
    with pytest.raises(TypeError, match="at most one default"):
        root().pop("a", 1, 2)


def test_setdefault_stores_only_where_nothing_is(any_store: Store) -> None:
    """``setdefault`` returns what is there, or stores the default and returns that."""
    assert root().setdefault("a", {"b": [1]}) == {"b": [1]}
    assert root().setdefault("a", 5) == {"b": [1]}
    assert root().setdefault("a.b", 5) == [1]
    assert root().setdefault("a.c") is None
    assert root().val() == {"a": {"b": [1], "c": None}}
    assert root().setdefault("a.c", 7) is None


def test_setdefault_at_the_root(any_store: Store) -> None:
    """At the root, too, ``setdefault`` returns what is there then, and never the word for nothing."""
    assert root().setdefault([], {}) == {}
    assert root().setdefault([], {"a": 1}) == {"a": 1}
    assert root().setdefault([], {"b": 1}) == {"a": 1}


def test_an_empty_iterable_as_key_is_the_path_itself(any_store: Store) -> None:
    """An empty iterable as a key is the path of the proxy itself."""
    Proxy("a.b").set([], 5)
    assert root().val() == {"a": {"b": 5}}
    assert Proxy("a").get([]) is Proxy("a")
    assert Proxy("a.b").pop(()) == 5
    root().set([], {"x": 1})
    root().set([], {"y": 1})
    assert root().val() == {"y": 1}
    root().delete([])
    assert root().val() is None


def test_paths_are_text_with_escapes_or_iterables(any_store: Store) -> None:
    """A dot in a segment is escaped in text, and needs nothing in an iterable."""
    root().set(["www.example.org", "80"], "up")
    assert Proxy(r"www\.example\.org.80").val() == "up"
    assert root().val() == {"www.example.org": {"80": "up"}}
    assert Proxy("www.example.org.80").val() is None
    assert Proxy(["www.example.org"]).key() == r"www\.example\.org"
    assert Proxy(Proxy(["www.example.org", "a\\"]).key()) is Proxy(("www.example.org", "a\\"))
    root().set(r"back\\slash", 1)
    assert Proxy(iter(["back\\slash"])).val() == 1


def test_update_merges(any_store: Store) -> None:
    """``update`` stores the leaves of a dict over what is there, descends, leaves the rest, returns its proxy."""
    root().set("a", {"kept": 1, "deep": {"kept": 2, "new": "old"}, "leaf": 3, "tree": {"x": 1}})
    place = Proxy("a")
    assert place.update({"deep": {"new": 4}, "leaf": {"now": "a dict"}, "tree": 5, "extra": [6]}) is place
    assert place.val() == {
        "kept": 1,
        "deep": {"kept": 2, "new": 4},
        "leaf": {"now": "a dict"},
        "tree": 5,
        "extra": [6],
    }


def test_update_with_nothing_changes_nothing(any_store: Store) -> None:
    """An empty dict changes nothing, and a nested one is only stored where no dict is."""
    root().set("a", {"x": {"y": 1}, "z": 2})
    Proxy("a").update({})
    Proxy("a.z").update({})
    Proxy("gone").update({})
    assert root().val() == {"a": {"x": {"y": 1}, "z": 2}}
    Proxy("a").update({"x": {}, "z": {}, "new": {}})
    assert root().val() == {"a": {"x": {"y": 1}, "z": {}, "new": {}}}


def test_update_removes_a_leaf_above(any_store: Store) -> None:
    """``update`` removes leaves above the ones that it stores."""
    root().set("a", 1)
    Proxy("a.b").update({"c": {"d": 2}})
    assert root().val() == {"a": {"b": {"c": {"d": 2}}}}


def test_update_takes_any_mapping(any_store: Store) -> None:
    """The argument of ``update`` may be any mapping with text as keys."""
    from types import MappingProxyType

    Proxy("a").update(MappingProxyType({"x": {"y": 1}}))
    assert Proxy("a").val() == {"x": {"y": 1}}


def test_nothing_is_below_a_leaf(any_store: Store) -> None:
    """Nothing is below a leaf, whatever is in its value."""
    root().set("a", [{"b": 1}, "c"])
    assert Proxy("a.0").val() is None
    assert Proxy("a.b").val() is None
    assert Proxy("a").keys() == []


def test_a_large_iteration_comes_in_pages(fast_store: Store) -> None:
    """``iter_children`` of more leaves than one page yields each of them once."""
    many = {f"n{number}": {"x": number} for number in range(2_500)}
    root().set("many", many)
    assert sorted(each._path[1] for each in Proxy("many").iter_children()) == sorted(many)
    assert len(Proxy("many")) == 2_500
    assert Proxy("many").val() == many


@pytest.mark.parametrize("count", [3, 2_500])
def test_an_iteration_ends_if_leaves_are_stored_during_it(any_store: Store, count: int) -> None:
    """Every leaf that is there at the beginning appears once, whatever is stored and removed during the iteration."""
    root().set("many", {f"n{number}": number for number in range(count)})
    place, seen = Proxy("many"), []
    for each in place.iter_children():
        seen.append(each.key())
        assert len(seen) <= count
        if len(seen) <= 20 or len(seen) > count - 20:
            place.set(f"zz{len(seen)}", len(seen))
            place.set(f"{each.key().removeprefix('many.')}zz.deep", 1)
            place.set(f"aa{len(seen)}", len(seen))
            each.delete([])
    assert sorted(seen) == sorted(f"many.n{number}" for number in range(count))


WALKS: dict[str, Callable[[Proxy], Iterable[object]]] = {
    "iter_children": lambda place: place.iter_children(),
    "children": lambda place: place.children(),
    "iter": iter,
    "keys": lambda place: place.keys(),
    "values": lambda place: place.values(),
    "items": lambda place: place.items(),
}


@pytest.mark.parametrize("walk", WALKS)
def test_every_walk_ends_if_values_are_stored_during_it(any_store: Store, walk: str) -> None:
    """A walk has as many items as there were values when it began."""
    place = Proxy("few")
    root().set("few", {f"n{number}": number for number in range(5)})
    count = 0
    for _ in WALKS[walk](place):
        count += 1
        assert count <= 5
        place.set(f"nz{count}", count)
    assert count == 5


def test_an_iteration_survives_a_reload(any_store: Store) -> None:
    """A reload during ``iter_children`` raises nothing: it yields the rest of the paths that it has read."""
    root().set("many", {f"n{number}": number for number in range(2_500)})
    iterator = Proxy("many").iter_children()
    first = next(iterator).key()
    Pool().reload(fake_redis=True)
    root().set("many", {"other": 1})
    rest = [each.key() for each in iterator]
    assert first not in rest
    Pool().reload(cfg={"backend": "memory"})
