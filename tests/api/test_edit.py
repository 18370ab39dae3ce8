"""``Proxy.edit()``: a value is locked, read, changed in place, and stored again, in two round trips."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import decimal
import enum
import fractions
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import reduce
from operator import getitem
from typing import Any

import pytest

from redicts import (
    Conflict,
    LeafError,
    Lock,
    Locked,
    LockLost,
    LockTimeout,
    NotHeld,
    Packed,
    Pool,
    Proxy,
    StoreError,
    Unsupported,
    WrongUse,
    root,
)
from redicts.backends.memory import MemoryBackend
from redicts.contract.forked import ForkedChild
from redicts.core.backend import Capabilities
from redicts.core.minitransaction import VALUES, Delete, Key, Put, Read, Transaction
from redicts.core.original import is_changeable
from tests.locks.locking import Somebody, break_locks, counted, meddler, nothing_is_left, try_lock, waiting
from tests.support.servers import RedisServer
from tests.support.stores import Clock, Store, Use, Wrapped, together
from tests.support.waiting import eventually

ABOUT_100 = range(90, 101)
ABOUT_300 = range(290, 301)


def is_free(path: str = "") -> bool:
    """Return whether another thread can lock a path at once, and no lock record is left."""
    with Somebody() as other:
        return other.does(try_lock, path)


# What a block does


def test_a_block_changes_a_value_in_place(any_store: Store) -> None:
    """What the block changes, adds and removes is stored at its end, and the lock is free."""
    root().set("a", {"n": 1, "list": [1], "deep": {"x": 1, "y": {"z": 2}}, "goes": 3})
    with Proxy("a").edit() as value:
        assert value == {"n": 1, "list": [1], "deep": {"x": 1, "y": {"z": 2}}, "goes": 3}
        assert not is_free("a.n")
        value["n"] += 1
        value["list"].append(2)
        value["deep"]["y"] = [3]
        value["new"] = {"dict": {}}
        del value["goes"]
    assert root().val() == {"a": {"n": 2, "list": [1, 2], "deep": {"x": 1, "y": [3]}, "new": {"dict": {}}}}
    assert is_free()


def test_a_block_changes_a_list_and_a_leaf_becomes_a_dict(any_store: Store) -> None:
    """A list is edited as one leaf; within a dict, a leaf may become a dict and the other way round."""
    root().set("names", ["anna"])
    with Proxy("names").edit() as names:
        names.append("ben")
    root().set("a", {"leaf": 1, "dict": {"x": {"y": 1}, "z": 2}})
    with Proxy("a").edit() as value:
        value["leaf"], value["dict"] = {"now": {"a": "dict"}}, 5
    assert root().val() == {"names": ["anna", "ben"], "a": {"leaf": {"now": {"a": "dict"}}, "dict": 5}}


def test_an_absent_value_is_an_empty_dict_or_the_default(any_store: Store) -> None:
    """Nothing stored means an empty dict, or a copy of the default, which is stored only if it is changed."""
    with Proxy("a").edit() as value:
        assert value == {}
    default: dict[str, Any] = {"list": [], "packed": Packed({"x": 1})}
    with Proxy("a").edit(default=default) as value:
        assert value == {"list": [], "packed": {"x": 1}}
    assert root().val() is None
    with Proxy("a").edit(default=default) as value:
        value["list"].append(1)
    assert default["list"] == []
    with Proxy("b.c").edit(default=[]) as names:
        names.append("anna")
    with Proxy("d").edit() as value:
        value["x"] = 1
    with Proxy("d").edit(default={"y": 1}) as value:
        assert value == {"x": 1}
    assert root().val() == {"a": {"list": [1], "packed": {"x": 1}}, "b": {"c": ["anna"]}, "d": {"x": 1}}
    assert not Proxy("a.packed.x").exists()


def test_everything_can_be_removed(any_store: Store) -> None:
    """A dict that the block empties is an empty dict, as with ``set``; an empty root is nothing."""
    root().set("a", {"b": {"x": 1, "y": 2}})
    with Proxy("a").edit() as value:
        value["b"].clear()
    assert Proxy("a").val() == {"b": {}}
    with Proxy("a").edit() as value:
        value.clear()
    assert root().val() == {"a": {}}
    with root().edit() as value:
        value.clear()
    assert root().val() is None
    with root().edit() as value:
        value["a"] = 1
    assert root().val() == {"a": 1}


def test_a_leaf_above_gives_way_to_what_the_block_adds() -> None:
    """As with ``set``, a leaf above the path becomes a dict; a block that changes nothing leaves it there."""
    root().set("a", 5)
    with Proxy("a.b").edit():
        pass
    assert root().val() == {"a": 5}
    with Proxy("a.b").edit() as value:
        value["x"] = 1
    assert root().val() == {"a": {"b": {"x": 1}}}


def test_an_exception_in_the_block_discards_the_changes(any_store: Store) -> None:
    """Nothing is written, the lock is free, and the exception comes out."""
    root().set("a", {"n": 1})
    with pytest.raises(ZeroDivisionError), Proxy("a").edit() as value:
        value["n"] = 1 / 0
    with pytest.raises(GeneratorExit), Proxy("a").edit() as value:  # noqa: PT012  (it raises at the end)
        value["n"] = 2
        raise GeneratorExit
    assert Proxy("a").val() == {"n": 1}
    assert is_free()


def test_a_value_that_cannot_be_stored_discards_the_changes(any_store: Store) -> None:
    """The error names the path, nothing is written, and the lock is free."""
    root().set("a", {"n": 1})
    with pytest.raises(ValueError, match=r"'a\.x'"), Proxy("a").edit() as value:
        value["n"], value["x"] = 2, object()
    assert Proxy("a").val() == {"n": 1}
    assert is_free()


def test_edits_lose_no_update(any_store: Store) -> None:
    """Threads that change the same leaf and one of their own: no update is lost."""

    def count(name: str) -> None:
        for number in range(5):
            with Proxy("counts", 60).edit() as counts:
                counts["all"] = counts.get("all", 0) + 1
                counts[name] = number + 1

    together(*[lambda name=name: count(name) for name in "abc"])
    assert Proxy("counts").val() == {"all": 15, "a": 5, "b": 5, "c": 5}
    nothing_is_left()


# Round trips


def test_an_edit_takes_two_requests(redis_server: RedisServer) -> None:
    """The server counts two calls where nobody waits, on a path of any depth, and also if the lock is held already."""
    Pool().reload(cfg={"host": redis_server.host, "port": redis_server.port})
    path = Proxy("a.b")
    path.set((), {"n": 1, "m": {"x": 1}})

    def requests() -> int:
        return sum(
            int(calls.partition(",")[0].removeprefix("calls="))
            for name, calls in redis_server.info("commandstats").items()
            if name.startswith("cmdstat_eval")
        )

    def edit() -> int:
        before = requests()
        with path.edit() as value:
            value["n"] += 1
            value["m"]["x"] += 1
        return requests() - before

    edit()
    assert edit() == 2
    with Proxy("a"):
        assert edit() == 2
    assert path.val() == {"n": 4, "m": {"x": 4}}
    before = requests()
    with pytest.raises(LeafError), path["n"].edit():
        pass
    assert requests() - before == 2


def test_one_transaction_locks_and_reads_and_one_writes_and_releases() -> None:
    """The grant reads the value; the release writes the leaves that changed, and no others."""
    counts_tokens()
    root().set("a", {"b": {"n": 1, "m": 2}})
    with counted(meddler()) as sent, Proxy("a.b").edit() as value:
        value["n"] += 1
    first, last = sent
    assert [read.key.path for read in first.reads] == [("a", "b")]
    assert {write.key.space for write in first.writes} == {"h", "f"}
    assert [write for write in last.writes if isinstance(write, Put)] == [
        Put(Key(VALUES, ("a", "b", "n")), b"2", None, keep_ttl=True)
    ]
    assert {write.key.space for write in last.writes if isinstance(write, Delete)} == {"h"}
    with counted(meddler()) as sent, Proxy("a.b").edit():
        pass
    assert len(sent) == 2


def counts_tokens() -> None:
    """Use a lock: the first one of a tree takes one more round trip."""
    with Proxy("first"):
        pass


def test_after_a_wait_the_claim_reads() -> None:
    """A waiter sees what the owner before it wrote, and takes no further round trip for it."""
    counts_tokens()
    root().set("a", {"n": 1})
    with Somebody() as other, Somebody() as third:
        sent: list[Transaction] = []

        def edit() -> None:
            store = meddler()
            with counted(store) as transactions, Proxy("a").edit() as value:
                value["n"] += 1
            sent.extend(transactions)

        other.does(Proxy("a").acquire)
        edited = third.begins(edit)
        waiting(1)
        other.does(Proxy("a").set, "n", 5)
        other.does(Proxy("a").release)
        edited.result(10)
    assert Proxy("a.n").val() == 6
    reading = [each for each in sent if any(isinstance(read, Read) and read.key.space == "v" for read in each.reads)]
    assert reading[-1] is sent[-2]
    assert all(any(isinstance(write, Put) and write.key.space == "h" for write in each.writes) for each in reading)


# Locks


@pytest.mark.parametrize("above", ["a", "a.b", ""])
def test_an_edit_relies_on_a_lock_that_is_held(above: str) -> None:
    """The lock stays held after the edit, and its loss is noticed before the block and after it."""
    counts_tokens()
    root().set("a.b", {"n": 1})
    edit = Proxy("a.b").edit
    with Proxy(above):
        with counted(meddler()) as sent, edit() as value:
            value["n"] += 1
        assert len(sent) == 2
        assert not is_free("a.b")
        with pytest.raises(LockLost), edit() as value:  # noqa: PT012  (it raises at the end)
            value["n"] += 1
            break_locks()
        with pytest.raises(LockLost), edit() as value:
            value["n"] += 1
    with Proxy(above):
        break_locks()
        with pytest.raises(LockLost), edit():
            raise AssertionError("the lock is lost")
    assert root().val() == {"a": {"b": {"n": 2}}}


def test_a_lost_lock_discards_the_changes(any_store: Store) -> None:
    """If the lock is lost in the block, nothing is written, and ``LockLost`` is raised: also without changes."""
    root().set("a", {"n": 1})
    lost = threading.Event()
    with pytest.raises(LockLost), Proxy("a").edit(on_loss=lambda lock: lost.set()) as value:  # noqa: PT012  (it raises at the end)
        value["n"] = 2
        break_locks()
    assert lost.wait(10)
    with pytest.raises(LockLost), Proxy("a").edit():
        break_locks()
    with pytest.raises(ZeroDivisionError), Proxy("a").edit():  # noqa: PT012  (it raises at the end)
        break_locks()
        raise ZeroDivisionError
    assert Proxy("a").val() == {"n": 1}
    assert is_free()


def test_a_lost_lock_overwrites_nothing(any_store: Store) -> None:
    """An edit whose lease is over does not overwrite what the next owner wrote."""
    root().set("a", {"n": 1})
    with pytest.raises(LockLost), Proxy("a").edit() as value:  # noqa: PT012  (it raises at the end)
        break_locks()
        with Somebody() as other:
            other.does(add_one, "a")
        value["n"] += 1
    assert Proxy("a").val() == {"n": 2}


def add_one(path: str) -> None:
    """Count in an edit."""
    with Proxy(path).edit() as value:
        value["n"] += 1


def test_the_options_are_those_of_a_lock() -> None:
    """Timeouts default to those of the proxy; a lock that is not free is refused, and nothing is left."""
    with Somebody() as other:
        other.does(Proxy("a").acquire)
        for edit in (Proxy("a", 0).edit(), Proxy("a").edit(acquire_timeout=0), Proxy("a.b").edit(acquire_timeout=0.01)):
            with pytest.raises(LockTimeout), edit:
                raise AssertionError("the lock is held")
        other.does(Proxy("a").release)
    nothing_is_left()
    for edit, lease in ((Proxy("a", 10, 77).edit(), 77), (Proxy("a").edit(expire_timeout=88), 88)):
        with edit:
            (holder,) = Proxy("a").lock().holders()
            assert lease - 5 < (holder.until - holder.since).total_seconds() < lease + 5
    with pytest.raises(ValueError, match="lease"):
        Proxy("a").edit(expire_timeout=0)


def test_a_renewed_lock_outlives_its_lease() -> None:
    """With ``renew``, a block may take longer than the lease."""
    root().set("a", {"n": 1})
    with Proxy("a").edit(renew=True, expire_timeout=2) as value:
        (first,) = Proxy("a").lock().holders()
        eventually(lambda: Proxy("a").lock().holders()[0].until > first.until, "the lease is renewed")
        value["n"] = 2
    assert Proxy("a.n").val() == 2


def test_a_shared_edit_only_reads(any_store: Store) -> None:
    """Any number read at the same time, any kind of value; a block that changes it is refused at the end."""
    root().set("a", {"n": 1, "f": float("nan")})
    entered = threading.Barrier(2)

    def read() -> Any:
        with Proxy("a").edit(shared=True, acquire_timeout=5) as value:
            entered.wait(10)
            return value["n"]

    assert together(read, read) == [1, 1]
    with pytest.raises(WrongUse, match="shared"), Proxy("a").edit(shared=True) as value:
        value["n"] = 2
    with Proxy("a.n").edit(shared=True) as number, Proxy("none").edit(shared=True, default=5) as five:
        assert (number, five) == (1, 5)
    assert Proxy("a.n").val() == 1
    assert not Proxy("none").exists()
    assert is_free()


def test_a_lock_that_the_block_released_guards_nothing() -> None:
    """If the block releases the lock itself, nothing is written."""
    root().set("a", {"n": 1})
    with pytest.raises(NotHeld), Proxy("a").edit() as value:  # noqa: PT012  (it raises at the end)
        value["n"] = 2
        Proxy("a").release()
    with pytest.raises(ZeroDivisionError), Proxy("a").edit():  # noqa: PT012  (it raises at the end)
        Proxy("a").release()
        raise ZeroDivisionError
    assert Proxy("a.n").val() == 1


# Other writers, and the block itself


def test_edits_in_an_edit_keep_the_changes_of_both() -> None:
    """What an inner edit stores at, above or below the path stays, if the outer one changes other leaves."""
    for path, names in (("a.b", "c"), ("a.b.c", ""), ("a", "bc"), ("", "abc")):
        root().clear()
        root().set("a.b", {"c": {"n": 1}, "m": 1})
        with Proxy("a.b").edit() as outer:
            with Proxy(path).edit() as inner:
                reduce(getitem, names, inner)["n"] += 1
            outer["m"] += 1
        assert root().val() == {"a": {"b": {"c": {"n": 2}, "m": 2}}}
        assert is_free()


CHANGES: dict[str, tuple[Callable[[Any], object], Callable[[], object]]] = {
    "the same leaf": (lambda value: value.update(n=2), lambda: add_one("a")),
    "a set": (lambda value: value.update(n=2), lambda: root().set("a.n", 5)),
    "a leaf removed": (lambda value: value.update(n=2), lambda: root().delete("a.n")),
    "the removal of a leaf": (lambda value: value.pop("n"), lambda: root().set("a.n", 5)),
    "a new leaf": (lambda value: value.update(new=1), lambda: root().set("a.new", 5)),
    "a new dict": (lambda value: value.update(new=1), lambda: root().set("a.new", {"x": 5})),
    "a leaf above a new one": (lambda value: value.update(new={"x": 1}), lambda: root().set("a.new", 5)),
    "a leaf for the dict": (lambda value: value.update(new=1), lambda: root().set("a", 5)),
    "a dict that becomes a leaf": (lambda value: value.update(d=1), lambda: root().set("a.d.y", 5)),
    "an emptied dict": (lambda value: value.clear(), lambda: root().set("a.y", 5)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_update_that_an_edit_would_overwrite_is_not_lost(any_store: Store, name: str) -> None:
    """What the block or a writer without a lock stored meanwhile is not overwritten: the edit raises ``Conflict``."""
    change, write = CHANGES[name]
    root().set("a", {"n": 1, "d": {"x": 1}})
    with pytest.raises(Conflict, match="while 'a' was edited"), Proxy("a").edit() as value:  # noqa: PT012  (it raises at the end)
        write()
        written = root().val()
        change(value)
    assert root().val() == written
    assert is_free()


def test_a_leaf_for_a_dict_above_is_not_lost(any_store: Store) -> None:
    """A writer without a lock stores a leaf above the path: the edit that adds a leaf raises ``Conflict``."""
    root().set("a.b", {"n": 1})
    with pytest.raises(Conflict), Proxy("a.b").edit() as value:  # noqa: PT012  (it raises at the end)
        root().set("a", 5)
        value["new"] = 1
    assert root().val() == {"a": 5}


def test_other_leaves_may_be_written_meanwhile(any_store: Store) -> None:
    """What a writer without a lock stores in other leaves stays."""
    root().set("a", {"n": 1, "m": 1})
    with Proxy("a").edit() as value:
        root().set("a.m", 2).set("a.new", 3)
        value["n"] = 2
    assert Proxy("a").val() == {"n": 2, "m": 2, "new": 3}


def test_mandatory_locks_exclude_other_writers(any_store: Store) -> None:
    """With mandatory locks a write of another thread during an edit is refused; no round trip is added."""
    any_store.reload(mandatory_locks=True)
    counts_tokens()
    root().set("a", {"n": 1})
    with Somebody() as other:
        with counted(meddler()) as sent, Proxy("a").edit() as value:
            with pytest.raises(Locked):
                other.does(Proxy("a").set, "n", 5)
            value["n"] += 1
        assert len(sent) == 2
        other.does(add_one, "a")
    assert Proxy("a.n").val() == 3


# TTL and packed dicts


def test_an_edit_keeps_ttls(any_store: Store) -> None:
    """Leaves that stay or change preserve their TTLs, and new ones get the longest of them, as in ``update_with``."""
    root().set("a", {"stays": 1, "changes": 2, "goes": 3}, expire=100)
    Proxy("a.stays").expire(300)
    with Proxy("a").edit() as value:
        value["changes"], value["new"] = 5, {"x": 6}
        del value["goes"]
    ttls = {each.key(): each.time_to_live() for each in root().iter_children()}
    assert ttls.keys() == {"a.stays", "a.changes", "a.new.x"}
    assert ttls["a.changes"] in ABOUT_100
    assert ttls["a.stays"] in ABOUT_300
    assert ttls["a.new.x"] in ABOUT_300
    root().set("p", {"x": 1})
    Proxy("p.x").expire(100)
    Proxy("p").set("y", 1)
    with Proxy("p").edit() as value:
        value["x"], value["new"] = 2, 3
    assert Proxy("p.x").time_to_live() in ABOUT_100
    assert Proxy("p.new").time_to_live() == -1


def test_a_leaf_that_expires_in_the_block_does_not_come_back(clock: Clock) -> None:
    """A leaf that the block changed and that expired meanwhile is not persistent; the other changes are stored."""
    root().set("a", {"expires": 1, "too": 1}, expire=0.5).set("a.stays", 1)
    with Proxy("a").edit() as value:
        clock.seconds += 1
        value["expires"], value["stays"], value["new"] = 2, 2, 2
    assert Proxy("a.expires").time_to_live() <= 1
    clock.seconds += 0.5
    assert Proxy("a").val() == {"stays": 2, "new": 2}
    root().set("b", {"n": 1}, expire=0.5)
    with Proxy("b").edit() as value:
        clock.seconds += 1
        value["n"], value["m"] = 2, 2
    clock.seconds += 0.5
    assert not Proxy("b").exists()


def test_what_is_packed_stays_packed(any_store: Store) -> None:
    """A packed dict, at the path or in it, stays one leaf."""
    root().set("a", {"x": 1, "p": Packed({"u": {"v": 1}})}).set("p", Packed({"u": 1}))
    with Proxy("a").edit() as value:
        value["p"]["u"]["v"] = 2
    with Proxy("p").edit() as value:
        value["w"] = {"x": 1}
    assert sorted(each.key() for each in root().iter_children()) == ["a.p", "a.x", "p"]
    assert root().val() == {"a": {"x": 1, "p": {"u": {"v": 2}}}, "p": {"u": 1, "w": {"x": 1}}}


def test_a_leaf_that_another_program_wrote_otherwise_is_unchanged() -> None:
    """Bytes that mean the same are not written again."""
    backend = Pool().database().backend
    backend.execute(Transaction(writes=(Put(Key(VALUES, ("a", "x")), b'[ 1, {"b": 2} ]'),)))
    with counted(meddler()) as sent, Proxy("a").edit() as value:
        value["n"] = 1
    assert [write.key.path for write in sent[-1].writes if isinstance(write, Put)] == [("a", "n")]
    with Proxy("a").edit() as value:
        value["x"][1]["b"] = 3
    assert Proxy("a").val() == {"n": 1, "x": [1, {"b": 3}]}


# Values


class Colour(enum.Enum):
    """An enumeration."""

    RED = 1


@dataclasses.dataclass
class Car:
    """A value with attributes."""

    wheels: int


@dataclasses.dataclass(frozen=True)
class Fixed:
    """A value with attributes that cannot be set."""

    wheels: int


class Plain:
    """An object with attributes and the usual hash."""


class Slotted:
    """An object with slots and the usual hash."""

    __slots__ = ("x",)


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 1, 1.5, "text", b"bytes", (1,), frozenset(), 1j, range(3), Colour.RED, Fixed(4)),
        *(decimal.Decimal(1), fractions.Fraction(1), uuid.uuid4(), object()),
        *(datetime.datetime.now(datetime.timezone.utc), datetime.date.today(), datetime.timedelta(1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_changed_in_place(value: object) -> None:
    """Numbers, text, tuples, times and frozen objects are no values to edit."""
    assert not is_changeable(value)


@pytest.mark.parametrize(
    "value", [{}, [], set(), bytearray(), Car(4), Plain(), Slotted()], ids=lambda value: type(value).__name__
)
def test_what_can_be_changed_in_place(value: object) -> None:
    """Dicts, lists, sets, and objects with attributes are."""
    assert is_changeable(value)


@pytest.mark.parametrize("value", [5, 1.5, "text", None, True])
def test_a_value_that_cannot_be_changed_in_place_is_refused(any_store: Store, value: object) -> None:
    """The error says so before the block, names what to use instead, and nothing stays locked."""
    root().set("a", value)
    with pytest.raises(LeafError, match=r"'a'.*update_with\(\) or add\(\)"), Proxy("a").edit():
        raise AssertionError("the block ran")
    with pytest.raises(LeafError, match=r"default.*update_with\(\)"):
        Proxy("b").edit(default=value)
    assert is_free()
    with Proxy("a").edit(shared=True) as found:
        assert found == value


def test_an_object_is_edited_by_its_codec() -> None:
    """With the codec ``pickle``, an object is changed in place like a list."""
    Pool().reload(cfg={"backend": "memory", "codec": {"name": "pickle", "keys": ["0" * 64]}})
    root().set("car", Car(4)).set("fixed", Fixed(4))
    with Proxy("car").edit() as car:
        car.wheels = 3
    assert Proxy("car").val() == Car(3)
    with pytest.raises(LeafError, match="Fixed"), Proxy("fixed").edit():
        pass
    with pytest.raises(WrongUse), Proxy("car").edit(shared=True) as car:
        car.wheels = 2
    with Proxy("car").edit(shared=True):
        pass


class Small(Wrapped):
    """A store that changes at most a thousand values at once."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(ttl=True, processes=False, durable=False, atomic_entries=1000, push=True)


