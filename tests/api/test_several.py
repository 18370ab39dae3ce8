"""``vals`` reads several paths from one snapshot in one transaction, and ``put`` sets the path itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from redicts import ABSENT, LeafError, Lock, LockLost, NotHeld, Packed, PathError, Pool, Proxy, Unsupported, root
from redicts.backends.memory import MemoryBackend
from redicts.core.backend import Capabilities
from redicts.core.minitransaction import Key, Outcome, Status, Transaction
from tests.locks.locking import Somebody, break_locks, counted, gone, meddler
from tests.support.stores import Clock, NoStore, Store, Use, Wrapped, together
from tests.support.waiting import eventually

TREE: dict[str, Any] = {
    "leaf": 4,
    "none": None,
    "empty": {},
    "list": [1, {"x": 2}],
    "tree": {"x": 1, "y": {"z": 2, "www.example.org": 3}},
    "wide": {f"n{number}": number for number in range(12)},
}


def test_several_values_are_read_in_one_transaction(any_store: Store) -> None:
    """``vals`` returns the values in the order of the keys, whatever their kinds, and takes one transaction."""
    root().set("a", {**TREE, "packed": Packed({"user": 7})})
    place, store = Proxy("a"), meddler()
    with counted(store) as transactions:
        found = place.vals("leaf", "tree.y.z", ["tree", "y", "www.example.org"], "none", "empty", "list", "packed")
    assert found == (4, 2, 3, None, {}, [1, {"x": 2}], {"user": 7})
    assert len(transactions) == 1
    with counted(store) as transactions:
        assert root().vals("a.wide", "gone", "a.leaf.below", "a.wide.n3") == (TREE["wide"], None, None, 3)
    assert len(transactions) == 1


def test_paths_may_repeat_and_include_each_other(any_store: Store) -> None:
    """Each key has a value of its own, also if it is read twice. The empty iterable is the path itself."""
    root().set("a", {**TREE, "packed": Packed({"user": 7})})
    place, store = Proxy("a"), meddler()
    with counted(store) as transactions:
        keys: list[Any] = ["tree.y", "tree", "tree.y.z", "tree", [], "wide", "wide.n3", "packed.user", "tree.y.q"]
        inner, tree, leaf, again, whole, wide, one, packed, missing = place.vals(*keys, default="-")
    assert whole == {**TREE, "packed": {"user": 7}}
    assert (inner, tree, leaf, wide, one) == (TREE["tree"]["y"], TREE["tree"], 2, TREE["wide"], 3)
    assert (packed, missing) == ("-", "-")
    tree["y"]["z"] = wide["n3"] = "changed"
    assert again == TREE["tree"]
    assert inner == TREE["tree"]["y"]
    assert whole["tree"] == TREE["tree"]
    assert whole["wide"] == TREE["wide"]
    assert [len(each.reads) for each in transactions] == [1]  # the path itself includes all others


def test_the_default_stands_for_each_absent_value(any_store: Store) -> None:
    """Every absent value is the one default, also at the path itself; a stored ``None`` is not absent."""
    default: list[int] = []
    root().set("a", {"none": None})
    found = Proxy("a").vals("none", "gone", "none.below", "gone.below", default=default)
    assert found == (None, default, default, default)
    assert found[1] is default
    assert Proxy("gone").vals([]) == root().vals("gone.x") == (None,)
    assert Proxy("gone").vals([], default=ABSENT) == (ABSENT,)
    root().clear()
    assert root().vals([], "x") == (None, None)


def test_an_expired_value_is_absent(any_store: Store) -> None:
    """A value whose TTL is over is the default, alone and in a dict."""
    root().set("a", {"short": 1, "long": 2})
    Proxy("a.short").expire(0.001)
    eventually(lambda: Proxy("a").vals("short", "long", []) == (None, 2, {"long": 2}), "the value expires")


def test_an_expired_value_is_absent_by_the_clock_of_the_store(clock: Clock) -> None:
    """A value is there up to the end of its TTL, and absent from then on."""
    root().set("a", {"short": 1}, expire=5)
    clock.seconds += 4.99
    assert root().vals("a.short", "a") == (1, {"short": 1})
    clock.seconds += 0.01
    assert root().vals("a.short", "a") == (None, None)


def test_no_keys_are_no_round_trip(use: Use) -> None:
    """Without a key ``vals`` asks nobody, and a key that is not valid is refused before anything is read."""
    use(NoStore())
    assert root().vals() == Proxy("a").vals(default=5, guarded=True) == ()
    with pytest.raises(PathError, match="''"):
        root().vals("a", "")
    with pytest.raises(PathError, match="pass the key"):
        root().vals("a", Proxy("b"))


def test_values_are_of_one_snapshot(any_store: Store) -> None:
    """While other threads replace two values together, each call sees both of one time."""
    done = threading.Event()
    place = Proxy("pair")
    place.put({"one": 0, "two": {"x": 0}})

    def write() -> None:
        for number in range(1, 25):
            with place.transaction() as changes:
                changes.set("one", number)
                changes.set("two", {"x": number})
        done.set()

    def read() -> None:
        while not done.is_set():
            one, two, whole = place.vals("one", "two.x", [])
            assert one == two == whole["one"] == whole["two"]["x"]

    together(write, read)


def test_more_than_one_snapshot_holds_is_refused(any_store: Store) -> None:
    """Leaves or paths beyond ``atomic_entries`` are refused, and never read in pages. Each leaf counts once."""
    most = Pool().database().backend.capabilities.atomic_entries
    some, many = ({f"n{number}": number for number in range(count)} for count in (3000, 2500))
    root().set("a", {"some": some, "many": many})
    place = Proxy("a")
    assert place.vals("some", "some.n1", ["some"]) == (some, 1, some)
    names = [f"gone{number}" for number in range((most or 5000) + 1)]
    if most is None:
        assert place.vals("some", "many") == (some, many)
        assert place.vals(*names) == (None,) * len(names)
        return
    with pytest.raises(Unsupported, match=rf"'a\.some' and 'a\.many' cannot be read.*at most {most} leaves.*val\(\)"):
        place.vals("some", "many")
    with pytest.raises(Unsupported, match=r"'a\.some' cannot be read|'a' cannot be read"):
        place.vals([])
    with pytest.raises(Unsupported, match=rf"'a\.gone2' and {most - 2} more cannot be read"):
        place.vals(*names)
    assert (place["some"].val(), place["many"].val()) == (some, many)


class Unbounded(Wrapped):
    """A store that finds every read of several values too large."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(ttl=True, processes=False, durable=False, atomic_entries=1000)

    def execute(self, transaction: Transaction, /) -> Outcome:
        self.transactions.append(transaction)
        return Outcome(Status.TOO_LARGE) if len(transaction.reads) > 1 else self.inner.execute(transaction)


