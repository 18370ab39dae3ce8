"""Locks: hierarchy, re-entrancy, release, waiting with a timeout, and fencing tokens."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
import types
from collections.abc import Callable
from functools import partial
from math import inf, nan
from typing import Any

import pytest

from redicts import Lock, LockTimeout, NotHeld, PathError, Pool, Proxy, root
from redicts.core.listener import Listener
from redicts.core.locks.records import TOKENS
from redicts.core.minitransaction import Delete, Scope, Transaction
from tests.locks.locking import Somebody, counted, gone, in_store, meddler, nothing_is_left, try_lock, waiting
from tests.support.stores import Store, together
from tests.support.waiting import TIMEOUT, eventually

# What the reference promises


def test_a_proxy_can_be_acquired_and_released(any_store: Store) -> None:
    """``acquire`` locks the path of a proxy, ``release`` unlocks it, and ``is_locked`` returns which."""
    place = Proxy("garage.car")
    assert not place.is_locked()
    assert place.acquire()
    assert place.is_locked()
    place.release()
    assert not place.is_locked()
    assert not in_store()


def test_a_with_block_locks_the_proxy_and_gives_it(any_store: Store) -> None:
    """``with proxy as name`` gives the proxy itself, locked inside the block and free after it."""
    with Proxy("garage.car") as car:
        assert car is Proxy("garage.car")
        assert car.is_locked()
        car.set("wheels", 4)
        with Somebody() as ben:
            assert not ben.does(try_lock, "garage.car")
    assert not Proxy("garage.car").is_locked()
    assert Proxy("garage.car.wheels").val() == 4


def test_a_lock_can_be_used_alone(any_store: Store) -> None:
    """``Lock`` takes the arguments of 1.0, by position and by name."""
    lock = Lock(Pool(), "garage.car", expire_timeout=30, acquire_timeout=10)
    assert not lock.is_locked()
    assert lock.acquire()
    assert lock.is_locked()
    assert Lock(Pool(), "garage.car", 5, 1).is_locked()
    lock.release()
    assert not lock.is_locked()
    with lock as same:
        assert same is lock
        assert lock.is_locked()
    assert not in_store()


def test_is_locked_includes_locks_above_only(any_store: Store) -> None:
    """A path is locked by a lock on it or above it, and not by a lock below it."""
    with Somebody() as ben, Proxy("a.b"):
        for where, is_locked in {
            "": False,
            "a": False,
            "a.b": True,
            "a.b.c.d": True,
            "a.bc": False,
            "x": False,
        }.items():
            assert Proxy(where).is_locked() is is_locked, where
            assert ben.does(Proxy(where).is_locked) is is_locked, where
            assert Lock(Pool(), where).is_locked() is is_locked, where


def test_threads_that_read_and_write_under_a_lock_lose_nothing(any_store: Store) -> None:
    """A value that is read and then written under a lock is not changed by others in between."""
    Proxy("a.b.c").set("d", 0)

    def increment() -> None:
        for _ in range(15):
            with Proxy("a.b.c") as place:
                place.set("d", place.get("d").val() + 1)

    together(increment, increment, increment)
    assert Proxy("a.b.c.d").val() == 45
    nothing_is_left()


# What excludes what


def test_a_lock_excludes_others_above_at_and_below_it(any_store: Store) -> None:
    """While one thread holds ``a.b`` no other gets the root, ``a``, ``a.b`` or what is below; all else is free."""
    with Somebody() as ben, Proxy("a.b"):
        for path in ("", "a", "a.b", "a.b.c", "a.b.c.d"):
            assert not ben.does(try_lock, path), path
        for path in ("a.c", "x", "a.bc", "b", "a.c.b", "x.a.b"):
            assert ben.does(try_lock, path), path
    with Somebody() as ben:
        assert ben.does(try_lock, "a.b")


def test_the_root_excludes_everything(any_store: Store) -> None:
    """While one thread holds the root no other gets anything."""
    with Somebody() as ben, root():
        for path in ("", "a", "a.b.c"):
            assert not ben.does(try_lock, path), path


ODD_NAMES = [
    "!",
    "/",
    "*",
    "?",
    "[a-c]",
    " ",
    "a.b",
    "..",
    "/!",
    "!/a",
    "\\",
    "\0",
    "\x01",
    "\n",
    "{a}",
    "{",
    "}",
    "h",
    "w",
    "token",
    "ä",
    "a\u0308",
    "\u4e2d\u6587",
    "\U0001f512",
    "%",
    "'\"",
    "x" * 500,
]


@pytest.mark.parametrize("within", ["", "deep"])
def test_names_are_data(any_store: Store, within: str) -> None:
    """Every segment is data: locks on two names are two locks, and each excludes the paths below it."""
    above = [within] if within else []
    locks = [Lock(Pool(), [*above, name], acquire_timeout=0) for name in ODD_NAMES]
    with Somebody() as ben, Somebody() as cleo:
        for number, lock in enumerate(locks):
            assert (ben if number % 2 else cleo).does(lock.acquire), ODD_NAMES[number]
        for name, lock in zip(ODD_NAMES, locks):
            assert not Lock(Pool(), [*above, name, "below"]).acquire(blocking=False), name
            assert not lock.acquire(blocking=False), name
            (current_owner,) = lock.holders()
            assert current_owner.path == lock.key
        assert not Lock(Pool(), above).acquire(blocking=False)
        for number, lock in enumerate(locks):
            (ben if number % 2 else cleo).does(lock.release)
    assert not in_store()


def test_a_dotted_key_and_its_segments_are_one_lock(any_store: Store) -> None:
    """Dotted text and an iterable of segments lock the same path; an escaped dot is part of a segment."""
    with Somebody() as ben, Lock(Pool(), ["a", "b"]), Lock(Pool(), r"www\.example\.org"):
        assert not ben.does(try_lock, "a.b")
        assert not ben.does(Lock(Pool(), ["www.example.org", "port"]).acquire, False)
        assert ben.does(try_lock, "www.example.org")


def test_a_wrong_key_is_refused() -> None:
    """A key that is no path is refused when the lock is made."""
    wrong: list[Any] = ["a..b", ".", "a.", ["a", ""], ["a", 1], b"a", 7, None]
    for key in wrong:
        with pytest.raises(PathError):
            Lock(Pool(), key)


def test_a_proxy_is_no_key() -> None:
    """A proxy as key is refused, as :class:`Proxy` does it: it is an iterable, of the names that are stored below."""
    Proxy("a").set("b", 1)
    for proxy in (Proxy("a"), Proxy("nothing.there")):
        with pytest.raises(PathError, match="proxy"):
            Lock(Pool(), proxy)


def test_a_path_that_is_too_deep_is_refused(any_store: Store) -> None:
    """The deepest path of a value cannot be locked; the error says so, and nothing is left."""
    deep = Proxy(["x"] * 128)
    with pytest.raises(PathError, match="126"):
        deep.acquire()
    with Proxy(["x"] * 126) as place:
        place.set("y", 1)
    assert not in_store()


# Again and again


def test_locks_are_reentrant(any_store: Store) -> None:
    """A thread acquires its own lock again, and a path below it; the lock is free after the last release."""
    with Somebody() as ben:
        with Proxy("a") as outer, Proxy("a") as same, Proxy("a.b.c") as inner, Lock(Pool(), "a"):
            assert outer is same
            inner.set("x", 1)
        assert ben.does(try_lock, "a")
        place = Proxy("a")
        for _ in range(3):
            place.acquire()
        for _ in range(3):
            assert not ben.does(try_lock, "a")
            place.release()
        assert ben.does(try_lock, "a")


def test_nothing_is_sent_for_what_is_held(any_store: Store) -> None:
    """To acquire and release once more what a thread holds already sends nothing to the store."""
    store = meddler()
    with Proxy("a.b"), counted(store) as sent:
        for path in ("a.b", "a.b.c", "a.b.c.d"):
            for blocking in (True, False):
                assert Proxy(path).acquire(blocking)
                Proxy(path).release()
            with Lock(Pool(), path), Lock(Pool(), path, shared=True) as shared:
                assert shared.held
                assert shared.token
        with Lock(Pool(), "a.b.x").all(Lock(Pool(), "a.b.y")):
            pass
        assert sent == []


def test_a_lock_costs_one_round_trip_and_its_release_another(any_store: Store) -> None:
    """After the first lock of a tree, a free lock is acquired in one transaction and released in one."""
    with Proxy("first"):
        pass
    store = meddler()
    with counted(store) as sent:
        with Proxy("a.b"):
            assert len(sent) == 1
        assert len(sent) == 2
        with Lock(Pool(), "a").all(Lock(Pool(), "x"), Lock(Pool(), "y.z")):
            assert len(sent) == 3
        assert len(sent) == 4


def test_a_lock_above_a_held_one_is_another_lock(any_store: Store) -> None:
    """A thread that holds ``a.b`` can acquire ``a`` too, and still holds ``a.b`` after it releases ``a``."""
    with Somebody() as ben, Proxy("a.b"):
        with Proxy("a"), Proxy(""):
            assert not ben.does(try_lock, "a.c")
            assert not ben.does(try_lock, "x")
        assert ben.does(try_lock, "a.c")
        assert not ben.does(try_lock, "a.b")


def test_releases_may_come_in_any_order(any_store: Store) -> None:
    """A lock is held until the last acquisition that relies on it is released, in any order."""
    with Somebody() as ben:
        outer, inner = Proxy("a"), Proxy("a.b")
        outer.acquire()
        inner.acquire()
        outer.release()
        assert not ben.does(try_lock, "a.b")
        assert not ben.does(try_lock, "a.c")
        inner.set("x", 1)
        inner.release()
        assert ben.does(try_lock, "a")
        assert not in_store()


def test_locks_side_by_side_are_released_in_any_order(any_store: Store) -> None:
    """Of several independent locks each is freed by its own release."""
    places = [Proxy("a"), Proxy("b.c"), Proxy("d")]
    with Somebody() as ben:
        for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
            for place in places:
                place.acquire()
            for number in order:
                places[number].release()
                assert ben.does(try_lock, places[number].key())
            assert not in_store()


def test_a_proxy_and_a_lock_on_the_same_path_are_one(any_store: Store) -> None:
    """A lock that was acquired through a proxy can be released through a ``Lock`` on the same path, and vice versa."""
    Proxy("a.b").acquire()
    Lock(Pool(), "a.b").release()
    Lock(Proxy("a"), "b").acquire()
    Proxy("a.b").release()
    Proxy("a.b").lock().acquire()
    Lock(Pool(), ["a", "b"]).release()
    assert not in_store()


# Whose it is


def test_what_was_not_acquired_cannot_be_released(any_store: Store) -> None:
    """A release without an acquire raises ``NotHeld``, also of what lies above or below what is held."""
    for place in (Proxy("a"), Lock(Pool(), "a")):
        with pytest.raises(NotHeld, match="'a'"):
            place.release()
    with Proxy("a.b"):
        for path in ("", "a", "a.b.c", "x"):
            with pytest.raises(NotHeld):
                Proxy(path).release()
    with pytest.raises(NotHeld):
        Proxy("a.b").release()


def test_another_thread_cannot_release_a_lock(any_store: Store) -> None:
    """A release by another thread raises ``NotHeld`` and changes nothing, even through the same object."""
    lock = Lock(Pool(), "a")
    with Somebody() as ben, lock:
        before = in_store()
        for release in (lock.release, Proxy("a").release, lock.ensure_held, lock.extend):
            with pytest.raises(NotHeld, match="'a'"):
                ben.does(release)
        assert in_store() == before
        assert not ben.does(lambda: lock.held)
        assert ben.does(lambda: lock.token) is None
        assert lock.held
        lock.ensure_held()


def test_tasks_of_one_thread_are_different_owners(any_store: Store) -> None:
    """What one asyncio task holds no other task of its thread gets or releases, and neither does the thread."""
    place = Proxy("a")

    async def main() -> None:
        locked, looked = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            with place:
                locked.set()
                await looked.wait()
                assert place.acquire(blocking=False)
                place.release()

        async def meet() -> None:
            await locked.wait()
            assert not place.acquire(blocking=False)
            with pytest.raises(NotHeld, match="task"):
                place.release()
            (info,) = place.lock().holders()
            assert info.thread.startswith("task ")
            looked.set()

        await asyncio.gather(hold(), meet())
        with place:
            assert place.is_locked()

    asyncio.run(main())
    assert not in_store()
    with place:
        asyncio.run(asyncio.wait_for(_cannot_have(place), TIMEOUT))


async def _cannot_have(place: Proxy) -> None:
    assert not place.acquire(blocking=False)


def test_a_new_thread_is_a_new_owner(any_store: Store) -> None:
    """A thread that ended while it held a lock leaves it locked for the threads after it, which get its number."""
    numbers = []

    def find_locked() -> None:
        numbers.append(threading.get_ident())
        assert not Proxy("a").acquire(blocking=False)
        with pytest.raises(NotHeld):
            Proxy("a").release()

    together(Proxy("a").acquire)
    for _ in range(5):
        together(find_locked)
    assert len(set(numbers)) < 5, "no number was used again, so this shows nothing"


# Waiting


def test_a_waiter_gets_the_lock_when_it_is_released(any_store: Store) -> None:
    """A waiter gets the lock as soon as it is free."""
    with Somebody("ben") as ben:
        with Proxy("a"):
            got = ben.begins(Proxy("a.b").acquire)
            waiting(1)
            assert not got.done()
        assert got.result(TIMEOUT)
        assert Proxy("a.b").is_locked()
        ben.does(Proxy("a.b").release)
    assert not in_store()


def test_first_come_first_served(any_store: Store) -> None:
    """Waiters get the lock in the order of their requests, and no later request passes them."""
    order: list[int] = []

    def take(number: int) -> None:
        with Proxy("a"):
            order.append(number)

    crowd = [Somebody() for _ in range(4)]
    with Proxy("a"):
        taken = []
        for number, each in enumerate(crowd):
            taken.append(each.begins(take, number))
            waiting(number + 1)
    for future in taken:
        future.result(TIMEOUT)
    for somebody in crowd:
        somebody.__exit__(None, None, None)
    assert order == [0, 1, 2, 3]


def test_an_attempt_without_blocking_does_not_wait(any_store: Store) -> None:
    """``acquire(blocking=False)`` returns false at once if the lock is not free, and leaves no waiter."""
    with Somebody() as ben, Proxy("a"):
        before = in_store()
        assert ben.does(Proxy("a").acquire, False) is False
        assert ben.does(Lock(Pool(), "a.b", acquire_timeout=None).acquire, False) is False
        assert in_store() == before


def test_a_timeout_of_zero_is_a_try_that_raises(any_store: Store) -> None:
    """With ``acquire_timeout=0`` a lock that is not free raises ``LockTimeout`` at once; a free one is acquired."""
    lock = Lock(Pool(), "a", acquire_timeout=0)
    with lock:
        pass
    with Somebody() as ben, lock:
        before = in_store()
        with pytest.raises(LockTimeout, match="'a'"):
            ben.does(lock.acquire)
        with pytest.raises(LockTimeout, match="'a'"):
            ben.does(Proxy("a", lock_acquire_timeout=0).acquire)
        assert in_store() == before


@pytest.mark.parametrize("forever", [None, inf])
def test_without_a_timeout_a_waiter_waits_until_the_lock_is_free(any_store: Store, forever: float | None) -> None:
    """With ``acquire_timeout=None`` a waiter waits until the lock is free."""
    lock = Lock(Pool(), "a", acquire_timeout=forever)
    with Somebody() as ben:
        with Proxy("a"):
            got = ben.begins(lock.acquire)
            waiting(1)
        assert got.result(TIMEOUT)
        ben.does(lock.release)


def test_a_timeout_names_the_owner_of_the_lock(any_store: Store) -> None:
    """At its deadline a waiter gets ``LockTimeout``, which names the owner; the attempt leaves nothing."""
    with Somebody("ben") as ben, Proxy("a"):
        before = in_store()
        begin = time.monotonic()
        with pytest.raises(LockTimeout) as raised:
            ben.does(Proxy("a.b", lock_acquire_timeout=0.2).acquire)
        assert 0.2 <= time.monotonic() - begin < TIMEOUT / 2
        assert isinstance(raised.value, TimeoutError)
        said = str(raised.value)
        assert "'a.b'" in said
        assert f"'a' by {socket.gethostname()}:" in said
        assert threading.current_thread().name in said
        assert in_store() == before


class Restless(Listener):
    """A listener that is notified all the time, for no reason."""

    def __init__(self, inner: Listener) -> None:
        self._inner = inner

    def wait(self, seconds: float, /) -> bool:
        self._inner.wait(min(seconds, 0.001))
        return True

    def close(self) -> None:
        self._inner.close()


def test_wakings_for_no_reason_do_not_prolong_the_wait(any_store: Store) -> None:
    """The deadline is one point in time: a waiter that is notified again and again for nothing still ends then."""
    store = meddler()
    store.hear = Restless
    with Somebody("ben") as ben, Proxy("a"):
        begin = time.monotonic()
        with pytest.raises(LockTimeout):
            ben.does(Proxy("a", lock_acquire_timeout=0.3).acquire)
        assert 0.3 <= time.monotonic() - begin < TIMEOUT / 2
        assert store.count > 5
        assert list(in_store()) == ["h"]


def test_a_waiter_that_timed_out_blocks_no_other(any_store: Store) -> None:
    """After the first of two waiters has timed out, the second one gets the lock at the release."""
    with Somebody("ben") as ben, Somebody("cleo") as cleo:
        with Proxy("a.b"):
            given_up = ben.begins(Proxy("a", lock_acquire_timeout=1.5).acquire)
            waiting(1)
            got = cleo.begins(Proxy("a.c").acquire)
            assert isinstance(given_up.exception(TIMEOUT), LockTimeout)
            # It had only waited for the one who waited for 'a'.
            assert got.result(TIMEOUT)
        cleo.does(Proxy("a.c").release)
    assert not in_store()


@pytest.mark.parametrize("wrong", [-1, -0.001, nan, "5", True, [1]])
def test_a_wrong_timeout_is_refused(wrong: Any) -> None:
    """How long to wait is ``None`` or a number of seconds from 0 on; all else raises ``ValueError``."""
    with pytest.raises(ValueError, match="acquire_timeout"):
        Lock(Pool(), "a", acquire_timeout=wrong)
    with pytest.raises(ValueError, match="acquire_timeout"):
        Proxy("a").lock(acquire_timeout=wrong)
    if not isinstance(wrong, list):
        with pytest.raises(ValueError, match="acquire_timeout"):
            Proxy("a", lock_acquire_timeout=wrong).acquire()
    assert not in_store()


@pytest.mark.parametrize("wrong", [0, -1, nan, inf, "5", True, None])
def test_a_wrong_lease_is_refused(wrong: Any) -> None:
    """A lease is a positive and finite number of seconds; all else raises ``ValueError``, and nothing is locked."""
    with pytest.raises(ValueError, match="lease"):
        Lock(Pool(), "a", expire_timeout=wrong)
    with pytest.raises(ValueError, match="lease"):
        Proxy("a", lock_expire_timeout=wrong).acquire()
    assert not in_store()


# Tokens


def test_tokens_increase_over_the_whole_tree(any_store: Store) -> None:
    """Each grant has a higher token than all earlier grants in the tree."""
    tokens = []
    with Somebody() as ben, Somebody() as cleo:
        for who, path in [(ben, "a"), (cleo, "a.b"), (ben, "x.y"), (ben, ""), (cleo, "a")]:
            lock = Lock(Pool(), path)
            who.does(lock.acquire)
            tokens.append(who.does(lambda lock=lock: lock.token))
            who.does(lock.release)
            assert who.does(lambda lock=lock: lock.token) is None
    assert all(isinstance(token, int) for token in tokens)
    assert tokens == sorted(set(tokens))


def test_a_reentrant_acquisition_has_the_same_token(any_store: Store) -> None:
    """Acquired again, a lock has the same token; a lock above it is another grant with a higher one."""
    with Lock(Pool(), "a.b") as lock:
        token = lock.token
        assert token is not None
        with Lock(Pool(), "a.b.c") as inner, Lock(Pool(), "a.b"):
            assert inner.token == token
        with Lock(Pool(), "a") as outer:
            assert outer.token is not None
            assert outer.token > token
        lock.extend()
        assert lock.token == token


def test_tokens_rise_even_when_the_store_lost_them(any_store: Store) -> None:
    """A store that lost all its data does not give out tokens that it gave out before."""
    with Lock(Pool(), "a") as lock:
        before = lock.token
    assert before is not None
    Pool().database().backend.execute(Transaction(writes=(Delete(TOKENS, Scope.NODE),)))
    end = time.time() + 0.02
    eventually(lambda: time.time() > end, "a few milliseconds have passed")
    with lock:
        assert lock.token is not None
        assert lock.token > before


# Odds and ends


def test_the_repr_of_a_lock_shows_path_and_mode() -> None:
    """The repr of a lock shows its path and mode; ``key`` is the dotted text."""
    assert repr(Lock(Pool(), "a.b")) == "<Lock 'a.b'>"
    assert repr(Lock(Pool(), "a.b", shared=True)) == "<shared Lock 'a.b'>"
    assert Lock(Proxy("x"), "a.b").key == "x.a.b"
    assert Lock(Pool(), "").key == ""
    assert Lock(Pool(), "a").all(Lock(Pool(), ["b.c"])).key == r"a, b\.c"


def test_a_proxys_lock_takes_its_timeouts(any_store: Store) -> None:
    """``Proxy.lock`` uses the two timeouts of the proxy unless others are given."""
    place = Proxy("a", lock_acquire_timeout=0, lock_expire_timeout=100)
    with Somebody() as ben, place.lock() as lock:
        (info,) = lock.holders()
        assert 90 < (info.until - info.since).total_seconds() < 110
        with pytest.raises(LockTimeout):
            ben.does(place.lock().acquire)
        with pytest.raises(LockTimeout, match="not free in time"):
            ben.does(place.lock(acquire_timeout=0.01).acquire)


def test_databases_have_separate_locks(any_store: Store) -> None:
    """Locks on one path in two databases of a store are independent, and each is released in its own."""
    any_store.reload(names={"cats": 1})
    with Somebody() as ben, Proxy("a"):
        assert ben.does(Proxy("a", db_name="cats").acquire, False)
        assert not ben.does(Proxy("a").acquire, False)
        with pytest.raises(NotHeld):
            Proxy("a", db_name="cats").release()
        ben.does(Proxy("a", db_name="cats").release)
    assert not in_store()


def test_a_concurrent_import_of_asyncio_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """While another thread imports asyncio, its module is incomplete; locks work all the same."""
    monkeypatch.setitem(sys.modules, "asyncio", types.ModuleType("asyncio"))
    with Proxy("a") as place:
        place.set("x", 1)


def test_many_locks_are_held_at_once(any_store: Store) -> None:
    """A thread may hold many locks, and ``holders`` of the root returns all of them."""
    locks = [Lock(Pool(), f"a.n{number}") for number in range(100)]
    for lock in locks:
        lock.acquire()
    assert len(root().lock().holders()) == 100
    with Somebody() as ben:
        assert not ben.does(try_lock, "a")
        assert ben.does(try_lock, "b")
    for lock in locks:
        lock.release()
    gone()


def test_acquiring_in_many_threads_leaves_nothing(any_store: Store) -> None:
    """Threads that acquire overlapping paths exclude each other, and leave nothing."""
    inside: dict[str, int] = {}
    guard = threading.Lock()

    def overlap(one: str, other: str) -> bool:
        first, second = [path.split(".") if path else [] for path in (one, other)]
        shorter = min(len(first), len(second))
        return first[:shorter] == second[:shorter]

    def work(paths: list[str]) -> None:
        me = threading.get_ident()
        for path in paths:
            with Lock(Pool(), path, acquire_timeout=None):
                with guard:
                    assert not [other for other, who in inside.items() if who != me and overlap(path, other)]
                    inside[path] = me
                with guard:
                    del inside[path]

    paths = ["a", "a.b", "x", "a.b.c", "", "a.c", "x.y"]
    turns: list[Callable[[], None]] = [partial(work, paths[n:] + paths[:n]) for n in range(4)]
    together(*turns)
    nothing_is_left()