def test_values_that_are_too_large_are_refused(use: Use) -> None:
    """More leaves than the store changes at once are refused before the block, or at its end: nothing is written."""
    use(Small(MemoryBackend()))
    value = {f"n{number}": number for number in range(1001)}
    root().set("a", value)
    with pytest.raises(Unsupported, match="1000"), Proxy("a").edit():
        raise AssertionError("the block ran")
    root().delete("a.n0")
    with Proxy("a").edit() as found:
        found["n1"] = 5
    with pytest.raises(Unsupported, match="1000"), Proxy("a").edit() as found:
        found["n0"] = 5
    assert len(Proxy("a")) == 1000
    assert not Proxy("a.n0").exists()
    assert is_free()


def test_a_large_value_is_edited(fast_store: Store) -> None:
    """A value that is read in several pages is edited whole; one that is too large for the store is refused."""
    root().set("a", {f"d{number}": {"x": {"y": number}} for number in range(2_000)})
    with Proxy("a").edit() as value:
        assert len(value) == 2_000
        value["d7"]["x"]["y"] = -1
        value["new"] = 1
    assert Proxy("a.d7.x.y").val() == -1
    assert Proxy("a.new").val() == 1
    if Pool().database().backend.capabilities.atomic_entries is not None:
        root().set("a", {f"n{number}": number for number in range(5_001)})
        with pytest.raises(Unsupported), Proxy("a").edit():
            raise AssertionError("the block ran")
        assert is_free()


