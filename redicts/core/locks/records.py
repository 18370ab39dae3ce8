"""The layout of lock records in the store: one record per request and path, and the scopes of conflicting ones.

========  =======================================  ====================================================
space     path                                     value
========  =======================================  ====================================================
``h``     the locked path, ``!``, the request      a held lock; its TTL is the lease
``w``     the wanted path, ``!``, the request      a waiter; its short TTL is renewed while it waits
``n``     a request, a waiting request             the listener to notify when the first request is removed
``d``     an owner                                 its links in the wait-for graph, for deadlock detection
``f``     ``token``                                the last fencing token
========  =======================================  ====================================================

A segment ``a`` of a locked path is stored as ``/a``. So no segment equals the ``!`` that ends a path, and the records
of locks on ``a`` and ``a.b`` keep the space prefix-free. Every record that may conflict with a request for ``a.b`` is
below one of ``!``, ``/a !`` (locks above) and ``/a /b`` (locks at and below the path).

The value of a record begins with its mode and its owner. So one check, "every value in the scope starts with these
bytes", means *free, or held by this owner* for a whole subtree. Then follow, separated by spaces, the time of the
request in milliseconds since the epoch, all its paths if they are few (else ``-``), and the label of the owner.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from redicts.core.minitransaction import MAX_DEPTH, Entries, Key, Path, Read, Scope
from redicts.core.paths import described
from redicts.errors import InternalError, PathError

HOLDERS: Final = "h"
WAITERS: Final = "w"
LISTENERS: Final = "n"
WAITING_FOR: Final = "d"
TOKENS: Final = Key("f", ("token",))

PAGE: Final = 1_000
"""The maximum number of records that one transaction reads in one scope."""

_END: Final = "!"
_DIGITS: Final = 18
_MOST_LISTED: Final = 16
"""The maximum number of paths that each record of a request contains: with more, their size would be quadratic."""
_DEEPEST: Final = MAX_DEPTH - 2


class Mode(Enum):
    """The mode of a lock."""

    EXCLUSIVE = "X"
    """One owner holds the lock."""
    SHARED = "S"
    """Any number of owners hold the lock, while none holds it exclusively."""


_SHARED: Final = Mode.SHARED  # some versions of Python look up the member of an Enum in Python, each time


class Owner(NamedTuple):
    """A lock owner: one thread of one process, or one asyncio task.

    ``name`` is unique over all hosts and times: a random text for the process, a dot and a number. ``label`` is for
    people to read: host, process id, ``@`` and its PID namespace, and thread.
    """

    name: str
    label: str


class Request:
    """One acquisition of one or several paths, from the first attempt to the release.

    ``name`` identifies its records over all retries: ``client_id/number``, unique like the name of an owner.
    ``listener`` is the name under which it is notified, and stays the same if the request is renamed. ``scopes`` maps
    the spaces of held and waiting records to the keys below which all conflicting records are. ``compatible`` is the
    beginning of all records that do not conflict: those of the same owner, or all shared ones. ``since`` is its time in
    milliseconds since the epoch, for people to read. ``pending`` is true while it may have records in the store.
    ``spare`` is the number of further fencing tokens that it wants if it has to wait.
    """

    __slots__ = (
        "_keys",
        "_parents",
        "compatible",
        "listener",
        "mode",
        "name",
        "owner",
        "paths",
        "pending",
        "record",
        "scopes",
        "since",
        "spare",
    )

    def __init__(self, name: str, owner: Owner, mode: Mode, paths: Iterable[Path], since: int) -> None:
        self.paths, self._parents, self.scopes = _nodes_of(tuple(paths))
        self._keys: dict[str, tuple[Key, ...]] = {}
        self.name = name
        self.listener = name
        self.owner = owner
        self.mode = mode
        is_shared = mode is _SHARED
        self.compatible = b"S" if is_shared else exclusive_to(owner)
        self.since = since
        self.pending = False
        self.spare = 0
        several = 1 < len(self.paths) <= _MOST_LISTED
        also = ",".join([hexed(path) for path in self.paths]) if several else "-"
        letter = "S" if is_shared else "X"
        self.record = f"{letter}{owner.name} {since} {also} {owner.label}".encode("utf-8", "replace")

    def rename(self) -> None:
        """Take another name, which no waiter knows."""
        self.name += "'"
        self._keys = {}

    def keys(self, space: str) -> tuple[Key, ...]:
        """Return the keys of the records of this request in a space."""
        keys = self._keys.get(space)
        if keys is None:
            keys = self._keys[space] = tuple([Key(space, (*parent, self.name)) for parent in self._parents])
        return keys


@lru_cache(maxsize=4096)
def exclusive_to(owner: Owner) -> bytes:
    """Return the first bytes of every exclusive record of an owner."""
    return f"X{owner.name} ".encode()


def scopes_of(path: Path, space: str) -> list[Key]:
    """Return the keys below which all records with an overlapping path are."""
    return [*scopes_above(path, space)[:-1], Key(space, _escaped(path))]


def scopes_above(path: Path, space: str) -> list[Key]:
    """Return the keys below which all records of the path itself and the paths above it are."""
    written = _escaped(path)
    return [Key(space, (*written[:depth], _END)) for depth in range(len(path) + 1)]


class _Nodes(NamedTuple):
    """The keys that follow from the paths of a request: the parents of its records, and the scopes of conflicts."""

    paths: tuple[Path, ...]
    parents: tuple[Path, ...]
    scopes: Mapping[str, tuple[Key, ...]]


@lru_cache(maxsize=4096)
def _nodes_of(paths: tuple[Path, ...]) -> _Nodes:
    # Cached: computing this takes longer than all other work of an acquisition in this process.
    apart = _apart(paths)
    too_deep = next((path for path in apart if len(path) > _DEEPEST), None)
    if too_deep is not None:
        raise PathError(
            f"{described(too_deep)} has {len(too_deep)} segments; a locked path must have at most {_DEEPEST}"
        )
    scopes = {
        space: tuple(dict.fromkeys([key for path in apart for key in scopes_of(path, space)]))
        for space in (HOLDERS, WAITERS)
    }
    return _Nodes(apart, tuple([(*_escaped(path), _END) for path in apart]), scopes)


class Record(NamedTuple):
    """A stored record of a held lock or a waiter. ``ttl`` is in milliseconds, if it was read.

    ``path`` is the path of this record; ``paths`` are all paths of its request.
    """

    key: Key
    value: bytes
    request: str
    path: Path
    paths: tuple[Path, ...]
    mode: Mode
    owner: str
    since: int
    label: str
    ttl: int | None = None

    @property
    def held(self) -> bool:
        """Whether this is the record of a held lock, not of a waiter."""
        return self.key.space == HOLDERS

    @property
    def order(self) -> tuple[int, str]:
        """Sorts earlier requests first, if the clocks of the hosts agree."""
        return self.since, self.request

    def conflicts(self, request: Request) -> bool:
        """Return whether this lock conflicts with a request."""
        if self.owner == request.owner.name or (self.mode is request.mode is Mode.SHARED):
            return False
        # A list, because a generator costs a call, and there is usually one pair.
        return any([overlap(one, other) for one in self.paths for other in request.paths])  # noqa: C419

    def __str__(self) -> str:
        return f"{described(self.path)} by {self.label}"


def overlap(one: Path, other: Path) -> bool:
    """Return whether one path is a prefix of the other."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def reads_of(scopes: Iterable[Key], *, ttls: bool = False) -> list[Read]:
    """Return the reads of all records below these keys."""
    return [Read(key, Scope.BELOW, PAGE, None, ttls) for key in scopes]


