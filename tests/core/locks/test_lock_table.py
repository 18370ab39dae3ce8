"""The lock table compared with a model: after any actions of owners, the store has the locks of the model.

The model is the specification. It has the held locks with their leases, and the waiters in their order, but no records,
transactions or notifications.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.strategies import DataObject

from redicts.core.locks.acquisition import Grant
from redicts.core.locks.records import TOKENS, Mode, Request, scopes_of
from redicts.core.minitransaction import Delete, Path, Scope, Transaction
from redicts.errors import Deadlock, LockTimeout
from tests.core.locks.simulation import TIMING, Actor, S, Simulation, X

LONG: Final = os.environ.get("REDICTS_TESTS") == "long"

OWNERS: Final = ("here.1", "here.2", "there.1", "there.2")
ODD_SEGMENTS: Final = ("a", "b", "!", "/a", "/", ".", "*", " ", "\x00", "\ud800", "\udc00", "\u00e9", "a.b", "0")
LEASES: Final = (30_000, 30_000, 30_000, 3_000, 400)
TIMES: Final = (1.0, 2.5, 2.5, 0.05, 0.4, TIMING.waiter_ttl, 31.0)
SOON: Final = 0.003
"""Seconds by which a client that waits for a time looks too late, so that the time is over."""


@dataclass(eq=False, repr=False)
class Lock:
    """A lock that is held, or waited for."""

    request: Request
    owner: str
    mode: Mode
    paths: tuple[Path, ...]
    lease: int
    deadline: float
    until: float = 0.0
    ahead: list[Lock] = field(default_factory=list)
    """The ticket of a waiter: those who waited before and are in the way."""
    passable: set[str] = field(default_factory=set)
    """Those of the ticket who were seen to wait, directly or not, for this lock's owner."""
    excused: float = 0.0
    """Until when it need not know that something is no longer in the way: leases run out without a sound."""
    cycle: tuple[float, list[str]] | None = None
    """Since when it is the last that came in a cycle of owners who hold what the next one wants."""

    def __repr__(self) -> str:
        return f"{self.request.name}: {self.mode.value} of {self.owner} on {self.paths}, {self.lease} ms"

    def conflicts(self, other: Lock) -> bool:
        """Two conflict if owners differ, not both are shared, and one path is a prefix of the other."""
        return (
            self.owner != other.owner
            and not (self.mode is S and other.mode is S)
            and any(one[: len(two)] == two[: len(one)] for one in self.paths for two in other.paths)
        )


