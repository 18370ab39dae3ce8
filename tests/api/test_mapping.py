"""``Proxy.mapping()``: what is below a path as a ``MutableMapping``, like a dict, and where it differs from one."""

from __future__ import annotations

import collections
import importlib
import itertools
import pickle
import unittest
from collections.abc import Callable, MutableMapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from redicts import LeafError, Lock, LockLost, Name, Packed, PathError, Pool, Proxy, TreeMapping, Unsupported, root
from redicts.core.minitransaction import Outcome, ReadNames, Transaction
from redicts.errors import StoreError
from tests.api.test_names import ODD
from tests.core.test_large_trees import Limited, ShortPages
from tests.locks.locking import Somebody, break_locks
from tests.support.skips import EXCUSE
from tests.support.stores import Clock, NoStore, Store, Use, Wrapped, together

# The protocol of CPython's own tests


def protocol(references: dict[str, Any] | None = None) -> unittest.TestResult:
    """Run CPython's tests of the mapping protocol on mappings, each on a path of its own."""
    try:
        tests: Any = importlib.import_module("test.mapping_tests")
    except ImportError:
        pytest.skip(f"{EXCUSE} this Python has no test.mapping_tests; Debian has it in libpython3-testsuite")
    numbers = itertools.count()

    class Protocol(tests.BasicTestMappingProtocol):  # type: ignore[misc]  # of a module without types
        """The tests, with values that come back as they are."""

        def _reference(self) -> dict[str, Any]:
            found: dict[str, Any] = super()._reference() if references is None else references
            return found

        def _empty_mapping(self) -> TreeMapping:
            return Proxy(f"protocol.{next(numbers)}").mapping()

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Protocol).run(result)
    return result


def passed(result: unittest.TestResult) -> bool:
    """Return whether all tests of the protocol ran and passed."""
    assert [text for _, text in (*result.errors, *result.failures)] == []
    return result.testsRun >= 14 and not result.skipped


def test_it_passes_the_tests_of_cpython(any_store: Store) -> None:
    """A mapping passes ``BasicTestMappingProtocol`` on every store; the one tuple is a text, as JSON has no tuples."""
    assert passed(protocol({"1": "2", "key1": "value1", "key2": "(1, 2, 3)"}))


def test_it_passes_the_unchanged_tests_of_cpython() -> None:
    """With a codec that stores tuples, a mapping passes the tests with their own values."""
    Pool().reload(cfg={"backend": "memory", "codec": {"name": "msgpack"}})
    assert passed(protocol())


# Items


def test_items_are_values_or_mappings(any_store: Store) -> None:
    """A leaf is its value, packed dicts included. A dict, also an empty one, is a mapping."""
    value = {"leaf": [1, {"a": 2}], "none": None, "zero": 0, "dict": {"x": {"y": 1}}, "empty": {}}
    root().set("a", {**value, "packed": Packed({"k": 1})})
    mapping = Proxy("a").mapping()
    assert isinstance(mapping, MutableMapping)
    assert mapping["leaf"] == [1, {"a": 2}]
    assert mapping["none"] is None
    assert mapping["zero"] == 0
    assert mapping["packed"] == {"k": 1}
    assert type(mapping["packed"]) is dict
    for name in ("dict", "empty"):
        assert type(mapping[name]) is TreeMapping
        assert mapping[name] == value[name]
    assert mapping["dict"]["x"]["y"] == 1
    assert mapping.copy() == {**value, "packed": {"k": 1}}
    assert {name: type(item) for name, item in mapping.items()} == {name: type(mapping[name]) for name in mapping}
    assert len(list(mapping.values())) == 6
    assert {"k": 1} in mapping.values()
    assert 7 not in mapping.values()
    assert ("zero", 0) in mapping.items()
    assert ("zero", 1) not in mapping.items()
    assert mapping.get("gone", 5) == 5
    assert mapping.get("gone") is None


