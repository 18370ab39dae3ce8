"""Contents of a store as an automaton: the memory backend computes each transition once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Final, NamedTuple

from redicts.backends.memory import MemoryBackend
from redicts.core.locks.records import HOLDERS, LISTENERS, TOKENS, WAITERS, WAITING_FOR, Mode, overlap
from redicts.core.minitransaction import VALUES, Entries, Key, Outcome, Path, Put, Read, Scope, Transaction
from tests.core.locks.clients import TICKS, Clock

_SPACES: Final = (HOLDERS, WAITERS, LISTENERS, WAITING_FOR, TOKENS.space, VALUES)

_LONG_SECS: Final = 1_000


class Cell(NamedTuple):
    """One value, and how many ticks of its TTL remain."""

    key: Key
    value: bytes
    ticks: int | None


Content = tuple[Cell, ...]


class Lock(NamedTuple):
    """A lock that a content shows as held or waited for. Parsed here on its own, not by the code under test."""

    request: str
    owner: str
    mode: str
    path: Path

    def conflicts(self, owner: str, mode: str, paths: tuple[Path, ...]) -> bool:
        """Tell whether this and a lock of that owner exclude each other."""
        if self.owner == owner or self.mode == mode == Mode.SHARED.value:
            return False
        return any(overlap(self.path, path) for path in paths)


class Shown(NamedTuple):
    """What a content shows to somebody who looks at it from outside."""

    held: tuple[Lock, ...]
    waited: tuple[Lock, ...]
    counter: int
    for_ever: tuple[Cell, ...]
    """What does not end by itself, without the counter of tokens and values."""
    values: tuple[tuple[Path, int], ...]
    """The values of edits, all numbers."""


class Effect(NamedTuple):
    """What a transaction does to a content: the number of the next one and of the outcome, and who is notified."""

    content: int
    outcome: int
    notified: frozenset[str]


class Stores:
    """All contents of one store that were met, by number."""

    def __init__(self, counter: int) -> None:
        self.outcomes: list[Outcome] = []
        self._outcomes: dict[Hashable, int] = {}
        self._contents: list[Content] = []
        self._numbers: dict[Content, int] = {}
        self._effects: dict[tuple[int, Hashable], Effect] = {}
        self._aged: dict[tuple[int, int], int] = {}
        self._shown: dict[int, Shown] = {}
        self.first = self._number((Cell(TOKENS, b"%d" % counter, None),) if counter else ())

    def execute(self, content: int, transaction: Transaction) -> Effect:
        """Return what a transaction does to a content."""
        asked = content, _hashable(transaction)
        effect = self._effects.get(asked)
        if effect is None:
            effect = self._effects[asked] = self._executed(content, transaction)
        return effect

    def aged(self, content: int, ticks: int) -> int:
        """Return what is left of a content after some time."""
        number = self._aged.get((content, ticks))
        if number is None:
            cells = [
                cell if cell.ticks is None else cell._replace(ticks=cell.ticks - ticks)
                for cell in self._contents[content]
            ]
            number = self._number(tuple([cell for cell in cells if cell.ticks is None or cell.ticks > 0]))
            self._aged[content, ticks] = number
        return number

    def ends(self, content: int) -> list[int]:
        """Return in how many ticks TTLs end."""
        return sorted({cell.ticks for cell in self._contents[content] if cell.ticks is not None})

    def content(self, content: int) -> Content:
        """Return what is stored."""
        return self._contents[content]

    def shown(self, content: int) -> Shown:
        """Return what a content shows."""
        shown = self._shown.get(content)
        if shown is None:
            shown = self._shown[content] = _shown(self._contents[content])
        return shown

    def _executed(self, content: int, transaction: Transaction) -> Effect:
        cells = self._contents[content]
        clock = Clock()
        backend = MemoryBackend(clock=clock)
        for cell in cells:
            # Lives are whole milliseconds, and ticks are not: a long life that began long ago ends at any tick.
            ttl = None if cell.ticks is None else _LONG_SECS * 1000
            clock.ticks = 0 if cell.ticks is None else cell.ticks - _LONG_SECS * TICKS
            backend.execute(Transaction(writes=(Put(cell.key, cell.value, ttl),)))
        clock.ticks = 0
        listed = {cell.value for cell in cells if cell.key.space == LISTENERS}
        listed |= {write.value for write in transaction.writes if isinstance(write, Put)}
        listeners = {name: backend.listen(name.decode()) for name in listed}
        outcome = backend.execute(transaction)
        notified = frozenset([name.decode() for name, listener in listeners.items() if listener.wait(0)])
        number = self._outcomes.setdefault(_hashable(outcome), len(self.outcomes))
        if number == len(self.outcomes):
            self.outcomes.append(outcome)
        return Effect(self._number(_content(backend)), number, notified)

    def _number(self, content: Content) -> int:
        number = self._numbers.setdefault(content, len(self._contents))
        if number == len(self._contents):
            self._contents.append(content)
        return number


def _content(backend: MemoryBackend) -> Content:
    reads = tuple([Read(Key(space, ()), Scope.BELOW, ttls=True) for space in _SPACES])
    cells: list[Cell] = []
    for read, entries in zip(reads, backend.execute(Transaction((), reads)).answers):
        assert isinstance(entries, Entries)
        cells += [
            Cell(Key(read.key.space, path), value, _ticks(entries.ttls.get(path)))
            for path, value in entries.values.items()
        ]
    return tuple(sorted(cells, key=lambda cell: cell.key))


def _ticks(ttl: int | None) -> int | None:
    if ttl is None:
        return None
    ticks, rest = divmod(ttl * TICKS, 1000)
    assert not rest, "a TTL that is no whole number of ticks"
    return ticks


def _shown(content: Content) -> Shown:
    counter = 0
    held: list[Lock] = []
    waited: list[Lock] = []
    for_ever: list[Cell] = []
    values: list[tuple[Path, int]] = []
    for cell in content:
        if cell.key == TOKENS:
            counter = int(cell.value)
            continue
        if cell.key.space == VALUES:
            values.append((cell.key.path, int(cell.value)))
            continue
        if cell.ticks is None:
            for_ever.append(cell)
        if cell.key.space in (HOLDERS, WAITERS):
            path, (mark, request) = cell.key.path[:-2], cell.key.path[-2:]
            mode, owner = cell.value[:1].decode(), cell.value[1:].split()[0].decode()
            assert mark == "!"
            lock = Lock(request, owner, mode, tuple([segment.removeprefix("/") for segment in path]))
            (held if cell.key.space == HOLDERS else waited).append(lock)
    return Shown(tuple(held), tuple(waited), counter, tuple(for_ever), tuple(values))


def _hashable(value: Hashable | Mapping[Any, Any]) -> Hashable:
    if isinstance(value, tuple):
        return type(value), tuple([item if isinstance(item, (str, bytes)) else _hashable(item) for item in value])
    if isinstance(value, Mapping):
        return type(value), frozenset([(_hashable(key), _hashable(item)) for key, item in value.items()])
    return value
