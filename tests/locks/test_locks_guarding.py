"""Guarded writes: a write under a lost lock writes nothing, and the guard costs no round trip."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import pytest

from redicts import Lock, LockLost, Pool, Proxy, root
from redicts.core.minitransaction import Transaction
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
    try_lock,
)
from tests.support.stores import Store


def test_nothing_is_written_under_a_lock_that_was_broken(any_store: Store) -> None:
    """After an operator broke the lock every way to write raises ``LockLost``, and writes nothing."""
    with Somebody("operator") as operator:
        for name, write in WRITES.items():
            place = prepared("a.b")
            with pytest.raises(LockLost, match=r"'a\.b' is lost"), place:  # noqa: PT012
                operator.does(break_locks, "a.b")
                with pytest.raises(LockLost, match=r"'a\.b' is lost.*nothing was written"):
                    write(place)
                assert is_untouched(place), name
                # Known to be lost now, so nobody is asked.
                write(place)
            assert is_untouched(place), name
    assert not in_store()


def test_nothing_is_written_when_the_lease_ran_out(any_store: Store) -> None:
    """After the lease, every write raises ``LockLost`` and writes nothing, even if no other owner has the lock."""
    places = {name: prepared(f"place{number}") for number, name in enumerate(WRITES)}
    for place in places.values():
        Lock(place, (), expire_timeout=0.1).acquire()
    gone()
    for name, write in WRITES.items():
        with pytest.raises(LockLost, match=r"is lost: its lease of 0\.1 seconds ran out"):
            write(places[name])
        assert is_untouched(places[name]), name
        places[name].release()
        write(places[name])
        assert not is_untouched(places[name]), name


def test_nothing_is_written_over_what_the_next_holder_does(any_store: Store) -> None:
    """A thread that lost its lock cannot write into what the next one is doing under it."""
    place = prepared("a")
    with Somebody("ben") as ben:
        Lock(place, (), expire_timeout=0.3).acquire()
        ben.does(place.acquire)
        for name, write in WRITES.items():
            with pytest.raises(LockLost):
                write(place)
            assert is_untouched(place), name
        ben.does(place.set, "n", 7)
        assert place["n"].val() == 7
        place.release()
        assert place.is_locked()
        ben.does(place.release)


ABOVE_AND_BELOW: dict[str, Callable[[], object]] = {
    "set of what is above": lambda: root().set("a", 7),
    "clear of what is above": lambda: Proxy("a").clear(),
    "clear of the root": lambda: root().clear(),
    "update of what is above": lambda: Proxy("a").update({"b": {"n": 7}}),
    "life of what is above": lambda: Proxy("a").expire(100),
    "deletion of what is above": lambda: root().delete("a"),
    "pop of what is above": lambda: root().pop("a"),
    "set of what is below": lambda: Proxy("a.b.x").set("y", 7),
    "set of something new far below": lambda: Proxy("a.b").set("q.r.s", 7),
    "sum of what is below": lambda: Proxy("a.b.n").add(1),
    "deletion of what is below": lambda: Proxy("a").delete("b.n"),
    "clear of what is below": lambda: Proxy("a.b.x").clear(),
}


def test_writes_above_and_below_are_guarded(any_store: Store) -> None:
    """Writes above and below the locked path are guarded like writes at it."""
    for name, write in ABOVE_AND_BELOW.items():
        place = prepared("a.b")
        place.acquire()
        break_locks("a.b")
        with pytest.raises(LockLost):
            write()
        assert is_untouched(place), name
        place.release()
        write()
        assert not is_untouched(place), name
        root().clear()


def test_a_transaction_is_guarded_wherever_one_of_its_changes_is(any_store: Store) -> None:
    """One lost lock on any of its paths stops a whole transaction."""
    place = prepared("a.b")
    Proxy("a.b").acquire()
    break_locks("a.b")
    with pytest.raises(LockLost), root().transaction() as changes:  # noqa: PT012
        changes.set("x", 1)
        changes.set("a.b.n", 2)
    assert is_untouched(place)
    assert not Proxy("x").exists()
    place.release()


def test_a_lock_that_is_lost_inside_a_transaction_block_stops_it(any_store: Store) -> None:
    """It counts that the lock is held when the changes are made, at the end of the block."""
    place = prepared("a")
    place.acquire()
    with pytest.raises(LockLost), place.transaction() as changes:  # noqa: PT012
        changes.set("n", 7)
        break_locks("a")
    assert is_untouched(place)
    place.release()


def test_a_lock_that_is_lost_while_a_value_is_computed_stops_the_write(any_store: Store) -> None:
    """What ``update_with`` computes is not written if the lock is lost meanwhile."""
    place = prepared("a")
    place.acquire()

    def change(old: dict[str, int]) -> dict[str, int]:
        break_locks("a")
        return {**old, "n": 7}

    with pytest.raises(LockLost):
        place.update_with(change)
    assert is_untouched(place)
    place.release()


def test_reads_are_not_guarded(any_store: Store) -> None:
    """An owner that lost a lock can still read."""
    place = prepared("a")
    place.acquire()
    break_locks("a")
    assert place.val() == BEFORE
    assert place.exists()
    assert place.time_to_live() == -1
    assert sorted(place.keys()) == ["n", "x"]
    assert [each.val() for each in place["x"].iter_children()] == [2]
    assert "n" in place
    place.release()


def test_writes_to_other_paths_are_not_guarded(any_store: Store) -> None:
    """A lost lock does not affect writes to paths that do not overlap with it."""
    for path in ("a.b", "x.y"):
        Proxy(path).acquire()
    break_locks("a.b")
    for beside in ("a.bc", "x"):
        for name, write in WRITES.items():
            place = prepared(beside)
            write(place)
            assert not is_untouched(place), (beside, name)
    with pytest.raises(LockLost):
        Proxy("a.b").set("n", 1)
    for path in ("a.b", "x.y"):
        Proxy(path).release()


def test_another_threads_write_is_not_guarded(any_store: Store) -> None:
    """Without mandatory locks, a thread without the lock writes."""
    with Somebody("ben") as ben, Proxy("a"):
        for name, write in WRITES.items():
            place = prepared("a")
            ben.does(write, place)
            assert not is_untouched(place), name


def test_a_guard_costs_no_round_trip(any_store: Store) -> None:
    """Every way to write takes as many transactions under a lock as without one."""

    def sent_by(write: Callable[[Proxy], object]) -> list[Transaction]:
        place = prepared("a.b")
        with counted(store) as sent:
            write(place)
            return list(sent)

    store = meddler()
    for name, write in WRITES.items():
        without = sent_by(write)
        with Proxy("a.b"):
            at_the_place = sent_by(write)
        with Proxy("a"), Proxy("a.b.n"):
            around = sent_by(write)
        assert len(at_the_place) == len(around) == len(without), name
        guards = [len(one.checks) - len(other.checks) for one, other in zip(at_the_place, without) if one.writes]
        assert set(guards) == {1}, name


def test_what_is_done_under_a_lock_has_its_usual_result(any_store: Store) -> None:
    """Under a lock every way to write does and returns what it does and returns without one."""

    def outcome_of(write: Callable[[Proxy], object]) -> object:
        place = prepared("a.b")
        result = write(place)
        found = (result, place.val(), place.time_to_live())
        place.expire(None)
        return found

    for name, write in WRITES.items():
        without = outcome_of(write)
        with Proxy("a"):
            assert outcome_of(write) == without, name


def test_errors_under_a_lock_are_the_usual_ones(any_store: Store) -> None:
    """Under a lock that is held a refused write raises what it raises without one."""
    with prepared("a") as place:
        with pytest.raises(ValueError, match=r"'a\.x'"):
            place["x"].add(1)
        with pytest.raises(KeyError):
            place.pop("nothing")
        with pytest.raises(ZeroDivisionError):
            place.update_with(lambda _: 1 / 0)
        assert place.compare_and_set(7, 8) is False
        assert place["n"].compare_and_set(7, 8) is False
        assert is_untouched(place)
        break_locks("a")
        with pytest.raises(LockLost):
            place["n"].add(1)


def test_a_nested_lock_guards_too(any_store: Store) -> None:
    """A write is guarded by the lock that a nested one relies on, and by each of several independent ones."""
    with Proxy("a"), Proxy("a.b"):
        Proxy("a.b").set("x", 1)
        break_locks("a")
        with pytest.raises(LockLost, match="'a' is lost"):
            Proxy("a.b").set("x", 2)
        assert not Lock(Pool(), "a.b").held
        with pytest.raises(LockLost):
            Lock(Pool(), "a.b").ensure_held()
    for broken in ("a", "a.b"):
        Proxy("a.b").acquire()
        Proxy("a").acquire()
        break_locks(broken)
        with pytest.raises(LockLost):
            Proxy("a.b").set("x", 2)
        Proxy("a").release()
        Proxy("a.b").release()
    assert Proxy("a.b.x").val() == 1


def test_a_lost_lock_can_be_acquired_again(any_store: Store) -> None:
    """After a loss and its release, the lock is acquired again with a higher token."""
    lock = Lock(Pool(), "a")
    lock.acquire()
    before = lock.token
    assert before is not None
    break_locks("a")
    with pytest.raises(LockLost):
        Proxy("a").set("x", 1)
    lock.release()
    with lock:
        assert lock.token is not None
        assert lock.token > before
        Proxy("a").set("x", 2)
    assert Proxy("a.x").val() == 2


def test_losing_one_lock_leaves_the_others(any_store: Store) -> None:
    """Of several locks of a thread the ones that were not lost go on."""
    one, other = Lock(Pool(), "a"), Lock(Pool(), "b")
    with other:
        one.acquire()
        break_locks("a")
        with pytest.raises(LockLost):
            Proxy("a").set("x", 1)
        assert not one.held
        assert other.held
        Proxy("b").set("x", 1)
        one.release()
    assert not in_store()


def test_a_loss_is_seen_by_every_handle_of_the_thread(any_store: Store) -> None:
    """Once a write found the lock lost, ``held`` is false and ``ensure_held`` raises, for all that relied on it."""
    outer, inner = Lock(Pool(), "a"), Lock(Pool(), "a.b")
    outer.acquire()
    inner.acquire()
    break_locks("a")
    with pytest.raises(LockLost):
        Proxy("a.b.c").set("x", 1)
    for lock in (outer, inner):
        assert not lock.held
        with pytest.raises(LockLost):
            lock.ensure_held()
        with pytest.raises(LockLost):
            lock.extend()
    inner.release()
    outer.release()


def test_the_end_of_a_lease_is_seen_without_a_round_trip(any_store: Store) -> None:
    """After the lease, ``held`` is false and ``ensure_held`` raises ``LockLost``, without a round trip."""
    lock = Lock(Pool(), "a", expire_timeout=0.3)
    lock.acquire()
    gone("a")
    with counted(meddler()) as sent:
        assert not lock.held
        with pytest.raises(LockLost):
            lock.ensure_held()
        assert sent == []
    with pytest.raises(LockLost):
        lock.extend()
    lock.release()


def test_a_loss_during_a_with_block_is_raised_or_logged(any_store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A block without a write after the loss ends with a warning; its release does not affect the new owner."""
    caplog.set_level(logging.WARNING, "redicts.locks")
    with Somebody("ben") as ben:
        with Proxy("a"):
            break_locks("a")
            ben.does(Proxy("a").acquire)
            before = in_store()
        assert in_store() == before
        assert [record.name for record in caplog.records] == ["redicts.locks"]
        assert "'a' was lost before it was released" in caplog.text.replace('"', "")
        assert not try_lock("a")
        ben.does(Proxy("a").release)
    assert len(caplog.records) == 1


def test_a_release_after_the_lease_logs_a_warning(any_store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A late release logs a warning, and does not affect the lock of the current owner."""
    caplog.set_level(logging.WARNING, "redicts.locks")
    lock = Lock(Pool(), "a", expire_timeout=0.3)
    with Somebody("ben") as ben:
        lock.acquire()
        ben.does(partial(Lock(Pool(), "a.b").acquire))
        assert not caplog.records
        lock.release()
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert ben.does(lambda: Lock(Pool(), "a.b").held)
        ben.does(Lock(Pool(), "a.b").ensure_held)
        ben.does(Proxy("a.b").set, "x", 1)
        ben.does(Lock(Pool(), "a.b").release)
    assert len(caplog.records) == 1
    assert not in_store()