class Table:
    """The locks that are held, and the requests that wait, in their order."""

    def __init__(self) -> None:
        self.held: list[Lock] = []
        self.queue: list[Lock] = []
        self.displaced: list[Lock] = []
        """Those who want to wait, and have lost their place and do not know it yet."""

    def holders_before(self, lock: Lock) -> list[Lock]:
        return [held for held in self.held if held.conflicts(lock)]

    def ticket(self, lock: Lock) -> list[Lock]:
        """Return who is to go before a newcomer: who came before, unless held up by what the newcomer holds."""
        own = [held for held in self.held if held.owner == lock.owner]
        return [
            waiter
            for waiter in self.queue
            if waiter.conflicts(lock) and not any(held.conflicts(waiter) for held in own)
        ]

    def waiters_before(self, lock: Lock) -> list[Lock]:
        return [waiter for waiter in lock.ahead if waiter in self.queue]

    def is_free(self, lock: Lock) -> bool:
        """Tell whether a newcomer gets the lock at once."""
        return not self.holders_before(lock) and not self.ticket(lock)

    def is_due(self, lock: Lock) -> bool:
        """Tell whether it is a waiter's turn."""
        return not self.holders_before(lock) and not self.waiters_before(lock)

    def enqueue(self, lock: Lock) -> None:
        self.remove(lock)
        lock.ahead = self.ticket(lock)
        lock.passable.clear()
        self.queue.append(lock)

    def remove(self, lock: Lock) -> None:
        for locks in (self.held, self.queue, self.displaced):
            if lock in locks:
                locks.remove(lock)

    def pass_time(self, now: float, asleep: Iterable[Lock]) -> None:
        """Drop what has run out. The place of a waiter that is awake never does, for it renews it."""
        for lock in [*self.held, *asleep]:
            if lock.until <= now and (lock in self.held or lock in self.queue):
                waits = lock in self.queue
                self.remove(lock)
                if waits:
                    self.displaced.append(lock)
                for waiter in self.queue:
                    if lock.conflicts(waiter):
                        waiter.excused = max(waiter.excused, lock.until + TIMING.heartbeat + SOON)

    def cycle(self, last: Lock, among: list[Lock], *, hard: bool) -> list[str] | None:
        """Return owners from this lock's to itself, each waiting for the next, by way of waiters among those given."""
        ways = [[last]]
        seen = {last.owner}
        for way in ways:
            in_the_way = self.holders_before(way[-1])
            if not hard:
                in_the_way = in_the_way + self.waiters_before(way[-1])
            for owner in [lock.owner for lock in in_the_way]:
                if owner == last.owner:
                    return [lock.owner for lock in way]
                for waiter in among:
                    if waiter.owner == owner and owner not in seen:
                        seen.add(owner)
                        ways.append([*way, waiter])
        return None

    def note_passable(self) -> None:
        """Note who of each ticket could not go on before the one who has the ticket does."""
        waiting = [*self.queue, *self.displaced]
        for lock in self.queue:
            for waiter in self.waiters_before(lock):
                if waiter.request.name not in lock.passable and self._reaches(waiter, lock.owner, waiting):
                    lock.passable.add(waiter.request.name)

    def _reaches(self, first: Lock, owner: str, among: list[Lock]) -> bool:
        ways = [first]
        for lock in ways:
            owners = {other.owner for other in self.holders_before(lock) + self.waiters_before(lock)}
            if owner in owners:
                return True
            ways += [other for other in among if other.owner in owners and other not in ways]
        return False


@dataclass(eq=False, repr=False)
class Waiter:
    """Somebody who acquires a lock, and what the model calls it."""

    actor: Actor[Grant | None]
    lock: Lock
    name: str

    def __repr__(self) -> str:
        return repr(self.lock)


