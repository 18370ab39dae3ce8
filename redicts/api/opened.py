"""Opened databases: a backend with the tree store and the lock manager on it, and all databases of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar, Union
from weakref import WeakValueDictionary

from redicts.config import opening
from redicts.config.settings import LOCK_RETENTION_SECS, Settings
from redicts.core import driver
from redicts.core.backend import Backend
from redicts.core.driver import Steps
from redicts.core.envelope import LeafFormat
from redicts.core.minitransaction import Path
from redicts.core.store import TreeStore
from redicts.core.values import FastPaths
from redicts.forks import ForkSafeLock
from redicts.locks.manager import LockManager

_Result = TypeVar("_Result")
_Opened = TypeVar("_Opened", bound="OpenedDatabase")


class Source(Protocol):
    """Where proxies and locks look up their database: the pool, or an opened database."""

    @property
    def databases(self) -> Mapping[str | None, OpenedDatabase]:
        """The databases by name; ``None`` stands for the default one."""

    @property
    def proxies(self) -> WeakValueDictionary[tuple[object, ...], Any]:
        """The proxies that exist, by their arguments."""


class OpenedDatabase:
    """One opened database: its backend, the operations on its tree, and what this process knows of its locks.

    ``databases`` are those of the same configuration. With ``mandatory_locks`` a write that another owner's lock
    covers is refused. ``lock_retention`` is in seconds.
    """

    def __init__(
        self,
        backend: Backend,
        form: LeafFormat,
        databases: Mapping[str | None, OpenedDatabase] | None = None,
        *,
        mandatory_locks: bool = False,
        lock_retention: float = LOCK_RETENTION_SECS,
    ) -> None:
        self.backend = backend
        self.proxies: WeakValueDictionary[tuple[object, ...], Any] = WeakValueDictionary()
        self.databases: Mapping[str | None, OpenedDatabase] = {None: self} if databases is None else databases
        can = backend.capabilities
        self.store: Final = TreeStore(
            form, can.atomic_entries, documents=can.documents, fast_paths=_fast_paths(backend)
        )
        self.locks: Final = LockManager(self.store, self.run, mandatory=mandatory_locks, retention_secs=lock_retention)

    def run(self, steps: Steps[_Result]) -> _Result:
        """Run an operation against the backend."""
        return driver.run(steps, self.backend)

    def write(self, steps: Steps[_Result], *changed: Path) -> _Result:
        """Run an operation that writes at and below some paths, guarded by the locks that this thread holds there."""
        return driver.run(self.locks.guarded(steps, changed), self.backend)

    def disconnect(self) -> None:
        """Give back retained locks, and close connections and files. Calls under way in other threads finish."""
        self.locks.retention.seconds = 0
        self.run(self.locks.retention.end())
        self.backend.close()


class Databases(dict[Union[str, None], _Opened]):
    """The databases of one configuration by name, each opened when it is first looked up.

    ``load`` returns the settings when they are first needed.
    """

    def __init__(self, load: Callable[[], Settings], kind: type[_Opened]) -> None:
        super().__init__()
        self._load = load
        self._kind = kind
        self.loaded: Settings | None = None
        """The settings, if they were needed already."""
        self._format: LeafFormat | None = None
        self._lock = ForkSafeLock()
        self._by_number: dict[int, _Opened] = {}

    @property
    def settings(self) -> Settings:
        """The settings. Raises :class:`~redicts.errors.SettingsError` if they cannot be loaded."""
        if self.loaded is None:
            with self._lock:
                if self.loaded is None:
                    self.loaded = self._load()
        return self.loaded

    def __missing__(self, name: str | None) -> _Opened:
        """Open a database. Raises :class:`~redicts.errors.SettingsError` for an unknown name. No round trip."""
        settings = self.settings
        number = settings.database(name)
        with self._lock:
            database = self._by_number.get(number)
            if database is None:
                form = self._format = self._format or opening.leaf_format(settings)
                database = self._by_number[number] = self._kind(
                    opening.backend(settings, number),
                    form,
                    self,
                    mandatory_locks=settings.mandatory_locks,
                    lock_retention=settings.lock_retention,
                )
            self[name] = database
            return database

    def close(self) -> None:
        """Disconnect all that are open."""
        with self._lock:
            for database in self._by_number.values():
                database.disconnect()


def _fast_paths(backend: Backend) -> FastPaths:
    """Return the fast paths that a backend overrides: asking one that always declines would cost time."""
    kind = type(backend)
    fetches = kind.fetch is not Backend.fetch or kind.fetch_document is not Backend.fetch_document
    return FastPaths(fetches, kind.overwrite is not Backend.overwrite)