def test_changes_of_an_inner_mapping_are_stored(any_store: Store) -> None:
    """What is changed in an item is stored in the tree."""
    mapping = root().mapping()
    mapping["a"] = {"b": 1}
    mapping["a"]["c"] = {"d": 2}
    mapping["a"]["c"]["e"] = 3
    mapping.setdefault("new", {})["x"] = 4
    assert mapping.setdefault("new", {}) == {"x": 4}
    mapping["a"] |= {"b": 5, "f": {}}
    assert root().val() == {"a": {"b": 5, "c": {"d": 2, "e": 3}, "f": {}}, "new": {"x": 4}}
    del mapping["a"]["c"]["d"]
    assert mapping["a"].pop("c") == {"e": 3}
    mapping["a"].clear()
    assert "a" not in mapping
    assert mapping == {"new": {"x": 4}}


def test_a_key_is_one_name(any_store: Store) -> None:
    """Every text is one name, dots and backslashes included."""
    mapping = Proxy("a").mapping()
    for number, name in enumerate(ODD):
        mapping[name] = number
        assert mapping[name] == number
        assert name in mapping
    assert Proxy("a").val() == mapping == {name: number for number, name in enumerate(ODD)}
    assert {type(name) for name in mapping} == {type(name) for name, _ in mapping.items()} == {Name}
    assert sorted(mapping._ipython_key_completions_()) == sorted(ODD)
    for name in mapping:
        assert mapping.pop(name) == ODD.index(name)
    assert not mapping


def test_what_cannot_be_a_key_is_not_there(use: Use) -> None:
    """Reading another key than a name finds nothing, as in a dict, and asks nothing of the store."""
    use(NoStore())
    mapping: Any = Proxy(["d"] * 127).mapping()
    deepest: Any = Proxy(["d"] * 128).mapping()
    for wrong in ("", 5, None, ("a", "b"), b"a"):
        assert wrong not in mapping
        assert mapping.get(wrong, "default") == mapping.pop(wrong, "default") == "default"
        for read in (mapping.__getitem__, mapping.__delitem__, mapping.pop):
            with pytest.raises(KeyError) as caught:
                read(wrong)
            assert caught.value.args == (wrong,)
    assert "a" not in deepest
    assert deepest.get("a") is None
    for call in (mapping.__getitem__, mapping.__contains__, mapping.pop):
        with pytest.raises(TypeError, match="unhashable"):
            call(["a", "b"])


def test_what_cannot_be_a_key_is_not_stored(use: Use) -> None:
    """Storing under another key than a name raises ``PathError``, before anything is written."""
    use(NoStore())
    mapping: Any = Proxy("a").mapping()
    for wrong in ("", 5, None, ("a", "b"), b"a", ["a"]):
        for write in (mapping.__setitem__, mapping.setdefault):
            with pytest.raises(PathError):
                write(wrong, 1)
    for items in ({"fine": 1, "": 2}, {"fine": 1, 5: 2}):
        with pytest.raises(PathError):
            mapping.update(items)
    with pytest.raises(PathError):
        Proxy(["d"] * 128).mapping()["x"] = 1


class Enumerated(str):
    """A kind of text whose instances do not equal their text."""

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return 0


def test_a_kind_of_text_is_its_text() -> None:
    """A subclass of ``str`` as a key is the text that it has, one name."""
    mapping = Proxy("a").mapping()
    mapping[Enumerated("x.y")] = 1
    mapping.update([(Enumerated("z"), 2)])
    assert Proxy("a").val() == {"x.y": 1, "z": 2}
    assert mapping[Enumerated("x.y")] == 1


# Values


