"""Shared locks, upgrades, deadlocks, and locks on several paths."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from typing import Any

import pytest

import redicts.api.opened as opened_module
from redicts import Deadlock, Lock, LockLost, LockTimeout, NotHeld, Pool, Proxy, SettingsError
from redicts.backends.memory import MemoryBackend
from redicts.core.store import TreeStore
from tests.locks.locking import (
    QUICK,
    Somebody,
    break_locks,
    counted,
    in_store,
    meddler,
    nothing_is_left,
    try_lock,
    waiting,
)
from tests.support.stores import Store, together
from tests.support.waiting import TIMEOUT, eventually


def shared(path: str, timeout: float | None = TIMEOUT) -> Lock:
    """Return a shared lock."""
    return Lock(Pool(), path, acquire_timeout=timeout, shared=True)


def exclusive(path: str, timeout: float | None = TIMEOUT) -> Lock:
    """Return an exclusive lock."""
    return Lock(Pool(), path, acquire_timeout=timeout)


@pytest.fixture
def quick(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Let the waiters of a store look for deadlocks soon."""
    monkeypatch.setattr(opened_module, "TreeStore", partial(TreeStore, timing=QUICK))
    any_store.reload()
    return any_store


# Shared locks


def test_many_may_hold_a_shared_lock(any_store: Store) -> None:
    """Any number of threads hold a shared lock, also above and below each other, and none an exclusive one."""
    with Somebody() as ben, Somebody() as cleo, shared("a.b") as lock:
        assert lock.is_locked()
        assert ben.does(shared("a.b").acquire, False)
        assert cleo.does(shared("a").acquire, False)
        assert ben.does(shared("a.b.c").acquire, False)
        for path in ("", "a", "a.b", "a.b.c"):
            assert not cleo.does(exclusive(path).acquire, False), path
        assert cleo.does(try_lock, "x")
        assert sorted((info.path, info.shared) for info in lock.holders()) == [("a", True), *[("a.b", True)] * 2]
        ben.does(shared("a.b").release)
        ben.does(shared("a.b.c").release)
        cleo.does(shared("a").release)
        assert not ben.does(try_lock, "a.b")
    assert try_lock("a.b")


def test_an_exclusive_lock_excludes_shared_ones(any_store: Store) -> None:
    """While a path is locked exclusively, no other owner gets a shared lock above, at or below it."""
    with Somebody() as ben, exclusive("a.b"):
        for path in ("", "a", "a.b", "a.b.c"):
            assert not ben.does(shared(path).acquire, False), path
        assert ben.does(shared("a.c").acquire, False)
        ben.does(shared("a.c").release)


def test_a_writer_waits_for_all_readers(any_store: Store) -> None:
    """A request for an exclusive lock waits until the last shared one is released."""
    with Somebody() as ben, Somebody() as cleo:
        ben.does(shared("a").acquire)
        shared("a.b").acquire()
        got = cleo.begins(exclusive("a").acquire)
        waiting(1)
        ben.does(shared("a").release)
        assert not got.done()
        waiting(1)
        shared("a.b").release()
        assert got.result(TIMEOUT)
        cleo.does(exclusive("a").release)


def test_readers_queue_behind_a_waiting_writer(any_store: Store) -> None:
    """A later reader does not pass a waiting writer, though it could share with the current owners."""
    with Somebody() as ben, Somebody() as cleo, Somebody() as dora:
        with shared("a"):
            writer = ben.begins(exclusive("a.b").acquire)
            waiting(1)
            reader = cleo.begins(shared("a").acquire)
            waiting(2)
            assert dora.does(shared("a.c").acquire, False), "it has nothing to do with the writer"
            dora.does(shared("a.c").release)
        assert writer.result(TIMEOUT)
        assert not reader.done()
        assert not dora.does(shared("a").acquire, False)
        ben.does(exclusive("a.b").release)
        assert reader.result(TIMEOUT)
        assert dora.does(shared("a").acquire, False)
        for who in (cleo, dora):
            who.does(shared("a").release)
    assert not in_store()


def test_all_readers_go_on_at_once(any_store: Store) -> None:
    """When an exclusive lock is released, all readers that wait for it get theirs, none waits for another."""
    inside = threading.Barrier(3)

    def read() -> None:
        with shared("a"):
            inside.wait(TIMEOUT)

    crowd = [Somebody() for _ in range(3)]
    with exclusive("a"):
        begun = [each.begins(read) for each in crowd]
        waiting(3)
    for each in begun:
        each.result(TIMEOUT)
    for somebody in crowd:
        somebody.__exit__(None, None, None)
    assert not in_store()


