"""Acquires one lock: at once if it is free, otherwise by queueing, waiting for notifications and trying again.

*Mutual exclusion* depends on one rule: the transaction that writes the record of a held lock also checks that no
conflicting lock is held. Every other fault (a lost reply, a stale read, a late notification) only costs time.

*Order*: a request that is not granted at once writes the record of a waiter, and reads the earlier conflicting waiters
in the same transaction. This list is its ticket. The request is granted after all of them have left the queue. A later
request finds its record and queues behind it. A waiter that is blocked by a lock of the same owner is not on the
ticket: waiting for it would be a deadlock (PostgreSQL's lock manager has the same rule).

*Notification*: a waiter registers with one of its blockers, the latest. The transaction that removes this blocker
notifies the registered waiters. So a release notifies the next in line and no other (as in ZooKeeper's lock recipe,
where each waiter watches its predecessor). A lost notification costs one interval of :class:`Timing`.

*Leftovers* of a crash expire: the record of a held lock with its lease, that of a waiter after a few seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from redicts.core.driver import Await, Listen, Pause, Steps
from redicts.core.locks.deadlocks import Waiting
from redicts.core.locks.operations import LockOperations, notify
from redicts.core.locks.records import (
    HOLDERS,
    LISTENERS,
    PAGE,
    TOKENS,
    WAITERS,
    WAITING_FOR,
    Record,
    Request,
    reads_of,
    records_in,
    scopes_of,
)
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Answer,
    Check,
    Delete,
    Entries,
    Equals,
    Expire,
    Key,
    Outcome,
    Path,
    Put,
    Read,
    Scope,
    StartsWith,
    Status,
    Transaction,
    Write,
    canonical_counter,
)
from redicts.core.paths import all_described
from redicts.core.sections import refuse_several
from redicts.errors import CorruptData, LockLost, LockTimeout, StoreError, Unsupported
from redicts.randomness import RANDOM

_MOST_CHECKED: Final = 32
"""The maximum number of earlier waiters that one attempt checks. With more of them, there is no attempt."""

_MOST_READ: Final = 200
"""The maximum number of earlier waiters that one refresh reads, the latest first."""

_MOST_READ_AT_A_HEARTBEAT: Final = 4
"""The same at a heartbeat, where the latest one most likely still waits."""

_FRUITLESS: Final = 100
"""The maximum number of consecutive attempts that fail although no blocker is found."""

_MARGIN_SECS: Final = 0.002
"""The delay after the end of a record's TTL before it is read again: remaining TTLs are whole milliseconds."""

_CLOCK_BITS: Final = 8
"""The first fencing token of a tree is the time in milliseconds, shifted left by so many bits."""

FIRST_TOKEN: Final = 2**40
"""The lowest fencing token. A counter below it is new, and is first set to the time."""

_ATTEMPTS: Final = 1_000
"""The maximum number of attempts to set it under contention."""

_COUNT: Final = Add(TOKENS, 1)
_APPLIED: Final = Status.APPLIED  # some versions of Python look up the member of an Enum in Python, each time


class Timing(NamedTuple):
    """The intervals of a lock waiter, in seconds."""

    waiter_ttl: float = 6.0
    """The TTL of a waiter's record: how long a crashed waiter blocks later waiters."""
    heartbeat: float = 2.0
    """The interval at which a waiter renews its record and checks for missed notifications."""
    first_heartbeat: float = 1.0
    """The time of the first heartbeat, when the search for deadlocks begins."""


class Grant(NamedTuple):
    """A granted lock: its fencing token, and a time before the grant by the clock of this process.

    The next ``spare`` tokens are reserved for it, if the request wanted them and had to wait. ``answers`` are those to
    the reads of the transaction that granted it.
    """

    token: int
    since: float
    spare: int = 0
    answers: tuple[Answer, ...] = ()