def test_a_mapping_is_stored_by_value(any_store: Store) -> None:
    """Mappings of all kinds are stored as dicts, at any depth, and have nothing to do with the original afterwards."""
    root().set("source", {"x": {"y": 1}})
    source, mapping = Proxy("source").mapping(), Proxy("a").mapping()
    mapping["whole"] = source
    mapping["part"] = {"inner": source["x"], "frozen": MappingProxyType({"k": collections.UserDict(v=1)})}
    mapping.update(source, other=source)
    assert mapping.setdefault("default", source) == {"x": {"y": 1}}
    source["x"]["y"] = 2
    value = {"x": {"y": 1}}
    assert mapping.copy() == {
        **value,
        "whole": value,
        "part": {"inner": {"y": 1}, "frozen": {"k": {"v": 1}}},
        "other": value,
        "default": value,
    }
    source["copy"] = source
    assert source == {"x": {"y": 2}, "copy": {"x": {"y": 2}}}


def test_assigning_an_item_to_itself_changes_nothing(any_store: Store) -> None:
    """``m[k] = m[k]``, and so ``m[k] |= ...``, preserves what others store meanwhile, and the TTLs."""
    root().set("a", {"b": {"x": 1}}, expire=100)
    mapping = Proxy("a").mapping()
    item = mapping["b"]
    root().set("a.b.new", 2, expire=100)
    mapping["b"] = item
    assert mapping == {"b": {"x": 1, "new": 2}}
    assert 0 < Proxy("a").time_to_live() <= 100
    del mapping["b"]
    mapping["b"] = item  # a mapping whose path is empty, by value
    assert mapping == {"b": {}}


def test_values_that_cannot_be_stored_are_refused() -> None:
    """A value that the codec refuses, a cycle and a dict that is too deep raise ``LeafError`` and change nothing."""
    mapping = root().mapping()
    mapping["a"] = 1
    cycle: dict[str, Any] = {}
    cycle["again"] = {"and": cycle, "again": cycle}
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"d": deep}
    for wrong in ({1, 2}, {"x": object()}, cycle, deep):
        for write in (mapping.__setitem__, mapping.setdefault, lambda key, value: mapping.update({"b": 2, key: value})):
            with pytest.raises(LeafError):
                write("new", wrong)
    assert root().val() == {"a": 1}


def test_values_that_are_stored_may_have_a_ttl(clock: Clock) -> None:
    """With ``expire`` each value that is stored through the mapping, or through one in it, has this TTL."""
    mapping = Proxy("a").mapping(expire=10)
    mapping["set"] = {"x": 1}
    mapping.update(updated=1)
    mapping.setdefault("default", 1)
    clock.seconds += 6
    mapping["set"]["later"] = 1
    assert mapping == {"set": {"x": 1, "later": 1}, "updated": 1, "default": 1}
    clock.seconds += 6
    assert mapping == {"set": {"later": 1}}
    clock.seconds += 6
    assert not mapping
    Proxy("a").mapping()["set"] = 1
    clock.seconds += 60
    assert mapping == {"set": 1}
    with pytest.raises(LeafError, match="TTL"):
        Proxy("a").mapping(expire=0)


# The path


def test_a_mapping_is_what_is_below_its_path(any_store: Store) -> None:
    """Over nothing, a leaf or a packed dict a mapping is empty; storing an item makes the path a dict."""
    item: dict[str, Any] = {"x": 1}
    root().set("a", {"gone": item, "leaf": item, "packed": item})
    mappings = {name: Proxy("a").mapping()[name] for name in ("gone", "leaf", "packed")}
    root().delete("a.gone")
    root().set("a.leaf", 5).set("a.packed", Packed({"x": 1}))
    for name, mapping in mappings.items():
        assert not mapping
        assert len(mapping) == 0
        assert list(mapping) == [] == list(mapping.items())
        assert mapping == mapping.copy() == {}
        assert "x" not in mapping
        with pytest.raises(KeyError):
            mapping["x"]
        for remove in (mapping.popitem, lambda m=mapping: m.pop("x")):
            with pytest.raises(KeyError):
                remove()
        mapping.clear()
        mapping.update()
        assert Proxy("a").val({}).get(name) == {"gone": None, "leaf": 5, "packed": {"x": 1}}[name]
    for mapping in mappings.values():
        mapping["y"] = 2
    assert Proxy("a").val() == {key: {"y": 2} for key in mappings}


