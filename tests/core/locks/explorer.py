"""Explores every interleaving of clients of a lock protocol, with every fault at every step.

A *state* is a content of the store, a position of each client with the time since it was last answered, whether a
notification lies ready for it, what the rules remember, and how many faults may still happen. From each state the
explorer
takes every *choice*: which client does its next step, or which fault happens now. Time passes only when nobody can go
on, to the next moment at which somebody can; or as a fault, beyond the end of a TTL, as when a client is stopped.

The search is breadth-first, so a broken rule is shown by a schedule as short as any. A state that was reached before is
not taken up again. That loses nothing: what happens next depends on a state alone, because contents hold the remaining
TTLs of all values, positions hold all that a client knows (see :mod:`tests.core.locks.clients`), and neither knows
what time it is but by differences. And a rule that was not broken on the first way into a state cannot be broken by
what lies behind it on another way only, because what rules remember is part of the state.

At the end the number of *schedules*, ways from the first state to an end, is counted along the graph; a graph with a
cycle in it would be a schedule that never ends.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Final, NamedTuple
from unittest import mock

from redicts.core.driver import Await, Listen
from redicts.core.locks import acquisition
from redicts.core.locks.records import LISTENERS, WAITING_FOR
from redicts.core.minitransaction import Equals, Key, Put, Transaction, Write
from redicts.core.store import TreeStore
from tests.core.locks.clients import (
    FORMAT,
    SENT,
    TICKS,
    Acquire,
    Answer,
    Automaton,
    Clock,
    Locks,
    Making,
    Position,
    is_work,
    script,
    wall_clock,
)
from tests.core.locks.rules import Broken, Memory, Rules, Wanted
from tests.core.locks.stores import Effect, Stores

SEEDED: Final = 2**50
"""A counter of tokens that is in use already."""

CRASH: Final = "crashes"
REPLY_LOST: Final = "does it, but the reply is lost"
REQUEST_LOST: Final = "sends it in vain, and cannot know"
REFUSED: Final = "is refused by the store"
STOPPED_BEFORE: Final = "is interrupted before"
STOPPED_AFTER: Final = "is interrupted after"
SPURIOUS: Final = "is notified for no reason"
UNWOKEN: Final = "loses its notification"
LATE: Final = "time passes, though somebody could go on"

ALL_FAULTS: Final = frozenset(
    {CRASH, REPLY_LOST, REQUEST_LOST, REFUSED, STOPPED_BEFORE, STOPPED_AFTER, SPURIOUS, UNWOKEN, LATE}
)

_STEP: Final = "goes on"
_WAIT: Final = "time passes"

_ON_A_TRANSACTION: Final[dict[str, tuple[bool, str]]] = {
    REPLY_LOST: (True, "lost"),
    REQUEST_LOST: (False, "lost"),
    REFUSED: (False, "refused"),
    STOPPED_BEFORE: (False, "stopped"),
    STOPPED_AFTER: (True, "stopped"),
}
"""Whether the transaction is applied, and what its client is told."""

_LONGEST: Final = 150
"""More steps than any schedule has."""


class Scenario(NamedTuple):
    """An exploration: a script for each client, and how many faults of which kinds may happen in one schedule."""

    scripts: tuple[str, ...]
    faults: int = 0
    kinds: frozenset[str] = ALL_FAULTS
    counter: int = SEEDED
    """Where the counter of tokens stands at first; 0 for a store that is new."""

    def __str__(self) -> str:
        return " | ".join(self.scripts) + (f" ({self.faults} faults)" if self.faults else "")


class Choice(NamedTuple):
    """What happens next: to which client, if to one, and how much time passes, if any."""

    client: int | None
    what: str
    ticks: int = 0


class Client(NamedTuple):
    """A client in a state. It has no position when it has crashed."""

    position: Position | None
    elapsed: int = 0
    notified: bool = False


class State(NamedTuple):
    """All that the future depends on."""

    content: int
    clients: tuple[Client, ...]
    faults: int
    memory: Memory


class Report(NamedTuple):
    """What an exploration met."""

    states: int
    schedules: int
    seconds: float
    """The longest virtual time of a schedule."""
    told: Mapping[str, int]
    """How many transitions told a client that its request ended so."""
    faults: Mapping[str, int]
    listed: int
    """How many of the ends left a listener's name in the store, for as long as its TTL."""