class AcquireOperations(LockOperations):
    """All operations on locks, acquiring among them: one half of :class:`redicts.core.store.TreeStore`.

    ``TreeStore`` documents the arguments.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        timing: Timing = Timing(),  # noqa: B008  (it is immutable)
        *,
        sharded: bool = False,
    ) -> None:
        super().__init__(sharded=sharded)
        self.clock = clock
        self.wall_clock = wall_clock
        self.timing = timing

    def acquire(
        self,
        request: Request,
        lease: int,
        timeout: float | None,
        own: Collection[Request] = (),
        reads: tuple[Read, ...] = (),
    ) -> Steps[Grant | None]:
        """Acquire a lock for ``lease`` milliseconds, waiting at most ``timeout`` seconds, ``None`` without limit.

        With a timeout of 0 it returns ``None`` if the lock is not free. ``own`` are the locks that the owner holds.
        The transaction that grants the lock carries out ``reads``, which must be limited to a page each.
        Raises :class:`~redicts.errors.LockTimeout` and :class:`~redicts.errors.Deadlock`. Without a grant, nothing is
        left in the store, or ``request.pending`` stays true and :meth:`withdraw` must be called later.

        One transaction if the lock is free. Otherwise three before waiting, and one after a notification. With a
        timeout of 0 and locks of its own, two more, to pass the waiters that these locks block.
        """
        if self.sharded:
            refuse_several(request.paths)
        request.pending = True
        grant: Grant | None = None
        queued: Acquisition | None = None
        try:
            deadline = None if timeout is None else self.clock() + timeout
            checks = _free_or_compatible(request.paths, request.compatible)
            grant, too_large = yield from _attempt(request, lease, self.clock, checks, reads)
            if grant is None and (timeout != 0 or own or too_large):
                queued = Acquisition(request, lease, own, deadline, self.clock, self.timing, reads)
                if timeout != 0:
                    yield Listen(request.listener)
                    grant = yield from queued.in_order()
                else:
                    grant = yield from queued.past_blocked_waiters()
            if grant is None:
                request.pending = False
            elif grant.token < FIRST_TOKEN:
                token = yield from self._token(grant.token, request)
                return Grant(token, grant.since, 0, grant.answers)
            return grant
        except GeneratorExit:
            raise
        except BaseException as error:
            is_written = grant is not None or (queued is not None and queued.written)
            if isinstance(error, StoreError) and not error.maybe_applied and not is_written:
                request.pending = False
            else:
                yield from self._withdraw_after(error, request)
            raise

    def _withdraw_after(self, error: BaseException, request: Request) -> Steps[None]:
        try:
            yield from self.withdraw(request)
        except StoreError:
            # The first error is the cause; ``request.pending`` tells the caller to withdraw again.
            raise error from None

    def _token(self, counted: int, request: Request) -> Steps[int]:
        """Return the fencing token for a grant; set a new counter to the time first.

        Tokens must increase even if the store loses its data, because the resources that they guard keep theirs. So a
        new counter is set to the time, while the request holds its lock: until the release, no conflicting lock has a
        later token.
        """
        mine = Equals(request.keys(HOLDERS)[0], Scope.NODE, {(): request.record})
        for _ in range(_ATTEMPTS):
            if counted >= FIRST_TOKEN:
                return counted
            start = int(self.wall_clock() * 1000) << _CLOCK_BITS
            unchanged = Equals(TOKENS, Scope.NODE, {(): b"%d" % counted})
            outcome = yield Transaction((mine, unchanged), (Read(TOKENS),), (Put(TOKENS, b"%d" % start),))
            if outcome.applied:
                return start
            counted = canonical_counter(outcome.answers[0].values.get((), b"0")) or 0
            if outcome.failed_index and counted >= FIRST_TOKEN:
                outcome = yield Transaction((mine,), (), (Add(TOKENS, 1),))
                counted = outcome.counters[0] if outcome.applied else counted
            if not outcome.failed_index and not outcome.applied:
                raise LockLost("the lease ran out, or the lock was broken, before it was granted; acquire it again")
        raise CorruptData(
            "the counter of fencing tokens does not keep its value; remove it from the store, see the page on locks"
        )


def _attempt(
    request: Request,
    lease: int,
    clock: Callable[[], float],
    checks: tuple[Check, ...],
    reads: tuple[Read, ...],
    gone: Collection[Key] = (),
    spare: int = 0,
) -> Steps[tuple[Grant | None, bool]]:
    """Acquire a lock if these checks hold, and delete what is ``gone`` then. One transaction.

    Return the grant, if it was granted, and whether the attempt exceeded the size of a transaction.
    """
    writes: list[Write] = [Put(key, request.record, lease) for key in request.keys(HOLDERS)]
    if gone:
        writes += [Delete(key, Scope.NODE) for key in gone]
    writes.append(Add(TOKENS, 1 + spare) if spare else _COUNT)
    since = clock()
    outcome: Outcome = yield Transaction(checks, reads, tuple(writes))
    if outcome.status is _APPLIED:
        return Grant(outcome.counters[0] - spare, since, spare, outcome.answers), False
    if outcome.status is Status.NOT_A_COUNTER:
        raise CorruptData(
            "the counter of fencing tokens is not a number; remove it from the store, see the page on locks"
        )
    return None, outcome.status is Status.TOO_LARGE


class Acquisition:
    """The state of an acquisition that was not granted at once: its ticket, and the blockers that it knows."""

    __slots__ = (
        "_ahead",
        "_clock",
        "_deadline",
        "_exact",
        "_holders",
        "_lease",
        "_own",
        "_reads",
        "_registered_at",
        "_request",
        "_timing",
        "_ttl",
        "_waiting",
        "too_large",
        "written",
    )

    def __init__(
        self,
        request: Request,
        lease: int,
        own: Collection[Request],
        deadline: float | None,
        clock: Callable[[], float],
        timing: Timing,
        reads: tuple[Read, ...] = (),
    ) -> None:
        self._request = request
        self._lease = lease
        self._own = own
        self._deadline = deadline
        self._clock = clock
        self._timing = timing
        self._reads = reads
        """What the transaction that grants the lock reads."""
        self._ttl = int(timing.waiter_ttl * 1000)
        self._waiting: Waiting | None = None
        """The link that other waiters read to find deadlocks, after the first heartbeat."""
        self.written = False
        """Whether a record was written, or may have been."""
        self._registered_at: dict[Key, None] = {}
        """The keys where it is registered for notifications."""
        self._ahead: dict[str, Record] = {}
        """The ticket: the earlier waiters that may still wait, by the name of their request."""
        self._holders: list[Record] = []
        """Some of the conflicting held locks, at least one if there are any."""
        self._exact: dict[Key, Mapping[Path, bytes]] = {}
        """The held records in scopes without conflicts, where the owner holds a lock of the other mode."""
        self.too_large = False
        """Whether the last attempt exceeded the size of a transaction."""

    # Granting

    def past_blocked_waiters(self) -> Steps[Grant | None]:
        """Acquire the lock if the only waiters are blocked by the owner's own locks. Two transactions."""
        yield from self._read_ticket()
        grant = None if self._latest() else (yield from self._try_to_acquire())
        if self.too_large and self._latest() is None:
            raise self._undecidable()
        return grant

    def _try_to_acquire(self) -> Steps[Grant | None]:
        """Acquire the lock if no held lock conflicts and no waiter of the ticket is left."""
        if len(self._ahead) > _MOST_CHECKED:
            return None
        compatible = self._request.compatible
        checks: list[Check] = [
            Equals(key, Scope.BELOW, self._exact[key])
            if key in self._exact
            else StartsWith(key, Scope.BELOW, compatible)
            for key in self._request.scopes[HOLDERS]
        ]
        checks += [Equals(other.key, Scope.NODE, NOTHING) for other in self._ahead.values()]
        if self.written:
            # Later requests queue behind this record only while it is there.
            checks.append(Equals(self._request.keys(WAITERS)[0], Scope.NODE, {(): self._request.record}))
        request, spare = self._request, 0
        gone: list[Key] = []
        if self.written:
            gone, spare = [*request.keys(WAITERS), *self._registered_at], request.spare
            if self._waiting is not None:
                gone.append(Key(WAITING_FOR, (request.owner.name,)))
        grant, self.too_large = yield from _attempt(
            request, self._lease, self._clock, tuple(checks), self._reads, gone, spare
        )
        return grant

    # Waiting

    def in_order(self) -> Steps[Grant]:
        """Queue for the lock, wait until all blockers are gone, and acquire it."""
        yield from self._enqueue()
        heartbeat = self._clock() + self._timing.first_heartbeat
        fruitless = 0
        while True:
            blocker = self._latest()
            if blocker is not None:
                fruitless = 0
                yield from self._await(blocker, heartbeat)
            is_heartbeat = self._clock() >= heartbeat
            if is_heartbeat:
                heartbeat = self._clock() + self._timing.heartbeat * RANDOM.uniform(0.8, 1.0)
                yield from self._refresh(_MOST_READ_AT_A_HEARTBEAT)
                self._waiting = self._waiting or Waiting(self._request, self._ttl, holds=bool(self._own))
                for passed in (yield from self._waiting.resolve([*self._holders, *self._ahead.values()])):
                    self._ahead.pop(passed, None)
            if not is_heartbeat or self._latest() is None:
                grant = yield from self._try_to_acquire()
                if grant is not None:
                    return grant
            if self._deadline is not None and self._clock() >= self._deadline:
                raise LockTimeout(self._timed_out())
            if not is_heartbeat:
                yield from self._refresh(_MOST_READ)
            if self._latest() is None:
                fruitless += 1
                yield from self._pause(fruitless)

    def _pause(self, fruitless: int) -> Steps[None]:
        """Back off randomly after attempts that failed although no blocker was found."""
        if fruitless > _FRUITLESS and self.too_large:
            raise self._undecidable()
        if fruitless > _FRUITLESS and not self._exact:
            raise CorruptData(f"{self._wanted()} is blocked by a record in the store that is not a lock; remove it")
        yield Pause(RANDOM.uniform(0, 0.001 * min(fruitless, _FRUITLESS)))

    def _undecidable(self) -> Unsupported:
        return Unsupported(f"{self._wanted()} conflicts with more locks than this store can check in one transaction")

    def _await(self, blocker: Record, heartbeat: float) -> Steps[None]:
        """Wait until a blocker is gone or its TTL ends, or until the heartbeat or the deadline."""
        ttl = yield from self._register_with(blocker)
        if ttl is None:
            return
        now = self._clock()
        seconds = min(heartbeat - now, ttl / 1000 + _MARGIN_SECS)
        if self._deadline is not None:
            seconds = min(seconds, self._deadline - now)
        yield Await(max(0.0, seconds))

    def _enqueue(self, *first: Write) -> Steps[None]:
        """Write the record of a waiter, and read the ticket in the same transaction."""
        self.written = True
        puts = [Put(key, self._request.record, self._ttl) for key in self._request.keys(WAITERS)]
        yield from self._read_ticket(*first, *puts)

    def _read_ticket(self, *writes: Write) -> Steps[None]:
        held_in, waiting_in = self._request.scopes[HOLDERS], self._request.scopes[WAITERS]
        outcome = yield Transaction((), tuple(reads_of((*held_in, *waiting_in))), writes)
        if outcome.status is Status.TOO_LARGE:
            raise self._undecidable()
        found = len(held_in)
        yield from self._collect_holders(outcome.answers[:found])
        self._ahead = {}
        for key, first in zip(waiting_in, outcome.answers[found:]):
            if not first.values and first.cursor is None:
                continue
            page, is_first = first, True
            while True:
                for record in records_in(key, page):
                    # Waiters on later pages may be later than this request.
                    came_before = is_first or record.order < (self._request.since, self._request.name)
                    if came_before and record.conflicts(self._request) and not self._blocks(record):
                        self._ahead[record.request] = record
                if page.cursor is None:
                    break
                page, is_first = (yield from self._next_page(key, page)), False

    def _refresh(self, most: int) -> Steps[None]:
        """Renew the record in the queue, and read again the held locks and at most ``most`` earlier waiters."""
        keys, held_in = self._request.keys(WAITERS), self._request.scopes[HOLDERS]
        last_first = sorted(self._ahead.values(), key=lambda record: record.order, reverse=True)
        read, unread = last_first[:most], last_first[most:]
        outcome = yield Transaction(
            (Equals(keys[0], Scope.NODE, {(): self._request.record}),),
            (*reads_of(held_in), *[Read(record.key) for record in read]),
            tuple([Expire(key, Scope.NODE, self._ttl) for key in keys]),
        )
        if outcome.status is Status.TOO_LARGE:
            raise self._undecidable()
        if not outcome.applied:
            # This process was stopped for so long that its record expired. Later waiters may still wait for its name,
            # so it queues again under another one.
            left = [Delete(key, Scope.NODE) for key in keys]
            old = self._request.name
            self._request.rename()
            yield from self._enqueue(*left, notify(old))
            return
        found = len(held_in)
        yield from self._collect_holders(outcome.answers[:found])
        there = [record for record, entries in zip(read, outcome.answers[found:]) if () in entries.values]
        # If all of the latest are gone, the next refresh reads earlier ones.
        self._ahead = {record.request: record for record in (*there, *unread)}

    def _collect_holders(self, answers: Iterable[Entries]) -> Steps[None]:
        """Collect conflicting held locks, at least one if there are any."""
        self._holders = []
        self._exact = {}
        for key, first in zip(self._request.scopes[HOLDERS], answers):
            if not first.values and first.cursor is None:
                continue
            page, values, mine = first, dict(first.values), False
            while True:
                records = list(records_in(key, page))
                conflicting = [record for record in records if record.conflicts(self._request)]
                self._holders += conflicting
                mine |= any(not record.value.startswith(self._request.compatible) for record in records)
                if page.cursor is None or conflicting:
                    break
                page = yield from self._next_page(key, page)
                values.update(page.values)
            if mine and not conflicting:
                self._exact[key] = values

    def _next_page(self, key: Key, page: Entries) -> Steps[Entries]:
        outcome: Outcome = yield Transaction((), (Read(key, Scope.BELOW, PAGE, page.cursor),))
        (further,) = outcome.answers
        assert isinstance(further, Entries)
        return further

    def _register_with(self, blocker: Record) -> Steps[int | None]:
        """Register for a notification when a blocker is removed, and return its remaining TTL in milliseconds.

        Returns ``None``, and forgets the blocker, if it is gone.
        """
        held = blocker.key._replace(space=HOLDERS)
        waiting = blocker.key._replace(space=WAITERS)
        registration = Key(LISTENERS, (blocker.request, self._request.name))
        self._registered_at[registration] = None
        outcome = yield Transaction(
            (),
            (Read(held, ttls=True), Read(waiting, ttls=True)),
            (Put(registration, self._request.listener.encode(), self._ttl),),
        )
        for found in outcome.answers:
            if found.values:
                remaining: int = found.ttls.get((), self._ttl)
                return remaining
        self._ahead.pop(blocker.request, None)
        self._holders = [record for record in self._holders if record.request != blocker.request]
        return None

    # Blockers

    def _latest(self) -> Record | None:
        """Return the blocker that is likely to be removed last: the latest waiter, if there are any."""
        blockers = [*self._ahead.values()] or self._holders
        if len(blockers) < 2:
            return blockers[0] if blockers else None
        return max(blockers, key=lambda record: record.order)

    def _blocks(self, waiter: Record) -> bool:
        """Return whether a lock of this owner blocks a waiter."""
        return any(waiter.conflicts(held) for held in list(self._own))

    def _wanted(self) -> str:
        return f"the lock on {all_described(self._request.paths)}"

    def _timed_out(self) -> str:
        held = ", ".join([str(record) for record in self._holders[:3]])
        ahead = ", ".join([str(record) for record in list(self._ahead.values())[:3]])
        reason = f"it is held: {held}" if held else f"it is waited for: {ahead}" if ahead else "it is free again"
        return f"{self._wanted()} was not free in time; {reason}"


@lru_cache(maxsize=4096)
def _free_or_compatible(paths: tuple[Path, ...], compatible: bytes) -> tuple[Check, ...]:
    """Return the checks that all overlapping records, of held locks and waiters, begin with these bytes."""
    scopes = [key for space in (HOLDERS, WAITERS) for path in paths for key in scopes_of(path, space)]
    return tuple([StartsWith(key, Scope.BELOW, compatible) for key in dict.fromkeys(scopes)])