def test_an_empty_dict_stays_until_something_is_stored(any_store: Store) -> None:
    """An empty dict is stored and read as one. The last item of a dict takes the dict with it."""
    mapping = root().mapping()
    mapping["a"] = {}
    assert mapping == {"a": {}}
    assert "a" in mapping
    assert not mapping["a"]
    mapping["a"].clear()
    assert mapping == {"a": {}}
    mapping["a"]["x"] = 1
    del mapping["a"]["x"]
    assert mapping == {}
    assert not mapping


# Like a dict


def test_equality_is_that_of_values_at_any_depth(any_store: Store) -> None:
    """A mapping equals a dict, a mapping of any kind and a proxy with equal items, whichever is on the left."""
    value = {"x": 1, "y": {"z": [2], "e": {}}}
    root().set("a", value).set("b", value)
    one, other = Proxy("a").mapping(), Proxy("b").mapping()
    nested = {"x": 1, "y": other["y"]}
    for equal in (value, other, nested, collections.UserDict(value), MappingProxyType(value), Proxy("b"), one):
        assert one == equal
        assert equal == one
        assert (one != equal, equal != one) == (False, False)
    other["y"]["z"] = [3]
    unequal: list[Any] = [other, nested, {}, {5: 1}, [], None, 1, Proxy("gone")]
    for different in unequal:
        assert one != different
        assert different != one
    assert one["y"] != other["y"]
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


def test_operators_and_unpacking(any_store: Store) -> None:
    """``|`` gives a dict, ``|=`` stores; ``**``, ``dict`` and patterns see the items."""
    mapping = Proxy("a").mapping()
    mapping |= {"x": 1, "y": {"z": 2}}
    mapping |= [("w", 3)]
    assert type(mapping) is TreeMapping
    value = {"x": 1, "y": {"z": 2}, "w": 3}
    for merged in (mapping | {"x": 9}, mapping | Proxy("b").mapping() | {"x": 9}):
        assert merged == {**value, "x": 9}
        assert type(merged) is dict
    assert {"x": 9, "v": 4} | mapping == {**value, "v": 4}
    for wrong in (5, [("x", 1)]):
        with pytest.raises(TypeError):
            mapping | wrong  # type: ignore[operator]
        with pytest.raises(TypeError):
            wrong | mapping  # type: ignore[operator]
    assert dict(mapping) == {**mapping} == dict(**mapping) == value
    match mapping:
        case {"x": number, "y": {"z": inner}}:
            assert (number, inner) == (1, 2)
        case _:
            raise AssertionError("the pattern does not match")
    assert mapping.keys() & {"x", "y", 5, None} == {"x", "y"}
    assert mapping.keys() == value.keys()
    assert mapping == value


def test_update_replaces_items(any_store: Store) -> None:
    """``update`` takes whatever ``dict.update`` takes, and replaces whole items."""
    mapping = Proxy("a").mapping()
    mapping.update({"x": {"old": 1}, "kept": 1})
    mapping.update([("x", {"new": 2}), ("y", 3)], z=4, other=5)
    mapping.update()
    mapping.update(Proxy("a").mapping())
    assert mapping == {"x": {"new": 2}, "kept": 1, "y": 3, "z": 4, "other": 5}


def test_changes_during_an_iteration(any_store: Store) -> None:
    """An iteration yields what was there when it began, whatever is stored and removed during it."""
    mapping = Proxy("a").mapping()
    mapping.update(dict.fromkeys("abc", 1))
    for walk in (mapping, mapping.keys(), mapping.items(), mapping.values()):
        for count, _ in enumerate(walk):
            assert count < 3
            mapping[f"new{count}"] = 1
            mapping.pop("a", None)
        Proxy("a").set([], dict.fromkeys("abc", 1))


# Round trips