class Failure(AssertionError):
    """A schedule that breaks a rule. ``choices`` replay it."""

    def __init__(self, scenario: Scenario, broken: str, choices: Sequence[Choice], steps: Sequence[str]) -> None:
        self.scenario = scenario
        self.broken = broken
        self.choices = tuple(choices)
        self.steps = tuple(steps)
        lines = "\n".join([f"  {number:3} {step}" for number, step in enumerate(steps, 1)])
        super().__init__(f"{broken}\nscenario: {scenario}\n{lines}\nreplay with {list(map(tuple, self.choices))}")


def real(clock: Clock) -> Locks:
    """Make the protocol that is under test."""
    return TreeStore(FORMAT, clock=clock, wall_clock=wall_clock)


class Explorer:
    """Explores one scenario."""

    def __init__(self, scenario: Scenario, making: Making = real, *, by_history: bool = False) -> None:
        self._scenario = scenario
        self._stores = Stores(scenario.counter)
        wanted: dict[str, Wanted] = {}
        for number, text in enumerate(scenario.scripts):
            for index, action in enumerate(script(text)):
                if isinstance(action, Acquire):
                    patient = action.timeout is None
                    wanted[f"c{number}/{index}"] = Wanted(f"o{number}", action.mode.value, action.paths, patient)
        self._rules = Rules(wanted)
        with _pinned():
            self._automata = [
                Automaton(number, text, making, self._stores.outcomes, by_history=by_history)
                for number, text in enumerate(scenario.scripts)
            ]
        self._effects: dict[tuple[int, Position], Effect] = {}
        self.told: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        clients = tuple([Client(automaton.start) for automaton in self._automata])
        self.first = State(self._stores.first, clients, scenario.faults, Memory())

    # What can happen

    def choices(self, state: State) -> list[Choice]:
        """Return all that can happen next; nothing if all have ended."""
        steps = [Choice(number, _STEP) for number, client in enumerate(state.clients) if _can_go_on(client)]
        waits = [
            client.position.wait - client.elapsed
            for client in state.clients
            if client.position is not None and _waits(client.position) and client.elapsed < client.position.wait
        ]
        if not steps and waits:
            steps.append(Choice(None, _WAIT, min(waits)))
        elif not steps:
            return []
        if state.faults:
            steps += [choice for choice in self._faults(state, waits) if choice.what in self._scenario.kinds]
        return steps

    def _faults(self, state: State, waits: list[int]) -> Iterator[Choice]:
        for number, client in enumerate(state.clients):
            if client.position is not None and client.position.step is not None:
                yield from [Choice(number, what) for what in _faults_of(client, client.position)]
        for ticks in sorted({*self._stores.ends(state.content), *([min(waits)] if waits else [])}):
            yield Choice(None, LATE, ticks)

    def take(self, state: State, choice: Choice) -> State:
        """Return the state that a choice leads to. Raises :class:`~tests.core.locks.rules.Broken`."""
        with _pinned():
            return self._take(state, choice)

    def _take(self, state: State, choice: Choice) -> State:
        if choice.what not in (_STEP, _WAIT):
            state = state._replace(faults=state.faults - 1)
            self.faults[choice.what] += 1
        if choice.client is None:
            if state.faults == self._scenario.faults:
                self._all_notified(state)
            after = self._later(state, choice.ticks)
        elif choice.what == CRASH:
            after = _changed(state, choice.client, Client(None))
        elif choice.what == UNWOKEN:
            after = _changed(state, choice.client, state.clients[choice.client]._replace(notified=False))
        else:
            after = self._stepped(state, choice.client, choice.what)
        return self._checked(after)

    def _all_notified(self, state: State) -> None:
        shown = self._stores.shown(state.content)
        for client in state.clients:
            if client.position is not None and isinstance(client.position.step, Await) and client.position.acquiring:
                self._rules.notified(client.position.acquiring, state.memory, shown)

    def _later(self, state: State, ticks: int) -> State:
        clients = [
            client
            if client.position is None or client.position.step is None
            else client._replace(elapsed=client.elapsed + ticks)
            for client in state.clients
        ]
        return state._replace(content=self._stores.aged(state.content, ticks), clients=tuple(clients))

    def _stepped(self, state: State, number: int, what: str) -> State:
        position = state.clients[number].position
        assert position is not None
        applied, answer = _ON_A_TRANSACTION.get(what, (True, SENT))
        content, memory, clients = state.content, state.memory, list(state.clients)
        given: Answer = (answer, None)
        if isinstance(position.step, Transaction) and applied:
            effect = self._effect(content, position)
            before, after = self._stores.shown(content), self._stores.shown(effect.content)
            memory = self._rules.executed(memory, position.acquiring, position.own, before, after)
            content = effect.content
            if effect.notified:
                clients = [
                    client._replace(notified=True)
                    if client.position is not None and client.position.listening in effect.notified
                    else client
                    for client in clients
                ]
            if answer == SENT:
                given = (SENT, effect.outcome)
        client = clients[number]
        following, told = self._automata[number].follow(position, client.elapsed, given)
        for each in told:
            self.told[each[0]] += 1
            memory = self._rules.told(memory, *each)
        notified = client.notified and not isinstance(position.step, Await) and following.listening is not None
        clients[number] = Client(following, 0, notified)
        return state._replace(content=content, clients=tuple(clients), memory=memory)

    def _effect(self, content: int, position: Position) -> Effect:
        effect = self._effects.get((content, position))
        if effect is None:
            assert isinstance(position.step, Transaction)
            effect = self._effects[content, position] = self._stores.execute(content, position.step)
        return effect

    def _checked(self, state: State) -> State:
        shown = self._stores.shown(state.content)
        self._rules.one_holder(shown)
        self._rules.edits(state.memory, shown)
        acquiring: set[str] = set()
        for client in state.clients:
            if client.position is not None:
                self._rules.believed(client.position.claims, client.elapsed, shown)
                if client.position.acquiring is not None:
                    acquiring.add(client.position.acquiring)
        state = state._replace(memory=self._rules.kept(state.memory, acquiring, shown))
        if all(client.position is None or client.position.step is None for client in state.clients):
            self._ended(state)
        return state

    def _ended(self, state: State) -> None:
        crashed = {f"o{number}" for number, client in enumerate(state.clients) if client.position is None}
        self._rules.left(self._stores.shown(state.content), crashed)
        for cell in self._stores.content(state.content):
            if cell.key.space == WAITING_FOR and cell.key.path[0] not in crashed:
                raise Broken(f"left in the store: {cell}")

    def _lists(self, state: State) -> bool:
        return any(cell.key.space == LISTENERS for cell in self._stores.content(state.content))

    # Searching

    def explore(self, most: int = 1_000_000) -> Report:
        """Take every choice in every state. Raises :class:`Failure`, also if there are more states than that."""
        numbers = {self.first: 0}
        states = [self.first]
        ways: list[tuple[int, Choice] | None] = [None]
        steps = [0]
        following: list[list[tuple[int, int]]] = []
        ends: list[int] = []
        with _pinned():
            for number, state in enumerate(states):
                choices = self.choices(state)
                if not choices:
                    ends.append(number)
                reached: list[tuple[int, int]] = []
                for choice in choices:
                    try:
                        after = self._take(state, choice)
                    except Exception as error:
                        raise self._failure(error, [*_way(ways, number), choice]) from error
                    found = numbers.setdefault(after, len(states))
                    if found == len(states):
                        states.append(after)
                        ways.append((number, choice))
                        steps.append(steps[number] + 1)
                    reached.append((found, choice.ticks))
                following.append(reached)
                if len(states) > most or steps[-1] > _LONGEST:
                    told = f"no end after {steps[-1]} steps and {len(states)} states"
                    raise self._failure(Broken(told), _way(ways, len(states) - 1))
        order = _sorted(following)
        if order is None:
            raise AssertionError(f"a schedule that never ends: {self._scenario}")
        schedules = [0] * len(states)
        longest = [0] * len(states)
        for number in reversed(order):
            schedules[number] = sum([schedules[each] for each, _ in following[number]]) or 1
            longest[number] = max([longest[each] + ticks for each, ticks in following[number]], default=0)
        listed = sum(1 for number in ends if self._lists(states[number]))
        return Report(len(states), schedules[0], longest[0] / TICKS, self.told, self.faults, listed)

    def walk(self, chance: random.Random) -> int:
        """Follow one schedule by chance, and return how many steps it has. Raises :class:`Failure`."""
        state = self.first
        taken: list[Choice] = []
        while choices := self.choices(state):
            # Steps come often and faults seldom, or all faults would happen at the very beginning.
            steps = [choice for choice in choices if choice.what in (_STEP, _WAIT)]
            choice = chance.choice(choices if chance.random() < 0.1 else steps)
            taken.append(choice)
            try:
                if len(taken) > _LONGEST:
                    raise Broken("no end")
                state = self.take(state, choice)
            except Exception as error:
                raise self._failure(error, taken) from error
        return len(taken)

    # Telling

    def replay(self, choices: Sequence[tuple[int | None, str, int]]) -> list[str]:
        """Take some choices one after the other, and tell each. A broken rule is told as the last."""
        state = self.first
        steps: list[str] = []
        for choice in [Choice(*each) for each in choices]:
            steps.append(self._told(state, choice))
            try:
                state = self.take(state, choice)
            except Exception as error:
                steps.append(f"{type(error).__name__}: {error}")
        return steps

    def _failure(self, error: Exception, choices: list[Choice]) -> Failure:
        told = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
        return Failure(self._scenario, told, choices, self.replay(choices))

    def _told(self, state: State, choice: Choice) -> str:
        if choice.client is None:
            return f"{choice.what}: {choice.ticks / TICKS} s"
        client = state.clients[choice.client]
        assert client.position is not None
        step = client.position.step
        told = f"client {choice.client} {choice.what}: "
        if not isinstance(step, Transaction):
            return told + (f"{step}, notified" if client.notified else str(step))
        outcome = self._stores.outcomes[self._effect(state.content, client.position).outcome]
        return told + f"{_told(step)} -> {outcome.status.value}{outcome.counters or ''}"


