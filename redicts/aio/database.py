"""Database: a handle of one opened database for tasks, with connections of each event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from redicts.aio.lock import Lock
from redicts.aio.proxy import Proxy
from redicts.aio.twins import Call, twin_of
from redicts.api import database
from redicts.api.acquisitions import Location
from redicts.api.keys import parsed, parsed_path
from redicts.api.proxy import proxy_of
from redicts.core import paths
from redicts.core.minitransaction import Path
from redicts.errors import WrongUse

if TYPE_CHECKING:
    from redicts.config.settings import Settings


@twin_of(database.Database)
class Database:
    """One opened database, from :func:`open`: its proxies and locks for tasks of asyncio.

    Tasks of several event loops may use it. Each loop has connections of its own, which close with the loop, or when
    the database is closed. An ``async with`` block closes it at its end, and a closed one has no further block.

    >>> import asyncio
    >>> from redicts import aio
    >>> async def main():
    ...     async with aio.open({"backend": "memory"}) as db:
    ...         await db.proxy("garage.car").set("wheels", 4)
    ...         return await db.root().val()
    >>> asyncio.run(main())
    {'garage': {'car': {'wheels': 4}}}
    """

    __slots__ = ("__weakref__", "blocking")

    def __init__(self, blocking: database.Database) -> None:
        self.blocking = blocking
        """The same database for threads, with the same locks: in ``asyncio.to_thread(work, db.blocking)``, the writes
        of the function are guarded by the locks of the task."""

    def root(
        self, *, lock_acquire_timeout: float | None = 10, lock_expire_timeout: float = 30, db_name: str | None = None
    ) -> Proxy:
        return self._proxy(paths.ROOT, lock_acquire_timeout, lock_expire_timeout, db_name)

    def section(
        self,
        name: str | Iterable[str],
        *,
        lock_acquire_timeout: float | None = 10,
        lock_expire_timeout: float = 30,
        db_name: str | None = None,
    ) -> Proxy:
        return self._proxy(parsed(name), lock_acquire_timeout, lock_expire_timeout, db_name)

    def proxy(
        self,
        path: str | Iterable[str],
        *,
        lock_acquire_timeout: float | None = 10,
        lock_expire_timeout: float = 30,
        db_name: str | None = None,
    ) -> Proxy:
        return self._proxy(parsed_path(path), lock_acquire_timeout, lock_expire_timeout, db_name)

    def lock(
        self,
        *keys: str | Iterable[str],
        expire_timeout: float = 30,
        acquire_timeout: float | None = 10,
        shared: bool = False,
        renew: bool = False,
        on_renewal_overdue: Callable[[Lock], object] | None = None,
        on_loss: Callable[[Lock], object] | None = None,
    ) -> Lock:
        first, *others = [
            Lock(
                self,
                key,
                expire_timeout,
                acquire_timeout,
                shared=shared,
                renew=renew,
                on_renewal_overdue=on_renewal_overdue,
                on_loss=on_loss,
            )
            for key in keys or ("",)
        ]
        return first.all(*others) if others else first

    @property
    def settings(self) -> Settings:
        return self.blocking.settings

    def close(self) -> Call[None]:
        """Release retained locks, and close connections and files, also of the databases in ``names``. Idempotent.

        Calls under way finish. Locks that are still held are not renewed any more, and their callbacks are not called.
        """
        # In a thread, because closing a file may take long.
        return asyncio.to_thread(self.blocking.close)

    async def __aenter__(self) -> Database:
        if self.blocking.databases[None]._is_closed:
            raise WrongUse("this database is closed; open it again with redicts.aio.open()")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<aio.{repr(self.blocking)[1:]}"

    def __reduce__(self) -> tuple[Any, ...]:
        return Database, (self.blocking,)

    def _proxy(self, path: Path, acquire_timeout: float | None, expire_timeout: float, db_name: str | None) -> Proxy:
        name = self.blocking.name if db_name is None else db_name
        return proxy_of(Proxy, self.blocking, path, acquire_timeout, expire_timeout, name)

    def _lock_location(self) -> tuple[Location, Path]:
        return self.blocking._lock_location()


def open(cfg: Mapping[str, Any] | str | Settings | None = None, *, fake_redis: bool = False) -> Database:  # noqa: A001
    """Open a store and return its default database. The :class:`Pool` does not change. No round trip.

    ``cfg`` and ``fake_redis`` are those of :meth:`Pool.reload`. Raises a subclass of
    :class:`~redicts.errors.SettingsError` if the configuration is not valid.
    """
    return Database(database.open(cfg, fake_redis=fake_redis))
