"""The pool: the default databases of this process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, WeakValueDictionary

from redicts.api import clients
from redicts.api.opened import Databases, OpenedDatabase, open_databases
from redicts.config.opening import codec
from redicts.config.settings import Settings, parse
from redicts.core.backend import Backend
from redicts.core.envelope import LeafFormat
from redicts.errors import Unsupported
from redicts.forks import ForkSafeLock
from redicts.plugins.loading import from_client

if TYPE_CHECKING:
    import redis

_lock: Final = ForkSafeLock()


class Pool:
    """The default databases of this process, which all proxies use that are not from :func:`redicts.open`.

    ``Pool()`` always returns the same object; with ``cfg`` it is reloaded first. If you configure no store, it reads
    the URL in the environment variable ``REDICTS_URL``, the TOML file named by ``REDICTS_CONFIG``, or the table
    ``[tool.redicts]`` of the nearest ``pyproject.toml``. Otherwise it uses Redis on this host, port 6379, database 0.

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

    def __new__(cls, cfg: Mapping[str, Any] | str | None = None) -> Pool:  # noqa: ARG004  (__init__ uses it)
        """Return the pool of this process."""
        if cls._instance is None:
            with _lock:
                if cls._instance is None:
                    pool = super().__new__(cls)
                    pool.databases = Databases(partial(parse, None), OpenedDatabase)
                    pool.proxies = WeakValueDictionary()
                    pool._of_clients = WeakKeyDictionary()
                    pool._of_backends = WeakValueDictionary()
                    cls._instance = pool
        return cls._instance

    def __init__(self, cfg: Mapping[str, Any] | str | None = None) -> None:
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
            self._of_clients[client] = self._of_backends[id(client.connection_pool)] = database
        return client

    def of_client(self, client: Any) -> OpenedDatabase:
        """Return the database of a redis-py client or an opened backend. No round trip.

        The same client returns the same database. For a client of this pool, or one on the server and the database of
        this pool if that has a prefix, it is the database of the pool. Raises
        :class:`~redicts.errors.SettingsError` for any other object, and if only the server could tell.
        """
        with _lock:
            if isinstance(client, Backend):
                database = self._of_backends.get(id(client))
                if database is None:
                    database = self._of_backends[id(client)] = OpenedDatabase(client, LeafFormat(codec("json")))
                return database
            try:
                database = self._of_clients.get(client)
            except TypeError:
                database = None  # not a client: from_client raises the error
            if database is None:
                clients.check_is_blocking(client)
                database = self._of_backends.get(id(getattr(client, "connection_pool", None)))
            if database is None:
                backend = from_client(client)
                database = self._with_prefix(client) or OpenedDatabase(backend, LeafFormat(codec("json")))
                self._of_clients[client] = database
            return database

    def _with_prefix(self, client: Any) -> OpenedDatabase | None:
        """Return the database of this pool to which a client is connected, if its keys begin with a prefix.

        The client does not know the prefix, so its locks would exclude no lock of a :class:`Proxy`.
        """
        settings = self.databases.loaded
        number = clients.database_of(client)
        if settings is None or number is None or not clients.is_on_server_with_prefix(client, settings, number):
            return None
        return next(self.databases[name] for name in (None, *settings.names) if settings.database(name) == number)

    def __repr__(self) -> str:
        settings = self.databases.loaded
        return f"<Pool {settings.backend if settings else 'not used yet'}>"
