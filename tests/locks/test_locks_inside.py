"""Inspecting locks: their owners and waiters, and breaking them as an operator."""

from __future__ import annotations

import os
import socket
import threading
from datetime import datetime, timedelta, timezone

import pytest

from redicts import Lock, LockInfo, LockLost, LockTimeout, Pool, Proxy, root
from redicts.core.locks.records import HOLDERS
from redicts.core.minitransaction import Key, Put, Transaction
from tests.locks.locking import Somebody, gone, in_store, nothing_is_left, try_lock, waiting
from tests.support.stores import Store
from tests.support.waiting import TIMEOUT

SKEW = timedelta(seconds=5)
"""How long it may take until a lock that was acquired is looked at."""


def is_about(moment: datetime, expected: datetime) -> bool:
    """Tell whether a moment is not far from an expected one."""
    return abs(moment - expected) < SKEW


def test_holders_describes_a_held_lock(any_store: Store) -> None:
    """``holders`` returns path, mode, host, process, thread and times of a held lock."""
    with Somebody("anna") as anna:
        before = datetime.now(timezone.utc)
        anna.does(Lock(Pool(), "a.b", expire_timeout=60).acquire)
        (info,) = Lock(Pool(), "a.b").holders()
        assert isinstance(info, LockInfo)
        assert info.path == "a.b"
        assert not info.shared
        assert not info.waiting
        assert info.host == socket.gethostname()
        assert info.pid == os.getpid()
        assert info.thread == "anna_0"
        assert before - timedelta(seconds=0.001) <= info.since <= datetime.now(timezone.utc)
        assert is_about(info.until, before + timedelta(seconds=60))
        assert str(info) == f"exclusive lock on 'a.b': {socket.gethostname()}, process {os.getpid()}, anna_0"
        anna.does(Lock(Pool(), "a.b").release)
        assert Lock(Pool(), "a.b").holders() == []


def test_waiters_describes_a_waiter(any_store: Store) -> None:
    """``waiters`` returns the same of waiters, the earliest first."""
    with Somebody("anna") as anna, Somebody("ben") as ben:
        with Proxy("a"):
            first = anna.begins(Lock(Pool(), "a.b", shared=True).acquire)
            waiting(1)
            second = ben.begins(Lock(Pool(), "a").acquire)
            waiting(2)
            one, other = Lock(Pool(), "a.b").waiters()
            now = datetime.now(timezone.utc)
            assert [(each.path, each.shared, each.waiting, each.thread) for each in (one, other)] == [
                ("a.b", True, True, "anna_0"),
                ("a", False, True, "ben_0"),
            ]
            assert one.since <= other.since
            for each in (one, other):
                assert each.pid == os.getpid()
                assert is_about(each.since, now)
                assert now < each.until < now + timedelta(seconds=30)
        assert first.result(TIMEOUT)
        anna.does(Lock(Pool(), "a.b").release)
        assert second.result(TIMEOUT)
        assert Lock(Pool(), "a").waiters() == []
        ben.does(Lock(Pool(), "a").release)


def test_locks_above_and_below_are_returned(any_store: Store) -> None:
    """``holders`` of a path returns the locks on it, above it and below it, and no others."""
    with Somebody() as ben, Somebody() as cleo, Proxy("x"):
        ben.does(Lock(Pool(), "a", shared=True).acquire)
        cleo.does(Lock(Pool(), "a.b.c", shared=True).acquire)
        cleo.does(Lock(Pool(), ["a", "b.b"], shared=True).acquire)
        seen = {
            "": ["a", "a.b.c", r"a.b\.b", "x"],
            "a": ["a", "a.b.c", r"a.b\.b"],
            "a.b": ["a", "a.b.c"],
            "a.b.c.d": ["a", "a.b.c"],
            "a.c": ["a"],
            "b": [],
        }
        for path, expected in seen.items():
            assert sorted(info.path for info in Lock(Pool(), path).holders()) == sorted(expected), path
            assert sorted(info.path for info in Proxy(path).lock().holders()) == sorted(expected), path
        ben.does(Lock(Pool(), "a").release)
        for key in ("a.b.c", ["a", "b.b"]):
            cleo.does(Lock(Pool(), key).release)


def test_a_lock_on_the_root_has_the_empty_path(any_store: Store) -> None:
    """A lock on the root has the empty path, and its text says "the root"."""
    with root():
        (info,) = Lock(Pool(), "a").holders()
        assert info.path == ""
        assert "the root" in str(info)


def test_odd_names_of_threads_are_returned(any_store: Store) -> None:
    """The name of a thread is returned unchanged, whatever it is."""
    thread = threading.current_thread()
    usual = thread.name
    # The owner is named when it first locks something, so a new thread is needed for each name.
    for name in ("", " ", "a b:c", "ä\u4e2d\U0001f512", "line\nbreak", "!/" * 50):
        seen: list[LockInfo] = []

        def look(seen: list[LockInfo] = seen) -> None:
            with Proxy("a") as place:
                seen += place.lock().holders()

        runner = threading.Thread(target=look)
        runner.name = name
        runner.start()
        runner.join()
        (info,) = seen
        assert (info.thread, info.pid, info.path) == (name, os.getpid(), "a")
    assert thread.name == usual


