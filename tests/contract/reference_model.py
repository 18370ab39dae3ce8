"""A correct backend in one plain dict per space, cut into small methods, so that each can be broken on its own.

It shares no code with the memory backend: that both are certified says that the suite does not just repeat one of them.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from math import floor
from typing import ClassVar, Final, NamedTuple
from weakref import WeakSet

from redicts.core.backend import Backend, Capabilities
from redicts.core.documents import leaves_in
from redicts.core.listener import Listener, Poller
from redicts.core.minitransaction import (
    VALUES,
    Add,
    Answer,
    AnyRead,
    Check,
    Delete,
    Entries,
    Equals,
    Expire,
    Key,
    Names,
    Notify,
    Outcome,
    Path,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
    Status,
    Transaction,
    Write,
    canonical_counter,
    fits_counter,
)
from redicts.errors import StoreBusy, Unsupported

MOST_EXPIRED: Final = 250
"""How many expired values a store may keep, for backends that are wrong about them."""


class HeldLocks(NamedTuple):
    """A value and the time at which it ends, in seconds."""

    value: bytes
    deadline: float | None = None


Space = dict[Path, HeldLocks]
Spaces = dict[str, Space]


class Refused(Exception):
    """A counter was refused."""


class DictListener(Listener):
    """One who sleeps until the store's bell rings, and then looks whether it was for him."""

    def __init__(self, store: DictBackend, name: bytes) -> None:
        self.store: Final = store
        self.name: Final = name
        self.called = False
        store.listeners.append(self)

    def wait(self, seconds: float, /) -> bool:
        with self.store.bell:
            seconds = min(max(0.0, seconds), threading.TIMEOUT_MAX)
            notified = self.store.bell.wait_for(lambda: self.called, seconds)
            self.called = False
        return notified

    def close(self) -> None:
        with self.store.bell:
            if self in self.store.listeners:
                self.store.listeners.remove(self)


class ChangeListener(DictListener):
    """One who sleeps until the store has changed at, above or below a path."""

    def __init__(self, store: DictBackend, name: bytes, path: Path) -> None:
        super().__init__(store, name)
        self.path: Final = path
        store.watchers.append(self)

    def close(self) -> None:
        super().close()
        with self.store.bell:
            if self in self.store.watchers:
                self.store.watchers.remove(self)