def records_in(key: Key, entries: Entries) -> Iterator[Record]:
    """Parse the entries below a key into records. Entries that redicts did not write are ignored."""
    for below, value in entries.values.items():
        record = _record(Key(key.space, key.path + below), value, entries.ttls.get(below))
        if record is not None:
            yield record


def _record(key: Key, value: bytes, ttl: int | None) -> Record | None:
    fields = value.decode("utf-8", "replace").split(" ", 3)
    *above, end, request = key.path if len(key.path) > 1 else ("", "")
    if len(fields) != 4 or fields[0][:1] not in ("X", "S") or end != _END:
        return None
    path = tuple([segment[1:] for segment in above if len(segment) > 1 and segment[0] == "/"])
    if len(path) != len(above):
        return None
    owner, since, also, label = fields
    digits = since.isascii() and since.isdecimal() and len(since) <= _DIGITS
    return Record(
        key,
        value,
        request,
        path,
        (path,) if also == "-" else _parsed_paths(path, also),
        Mode(owner[0]),
        owner[1:],
        int(since) if digits else 0,
        label,
        ttl,
    )


def _parsed_paths(path: Path, also: str) -> tuple[Path, ...]:
    try:
        return (path, *[unhexed(text) for text in also.split(",")])
    except ValueError:
        return (path,)


def hexed(path: Path) -> str:
    """Encode a path as ASCII text without spaces, reversible for every segment, lone surrogates included."""
    return "/" + "/".join([segment.encode("utf-8", "surrogatepass").hex() for segment in path])


def unhexed(text: str) -> Path:
    """Decode the text of :func:`hexed`. Raises ``ValueError`` if it is not valid."""
    if text == "/":
        return ()
    path = tuple([bytes.fromhex(part).decode("utf-8", "surrogatepass") for part in text[1:].split("/")])
    if not all(path) or len(path) > MAX_DEPTH:
        raise ValueError("the text is not a path")
    return path


def _escaped(path: Path) -> Path:
    return tuple(["/" + segment for segment in path])


def _apart(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Sort the paths, without those below another one."""
    kept: list[Path] = []
    for path in sorted(set(paths)):
        if not kept or not overlap(kept[-1], path):
            kept.append(path)
    if not kept:
        raise InternalError("a request must have at least one path")
    return tuple(kept)