def test_a_snapshot_is_not_torn_to_be_read(use: Use) -> None:
    """A store that refuses the transaction is not asked again."""
    store = Unbounded(MemoryBackend())
    use(store)
    with pytest.raises(Unsupported, match="at most 1000"):
        root().vals("a", "b")
    assert len(store.transactions) == 1


# Guarded reads


def test_a_guarded_read_under_a_lock_costs_no_round_trip(any_store: Store) -> None:
    """A lock at or above each path guards the read, exclusive or shared, in the same transaction and once."""
    root().set("a", {"b": {"x": 1, "y": 2}, "c": 3})
    store = meddler()
    for lock in (Lock(Pool(), "a.b"), Lock(Pool(), "a", shared=True), Lock(Pool(), "").all(Lock(Pool(), "a.b.x"))):
        with lock, counted(store) as transactions:
            assert Proxy("a.b").vals("x", "y", [], guarded=True) == (1, 2, {"x": 1, "y": 2})
        (transaction,) = [each for each in transactions if each.reads and not each.writes]
        keys = [check.key for check in transaction.checks]
        assert 1 <= len(keys) == len(set(keys)) <= 2
        assert len([each for each in transactions if not each.checks]) <= 1  # the release


def test_a_guarded_read_under_a_lost_lock_reads_nothing(any_store: Store) -> None:
    """A lock that was broken, or that ran out, ends a guarded read with ``LockLost``; another read is not concerned."""
    place = Proxy("a.b").put({"x": 1})
    with Somebody("operator") as operator:
        place.acquire()
        operator.does(break_locks, "a.b")
        for _ in range(2):
            with pytest.raises(LockLost, match=r"'a\.b' is lost.*nothing was read"):
                place.vals("x", guarded=True)
        assert place.vals("x") == (1,)
        place.release()
        Lock(place, (), expire_timeout=0.1).acquire()
        gone("a.b")
        operator.does(place.put, {"x": 2})
        with pytest.raises(LockLost, match=r"lease of 0\.1 seconds"):
            place.vals("x", guarded=True)
        place.release()


