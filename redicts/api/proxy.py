"""Proxy: a path in the tree, and everything that can be done there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, TypeVar

from redicts.api.keys import parsed, parsed_path
from redicts.api.lock import Location, Lock, acquire, lease_of, release, release_after, timeout_of
from redicts.api.opened import OpenedDatabase, Source
from redicts.api.pool import Pool
from redicts.api.transaction import Transaction
from redicts.core import paths
from redicts.core.driver import Steps, run
from redicts.core.leaves import ABSENT
from redicts.core.locks.records import Mode
from redicts.core.minitransaction import Path
from redicts.core.ttl import milliseconds, whole_seconds
from redicts.errors import LeafError
from redicts.forks import ForkSafeLock
from redicts.locks.held import NO_OPTIONS

_Result = TypeVar("_Result")
_Proxy = TypeVar("_Proxy", bound="Proxy")

_lock: Final = ForkSafeLock()


class Proxy:
    """A path in the tree, whether or not anything is stored there.

    ``path`` is dotted text, or an iterable of segments, which may then hold dots themselves; the empty text is the
    root.
    ``lock_acquire_timeout`` and ``lock_expire_timeout`` are in seconds, ``db_name`` is a name from the settings.
    Equal arguments give the same object.

    A proxy holds no connection and no value: every method that tells or changes something asks the store, in one
    round trip unless it says otherwise. All of them raise an error below
    :class:`~redicts.errors.StoreError` if the store fails, and :class:`~redicts.errors.PathError` for a wrong path.

    ``==`` compares values, so a proxy cannot be a key of a dict; use :meth:`key` for that. The truth of a proxy is
    that of :meth:`exists`.

    >>> from redicts import Pool, Proxy
    >>> Pool().reload(cfg={"backend": "memory"})
    >>> car = Proxy("garage.car")
    >>> car.set("wheels", 4).set("paint", {"colour": "red"}).val()
    {'paint': {'colour': 'red'}, 'wheels': 4}
    >>> car["paint.colour"].val()
    'red'
    """

    __slots__ = ("__weakref__", "_acquire_timeout", "_db_name", "_expire_timeout", "_path", "_source")

    _path: Path
    _acquire_timeout: float
    _expire_timeout: float
    _db_name: str | None
    _source: Source

    def __new__(
        cls,
        path: str | Iterable[str],
        lock_acquire_timeout: float = 10,
        lock_expire_timeout: float = 30,
        db_name: str | None = None,
    ) -> Proxy:
        """Return the proxy for these arguments, the one that exists if there is one."""
        return proxy_of(cls, Pool(), parsed_path(path), lock_acquire_timeout, lock_expire_timeout, db_name)

    # Values

    def val(self, default: Any = None) -> Any:
        """Return the value, a dict for an inner node, or ``default`` if nothing is stored.

        A value that is too large for one snapshot of the store is read in pages, one round trip each; see the caveats
        in the documentation.
        """
        database = self._source.databases[self._db_name]
        value = run(database.store.read(self._path), database.backend)
        return default if value is ABSENT else value

    def set(self, key: str | Iterable[str], value: Any, expire: float | None = None) -> Proxy:
        """Replace what is at ``key`` below this place, and return this proxy.

        ``expire`` is a TTL in seconds, given to every leaf; without it they last for ever. Others see the old value
        or the new one. Leaves above the key give way. An empty iterable as key means this place itself.

        Raises ``ValueError``, before anything is written, for a value that cannot be stored.
        """
        path = self._below(key)
        database = self._source.databases[self._db_name]
        ttl = None if expire is None else milliseconds(expire)
        self._write(database, database.store.write(path, value, ttl), path)
        return self

    def exists(self) -> bool:
        """Tell whether something is stored here, a leaf or an inner node."""
        database = self._database()
        return database.run(database.store.exists(self._path))

    def delete(self, key: str | Iterable[str]) -> None:
        """Remove what is at ``key`` below this place. Nothing being there is no error."""
        path = self._below(key)
        database = self._database()
        self._write(database, database.store.delete(path), path)

    def clear(self) -> None:
        """Remove everything at and below this place."""
        database = self._database()
        self._write(database, database.store.delete(self._path), self._path)

    def add(self, count: float) -> Any:
        """Add to the number that is stored here, and return the sum. Nothing stored counts as 0. Keeps the TTL.

        Atomic for integers and floats. One round trip for integers of 64 bits; others take two, and more while
        somebody else changes the number. Raises ``ValueError`` if what is stored is no number.
        """
        database = self._database()
        return self._write(database, database.store.add(self._path, count), self._path)

    def update(self, value: Mapping[str, Any], expire: float | None = None) -> Proxy:
        """Store the leaves of a dict over what is here, leave the rest, and return this proxy.

        Unlike ``dict.update`` it descends into dicts that are on both sides. ``expire`` is a TTL in seconds for the
        leaves that are stored.
        """
        database = self._database()
        if not isinstance(value, Mapping):
            raise LeafError(f"update takes a dict, not {type(value).__name__}")
        self._write(database, database.store.merge(self._path, value, milliseconds(expire)), self._path)
        return self

    def update_with(self, function: Callable[[Any], Any], default: Any = None) -> Any:
        """Replace the value by what a function makes of it, atomically, and return the new value.

        The function is called with the value, or with ``default`` if nothing is stored, and once more for each time
        that somebody else changed the value meanwhile, so it should do nothing but compute. If it raises, nothing is
        written; if it returns ``ABSENT``, the value is removed. Leaves keep their TTLs.

        Two round trips, and two more for each repetition. Raises :class:`~redicts.errors.Conflict` after a thousand.
        """
        database = self._database()
        return self._write(
            database,
            database.store.change(self._path, lambda old: function(default if old is ABSENT else old)),
            self._path,
        )

    def compare_and_set(self, expected: Any, value: Any, expire: float | None = None) -> bool:
        """Store ``value`` here if what is here equals ``expected``, and tell whether it was so.

        ``ABSENT`` as ``expected`` means that nothing is here, as ``value`` that it is to be removed. ``expire`` is in
        seconds.
        """
        database = self._database()
        return self._write(
            database, database.store.compare_and_set(self._path, expected, value, milliseconds(expire)), self._path
        )

    def pop(self, key: str | Iterable[str], *default: Any) -> Any:
        """Remove what is at ``key`` below this place and return it.

        Raises ``KeyError`` if nothing is there and no default was given.
        """
        if len(default) > 1:
            raise TypeError(f"pop takes a key and at most one default, not {len(default)}")
        path = self._below(key)
        database = self._database()
        value = self._write(database, database.store.take(path), path)
        if value is not ABSENT:
            return value
        if default:
            return default[0]
        raise KeyError(paths.render(path))

    def setdefault(self, key: str | Iterable[str], default: Any = None, expire: float | None = None) -> Any:
        """Store ``default`` at ``key`` if nothing is there, and return what is there then. ``expire`` is in seconds."""
        path = self._below(key)
        database = self._database()
        return self._write(database, database.store.set_default(path, default, milliseconds(expire)), path)

    def transaction(self) -> Transaction:
        """Collect changes in a ``with`` block and make them atomically when it ends: see :class:`Transaction`."""
        return Transaction(self._database(), self._below, self._write)

    # Life

    def expire(self, seconds: float | None) -> None:
        """Give every leaf at and below this place a TTL in seconds, or with ``None`` let them last for ever."""
        database = self._database()
        self._write(database, database.store.expire(self._path, milliseconds(seconds)), self._path)

    def time_to_live(self) -> int:
        """Return the remaining TTL in seconds, rounded up; -1 if it has no end, -2 if nothing is stored.

        The TTL of a dict is that of its longest-lived leaf.
        """
        database = self._database()
        ttl = database.run(database.store.ttl(self._path))
        if ttl is None:
            return -1
        return whole_seconds(ttl) if ttl else -2

    # Locks

    def lock(self, **options: Any) -> Lock:
        """Return a lock on this place and all below it, for what :meth:`acquire` does not offer. No round trip.

        The options are those of :class:`Lock`: ``shared``, ``renew``, ``on_renewal_overdue``, ``on_loss``; and the two
        timeouts, which are those of this proxy unless given.
        """
        timeouts = {"expire_timeout": self._expire_timeout, "acquire_timeout": self._acquire_timeout}
        return Lock(self, (), **{**timeouts, **options})

    def acquire(self, blocking: bool = True) -> bool:
        """Lock this place and all below it for this thread, as :meth:`Lock.acquire` does, and return true.

        ``with proxy:`` does this, and releases at the end. What this thread then writes here is guarded: if the lock is
        lost meanwhile, nothing is written, and :class:`~redicts.errors.LockLost` is raised.
        """
        lease, timeout = lease_of(self._expire_timeout), timeout_of(self._acquire_timeout)
        location = (self._source, self._db_name)
        return acquire(location, (self._path,), Mode.EXCLUSIVE, lease, timeout, NO_OPTIONS, blocking)

    def release(self) -> None:
        """Release this place, as :meth:`Lock.release` does. Locks on places below stay."""
        release((self._source, self._db_name), (self._path,))

    def is_locked(self) -> bool:
        """Tell whether anybody, this thread included, holds a lock on this place or on what is above."""
        return self.lock().is_locked()

    def __enter__(self) -> Proxy:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        release_after(error, (self._source, self._db_name), (self._path,))

    # Places

    def get(self, key: str | Iterable[str]) -> Proxy:
        """Return the proxy for ``key`` below this place. No round trip."""
        return self._at(self._below(key))

    def key(self) -> str:
        """Return the dotted path of this place. No round trip."""
        return paths.render(self._path)

    def iter_children(self) -> Iterator[Proxy]:
        """Yield a proxy for each leaf at and below this place.

        They are fetched a page at a time while the iteration goes on, one round trip per thousand. Leaves that others
        store or remove meanwhile may or may not turn up.
        """
        # One tree for the whole walk: a cursor means something only to the store that gave it.
        database = self._database()
        cursor = None
        while True:
            page, cursor = database.run(database.store.leaf_page(self._path, cursor))
            for path in page:
                yield self._at(path)
            if cursor is None:
                return

    def children(self) -> list[Proxy]:
        """Return a proxy for each name directly below this place, leaf or inner node."""
        return [self._at((*self._path, name)) for name in self.keys()]

    def keys(self) -> list[str]:
        """Return the names directly below this place, in no particular order."""
        database = self._database()
        return database.run(database.store.names(self._path))

    def values(self) -> list[Any]:
        """Return the values directly below this place."""
        return list(self._dict().values())

    def items(self) -> list[tuple[str, Any]]:
        """Return the names and values directly below this place."""
        return list(self._dict().items())

    def __getitem__(self, key: str | Iterable[str]) -> Proxy:
        return self.get(key)

    def __setitem__(self, key: str | Iterable[str], value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str | Iterable[str]) -> None:
        """Remove what is at a key; unlike :meth:`delete`, raise ``KeyError`` if nothing is there."""
        self.pop(key)

    def __contains__(self, key: str | Iterable[str]) -> bool:
        return self.get(key).exists()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __bool__(self) -> bool:
        return self.exists()

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        value = other.val(ABSENT) if isinstance(other, Proxy) else other
        return bool(self.val(ABSENT) == value)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        arguments = [repr(self.key())]
        if self._acquire_timeout != 10:
            arguments.append(f"lock_acquire_timeout={self._acquire_timeout!r}")
        if self._expire_timeout != 30:
            arguments.append(f"lock_expire_timeout={self._expire_timeout!r}")
        if self._db_name is not None:
            arguments.append(f"db_name={self._db_name!r}")
        return f"{type(self).__name__}({', '.join(arguments)})"

    def __reduce__(self) -> tuple[Any, ...]:
        if not isinstance(self._source, Pool):
            raise TypeError("a proxy of redicts.open() cannot be pickled; pass its key() on, and open the store there")
        return type(self), (self._path, self._acquire_timeout, self._expire_timeout, self._db_name)

    # Own

    def _lock_location(self) -> tuple[Location, Path]:
        return (self._source, self._db_name), self._path

    def _database(self) -> OpenedDatabase:
        return self._source.databases[self._db_name]

    def _write(self, database: OpenedDatabase, steps: Steps[_Result], *changed: Path) -> _Result:
        """Run an operation that writes at and below some paths, guarded by the locks that this thread holds there."""
        locks = database.locks
        if locks.held or locks.mandatory:
            steps = locks.guarded(steps, changed)
        return run(steps, database.backend)

    def _below(self, key: str | Iterable[str]) -> Path:
        return paths.below(self._path, key) if type(key) is str else paths.joined(self._path, parsed(key))

    def _at(self, path: Path) -> Proxy:
        return proxy_of(type(self), self._source, path, self._acquire_timeout, self._expire_timeout, self._db_name)

    def _dict(self) -> dict[str, Any]:
        value = self.val()
        return value if isinstance(value, dict) else {}


def root(*args: Any, **kwargs: Any) -> Proxy:
    """Return the proxy of the whole tree. Further arguments are those of :class:`Proxy`."""
    return Proxy(paths.ROOT, *args, **kwargs)


def section(name: str | Iterable[str], *args: Any, **kwargs: Any) -> Proxy:
    """Return the proxy of a section of the tree. Further arguments are those of :class:`Proxy`.

    Pick a name that nobody else picks; ``section(__name__)`` is a good one.
    """
    return Proxy(parsed(name), *args, **kwargs)


def proxy_of(
    kind: type[_Proxy], source: Source, path: Path, acquire_timeout: float, expire_timeout: float, db_name: str | None
) -> _Proxy:
    """Return the proxy of a path in a pool or a database, the one that exists if there is one."""
    arguments = (kind, path, acquire_timeout, expire_timeout, db_name)
    found: _Proxy | None = source.proxies.get(arguments)
    if found is not None:
        return found
    with _lock:
        found = source.proxies.get(arguments)
        if found is None:
            found = object.__new__(kind)
            found._source = source
            found._path = path
            found._acquire_timeout = acquire_timeout
            found._expire_timeout = expire_timeout
            found._db_name = db_name
            source.proxies[arguments] = found
        return found