def test_a_reader_writes_nothing_for_what_it_shares_again(any_store: Store) -> None:
    """A shared lock is acquired again without asking the store; an exclusive one covers a shared one."""
    store = meddler()
    with shared("a"), counted(store) as sent:
        with shared("a"), shared("a.b.c"):
            pass
        assert sent == []
        with exclusive("a.b") as lock:
            assert sent
            assert lock.held
    with exclusive("a"), counted(store) as sent, shared("a"), shared("a.b"):
        assert sent == []


def test_the_only_reader_becomes_the_writer(any_store: Store) -> None:
    """The only owner of a shared lock also gets it exclusively; after that release it holds it shared again."""
    with Somebody() as ben, shared("a.b"):
        for path in ("a.b", "a", "a.b.c", ""):
            with exclusive(path, 0):
                assert not ben.does(shared("a.b.c").acquire, False)
            assert ben.does(shared("a.b").acquire, False)
            ben.does(shared("a.b").release)


def test_the_other_mode_is_free_for_its_own_thread(any_store: Store) -> None:
    """A thread with an exclusive lock gets a shared one above it, and vice versa."""
    with exclusive("a.b"), shared("a", 0), Somebody() as ben:
        assert not ben.does(shared("a.b").acquire, False)
        assert ben.does(shared("a.c").acquire, False)
        assert not ben.does(exclusive("a.d").acquire, False)
        ben.does(shared("a.c").release)
    with shared("a.b"), exclusive("a", 0), shared("", 0):
        pass
    assert not in_store()


def test_an_upgrade_waits_for_the_other_readers(quick: Store) -> None:
    """An upgrade waits for the other readers, and passes the waiters that wait for this reader."""
    with Somebody() as ben, Somebody() as cleo, Somebody() as dora:
        ben.does(shared("a").acquire)
        cleo.does(shared("a").acquire)
        outsider = dora.begins(exclusive("a").acquire)
        waiting(1)
        upgraded = ben.begins(exclusive("a").acquire)
        waiting(2)
        assert not upgraded.done()
        cleo.does(shared("a").release)
        assert upgraded.result(TIMEOUT)
        assert not outsider.done()
        ben.does(exclusive("a").release)
        assert not outsider.done()
        ben.does(shared("a").release)
        assert outsider.result(TIMEOUT)
        dora.does(exclusive("a").release)
    assert not in_store()


def test_of_two_upgraders_one_fails(quick: Store) -> None:
    """Two readers that both upgrade wait for each other: one gets ``Deadlock``, and then the other one the lock."""
    with Somebody("ben") as ben, Somebody("cleo") as cleo:
        ben.does(shared("a").acquire)
        cleo.does(shared("a").acquire)
        first = ben.begins(exclusive("a").acquire)
        waiting(1)
        second = cleo.begins(exclusive("a").acquire)
        error = second.exception(TIMEOUT)
        assert isinstance(error, Deadlock)
        assert "ben_0" in str(error)
        assert "cleo_0" in str(error)
        assert not first.done()
        assert cleo.does(lambda: shared("a").held), "what it held before it still holds"
        cleo.does(shared("a").release)
        assert first.result(TIMEOUT)
        ben.does(exclusive("a").release)
        ben.does(shared("a").release)
    assert not in_store()


def test_shared_writes_are_guarded(any_store: Store) -> None:
    """A shared lock guards the writes of its owners."""
    with Somebody() as operator:
        shared("a").acquire()
        Proxy("a").set("x", 1)
        operator.does(break_locks)
        with pytest.raises(LockLost):
            Proxy("a").set("x", 2)
        shared("a").release()
    assert Proxy("a.x").val() == 1


# Deadlocks


def test_two_threads_that_wait_for_each_other(quick: Store) -> None:
    """Of two threads that wait for each other, exactly one gets ``Deadlock``, soon, and the other one the lock."""
    ready = threading.Barrier(2)
    outcomes: list[str] = []

    def work(mine: str, others: str) -> None:
        with exclusive(mine):
            ready.wait(TIMEOUT)
            try:
                with exclusive(others):
                    outcomes.append("got it")
            except Deadlock as error:
                outcomes.append("deadlock" if "'a'" in str(error) and "'b'" in str(error) else str(error))

    for _ in range(2):
        together(partial(work, "a", "b"), partial(work, "b", "a"))
        assert sorted(outcomes) == ["deadlock", "got it"]
        outcomes.clear()
    assert not in_store()


def test_three_threads_in_a_cycle_above_and_below(quick: Store) -> None:
    """A cycle over parents and children is found: one request fails, and two are granted."""
    ready = threading.Barrier(3)
    outcomes: list[str] = []

    def work(mine: str, others: str) -> None:
        with exclusive(mine):
            ready.wait(TIMEOUT)
            try:
                with exclusive(others):
                    outcomes.append("got it")
            except Deadlock:
                outcomes.append("deadlock")

    together(partial(work, "a.b", "c"), partial(work, "c.d", "e.f.g"), partial(work, "e.f", "a"))
    assert sorted(outcomes) == ["deadlock", "got it", "got it"]
    nothing_is_left()


