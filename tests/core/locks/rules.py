"""The invariants of the lock protocol, checked by the records in the store and the results of clients.

Nothing here calls the protocol. Conflicts are computed independently, from the scripts and from the order in which the
records of waiters appeared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from redicts.core.locks.records import overlap
from redicts.core.minitransaction import Path
from tests.core.locks.clients import Claim
from tests.core.locks.stores import Lock, Shown

_SET_TO_THE_TIME: Final = 2**40
"""A counter of tokens below this has only just begun, see the protocol."""


class Broken(Exception):
    """A rule does not hold."""


class Wanted(NamedTuple):
    """What a request wants, by the script."""

    owner: str
    mode: str
    paths: tuple[Path, ...]
    patient: bool

    def excludes(self, other: Wanted) -> bool:
        """Tell whether two requests could not be granted at once, were their owners different."""
        if self.mode == other.mode == "S":
            return False
        return any(overlap(one, two) for one in self.paths for two in other.paths)


class Granted(NamedTuple):
    """A grant in the order of the granting transactions: its request, the counter then, the token once given out."""

    name: str
    counter: int
    token: int | None


class Memory(NamedTuple):
    """What the rules need to know of the past: a part of each state."""

    order: tuple[str, ...] = ()
    """The requests that are not granted yet, in order of arrival: when first tried, and again when it is enqueued."""
    passed: frozenset[tuple[str, str]] = frozenset()
    """Pairs of a request and one before it that, at some moment, could not go on before this one did."""
    cycles: frozenset[str] = frozenset()
    """Requests that, at some moment, could not go on before their own owner did."""
    grants: tuple[Granted, ...] = ()
    edited: frozenset[str] = frozenset()
    """The edits that clients were told are stored."""


def plain(request: str) -> str:
    """Return the name of a request as the script knows it."""
    return request.rstrip("'")


class Rules:
    """The rules for clients with certain scripts."""

    def __init__(self, wanted: Mapping[str, Wanted]) -> None:
        self._wanted = wanted

    # Of one state

    def one_holder(self, shown: Shown) -> None:
        """No two live holders conflict, and all but the counter of tokens ends by itself."""
        for index, lock in enumerate(shown.held):
            for other in shown.held[:index]:
                if lock.conflicts(other.owner, other.mode, (other.path,)):
                    raise Broken(f"two hold what conflicts: {other} and {lock}")
        if shown.for_ever:
            raise Broken(f"stored for ever: {shown.for_ever}")

    def believed(self, claims: tuple[Claim, ...], elapsed: int, shown: Shown) -> None:
        """Check that a client that believes to hold a lock has its record in the store, on every path."""
        for claim in claims:
            if claim.ticks > elapsed:
                there = {lock.path for lock in shown.held if lock.request == claim.name and lock.owner == claim.owner}
                if not there.issuperset(claim.paths):
                    raise Broken(f"{claim.name} believes to hold {claim.paths}, and its records are gone")

    def edits(self, memory: Memory, shown: Shown) -> None:
        """Check the values of edits, each of which counts and adds its mark: none is stored in part, and none lost."""
        marks = {path[-1] for path, _ in shown.values if path[-1] != "n"}
        counted = sum(number for path, number in shown.values if path[-1] == "n")
        if counted != len(marks):
            raise Broken(f"an edit is lost, or stored in part: {counted} were counted, and {sorted(marks)} left a mark")
        if not memory.edited <= marks:
            raise Broken(f"an edit is lost: {sorted(memory.edited - marks)}")

    # Of a transaction

    def executed(
        self, memory: Memory, request: str | None, own: tuple[str, ...], before: Shown, after: Shown
    ) -> Memory:
        """Return what is to be remembered after a transaction.

        It served this request, if one is being acquired, whose owner believed to hold these others when it began.
        """
        if request is not None and request not in memory.order:
            memory = memory._replace(order=(*memory.order, request))
        new = {lock.request for lock in after.waited} - {lock.request for lock in before.waited}
        for name in sorted(new):
            memory = memory._replace(order=(*[each for each in memory.order if each != plain(name)], plain(name)))
        for name in sorted(
            {plain(lock.request) for lock in after.held} - {plain(lock.request) for lock in before.held}
        ):
            if name != request:
                raise Broken(f"{name} holds a lock, and it is not acquiring one")
            self._in_order(memory, name, own, before)
            memory = memory._replace(grants=(*memory.grants, Granted(name, after.counter, None)))
        return memory

    def kept(self, memory: Memory, acquiring: set[str], shown: Shown) -> Memory:
        """Return what is to be remembered, without what no rule will ask for."""
        there = acquiring | {plain(lock.request) for lock in shown.waited}
        held = {plain(lock.request) for lock in shown.held}
        order = tuple([name for name in memory.order if name in there and name not in held])
        passed = frozenset([pair for pair in memory.passed if pair[0] in order and pair[1] in order])
        cycles = memory.cycles & acquiring
        if {self._wanted[name].owner for name in order} & {lock.owner for lock in shown.held}:
            passed |= self._may_pass(order, shown)
            cycles |= {
                name for name in order if self._waits_for(name, self._wanted[name].owner, order, shown, hard=True)
            }
        return memory._replace(order=order, passed=passed, cycles=cycles)

    def _may_pass(self, order: tuple[str, ...], shown: Shown) -> frozenset[tuple[str, str]]:
        return frozenset(
            [
                (name, other)
                for index, name in enumerate(order)
                for other in order[:index]
                if self._wanted[name].excludes(self._wanted[other])
                and self._waits_for(other, self._wanted[name].owner, order, shown)
            ]
        )

    def _in_order(self, memory: Memory, name: str, own: tuple[str, ...], before: Shown) -> None:
        """Check that a grant passes no conflicting earlier waiter, except those that wait for its owner.

        An owner whose lease ended while it was acquiring the next lock passes those too who waited for what it held.
        """
        mine = self._wanted[name]
        for lock in before.waited:
            other = plain(lock.request)
            if (
                other in memory.order[: memory.order.index(name)]
                and lock.conflicts(mine.owner, mine.mode, mine.paths)
                and (name, other) not in memory.passed
                and not any(self._wanted[held].excludes(self._wanted[other]) for held in own)
                and not self._waits_for(other, mine.owner, memory.order, before)
            ):
                raise Broken(f"{name} passed {other}, which came before and waits")

    # Of what a client was told

    def told(self, memory: Memory, what: str, name: str, token: int) -> Memory:
        """Return what is to be remembered when a client was told how its request ended."""
        mine = self._wanted[name]
        if what == "granted":
            return self._token(memory, name, token)
        if what == "edited":
            return memory._replace(edited=memory.edited | {name})
        if what == "conflict":
            raise Broken(f"{name} met a change of another client, under its lock")
        if what == "timeout" and mine.patient:
            raise Broken(f"{name} would wait for ever, and was told that its time is over")
        if what == "deadlock" and name not in memory.cycles:
            raise Broken(f"{name} was told of a deadlock, and there is none")
        return memory._replace(grants=tuple([grant for grant in memory.grants if grant.name != name]))

    def _token(self, memory: Memory, name: str, token: int) -> Memory:
        """Tokens rise in the order of the grants, in the whole tree but for the first ones, whose order is local."""
        names = [grant.name for grant in memory.grants]
        if name not in names:
            raise Broken(f"{name} was told that it holds a lock, and none was granted")
        index = names.index(name)
        mine = memory.grants[index]
        for other_index, other in enumerate(memory.grants):
            comparable = min(mine.counter, other.counter) >= _SET_TO_THE_TIME
            if other.token is None or not (comparable or self._wanted[name].excludes(self._wanted[other.name])):
                continue
            if other_index == index or (other.token < token) is not (other_index < index):
                raise Broken(f"tokens out of order: {name} has {token}, {other.name} has {other.token}")
        grants = [*memory.grants]
        grants[index] = mine._replace(token=token)
        while len(grants) > 1 and grants[0].counter >= _SET_TO_THE_TIME and None not in (
            grants[0].token,
            grants[1].token,
        ):  # fmt: skip
            del grants[0]
        return memory._replace(grants=tuple(grants))

    def notified(self, name: str, memory: Memory, shown: Shown) -> None:
        """No client waits for the clock when nothing blocks it: each release notifies its waiters."""
        if not self._in_the_way(name, memory.order, shown):
            raise Broken(f"{name} was not notified, and nobody is in its way")

    def left(self, shown: Shown, crashed: set[str]) -> None:
        """When all have ended, nothing is left but what crashed clients had."""
        for lock in (*shown.held, *shown.waited):
            if lock.owner not in crashed:
                raise Broken(f"left in the store: {lock}")

    # Who is in whose way

    def _in_the_way(self, name: str, order: tuple[str, ...], shown: Shown, *, hard: bool = False) -> list[Lock]:
        """Return who must go first: holders, and waiters that came before, but not those that its own locks block.

        A waiter for several paths is blocked if it is so on any of them.
        """
        mine = self._wanted[name]
        found = [lock for lock in shown.held if lock.conflicts(mine.owner, mine.mode, mine.paths)]
        if not hard and name in order:
            own = [lock for lock in shown.held if lock.owner == mine.owner]
            before = order[: order.index(name)]
            wanted = {
                lock.request: {other.path for other in shown.waited if other.request == lock.request}
                for lock in shown.waited
            }
            found += [
                lock
                for lock in shown.waited
                if plain(lock.request) in before
                and lock.conflicts(mine.owner, mine.mode, mine.paths)
                and not any(held.conflicts(lock.owner, lock.mode, tuple(wanted[lock.request])) for held in own)
            ]
        return found

    def _waits_for(self, name: str, owner: str, order: tuple[str, ...], shown: Shown, *, hard: bool = False) -> bool:
        """Tell whether a request cannot go on before an owner does, because of those in its way, and so on."""
        reached: set[str] = set()
        names = [name]
        for each in names:
            for lock in self._in_the_way(each, order, shown, hard=hard):
                if lock.owner == owner:
                    return True
                if lock.owner not in reached:
                    reached.add(lock.owner)
                    waiting = {plain(waiter.request) for waiter in shown.waited if waiter.owner == lock.owner}
                    names += sorted(waiting)
        return False
