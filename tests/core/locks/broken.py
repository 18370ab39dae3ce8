"""Broken lock protocols, each with one fault that the explorer must find."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from redicts.core.driver import Pause, Steps
from redicts.core.locks import deadlocks, records
from redicts.core.locks.acquisition import Acquisition, Grant
from redicts.core.locks.records import HOLDERS, TOKENS, WAITERS, Request, scopes_above
from redicts.core.minitransaction import (
    VALUES,
    Add,
    Delete,
    Equals,
    Key,
    Notify,
    Put,
    Read,
    Scope,
    StartsWith,
    Transaction,
)
from redicts.core.store import TreeStore
from redicts.errors import Deadlock
from tests.core.locks.clients import FORMAT, Clock, Locks, Making, wall_clock
from tests.core.locks.explorer import real

Change = Callable[[Transaction], Transaction]


class LooksUpwards(TreeStore):
    """The shape of redicts 1.0: a lock is free if nobody holds it or what is above it. What is below is not looked at.

    It asks again and again, without a queue.
    """

    def acquire(
        self,
        request: Request,
        lease: int,
        timeout: float | None,
        own: Collection[Request] = (),
        reads: tuple[Read, ...] = (),
    ) -> Steps[Grant | None]:
        """Acquire a lock."""
        request.pending = True
        places = [place for path in request.paths for place in scopes_above(path, HOLDERS)]
        while True:
            checks = tuple([StartsWith(place, Scope.BELOW, request.compatible) for place in places])
            writes = tuple([Put(key, request.record, lease) for key in request.keys(HOLDERS)])
            outcome = yield Transaction(checks, (), (*writes, Add(TOKENS, 1)))
            if outcome.applied:
                return Grant(outcome.counters[0], 0.0)
            yield Pause(0.5)


def looking_upwards(clock: Clock) -> Locks:
    """Make the protocol of 1.0."""
    return LooksUpwards(FORMAT, clock=clock, wall_clock=wall_clock)


class Changed(TreeStore):
    """A protocol whose every transaction is changed on its way."""

    def __init__(self, clock: Clock, change: Change) -> None:
        super().__init__(FORMAT, clock=clock, wall_clock=wall_clock)
        self._change = change

    def acquire(
        self,
        request: Request,
        lease: int,
        timeout: float | None,
        own: Collection[Request] = (),
        reads: tuple[Read, ...] = (),
    ) -> Steps[Grant | None]:
        """Acquire a lock."""
        return _changed(super().acquire(request, lease, timeout, own, reads), self._change)

    def release(self, request: Request, last: Steps[None] | None = None) -> Steps[bool]:
        """Give a lock back."""
        return _changed(super().release(request, last), self._change)

    def withdraw(self, request: Request) -> Steps[None]:
        """Remove a request. Changed twice when it is a part of another operation, which must do no harm."""
        return _changed(super().withdraw(request), self._change)


def _changed(steps: Steps[Any], change: Change) -> Steps[Any]:
    try:
        step = next(steps)
        while True:
            try:
                outcome = yield change(step) if isinstance(step, Transaction) else step
            except GeneratorExit:
                raise
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as stop:
        return stop.value


def changed(change: Change) -> Making:
    """Return what makes a protocol whose transactions are changed."""

    def making(clock: Clock) -> Locks:
        return Changed(clock, change)

    making.__name__ = change.__name__  # which names the test
    return making


def _grants(transaction: Transaction) -> bool:
    return any(isinstance(write, Put) and write.key.space == HOLDERS for write in transaction.writes)


def without_holder_checks(transaction: Transaction) -> Transaction:
    """Claim what others hold."""
    kept = [check for check in transaction.checks if check.key.space != HOLDERS]
    return transaction._replace(checks=tuple(kept))


def without_ticket(transaction: Transaction) -> Transaction:
    """Claim though others came before."""
    kept = [
        check
        for check in transaction.checks
        if check.key.space != WAITERS or (isinstance(check, Equals) and check.entries)
    ]
    return transaction._replace(checks=tuple(kept)) if _grants(transaction) else transaction


def leaving_waiters(transaction: Transaction) -> Transaction:
    """Withdraw without removing the record of the waiter."""
    if _grants(transaction):
        return transaction
    kept = [write for write in transaction.writes if not (isinstance(write, Delete) and write.key.space == WAITERS)]
    return transaction._replace(writes=tuple(kept))


def leaving_holders(transaction: Transaction) -> Transaction:
    """Withdraw without removing the record of the holder, which a lost reply may have left."""
    spaces = {write.key.space for write in transaction.writes if isinstance(write, Delete)}
    if not spaces >= {HOLDERS, WAITERS}:
        return transaction
    kept = [write for write in transaction.writes if write.key.space != HOLDERS]
    return transaction._replace(writes=tuple(kept))


def releasing_by_path(transaction: Transaction) -> Transaction:
    """Remove the holder of the path."""
    return transaction._replace(
        writes=tuple(
            [
                Delete(Key(HOLDERS, write.key.path[:-1]), Scope.BELOW)
                if isinstance(write, Delete) and write.key.space == HOLDERS
                else write
                for write in transaction.writes
            ]
        )
    )


def waking_nobody(transaction: Transaction) -> Transaction:
    """Go without waking those who wait for that."""
    kept = [write for write in transaction.writes if not isinstance(write, Notify)]
    return transaction._replace(writes=tuple(kept))


def counting_down(transaction: Transaction) -> Transaction:
    """Give out smaller tokens to those who come later."""
    writes = [Add(write.key, -1) if isinstance(write, Add) else write for write in transaction.writes]
    return transaction._replace(writes=tuple(writes))


def for_ever(transaction: Transaction) -> Transaction:
    """Put waiters' records that never end."""
    writes = [
        write._replace(ttl=None) if isinstance(write, Put) and write.key.space == WAITERS else write
        for write in transaction.writes
    ]
    return transaction._replace(writes=tuple(writes))


