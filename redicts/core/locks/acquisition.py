"""One acquisition of a lock: how it is granted, at once or in its turn.

*Mutual exclusion* rests on one thing: the transaction that puts a holder's record also checks that nothing held
conflicts with it. Whatever else goes wrong (a lost reply, a wrong guess, a late notification) costs time and nothing
more.

*Order* rests on another: whoever does not get a lock at once puts a waiter's record, and reads in the same transaction
who was there before. That list is its ticket. It is granted when nobody on the list waits any more; and whoever comes
later finds its record and queues behind it. A waiter that the requester's own locks block is left off the list: it
cannot go on before the requester does, so to wait for it would be a deadlock (the rule of PostgreSQL's lock manager).

*Waking*: a waiter lists itself at one of those who are in its way, the latest; the transaction by which that one goes
notifies whoever is listed. So each release notifies the next in line and nobody else (what watching one's predecessor
is to the recipes of ZooKeeper). A notification that is lost costs one interval of :class:`Timing`.

*Leftovers* end by themselves: a holder's record with its lease, a waiter's with a few seconds, unless renewed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from redicts.core.driver import Await, Pause, Steps
from redicts.core.locks.deadlocks import Waiting
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
    Check,
    Delete,
    Entries,
    Equals,
    Expire,
    Key,
    Notify,
    Outcome,
    Path,
    Put,
    Read,
    Scope,
    StartsWith,
    Status,
    Transaction,
    Write,
)
from redicts.core.paths import all_described
from redicts.errors import CorruptData, LockTimeout, Unsupported

_MOST_CHECKED: Final = 32
"""How many of those ahead a claim checks one by one; while there are more, it is not this request's turn."""

_MOST_ASKED: Final = 200
"""How many of those ahead are asked for in one look, the last first: while one is there, the others do not matter."""

_MOST_ASKED_AT_A_HEARTBEAT: Final = 4
"""The same where nobody woke this request, so that most likely the last one is there."""

_FRUITLESS: Final = 100
"""How often in a row a claim may fail though nobody is seen to be in the way."""

_MARGIN_SECS: Final = 0.002
"""How long after a record's life is over to look again: TTLs are told in whole milliseconds."""


class Timing(NamedTuple):
    """The times of waiting, in seconds."""

    waiter_ttl: float = 6.0
    """How long a waiter that died stands in the way of those behind it."""
    heartbeat: float = 2.0
    """How often a waiter renews its record, and looks for itself whether it missed a notification."""
    first_heartbeat: float = 1.0
    """When it does so first, and begins to look for deadlocks."""


class Grant(NamedTuple):
    """A lock was granted: its fencing token, and a time on the clock of this process before which it began.

    ``spare`` tokens that follow are its own too, if the request asked for them and had to wait.
    """

    token: int
    since: float
    spare: int = 0


