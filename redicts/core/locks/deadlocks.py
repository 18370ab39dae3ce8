"""Deadlock detection: finds cycles in the wait-for graph of lock owners, and resolves them while they wait.

After its first heartbeat, a waiter writes its links: the owners that block it. A search follows the links from owner to
owner, one transaction per step. A cycle that it finds is confirmed in one transaction: if all its links exist
atomically, it cannot resolve by itself.

A link is *hard* if the other owner holds the lock, and *soft* if it waits too, with an earlier request. A soft link is
resolved by passing the other waiter, which is blocked by this one anyway. In a cycle of hard links one request fails:
the latest, which is the same one for all members of the cycle. (PostgreSQL's deadlock detector makes the same
distinction.)

Only an owner that holds a lock searches; the others only write their links. No cycle is missed: queues alone do not
form a cycle, so each cycle has a hard link, to an owner that holds a lock. If it has soft links as well, the first of a
series of them starts at such an owner, which then finds the cycle. So a hundred waiters without locks cost only a
record each.
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
"""The maximum number of links that an owner writes, those to waiting owners first."""

_MOST_READ: Final = 200
"""The maximum number of owners whose links one transaction reads."""

_MOST_OWNERS: Final = 5_000


class _Link(NamedTuple):
    """An edge of the wait-for graph, to the owner that blocks a waiter: ``path`` is that of its lock record."""

    path: tuple[str, ...]
    owner: str
    hard: bool
    label: str


class _Waiter(NamedTuple):
    """A node of the wait-for graph, as its owner wrote it: the order of its request, and its links."""

    since: tuple[int, str]
    label: str
    links: tuple[_Link, ...]
    value: bytes


class Waiting:
    """The part of one waiting request in deadlock detection: it writes its links and searches for cycles."""

    __slots__ = ("_holds", "_request", "_ttl")

    def __init__(self, request: Request, ttl: int, *, holds: bool) -> None:
        self._request = request
        self._ttl = ttl
        self._holds = holds

    def resolve(self, blockers: Iterable[Record]) -> Steps[list[str]]:
        """Write the links to these blockers, and return the names of the waiting requests that may be passed.

        Raises :class:`~redicts.errors.Deadlock` if this is the latest request in a cycle of hard links. One
        transaction, and one more for each step along the cycle.
        """
        chosen = list(blockers)
        if len(chosen) > _MOST_LINKS:
            wait = yield from self._links_of([record.owner for record in chosen])
            chosen.sort(key=lambda record: record.owner not in wait)
        mine = self._node(chosen[:_MOST_LINKS])
        waiters = yield from self._reachable(mine)
        passed = []
        for link in mine.links:
            cycle = None if link.hard else self._cycle(waiters, link, hard=False)
            if cycle is not None and (yield from self._confirmed(cycle, waiters, hard=False)):
                passed.append(link.path[-1])
        for link in mine.links:
            cycle = self._cycle(waiters, link, hard=True) if link.hard else None
            if cycle is None or not (yield from self._confirmed(cycle, waiters, hard=True)):
                continue
            members = [waiters[self._request.owner.name], *[waiters[each.owner] for each in cycle[:-1]]]
            if max(member.since for member in members) == mine.since:
                raise Deadlock(_message(members, cycle))
        return passed

    def _node(self, blockers: list[Record]) -> _Waiter:
        request = self._request
        links = tuple([_Link(each.key.path, each.owner, each.held, str(each)) for each in blockers])
        label = f"{request.owner.label} waits for {all_described(request.paths)}"
        written = [[hexed(link.path), link.owner, link.hard, link.label] for link in links]
        value = json.dumps([request.since, request.name, label, written]).encode()
        return _Waiter((request.since, request.name), label, links, value)

    def _reachable(self, mine: _Waiter) -> Steps[dict[str, _Waiter]]:
        """Write the links of this owner, and return the waiters that can be reached along them."""
        name = self._request.owner.name
        waiters = {name: mine}
        reached = {name}
        write = Put(Key(WAITING_FOR, (name,)), mine.value, self._ttl)
        if not self._holds:
            yield Transaction((), (self._home(),), (write,))
            return waiters
        ahead = [link.owner for link in mine.links]
        while ahead and len(reached) <= _MOST_OWNERS:
            reached.update(ahead)
            found = yield from self._links_of(ahead, *([write] if len(waiters) == 1 else []))
            waiters.update(found)
            links = [link for waiter in found.values() for link in waiter.links]
            ahead = list(dict.fromkeys([link.owner for link in links if link.owner not in reached]))
        return waiters

    def _links_of(self, owners: list[str], *writes: Write) -> Steps[dict[str, _Waiter]]:
        """Read the links of those owners that have written them."""
        found = {}
        for start in range(0, len(owners), _MOST_READ):
            step = owners[start : start + _MOST_READ]
            reads = [Read(Key(WAITING_FOR, (owner,))) for owner in step]
            outcome = yield Transaction((), (*reads, self._home()), writes)
            writes = ()
            for owner, answer in zip(step, outcome.answers):
                waiter = _parsed(answer.values.get((), b""))
                if waiter is not None:
                    found[owner] = waiter
        return found

    def _home(self) -> Read:
        """Return a read that says in which section of a sharded store this request waits."""
        return Read(self._request.keys(WAITERS)[0])

    def _cycle(self, waiters: Mapping[str, _Waiter], first: _Link, *, hard: bool) -> list[_Link] | None:
        """Return the shortest cycle from this owner through one of its links back to it."""
        mine = self._request.owner.name
        walks = [[first]]
        seen = {first.owner}
        for walk in walks:
            owner = walk[-1].owner
            if owner == mine:
                return walk
            for link in waiters[owner].links if owner in waiters else ():
                if link.owner not in seen and (link.hard or not hard):
                    seen.add(link.owner)
                    walks.append([*walk, link])
        return None

    def _confirmed(self, cycle: list[_Link], waiters: Mapping[str, _Waiter], *, hard: bool) -> Steps[bool]:
        """Return whether all links of a cycle exist atomically."""
        owners = [self._request.owner.name, *[link.owner for link in cycle[:-1]]]
        checks = [Equals(Key(WAITING_FOR, (owner,)), Scope.NODE, {(): waiters[owner].value}) for owner in owners]
        reads = [Read(Key(HOLDERS, link.path)) for link in cycle]
        reads += [Read(Key(WAITERS, link.path)) for link in cycle]
        outcome = yield Transaction(tuple(checks), tuple(reads))
        there = [bool(answer.values) for answer in outcome.answers]
        held, waiting = there[: len(cycle)], there[len(cycle) :]
        return outcome.applied and all(one or (other and not hard) for one, other in zip(held, waiting))


def _parsed(value: bytes) -> _Waiter | None:
    """Parse the links of an owner; return ``None`` for bytes that no owner wrote."""
    try:
        since, name, label, links = json.loads(value)
        return _Waiter((int(since), str(name)), str(label), tuple([_link(*link) for link in links]), value)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def _link(path: object, owner: object, hard: object, label: object) -> _Link:
    if not isinstance(path, str) or not isinstance(owner, str) or not owner:
        raise ValueError("an owner did not write this link")
    return _Link(unhexed(path), owner, bool(hard), str(label))


def _message(members: list[_Waiter], cycle: list[_Link]) -> str:
    steps = [f"{member.label}, held: {link.label}" for member, link in zip(members, cycle)]
    return f"a deadlock: {'; '.join(steps)}. This request is the latest and fails; release your locks, and try again"