class LockTable(RuleBasedStateMachine):
    """Owners of two processes do what they like, on one store."""

    def __init__(self) -> None:
        super().__init__()
        self.simulation = Simulation()
        self.simulation.watch = self.watch
        self.table = Table()
        self.waiters: list[Waiter] = []
        self.dead: list[Lock] = []
        """Waiters whose process died."""
        self.all: list[Lock] = []
        self.last_token = 0
        self.segments: list[str] = []

    @property
    def now(self) -> float:
        return self.simulation.clock()

    @initialize(segments=st.lists(st.sampled_from(ODD_SEGMENTS), min_size=2, max_size=2, unique=True))
    def choose_segments(self, segments: list[str]) -> None:
        """Few names, so that paths meet."""
        self.segments = segments

    # What owners do

    def draw_path(self, data: DataObject) -> Path:
        """Return a path, most often one near what is held or waited for, or what is held by who waits."""
        waiting = {waiter.lock.owner for waiter in self.waiters}
        held_by_waiting = [lock for lock in self.table.held if lock.owner in waiting]
        locks = held_by_waiting or [*self.table.held, *self.table.queue]
        path = data.draw(st.sampled_from([*(path for lock in locks for path in lock.paths), ()]), "near")
        depth = data.draw(st.sampled_from([2, 1, 2, 3, 0]), "depth")
        more = data.draw(st.lists(st.sampled_from(self.segments), min_size=3, max_size=3), "more")
        return (*path, *more)[:depth]

    def own(self, lock: Lock) -> list[Request]:
        return [held.request for held in self.table.held if held.owner == lock.owner]

    @property
    def idle(self) -> list[str]:
        """The owners who live and do not wait."""
        busy = {lock.owner for lock in [*(waiter.lock for waiter in self.waiters), *self.dead]}
        return [owner for owner in OWNERS if owner not in busy]

    @precondition(lambda self: self.idle)
    @rule(data=st.data(), timeout=st.sampled_from([None, None, 0, 20.0, 3.0, 0.3]))
    def acquire(self, data: DataObject, timeout: float | None) -> None:
        """Acquire a lock: it is granted at once exactly if nothing in the way is held and nobody in the way waits.

        If not, who has no timeout gets none, and who has queues.
        """
        owners = [held.owner for held in self.table.held if held.owner in self.idle]
        owner = data.draw(st.sampled_from([*self.idle, *owners]), "owner")
        paths = [self.draw_path(data) for _ in range(data.draw(st.sampled_from([1, 1, 1, 2, 3]), "how many"))]
        mode = data.draw(st.sampled_from([X, X, S]), "mode")
        lease = data.draw(st.sampled_from(LEASES), "lease")
        request = self.simulation.request(owner, *paths, mode=mode)
        deadline = float("inf") if timeout is None else self.now + timeout
        lock = Lock(request, owner, mode, request.paths, lease, deadline)
        self.all.append(lock)
        free = self.table.is_free(lock)
        actor = self.simulation.start(request, timeout, self.own(lock), lease)
        assert actor.done == (free or timeout == 0)
        assert request.pending == (free or timeout != 0)
        if free:
            self.granted(lock, actor)
        elif timeout == 0:
            assert actor.outcome() is None
        else:
            self.table.enqueue(lock)
            self.waiters.append(Waiter(actor, lock, request.name))

    also_acquire = acquire

    @precondition(lambda self: self.table.held)
    @rule(data=st.data())
    def release(self, data: DataObject) -> None:
        """Give a lock back; whether it was held is told."""
        granted = [lock for lock in self.all if lock.request.pending and lock.owner in self.idle]
        if granted:
            lock = data.draw(st.sampled_from(granted), "lock")
            assert self.simulation.do(self.simulation.protocol.release(lock.request)) == (lock in self.table.held)
            assert not lock.request.pending
            self.gone(lock)

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def renew(self, data: DataObject) -> None:
        """Leases begin again; what is not held, or only waited for, is not brought back."""
        locks = data.draw(st.lists(st.sampled_from(self.all), max_size=4, unique_by=id), "locks")
        leases = [(lock, data.draw(st.sampled_from(LEASES), "lease")) for lock in locks]
        told = self.simulation.do(self.simulation.protocol.renew([(lock.request, lease) for lock, lease in leases]))
        assert told == [lock in self.table.held for lock in locks]
        for lock, lease in leases:
            lock.until = self.now + lease / 1000 if lock in self.table.held else lock.until

    @precondition(lambda self: self.all)
    @rule(data=st.data(), kind=st.sampled_from(["stop", "go on", "break", "interrupt", "die", "withdraw"]))
    def mishap(self, data: DataObject, kind: str) -> None:
        """Something goes wrong with a lock, or with who waits for one."""
        stopped = [waiter for waiter in self.waiters if waiter.actor.stopped]
        awake = [waiter for waiter in self.waiters if not waiter.actor.stopped]
        waiting = [waiter.lock for waiter in self.waiters]
        if kind == "break" and (locks := [*self.table.held, *self.table.queue]):
            self.break_locks(data.draw(st.sampled_from(locks), "lock"))
        elif kind == "withdraw" and (locks := [lock for lock in self.all if lock not in waiting]):
            lock = data.draw(st.sampled_from(locks), "lock")
            self.simulation.do(self.simulation.protocol.withdraw(lock.request))
            self.gone(lock)
        elif kind == "go on" and stopped:
            data.draw(st.sampled_from(stopped), "who").actor.stopped = False
            self.simulation.settle()
        elif awake and kind in {"stop", "die", "interrupt"}:
            waiter = data.draw(st.sampled_from(awake), "who")
            if kind == "interrupt":
                self.interrupt(waiter)
            else:
                self.fall_asleep(waiter, dead=kind == "die")

    def break_locks(self, lock: Lock) -> None:
        """Remove a lock, or somebody's place in the queue, as an operator does."""
        records = [record for space in "hw" for record in self.simulation.records(space)]
        of_lock = [record for record in records if record.request == lock.request.name]
        self.simulation.do(self.simulation.protocol.break_locks(of_lock))
        waits = lock in self.table.queue
        self.table.remove(lock)
        if waits:
            self.table.displaced.append(lock)
        self.simulation.settle()

    def interrupt(self, waiter: Waiter) -> None:
        """Interrupt a waiter: it withdraws, and raises what interrupted it."""
        waiter.actor.throw(KeyboardInterrupt())
        waiter.actor.run()
        assert isinstance(waiter.actor.error, KeyboardInterrupt)
        assert not waiter.lock.request.pending
        self.waiters.remove(waiter)
        self.gone(waiter.lock)

    def fall_asleep(self, waiter: Waiter, *, dead: bool) -> None:
        """Let a process stand still, or die: it is in the way until its place runs out."""
        lock = waiter.lock
        if lock in self.table.queue:
            lock.until = self.now + min(self.ttls("w", lock)) / 1000
        waiter.actor.stopped = True
        if dead:
            waiter.actor.abandon()
            self.waiters.remove(waiter)
            self.dead.append(lock)

    @rule(seconds=st.sampled_from(TIMES))
    def advance(self, seconds: float) -> None:
        """Time passes; who is awake does what is due."""
        self.simulation.advance(seconds)

    @precondition(lambda self: self.last_token)
    @rule()
    def lose_the_counter(self) -> None:
        """Lose the counter of tokens."""
        self.simulation.advance(0.01)
        self.simulation.backend.execute(Transaction(writes=(Delete(TOKENS, Scope.NODE),)))

    # What becomes of it

    def granted(self, lock: Lock, actor: Actor[Grant | None]) -> None:
        grant = actor.outcome()
        assert grant is not None
        assert grant.token > self.last_token, "tokens rise in the order of grants"
        assert grant.since == self.now
        self.last_token = grant.token
        assert not self.table.holders_before(lock), "what conflicts is not held together"
        self.table.remove(lock)
        lock.until = self.now + lock.lease / 1000
        self.table.held.append(lock)

    def gone(self, lock: Lock) -> None:
        self.table.remove(lock)
        if lock in self.dead:
            self.dead.remove(lock)
        self.simulation.settle()

    def watch(self) -> None:
        """Follow what the actors have done, and tell whether they might."""
        asleep = [waiter.lock for waiter in self.waiters if waiter.actor.stopped]
        self.table.pass_time(self.now, [*asleep, *self.dead])
        for waiter in list(self.waiters):
            lock, actor = waiter.lock, waiter.actor
            if waiter.name != lock.request.name:
                assert lock in self.table.displaced, "a place is given up only if it was lost"
                waiter.name = lock.request.name
                self.table.enqueue(lock)
        self.table.note_passable()
        for waiter in list(self.waiters):
            lock, actor = waiter.lock, waiter.actor
            if not actor.done:
                continue
            self.waiters.remove(waiter)
            if actor.error is None:
                overtaken = {other.request.name for other in self.table.waiters_before(lock)}
                assert lock in self.table.queue, "only who has a place is granted a lock"
                assert overtaken <= lock.passable, "nobody is overtaken but who could not go on before"
                self.granted(lock, actor)
                continue
            if isinstance(actor.error, LockTimeout):
                assert self.now >= lock.deadline, "nobody gives up before its time"
            elif isinstance(actor.error, Deadlock):
                earlier = [
                    other
                    for other in [*self.table.queue, *self.table.displaced]
                    if other.request.since < lock.request.since
                ]
                assert self.table.cycle(lock, earlier, hard=True), "who gives way is the last of a cycle"
            else:
                raise actor.error
            assert not lock.request.pending
            self.table.remove(lock)

    # What must hold after each of these

    def ttls(self, space: str, lock: Lock) -> list[int]:
        return [record.ttl or 0 for record in self.simulation.records(space) if record.request == lock.request.name]

    @invariant()
    def the_store_holds_what_the_model_says(self) -> None:
        """Exactly what the model holds is held, so long; exactly who waits there waits."""
        for space, locks in (("h", self.table.held), ("w", self.table.queue)):
            found = [
                (record.owner, record.mode, record.request, record.path) for record in self.simulation.records(space)
            ]
            wanted = [
                (lock.request.owner.name, lock.mode, lock.request.name, path)
                for lock in locks
                for path in lock.request.paths
            ]
            assert sorted(found, key=repr) == sorted(wanted, key=repr)
        for lock in self.table.held:
            for ttl in self.ttls("h", lock):
                assert ttl == pytest.approx((lock.until - self.now) * 1000, abs=1.1)

    @invariant()
    def nobody_waits_without_a_reason(self) -> None:
        """Each waiter has its place, waits no longer than it wants to, and not at all if nothing is in the way."""
        for waiter in self.waiters:
            lock = waiter.lock
            if waiter.actor.stopped:
                continue
            assert self.now <= lock.deadline + SOON
            if lock in self.table.queue:
                assert min(self.ttls("w", lock)) >= (TIMING.waiter_ttl - TIMING.heartbeat - SOON) * 1000
                assert not self.table.is_due(lock) or self.now <= lock.excused

    @invariant()
    def no_circle_lasts(self) -> None:
        """Of a cycle of owners who hold what the next one wants, the one who came last soon loses its request."""
        awake = [waiter.lock for waiter in self.waiters if not waiter.actor.stopped]
        for lock in awake:
            earlier = [other for other in awake if other.request.since < lock.request.since]
            cycle = self.table.cycle(lock, earlier, hard=True)
            if cycle is None or lock not in self.table.queue:
                lock.cycle = None
            elif lock.cycle is None or lock.cycle[1] != cycle:
                lock.cycle = (self.now, cycle)
            assert (
                lock.cycle is None or self.now - lock.cycle[0] <= TIMING.first_heartbeat + 2 * TIMING.heartbeat + SOON
            )

    @invariant()
    def what_is_written_beside_lasts_for_seconds(self) -> None:
        """Only who waits, or died waiting, has written down what for; lists of whom to wake are short-lived."""
        waiting = {lock.request.owner.name for lock in [*(waiter.lock for waiter in self.waiters), *self.dead]}
        edges = self.simulation.entries("d")
        assert {path[0] for path in edges.values} <= waiting
        for entries in (edges, self.simulation.entries("n")):
            assert set(entries.ttls) == set(entries.values)
            assert all(ttl <= TIMING.waiter_ttl * 1000 for ttl in entries.ttls.values())

    @rule(data=st.data())
    def look(self, data: DataObject) -> None:
        """Query a path: each lock above, at and below it is returned, and no other."""
        path: Path = tuple(data.draw(st.lists(st.sampled_from(self.segments), max_size=4), "path"))
        for space, locks in (("h", self.table.held), ("w", self.table.queue)):
            found = self.simulation.do(self.simulation.protocol.find_locks(scopes_of(path, space)))
            wanted = {
                (lock.request.name, held)
                for lock in locks
                for held in lock.request.paths
                if held[: len(path)] == path[: len(held)]
            }
            assert {(record.request, record.path) for record in found} == wanted
            assert len(found) == len(wanted)
            assert all(record.ttl is not None for record in found)

    def teardown(self) -> None:
        """When everything is withdrawn, nothing is left but the counter and, for a moment, notification records."""
        for waiter in self.waiters:
            waiter.actor.abandon()
        self.waiters.clear()
        for lock in self.all:
            self.simulation.do(self.simulation.protocol.withdraw(lock.request))
        assert set(self.simulation.left()) <= {"n"}
        self.simulation.clock.advance(TIMING.waiter_ttl)
        assert not self.simulation.left()
        assert set(self.simulation.entries("f").values) <= {("token",)}


TestLockTable = LockTable.TestCase
TestLockTable.settings = hypothesis.settings(
    max_examples=2_000 if LONG else 100,
    stateful_step_count=50 if LONG else 30,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
