"""Mandatory locks: with the setting, writes under a lock of another owner are refused."""

from __future__ import annotations

import threading

import pytest

from redicts import ABSENT, Lock, Locked, LockError, LockLost, Pool, Proxy, SettingsError, root
from tests.locks.locking import (
    BEFORE,
    WRITES,
    Somebody,
    break_locks,
    counted,
    gone,
    in_store,
    is_untouched,
    meddler,
    prepared,
)
from tests.support.stores import Store
from tests.support.waiting import TIMEOUT


@pytest.fixture
def strict(any_store: Store) -> Store:
    """Give every store in turn, with mandatory locks."""
    any_store.reload(mandatory_locks=True)
    assert Pool().settings.mandatory_locks
    return any_store


def test_a_foreign_write_is_refused(strict: Store) -> None:
    """Whatever way another thread writes where a lock is held, it gets ``Locked``, which names the holder."""
    place = prepared("a.b")
    me = threading.current_thread().name
    with Somebody("ben") as ben:
        for name, write in WRITES.items():
            with place:
                with pytest.raises(Locked, match=rf"'a\.b' by .*{me}") as raised:
                    ben.does(write, place)
                assert isinstance(raised.value, LockError), name
                assert is_untouched(place), name
    assert not in_store()


def test_writes_above_and_below_are_refused(strict: Store) -> None:
    """A lock of another owner above or below a path refuses a write to it; a lock on another path does not."""
    for locked in ("", "a", "a.b", "a.b.n", "a.b.x.y", "a.b.not-there-yet"):
        place = prepared("a.b")
        with Somebody() as ben:
            ben.does(Proxy(locked).acquire)
            for name in ("set of the path itself", "clear", "update_with", "expire", "pop", "item assignment"):
                on_the_place = name not in {"pop", "item assignment"}
                if on_the_place or locked not in {"a.b.x.y", "a.b.not-there-yet"}:
                    with pytest.raises(Locked):
                        WRITES[name](place)
                    assert is_untouched(place), (locked, name)
            with pytest.raises(Locked):
                root().clear()
            assert is_untouched(place)
            ben.does(Proxy(locked).release)
        root().clear()


def test_writes_to_unlocked_paths_are_made(strict: Store) -> None:
    """Every kind of write to a path without a lock succeeds."""
    with Somebody() as ben:
        ben.does(Proxy("a.b").acquire)
        ben.does(Proxy("x.y").acquire)
        for beside in ("a.bc", "a.c.b"):
            for name, write in WRITES.items():
                place = prepared(beside)
                write(place)
                assert not is_untouched(place), (beside, name)
                place.clear()
        for path in ("a.b", "x.y"):
            ben.does(Proxy(path).release)


def test_a_transaction_is_refused_whole(strict: Store) -> None:
    """One change at a locked path refuses a whole transaction."""
    with Somebody() as ben:
        ben.does(Proxy("a").acquire)
        with pytest.raises(Locked), root().transaction() as changes:  # noqa: PT012
            changes.set("x", 1)
            changes.set("a.b", 2)
        assert root().val() is None
        with root().transaction() as changes:
            changes.expect("a", ABSENT)
            changes.set("x", 1)
        assert root().val() == {"x": 1}
        ben.does(Proxy("a").release)


def test_reads_are_free(strict: Store) -> None:
    """Everybody reads what is locked."""
    place = prepared("a")
    with Somebody() as ben, place:
        assert ben.does(place.val) == BEFORE
        assert ben.does(place.exists)
        assert ben.does(place.time_to_live) == -1
        assert sorted(ben.does(place.keys)) == ["n", "x"]
        assert ben.does(lambda: [each.key() for each in place["x"].iter_children()]) == ["a.x.y"]


def test_the_owner_writes(strict: Store) -> None:
    """The owner of a lock writes at its path, below it, and above it where no other owner has a lock."""
    for locks in (["a.b"], [""], ["a.b", "a"], ["a.b.n", "a.b.x"]):
        for path in locks:
            Proxy(path).acquire()
        for name, write in WRITES.items():
            place = prepared("a.b")
            write(place)
            assert not is_untouched(place), (locks, name)
        root().clear()
        for path in locks:
            Proxy(path).release()
    assert not in_store()


def test_without_locks_every_owner_writes(strict: Store) -> None:
    """Without a lock in the store, no owner needs one."""
    for name, write in WRITES.items():
        place = prepared("a")
        write(place)
        assert not is_untouched(place), name


