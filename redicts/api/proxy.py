"""Proxy: reads, writes and locks at one path of the tree, like a dict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import EllipsisType
from typing import Any, Final, NoReturn, TypeVar, overload

from redicts.api.acquisitions import Location
from redicts.api.edit import Edit
from redicts.api.keys import parsed, parsed_path
from redicts.api.lock import Lock
from redicts.api.lockable import Lockable
from redicts.api.locked_proxy import LockedProxy
from redicts.api.mapping import TreeMapping
from redicts.api.opened import OpenedDatabase, Source, kept
from redicts.api.operators import NoOperators
from redicts.api.pool import Pool
from redicts.api.timeouts import lease_of, timeout_of, wait_of
from redicts.api.transaction import Transaction
from redicts.api.watch import Watch
from redicts.core import paths
from redicts.core.driver import Steps, overwrite, read, run
from redicts.core.leaves import ABSENT
from redicts.core.locks.records import Mode
from redicts.core.minitransaction import Path
from redicts.core.names import Name, named
from redicts.core.ttl import milliseconds, time_to_live
from redicts.errors import RedictsError
from redicts.forks import ForkSafeLock
from redicts.locks.manager import Wanted

_Result = TypeVar("_Result")
_Value = TypeVar("_Value")
_Proxy = TypeVar("_Proxy", bound="Located")

_lock: Final = ForkSafeLock()

_NO_DEFAULT: Final[Any] = ABSENT
"""The default of ``get``: to type checkers, no value can be given."""


class Located(NoOperators):
    """A path in one database, with the timeouts of its locks: all of a proxy but what needs the store."""

    __slots__ = ("__weakref__", "_acquire_timeout", "_db_name", "_expire_timeout", "_path", "_source")

    _path: Path
    _acquire_timeout: float | None
    _expire_timeout: float
    _db_name: str | None
    _source: Source

    def __new__(
        cls: type[_Proxy],
        path: str | Iterable[str],
        lock_acquire_timeout: float | None = 10,
        lock_expire_timeout: float = 30,
        db_name: str | None = None,
    ) -> _Proxy:
        """Return the interned proxy for these arguments."""
        return proxy_of(cls, Pool(), parsed_path(path), lock_acquire_timeout, lock_expire_timeout, db_name)

    def get(self: _Proxy, key: str | Iterable[str], default: NoReturn = _NO_DEFAULT) -> _Proxy:
        """Return the proxy for ``key`` below this path. No round trip.

        Unlike ``dict.get`` it takes no default, because it reads nothing: use ``p.get(key).val(default)``.
        """
        if default is not _NO_DEFAULT:
            raise TypeError(
                "get() returns a proxy and reads nothing, so it takes no default; use p.get(key).val(default), which "
                "returns the default if nothing is stored"
            )
        return self._at(self._below(key))

    def key(self) -> str:
        """Return the dotted text of this path. No round trip."""
        return paths.render(self._path)

    def __getitem__(self: _Proxy, key: str | Iterable[str]) -> _Proxy:
        return self.get(key)

    def __repr__(self) -> str:
        """Return the expression that makes this proxy. ``str`` and f-strings show it too. No round trip, no value."""
        arguments = [repr(self.key())]
        if self._acquire_timeout != 10:
            arguments.append(f"lock_acquire_timeout={self._acquire_timeout!r}")
        if self._expire_timeout != 30:
            arguments.append(f"lock_expire_timeout={self._expire_timeout!r}")
        if self._db_name is not None:
            arguments.append(f"db_name={self._db_name!r}")
        return f"{type(self).__name__}({', '.join(arguments)})"

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self._path, self._acquire_timeout, self._expire_timeout, self._db_name)
        return proxy_of, (type(self), self._source, *arguments)

    # Internals

    @property
    def _wanted(self) -> Wanted:
        location, lease = (self._source, self._db_name), round(self._expire_timeout * 1000)
        return Wanted(location, (self._path,), Mode.EXCLUSIVE, lease)

    def _lock_location(self) -> tuple[Location, Path]:
        return (self._source, self._db_name), self._path

    def _database(self) -> OpenedDatabase:
        return self._source.databases[self._db_name]

    def _below(self, key: str | Iterable[str]) -> Path:
        return paths.below(self._path, key) if type(key) is str else paths.joined(self._path, parsed(key))

    def _at(self: _Proxy, path: Path) -> _Proxy:
        return proxy_of(type(self), self._source, path, self._acquire_timeout, self._expire_timeout, self._db_name)


class Proxy(Located, Lockable["Proxy"]):
    """A path in the tree, whether or not anything is stored there.

    ``path`` is dotted text, or an iterable of segments, which may contain dots. The empty text is the root.
    ``lock_acquire_timeout`` and ``lock_expire_timeout`` are in seconds; ``None`` as the former waits without limit.
    ``db_name`` is a key of ``names`` in the settings. Equal arguments return the same object.

    A proxy has no connection and no value of its own: each method that reads or writes takes one round trip unless it
    says otherwise. It raises a subclass of :class:`~redicts.errors.StoreError` if the store fails, and
    :class:`~redicts.errors.PathError` for a path that is not valid.

    ``with proxy:`` locks the path and everything below it, and gives the proxy. Writes of this thread there are
    guarded: if the lock is lost meanwhile, they write nothing and raise :class:`~redicts.errors.LockLost`.

    A proxy is a path, not its value: :meth:`val` reads the value, and operators such as ``+`` and ``<`` raise a
    ``TypeError`` that says so. ``==`` compares values, so a proxy is not hashable; use :meth:`key` as the key of a
    dict. A proxy is true if anything is stored at its path, a false value too.

    >>> from redicts import Pool, Proxy
    >>> Pool().reload(cfg={"backend": "memory"})
    >>> car = Proxy("garage.car")
    >>> car.set("wheels", 4).set("paint", {"colour": "red"}).val()
    {'paint': {'colour': 'red'}, 'wheels': 4}
    >>> car["paint.colour"].val()
    'red'
    """

    __slots__ = ()

    # Values

    @overload
    def val(self, *, fresh: bool = False) -> Any: ...

    @overload
    def val(
        self, default: dict[str, Any] | list[Any], *, fresh: bool = False
    ) -> Any: ...  # else a checker could not type the result of {}

    @overload
    def val(self, default: _Value, *, fresh: bool = False) -> Any | _Value: ...

    def val(self, default: Any = None, *, fresh: bool = False) -> Any:
        """Return the value, a dict for an inner node, or ``default`` if nothing is stored.

        A value that is too large for one snapshot of the store is read in pages, one round trip each: see the caveats
        in the documentation.

        With ``cache`` in the settings, this process keeps what it has read, until the store tells of a change: then it
        costs no round trip. ``fresh`` asks the store in any case, and so does an owner that holds a lock.
        """
        database = self._source.databases[self._db_name]
        store = database.store
        if database.cache is not None:
            value = kept(database, self._path, fresh)
        elif store.fetches is None:
            value = run(store.read(self._path), database.backend)
        else:
            value = read(store, store.fetches(self._path), database.backend)
        return default if value is ABSENT else value

    def vals(self, *keys: str | Iterable[str], default: Any = None, guarded: bool = False) -> tuple[Any, ...]:
        """Return the values at several keys below this path, all from one snapshot, in one round trip.

        ``default`` stands for each value that is not there. Without a key the result is empty, and costs no round trip.

        With ``guarded``, the values are read only if this thread or task still holds the locks that it has at or above
        these paths. Otherwise this raises :class:`~redicts.errors.LockLost` if one was lost, and
        :class:`~redicts.errors.NotHeld` if a path has none.

        Raises :class:`~redicts.errors.Unsupported`, and reads nothing, if there are more leaves than the store reads
        atomically: 5,000 on Redis.

        >>> from redicts import Pool, Proxy
        >>> Pool().reload(cfg={"backend": "memory"})
        >>> Proxy("garage.car").set("wheels", 4).set("paint", {"colour": "red"}).vals("wheels", "paint.colour", "owner")
        (4, 'red', None)
        """
        found = [self._below(key) for key in keys]
        if not found:
            return ()
        database = self._database()
        steps = database.store.read_several(found)
        if guarded:
            steps = database.locks.guarded(steps, tuple(dict.fromkeys(found)), reads=True)
        return tuple([default if value is ABSENT else value for value in database.run(steps)])

    def set(self, key: str | Iterable[str], value: Any, expire: float | None = None) -> Proxy:
        """Replace the value at ``key`` below this path, and return this proxy.

        ``expire`` is the TTL of every leaf in seconds; without it they do not expire. Other clients see the old value
        or the new one. A leaf above the key is removed. :meth:`put` replaces the value at this path itself.

        Raises ``ValueError``, and writes nothing, for a value that cannot be stored.
        """
        path = self._below(key)
        database = self._source.databases[self._db_name]
        store, locks = database.store, database.locks
        if expire is None and store.overwrites and not locks.held and not locks.mandatory:
            overwrite(store, path, value, database.backend)
        else:
            ttl = None if expire is None else milliseconds(expire)
            self._write(database, store.write(path, value, ttl), path)
        return self

    def put(self, value: Any, expire: float | None = None) -> Proxy:
        """Replace the value at this path itself, and return this proxy. Otherwise it is like :meth:`set`.

        >>> from redicts import Pool, Proxy
        >>> Pool().reload(cfg={"backend": "memory"})
        >>> Proxy("garage.car.wheels").put(4).val()
        4
        """
        database = self._database()
        self._write(database, database.store.write(self._path, value, milliseconds(expire)), self._path)
        return self

    def exists(self) -> bool:
        """Return whether a leaf or an inner node is stored at this path."""
        database = self._database()
        return database.run(database.store.exists(self._path))

    def delete(self, key: str | Iterable[str]) -> None:
        """Remove the value at ``key`` below this path. An absent value is not an error."""
        path = self._below(key)
        database = self._database()
        self._write(database, database.store.delete(path), path)

    def clear(self) -> None:
        """Remove everything at and below this path."""
        database = self._database()
        self._write(database, database.store.delete(self._path), self._path)

    @overload
    def add(self, count: int) -> int | Any: ...

    @overload
    def add(self, count: float) -> float: ...

    def add(self, count: float) -> Any:
        """Add to the number at this path, which is 0 if absent, and return the sum. Preserves the TTL.

        As in Python, the sum is an ``int`` if both numbers are, and a ``float`` otherwise. The type of an integer's sum
        is therefore ``int | Any``: it is a ``float`` where one is stored.

        Atomic for integers and floats. One round trip for 64-bit integers. Other numbers take two, and more while
        other clients change the number. Raises ``ValueError`` if the value is not a number.
        """
        database = self._database()
        return self._write(database, database.store.add(self._path, count), self._path)

    def update(self, value: Mapping[str, Any], expire: float | None = None) -> Proxy:
        """Merge a dict into the value at this path, and return this proxy.

        Unlike ``dict.update`` it merges nested dicts recursively. ``expire`` is the TTL in seconds of the leaves that
        are stored.
        """
        database = self._database()
        self._write(database, database.store.merge(self._path, value, milliseconds(expire)), self._path)
        return self

    def update_with(self, function: Callable[[Any], Any], default: Any = None) -> Any:
        """Replace the value by the result of a function, atomically, and return the new value.

        The function is called with the value, or with ``default`` if nothing is stored. It is called again each time
        that another client changed the value meanwhile, so it must have no side effects. If it raises, nothing is
        written. If it returns ``ABSENT``, the value is removed.

        The TTL of the path stays: leaves that were there preserve theirs, and new ones get the longest that there was,
        or no expiry if a leaf had none. A dict that was stored with :class:`Packed` stays packed.

        Two round trips for each call. Raises :class:`~redicts.errors.Conflict` after a thousand calls, and
        ``ValueError`` if the function changed its argument and returned ``None``.
        """
        database = self._database()
        return self._write(
            database,
            database.store.change(self._path, function, default),
            self._path,
        )

    def compare_and_set(self, expected: Any, value: Any, expire: float | None = None) -> bool:
        """Store ``value`` if the current value equals ``expected``, and return whether it did.

        ``ABSENT`` as ``expected`` means that nothing is stored, and as ``value`` removes the current one. ``expire`` is
        in seconds.
        """
        database = self._database()
        return self._write(
            database, database.store.compare_and_set(self._path, expected, value, milliseconds(expire)), self._path
        )

    def pop(self, key: str | Iterable[str], *default: Any) -> Any:
        """Remove the value at ``key`` below this path and return it.

        Raises ``KeyError`` if nothing is there and there is no default.
        """
        path = self._below(key)
        database = self._database()
        return self._write(database, database.store.pop(path, *default), path)

    def setdefault(self, key: str | Iterable[str], default: Any = None, expire: float | None = None) -> Any:
        """Store ``default`` at ``key`` if nothing is there, and return the value. ``expire`` is in seconds."""
        path = self._below(key)
        database = self._database()
        return self._write(database, database.store.set_default(path, default, milliseconds(expire)), path)

    def edit(
        self,
        *,
        default: Any = ABSENT,
        shared: bool = False,
        renew: bool = False,
        acquire_timeout: float | EllipsisType | None = ...,
        expire_timeout: float | EllipsisType = ...,
        on_loss: Callable[[Lock], object] | None = None,
        on_renewal_overdue: Callable[[Lock], object] | None = None,
    ) -> Edit:
        """Lock this path in a ``with`` block, and store the changes that the block makes to the value, atomically.

        The block gets the value, a plain dict or list or another value that can be changed in place. If nothing is
        stored, it gets a copy of ``default``, an empty dict if there is none. At its end, one guarded transaction
        stores the leaves that have changed and releases the lock. An exception in the block discards the changes.

        Leaves that do not change are not written. The TTL of the path stays, and what is packed stays packed, as with
        :meth:`update_with`. With ``shared``, the block reads the value under a shared lock and must not change it.
        The other options are those of :class:`Lock`; the timeouts default to those of this proxy.

        Two round trips if the lock is free, and if this thread holds it already. Raises what :meth:`Lock.acquire`
        raises. Raises ``ValueError`` before the block for a value that cannot be changed in place, such as a number.
        At the end, and nothing is written then, it raises :class:`~redicts.errors.LockLost` if the lock was lost,
        ``ValueError`` for a value that cannot be stored, and :class:`~redicts.errors.Conflict` if a leaf that is to be
        written is not stored as it was read. Before and after the block it raises
        :class:`~redicts.errors.Unsupported` for more leaves than the store changes at once.

        >>> from redicts import Pool, Proxy
        >>> Pool().reload(cfg={"backend": "memory"})
        >>> with Proxy("shop.stock").edit() as stock:
        ...     stock["apples"] = stock.get("apples", 0) + 12
        >>> with Proxy("shop.queue").edit(default=[]) as queue:
        ...     queue.append("anna")
        >>> Proxy("shop").val()
        {'queue': ['anna'], 'stock': {'apples': 12}}
        """
        lock = self.lock(
            expire_timeout=expire_timeout,
            acquire_timeout=acquire_timeout,
            shared=shared,
            renew=renew,
            on_renewal_overdue=on_renewal_overdue,
            on_loss=on_loss,
        )
        return Edit(lock, default)

    def transaction(self) -> Transaction:
        """Collect changes in a ``with`` block and commit them atomically at its end: see :class:`Transaction`."""
        return Transaction(self._database(), self._below)

    def mapping(self, expire: float | None = None) -> TreeMapping:
        """Return what is below this path as a ``MutableMapping`` of plain values: see :class:`TreeMapping`.

        ``expire`` is the TTL in seconds of the values that are stored through it, and through the mappings in it. No
        round trip.
        """
        return TreeMapping(self._source, self._db_name, self._path, milliseconds(expire))

    def watch(self, *, timeout: float | None = None, initial: bool = True, keys: bool = False) -> Watch:
        """Iterate over the value here, and over what it becomes each time that it changes: see :class:`Watch`.

        The first value is the present one, ``ABSENT`` if nothing is stored. With ``initial=False`` only later changes
        are given, from this call on. Several changes may come as one, and the last one always comes. A deletion and the
        end of a TTL are changes, the latter within a second. While the store does not answer, the iteration waits.

        The iteration ends when nothing has changed for ``timeout`` seconds, by default never, and by ``close()``. With
        ``keys``, it gives pairs: the value, and the keys of the leaves that were added, changed or removed.

        One round trip for each value, and two to begin. Raises what :meth:`val` raises. See the page on watching for
        what each store does.

        >>> from redicts import ABSENT, Pool, Proxy
        >>> Pool().reload(cfg={"backend": "memory"})
        >>> flags = Proxy("flags").put({"dark": True})
        >>> for value in flags.watch():
        ...     if value is ABSENT:
        ...         break
        ...     print(value)
        ...     flags.clear()
        {'dark': True}
        """
        return Watch(self._database(), self._path, timeout_of(timeout, "timeout"), initial=initial, keys=keys)

    # TTL

    def expire(self, seconds: float | None) -> None:
        """Set the TTL of every leaf at and below this path in seconds; ``None`` removes the expiry."""
        database = self._database()
        self._write(database, database.store.expire(self._path, milliseconds(seconds)), self._path)

    def time_to_live(self) -> int:
        """Return the remaining TTL in seconds, rounded up; -1 without expiry, -2 if nothing is stored.

        The TTL of a dict is that of its longest-lived leaf.
        """
        database = self._database()
        return time_to_live(database.run(database.store.ttl(self._path)))

    # Locks: acquire, release and ``with`` are those of Lockable

    def lock(
        self,
        *,
        expire_timeout: float | EllipsisType = ...,
        acquire_timeout: float | EllipsisType | None = ...,
        shared: bool = False,
        renew: bool = False,
        on_renewal_overdue: Callable[[Lock], object] | None = None,
        on_loss: Callable[[Lock], object] | None = None,
    ) -> Lock:
        """Return a lock on this path and everything below it, with options that :meth:`acquire` lacks. No round trip.

        The options are those of :class:`Lock`. The two timeouts default to those of this proxy.
        """
        return Lock(
            self,
            (),
            self._expire_timeout if expire_timeout is ... else expire_timeout,
            self._acquire_timeout if acquire_timeout is ... else acquire_timeout,
            shared=shared,
            renew=renew,
            on_renewal_overdue=on_renewal_overdue,
            on_loss=on_loss,
        )

    def locked(
        self,
        *,
        timeout: float | None = None,
        expire_timeout: float | EllipsisType = ...,
        shared: bool = False,
        renew: bool = False,
        on_renewal_overdue: Callable[[Lock], object] | None = None,
        on_loss: Callable[[Lock], object] | None = None,
    ) -> LockedProxy[Proxy]:
        """Lock this path while a function runs, as a decorator, or for a ``with`` block, which gives this proxy.

        ``timeout`` is the longest wait in seconds, after which :class:`~redicts.errors.LockTimeout` is raised: by
        default that of this proxy, and -1 for no limit. The other options are those of :meth:`lock`. To ask whether the
        path is locked, use :meth:`is_locked`, which is also the truth value of the result. No round trip.

        >>> from redicts import Pool, Proxy
        >>> Pool().reload(cfg={"backend": "memory"})
        >>> @Proxy("visits").locked(timeout=5)
        ... def count():
        ...     return Proxy("visits.n").add(1)
        >>> count()
        1
        >>> with Proxy("visits").locked(shared=True) as visits:
        ...     visits["n"].val()
        1
        """
        lock = self.lock(
            expire_timeout=expire_timeout,
            acquire_timeout=wait_of(True, timeout, self._acquire_timeout),
            shared=shared,
            renew=renew,
            on_renewal_overdue=on_renewal_overdue,
            on_loss=on_loss,
        )
        return LockedProxy(lock, self)

    def is_locked(self) -> bool:
        """Return whether any owner, this thread included, holds a lock on this path or above it."""
        return self.lock().is_locked()

    # Navigation

    def iter_children(self) -> Iterator[Proxy]:
        """Yield a proxy for each leaf at and below this path, once.

        The paths are read when the iteration begins, one round trip per thousand. So it ends, also if leaves are
        stored or removed during the iteration, which has no effect on it. Leaves that other clients store or remove
        while the paths are read may or may not appear.
        """
        database = self._database()
        for path in database.run(database.store.leaf_paths(self._path)):
            yield self._at(path)

    def children(self) -> list[Proxy]:
        """Return a proxy for each name directly below this path, leaf or inner node."""
        return [self._at((*self._path, name)) for name in self._names()]

    def keys(self) -> list[str]:
        """Return the names directly below this path, in no particular order.

        Each is a :class:`Name`: ``p[name]``, ``name in p`` and ``p.pop(name)`` take it as one segment, dots included.
        """
        return list(map(Name, self._names()))

    def values(self) -> list[Any]:
        """Return the values directly below this path."""
        return list(self._dict().values())

    def items(self) -> list[tuple[str, Any]]:
        """Return the names, each a :class:`Name`, and values directly below this path."""
        return named(self._dict())

    def __setitem__(self, key: str | Iterable[str], value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str | Iterable[str]) -> None:
        """Remove the value at a key. Unlike :meth:`delete`, raise ``KeyError`` if nothing is there."""
        self.pop(key)

    def __contains__(self, key: str | Iterable[str]) -> bool:
        """Return whether anything is stored at a key below this path, as ``key in dict`` does. One round trip."""
        return self.get(key).exists()

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names directly below this path, as a dict does. A list here has none. One round trip."""
        return iter(self.keys())

    def __len__(self) -> int:
        """Return the number of names directly below this path; 0 for a leaf, a list included. One round trip."""
        return len(self._names())

    def __bool__(self) -> bool:
        """Return whether anything is stored here, as :meth:`exists` does, whatever the value is. One round trip.

        A stored ``False``, 0, ``None``, ``""``, ``[]`` or ``{}`` is there, so the proxy is true. ``if p["debug"]:``
        asks whether the setting exists, and ``if p["debug"].val(False):`` whether it is on.
        """
        return self.exists()

    def __eq__(self, other: object) -> bool:
        """Return whether the value here equals another value, or that of another proxy.

        One round trip, two if the other one is a proxy; none if it is this proxy. They are two reads and not a
        snapshot: :meth:`vals` reads two values at once. ``p is q`` compares paths, ``p.key() == q.key()`` their texts.
        Nothing stored equals no value, ``None`` included, but it equals a proxy where nothing is stored either.
        ``p != q`` is the opposite, at the same cost. ``p in [q, r]`` compares with each item in turn.
        """
        if self is other:
            return True
        value = other.val(ABSENT) if isinstance(other, Proxy) else other
        return bool(self.val(ABSENT) == value)

    __hash__ = None  # type: ignore[assignment]

    def _ipython_key_completions_(self) -> list[str]:
        """Return what may be between the brackets of ``p[...]``: dotted text, in which names have escapes."""
        try:
            return [paths.render((name,)) for name in self._names()]
        except RedictsError:  # of a store that does not answer; the user is typing
            return []

    # Internals

    def _write(self, database: OpenedDatabase, steps: Steps[_Result], *changed: Path) -> _Result:
        """Run an operation that writes at and below some paths, guarded by the locks of this thread or task there."""
        locks = database.locks
        if locks.held or locks.mandatory:
            steps = locks.guarded(steps, changed)
        return run(steps, database.backend)

    def _names(self) -> list[str]:
        database = self._database()
        return database.run(database.store.names(self._path))

    def _dict(self) -> dict[str, Any]:
        value = self.val()
        return value if isinstance(value, dict) else {}