# One block, and its owner


def test_an_edit_has_one_block() -> None:
    """A second block, one in it, and a second end are refused, and leave the first one alone."""
    edit = Proxy("a").edit()
    with edit as value:
        value["x"] = 1
        with pytest.raises(WrongUse), edit:
            pass
    with pytest.raises(WrongUse), edit:
        pass
    with pytest.raises(WrongUse):
        edit.__exit__(None, None, None)
    with pytest.raises(WrongUse):
        Proxy("a").edit().__exit__(None, None, None)
    assert root().val() == {"a": {"x": 1}}
    assert is_free()


def test_a_block_may_be_entered_by_a_stack() -> None:
    """``ExitStack`` looks methods up in the class."""
    with contextlib.ExitStack() as stack:
        first, second = [stack.enter_context(Proxy(path).edit()) for path in "ab"]
        first["x"] = second["y"] = 1
    assert root().val() == {"a": {"x": 1}, "b": {"y": 1}}
    assert is_free()


def test_a_block_may_end_in_another_thread_or_task(any_store: Store) -> None:
    """It writes and releases under the lock of the owner that entered it."""

    @contextlib.contextmanager
    def dependency() -> Iterator[Any]:
        with Proxy("a", 0).edit() as value:
            yield value

    async def request() -> None:
        block = dependency()
        value = await asyncio.create_task(asyncio.to_thread(block.__enter__))
        value["tasks"] = 1
        await asyncio.create_task(asyncio.to_thread(block.__exit__, None, None, None))

    with Somebody() as anna, Somebody() as ben:
        block = dependency()
        anna.does(block.__enter__)["threads"] = 1
        assert not ben.does(try_lock, "a")
        ben.does(block.__exit__, None, None, None)
    asyncio.run(request())
    assert Proxy("a").val() == {"threads": 1, "tasks": 1}
    nothing_is_left()


