"""Database: a handle of one opened database, with its own connections and its own background work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from redicts.api.keys import parsed, parsed_path
from redicts.api.lock import Lock
from redicts.api.opened import Databases, OpenedDatabase
from redicts.api.proxy import Proxy, proxy_of
from redicts.config.settings import Settings, parse
from redicts.core import paths
from redicts.core.minitransaction import Path


class Database(OpenedDatabase):
    """One opened database: proxies and locks on it, its settings and its backend. Made by :func:`open`.

    Several may be open in one program, also of the same store; they share no connections, no renewals and no retained
    locks with each other or with the :class:`Pool`. As a context manager it closes itself.

    >>> import redicts
    >>> with redicts.open({"backend": "memory"}) as db:
    ...     db.proxy("garage.car").set("wheels", 4).val()
    {'wheels': 4}
    """

    databases: Databases[Database]

    def root(self, **options: Any) -> Proxy:
        """Return the proxy of the whole tree. The options are those of :class:`Proxy`. No round trip."""
        return self._proxy(paths.ROOT, **options)

    def section(self, name: str | Iterable[str], **options: Any) -> Proxy:
        """Return the proxy of a section of the tree. The options are those of :class:`Proxy`. No round trip."""
        return self._proxy(parsed(name), **options)

    def proxy(self, path: str | Iterable[str], **options: Any) -> Proxy:
        """Return the proxy of a path. The options are those of :class:`Proxy`. No round trip.

        ``db_name`` is a name from ``names`` of the settings, for another database of the same store.
        """
        return self._proxy(parsed_path(path), **options)

    def lock(self, *keys: str | Iterable[str], **options: Any) -> Lock:
        """Return a lock on one or several paths, without any on the root. No round trip.

        The options are those of :class:`Lock`. Several paths are acquired atomically, all or none.
        """
        first, *others = [Lock(self, key, **options) for key in keys or ("",)]
        return first.all(*others) if others else first

    @property
    def settings(self) -> Settings:
        """The settings. Their repr shows no secret."""
        return self.databases.settings

    def close(self) -> None:
        """Give back retained locks, and close connections and files, also of databases that ``names`` opened.

        Calls under way in other threads finish. Calling it twice is harmless.
        """
        self.databases.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Database {self.settings.backend}>"

    def _proxy(
        self,
        path: Path,
        lock_acquire_timeout: float = 10,
        lock_expire_timeout: float = 30,
        db_name: str | None = None,
    ) -> Proxy:
        return proxy_of(Proxy, self, path, lock_acquire_timeout, lock_expire_timeout, db_name)

    def _lock_location(self) -> tuple[tuple[Database, None], Path]:
        return (self, None), paths.ROOT


def open(cfg: Mapping[str, Any] | str | Settings | None = None, *, fake_redis: bool = False) -> Database:  # noqa: A001
    """Open a store, and return its default database. No round trip.

    ``cfg`` and ``fake_redis`` are those of :meth:`Pool.reload`. The pool is not changed. Raises an error below
    :class:`~redicts.errors.SettingsError` if the configuration is wrong.
    """
    settings = cfg if isinstance(cfg, Settings) else parse(cfg, fake_redis=fake_redis)
    return Databases(lambda: settings, Database)[None]
