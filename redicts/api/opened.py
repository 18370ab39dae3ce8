"""Opened databases: a backend with its tree store and lock manager, and the databases of one configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, Union
from weakref import WeakValueDictionary

from redicts.api.cache import MISSED, Cache
from redicts.api.caching import Caching
from redicts.config import opening
from redicts.config.choosing import ChosenSettings, PlainSettings, choose
from redicts.config.defaults import LOCK_RETENTION_SECS
from redicts.core import driver
from redicts.core.backend import Backend
from redicts.core.driver import Steps
from redicts.core.envelope import LeafFormat
from redicts.core.minitransaction import Path
from redicts.core.store import TreeStore
from redicts.core.values import FastPaths
from redicts.forks import ForkSafeLock
from redicts.locks.manager import LockManager
from redicts.locks.owner import current_owner

if TYPE_CHECKING:
    from redicts.config.settings import Settings

_Result = TypeVar("_Result")
_Opened = TypeVar("_Opened", bound="OpenedDatabase")


class Source(Protocol):
    """The source from which proxies and locks get their database: the pool, or an opened database."""

    @property
    def databases(self) -> Mapping[str | None, OpenedDatabase]:
        """The databases by name; ``None`` is the default one."""

    @property
    def proxies(self) -> WeakValueDictionary[tuple[object, ...], Any]:
        """The interned proxies by their arguments."""


class OpenedDatabase:
    """One opened database: its backend, its tree store and its lock manager.

    ``databases`` are those of the same configuration. With ``mandatory_locks``, writes under a lock of another owner
    are refused. ``lock_retention`` is in seconds. ``cache_bytes`` bounds the kept values that were read; 0 keeps none.
    """

    def __init__(
        self,
        backend: Backend,
        form: LeafFormat,
        databases: Mapping[str | None, OpenedDatabase] | None = None,
        *,
        mandatory_locks: bool = False,
        lock_retention: float = LOCK_RETENTION_SECS,
        cache_bytes: int = 0,
    ) -> None:
        self.name: str | None = None
        """The name of this database in ``databases``."""
        self.proxies: WeakValueDictionary[tuple[object, ...], Any] = WeakValueDictionary()
        self.databases: Mapping[str | None, OpenedDatabase] = {None: self} if databases is None else databases
        can = backend.capabilities
        self.store: Final = TreeStore(
            form,
            can.atomic_entries,
            documents=can.documents,
            ttls=can.ttl,
            fast_paths=_fast_paths(backend),
            sharded=can.sharded,
        )
        self.cache: Final = Cache(backend, self.store, cache_bytes) if cache_bytes else None
        """The values that this process keeps, if the settings choose so."""
        self.backend: Backend = backend if self.cache is None else Caching(backend, self.cache)
        self.locks: Final = LockManager(self.store, self.run, mandatory=mandatory_locks, retention_secs=lock_retention)

    def run(self, steps: Steps[_Result], timeout: float | None = None) -> _Result:
        """Run an operation, which has this timeout in seconds, against the backend."""
        return driver.run(steps, self.backend, timeout)

    def write(self, steps: Steps[_Result], *changed: Path) -> _Result:
        """Run an operation that writes at and below some paths, guarded by the locks of this thread or task there."""
        return driver.run(self.locks.guarded(steps, changed), self.backend)

    def disconnect(self) -> None:
        """Release retained locks, and close connections and files. Calls under way in other threads finish."""
        self.locks.retention.seconds = 0
        try:
            self.run(self.locks.retention.end())
        finally:
            if self.locks.awaits is not None:
                self.locks.awaits.close()
            self.backend.close()


class Databases(dict[Union[str, None], _Opened]):
    """The databases of one configuration by name, each opened on first access.

    ``load`` returns the settings, and is called on first access.
    """

    def __init__(self, load: Callable[[], ChosenSettings], kind: type[_Opened]) -> None:
        super().__init__()
        self._load = load
        self._kind = kind
        self.loaded: ChosenSettings | None = None
        """The settings, if they are loaded."""
        self._validated: Settings | None = None
        self._format: LeafFormat | None = None
        self._lock = ForkSafeLock()
        self._by_number: dict[int, _Opened] = {}
        self._is_closed = False

    @property
    def settings(self) -> Settings:
        """The settings as a model. Raises :class:`~redicts.errors.SettingsError` if they cannot be loaded."""
        chosen = self.chosen
        if not isinstance(chosen, PlainSettings):
            return chosen
        with self._lock:
            if self._validated is None:
                self._validated = chosen.validated()
        return self._validated

    @property
    def chosen(self) -> ChosenSettings:
        """The settings with which databases are opened. Raises as :attr:`settings` does."""
        if self.loaded is None:
            with self._lock:
                if self.loaded is None:
                    self.loaded = self._load()
        return self.loaded

    def __missing__(self, name: str | None) -> _Opened:
        """Open a database. Raises :class:`~redicts.errors.SettingsError` for an unknown name. No round trip."""
        settings = self.chosen
        number = settings.database(name)
        with self._lock:
            database = self._by_number.get(number)
            if database is None:
                form = self._format = self._format or opening.leaf_format(settings)
                opened = self._kind(
                    opening.backend(settings, number),
                    form,
                    self,
                    mandatory_locks=settings.mandatory_locks,
                    lock_retention=settings.lock_retention,
                    cache_bytes=settings.cache_bytes,
                )
                opened.name = name
                # A signal handler that interrupted this may have opened it.
                database = self._by_number.setdefault(number, opened)
                if self._is_closed or database is not opened:
                    opened.disconnect()
            return self.setdefault(name, database)

    def close(self) -> None:
        """Disconnect all databases, also those that are opened later. An error does not stop the others."""
        with self._lock:
            self._is_closed = True
            opened = list(self._by_number.values())
        with ExitStack() as closing:
            for database in opened:
                closing.callback(database.disconnect)


def open_databases(
    cfg: Mapping[str, Any] | str | ChosenSettings | None, fake_redis: bool, kind: type[_Opened]
) -> Databases[_Opened]:
    """Return the databases of a configuration, of which the default one is open. See :meth:`Pool.reload`."""
    settings = choose(cfg, fake_redis=fake_redis)
    databases = Databases(lambda: settings, kind)
    _ = databases[None]
    return databases


def _fast_paths(backend: Backend) -> FastPaths:
    """Return the fast paths that a backend overrides: calling the defaults would cost time."""
    kind = type(backend)
    fetches = kind.fetch is not Backend.fetch or kind.fetch_document is not Backend.fetch_document
    return FastPaths(fetches, kind.overwrite is not Backend.overwrite)


def may_be_kept(database: OpenedDatabase) -> bool:
    """Return whether the running owner may get a kept value: one that holds a lock asks the store."""
    return not (database.locks.held and database.locks.is_held_by(current_owner()))


def kept(database: OpenedDatabase, path: Path, fresh: bool) -> object:
    """Return the value at a path from the cache of its database, or read it and keep it, in any case if ``fresh``."""
    cache = database.cache
    assert cache is not None
    if database.locks.held and not may_be_kept(database):
        return database.run(database.store.read(path))
    value = MISSED if fresh else cache.get(path)
    return database.run(cache.read(path)) if value is MISSED else value