class Acquisition:
    """What an acquisition knows while it goes on: its place in the queue, and who is in its way."""

    __slots__ = (
        "_ahead",
        "_clock",
        "_deadline",
        "_exact",
        "_holders",
        "_lease",
        "_listed",
        "_own",
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
    ) -> None:
        self._request = request
        self._lease = lease
        self._own = own
        self._deadline = deadline
        self._clock = clock
        self._timing = timing
        self._ttl = int(timing.waiter_ttl * 1000)
        self._waiting: Waiting | None = None
        """What others can read about this request, once it has waited for long."""
        self.written = False
        """Whether something was put into the store, or may have been."""
        self._listed: dict[Key, None] = {}
        """Where it is listed to be notified."""
        self._ahead: dict[str, Record] = {}
        """The ticket: who waited before, by the name of the request, as far as they are not known to be gone."""
        self._holders: list[Record] = []
        """Some of those who hold what this request conflicts with, one at least if there are any."""
        self._exact: dict[Key, Mapping[Path, bytes]] = {}
        """All that is held in those scopes where nothing conflicts but a lock of the same owner has the other mode."""
        self.too_large = False
        """Whether the store could not decide the last claim."""

    # Granting

    def at_once(self) -> Steps[Grant | None]:
        """Acquire the lock if it is free and nobody waits for it. One transaction."""
        return self._claim_if(_free_or_compatible(self._request.paths, self._request.compatible))

    def after_a_look(self) -> Steps[Grant | None]:
        """Acquire the lock if nothing is in the way but what the owner's own locks allow. Two transactions."""
        yield from self._look()
        grant = None if self._latest() else (yield from self._claim())
        if self.too_large and self._latest() is None:
            raise self._undecidable()
        return grant

    def _claim(self) -> Steps[Grant | None]:
        """Acquire the lock if nothing held conflicts with it and nobody of the ticket waits any more."""
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
            # Whoever comes later queues behind this record, and only while it is there.
            checks.append(Equals(self._request.keys(WAITERS)[0], Scope.NODE, {(): self._request.record}))
        return (yield from self._claim_if(tuple(checks)))

    def _claim_if(self, checks: tuple[Check, ...]) -> Steps[Grant | None]:
        request = self._request
        writes: list[Write] = [Put(key, request.record, self._lease) for key in request.keys(HOLDERS)]
        spare = 0
        if self.written:
            spare = request.spare
            gone = [*request.keys(WAITERS), *self._listed]
            if self._waiting is not None:
                gone.append(Key(WAITING_FOR, (request.owner.name,)))
            writes += [Delete(key, Scope.NODE) for key in gone]
        writes.append(Add(TOKENS, 1 + spare))
        since = self._clock()
        outcome: Outcome = yield Transaction(checks, (), tuple(writes))
        self.too_large = False
        if outcome.status is Status.APPLIED:
            self.written = True
            return Grant(outcome.counters[0] - spare, since, spare)
        if outcome.status is Status.NOT_A_COUNTER:
            raise CorruptData(
                "the counter of fencing tokens is no number; remove it from the store, see the page on locks"
            )
        self.too_large = outcome.status is Status.TOO_LARGE
        return None

    # Waiting

    def in_turn(self) -> Steps[Grant]:
        """Queue for the lock, and acquire it when it is this request's turn."""
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
                heartbeat = self._clock() + self._timing.heartbeat * random.uniform(0.8, 1.0)  # noqa: S311  (no secret)
                yield from self._look_again(_MOST_ASKED_AT_A_HEARTBEAT)
                self._waiting = self._waiting or Waiting(self._request, self._ttl, holds=bool(self._own))
                for passed in (yield from self._waiting.resolve([*self._holders, *self._ahead.values()])):
                    self._ahead.pop(passed, None)
            if not is_heartbeat or self._latest() is None:
                grant = yield from self._claim()
                if grant is not None:
                    return grant
            if self._deadline is not None and self._clock() >= self._deadline:
                raise LockTimeout(self._told())
            if not is_heartbeat:
                yield from self._look_again(_MOST_ASKED)
            if self._latest() is None:
                fruitless += 1
                yield from self._pause(fruitless)

    def _pause(self, fruitless: int) -> Steps[None]:
        """Let rivals part that come and go so fast that no claim succeeds."""
        if fruitless > _FRUITLESS and self.too_large:
            raise self._undecidable()
        if fruitless > _FRUITLESS and not self._exact:
            raise CorruptData(f"{self._wanted()}: something in the store is in the way that is no lock")
        yield Pause(random.uniform(0, 0.001 * min(fruitless, _FRUITLESS)))  # noqa: S311  (no secret)

    def _undecidable(self) -> Unsupported:
        return Unsupported(f"{self._wanted()}: more locks lie there than this store can look at in one transaction")

    def _await(self, blocker: Record, heartbeat: float) -> Steps[None]:
        """Wait until a blocker goes, until it would go unless renewed, or until there is something to do."""
        ttl = yield from self._list_at(blocker)
        if ttl is None:
            return
        now = self._clock()
        seconds = min(heartbeat - now, ttl / 1000 + _MARGIN_SECS)
        if self._deadline is not None:
            seconds = min(seconds, self._deadline - now)
        yield Await(max(0.0, seconds))

    def _enqueue(self, *first: Write) -> Steps[None]:
        """Put the waiter's record, and take a ticket: those who are in the way at this moment."""
        self.written = True
        puts = [Put(key, self._request.record, self._ttl) for key in self._request.keys(WAITERS)]
        yield from self._look(*first, *puts)

    def _look(self, *writes: Write) -> Steps[None]:
        held_in, waiting_in = self._request.scopes[HOLDERS], self._request.scopes[WAITERS]
        outcome = yield Transaction((), tuple(reads_of((*held_in, *waiting_in))), writes)
        if outcome.status is Status.TOO_LARGE:
            raise self._undecidable()
        found = len(held_in)
        yield from self._see_holders(outcome.answers[:found])
        self._ahead = {}
        for key, first in zip(waiting_in, outcome.answers[found:]):
            if not first.values and first.cursor is None:
                continue
            page, is_first = first, True
            while True:
                for record in records_in(key, page):
                    # What a later page shows may have come later than this request.
                    came_before = is_first or record.order < (self._request.since, self._request.name)
                    if came_before and record.conflicts(self._request) and not self._blocks(record):
                        self._ahead[record.request] = record
                if page.cursor is None:
                    break
                page, is_first = (yield from self._next_page(key, page)), False

    def _look_again(self, most: int) -> Steps[None]:
        """Renew the place in the queue, and find out who is still in the way, asking for so many of those ahead."""
        keys, held_in = self._request.keys(WAITERS), self._request.scopes[HOLDERS]
        last_first = sorted(self._ahead.values(), key=lambda record: record.order, reverse=True)
        asked, unasked = last_first[:most], last_first[most:]
        outcome = yield Transaction(
            (Equals(keys[0], Scope.NODE, {(): self._request.record}),),
            (*reads_of(held_in), *[Read(record.key) for record in asked]),
            tuple([Expire(key, Scope.NODE, self._ttl) for key in keys]),
        )
        if outcome.status is Status.TOO_LARGE:
            raise self._undecidable()
        if not outcome.applied:
            # This process was stopped for so long that its place is lost. Those behind it may not know that yet, so
            # it must not come back under a name that they wait for.
            left = [Delete(key, Scope.NODE) for key in keys]
            old = self._request.name
            self._request.rename()
            yield from self._enqueue(*left, notify(old))
            return
        found = len(held_in)
        yield from self._see_holders(outcome.answers[:found])
        there = [record for record, entries in zip(asked, outcome.answers[found:]) if () in entries.values]
        # If the last of them are all gone, the next time those before them are asked for.
        self._ahead = {record.request: record for record in (*there, *unasked)}

    def _see_holders(self, answers: Iterable[Entries]) -> Steps[None]:
        """Note who holds what this request conflicts with, one at least if there is one."""
        self._holders = []
        self._exact = {}
        for key, first in zip(self._request.scopes[HOLDERS], answers):
            if not first.values and first.cursor is None:
                continue
            page, values, mine = first, dict(first.values), False
            while True:
                records = list(records_in(key, page))
                in_the_way = [record for record in records if record.conflicts(self._request)]
                self._holders += in_the_way
                mine |= any(not record.value.startswith(self._request.compatible) for record in records)
                if page.cursor is None or in_the_way:
                    break
                page = yield from self._next_page(key, page)
                values.update(page.values)
            if mine and not in_the_way:
                self._exact[key] = values

    def _next_page(self, key: Key, page: Entries) -> Steps[Entries]:
        outcome: Outcome = yield Transaction((), (Read(key, Scope.BELOW, PAGE, page.cursor),))
        (further,) = outcome.answers
        assert isinstance(further, Entries)
        return further

    def _list_at(self, blocker: Record) -> Steps[int | None]:
        """Ask to be notified when a blocker goes, and return how many milliseconds it will be there unless renewed.

        Returns ``None``, and forgets it, if it has gone already.
        """
        held = blocker.key._replace(space=HOLDERS)
        waiting = blocker.key._replace(space=WAITERS)
        place = Key(LISTENERS, (blocker.request, self._request.name))
        self._listed[place] = None
        outcome = yield Transaction(
            (),
            (Read(held, ttls=True), Read(waiting, ttls=True)),
            (Put(place, self._request.listener.encode(), self._ttl),),
        )
        for found in outcome.answers:
            if found.values:
                remaining: int = found.ttls.get((), self._ttl)
                return remaining
        self._ahead.pop(blocker.request, None)
        self._holders = [record for record in self._holders if record.request != blocker.request]
        return None

    # Those in the way

    def _latest(self) -> Record | None:
        """Return the blocker that is likely to go last: among waiters the last that came."""
        blockers = [*self._ahead.values()] or self._holders
        if len(blockers) < 2:
            return blockers[0] if blockers else None
        return max(blockers, key=lambda record: record.order)

    def _blocks(self, waiter: Record) -> bool:
        """Tell whether a lock that the owner holds is what this waiter waits for."""
        return any(waiter.conflicts(held) for held in self._own)

    def _wanted(self) -> str:
        return f"the lock on {all_described(self._request.paths)}"

    def _told(self) -> str:
        held = ", ".join([str(record) for record in self._holders[:3]])
        ahead = ", ".join([str(record) for record in list(self._ahead.values())[:3]])
        reason = f"it is held: {held}" if held else f"it is waited for: {ahead}" if ahead else "it has just gone by"
        return f"{self._wanted()} was not free in time; {reason}"


@lru_cache(maxsize=4096)
def _free_or_compatible(paths: tuple[Path, ...], compatible: bytes) -> tuple[Check, ...]:
    """Return the checks that nothing overlaps with some paths, held or waited for, that does not begin so."""
    scopes = [key for space in (HOLDERS, WAITERS) for path in paths for key in scopes_of(path, space)]
    return tuple([StartsWith(key, Scope.BELOW, compatible) for key in dict.fromkeys(scopes)])


def notify(request: str) -> Notify:
    """Return what notifies those who wait for a request to go."""
    return Notify(Key(LISTENERS, (request,)), Scope.BELOW)