def test_a_deadlock_is_found_in_its_usual_time() -> None:
    """With the default intervals, a deadlock is found also by waiters without a timeout."""
    mine, others = exclusive("a", None), exclusive("b", None)
    with Somebody() as ben, mine:
        ben.does(others.acquire)
        got = ben.begins(Lock(Pool(), "a.x", acquire_timeout=None).acquire)
        waiting(1)
        with pytest.raises(Deadlock):
            others.acquire()
        assert not got.done()
        mine.release()
        assert got.result(TIMEOUT)
        ben.does(Lock(Pool(), "a.x").release)
        ben.does(others.release)
        mine.acquire()
    assert not in_store()


def test_acquiring_a_sibling_passes_a_blocked_waiter(any_store: Store) -> None:
    """The owner of ``a.b`` gets ``a.c`` at once though a request waits for ``a``, which ``a.b`` blocks anyway."""
    with Somebody() as ben:
        with exclusive("a.b"):
            got = ben.begins(exclusive("a").acquire)
            waiting(1)
            with exclusive("a.c", 0):
                pass
            assert not got.done()
        assert got.result(TIMEOUT)
        ben.does(exclusive("a").release)


def test_a_long_wait_is_no_deadlock(quick: Store) -> None:
    """Threads that wait for a working owner are not taken for a deadlock, however often they search."""
    with Somebody() as ben, Somebody() as cleo:
        ben.does(exclusive("x").acquire)
        with exclusive("a"):
            waits = [ben.begins(exclusive("a.b").acquire)]
            waiting(1)
            waits.append(cleo.begins(exclusive("a").acquire))
            waiting(2)
            eventually(lambda: len(in_store().get("d", {})) == 2, "both waiters have looked for a deadlock")
            assert not any(each.done() for each in waits)
        assert waits[0].result(TIMEOUT)
        ben.does(exclusive("a.b").release)
        assert waits[1].result(TIMEOUT)
        cleo.does(exclusive("a").release)
        ben.does(exclusive("x").release)
    assert not in_store()


# Several atomically


def test_several_locks_are_acquired_together(any_store: Store) -> None:
    """``all`` returns a lock on several paths: all are locked inside, and none outside."""
    both = exclusive("a").all(exclusive("b.c"), exclusive("d"))
    with Somebody() as ben:
        with both as lock:
            assert lock.held
            for path in ("a", "b.c", "d", "b"):
                assert not ben.does(try_lock, path), path
            assert ben.does(try_lock, "b.x")
            Proxy("a").set("x", 1)
            Proxy("b").set("c", 1)
            with exclusive("d.e", 0), exclusive("a", 0):
                pass
        for path in ("a", "b.c", "d", ""):
            assert ben.does(try_lock, path), path
    assert not in_store()


def test_several_locks_or_none(any_store: Store) -> None:
    """If one of several paths is not free, none is locked; a waiter holds none of them."""
    with Somebody() as ben, Somebody() as cleo:
        both = exclusive("a").all(exclusive("b"))
        with exclusive("b.x"):
            assert not ben.does(both.acquire, False)
            assert ben.does(try_lock, "a")
            got = ben.begins(both.acquire)
            waiting(1, "a")
            assert not Lock(Pool(), "a").holders()
            assert not got.done()
        assert got.result(TIMEOUT)
        assert not cleo.does(try_lock, "a")
        assert not cleo.does(try_lock, "b.x")
        ben.does(both.release)
    assert not in_store()


def test_several_locks_in_opposite_order_are_no_deadlock(any_store: Store) -> None:
    """Threads that acquire the same paths together, in any order, do not deadlock."""
    paths = ["a", "b.c", "d"]

    def work(order: tuple[str, ...]) -> None:
        locks = [exclusive(path, None) for path in order]
        for _ in range(5):
            with locks[0].all(*locks[1:]):
                Proxy("n").set("n", Proxy("n.n").val(0) + 1)

    orders = list(itertools.permutations(paths))[::2]
    turns: list[Callable[[], None]] = [partial(work, order) for order in orders]
    together(*turns)
    assert Proxy("n.n").val() == 5 * len(turns)
    nothing_is_left()


def test_overlapping_paths_of_one_lock_are_merged(any_store: Store) -> None:
    """A path below another one of the same lock adds nothing; each owner and waiter is returned once."""
    both = exclusive("a").all(exclusive("a.b"), exclusive("a"))
    with Somebody() as ben, both:
        assert len(in_store()["h"]) == 1
        assert [info.path for info in both.holders()] == ["a"]
        got = ben.begins(exclusive("a.b.c").acquire)
        waiting(1)
        assert [info.path for info in both.waiters()] == ["a.b.c"]
        assert [info.path for info in both.break_locks()] == ["a"]
        assert got.result(TIMEOUT)
        ben.does(exclusive("a.b.c").release)
    assert not in_store()