CALLS: dict[str, tuple[Callable[[TreeMapping], object], int]] = {
    "[]": (lambda m: m["n"], 1),
    "[] of a dict": (lambda m: m["d"], 1),
    "get": (lambda m: m.get("gone"), 1),
    "in": (lambda m: "n" in m, 1),
    "[] =": (lambda m: m.__setitem__("n", {"x": 1}), 1),
    "del": (lambda m: m.__delitem__("d"), 1),
    "pop": (lambda m: m.pop("d"), 1),
    "popitem": (lambda m: m.popitem(), 2),
    "setdefault": (lambda m: m.setdefault("d", 1), 1),
    "setdefault of something new": (lambda m: m.setdefault("new", {}), 1),
    "update": (lambda m: m.update({"n": {}, "d": 2, "new": {"x": 1, "y": 2}}), 1),
    "clear": (lambda m: m.clear(), 1),
    "iter": (lambda m: [name for name in m], 1),  # noqa: C416  (a list asks for the length too)
    "list": (list, 2),
    "keys": (lambda m: set(m.keys()), 1),
    "len": (len, 1),
    "bool": (bool, 1),
    "items": (lambda m: {name: item for name, item in m.items()}, 1),  # noqa: C416
    "values": (lambda m: [*iter(m.values())], 1),
    "in values": (lambda m: 1 in m.values(), 1),
    "copy": (lambda m: m.copy(), 1),
    "==": (lambda m: m == {}, 1),
    "|": (lambda m: m | {}, 1),
    "dict of the items": (lambda m: dict(m.items()), 1),
    "dict": (dict, 3),
    "completions": (lambda m: m._ipython_key_completions_(), 1),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_number_of_round_trips(use: Use, name: str) -> None:
    """Each method takes as many round trips as its documentation says."""
    call, trips = CALLS[name]
    watched = Wrapped()
    use(watched)
    root().set("a", {"n": 1, "d": {"x": 1, "y": {"z": 2}}})
    watched.transactions.clear()
    call(Proxy("a").mapping())
    assert len(watched.transactions) == trips


def itself(value: object) -> object:
    """Return a value, to compare it with itself."""
    return value


def test_what_takes_no_round_trip(use: Use) -> None:
    """Making a mapping, its views, their reprs and its pickle take no round trip."""
    use(NoStore())
    mapping = Proxy("a.b", db_name="x").mapping(expire=5)
    assert repr(mapping) == "<TreeMapping of 'a.b'>"
    assert repr(root().mapping()) == "<TreeMapping of the root>"
    assert repr(mapping.items()) == "TreeItems(<TreeMapping of 'a.b'>)"
    assert repr(mapping.values()) == "TreeValues(<TreeMapping of 'a.b'>)"
    again = pickle.loads(pickle.dumps(mapping))
    assert again.__reduce__() == mapping.__reduce__()
    assert itself(mapping) == mapping
    with pytest.raises(PathError, match=r"TreeMapping of 'a\.b'"):
        root().get(mapping)


def test_one_item_of_much_costs_little(use: Use) -> None:
    """Looking at an item that is a dict reads one of its leaves, however many there are."""
    watched = Wrapped()
    use(watched)
    root().set("a", {"d": {f"n{number}": number for number in range(2_000)}})
    watched.transactions.clear()
    item = Proxy("a").mapping()["d"]
    assert item["n7"] == 7
    assert [[read.limit for read in each.reads] for each in watched.transactions] == [[1], [1]]


class Failing(Wrapped):
    """A store that never answers."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        raise StoreError("it does not answer")


def test_there_are_no_completions_if_the_store_fails(use: Use) -> None:
    """A store that does not answer does not disturb somebody who types."""
    use(Failing())
    assert root().mapping()._ipython_key_completions_() == []


# Atomicity and locks


def test_every_item_is_popped_once(any_store: Store) -> None:
    """Threads that pop items at the same time share them: none is returned twice, and none is lost."""
    mapping = Proxy("a").mapping()
    mapping.update({f"n{number}": number for number in range(20)})

    def drain() -> list[tuple[str, Any]]:
        found = []
        while True:
            try:
                found.append(mapping.popitem())
            except KeyError:
                return found

    popped = [item for each in together(drain, drain) for item in each]
    assert sorted(value for _, value in popped) == list(range(20))
    assert all(name == f"n{value}" for name, value in popped)


class Forestalled(Wrapped):
    """A store in which another client replaces the items after names are read for the first time."""

    done = False

    def execute(self, transaction: Transaction, /) -> Outcome:
        outcome = super().execute(transaction)
        if any(isinstance(read, ReadNames) for read in transaction.reads) and not self.done:
            self.done = True
            root().set("a", {"second": 2})
        return outcome


def test_an_item_that_another_client_takes_is_not_popped(use: Use) -> None:
    """If the chosen item is gone when it is removed, ``popitem`` chooses another."""
    use(Forestalled())
    root().set("a", {"first": 1})
    assert Proxy("a").mapping().popitem() == ("second", 2)
    assert not root().exists()


def test_one_default_is_stored(any_store: Store) -> None:
    """Of threads that store a default at the same time one has its way, and all get the same."""
    mapping = Proxy("a").mapping()
    found = together(*[lambda n=number: mapping.setdefault("x", {"by": n}).copy() for number in range(4)])
    assert found == [found[0]] * 4
    assert mapping == {"x": found[0]}


WRITES: dict[str, Callable[[TreeMapping], object]] = {
    "[] =": lambda m: m.__setitem__("n", 7),
    "[] = of an item": lambda m: m["x"].__setitem__("y", 7),
    "del": lambda m: m.__delitem__("n"),
    "pop": lambda m: m.pop("n"),
    "popitem": lambda m: m.popitem(),
    "setdefault": lambda m: m.setdefault("new", 7),
    "update": lambda m: m.update(n=7),
    "clear": lambda m: m.clear(),
}


def test_nothing_is_written_under_a_lock_that_is_lost(any_store: Store) -> None:
    """Every way to write through a mapping raises ``LockLost`` under a lost lock, and writes nothing."""
    before = {"n": 1, "x": {"y": 2}}
    with Somebody("operator") as operator:
        for name, write in WRITES.items():
            root().set("a", before)
            mapping = Proxy("a").mapping()
            with pytest.raises(LockLost), Proxy("a"):  # noqa: PT012
                operator.does(break_locks, "a")
                with pytest.raises(LockLost, match="nothing was written"):
                    write(mapping)
                assert mapping == before, name
                write(mapping)
            assert mapping == before, name
            write(mapping)
            assert mapping != before, name


def test_a_lock_takes_a_mapping_as_its_path() -> None:
    """A key of a lock is relative to a mapping, as to a proxy."""
    assert Lock(Proxy("a.b").mapping(), "c").key == "a.b.c"


# Large mappings


@pytest.mark.parametrize("make", [lambda: Limited(20), ShortPages, lambda: Limited(500)])
def test_large_mappings_are_like_small_ones(use: Use, make: Callable[[], Any]) -> None:
    """Stores that bound a transaction, or cut their pages short, give the same results."""
    use(make())
    mapping = Proxy("a").mapping()
    value: dict[str, Any] = {f"n{number}": {"x": number} for number in range(60)}
    mapping.update(value, leaf=1)
    assert mapping == {**value, "leaf": 1}
    assert len(mapping) == 61
    assert mapping
    assert sorted(mapping) == sorted([*value, "leaf"])
    assert {name: type(item) for name, item in mapping.items()} == {**dict.fromkeys(value, TreeMapping), "leaf": int}
    assert mapping["n7"]["x"] == 7
    assert "n7" in mapping
    assert "gone" not in mapping
    root().mapping()["large"] = value
    assert type(root().mapping().setdefault("large", 1)) is TreeMapping
    assert root().mapping().setdefault("large", value) == value
    assert mapping.setdefault("leaf", 2) == 1
    assert mapping.setdefault("new", 0) == 0
    while mapping:
        name, item = mapping.popitem()
        assert item == {**value, "leaf": 1, "new": 0}[name]
    assert root().mapping().pop("large") == value
    mapping.update(value)
    mapping.clear()
    assert not root().exists()


def test_a_default_that_is_too_large_is_refused(use: Use) -> None:
    """A default with more values than the store changes at once is refused, and nothing is stored."""
    use(Limited(20))
    with pytest.raises(Unsupported):
        root().mapping().setdefault("new", {f"n{number}": number for number in range(60)})
    assert not root().exists()


# Any names

segments = st.one_of(st.sampled_from(ODD), st.text(st.characters(), min_size=1, max_size=6))
values = st.one_of(st.integers(), st.dictionaries(segments, st.integers(), max_size=3))


class Walks(RuleBasedStateMachine):
    """Stores under any names and reaches what is stored by the names that the store gives, as a dict does."""

    def __init__(self) -> None:
        super().__init__()
        root().clear()
        self.proxy = Proxy("machine")
        self.model: dict[str, Any] = {}

    def name(self, data: st.DataObject) -> str:
        """Return one of the names that the store gives, chosen by text: their order is not defined."""
        chosen = data.draw(st.sampled_from(sorted(self.model)))
        return next(name for name in self.proxy if name == chosen)

    @rule(text=segments, value=values)
    def store(self, text: str, value: Any) -> None:
        self.proxy[[text]] = value
        self.model[text] = value

    @rule(text=segments, value=values)
    def default(self, text: str, value: Any) -> None:
        assert self.proxy.setdefault(Name(text), value) == self.model.setdefault(text, value)

    @rule(items=st.dictionaries(segments, values, max_size=3))
    def update(self, items: dict[str, Any]) -> None:
        self.proxy.mapping().update(items)
        self.model.update(items)

    @rule(text=segments, value=values)
    def set_in_mapping(self, text: str, value: Any) -> None:
        self.proxy.mapping()[text] = value
        self.model[text] = value

    @precondition(lambda self: self.model)
    @rule(data=st.data(), text=segments, value=st.integers())
    def store_below(self, data: st.DataObject, text: str, value: int) -> None:
        name = self.name(data)
        self.proxy[name].set(Name(text), value)
        before = self.model[name]
        self.model[name] = {**before, text: value} if isinstance(before, dict) else {text: value}

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def pop(self, data: st.DataObject) -> None:
        name = self.name(data)
        assert self.proxy.pop(name) == self.model.pop(name)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name = self.name(data)
        del self.proxy.mapping()[name]
        del self.model[name]

    @precondition(lambda self: self.model)
    @rule()
    def popitem(self) -> None:
        name, value = self.proxy.mapping().popitem()
        assert self.model.pop(name) == value
        assert name not in self.proxy

    @invariant()
    def is_the_same(self) -> None:
        assert {name: self.proxy[name].val() for name in self.proxy} == self.model
        assert all(Name(text) in self.proxy for text in self.model)
        mapping = self.proxy.mapping()
        assert mapping == self.model
        assert dict(mapping.items()) == dict(mapping) == self.model
        assert len(mapping) == len(self.proxy) == len(self.model)
        assert bool(mapping) is bool(self.model)


def test_names_lead_back_to_what_was_stored(any_store: Store) -> None:
    """Whatever is stored under whatever names, a loop over the names reaches each item, as in a dict."""
    share = {"memory": 5, "sqlite": 10, "fakeredis": 100}.get(any_store.name, 30)  # the slower, the fewer
    run_state_machine_as_test(
        Walks,
        settings=settings(
            max_examples=max(1, settings().max_examples // share),
            stateful_step_count=12,
            suppress_health_check=list(HealthCheck),
        ),
    )
