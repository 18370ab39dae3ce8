"""Random transactions executed at two nodes of a store: their outcomes must be the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Final

from redicts.contract.client import Client
from redicts.contract.fixture import LONG
from redicts.contract.requirements import require, require_equal, shortened
from redicts.core.minitransaction import (
    Add,
    AnyRead,
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
    PutDocument,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Status,
    Transaction,
    Write,
)

_PATHS: Final[tuple[Path, ...]] = (("a",), ("a", "b"), ("a", "b", "c"), ("a", "x"), ("b",), ("ab", "c"))
_VALUES: Final = (b"1", b"-7", b"text", b"long" * 800)
_DOCUMENTS: Final = (
    b'{"b":{"c":1,"d":"text"},"x":[1,2],"y":{}}',
    b'{"b":{"c":5,"d":"%b"},"x":1}' % (b"long" * 800),
    b'{"c":{"c":{"c":3}},"x":{"y":-7}}',
)

_KINDS: Final = (0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8)
"""Kinds of writes: deletes, Notify and Expire of scopes of values that are there, then leaves, then documents."""

_LEAVES: Final = 9
"""How many of them are no documents."""


class Alike:
    """Two nodes at which the same is written.

    Args:
        client: The client that reads and writes.
        nodes: The two nodes. Nothing is below them yet.
        beside: A write elsewhere, which comes first in each transaction that writes at the second node.
        seed: The seed of the transactions.

    """

    def __init__(self, client: Client, nodes: Sequence[Key], beside: Put, seed: int) -> None:
        self._client: Final = client
        self._beside: Final = beside
        self._nodes: Final = nodes
        self._random: Final = Random(seed)  # noqa: S311  (not a secret)
        self._ttls: Final = client.capabilities.ttl
        self._documents: Final = client.capabilities.documents
        self._there: Mapping[Path, bytes] = {}

    def execute(self) -> None:
        """Execute one more transaction at both, and require the same outcome and the same values."""
        writes: list[Write] = []
        for _ in range(self._random.randrange(4)):
            writes += self._writes(is_first=not writes)
        # Other checks are about reads of a transaction that is refused.
        reads: list[AnyRead] = [] if any(isinstance(write, Add) for write in writes) else [self._read(), self._names()]
        self._require_same([self._check()] * self._random.randrange(2), reads, writes)
        everything = Read(_key(()), Scope.SUBTREE, ttls=self._ttls)
        self._there = dict(self._require_same([], [everything], [])[0].values)
        path = self._random.choice(_PATHS)
        keys = [_at(node, path) for node in self._nodes]
        for fetch in (self._client.fetch, self._client.fetch_document):
            found = [fetch(key) for key in keys]
            require(None in found or found[0] == found[1], f"at {keys!r}, {found!r} are fetched")

    def _require_same(self, checks: Sequence[Check], reads: Sequence[AnyRead], writes: Sequence[Write]) -> Any:
        outcomes = []
        for node in self._nodes:
            moved: list[Any] = [
                tuple([item._replace(key=_at(node, item.key.path)) for item in part])
                for part in (checks, reads, writes)
            ]
            if writes and node == self._nodes[1]:
                moved[2] = (self._beside, *moved[2])
            outcome = self._client.execute(Transaction(*moved))
            if outcome.status is Status.NOT_A_COUNTER and node == self._nodes[1]:
                outcome = outcome._replace(failed_index=(outcome.failed_index or 0) - 1)
            outcomes.append(outcome)
        at = self._nodes[1]
        where = f"at {shortened(at.path, 40)} in the space {at.space!r}"
        what = f"{where}, the outcome of {(checks, reads, writes)!r} is"
        require_equal(_told(outcomes[1]), _told(outcomes[0]), what)
        return outcomes[0].answers

    def _writes(self, *, is_first: bool) -> list[Write]:
        """Return a write, after those that remove what is above and may be below its key."""
        random = self._random
        path, scope = random.choice(_PATHS), random.choice(list(Scope))
        kind = random.choice(_KINDS if self._documents else _KINDS[:_LEAVES])
        if kind < 3 and self._there:
            at = random.choice(sorted(self._there))
            path = at[: random.randint(1, len(at))]
        key, ttl = _key(path), random.choice((None, LONG)) if self._ttls else None
        if kind == 0:
            return [Delete(key, scope)]
        if kind == 1:
            return [Notify(key, scope)]
        if kind == 2:
            return [Expire(key, scope, ttl)] if self._ttls else []
        above: list[Write] = [Delete(_key(path[:depth]), Scope.NODE) for depth in range(1, len(path))]
        if kind >= 6:
            return [*above, PutDocument(key, random.choice(_DOCUMENTS), ttl)]
        put = Add(key, random.choice((1, -3))) if kind == 3 else Put(key, random.choice(_VALUES), ttl, kind == 4)
        if is_first and not any(at[: len(path)] == path and at != path for at in self._there):
            return [*above, put]
        return [*above, Delete(key, Scope.BELOW), put]

    def _check(self) -> Check:
        path, scope = self._random.choice(_PATHS), self._random.choice(list(Scope))
        if self._random.random() < 0.5:
            return StartsWith(_key(path), scope, self._random.choice((b"", b"1", b"t")))
        below = {at[len(path) :]: value for at, value in self._there.items() if at[: len(path)] == path}
        return Equals(_key(path), scope, {at: value for at, value in below.items() if scope.covers(at)})

    def _read(self) -> Read:
        return Read(
            _key(self._random.choice(_PATHS)), self._random.choice((Scope.NODE, Scope.SUBTREE)), ttls=self._ttls
        )

    def _names(self) -> ReadNames:
        return ReadNames(_key(self._random.choice(((), *_PATHS))))


def _key(path: Path) -> Key:
    return Key("", path)


def _at(node: Key, path: Path) -> Key:
    return Key(node.space, (*node.path, *path))


def _told(outcome: Outcome) -> tuple[object, ...]:
    """Return an outcome without the order of its answers, and with the paths of TTLs: the clock goes on."""
    answers = [
        (dict(answer.values), set(answer.ttls)) if isinstance(answer, Entries) else set(answer.names)
        for answer in outcome.answers
    ]
    return outcome.status, outcome.failed_index, outcome.counters, answers