class DictBackend(Backend):
    """A transaction works on copies of the spaces it writes to, which replace them in one assignment at its end."""

    declared: ClassVar[Capabilities] = Capabilities(
        ttl=True, processes=False, durable=False, atomic_entries=None, push=True, documents=True, changes=True
    )

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock: Final = clock
        self.spaces: Spaces = {}
        self.listeners: Final[list[DictListener]] = []
        self.watchers: Final[list[ChangeListener]] = []
        self.lock = threading.RLock()
        self.deciding = False
        self.bell = threading.Condition()
        self.mortal = 0
        self.since = 0
        _instances.add(self)

    @property
    def capabilities(self) -> Capabilities:
        return self.declared

    def execute(self, transaction: Transaction, /) -> Outcome:
        with self.lock:
            if self.deciding:
                raise StoreBusy("called in the midst of another call of the same thread")
            self.deciding = True
            try:
                return self.decide(transaction, self.clock())
            finally:
                self.deciding = False

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        failed_index = self.failed(transaction.checks, now)
        answers = tuple([self.answer(read, now) for read in transaction.reads])
        if failed_index is not None:
            return Outcome(Status.CHECK_FAILED, answers, failed_index=failed_index)
        spaces, counters, called = self.draft(transaction.writes), list[int](), list[bytes]()
        for index, write in enumerate(transaction.writes):
            if isinstance(write, Notify):
                called += self.listed(spaces, write, now)
            try:
                self.write(spaces, write, now, counters)
            except Refused:
                return Outcome(Status.NOT_A_COUNTER, answers, failed_index=index)
        if transaction.writes:
            self.free(spaces, transaction.writes, now)
        self.spaces = spaces
        self.call(called)
        self.tell(transaction.writes)
        return Outcome(Status.APPLIED, answers, tuple(counters))

    def free(self, spaces: Spaces, writes: tuple[Write, ...], now: float) -> None:
        """Free all that has expired, if there may be more of it than a few hundred values."""
        self.mortal += sum(getattr(write, "ttl", None) is not None for write in writes)
        self.since += len(writes)
        if self.mortal <= MOST_EXPIRED or 4 * self.since < self.mortal:
            return
        self.mortal = self.since = 0
        for name, entries in spaces.items():
            spaces[name] = {
                path: held for path, held in entries.items() if held.deadline is None or held.deadline > now
            }
            self.mortal += sum(held.deadline is not None for held in spaces[name].values())

    def listen(self, name: str, /) -> Listener:
        return DictListener(self, name.encode("ascii"))

    def listen_to_changes(self, name: str, path: Path, /) -> Listener:
        return ChangeListener(self, name.encode("ascii"), path)

    def tell(self, writes: tuple[Write, ...]) -> None:
        """Notify those who listen at, above or below what was written."""
        with self.bell:
            for watcher in self.watchers_told():
                watcher.called |= any(self.concerns(write, watcher.path) for write in writes)
            self.bell.notify_all()

    def watchers_told(self) -> Iterable[ChangeListener]:
        """Return those who listen to changes."""
        return self.watchers

    def concerns(self, write: Write, path: Path) -> bool:
        """Tell whether a write may change something at or below a path, or above it."""
        space, at = write.key
        return space == VALUES and at[: len(path)] == path[: len(at)]

    # What lies in the store, for those who look into it without asking the backend.

    def lying(self) -> Spaces:
        return self.spaces

    def lay(self, key: Key, held: HeldLocks) -> None:
        spaces = self.draft((Delete(key, Scope.NODE),))
        spaces[key.space][key.path] = held
        self.spaces = spaces

    def draft(self, writes: tuple[Write, ...]) -> Spaces:
        """Return the spaces, with copies of those that will be written to."""
        written = {self.space(write.key.space): dict(self.space_in(self.spaces, write.key)) for write in writes}
        return {**self.spaces, **written}

    # Which entries are meant.

    def space(self, name: str) -> str:
        return name

    def path(self, path: Path) -> Path:
        """Return the path under which a path is stored."""
        return path

    def space_in(self, spaces: Spaces, key: Key) -> Space:
        return spaces.get(self.space(key.space), {})

    def relative(self, path: Path, base: Path) -> Path | None:
        """Return a stored path relative to the path of a key, or ``None`` if it is elsewhere."""
        return path[len(base) :] if path[: len(base)] == base else None

    def covers(self, scope: Scope, relative: Path, what: str) -> bool:
        """Tell whether a path lies in a scope; ``what`` names the word that asks, for those that err in one of them."""
        return scope.covers(relative)

    def alive(self, held: HeldLocks, now: float, what: str) -> bool:
        """Tell whether a value has not expired; ``what`` as in :meth:`covers`."""
        return held.deadline is None or held.deadline > now

    def found(self, spaces: Spaces, key: Key, scope: Scope, now: float, what: str) -> dict[Path, HeldLocks]:
        """Return the live entries in a scope, by relative path."""
        entries, base = self.space_in(spaces, key), self.path(key.path)
        if (
            scope is Scope.NODE
            and type(self).relative is DictBackend.relative
            and type(self).covers is DictBackend.covers
        ):
            entries = {base: entries[base]} if base in entries else {}
        found = {}
        for path, held in entries.items():
            relative = self.relative(path, base)
            if relative is not None and self.covers(scope, relative, what) and self.alive(held, now, what):
                found[relative] = held
        return found

    # Checks.

    def failed(self, checks: tuple[Check, ...], now: float) -> int | None:
        return next((index for index, check in enumerate(checks) if not self.holds(check, now)), None)

    def holds(self, check: Check, now: float) -> bool:
        what = type(check).__name__
        found = {path: held.value for path, held in self.found(self.spaces, check.key, check.scope, now, what).items()}
        if isinstance(check, Equals):
            return self.equal(found, check.entries)
        return all(self.starts(value, check.prefix) for value in found.values())

    def equal(self, found: Mapping[Path, bytes], wanted: Mapping[Path, bytes]) -> bool:
        return found == wanted

    def starts(self, value: bytes, prefix: bytes) -> bool:
        return value.startswith(prefix)

    # Reads.

    def answer(self, read: AnyRead, now: float) -> Answer:
        return self.names(read, now) if isinstance(read, ReadNames) else self.entries(read, now)

    def entries(self, read: Read, now: float) -> Entries:
        what = "Read" if read.limit is None else "Page"
        found = self.found(self.spaces, read.key, read.scope, now, what)
        page, cursor = self.page(found, read.limit, read.cursor)
        ttls = {path: self.remaining(held.deadline, now) for path, held in page.items() if held.deadline is not None}
        return Entries({path: held.value for path, held in page.items()}, ttls if read.ttls else {}, cursor)

    def remaining(self, deadline: float, now: float) -> int:
        return max(1, floor((deadline - now) * 1000))

    def page(
        self, found: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None
    ) -> tuple[dict[Path, HeldLocks], bytes | None]:
        """Return what comes after the cursor and fits, and the cursor after that."""
        if limit is None:
            return found, None
        last = () if cursor is None else path_of(cursor)
        after = sorted(path for path in found if cursor is None or path > last)
        page = list(islice(after, limit))
        return {path: found[path] for path in page}, cursor_of(page[-1]) if len(after) > limit else None

    def names(self, read: ReadNames, now: float) -> Names:
        found = self.found(self.spaces, read.key, Scope.BELOW, now, "ReadNames")
        names: dict[Path, HeldLocks] = {(path[0],): HeldLocks(b"") for path in found}
        page, cursor = self.page_of_names(names, read.limit, read.cursor)
        return Names(tuple(path[0] for path in page), cursor)

    def page_of_names(
        self, names: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None
    ) -> tuple[dict[Path, HeldLocks], bytes | None]:
        return DictBackend.page(self, names, limit, cursor)

    # Writes.

    def write(self, spaces: Spaces, write: Write, now: float, counters: list[int]) -> None:
        if isinstance(write, Put):
            self.put(spaces, write, now)
        elif isinstance(write, Add):
            counters.append(self.add(spaces, write, now))
        elif isinstance(write, Delete):
            self.delete(spaces, write, now)
        elif isinstance(write, Notify):
            self.clear(spaces, write, now)
        elif isinstance(write, PutDocument):
            self.put_document(spaces, write, now)
        else:
            self.expire(spaces, write, now)

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        old = self.old(spaces, write.key, now, "keep_ttl")
        kept = None if old is None else old.deadline
        deadline = kept if write.keep_ttl else self.deadline(write.ttl, now)
        self.store(spaces, write.key, HeldLocks(write.value, deadline))

    def put_document(self, spaces: Spaces, write: PutDocument, now: float) -> None:
        if not self.capabilities.documents:
            raise Unsupported("this store keeps no documents")
        self.delete(spaces, Delete(write.key, Scope.SUBTREE), now)
        for path, value in self.leaves(write.document).items():
            self.put(spaces, Put(Key(write.key.space, write.key.path + path), value, write.ttl), now)

    def leaves(self, document: bytes) -> Mapping[Path, bytes]:
        return leaves_in(document)

    def add(self, spaces: Spaces, write: Add, now: float) -> int:
        old = self.old(spaces, write.key, now, "Add")
        total = self.sum(b"0" if old is None else old.value, write.amount)
        self.store(spaces, write.key, HeldLocks(b"%d" % total, None if old is None else old.deadline))
        return total

    def sum(self, value: bytes, amount: int) -> int:
        count = canonical_counter(value)
        if count is None or not fits_counter(count + amount):
            raise Refused
        return count + amount

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        entries, base = self.space_in(spaces, write.key), self.path(write.key.path)
        for relative in self.found(spaces, write.key, write.scope, now, "Delete"):
            entries.pop(base + relative, None)

    def expire(self, spaces: Spaces, write: Expire, now: float) -> None:
        base = self.path(write.key.path)
        for relative, held in self.found(spaces, write.key, write.scope, now, "Expire").items():
            self.space_in(spaces, write.key)[base + relative] = HeldLocks(held.value, self.deadline(write.ttl, now))

    def listed(self, spaces: Spaces, write: Notify, now: float) -> list[bytes]:
        """Return the values on a list, which may be names."""
        return [held.value for held in self.found(spaces, write.key, write.scope, now, "Notify").values()]

    def clear(self, spaces: Spaces, write: Notify, now: float) -> None:
        entries, base = self.space_in(spaces, write.key), self.path(write.key.path)
        for relative in self.found(spaces, write.key, write.scope, now, "Notify"):
            del entries[base + relative]

    def call(self, names: list[bytes]) -> None:
        """Notify those who listen under one of these names."""
        with self.bell:
            for listener in self.listeners:
                listener.called |= listener.name in names
            self.bell.notify_all()

    def deadline(self, ttl: int | None, now: float) -> float | None:
        return None if ttl is None else now + ttl / 1000

    def old(self, spaces: Spaces, key: Key, now: float, what: str) -> HeldLocks | None:
        """Return the live entry at exactly a key."""
        held = self.space_in(spaces, key).get(self.path(key.path))
        return held if held is not None and self.alive(held, now, what) else None

    def store(self, spaces: Spaces, key: Key, held: HeldLocks) -> None:
        self.space_in(spaces, key)[self.path(key.path)] = held