def test_a_guarded_read_needs_a_lock_above_each_path(use: Use) -> None:
    """Without a held lock at or above each path, a guarded read is refused before it reads anything."""
    store = Wrapped()
    use(store)
    place = Proxy("a.b").put({"x": 1, "y": 2})

    def is_refused(*keys: Any, said: str) -> None:
        before = len(store.transactions)
        with pytest.raises(NotHeld, match=rf"no lock at or above {said}, so nothing guards.*without guarded=True"):
            place.vals(*keys, guarded=True)
        assert len(store.transactions) == before

    is_refused("x", said=r"'a\.b\.x'")
    with Somebody("ben") as ben:
        ben.does(Proxy("a").acquire)
        is_refused("x", said=r"'a\.b\.x'")
        ben.does(Proxy("a").release)
    with Proxy("a.b.x"):
        assert place.vals("x", "x.below", guarded=True) == (1, None)
        is_refused("x", "y", said=r"'a\.b\.y'")
        is_refused([], said=r"'a\.b'")
    is_refused("x", said=r"'a\.b\.x'")


def test_mandatory_locks_of_others_do_not_stop_a_guarded_read(any_store: Store) -> None:
    """Two owners of a shared lock may both read, also where locks are mandatory."""
    any_store.reload(mandatory_locks=True)
    Proxy("a").put({"x": 1})
    shared = Lock(Pool(), "a", shared=True)
    with Somebody("ben") as ben, shared:
        ben.does(shared.acquire)
        assert Proxy("a").vals("x", guarded=True) == (1,)
        ben.does(shared.release)


def test_a_lock_guards_each_of_several_changes_with_one_check(use: Use) -> None:
    """A transaction of many changes under one lock checks that lock once."""
    store = Wrapped()
    use(store)
    with Proxy("a") as place:
        with place.transaction() as changes:
            for number in range(20):
                changes.set(f"n{number}", number)
        assert [check.key.path for check in store.transactions[-1].checks] == [
            store.transactions[-1].checks[0].key.path
        ]


# put


def test_put_sets_the_path_itself(any_store: Store) -> None:
    """``put`` replaces everything at and below its path, and the leaf above, and returns its proxy."""
    place = Proxy("a.b")
    assert place.put(1) is place
    assert place.put({"x": {"y": 2}}).val() == {"x": {"y": 2}}
    assert place["x.y.z"].put([3]).val() == [3]
    assert root().val() == {"a": {"b": {"x": {"y": {"z": [3]}}}}}
    place.put("text", expire=50)
    assert 40 < place.time_to_live() <= 50
    assert place.put(None).time_to_live() == -1
    assert root().val() == {"a": {"b": None}}
    assert root().put({"c": 1}).val() == {"c": 1}
    assert root().put({}).val() is None


REFUSED: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "a leaf at the root": (lambda: root().put(5), LeafError, "root"),
    "a set": (lambda: Proxy("a.b").put({"x": {1}}), LeafError, r"'a\.b\.x'"),
    "an empty name": (lambda: Proxy("a").put({"b": {"": 1}}), PathError, r"'a\.b'"),
    "no value": (lambda: Proxy("a").put(ABSENT), LeafError, "'a'"),
    "no TTL": (lambda: Proxy("a").put(1, expire=0), LeafError, r"delete\(\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_put_refuses_what_set_refuses(use: Use, name: str) -> None:
    """A value or TTL that is not valid raises the error of ``set``, and nothing is sent."""
    use(NoStore())
    call, error, says = REFUSED[name]
    with pytest.raises(error, match=says):
        call()


def test_put_sends_what_set_sends(use: Use) -> None:
    """``put(value)`` is the transaction of ``set((), value)``, also with a TTL."""
    store = Wrapped()
    use(store)
    for more in ({}, {"expire": 5.0}):
        Proxy("a.b").put({"x": 1}, **more)
        Proxy("a.b").set((), {"x": 1}, **more)
        assert store.transactions[-1] == store.transactions[-2]
    assert Key("v", ("a", "b", "x")) in {write.key for write in store.transactions[-1].writes}