def test_breaking_one_of_several_loses_them_all(any_store: Store) -> None:
    """If the lock on one of several paths is broken, the lock is lost, and its release frees all of them."""
    for broken in ("a", "b"):
        both = exclusive("a").all(exclusive("b"))
        both.acquire()
        break_locks(broken)
        with pytest.raises(LockLost):
            Proxy(broken).set("x", 1)
        assert not both.held
        both.release()
        assert not in_store(), broken


def test_renewal_finds_each_broken_path(any_store: Store) -> None:
    """``extend`` raises ``LockLost`` whichever of several paths was broken, and leaves none of them locked."""
    for broken in ("a", "b"):
        both = exclusive("a").all(exclusive("b"))
        both.acquire()
        break_locks(broken)
        with pytest.raises(LockLost):
            both.extend()
        both.release()
        assert not in_store(), broken


def test_a_release_warns_of_each_broken_path(any_store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """The release of several paths logs a warning if any of them was lost."""
    for broken in ("a", "b"):
        caplog.clear()
        with exclusive("a").all(exclusive("b")):
            break_locks(broken)
        assert "was lost before it was released" in caplog.text, broken
        assert not in_store(), broken


def test_several_paths_are_reentrant_one_by_one(any_store: Store) -> None:
    """A path below one of several locked paths is held."""
    with exclusive("a").all(exclusive("b")):
        with counted(meddler()) as sent, exclusive("b.x").all(exclusive("a.y")), exclusive("a"):
            assert sent == []
        with pytest.raises(NotHeld):
            exclusive("a").release()


def test_several_shared_paths(any_store: Store) -> None:
    """Several paths can be locked shared."""
    with Somebody() as ben, shared("a").all(shared("b")) as lock:
        assert [info.shared for info in lock.holders()] == [True, True]
        assert ben.does(shared("a").acquire, False)
        assert not ben.does(exclusive("b").acquire, False)
        ben.does(shared("a").release)


def print_it(_: Lock) -> None:
    """Stand for a callback."""


@pytest.mark.parametrize(
    ("option", "weak", "strong"),
    [
        ("shared", {"shared": True}, {}),
        ("expire_timeout", {"expire_timeout": 5}, {"expire_timeout": 30}),
        ("renew", {}, {"renew": True}),
        ("on_loss", {}, {"on_loss": print_it}),
        ("on_loss", {"on_loss": print}, {"on_loss": print_it}),
        ("on_renewal_overdue", {}, {"on_renewal_overdue": print_it}),
    ],
)
def test_no_lock_of_several_is_weakened(option: str, weak: dict[str, Any], strong: dict[str, Any]) -> None:
    """The options of the first lock must be as strong as those of the others; the error names those that are not."""
    first, other = Lock(Pool(), "a", **weak), Lock(Pool(), "b", **strong)
    with pytest.raises(SettingsError, match=f"{option}.*same options"):
        first.all(other)
    with pytest.raises(SettingsError, match=option):
        first.all(first, other)
    assert Lock(Pool(), "a", **strong).all(other, Lock(Pool(), "c", **strong)).key == "a, b, c"
    if option != "on_loss" or not weak:
        assert other.all(first).key == "b, a"


def test_a_nested_acquisition_shortens_no_lease(any_store: Store) -> None:
    """``extend`` makes the lease no shorter than another acquisition that relies on the lock has asked for."""
    outer, inner = Lock(Pool(), "a", expire_timeout=60), Lock(Pool(), "a.b", expire_timeout=5)
    with outer:
        with inner:
            inner.extend(2)
            (info,) = outer.holders()
            assert (info.until - info.since).total_seconds() > 50
        outer.extend(2)
        (info,) = outer.holders()
        assert (info.until - datetime.now(timezone.utc)).total_seconds() < 10


def test_a_timeout_names_all_paths(any_store: Store) -> None:
    """``LockTimeout`` names all the paths of the request."""
    with Somebody() as ben, exclusive("b"):
        with pytest.raises(LockTimeout, match=r"'a' and 'b'.*held: 'b' by"):
            ben.does(exclusive("a", 0.1).all(exclusive("b")).acquire)
        assert list(in_store()) == ["h"]


def test_locks_of_several_stores_are_not_acquired_together() -> None:
    """Paths in different databases cannot be locked atomically, and the error says so."""
    others: list[Lock] = [Lock(MemoryBackend(), "b"), Lock(Proxy("b", db_name="elsewhere"), "")]
    for other in others:
        with pytest.raises(SettingsError, match="one database"):
            exclusive("a").all(other)