def cursor_of(path: Path) -> bytes:
    """Return a cursor that names a path, by its code points: no text format keeps all that a segment may hold."""
    return json.dumps([[ord(character) for character in segment] for segment in path]).encode()


def path_of(cursor: bytes) -> Path:
    """Return the path that a cursor names."""
    return tuple("".join(map(chr, points)) for points in json.loads(cursor))


_instances: Final[WeakSet[DictBackend]] = WeakSet()


def _renew_locks() -> None:
    """In a forked child nobody holds a lock, whatever the parent's threads held; the spaces are whole at all times."""
    for backend in list(_instances):
        backend.lock = threading.RLock()
        backend.deciding = False
        backend.bell = threading.Condition()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


class PlainBackend(DictBackend):
    """A store that does not declare ``documents``, which no check on documents examines."""

    declared = Capabilities(ttl=True, processes=False, durable=False, atomic_entries=None, push=True, changes=True)

    def put_document(self, spaces: Spaces, write: PutDocument, now: float) -> None:
        raise Unsupported("this store does not support documents")


class NoTTLBackend(DictBackend):
    """One that does not declare ``ttl``, and refuses what needs it; and that cannot push."""

    declared = Capabilities(ttl=False, processes=False, durable=False, atomic_entries=None)

    def execute(self, transaction: Transaction, /) -> Outcome:
        self.refuse_ttls(transaction.writes)
        return super().execute(transaction)

    @staticmethod
    def refuse_ttls(writes: Iterable[Write]) -> None:
        if any(getattr(write, "ttl", None) is not None for write in writes):
            raise Unsupported("this store has no TTLs")

    def listen(self, name: str, /) -> Listener:
        return Poller()

    def call(self, names: list[bytes]) -> None:
        pass