def root(lock_acquire_timeout: float | None = 10, lock_expire_timeout: float = 30, db_name: str | None = None) -> Proxy:
    """Return the proxy of the root. The arguments are those of :class:`Proxy`. No round trip."""
    return Proxy(paths.ROOT, lock_acquire_timeout, lock_expire_timeout, db_name)


def section(
    name: str | Iterable[str],
    lock_acquire_timeout: float | None = 10,
    lock_expire_timeout: float = 30,
    db_name: str | None = None,
) -> Proxy:
    """Return the proxy of a section. The arguments after the name are those of :class:`Proxy`. No round trip.

    Choose a unique name, for instance ``section(__name__)``.
    """
    return Proxy(parsed(name), lock_acquire_timeout, lock_expire_timeout, db_name)


def proxy_of(
    kind: type[_Proxy],
    source: Source,
    path: Path,
    acquire_timeout: float | None,
    expire_timeout: float,
    db_name: str | None,
) -> _Proxy:
    """Return the interned proxy of a path in a pool or a database."""
    if isinstance(db_name, str) and type(db_name) is not str:
        # A subclass may compare differently, and be found for other names.
        db_name = str.__str__(db_name)
    arguments = (kind, path, acquire_timeout, expire_timeout, db_name)
    found: _Proxy | None = source.proxies.get(arguments)
    if found is not None:
        return found
    with _lock:
        found = source.proxies.get(arguments)
        if found is None:
            if (acquire_timeout, expire_timeout) != (10, 30):
                lease_of(expire_timeout)
                acquire_timeout = timeout_of(acquire_timeout)
            found = object.__new__(kind)
            found._source = source
            found._path = path
            found._acquire_timeout = acquire_timeout
            found._expire_timeout = expire_timeout
            found._db_name = db_name
            # A signal handler may have made it since.
            found = source.proxies.setdefault(arguments, found)
        return found
