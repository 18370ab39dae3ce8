"""How locks lie in the store: one record per lock and path, and where those that matter to a request are found.

========  =======================================  ====================================================
space     path                                     value
========  =======================================  ====================================================
``h``     the locked path, ``!``, the request      who holds it; its TTL is the lease
``w``     the wanted path, ``!``, the request      who waits for it; a short TTL, renewed while waiting
``n``     a request, another request               the other one: it is notified when the first one goes
``d``     an owner                                 what this owner waits for, once that takes long
``f``     ``token``                                the last fencing token
========  =======================================  ====================================================

A segment ``a`` of a locked path is written ``/a``, so none is taken for the ``!`` that ends a path, and a lock on ``a``
and one on ``a.b`` lie beside each other. Everything that may conflict with a request for ``a.b`` is below one of
``!``, ``/a !`` (locks on what is above) and ``/a /b`` (on itself and what is below).

The value of a record begins with its mode and its owner: one check, "everything here begins with these bytes", says
*free, or mine* of a whole subtree. Then follow, between blanks, the time of the request in milliseconds since the
epoch, all its paths if there are a few (else ``-``), and the owner's label.
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
"""How many records of one scope are looked at in one transaction."""

_END: Final = "!"
_DIGITS: Final = 18
_MOST_TOLD: Final = 16
"""Up to how many paths each record of a request tells all of them, so that their sizes do not grow with the square."""
_DEEPEST: Final = MAX_DEPTH - 2


class Mode(Enum):
    """How a lock is held."""

    EXCLUSIVE = "X"
    """By one owner, who may do anything."""
    SHARED = "S"
    """By any number of owners, none of whom holds it exclusively."""


class Owner(NamedTuple):
    """Who holds locks or waits for them: one thread of one process, or one asyncio task.

    ``name`` is unique over all hosts and times: a random text for the process, a dot and a number. ``label`` says it to
    people: host, process id and thread.
    """

    name: str
    label: str


class Request:
    """One acquisition of one or several paths at once, from the first try to the release.

    ``name`` is the record's identity in the store, kept over retries: ``client_id/number``, unique like an owner's. It
    is also the ``listener`` under which the request is notified, for which it stays the same.
    ``scopes`` maps the spaces of held and of waiting records to the keys below which each record is that may conflict
    with it. ``compatible`` is how each record begins beside which it is granted: its owner's own, or any shared one.
    ``since`` is when it was made, in milliseconds since the epoch, for people to read. ``pending`` tells whether it
    may have left something in the store. ``spare`` is how many fencing tokens it wants beside one if it has to wait.
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
        self.compatible = b"S" if mode is Mode.SHARED else exclusive_to(owner)
        self.since = since
        self.pending = False
        self.spare = 0
        several = 1 < len(self.paths) <= _MOST_TOLD
        also = ",".join([hexed(path) for path in self.paths]) if several else "-"
        self.record = f"{mode.value}{owner.name} {since} {also} {owner.label}".encode("utf-8", "replace")

    def rename(self) -> None:
        """Take another name, one that nobody waits for."""
        self.name += "'"
        self._keys = {}

    def keys(self, space: str) -> tuple[Key, ...]:
        """Return where the records of this request lie."""
        keys = self._keys.get(space)
        if keys is None:
            keys = self._keys[space] = tuple([Key(space, (*parent, self.name)) for parent in self._parents])
        return keys


def exclusive_to(owner: Owner) -> bytes:
    """Return how a record begins that this owner holds exclusively."""
    return f"X{owner.name} ".encode()


def scopes_of(path: Path, space: str) -> list[Key]:
    """Return below which keys all locks lie whose path is above, at or below this one."""
    return [*places_above(path, space)[:-1], Key(space, _written(path))]


def places_above(path: Path, space: str) -> list[Key]:
    """Return below which keys all locks lie whose path is above or at this one."""
    written = _written(path)
    return [Key(space, (*written[:depth], _END)) for depth in range(len(path) + 1)]


class _Nodes(NamedTuple):
    """What follows from the paths of a request: where its records are, and below which keys conflicting ones are."""

    paths: tuple[Path, ...]
    parents: tuple[Path, ...]
    scopes: Mapping[str, tuple[Key, ...]]


@lru_cache(maxsize=4096)
def _nodes_of(paths: tuple[Path, ...]) -> _Nodes:
    # Cached, because computing it takes longer than the rest of an acquisition on this side.
    apart = _apart(paths)
    too_deep = next((path for path in apart if len(path) > _DEEPEST), None)
    if too_deep is not None:
        raise PathError(f"{described(too_deep)} has {len(too_deep)} segments; what is locked has {_DEEPEST} at most")
    scopes = {
        space: tuple(dict.fromkeys([key for path in apart for key in scopes_of(path, space)]))
        for space in (HOLDERS, WAITERS)
    }
    return _Nodes(apart, tuple([(*_written(path), _END) for path in apart]), scopes)


class Record(NamedTuple):
    """A lock that is held or waited for, as found in the store. ``ttl`` is in milliseconds, if it was asked for.

    ``path`` is where the record lies; ``paths`` are all that the request is for.
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
        """Whether it is held, and not waited for."""
        return self.key.space == HOLDERS

    @property
    def order(self) -> tuple[int, str]:
        """What those who came earlier have less of, as far as the clocks of hosts agree."""
        return self.since, self.request

    def conflicts(self, request: Request) -> bool:
        """Tell whether this cannot be held together with what a request wants, or has."""
        if self.owner == request.owner.name or (self.mode is request.mode is Mode.SHARED):
            return False
        # A list, because a generator costs a call for each pair, and there is mostly one.
        return any([overlap(one, other) for one in self.paths for other in request.paths])  # noqa: C419

    def __str__(self) -> str:
        return f"{described(self.path)} by {self.label}"


def overlap(one: Path, other: Path) -> bool:
    """Tell whether one path is a prefix of the other."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def reads_of(scopes: Iterable[Key], *, ttls: bool = False) -> list[Read]:
    """Return what reads the records below these keys."""
    return [Read(key, Scope.BELOW, PAGE, None, ttls) for key in scopes]


def records_in(key: Key, entries: Entries) -> Iterator[Record]:
    """Yield the records that were found below a key. What is no record was put there by a stranger and is left out."""
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
        (path,) if also == "-" else _also_at(path, also),
        Mode(owner[0]),
        owner[1:],
        int(since) if digits else 0,
        label,
        ttl,
    )


def _also_at(path: Path, also: str) -> tuple[Path, ...]:
    try:
        return (path, *[unhexed(text) for text in also.split(",")])
    except ValueError:
        return (path,)


def hexed(path: Path) -> str:
    """Return a path as text without blanks that any segment survives, lone surrogates included."""
    return "/" + "/".join([segment.encode("utf-8", "surrogatepass").hex() for segment in path])


def unhexed(text: str) -> Path:
    """Return the path that such a text stands for. Raises ``ValueError`` if there is none."""
    if text == "/":
        return ()
    path = tuple([bytes.fromhex(part).decode("utf-8", "surrogatepass") for part in text[1:].split("/")])
    if not all(path) or len(path) > MAX_DEPTH:
        raise ValueError("no path")
    return path


def _written(path: Path) -> Path:
    return tuple(["/" + segment for segment in path])


def _apart(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Return the paths without those that lie below another one, in order."""
    kept: list[Path] = []
    for path in sorted(set(paths)):
        if not kept or not overlap(kept[-1], path):
            kept.append(path)
    if not kept:
        raise InternalError("a request without a path")
    return tuple(kept)