class KeepingBackend(DictBackend):
    """One that keeps documents as they were put, beside their leaves, until something in them is changed."""

    def draft(self, writes: tuple[Write, ...]) -> Spaces:
        spaces = super().draft(writes)
        kept = {self.texts(write.key): dict(self.spaces.get(self.texts(write.key), {})) for write in writes}
        return {**spaces, **kept}

    def texts(self, key: Key) -> str:
        """Return the name of the space in which the texts of documents are kept."""
        return f"texts of {key.space}"

    def whole(self, spaces: Spaces, key: Key) -> Path | None:
        """Return where the document is that is whole and lies at a key or above it, be it expired."""
        kept = spaces.get(self.texts(key), {})
        return next((path for path in kept if key.path[: len(path)] == path), None)

    def write(self, spaces: Spaces, write: Write, now: float, counters: list[int]) -> None:
        self.split(spaces, write, now)
        super().write(spaces, write, now, counters)

    def split(self, spaces: Spaces, write: Write, now: float) -> None:
        """Forget the texts of documents that a write may change."""
        kept, base = spaces[self.texts(write.key)], write.key.path
        for path in list(kept):
            size = min(len(path), len(base))
            if path[:size] == base[:size]:
                del kept[path]

    def put_document(self, spaces: Spaces, write: PutDocument, now: float) -> None:
        super().put_document(spaces, write, now)
        spaces[self.texts(write.key)][write.key.path] = HeldLocks(write.document, self.deadline(write.ttl, now))

    def kept(self, key: Key) -> HeldLocks | None:
        """Return the text of the document at exactly a key, unless it has expired."""
        held = self.spaces.get(self.texts(key), {}).get(key.path)
        return held if held is not None and self.alive(held, self.clock(), "fetch") else None

    def fetch(self, key: Key, /) -> bytes | None:
        with self.lock:
            old = self.old(self.spaces, key, self.clock(), "fetch")
        return None if old is None else old.value

    def fetch_document(self, key: Key, /) -> bytes | None:
        with self.lock:
            held = self.kept(key)
            return self.fetch(key) if held is None else held.value

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        with self.lock:
            old = self.old(self.spaces, key, self.clock(), "fetch")
            replaced = old is not None and old.deadline is None
            return replaced and self.execute(Transaction(writes=(Put(key, value),))).applied

    def overwrite_document(self, key: Key, document: bytes, /) -> bool:
        with self.lock:
            held = self.kept(key)
            replaced = held is not None and held.deadline is None
            return replaced and self.execute(Transaction(writes=(PutDocument(key, document),))).applied


class LimitedBackend(DictBackend):
    """One that declares a limit, and refuses what goes beyond it."""

    limit: ClassVar[int] = 1200
    declared = Capabilities(ttl=True, processes=False, durable=True, atomic_entries=limit, push=True)

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        if self.touched(transaction, now) > self.limit:
            return Outcome(Status.TOO_LARGE)
        return super().decide(transaction, now)

    def touched(self, transaction: Transaction, now: float) -> int:
        """Return the number of values that the largest word of a transaction touches, or all its writes together."""
        scopes = [read for read in transaction.reads if isinstance(read, Read) and read.limit is None]
        reads = [len(self.found(self.spaces, read.key, read.scope, now, "")) for read in scopes]
        writes = [self.touched_by(write, now) for write in transaction.writes]
        return max([*reads, sum(writes)], default=0)

    def touched_by(self, write: Write, now: float) -> int:
        if isinstance(write, (Put, PutDocument, Add)):
            return 1
        return len(self.found(self.spaces, write.key, write.scope, now, ""))
