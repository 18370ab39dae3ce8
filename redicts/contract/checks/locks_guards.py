"""Guarded writes: a write that goes along with "this lock is still mine" is made just if that is so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final

from redicts.contract.check import Need, conformance_check, require, require_equal
from redicts.contract.fixture import SHORT, Fixture
from redicts.contract.locking import Locker, lockers
from redicts.core.driver import Steps
from redicts.core.locks.records import Request
from redicts.core.minitransaction import Path
from redicts.core.store import TreeStore

_BEFORE: Final[Mapping[str, object]] = {"leaf": "old", "count": 5, "dict": {"x": 1, "y": {"z": 2}}}

_CHANGES: Final[Mapping[str, tuple[Callable[[TreeStore], Steps[object]], Mapping[str, object]]]] = {
    "write": (lambda tree: tree.write(("d", "leaf"), "new"), {**_BEFORE, "leaf": "new"}),
    "write over a dict": (lambda tree: tree.write(("d", "dict"), {"w": 3}), {**_BEFORE, "dict": {"w": 3}}),
    "write above": (lambda tree: tree.write(("d",), {"new": 1}), {"new": 1}),
    "merge": (lambda tree: tree.merge(("d",), {"leaf": "new"}), {**_BEFORE, "leaf": "new"}),
    "add": (lambda tree: tree.add(("d", "count"), 2), {**_BEFORE, "count": 7}),
    "delete": (lambda tree: tree.delete(("d", "dict", "y")), {**_BEFORE, "dict": {"x": 1}}),
    "change": (lambda tree: tree.change(("d", "count"), lambda old: old * 2), {**_BEFORE, "count": 10}),
    "take": (lambda tree: tree.take(("d", "leaf")), {"count": 5, "dict": {"x": 1, "y": {"z": 2}}}),
    "compare and set": (lambda tree: tree.compare_and_set(("d", "leaf"), "old", 1), {**_BEFORE, "leaf": 1}),
    "expire": (lambda tree: tree.expire(("d",), SHORT), _BEFORE),
}
"""What is done to the tree at ``d``, and what is there then."""


@conformance_check(needs=[Need.TTL])
def a_write_under_a_held_lock_is_made(fixture: Fixture) -> None:
    """Every kind of write goes through while its lock is held: in the locked place, above, below, shared or not."""
    me, other = lockers(fixture, 2)
    for shared in (False, True):
        for path in (("d", "leaf"), ("d",), ()):
            beside = (other if shared else me).take(path, shared=shared)
            lock = me.take(path, ("elsewhere",), shared=shared)
            for what, (change, after) in _CHANGES.items():
                require(me.write(lock, ("d",), dict(_BEFORE)), "a write is refused though its lock is held")
                require(me.change(lock, change), f"{what!r} is refused though its lock is held")
                if what != "expire":
                    require_equal(me.value(("d",)), after, f"after {what!r} under a lock, there is")
            me.release(lock)
            (other if shared else me).release(beside)


@conformance_check(needs=[Need.TTL])
def a_write_after_the_lease_is_refused(fixture: Fixture) -> None:
    """When the lease is over, no kind of write is made, be the place free or locked by another owner."""
    for taken in (False, True):
        me, other = lockers(fixture, 2)
        before = other.take(("d",))
        require(other.write(before, ("d",), dict(_BEFORE)), "a write is refused though its lock is held")
        other.release(before)
        ended = [me.take(("d",), lease=SHORT)]
        fixture.outlive()
        if taken:
            other.take(("d",))
        else:
            ended.append(me.take(("d",), ("e",), lease=SHORT))
            fixture.outlive()
        for lock in ended:
            _nothing_is_written(me, lock, "whose lease is over")


@conformance_check(needs=[Need.TTL])
def a_write_under_a_lost_lock_is_refused(fixture: Fixture) -> None:
    """When a lock was broken or given back, even in one of its places, no write is made, and others' data stay."""
    me, other = lockers(fixture, 2)
    for broken in (("d",), ("e",), ()):
        lock = me.take(("d",), ("e", "f"))
        require(me.write(lock, ("d",), 1), "a write is refused though its lock is held")
        other.break_locks(broken)
        theirs = other.take(broken or ("d",), ("g",))
        require(other.write(theirs, ("d",), dict(_BEFORE)), "a write is refused though its lock is held")
        _nothing_is_written(me, lock, f"that was broken at {broken!r}")
        require_equal(other.held() >= {theirs.name}, True, "the next holder holds its lock")
        other.release(theirs)
        me.release(lock)
        _nothing_is_written(me, lock, "that was given back")


@conformance_check(needs=[Need.TTL])
def no_write_slips_in_after_a_lock_was_broken(fixture: Fixture) -> None:
    """Once a lock was broken, not even a write that was under way then is made: what others write after that stays."""
    path: Path = ("d", "value")
    for _ in range(60 if fixture.thorough else 8):
        me, other = lockers(fixture, 2)
        lock, begun = me.take(("d",)), threading.Event()

        def write(me: Locker = me, lock: Request = lock, begun: threading.Event = begun) -> None:
            number = 0
            while me.write(lock, path, number):
                begun.set()
                number += 1

        def break_in(other: Locker = other, begun: threading.Event = begun) -> None:
            require(begun.wait(fixture.timeout), "a write is refused though its lock is held")
            other.break_locks(("d",))
            other.tell(path, "theirs")

        fixture.together([write, break_in])
        require_equal(other.value(path), "theirs", "after a lock was broken, and another owner wrote, there is")


def _nothing_is_written(me: Locker, lock: Request, why: str) -> None:
    before = me.value(("d",))
    for what, (change, _) in _CHANGES.items():
        require(not me.change(lock, change), f"{what!r} is made under a lock {why}")
        require_equal(me.value(("d",)), before, f"after {what!r} was refused, there is")