def without_own_place(transaction: Transaction) -> Transaction:
    """Claim though the own place in the queue was lost."""
    kept = [check for check in transaction.checks if check.key.space != WAITERS or check.key.path[-2:-1] != ("!",)]
    return transaction._replace(checks=tuple(kept)) if _grants(transaction) else transaction


def _edits(transaction: Transaction) -> bool:
    return any(write.key.space == VALUES for write in transaction.writes)


def without_guards(transaction: Transaction) -> Transaction:
    """Write without looking whether the lock is still held, and what is stored."""
    return transaction._replace(checks=()) if _edits(transaction) else transaction


def in_part(transaction: Transaction) -> Transaction:
    """Write only one of the leaves that changed."""
    first = next((write for write in transaction.writes if write.key.space == VALUES), None)
    kept = [write for write in transaction.writes if write.key.space != VALUES or write is first]
    return transaction._replace(writes=tuple(kept))


class ReadsFirst(TreeStore):
    """Reads the value before it acquires the lock."""

    def acquire(
        self,
        request: Request,
        lease: int,
        timeout: float | None,
        own: Collection[Request] = (),
        reads: tuple[Read, ...] = (),
    ) -> Steps[Grant | None]:
        """Acquire a lock."""
        outcome = yield Transaction((), reads)
        grant = yield from super().acquire(request, lease, timeout, own, reads)
        return None if grant is None else grant._replace(answers=outcome.answers)


def reading_first(clock: Clock) -> Locks:
    """Make a protocol that reads before it acquires."""
    return ReadsFirst(FORMAT, clock=clock, wall_clock=wall_clock)


@contextmanager
def keeping_the_name() -> Iterator[Making]:
    """Come back under the old name after the place in the queue was lost."""
    with mock.patch.object(records.Request, "rename", return_value=None):
        yield real


@contextmanager
def without_bypass() -> Iterator[Making]:
    """Queue behind waiters that the own locks block."""
    with mock.patch.object(Acquisition, "_blocks", return_value=False):
        yield real


@contextmanager
def without_deadlocks() -> Iterator[Making]:
    """Look for no cycles."""

    def resolve(self: deadlocks.Waiting, blockers: object) -> Steps[list[str]]:
        yield from ()
        return []

    with mock.patch.object(deadlocks.Waiting, "resolve", resolve):
        yield real


@contextmanager
def impatient_with_deadlocks() -> Iterator[Making]:
    """Call it a deadlock as soon as somebody is in the way."""

    def resolve(self: deadlocks.Waiting, blockers: object) -> Steps[list[str]]:
        yield from ()
        raise Deadlock("perhaps")

    with mock.patch.object(deadlocks.Waiting, "resolve", resolve):
        yield real
