"""TTLs: what sets, preserves and clears them, and the TTL of a dict. Tests move the clock of the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from redicts import ABSENT, Packed, Proxy, Transaction, Unsupported, root
from redicts.core import minitransaction
from redicts.core.backend import Capabilities
from redicts.core.minitransaction import Outcome, Read
from tests.config import tables
from tests.support.stores import Clock, Store, Use, Wrapped
from tests.support.waiting import eventually

ABOUT_100 = range(50, 101)
ABOUT_300 = range(250, 301)
ABOUT_1000 = range(950, 1001)
"""The remaining TTL while a test runs, however slow the machine is."""


def commit(change: Callable[[Any], object]) -> None:
    """Make one change in a transaction."""
    with root().transaction() as changes:
        change(changes)


CLEARS: dict[str, Callable[[], object]] = {
    "set": lambda: root().set("x", 2),
    "set of the same": lambda: root().set("x", 1),
    "set of the dict above": lambda: root().set([], {"x": 1}),
    "[] =": lambda: root().__setitem__("x", 2),
    "update": lambda: root().update({"x": 2}),
    "compare_and_set": lambda: Proxy("x").compare_and_set(1, 2),
    "expire(None)": lambda: Proxy("x").expire(None),
    "expire(None) of the dict above": lambda: root().expire(None),
    "transaction.set": lambda: commit(lambda changes: changes.set("x", 2)),
    "transaction.expire(None)": lambda: commit(lambda changes: changes.expire("x", None)),
    "pop and set": lambda: [root().pop("x"), root().set("x", 2)],
}

KEEPS: dict[str, Callable[[], object]] = {
    "add": lambda: Proxy("x").add(1),
    "add of a float": lambda: Proxy("x").add(0.5),
    "add of a large integer": lambda: Proxy("x").add(2**70),
    "update_with": lambda: Proxy("x").update_with(lambda old: old + 1),
    "update_with of the same": lambda: Proxy("x").update_with(lambda old: old),
    "update_with of the dict above": lambda: root().update_with(lambda old: {**old, "x": 7}),
    "setdefault": lambda: root().setdefault("x", 5),
    "compare_and_set in vain": lambda: Proxy("x").compare_and_set(5, 2),
    "update of the neighbour": lambda: root().update({"y": 2}),
    "set of the neighbour": lambda: root().set("y", 2),
    "transaction.add": lambda: commit(lambda changes: changes.add("x", 1)),
    "val": lambda: Proxy("x").val(),
}

GIVES: dict[str, Callable[[], object]] = {
    "set": lambda: root().set("x", 2, expire=300),
    "set of the dict above": lambda: root().set([], {"x": 1}, expire=300),
    "update": lambda: root().update({"x": 2}, expire=300),
    "compare_and_set": lambda: Proxy("x").compare_and_set(1, 2, expire=300),
    "expire": lambda: Proxy("x").expire(300),
    "expire of the dict above": lambda: root().expire(300),
    "transaction.set": lambda: commit(lambda changes: changes.set("x", 2, expire=300)),
    "transaction.expire": lambda: commit(lambda changes: changes.expire("x", 300)),
}


@pytest.mark.parametrize("name", CLEARS)
def test_what_clears_a_ttl(any_store: Store, name: str) -> None:
    """A value that is replaced without ``expire`` has no expiry, even if the new value equals the old one."""
    root().set("x", 1, expire=100)
    assert Proxy("x").time_to_live() in ABOUT_100
    CLEARS[name]()
    assert Proxy("x").exists()
    assert Proxy("x").time_to_live() == -1


@pytest.mark.parametrize("name", KEEPS)
def test_what_preserves_a_ttl(any_store: Store, name: str) -> None:
    """A value that is changed in place, or not at all, preserves its TTL."""
    root().set("x", 1, expire=100)
    KEEPS[name]()
    assert Proxy("x").time_to_live() in ABOUT_100


@pytest.mark.parametrize("name", KEEPS)
def test_what_adds_no_ttl(any_store: Store, name: str) -> None:
    """A value without a TTL gets none by a change in place."""
    root().set("x", 1)
    KEEPS[name]()
    assert Proxy("x").time_to_live() == -1


@pytest.mark.parametrize("name", GIVES)
@pytest.mark.parametrize("before", [None, 1000])
def test_what_sets_a_ttl(any_store: Store, name: str, before: float | None) -> None:
    """A given TTL replaces the one before."""
    root().set("x", 1, expire=before)
    GIVES[name]()
    assert Proxy("x").time_to_live() in ABOUT_300


def test_setdefault_sets_the_ttl_of_the_default_only(any_store: Store) -> None:
    """The TTL is that of the default; an existing value preserves its own."""
    root().setdefault("new", 1, expire=100)
    assert Proxy("new").time_to_live() in ABOUT_100
    root().setdefault("new", 2, expire=5)
    assert Proxy("new").time_to_live() in ABOUT_100


def test_a_ttl_ends_on_its_instant(clock: Clock) -> None:
    """A value is there until its TTL ends, and not at the instant at which it does."""
    root().set("x", 1, expire=2.5)
    clock.seconds += 2.499
    assert Proxy("x").val() == 1
    clock.seconds += 0.001
    assert Proxy("x").val() is None
    assert root().val() is None


@pytest.mark.parametrize(
    ("ask", "gone"),
    [
        (lambda: Proxy("a.x").val("gone"), "gone"),
        (lambda: Proxy("a").val("gone"), "gone"),
        (lambda: Proxy("a").exists(), False),
        (lambda: root().keys(), []),
        (lambda: len(Proxy("a")), 0),
        (lambda: list(root().iter_children()), []),
        (lambda: Proxy("a.x").time_to_live(), -2),
        (lambda: root().pop("a", "gone"), "gone"),
        (lambda: root().setdefault("a.x", "new"), "new"),
        (lambda: Proxy("a.x").add(5), 5),
        (lambda: Proxy("a.x").update_with(lambda old: old, "default"), "default"),
        (lambda: Proxy("a.x").compare_and_set(ABSENT, 1), True),
        (lambda: Proxy("a.x").compare_and_set(7, 1), False),
        (lambda: "a.x" in root(), False),
    ],
)
def test_an_expired_value_is_absent_for_every_method(clock: Clock, ask: Callable[[], object], gone: object) -> None:
    """An expired value is absent for every method, and a dict of expired leaves is not a dict."""
    root().set("a", {"x": 7, "y": {"z": 8}}, expire=1)
    clock.seconds += 1
    assert ask() == gone


def test_a_value_stored_over_an_expired_one_has_its_own_ttl(clock: Clock) -> None:
    """A value stored over an expired one has its own TTL, or none."""
    for write in (lambda: Proxy("x").add(1), lambda: Proxy("x").update_with(lambda old: 1), lambda: root().set("x", 1)):
        root().set("x", 5, expire=1)
        clock.seconds += 1
        write()
        assert Proxy("x").time_to_live() == -1
        assert Proxy("x").val() == 1


def test_a_dicts_ttl_is_that_of_its_longest_lived_leaf(clock: Clock) -> None:
    """``time_to_live`` of a dict is the longest of its leaves; one leaf without a TTL makes it -1."""
    root().set("a", {"x": 1, "y": {"z": 2}}, expire=5)
    Proxy("a.y.z").expire(20)
    assert Proxy("a").time_to_live() == 20
    assert Proxy("a.y").time_to_live() == 20
    assert Proxy("a.x").time_to_live() == 5
    clock.seconds += 5
    assert Proxy("a").time_to_live() == 15
    assert Proxy("a").val() == {"y": {"z": 2}}
    root().set("a.w", 1)
    assert Proxy("a").time_to_live() == -1
    root().delete("a.w")
    clock.seconds += 15
    assert Proxy("a").time_to_live() == -2
    assert Proxy("a").val() is None


def test_expire_of_a_dict_gives_every_leaf_the_ttl(any_store: Store) -> None:
    """``expire`` reaches every leaf at and below; those stored later are not touched by it."""
    root().set("a", {"x": 1, "y": {"z": 2, "e": {}}})
    root().set("b", 1)
    Proxy("a").expire(100)
    assert all(each.time_to_live() in ABOUT_100 for each in Proxy("a").iter_children())
    assert Proxy("b").time_to_live() == -1
    root().set("a.new", 3)
    assert Proxy("a.new").time_to_live() == -1
    assert Proxy("a.x").time_to_live() in ABOUT_100


def test_set_with_a_ttl_gives_it_to_every_leaf(any_store: Store) -> None:
    """``set`` of a dict gives all its leaves the TTL, and they end together."""
    root().set("a", {"x": 1, "y": {"z": 2}}, expire=0.15)
    root().set("a.stays", 3)
    eventually(lambda: Proxy("a").val() == {"stays": 3}, "leaves with a TTL of 0.15 seconds end")


def test_update_gives_the_ttl_to_its_own_leaves(clock: Clock) -> None:
    """``update`` with a TTL sets it for the leaves that it stores; the others preserve theirs."""
    root().set("a", {"x": 1, "y": 2}, expire=50)
    Proxy("a").update({"x": 3, "z": 4}, expire=5)
    assert {each.key(): each.time_to_live() for each in root().iter_children()} == {"a.x": 5, "a.y": 50, "a.z": 5}


DOCUMENT = {f"n{number}": number for number in range(20)}
"""A dict that is stored as one document where the store takes documents."""

CHANGES: dict[str, tuple[object, Callable[[Any], object]]] = {
    "a leaf": (1, lambda old: old + 1),
    "a leaf of another type": (1, lambda old: "text"),
    "an entry": ({"u": 1}, lambda old: {"u": 2}),
    "a new entry": ({"u": 1}, lambda old: {**old, "v": 2}),
    "a new entry for an old one": ({"u": 1}, lambda old: {"v": 2}),
    "a deep new entry": ({"u": 1}, lambda old: {**old, "v": {"w": {"x": 1}}}),
    "an entry of an empty dict": ({}, lambda old: {**old, "u": 1}),
    "a dict to an empty one": ({"u": 1, "v": {"w": 2}}, lambda old: {}),
    "a dict to a leaf": ({"u": 1, "v": {"w": 2}}, lambda old: [old]),
    "a dict to a packed one": ({"u": 1, "v": {"w": 2}}, Packed),
    "a list to a dict": ([1, 2], lambda old: dict(zip("ab", old))),
    "a leaf to a dict of dicts": (1, lambda old: {"a": {"b": old, "c": {}}}),
    "a packed dict": (Packed({"u": 1}), lambda old: {**old, "v": 2}),
    "a packed dict to a leaf": (Packed({"u": 1}), lambda old: 5),
    "a dict with a packed one": ({"p": Packed({"u": 1})}, lambda old: {"p": {"u": 2}, "q": 1}),
    "a part of a document": (DOCUMENT, lambda old: {**old, "n7": 8}),
    "a new part of a document": (DOCUMENT, lambda old: {**old, "new": {"er": 1}}),
    "another document": (DOCUMENT, lambda old: {f"other {name}": value for name, value in old.items()}),
    "nothing": ({"u": 1, "p": Packed({"v": 1})}, lambda old: old),
}


@pytest.mark.parametrize("name", CHANGES)
def test_update_with_keeps_the_ttl_of_the_path(any_store: Store, name: str) -> None:
    """Whatever becomes of a value in ``update_with``, its path has the TTL that it had, or none if it had none."""
    stored, function = CHANGES[name]
    for expire, left in ((100, ABOUT_100), (None, (-1,))):
        root().set("x", stored, expire=expire)
        new = Proxy("x").update_with(function)
        assert Proxy("x").val() == new
        assert all(each.time_to_live() in left for each in Proxy("x").iter_children())
        assert Proxy("x").time_to_live() in left


def test_new_leaves_have_the_longest_ttl_that_there_was(any_store: Store) -> None:
    """In ``update_with``, leaves that stay or change preserve their TTLs, and new ones get the longest of them."""
    root().set("a", {"stays": 1, "changes": 2, "goes": 3}, expire=100)
    Proxy("a.stays").expire(300)
    Proxy("a").update_with(lambda old: {"stays": 1, "changes": 5, "new": {"x": 6}})
    ttls = {each.key(): each.time_to_live() for each in root().iter_children()}
    assert ttls.keys() == {"a.stays", "a.changes", "a.new.x"}
    assert ttls["a.changes"] in ABOUT_100
    assert ttls["a.stays"] in ABOUT_300
    assert ttls["a.new.x"] in ABOUT_300


def test_one_persistent_leaf_makes_new_ones_persistent(any_store: Store) -> None:
    """New leaves have no expiry if one of the old leaves has none; the leaves that stay preserve their TTLs."""
    root().set("a", {"x": 1}, expire=100)
    root().set("a.y", 2)
    Proxy("a").update_with(lambda old: {"x": 3, "new": 4})
    assert Proxy("a.x").time_to_live() in ABOUT_100
    assert Proxy("a.new").time_to_live() == -1


def test_what_is_packed_stays_packed(any_store: Store) -> None:
    """A packed dict that ``update_with`` gives to its function as a dict is stored packed again, at any depth."""
    root().set("a", {"x": 1, "deep": {"p": Packed({"u": {"v": 1}}), "q": Packed({"w": 1})}})
    root().set("p", Packed({"u": 1}))
    Proxy("a").update_with(lambda old: {**old, "x": {"y": 1}, "deep": {**old["deep"], "p": {"u": {"v": 2}}}})
    Proxy("p").update_with(lambda old: {**old, "v": {"w": 2}})
    assert sorted(each.key() for each in root().iter_children()) == ["a.deep.p", "a.deep.q", "a.x.y", "p"]
    assert root().val() == {
        "a": {"x": {"y": 1}, "deep": {"p": {"u": {"v": 2}}, "q": {"w": 1}}},
        "p": {"u": 1, "v": {"w": 2}},
    }
    Proxy("a").update_with(lambda old: {**old, "deep": {"p": 1, "q": {}}})
    assert Proxy("a").val() == {"x": {"y": 1}, "deep": {"p": 1, "q": {}}}


def test_update_with_needs_no_ttls(use: Use) -> None:
    """``update_with`` works on a store that has no TTLs and refuses to read them."""

    class Plain(Wrapped):
        @property
        def capabilities(self) -> Capabilities:
            return Capabilities(ttl=False, processes=False, durable=False, atomic_entries=None)

        def execute(self, transaction: minitransaction.Transaction, /) -> Outcome:
            if any(isinstance(read, Read) and read.ttls for read in transaction.reads):
                raise Unsupported("no TTLs here")
            return super().execute(transaction)

    use(Plain())
    root().set("a", {"x": 1})
    assert Proxy("a").update_with(lambda old: {**old, "y": 2}) == {"x": 1, "y": 2}


# The table on the page


class Operation:
    """An operation on the dict at ``a``, whose leaves ``old`` and ``other`` have TTLs; ``new`` is not there."""

    def __init__(self, written: str, *calls: Callable[[Proxy], object]) -> None:
        self.written = written
        self.calls = calls


def in_transaction(*changes: Callable[[Transaction], object]) -> Callable[[Proxy], object]:
    """Return an operation that makes changes below a path in a transaction."""

    def call(place: Proxy) -> None:
        with place.transaction() as transaction:
            for change in changes:
                change(transaction)

    return call


def edited(place: Proxy) -> None:
    """Change one leaf in place and add another one."""
    with place.edit() as value:
        value["old"], value["new"] = 2, 2


OPERATIONS = (
    Operation("`val`, `keys`, `exists`, comparisons and other reads", lambda p: [p.val(), p.keys(), p == 1, bool(p)]),
    Operation("`set(key, value)`, `p[key] = value`", lambda p: p.set("old", 2).set("new", 2)),
    Operation("`set(key, value, expire)`", lambda p: p.set("old", 2, 300).set("new", 2, expire=300)),
    Operation("`set` of the whole dict", lambda p: p.set([], {"old": 1, "new": 2})),
    Operation("`update(dict)`", lambda p: p.update({"old": 2, "new": 2})),
    Operation("`update(dict, expire)`", lambda p: p.update({"old": 2, "new": 2}, expire=300)),
    Operation("`update_with(function)` of the dict", lambda p: p.update_with(lambda d: {**d, "old": 2, "new": 2})),
    Operation("`edit()` of the dict", edited),
    Operation(
        "`compare_and_set(expected, value)` that stores",
        lambda p: [p["old"].compare_and_set(1, 2), p["new"].compare_and_set(ABSENT, 2)],
    ),
    Operation(
        "`compare_and_set(expected, value, expire)` that stores",
        lambda p: [p["old"].compare_and_set(1, 2, 300), p["new"].compare_and_set(ABSENT, 2, 300)],
    ),
    Operation(
        "`compare_and_set` that does not store",
        lambda p: [p["old"].compare_and_set(7, 2, 300), p["new"].compare_and_set(7, 2, 300)],
    ),
    Operation("`setdefault(key, default)`", lambda p: [p.setdefault("old", 2), p.setdefault("new", 2)]),
    Operation(
        "`setdefault(key, default, expire)`", lambda p: [p.setdefault("old", 2, 300), p.setdefault("new", 2, 300)]
    ),
    Operation("`add(count)`, also of a float", lambda p: [p["old"].add(1), p["old"].add(0.5), p["new"].add(1)]),
    Operation("`expire(seconds)` of the leaf", lambda p: p["old"].expire(300), lambda p: p["new"].expire(300)),
    Operation("`expire(seconds)` of the dict", lambda p: p.expire(300)),
    Operation("`expire(None)` of the leaf", lambda p: p["old"].expire(None), lambda p: p["new"].expire(None)),
    Operation("`delete(key)`, `del p[key]`, `pop(key)`", lambda p: p.pop("old")),
    Operation("`clear`", lambda p: p.clear()),
    Operation(
        "`set(key, value)` in a transaction", in_transaction(lambda t: t.set("old", 2), lambda t: t.set("new", 2))
    ),
    Operation(
        "`set(key, value, expire)` in a transaction",
        in_transaction(lambda t: t.set("old", 2, 300), lambda t: t.set("new", 2, 300)),
    ),
    Operation(
        "`add(key, count)` in a transaction", in_transaction(lambda t: t.add("old", 1), lambda t: t.add("new", 1))
    ),
    Operation(
        "`expire(key, seconds)` in a transaction",
        in_transaction(lambda t: t.set("new", 1), lambda t: t.expire("old", 300), lambda t: t.expire("new", 300)),
    ),
    Operation(
        "`acquire`, `release` and other uses of locks",
        lambda p: p.acquire(),
        lambda p: p.release(),
        lambda p: p.is_locked(),
    ),
)


def said(place: Proxy) -> str:
    """Return in a word what became of the TTL of a leaf, which was 100 seconds for ``old`` and 1000 for ``other``."""
    ttl, is_new = place.time_to_live(), place.key() == "a.new"
    if ttl in ABOUT_300:
        return "`expire`"
    if ttl == -1:
        return "no expiry" if is_new else "cleared"
    if ttl == -2:
        return "" if is_new else "removed"
    if is_new:
        assert ttl in ABOUT_1000
        return "the longest of the dict"
    assert ttl in (ABOUT_100 if place.key() == "a.old" else ABOUT_1000)
    return "preserved"


def test_the_page_says_what_each_operation_does_to_ttls(any_store: Store) -> None:
    """The table in docs/ttl.md is what each operation does on every store."""
    rows = []
    for operation in OPERATIONS:
        root().clear()
        root().set("a", {"old": 1, "other": 1}, expire=100)
        Proxy("a.other").expire(1000)
        for call in operation.calls:
            call(Proxy("a"))
        rows.append((operation.written, *[said(Proxy(f"a.{name}")) for name in ("old", "new", "other")]))
    heads = ("Operation", "A leaf that was there", "A new leaf", "Other leaves of the dict")
    tables.check("ttl.md", "operations", heads, rows)


def test_the_ttl_of_nothing(any_store: Store) -> None:
    """Nothing has the TTL -2, and to give it one is no error and makes nothing."""
    assert Proxy("gone").time_to_live() == root().time_to_live() == -2
    Proxy("gone").expire(5)
    root().expire(5)
    assert root().val() is None


@pytest.mark.parametrize(("seconds", "left"), [(1, 1), (0.0004, 1), (0.5, 1), (1.0001, 1), (1.001, 2), (10, 10)])
def test_ttls_are_in_seconds_and_rounded_up(clock: Clock, seconds: float, left: int) -> None:
    """A TTL is stored in milliseconds, at least one, and returned in whole seconds, rounded up."""
    root().set("x", 1, expire=seconds)
    assert Proxy("x").time_to_live() == left


def test_very_long_ttls_are_possible(any_store: Store) -> None:
    """A TTL of any finite length is accepted; the longest count as some three thousand years."""
    for seconds in (10**6, 1e12, 10**15, 1e300, 1e307, 10**400):
        root().set("x", 1, expire=seconds)
        assert min(seconds, 10**11) - 60 <= Proxy("x").time_to_live() <= min(seconds, 10**11)