_LATEST: Final = SimpleNamespace(uniform=lambda low, high: high)


def _pinned() -> mock._patch[object]:
    """Let random times be the longest ones."""
    return mock.patch.object(acquisition, "RANDOM", _LATEST)


def _can_go_on(client: Client) -> bool:
    position = client.position
    if position is None or position.step is None:
        return False
    return not _waits(position) or client.notified or client.elapsed >= position.wait


def _faults_of(client: Client, position: Position) -> Iterator[str]:
    """Yield what may befall a client at its next step."""
    if position.touching:
        yield CRASH
    if isinstance(position.step, Transaction):
        writing = bool(position.step.writes)
        yield from [what for what, (applied, _) in _ON_A_TRANSACTION.items() if writing or not applied]
    if isinstance(position.step, Listen):
        yield REFUSED
    if isinstance(position.step, (Await, Listen)):
        yield STOPPED_BEFORE
    if isinstance(position.step, Await) and not _can_go_on(client):
        yield SPURIOUS
    if client.notified:
        yield UNWOKEN


def _waits(position: Position) -> bool:
    return isinstance(position.step, Await) or is_work(position.step)


def _changed(state: State, number: int, client: Client) -> State:
    clients = list(state.clients)
    clients[number] = client
    return state._replace(clients=tuple(clients))


