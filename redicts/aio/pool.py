"""The pool, for tasks: the default databases of this process, whether tasks or threads use them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from redicts.aio.twins import Call, twin_of
from redicts.api import pool
from redicts.api.acquisitions import Location
from redicts.api.opened import OpenedDatabase
from redicts.core import paths
from redicts.core.minitransaction import Path

if TYPE_CHECKING:
    from redicts.config.settings import Settings


@twin_of(pool.Pool)
class Pool:
    """The default databases of this process, which all proxies of this module use that are not from :func:`open`.

    They are those of the blocking :class:`redicts.Pool`, with the same settings, values and locks: to reload one is to
    reload the other.
    """

    __slots__ = ()

    def __init__(self, cfg: Mapping[str, Any] | str | Settings | None = None) -> None:
        if cfg is not None:
            pool.Pool(cfg)

    def reload(self, cfg: Mapping[str, Any] | str | Settings | None = None, fake_redis: bool = False) -> Call[None]:
        # In a thread, because it reads files.
        return asyncio.to_thread(pool.Pool().reload, cfg, fake_redis)

    @property
    def settings(self) -> Settings:
        return pool.Pool().settings

    def database(self, db_name: str | None = None) -> OpenedDatabase:
        """Return an opened database, which blocks: see :meth:`redicts.Pool.database`. No round trip."""
        return pool.Pool().database(db_name)

    def get_connection(self, db_name: str | None = None) -> Any:
        """Return a blocking redis-py client for a database, with the connections of this pool.

        Raises :class:`~redicts.errors.Unsupported` if the backend is not Redis.
        """
        return pool.Pool().get_connection(db_name)

    def __repr__(self) -> str:
        return f"<aio.{repr(pool.Pool())[1:]}"

    def _lock_location(self) -> tuple[Location, Path]:
        return (pool.Pool(), None), paths.ROOT
