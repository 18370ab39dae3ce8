"""Pairs of writes: in one transaction, each write of a key sees what every kind of write before it left there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Final, NamedTuple, Union

from redicts.backends.memory import MemoryBackend
from redicts.contract.check import conformance_check
from redicts.contract.client import Client
from redicts.contract.clock import ManualClock
from redicts.contract.fixture import LONG, SHORT, Fixture
from redicts.contract.requirements import require, require_equal
from redicts.contract.walk import many, pages
from redicts.core.minitransaction import (
    Add,
    Delete,
    Expire,
    Key,
    Notify,
    Path,
    Put,
    PutDocument,
    Read,
    Scope,
    Transaction,
    Write,
)

_LONGER: Final = 100 * LONG
_AT_ONCE: Final = 20
"""The cases in one transaction."""

_PUTS_AT_ONCE: Final = 1000


class _Case(NamedTuple):
    """Some writes of one key, and what they are called."""

    name: str
    writes: tuple[Write, ...]


@conformance_check()
def each_write_sees_the_one_before(fixture: Fixture) -> None:
    """Any two writes of one key in one transaction have the result of applying one and then the other.

    Applies every pair of kinds of writes to a key that is absent, a counter with a TTL or expired, and compares
    with the memory backend.
    """
    for number, (state, put) in enumerate(_states(fixture).items()):
        comparison = _Comparison(fixture, state, put, 3 if fixture.thorough else 2)
        for case in comparison.refused:
            comparison.transact([case])
        for start in range(0, len(comparison.applied), _AT_ONCE):
            # Every second time, the writes of other keys stand between the two.
            comparison.transact(comparison.applied[start : start + _AT_ONCE], apart=(start // _AT_ONCE + number) % 2)
        comparison.compare()


_State = Union[tuple[bytes, Union[int, None]], None]
"""A value and its TTL, or nothing."""


def _states(fixture: Fixture) -> dict[str, _State]:
    """Return what is at the keys before the writes, by name."""
    if not fixture.capabilities.ttl:
        return {"nothing": None, "a counter": (b"41", None), "a text": (b"text", None)}
    return {
        "nothing": None,
        "a counter with a TTL": (b"41", LONG),
        "an expired text": (b"text", SHORT),
    }


class _Comparison:
    """The store and the reference model, to which the same transactions are applied.

    ``applied`` has the cases that the model applies, ``refused`` those with an Add that meets no counter.
    """

    def __init__(self, fixture: Fixture, state: str, put: _State, length: int) -> None:
        self._fixture = fixture
        self._model = Client(MemoryBackend(ManualClock()))
        self._names: dict[Path, str] = {}
        self.applied: list[_Case] = []
        self.refused: list[_Case] = []
        fixture.renew()
        kinds = _kinds(fixture)
        puts: list[Write] = []
        for number, names in enumerate(product(kinds, repeat=length)):
            path = (f"p{number}",)
            case = _Case(" then ".join(names), tuple([_at(kinds[name], fixture.space, path) for name in names]))
            self._names[path] = f"{case.name} over {state}"
            if put is not None:
                puts.append(Put(fixture.key(*path, "k"), *put))
            (self.applied if _is_applied(case, put) else self.refused).append(case)
        for start in range(0, len(puts), _PUTS_AT_ONCE):
            fixture.store.run(writes=puts[start : start + _PUTS_AT_ONCE])
        if put is not None and put[1] == SHORT:
            fixture.outlive()
        else:
            self._model.run(writes=puts)

    def transact(self, cases: Sequence[_Case], *, apart: int = 0) -> None:
        """Apply all writes of these cases at once: one case after the other or, ``apart``, all first writes first."""
        told = [(write, case.name) for case in cases for write in case.writes]
        if apart:
            length = len(cases[0].writes)
            told = [pair for first in range(length) for pair in told[first::length]]
        transaction = Transaction(writes=tuple([write for write, _ in told]))
        outcome, expected = self._fixture.store.execute(transaction), self._model.execute(transaction)
        at = None if outcome.failed_index is None else told[outcome.failed_index][1]
        require_equal(
            (outcome.status.name, at),
            (expected.status.name, at if expected.failed_index == outcome.failed_index else None),
            f"the status and what is refused, in a transaction of {len(cases)} pairs from {cases[0].name} on, are",
        )
        adds = [name for write, name in told if isinstance(write, Add)]
        for name, count, wanted in zip(adds, outcome.counters, expected.counters):
            require_equal(count, wanted, f"a counter of {name} is")

    def compare(self) -> None:
        """Require the values and TTLs of the model."""
        ttls = self._fixture.capabilities.ttl
        read = Read(self._fixture.key(), Scope.SUBTREE, 1000, ttls=ttls)
        expected, deadlines = _all(self._model, read, 2 * len(self._names))
        found, left = _all(self._fixture.store, read, 2 * len(self._names))
        for path in sorted({*expected, *found}):
            name = f"{'.'.join(path[1:])!r} after {self._names[path[:1]]}"
            require_equal(found.get(path), expected.get(path), f"{name} is")
            require_equal(path in left, path in deadlines, f"{name} has a TTL:")
            if path in deadlines:
                near = abs(left[path] - deadlines[path]) < LONG
                require(near, f"{name} has a TTL of {left[path]} ms, expected {deadlines[path]}")


def _is_applied(case: _Case, put: _State) -> bool:
    """Tell whether no Add of a case is refused."""
    if not any(isinstance(write, Add) for write in case.writes):
        return True
    model = Client(MemoryBackend(ManualClock()))
    key = case.writes[0].key
    if put is not None and put[1] != SHORT:
        model.apply(Put(Key(key.space, (key.path[0], "k")), put[0]))
    return model.run(writes=case.writes).applied


def _kinds(fixture: Fixture) -> Mapping[str, Write]:
    """Return the kinds of writes that meet at one key, each for the parent ``p`` and its child ``k``."""
    parent, key = Key("", ("p",)), Key("", ("p", "k"))
    kinds: dict[str, Write] = {
        "put": Put(key, b"text"),
        "put of a counter": Put(key, b"6"),
        "put of much": Put(key, b"long" * 500),
        "put with keep_ttl": Put(key, b"7", keep_ttl=True),
        "add": Add(key, 1),
        "delete": Delete(key, Scope.NODE),
        "delete below its parent": Delete(parent, Scope.BELOW),
        "delete of its parent": Delete(parent, Scope.SUBTREE),
        "notify": Notify(key, Scope.NODE),
        "notify below its parent": Notify(parent, Scope.BELOW),
    }
    if fixture.capabilities.ttl:
        kinds |= {
            "put with a TTL": Put(key, b"8", _LONGER),
            "expire": Expire(key, Scope.NODE, _LONGER),
            "expire below its parent with none": Expire(parent, Scope.BELOW, None),
        }
    if fixture.capabilities.documents:
        kinds["put of a document"] = PutDocument(parent, b'{"k":9,"other":"text"}')
        if fixture.capabilities.ttl:
            kinds["put of a document with a TTL"] = PutDocument(parent, b'{"k":10,"other":11}', _LONGER)
    return kinds


def _at(write: Write, space: str, parent: Path) -> Write:
    """Return this write in a space, with another path instead of ``p``."""
    return write._replace(key=Key(space, parent + write.key.path[1:]))


def _all(client: Client, read: Read, entries: int) -> tuple[dict[Path, bytes], dict[Path, int]]:
    values: dict[Path, bytes] = {}
    ttls: dict[Path, int] = {}
    for page in pages([client], read, many(entries)):
        values |= page.values
        ttls |= page.ttls
    return values, ttls
