"""Database: a handle of one opened database, with connections, held locks and background work of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from redicts.api.acquisitions import Location
from redicts.api.keys import parsed, parsed_path
from redicts.api.lock import Lock
from redicts.api.opened import Databases, OpenedDatabase, open_databases
from redicts.api.proxy import Proxy, proxy_of
from redicts.config.processes import is_starting
from redicts.core import paths
from redicts.core.minitransaction import Path
from redicts.errors import WrongUse
from redicts.forks import ForkSafeLock

if TYPE_CHECKING:
    from redicts.config.settings import Settings

_lock: Final = ForkSafeLock()


class Database(OpenedDatabase):
    """One opened database, from :func:`open`: its proxies and locks, its settings and its backend.

    A program may open several, also of the same store. They share no connections, held locks, renewals or retained
    locks with each other or with the :class:`Pool`. A ``with`` block closes the database at its end, and a closed one
    has no further block.

    >>> import redicts
    >>> with redicts.open({"backend": "memory"}) as db:
    ...     db.proxy("garage.car").set("wheels", 4).val()
    {'wheels': 4}
    """

    databases: Databases[Database]
    _is_closed = False

    def root(
        self, *, lock_acquire_timeout: float | None = 10, lock_expire_timeout: float = 30, db_name: str | None = None
    ) -> Proxy:
        """Return the proxy of the root. The options are those of :meth:`proxy`. No round trip."""
        return self._proxy(paths.ROOT, lock_acquire_timeout, lock_expire_timeout, db_name)

    def section(
        self,
        name: str | Iterable[str],
        *,
        lock_acquire_timeout: float | None = 10,
        lock_expire_timeout: float = 30,
        db_name: str | None = None,
    ) -> Proxy:
        """Return the proxy of a section. The options are those of :meth:`proxy`. No round trip."""
        return self._proxy(parsed(name), lock_acquire_timeout, lock_expire_timeout, db_name)

    def proxy(
        self,
        path: str | Iterable[str],
        *,
        lock_acquire_timeout: float | None = 10,
        lock_expire_timeout: float = 30,
        db_name: str | None = None,
    ) -> Proxy:
        """Return the proxy of a path. The timeouts are those of :class:`Proxy`, in seconds. No round trip.

        ``db_name`` is a key of ``names`` in the settings: another database of the same store.
        """
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
        """Return a lock on one or several paths; without a path, on the root. No round trip.

        The options are those of :class:`Lock`. Several paths are acquired atomically, all or none.
        """
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
        """The settings. Their repr contains no secret."""
        return self.databases.settings

    def close(self) -> None:
        """Release retained locks, and close connections and files, also of the databases in ``names``. Idempotent.

        Calls under way in other threads finish. Locks that are still held are not renewed any more, and their callbacks
        are not called.
        """
        self.databases[None]._is_closed = True
        self.databases.close()

    def disconnect(self) -> None:
        """Release retained locks, close connections and files, and end the background threads."""
        try:
            super().disconnect()
        finally:
            self.locks.renewal.end()

    def __enter__(self) -> Database:
        if self.databases[None]._is_closed:
            raise WrongUse("this database is closed; open it again with redicts.open()")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        name = "" if self.name is None else f"{self.name!r} of "
        return f"<Database {name}{self.settings}{', closed' if self.databases[None]._is_closed else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if not is_starting():
            raise TypeError(
                "a database of redicts.open(), its proxies and its locks are pickled only to start a process by "
                "multiprocessing; for other uses pass its key() instead, and open the store again there"
            )
        main = self.databases[None]
        if not main.backend.capabilities.processes:
            raise TypeError(
                f"the values of the backend {self.settings.backend!r} are in this process, so another one cannot use "
                "this database; choose a store that processes share"
            )
        return _opened_again, (vars(main).setdefault("_token", os.urandom(8).hex()), self.settings, self.name)

    def _proxy(self, path: Path, acquire_timeout: float | None, expire_timeout: float, db_name: str | None) -> Proxy:
        return proxy_of(Proxy, self, path, acquire_timeout, expire_timeout, self.name if db_name is None else db_name)

    def _lock_location(self) -> tuple[Location, Path]:
        return (self, self.name), paths.ROOT


def open(cfg: Mapping[str, Any] | str | Settings | None = None, *, fake_redis: bool = False) -> Database:  # noqa: A001
    """Open a store and return its default database. The :class:`Pool` does not change. No round trip.

    ``cfg`` and ``fake_redis`` are those of :meth:`Pool.reload`. Raises a subclass of
    :class:`~redicts.errors.SettingsError` if the configuration is not valid.
    """
    return open_databases(cfg, fake_redis, Database)[None]


_again: Final[WeakValueDictionary[str, Databases[Database]]] = WeakValueDictionary()
"""The databases that this process was given when it was started."""


def _opened_again(token: str, settings: Settings, name: str | None) -> Database:
    """Return a database in a process that was started with it or with one of its proxies or locks."""
    with _lock:
        databases = _again.get(token)
        if databases is None:
            databases = _again[token] = open_databases(settings, False, Database)
    return databases[name]
