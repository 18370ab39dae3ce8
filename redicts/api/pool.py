"""The pool: the default databases of this process."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache, partial
from multiprocessing.process import current_process
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, WeakValueDictionary

from redicts.api.opened import Databases, OpenedDatabase, Source, open_databases
from redicts.config import sources
from redicts.config.choosing import choose
from redicts.config.defaults import DEFAULT_BACKEND
from redicts.config.opening import codec
from redicts.config.processes import is_starting
from redicts.core.backend import Backend
from redicts.core.envelope import LeafFormat
from redicts.errors import SettingsError, StoreError, Unsupported
from redicts.forks import ForkSafeLock
from redicts.plugins.loading import from_client, is_client_of

if TYPE_CHECKING:
    import redis

    from redicts.config.settings import Settings

_lock: Final = ForkSafeLock()


class Pool:
    """The default databases of this process, which all proxies use that are not from :func:`redicts.open`.

    ``Pool()`` always returns the same object; with ``cfg`` it is reloaded first. If you configure no store, it reads
    the URL in the environment variable ``REDICTS_URL``, the TOML file named by ``REDICTS_CONFIG``, or the table
    ``[tool.redicts]`` of the nearest ``pyproject.toml``. Otherwise it uses Redis on this host, port 6379, database 0.

    A process that this one starts by ``multiprocessing`` uses the same settings, unless it reloads its own pool.

    A library that needs a store of its own must use :func:`redicts.open`, which does not change the pool.

    >>> Pool().reload(cfg={"backend": "memory"})
    >>> Pool().settings.backend
    'memory'
    """

    _instance: Pool | None = None
    databases: Databases[OpenedDatabase]
    proxies: WeakValueDictionary[tuple[object, ...], Any]
    _of_clients: WeakKeyDictionary[Any, OpenedDatabase]
    # By identity, which is unique while the database exists, because it refers to the backend.
    _of_backends: WeakValueDictionary[int, OpenedDatabase]
    _family: str
    """The same in this process and in all that were started, or forked, with its settings."""
    _choice: str
    """Another one after each reload."""
    _chosen_by: int
    """The id of the process that chose the settings by a reload; 0 if none did."""

    def __new__(cls, cfg: Mapping[str, Any] | str | Settings | None = None) -> Pool:  # noqa: ARG004  (__init__ uses it)
        """Return the pool of this process."""
        if cls._instance is None:
            with _lock:
                if cls._instance is None:
                    pool = super().__new__(cls)
                    pool.databases = Databases(partial(choose, None), OpenedDatabase)
                    pool.proxies = WeakValueDictionary()
                    pool._of_clients = WeakKeyDictionary()
                    pool._of_backends = WeakValueDictionary()
                    pool._family, pool._choice, pool._chosen_by = os.urandom(8).hex(), os.urandom(8).hex(), 0
                    cls._instance = pool
        return cls._instance

    def __init__(self, cfg: Mapping[str, Any] | str | Settings | None = None) -> None:
        if cfg is not None:
            self.reload(cfg)

    def reload(self, cfg: Mapping[str, Any] | str | Settings | None = None, fake_redis: bool = False) -> None:
        """Replace the settings for all existing proxies and locks, and close the old databases.

        ``cfg`` is a dict, a URL (``sqlite:///state.db``, ``redis://host:6379/0``), or parsed settings. Without it, the
        default configuration is read again. With ``fake_redis``, the values are on a simulated Redis server in this
        process until the next reload. Calls under way in other threads finish with the old settings. No round trip.

        Raises a subclass of :class:`~redicts.errors.SettingsError` if the configuration is not valid:
        :class:`~redicts.errors.PluginMissing`, :class:`~redicts.errors.PluginBroken` or
        :class:`~redicts.errors.WrongField`. Then, and if the store cannot be opened, the old settings stay current.
        """
        databases = open_databases(cfg, fake_redis, OpenedDatabase)
        with _lock:
            old, self.databases = self.databases, databases
            self._choice, self._chosen_by = os.urandom(8).hex(), os.getpid()
        old.close()

    @property
    def settings(self) -> Settings:
        """The current settings. Their repr contains no secret."""
        return self.databases.settings

    def database(self, db_name: str | None = None) -> OpenedDatabase:
        """Return an opened database: the default one, or the one with this name in ``names`` of the settings.

        Raises :class:`~redicts.errors.SettingsError` for an unknown name. No round trip.
        """
        return self.databases[db_name]

    def get_connection(self, db_name: str | None = None) -> redis.Redis:
        """Return a redis-py client for a database, with the connections of this pool.

        Raises :class:`~redicts.errors.Unsupported` if the backend is not Redis.
        """
        database = self.databases[db_name]
        client: redis.Redis | None = getattr(database.backend, "client", None)
        if client is None:
            raise Unsupported(f"the backend {self.settings.backend!r} has no Redis connections; choose backend 'redis'")
        # A lock on this client, or on one that shares its connections, must be a lock of this database.
        with _lock:
            self._of_clients[client] = self._of_backends[id(database.backend)] = database
        return client

    def of_client(self, client: Any) -> OpenedDatabase:
        """Return the database of a redis-py client or an opened backend. No round trip.

        The same client returns the same database. For a client of this pool, or one on the server and the database of
        this pool if that has a prefix, it is the database of the pool. Raises
        :class:`~redicts.errors.SettingsError` for any other object, and if only the server could tell.
        """
        with _lock:
            if isinstance(client, Backend):
                return self._of_backend(client)
            database = self._of_settings(client)
            if database is None:
                with suppress(TypeError):  # of what cannot be a client, which from_client refuses
                    database = self._of_clients.get(client)
            if database is None:
                # A signal handler may have opened it since.
                database = self._of_clients.setdefault(client, self._of_backend(from_client(client)))
            return database

    def _of_settings(self, client: object) -> OpenedDatabase | None:
        """Return the database of this pool that a client must use, because it does not know a part of the settings.

        Its own locks would exclude no lock of a :class:`Proxy`.
        """
        settings = self.databases.loaded
        if settings is not None:
            for name in (None, *settings.names):
                if is_client_of(client, settings.backend, settings.options, settings.database(name)):
                    return self.databases[name]
        return None

    def _of_backend(self, backend: Backend) -> OpenedDatabase:
        """Return the database of an opened backend."""
        database = self._of_backends.get(id(backend))
        if database is None:
            database = OpenedDatabase(backend, LeafFormat(codec("json")))
            # A signal handler may have made it since.
            database = self._of_backends.setdefault(id(backend), database)
        return database

    def __repr__(self) -> str:
        settings = self.databases.loaded
        return f"<Pool {'not used yet' if settings is None else settings}>"

    # Other processes

    def __reduce__(self) -> tuple[Any, ...]:
        with _lock:
            databases, origin = self.databases, (self._family, self._choice)
        if is_starting():
            return _inherited, (*origin, _portable(databases))
        settings = databases.settings
        if settings.backend == DEFAULT_BACKEND and settings == choose({}):
            return Pool, ()
        return _received, origin


class _ForChildren:
    """Passes the settings that the pool uses on to a process that multiprocessing starts."""

    def __reduce__(self) -> tuple[Any, ...]:
        pool = Pool()
        # A pool that was never used has chosen nothing: the other process looks for a configuration itself.
        return _ForChildren, (pool,) if is_starting() and pool.databases.loaded is not None else ()

    def __init__(self, pool: Pool | None = None) -> None:
        """Unpickling the pool has its effect, so nothing is left to do."""


# multiprocessing passes this on to each process that it starts, as it does its own secret key.
vars(current_process())["_config"]["redicts"] = _ForChildren()


class _Received:
    """The source of proxies that came from another process, until this one knows their store."""

    def __init__(self, family: str, choice: str) -> None:
        self._origin = (family, choice)
        self.proxies: WeakValueDictionary[tuple[object, ...], Any] = WeakValueDictionary()

    @property
    def databases(self) -> Mapping[str | None, OpenedDatabase]:
        """The databases of the pool. Raises :class:`~redicts.errors.SettingsError` if they may be another store's."""
        pool = Pool()
        if pool._chosen_by != os.getpid() and self._origin != (pool._family, pool._choice):
            if self._origin[0] == pool._family:
                raise SettingsError(
                    "this proxy is from a process that uses another store than when it started this process; start "
                    "processes after Pool().reload(), or call Pool().reload() in this one"
                )
            if not pool._chosen_by and sources.default() is None:
                raise SettingsError(
                    "this proxy is from another process, and this one has no configuration of its own; call "
                    f"Pool().reload() here, or set {sources.URL}"
                )
        return pool.databases

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, self._origin


_received_from: Final = lru_cache(_Received)


def _received(family: str, choice: str) -> Source:
    """Return the source of a proxy that another process pickled: the pool, if its store is the one meant."""
    found = _received_from(family, choice)
    try:
        _ = found.databases
    except SettingsError:  # raised again when the proxy is used: a queue or an executor would not survive it here
        return found
    return Pool()


def _inherited(family: str, choice: str, portable: bytes | str) -> Pool:
    """Let the pool of a process that was just started use the settings of its parent, unless it has chosen others."""
    pool = Pool()
    with _lock:
        if pool._chosen_by or pool._choice == choice:
            return pool
        old, pool.databases = pool.databases, Databases(partial(_restored, portable), OpenedDatabase)
        pool._family, pool._choice, pool._chosen_by = family, choice, os.getppid()
    old.close()
    return pool


def _portable(databases: Databases[OpenedDatabase]) -> bytes | str:
    """Return the pickled settings for another process, or the reason why it cannot use them."""
    try:
        name, capabilities = databases.settings.backend, databases[None].backend.capabilities
        if capabilities.processes:
            return pickle.dumps(databases.settings)
        why = f"uses the backend {name!r}, whose values no other process sees"
    except StoreError:  # the capabilities are not known yet
        return pickle.dumps(databases.settings)
    except SettingsError as error:
        why = f"has no valid configuration ({error})"
    except Exception as error:
        why = f"has settings that cannot be pickled ({type(error).__name__})"
    return f"the process that started this one {why}; call Pool().reload() here with a store that processes share"


def _restored(portable: bytes | str) -> Settings:
    if isinstance(portable, str):
        raise SettingsError(portable)
    settings: Settings = pickle.loads(portable)  # noqa: S301  (from the process that started this one)
    return settings
