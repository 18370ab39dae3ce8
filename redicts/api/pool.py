"""The pool: the settings current, and the opened databases that belong to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from redicts.api.tree import Tree
from redicts.config import opening
from redicts.config import settings as forms
from redicts.errors import Unsupported
from redicts.forks import ForkSafeLock
from redicts.locks import retention

if TYPE_CHECKING:
    import redis

_lock: Final = ForkSafeLock()


class Opened:
    """One generation of settings with its databases: the default one is opened at once, others when first used."""

    def __init__(self, settings: forms.Settings) -> None:
        self.settings = settings
        self._format = opening.leaf_format(settings)
        self._lock = ForkSafeLock()
        self._trees: dict[int, Tree] = {}
        self._by_name: dict[str | None, Tree] = {}
        self._open(None)

    def tree(self, name: str | None) -> Tree:
        """Return the database of this name; ``None`` stands for the default one. No round trip."""
        try:
            return self._by_name[name]
        except KeyError:
            return self._open(name)

    def _open(self, name: str | None) -> Tree:
        number = self.settings.database(name)
        with self._lock:
            tree = self._trees.get(number)
            if tree is None:
                backend = opening.backend(self.settings, number)
                tree = Tree(
                    backend,
                    self._format,
                    mandatory_locks=self.settings.mandatory_locks,
                    lock_retention=self.settings.lock_retention,
                )
                self._trees[number] = tree
            self._by_name[name] = tree
            return tree

    def close(self) -> None:
        """Let go of the connections of all of them."""
        with self._lock:
            for tree in self._trees.values():
                tree.lock_retention = 0
                retention.end(tree)
                tree.backend.close()


class Pool:
    """The one pool of this process: it holds the settings and the connections that belong to them.

    ``Pool()`` returns it, always the same; with ``cfg`` it is reloaded first. Until it is given a configuration it
    uses the default: the URL in the environment variable ``REDICTS_URL``, the TOML file named by ``REDICTS_CONFIG``,
    the table ``[tool.redicts]`` of the nearest ``pyproject.toml``, or Redis on this host, port 6379, database 0.

    >>> Pool().reload(cfg={"backend": "memory"})
    >>> Pool().settings.backend
    'memory'
    """

    _instance: Pool | None = None
    _opened: Opened | None

    def __new__(cls, cfg: Mapping[str, Any] | str | None = None) -> Pool:  # noqa: ARG004  (__init__ uses it)
        """Return the pool of this process."""
        if cls._instance is None:
            with _lock:
                if cls._instance is None:
                    pool = super().__new__(cls)
                    pool._opened = None
                    cls._instance = pool
        return cls._instance

    def __init__(self, cfg: Mapping[str, Any] | str | None = None) -> None:
        if cfg is not None:
            self.reload(cfg)

    def reload(self, cfg: Mapping[str, Any] | str | forms.Settings | None = None, fake_redis: bool = False) -> None:
        """Replace the settings, in one step and for every existing proxy, and close the connections of the old ones.

        ``cfg`` is a dict, a URL (``sqlite:///state.db``, ``redis://host:6379/0``), or settings that were made of one;
        without it the default comes back, looked for again. With ``fake_redis`` the values live on a simulated Redis
        server inside this process until the next reload. Calls that other threads have under way end on the old
        settings. No round trip.

        Raises an error below :class:`~redicts.errors.SettingsError` if the configuration is wrong:
        :class:`~redicts.errors.PluginMissing`, :class:`~redicts.errors.PluginBroken` or
        :class:`~redicts.errors.WrongField`. Then, and if the store cannot be opened, the old settings stay.
        """
        opened = Opened(cfg if isinstance(cfg, forms.Settings) else forms.parse(cfg, fake_redis=fake_redis))
        with _lock:
            old, self._opened = self._opened, opened
        if old is not None:
            old.close()

    @property
    def settings(self) -> forms.Settings:
        """The settings current. Their repr shows no secret."""
        return self._current().settings

    def tree(self, db_name: str | None = None) -> Tree:
        """Return an opened database: the default one, or the one that ``names`` of the settings calls so.

        Raises :class:`~redicts.errors.SettingsError` for an unknown name. No round trip.
        """
        return self._current().tree(db_name)

    def get_connection(self, db_name: str | None = None) -> redis.Redis:
        """Return a client of redis-py for a database, on the connections of this pool.

        Raises :class:`~redicts.errors.Unsupported` if the backend is not Redis.
        """
        client: redis.Redis | None = getattr(self.tree(db_name).backend, "client", None)
        if client is None:
            raise Unsupported(f"the backend {self.settings.backend!r} has no Redis connections; choose backend 'redis'")
        return client

    def _current(self) -> Opened:
        opened = self._opened
        if opened is None:
            with _lock:
                if self._opened is None:
                    self._opened = Opened(forms.parse(None))
                opened = self._opened
        return opened

    def __repr__(self) -> str:
        opened = self._opened
        return f"<Pool {opened.settings.backend if opened else 'not used yet'}>"


def tree_in_use(db_name: str | None) -> Tree:
    """Return what :meth:`Pool.tree` does. Every call of a proxy begins with this, so it makes no pool object."""
    pool = Pool._instance
    opened = None if pool is None else pool._opened
    return Pool().tree(db_name) if opened is None else opened.tree(db_name)
