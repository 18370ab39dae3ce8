"""Clients of the lock protocol as automata: the next request of each is a function of the answers so far.

A client runs a small script, written as text (see :func:`script`), on the steps of a protocol. It behaves as a careful
program does: it gives back what it holds however its script ends, and tries again while something may be left of a
request. A generator cannot be copied, but it can be run again with the same answers; so each :class:`Position` of a
client keeps the answers that lead to it, and each pair of position and answer is run once only.

*When two positions are one.* A generator goes on in the same way if the same code stands at the same instruction with
equal variables, in each frame from the outermost to the innermost, and if whatever these variables refer to is equal.
:func:`position_of` compares exactly that: it follows every reference, raises for an object that it does not know, and
replaces nothing but times by times from now on (the code compares times and takes their difference, and the times here
are exact in floats, so a shift changes nothing). What Python keeps beside the variables, as where a loop stands that
has a ``yield`` in its body, is told by the loop's own variable in all that is run here. The tests compare this with an
exploration that takes for equal only what was given equal answers from the beginning.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Generator, Hashable, Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Union
from typing import Protocol as Shape

from redicts.codecs.json import codec
from redicts.core.driver import Await, Listen, Pause, Steps
from redicts.core.driver import Request as Step
from redicts.core.envelope import LeafFormat
from redicts.core.leaves import ABSENT
from redicts.core.locks.acquisition import Grant
from redicts.core.locks.guards import guarded
from redicts.core.locks.records import HOLDERS, Mode, Owner, Request
from redicts.core.minitransaction import Entries, Equals, Outcome, Path, Read, Scope
from redicts.core.original import Original
from redicts.errors import Conflict, Deadlock, LockLost, LockTimeout, StoreError

if TYPE_CHECKING:
    from typing import TypeGuard

TICKS: Final = 8
"""Ticks per second. All times of the protocol are whole numbers of ticks, and exact in floats."""

_START: Final = float(2**20)
"""Where clocks begin: what is larger than half of it is a time, and what is smaller a span."""

_LEASE: Final = 5_000


class Clock:
    """A clock that a test sets, in ticks from the beginning. Call it for seconds."""

    def __init__(self) -> None:
        self.ticks = 0

    def __call__(self) -> float:
        return _START + self.ticks / TICKS


def wall_clock() -> float:
    """Return a constant: what the protocol uses this time for orders nothing."""
    return 1_700_000_000.0


class Locks(Shape):
    """What a client needs of a protocol, so that broken ones can take its place."""

    def acquire(
        self,
        request: Request,
        lease: int,
        timeout: float | None,
        own: Collection[Request],
        reads: tuple[Read, ...],
    ) -> Steps[Grant | None]: ...

    def release(self, request: Request, last: Steps[None] | None = None) -> Steps[bool]: ...

    def withdraw(self, request: Request) -> Steps[None]: ...

    def renew(self, requests: list[tuple[Request, int]]) -> Steps[list[bool]]: ...

    def edit_read(self, path: Path) -> Read: ...

    def open_edit(self, path: Path, first: Entries, read_at: float, default: object) -> Steps[Original]: ...

    def close_edit(self, path: Path, original: Original) -> Steps[None]: ...


Making = Callable[[Clock], Locks]
"""Makes a protocol that tells the time by a clock."""


FORMAT: Final = LeafFormat(codec)
"""How the values of edits are stored."""


class Acquire(NamedTuple):
    """Acquire a lock on some paths; or edit the value at the first one, which releases the lock."""

    mode: Mode
    paths: tuple[Path, ...]
    timeout: float | None
    edits: bool = False


class Release(NamedTuple):
    """Give back what the action with this number acquired, if it did."""

    number: int


class Renew(NamedTuple):
    """Let a lease begin again, of what the action with this number acquired."""

    number: int


class Work(NamedTuple):
    """Let time pass."""

    seconds: float


Action = Union[Acquire, Release, Renew, Work]


def script(text: str) -> tuple[Action, ...]:
    """Parse a script.

    ``X:a.b`` acquires exclusively, ``S:a+x`` shared and two paths at once, ``X:a?`` tries, ``X:a?1.5`` waits for 1.5
    seconds; ``E:a`` edits the value at ``a``: it counts, and adds a mark of its own; ``-0`` releases what the action
    with number 0 acquired, ``^0`` renews it; ``~3`` works for 3 seconds. What is still held at the end is released.
    """
    return tuple([_action(word) for word in text.split()])


def _action(word: str) -> Action:
    if word[0] == "-":
        return Release(int(word[1:]))
    if word[0] == "^":
        return Renew(int(word[1:]))
    if word[0] == "~":
        return Work(float(word[1:]))
    paths, question, timeout = word[2:].partition("?")
    return Acquire(
        Mode.EXCLUSIVE if word[0] == "E" else Mode(word[0]),
        tuple([tuple(path.split(".")) for path in paths.split("+")]),
        float(timeout or 0) if question else None,
        word[0] == "E",
    )


class HeldLocks(NamedTuple):
    """A lock that a client believes to hold, until a time on its own clock."""

    request: Request
    token: int
    until: float


class LockClient:
    """One client: its actions, and the locks that it believes to hold."""

    def __init__(self, number: int, actions: tuple[Action, ...], making: Making) -> None:
        self.clock = Clock()
        self.owner = Owner(f"o{number}", f"client {number}")
        self.held: dict[int, HeldLocks] = {}
        self.acquiring: str | None = None
        """The name of the request, as it was at first."""
        self.own: tuple[str, ...] = ()
        """What it believed to hold when it began to acquire."""
        self.listening: str | None = None
        """The name under which it listens, from when it asks to until the operation ends."""
        self.told: list[tuple[str, str, int]] = []
        """What it came to know since it was last answered: what, of which request, with which token."""
        self._number = number
        self._actions = actions
        self._locks = making(self.clock)

    def run(self) -> Steps[None]:
        """Do what the script says, then give back all that is held."""
        for index, action in enumerate(self._actions):
            try:
                if isinstance(action, Acquire):
                    yield from self._acquire(index, action)
                elif isinstance(action, Work):
                    yield Pause(action.seconds)
                elif action.number in self.held and isinstance(action, Renew):
                    yield from self._renew(action.number)
                elif action.number in self.held:
                    yield from self._release(action.number)
            except (Conflict, Deadlock, LockLost, StoreError, KeyboardInterrupt):
                break
        while self.held:
            try:
                yield from self._release(next(iter(self.held)))
            except (StoreError, KeyboardInterrupt):
                continue

    def _acquire(self, index: int, action: Acquire) -> Steps[None]:
        name = f"c{self._number}/{index}"
        request = Request(name, self.owner, action.mode, action.paths, 0)
        own = {number: held.request for number, held in self.held.items() if held.until > self.clock()}
        self.own = tuple([f"c{self._number}/{number}" for number in own])
        self.acquiring = name
        failure: BaseException | None = None
        grant = None
        told = "not free"
        reads = (self._locks.edit_read(action.paths[0]),) if action.edits else ()
        try:
            grant = yield from self._locks.acquire(request, _LEASE, action.timeout, list(own.values()), reads)
        except LockTimeout:
            told = "timeout"
        except (Deadlock, LockLost, StoreError, KeyboardInterrupt) as error:
            failure = error
            told = "deadlock" if isinstance(error, Deadlock) else "failed"
        self.listening = None
        self.acquiring = None
        if grant is not None:
            self.held[index] = HeldLocks(request, grant.token, grant.since + _LEASE / 1000)
            self.told.append(("granted", name, grant.token))
            if action.edits:
                yield from self._edit(index, action.paths[0], grant)
            return
        self.told.append((told, name, 0))
        yield from self._remove(request)
        if failure is not None:
            raise failure

    def _edit(self, index: int, path: Path, grant: Grant) -> Steps[None]:
        """Change a value under a lock as the lock manager does, and release the lock with the change."""
        (first,) = grant.answers
        assert isinstance(first, Entries)
        request, name = self.held[index].request, f"c{self._number}/{index}"
        original = yield from self._locks.open_edit(path, first, grant.since, ABSENT)
        original.value["n"] = original.value.get("n", 0) + 1
        original.value[name] = 1
        guards = tuple([Equals(key, Scope.NODE, {(): request.record}) for key in request.keys(HOLDERS)])
        try:
            yield from self._release(index, guarded(self._locks.close_edit(path, original), guards, _lost))
        except Conflict:
            self.told.append(("conflict", name, 0))
            raise
        self.told.append(("edited", name, 0))

    def _release(self, index: int, last: Steps[None] | None = None) -> Steps[None]:
        request = self.held[index].request  # believed to be held until the store was asked to remove it
        failure: BaseException | None = None
        try:
            yield from self._locks.release(request, last)
        except (Conflict, LockLost, StoreError, KeyboardInterrupt) as error:
            failure = error
        del self.held[index]
        yield from self._remove(request)
        if failure is not None:
            raise failure

    def _renew(self, index: int) -> Steps[None]:
        held = self.held[index]
        since = self.clock()
        (still,) = yield from self._locks.renew([(held.request, _LEASE)])
        if still:
            self.held[index] = held._replace(until=since + _LEASE / 1000)
        else:
            del self.held[index]

    def _remove(self, request: Request) -> Steps[None]:
        while request.pending:
            try:
                yield from self._locks.withdraw(request)
            except (StoreError, KeyboardInterrupt):
                continue


def _lost(_index: int) -> Steps[Exception]:
    yield from ()
    return LockLost("the lock is lost")


class Claim(NamedTuple):
    """A belief to hold a lock, for so many ticks from when the client was last answered."""

    name: str
    owner: str
    mode: Mode
    paths: tuple[Path, ...]
    ticks: float


Answer = tuple[str, Hashable]
"""What a client is given: ``("sent", an outcome's number)`` or the name of an exception, and nothing."""

SENT: Final = "sent"
THROWN: Final[dict[str, Callable[[], BaseException]]] = {
    "lost": lambda: StoreError("no reply", maybe_applied=True),
    "refused": lambda: StoreError("refused"),
    "stopped": KeyboardInterrupt,
}


class _Running(NamedTuple):
    client: LockClient
    steps: Steps[None]


class Position:
    """Where a client stands: what it asks for next, and what it believes. Compared by identity."""

    __slots__ = (
        "acquiring",
        "before",
        "claims",
        "following",
        "identity",
        "listening",
        "number",
        "own",
        "running",
        "step",
        "touching",
        "wait",
    )

    def __init__(
        self,
        identity: int,
        number: int,
        before: tuple[Position, int, Answer] | None,
        running: _Running,
        step: Step | None,
    ) -> None:
        client = running.client
        now = client.clock()
        self.identity = identity
        self.number = number
        self.before = before
        self.running: _Running | None = running
        self.step = step
        self.following: dict[tuple[int, Answer], tuple[Position, tuple[tuple[str, str, int], ...]]] = {}
        self.acquiring = client.acquiring
        self.own = client.own
        self.listening = client.listening
        self.touching = bool(client.held) or self.acquiring is not None
        """Whether something of it may be in the store."""
        self.wait = _ticks(step.seconds) if isinstance(step, Await) or is_work(step) else 0
        """How many ticks it waits, if nobody notifies it."""
        self.claims = tuple(
            [
                Claim(held.request.name, self.owner, held.request.mode, held.request.paths, (held.until - now) * TICKS)
                for held in client.held.values()
            ]
        )

    @property
    def owner(self) -> str:
        """The name of the owner of all that this client locks."""
        return f"o{self.number}"


class Automaton:
    """All positions of one client that were met, each found once.

    ``by_history`` takes positions for equal only if everything was equal that led to them.
    """

    def __init__(self, number: int, text: str, making: Making, outcomes: list[Outcome], *, by_history: bool) -> None:
        self._number = number
        self._actions = script(text)
        self._making = making
        self._outcomes = outcomes
        self._by_history = by_history
        self._positions: dict[Hashable, Position] = {}
        self.start = self._position(None, *self._started())

    def follow(
        self, position: Position, elapsed: int, answer: Answer
    ) -> tuple[Position, tuple[tuple[str, str, int], ...]]:
        """Return where a client goes with an answer that comes so many ticks after the last one, and what it learns."""
        found = position.following.get((elapsed, answer))
        if found is None:
            running = self._taken(position)
            step = self._answered(running, elapsed, answer)
            told = tuple(running.client.told)
            running.client.told.clear()
            found = self._position((position, elapsed, answer), running, step), told
            position.following[elapsed, answer] = found
        return found

    def _started(self) -> tuple[_Running, Step | None]:
        client = LockClient(self._number, self._actions, self._making)
        steps = client.run()
        running = _Running(client, steps)
        return running, self._moved(running, lambda: next(steps))

    def _answered(self, running: _Running, elapsed: int, answer: Answer) -> Step | None:
        running.client.clock.ticks += elapsed
        kind, number = answer
        if kind == SENT:
            outcome = None if number is None else self._outcomes[_int(number)]
            return self._moved(running, lambda: running.steps.send(outcome))
        return self._moved(running, lambda: running.steps.throw(THROWN[kind]()))

    @staticmethod
    def _moved(running: _Running, move: Callable[[], Step]) -> Step | None:
        try:
            step = move()
        except StopIteration:
            return None
        if isinstance(step, Listen):
            running.client.listening = step.name
        return step

    def _position(self, before: tuple[Position, int, Answer] | None, running: _Running, step: Step | None) -> Position:
        seen: Hashable
        if step is None:
            seen = None
        elif self._by_history and before is not None:
            seen = (before[0].identity, *before[1:])
        else:
            seen = position_of(running.steps, running.client)
        found = self._positions.get(seen)
        if found is None:
            found = self._positions[seen] = Position(len(self._positions), self._number, before, running, step)
        return found

    def _taken(self, position: Position) -> _Running:
        """Return a generator that stands at a position, and that nobody else moves."""
        running, position.running = position.running, None
        if running is not None:
            return running
        answers: list[tuple[int, Answer]] = []
        place = position
        while place.before is not None:
            place, elapsed, answer = place.before
            answers.append((elapsed, answer))
        running, step = self._started()
        for elapsed, each in reversed(answers):
            step = self._answered(running, elapsed, each)
        running.client.told.clear()
        assert step == position.step, "the steps are not the same with the same answers"
        return running


def position_of(steps: Generator[Any, Any, Any], client: LockClient) -> Hashable:
    """Return what decides how a client goes on, see the text of this module."""
    return _frames(steps, client.clock(), {id(client.clock): -1})


def _frames(steps: Generator[Any, Any, Any], now: float, seen: dict[int, int]) -> Hashable:
    frames: list[Hashable] = []
    inner: Any = steps
    while inner is not None:
        assert isinstance(inner, types.GeneratorType)
        frame = inner.gi_frame
        assert frame is not None
        frames.append((frame.f_code.co_filename, frame.f_code.co_firstlineno, frame.f_lasti))
        frames += [(name, _plain(value, now, seen)) for name, value in sorted(frame.f_locals.items())]
        inner = inner.gi_yieldfrom
    return tuple(frames)


_ATOMS: Final = frozenset({type(None), bool, int, str, bytes})


def _plain(value: Any, now: float, seen: dict[int, int]) -> Hashable:  # noqa: C901  (one case per kind)
    """Return something hashable that is equal for equal values and different for different ones."""
    kind = type(value)
    if kind in _ATOMS:
        return kind, value
    if isinstance(value, float):
        return ("time", value - now) if value > _START / 2 else ("span", value)
    if isinstance(value, (tuple, list)):
        return kind, tuple([(type(item), item) if type(item) in _ATOMS else _plain(item, now, seen) for item in value])
    if isinstance(value, Enum):
        return kind, value.name
    if isinstance(value, Mapping):
        return "mapping", tuple([(_plain(key, now, seen), _plain(item, now, seen)) for key, item in value.items()])
    if isinstance(value, (set, frozenset)):
        return "set", frozenset([_plain(item, now, seen) for item in value])
    if isinstance(value, BaseException):
        return type(value).__name__, str(value), getattr(value, "maybe_applied", None)
    if isinstance(value, (types.FunctionType, type)):
        return value.__qualname__
    if value is FORMAT:
        return "format"
    if id(value) in seen:
        return "seen", seen[id(value)]
    seen[id(value)] = len(seen)
    if isinstance(value, types.GeneratorType):
        return "ended" if value.gi_frame is None else _frames(value, now, seen)
    attributes = dict(_attributes(value))
    if not attributes and type(value) is not object:
        raise TypeError(f"nothing is known of {value!r}")
    return type(value).__name__, tuple(
        [(name, _plain(attribute, now, seen)) for name, attribute in sorted(attributes.items())]
    )


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(value, name):
                yield name, getattr(value, name)


def is_work(step: Step | None) -> TypeGuard[Pause]:
    """Tell whether a client lets time pass; none does in pauses shorter than a tick, they only let others go first."""
    return isinstance(step, Pause) and step.seconds >= 1 / TICKS


def _int(number: Hashable) -> int:
    assert isinstance(number, int)
    return number


def _ticks(seconds: float) -> int:
    ticks = seconds * TICKS
    return int(ticks) + (ticks > int(ticks))