def _way(ways: list[tuple[int, Choice] | None], number: int) -> list[Choice]:
    way: list[Choice] = []
    place = ways[number]
    while place is not None:
        way.append(place[1])
        place = ways[place[0]]
    return way[::-1]


def _sorted(following: list[list[tuple[int, int]]]) -> list[int] | None:
    """Return the states so that each comes before those that follow it, or ``None`` if there is a cycle."""
    before = [0] * len(following)
    for reached in following:
        for number, _ in reached:
            before[number] += 1
    order = [0]
    for number in order:
        for each, _ in following[number]:
            before[each] -= 1
            if not before[each]:
                order.append(each)
    return order if len(order) == len(following) else None


def _told(transaction: Transaction) -> str:
    told = []
    for check in transaction.checks:
        if isinstance(check, Equals):
            there = " is there" if check.entries else " is empty"
            told.append(f"if {_told_key(check.key)}{there}")
        else:
            told.append(f"if below {_told_key(check.key)} is only {check.prefix.decode().strip()}")
    if transaction.reads:
        told.append("read " + " ".join([_told_key(read.key) for read in transaction.reads]))
    return ", ".join([*told, *map(_told_write, transaction.writes)])


def _told_write(write: Write) -> str:
    extra = f" = {write.value.decode()}" if isinstance(write, Put) else ""
    return f"{type(write).__name__.lower()} {_told_key(write.key)}{extra}"


def _told_key(key: Key) -> str:
    """Return ``h:a.b!c0/0`` for the record of the request ``c0/0`` that holds ``a.b``."""
    path = ".".join([segment.removeprefix("/") for segment in key.path])
    return f"{key.space}:{path}".replace(".!.", "!").replace(".!", "!")
