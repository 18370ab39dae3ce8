"""LockedProxy: the lock of a proxy as a decorator, or as an ``async with`` block that gives the proxy."""

from __future__ import annotations

from typing import NoReturn, TypeVar

from redicts.aio.functions import LocksFunctions
from redicts.aio.lock import Lock
from redicts.aio.lockable import Lockable
from redicts.api.acquisitions import Location
from redicts.api.opened import OpenedDatabase
from redicts.locks.manager import Acquired
from redicts.locks.owner import LockOwner, Paths

_Proxy = TypeVar("_Proxy")


class LockedProxy(LocksFunctions, Lockable[_Proxy]):
    """A lock on the path of a proxy, from :meth:`Proxy.locked`, as a decorator or for an ``async with`` block.

    The block gives the proxy. It has no truth value: use ``await proxy.is_locked()``.
    """

    __slots__ = ("_acquire_timeout", "_lock", "_proxy")

    def __init__(self, lock: Lock, proxy: _Proxy) -> None:
        self._acquire_timeout = lock._acquire_timeout
        self._lock = lock
        self._proxy = proxy

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self!r} has no truth value; to ask whether the path is locked, use: await p.is_locked()")

    def __repr__(self) -> str:
        return f"<locked {self._proxy!r}>"

    def _entered(self) -> _Proxy:
        return self._proxy

    def _attempt(self, owner: LockOwner | None = None) -> tuple[OpenedDatabase, Acquired]:
        return self._lock._attempt(owner)

    def _releases(self) -> tuple[Location, Paths]:
        return self._lock._releases()
