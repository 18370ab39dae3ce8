"""Deadlocks: circles of owners each of whom waits for the next, found and resolved while they wait.

Whoever waits for long writes down what for. So the circle can be followed from owner to owner, one transaction for each
step, and only those are asked who matter. What was found is looked at once more in one transaction before anything is
done about it: a circle whose every link is there atomically does not open by itself.

A link may be *hard* (the other one holds the lock) or *soft* (it waits too, and came before). A soft link is given up
by passing the other one, who could not go on before this one does anyway. A circle of hard links costs one owner its
request: the one that came last, which everybody in the circle finds to be the same. (PostgreSQL's deadlock detector
makes the same distinction.)

Only who holds a lock searches; the others just write down. No circle is missed: queues alone make none, so in each
circle there is a hard link, to somebody who holds a lock. If there is a soft link as well, the first of a row of soft
ones leads away from such an owner, who then finds it. A hundred waiters that hold nothing cost a record each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from redicts.core.driver import Steps
from redicts.core.locks.records import HOLDERS, WAITERS, WAITING_FOR, Record, Request, hexed, unhexed
from redicts.core.minitransaction import Equals, Key, Put, Read, Scope, Transaction, Write
from redicts.core.paths import all_described
from redicts.errors import Deadlock

_MOST_LINKS: Final = 100
"""How many of those in its way an owner writes down; if there are more, those first who wait themselves."""

_MOST_ASKED: Final = 200
"""How many owners are asked in one transaction."""

_MOST_OWNERS: Final = 5_000


class _Link(NamedTuple):
    """Somebody in the way of a waiter: the key of its record with the space left open, its owner, and how it is."""

    path: tuple[str, ...]
    owner: str
    hard: bool
    told: str


class _Waiter(NamedTuple):
    """What one owner wrote down: since when it waits, who it is, and who is in its way."""

    since: tuple[int, str]
    told: str
    links: tuple[_Link, ...]
    value: bytes


class Waiting:
    """What one request waits for, as others are told and as others tell."""

    __slots__ = ("_holds", "_request", "_ttl")

    def __init__(self, request: Request, ttl: int, *, holds: bool) -> None:
        self._request = request
        self._ttl = ttl
        self._holds = holds

    def resolve(self, blockers: Iterable[Record]) -> Steps[list[str]]:
        """Write down who is in the way, and return the names of the waiting requests that may be passed.

        Raises :class:`~redicts.errors.Deadlock` if the circle cannot be opened otherwise and this request is the one
        that came last. One transaction, and one more for each step along the circle.
        """
        chosen = list(blockers)
        if len(chosen) > _MOST_LINKS:
            wait = yield from self._asked([record.owner for record in chosen])
            chosen.sort(key=lambda record: record.owner not in wait)
        mine = self._written(chosen[:_MOST_LINKS])
        waiters = yield from self._followed(mine)
        passed = []
        for link in mine.links:
            circle = None if link.hard else self._circle(waiters, link, hard=False)
            if circle is not None and (yield from self._confirmed(circle, waiters, hard=False)):
                passed.append(link.path[-1])
        for link in mine.links:
            circle = self._circle(waiters, link, hard=True) if link.hard else None
            if circle is None or not (yield from self._confirmed(circle, waiters, hard=True)):
                continue
            members = [waiters[self._request.owner.name], *[waiters[each.owner] for each in circle[:-1]]]
            if max(member.since for member in members) == mine.since:
                raise Deadlock(_told(members, circle))
        return passed

    def _written(self, blockers: list[Record]) -> _Waiter:
        request = self._request
        links = tuple([_Link(each.key.path, each.owner, each.held, str(each)) for each in blockers])
        told = f"{request.owner.label} waits for {all_described(request.paths)}"
        written = [[hexed(link.path), link.owner, link.hard, link.told] for link in links]
        value = json.dumps([request.since, request.name, told, written]).encode()
        return _Waiter((request.since, request.name), told, links, value)

    def _followed(self, mine: _Waiter) -> Steps[dict[str, _Waiter]]:
        """Write down who is in the way, and return what those have written down who can be reached from this owner."""
        name = self._request.owner.name
        waiters = {name: mine}
        reached = {name}
        write = Put(Key(WAITING_FOR, (name,)), mine.value, self._ttl)
        if not self._holds:
            yield Transaction((), (), (write,))
            return waiters
        ahead = [link.owner for link in mine.links]
        while ahead and len(reached) <= _MOST_OWNERS:
            reached.update(ahead)
            found = yield from self._asked(ahead, *([write] if len(waiters) == 1 else []))
            waiters.update(found)
            links = [link for waiter in found.values() for link in waiter.links]
            ahead = list(dict.fromkeys([link.owner for link in links if link.owner not in reached]))
        return waiters

    def _asked(self, owners: list[str], *writes: Write) -> Steps[dict[str, _Waiter]]:
        """Return what owners have written down, those who have."""
        found = {}
        for start in range(0, len(owners), _MOST_ASKED):
            step = owners[start : start + _MOST_ASKED]
            outcome = yield Transaction((), tuple([Read(Key(WAITING_FOR, (owner,))) for owner in step]), writes)
            writes = ()
            for owner, answer in zip(step, outcome.answers):
                waiter = _parsed(answer.values.get((), b""))
                if waiter is not None:
                    found[owner] = waiter
        return found

    def _circle(self, waiters: Mapping[str, _Waiter], first: _Link, *, hard: bool) -> list[_Link] | None:
        """Return the shortest way along links from this owner over one of its links back to it."""
        mine = self._request.owner.name
        ways = [[first]]
        seen = {first.owner}
        for way in ways:
            owner = way[-1].owner
            if owner == mine:
                return way
            for link in waiters[owner].links if owner in waiters else ():
                if link.owner not in seen and (link.hard or not hard):
                    seen.add(link.owner)
                    ways.append([*way, link])
        return None

    def _confirmed(self, circle: list[_Link], waiters: Mapping[str, _Waiter], *, hard: bool) -> Steps[bool]:
        """Tell whether every link of a circle is there atomically."""
        owners = [self._request.owner.name, *[link.owner for link in circle[:-1]]]
        checks = [Equals(Key(WAITING_FOR, (owner,)), Scope.NODE, {(): waiters[owner].value}) for owner in owners]
        reads = [Read(Key(HOLDERS, link.path)) for link in circle]
        reads += [Read(Key(WAITERS, link.path)) for link in circle]
        outcome = yield Transaction(tuple(checks), tuple(reads))
        there = [bool(answer.values) for answer in outcome.answers]
        held, waiting = there[: len(circle)], there[len(circle) :]
        return outcome.applied and all(one or (other and not hard) for one, other in zip(held, waiting))


def _parsed(value: bytes) -> _Waiter | None:
    """Return what an owner wrote down; what it cannot have written is left out."""
    try:
        since, name, told, links = json.loads(value)
        return _Waiter((int(since), str(name)), str(told), tuple([_link(*link) for link in links]), value)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def _link(path: object, owner: object, hard: object, told: object) -> _Link:
    if not isinstance(path, str) or not isinstance(owner, str) or not owner:
        raise ValueError("not what an owner writes down")
    return _Link(unhexed(path), owner, bool(hard), str(told))


def _told(members: list[_Waiter], circle: list[_Link]) -> str:
    steps = [f"{member.told}, held: {link.told}" for member, link in zip(members, circle)]
    return f"a deadlock: {'; '.join(steps)}. This request came last and gives way; release what you hold, and try again"
