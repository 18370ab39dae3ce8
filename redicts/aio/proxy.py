"""Proxy: reads, writes and locks at one path of the tree, awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import EllipsisType
from typing import Any, NoReturn, TypeVar, overload

from redicts.aio.edit import Edit
from redicts.aio.lock import Lock
from redicts.aio.lockable import Lockable
from redicts.aio.locked_proxy import LockedProxy
from redicts.aio.loops import loops_of, write
from redicts.aio.refusals import NothingBlocking
from redicts.aio.transaction import Transaction
from redicts.aio.twins import Call, twin_of
from redicts.aio.watch import Watch
from redicts.api import proxy
from redicts.api.cache import MISSED
from redicts.api.keys import parsed
from redicts.api.opened import OpenedDatabase, may_be_kept
from redicts.api.proxy import Located
from redicts.api.timeouts import timeout_of, wait_of
from redicts.core import paths
from redicts.core.driver import Steps
from redicts.core.leaves import ABSENT
from redicts.core.names import Name, named
from redicts.core.ttl import milliseconds, time_to_live

_Value = TypeVar("_Value")


@twin_of(proxy.Proxy)
class Proxy(NothingBlocking, Located, Lockable["Proxy"]):
    """A path in the tree, whether or not anything is stored there, for tasks of asyncio.

    ``path`` is dotted text, or an iterable of segments, which may contain dots. The empty text is the root.
    ``lock_acquire_timeout`` and ``lock_expire_timeout`` are in seconds; ``None`` as the former waits without limit.
    ``db_name`` is a key of ``names`` in the settings. Equal arguments return the same object.

    The methods are those of the blocking :class:`redicts.Proxy`, awaited. Each takes one round trip unless it says
    otherwise. It raises a subclass of :class:`~redicts.errors.StoreError` if the store fails, and
    :class:`~redicts.errors.PathError` for a path that is not valid.

    ``async with proxy:`` locks the path and everything below it, and gives the proxy. Writes of this task there are
    guarded: if the lock is lost meanwhile, they write nothing and raise :class:`~redicts.errors.LockLost`.

    What cannot be awaited asks no store: ``==``, ``in``, ``len``, ``bool`` and ``p[key] = value`` raise a ``TypeError``
    that names the method to await. A call that is cancelled may have written or not, but writes nothing later.

    >>> import asyncio
    >>> from redicts import Pool
    >>> from redicts.aio import Proxy
    >>> Pool().reload(cfg={"backend": "memory"})
    >>> async def main():
    ...     car = Proxy("garage.car")
    ...     await car.set("wheels", 4)
    ...     async with car:
    ...         await car["wheels"].add(2)
    ...     return await car.val()
    >>> asyncio.run(main())
    {'wheels': 6}
    """

    __slots__ = ()

    # Values

    @overload
    def val(self, *, fresh: bool = False) -> Call[Any]: ...

    @overload
    def val(self, default: dict[str, Any] | list[Any], *, fresh: bool = False) -> Call[Any]: ...

    @overload
    def val(self, default: _Value, *, fresh: bool = False) -> Call[Any | _Value]: ...

    def val(self, default: Any = None, *, fresh: bool = False) -> Call[Any]:
        return self._read(default, fresh)

    async def _read(self, default: Any, fresh: bool) -> Any:
        database = self._source.databases[self._db_name]
        steps = database.store.read(self._path)
        if database.cache is not None and may_be_kept(database):
            value = MISSED if fresh else database.cache.get(self._path)
            if value is not MISSED:
                return default if value is ABSENT else value
            steps = database.cache.read(self._path)
        value = await loops_of(database).run(steps)
        return default if value is ABSENT else value

    def vals(self, *keys: str | Iterable[str], default: Any = None, guarded: bool = False) -> Call[tuple[Any, ...]]:
        found = [self._below(key) for key in keys]
        database = self._database()
        steps = database.store.read_several(found)
        if guarded and found:
            steps = database.locks.guarded(steps, tuple(dict.fromkeys(found)), reads=True)
        return _several(database, steps, default) if found else _nothing()

    def set(self, key: str | Iterable[str], value: Any, expire: float | None = None) -> Call[Proxy]:
        path = self._below(key)
        database = self._database()
        ttl = None if expire is None else milliseconds(expire)
        return self._after(write(database, database.store.write(path, value, ttl), path))

    def put(self, value: Any, expire: float | None = None) -> Call[Proxy]:
        database = self._database()
        return self._after(write(database, database.store.write(self._path, value, milliseconds(expire)), self._path))

    def exists(self) -> Call[bool]:
        database = self._database()
        return loops_of(database).run(database.store.exists(self._path))

    def delete(self, key: str | Iterable[str]) -> Call[None]:
        path = self._below(key)
        database = self._database()
        return write(database, database.store.delete(path), path)

    def clear(self) -> Call[None]:
        database = self._database()
        return write(database, database.store.delete(self._path), self._path)

    @overload
    def add(self, count: int) -> Call[int | Any]: ...

    @overload
    def add(self, count: float) -> Call[float]: ...

    def add(self, count: float) -> Call[Any]:
        database = self._database()
        return write(database, database.store.add(self._path, count), self._path)

    def update(self, value: Mapping[str, Any], expire: float | None = None) -> Call[Proxy]:
        database = self._database()
        return self._after(write(database, database.store.merge(self._path, value, milliseconds(expire)), self._path))

    def update_with(self, function: Callable[[Any], Any], default: Any = None) -> Call[Any]:
        database = self._database()
        return write(database, database.store.change(self._path, function, default), self._path)

    def compare_and_set(self, expected: Any, value: Any, expire: float | None = None) -> Call[bool]:
        database = self._database()
        steps = database.store.compare_and_set(self._path, expected, value, milliseconds(expire))
        return write(database, steps, self._path)

    def pop(self, key: str | Iterable[str], *default: Any) -> Call[Any]:
        path = self._below(key)
        database = self._database()
        return write(database, database.store.pop(path, *default), path)

    def setdefault(self, key: str | Iterable[str], default: Any = None, expire: float | None = None) -> Call[Any]:
        path = self._below(key)
        database = self._database()
        return write(database, database.store.set_default(path, default, milliseconds(expire)), path)

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
        return Transaction(self._database(), self._below)

    def mapping(self, expire: float | None = None) -> NoReturn:  # noqa: ARG002  (the arguments of the blocking one)
        """Refuse: a ``MutableMapping`` reads when an item is looked up, which cannot be awaited."""
        raise TypeError(
            "the items of a mapping cannot be awaited; use await p.val(), p.items() and p.set(key, value), or the "
            "mapping of a blocking redicts.Proxy in a thread: await asyncio.to_thread(work)"
        )

    def watch(self, *, timeout: float | None = None, initial: bool = True, keys: bool = False) -> Watch:
        return Watch(self._database(), self._path, timeout_of(timeout, "timeout"), initial=initial, keys=keys)

    # TTL

    def expire(self, seconds: float | None) -> Call[None]:
        database = self._database()
        return write(database, database.store.expire(self._path, milliseconds(seconds)), self._path)

    async def time_to_live(self) -> int:
        database = self._database()
        return time_to_live(await loops_of(database).run(database.store.ttl(self._path)))

    # Locks: acquire, release and ``async with`` are those of Lockable

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
        lock = self.lock(
            expire_timeout=expire_timeout,
            acquire_timeout=wait_of(True, timeout, self._acquire_timeout),
            shared=shared,
            renew=renew,
            on_renewal_overdue=on_renewal_overdue,
            on_loss=on_loss,
        )
        return LockedProxy(lock, self)

    def is_locked(self) -> Call[bool]:
        return self.lock().is_locked()

    # Navigation

    async def iter_children(self) -> AsyncIterator[Proxy]:
        database = self._database()
        for path in await loops_of(database).run(database.store.leaf_paths(self._path)):
            yield self._at(path)

    async def children(self) -> list[Proxy]:
        return [self._at((*self._path, name)) for name in await self._names()]

    async def keys(self) -> list[str]:
        return list(map(Name, await self._names()))

    async def values(self) -> list[Any]:
        return list((await self._dict()).values())

    async def items(self) -> list[tuple[str, Any]]:
        return named(await self._dict())

    async def __aiter__(self) -> AsyncIterator[str]:
        """Iterate over the names directly below this path, as a dict does. One round trip."""
        for name in await self.keys():
            yield name

    # Internals

    async def _after(self, call: Call[object]) -> Proxy:
        """Await a call, and return this proxy."""
        await call
        return self

    def _names(self) -> Call[list[str]]:
        database = self._database()
        return loops_of(database).run(database.store.names(self._path))

    async def _dict(self) -> dict[str, Any]:
        value = await self.val()
        return value if isinstance(value, dict) else {}


async def _several(database: OpenedDatabase, steps: Steps[list[object]], default: object) -> tuple[Any, ...]:
    return tuple([default if value is ABSENT else value for value in await loops_of(database).run(steps)])


async def _nothing() -> tuple[Any, ...]:
    return ()


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