def test_functions_in_worker_threads_edit_under_the_lock_of_their_task() -> None:
    """The lock of the task is relied on, one function at a time, and stays held."""

    def edit() -> None:
        with Proxy("a.b").edit() as value:
            value["n"] = value.get("n", 0) + 1

    async def main() -> None:
        lock = Lock(Pool(), "a")
        await asyncio.to_thread(lock.acquire)
        await asyncio.gather(*[asyncio.to_thread(edit) for _ in range(5)])
        assert not await asyncio.to_thread(is_free, "a")
        await asyncio.to_thread(lock.release)

    asyncio.run(main())
    assert root().val() == {"a": {"b": {"n": 5}}}
    nothing_is_left()


def test_an_edit_under_a_held_lock_writes_before_another_call_may_use_it() -> None:
    """The lock of a task is lent to one function at a time, until what this one changed is stored."""
    held: list[bool] = []

    def is_held(_number: int) -> bool:
        held.append(Proxy("a.b").lock().held)
        return False

    with Proxy("a"):
        meddler().fails = is_held
        with Proxy("a.b").edit() as value:
            value["n"] = 1
        assert held == [True, True]
        assert not Proxy("a.b").lock().held


def test_a_token_lets_another_thread_edit() -> None:
    """In the block of an owner's token, its lock is relied on."""
    lock = Lock(Pool(), "a")
    lock.acquire()
    token = lock.owner_token()

    def edit() -> None:
        with token, Proxy("a").edit(acquire_timeout=0) as value:
            value["n"] = 1

    with Somebody() as other:
        other.does(edit)
    lock.release()
    assert Proxy("a.n").val() == 1