def test_a_shared_lock_forbids_the_writes_of_others(strict: Store) -> None:
    """An owner with a shared lock writes only while no other owner shares it."""
    place = prepared("a.b")
    mine = Lock(Pool(), "a.b", shared=True)
    with Somebody("ben") as ben:
        theirs = Lock(Pool(), "a", shared=True)
        ben.does(theirs.acquire)
        with pytest.raises(Locked, match=r"'a' by .*ben_0"):
            place.set("n", 7)
        with mine:
            for name, write in WRITES.items():
                with pytest.raises(Locked, match=r"'a' by .*ben_0"):
                    write(place)
                assert is_untouched(place), name
            with pytest.raises(Locked, match=r"'a\.b' by "):
                ben.does(place.set, "n", 7)
            ben.does(theirs.release)
            for name, write in WRITES.items():
                prepared("a.b")
                write(place)
                assert not is_untouched(place), name
    assert not in_store()


def test_shared_and_exclusive_locks_of_one_owner(strict: Store) -> None:
    """A thread with locks of both modes writes below all of them."""
    with Lock(Pool(), "a", shared=True), Lock(Pool(), "a.b"), Lock(Pool(), "a.c", shared=True), Somebody() as ben:
        for path in ("a.b", "a.c", "a", "a.d"):
            Proxy(path).update({"n": 1})
            with pytest.raises(Locked):
                ben.does(Proxy(path).update, {"n": 2})
        assert Proxy("a").val() == {"b": {"n": 1}, "c": {"n": 1}, "n": 1, "d": {"n": 1}}


def test_a_lost_lock_is_lost_in_strict_stores_too(strict: Store) -> None:
    """The former owner gets ``LockLost``, whether or not another owner has the lock now, shared or not."""
    for shared in (False, True):
        for taken in (False, True):
            place = prepared("a")
            lock = Lock(Pool(), "a", shared=shared)
            with Somebody() as ben:
                lock.acquire()
                break_locks("a")
                if taken:
                    ben.does(place.acquire)
                with pytest.raises(LockLost):
                    place.set("n", 7)
                assert is_untouched(place)
                lock.release()
                if taken:
                    with pytest.raises(Locked):
                        place.set("n", 7)
                    ben.does(place.release)
                place.set("n", 7)


def test_an_expired_lock_refuses_no_write(strict: Store) -> None:
    """An expired lock refuses no write."""
    with Somebody() as ben:
        ben.does(Lock(Pool(), "a", expire_timeout=0.5).acquire)
        gone("a")
        Proxy("a").set("x", 1)
        ben.does(Lock(Pool(), "a").release)


def test_a_waiter_forbids_nothing(strict: Store) -> None:
    """Only locks that are held forbid writes: the holder writes although others wait."""
    with Somebody() as ben:
        with Proxy("a"):
            got = ben.begins(Proxy("a").acquire)
            Proxy("a").set("x", 1)
        got.result(TIMEOUT)
        ben.does(Proxy("a").set, "x", 2)
        ben.does(Proxy("a").release)
    assert Proxy("a.x").val() == 2


def test_mandatory_locks_cost_no_round_trip(strict: Store) -> None:
    """A write takes as many transactions as without the setting, whatever locks are held."""

    def sent() -> list[int]:
        counts = []
        for write in WRITES.values():
            place = prepared("a.b")
            with counted(meddler()) as transactions:
                write(place)
                counts.append(len(transactions))
        return counts

    with Somebody() as ben:
        ben.does(Proxy("x").acquire)
        in_a_strict_store = sent()
        ben.does(Proxy("x").release)
    strict.reload()
    assert in_a_strict_store == sent()


def test_without_the_setting_it_is_written(any_store: Store) -> None:
    """Without mandatory locks the same writes are made."""
    with Somebody() as ben:
        ben.does(Proxy("a").acquire)
        for name, write in WRITES.items():
            place = prepared("a")
            write(place)
            assert not is_untouched(place), name
        ben.does(Proxy("a").release)


def test_the_setting_is_true_or_false() -> None:
    """The setting is a boolean, off by default."""
    assert not Pool().settings.mandatory_locks
    Pool().reload(cfg={"backend": "memory", "mandatory_locks": True})
    assert Pool().settings.mandatory_locks
    for wrong in ("yes", 1, None):
        with pytest.raises(SettingsError, match="mandatory_locks"):
            Pool().reload(cfg={"backend": "memory", "mandatory_locks": wrong})