def test_an_expired_lock_is_not_returned(any_store: Store) -> None:
    """An expired lock is neither returned nor broken."""
    with Lock(Pool(), "first"):  # the first lock of a store takes longer than the lease below
        pass
    lock = Lock(Pool(), "a", expire_timeout=0.3)
    lock.acquire()
    gone("a")
    assert lock.holders() == []
    assert lock.break_locks() == []
    lock.release()


def test_breaking_frees_at_once(any_store: Store) -> None:
    """``break_locks`` removes the locks on, above and below a path, returns them, and notifies waiters."""
    with Somebody("anna") as anna, Somebody("ben") as ben, Somebody("cleo") as cleo:
        anna.does(Lock(Pool(), "a.b").acquire)
        ben.does(Lock(Pool(), "a.c").acquire)
        ben.does(Lock(Pool(), "x").acquire)
        got = cleo.begins(Lock(Pool(), "a", acquire_timeout=None).acquire)
        waiting(1)
        broken = Lock(Pool(), "a").break_locks()
        assert sorted((info.path, info.thread, info.waiting) for info in broken) == [
            ("a.b", "anna_0", False),
            ("a.c", "ben_0", False),
        ]
        assert got.result(TIMEOUT)
        for who, path in [(anna, "a.b"), (ben, "a.c")]:
            with pytest.raises(LockLost):
                who.does(Proxy(path).set, "x", 1)
            who.does(Lock(Pool(), path).release)
        ben.does(Proxy("x").set, "y", 1)
        ben.does(Lock(Pool(), "x").release)
        cleo.does(Proxy("a").set, "x", 1)
        cleo.does(Lock(Pool(), "a").release)
    assert not in_store()


def test_breaking_includes_locks_above(any_store: Store) -> None:
    """A lock above a path conflicts with one on the path, so it is broken too."""
    with Somebody() as anna:
        anna.does(Proxy("a").acquire)
        (info,) = Lock(Pool(), "a.b.c").break_locks()
        assert info.path == "a"
        assert try_lock("a.b.c")
        anna.does(Proxy("a").release)


def test_breaking_nothing_is_no_error(any_store: Store) -> None:
    """Where nothing is locked, nothing is broken."""
    assert Lock(Pool(), "a").break_locks() == []
    assert root().lock().break_locks() == []


def test_ones_own_lock_can_be_broken(any_store: Store) -> None:
    """``break_locks`` also breaks the lock of the running thread."""
    Proxy("a").acquire()
    assert len(Proxy("a").lock().break_locks()) == 1
    with pytest.raises(LockLost):
        Proxy("a").set("x", 1)
    Proxy("a").release()


def test_waiters_after_a_break_are_served_in_order(any_store: Store) -> None:
    """After a break, waiters get the lock in their order."""
    order: list[int] = []
    crowd = [Somebody() for _ in range(3)]

    def take(number: int) -> None:
        with Proxy("a"):
            order.append(number)

    Proxy("a").acquire()
    begun = []
    for number, each in enumerate(crowd):
        begun.append(each.begins(take, number))
        waiting(number + 1)
    Lock(Pool(), "a").break_locks()
    for future in begun:
        future.result(TIMEOUT)
    for somebody in crowd:
        somebody.__exit__(None, None, None)
    Proxy("a").release()
    assert order == [0, 1, 2]
    nothing_is_left()


def test_foreign_records_are_returned_as_far_as_they_are_readable(any_store: Store) -> None:
    """Records that redicts did not write are returned as far as they can be parsed, and raise no error."""
    with Proxy("a"):
        (record,) = in_store()["h"].values()
    values = [
        b"",
        b"X",
        b"Xowner",
        b"Xowner never - \xff\xfe",
        b"\xff" * 9,
        record.replace(b" ", b"  "),
        record[:-9],
        record,
    ]
    values += [b" ".join([b"9" * 400 if part.isdigit() else part for part in record.split(b" ")])]
    paths = [("/a", "!", f"request{number}") for number in range(len(values))]
    writes = [Put(Key(HOLDERS, path), value, 60_000) for path, value in zip(paths, values)]
    writes += [
        Put(Key(HOLDERS, path), record, 60_000)
        for path in [("/a", "no end"), ("no slash", "!", "x"), ("!",), ("!", "y")]
    ]
    Pool().database().backend.execute(Transaction(writes=tuple(writes)))
    for path in ("a", "", "a.b"):
        found = Lock(Pool(), path).holders()
        assert len(found) >= 1
        assert all(str(info) and info.since and info.until for info in found)
        assert Lock(Pool(), path).is_locked()
    with pytest.raises(LockTimeout):
        Lock(Pool(), "a", acquire_timeout=0.05).acquire()
    assert Lock(Pool(), "a").break_locks()