def test_a_forked_child_ends_no_edit_of_its_parent(any_store: Store) -> None:
    """The end of the block in a child writes and releases nothing."""
    root().set("a", {"n": 1})
    edit = Proxy("a").edit()
    value = edit.__enter__()
    value["n"] = 2

    def end() -> None:
        with pytest.raises(NotHeld):
            edit.__exit__(None, None, None)

    with ForkedChild(end, 30) as child:
        child.finish()
    assert not is_free("a")
    edit.__exit__(None, None, None)
    assert Proxy("a.n").val() == 2
    assert is_free()


# Failures


@pytest.mark.parametrize("applied", [False, True])
def test_a_store_that_fails_at_the_end(applied: bool) -> None:
    """The error says whether the changes may have been stored; all are, or none, and the lock is removed."""
    counts_tokens()
    root().set("a", {"n": 1, "m": 1})
    store = meddler()
    with pytest.raises(StoreError) as failing, counted(store), Proxy("a").edit() as value:  # noqa: PT012  (it raises at the end)
        store.fails = lambda number: number == 1
        store.applies = applied
        value["n"] = value["m"] = 2
    assert failing.value.maybe_applied
    nothing_is_left()
    assert Proxy("a").val() == ({"n": 2, "m": 2} if applied else {"n": 1, "m": 1})


def test_a_store_that_fails_at_the_beginning() -> None:
    """A failing grant leaves nothing, also if it was applied."""
    for applied in (False, True):
        store = meddler()
        store.fails = lambda number: number == 0
        store.applies = applied
        with pytest.raises(StoreError), counted(store), Proxy("a").edit():
            raise AssertionError("the block ran")
        nothing_is_left()
