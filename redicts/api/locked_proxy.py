"""LockedProxy: the lock of a proxy as a decorator, or as a ``with`` block that gives the proxy."""

from __future__ import annotations

from typing import TypeVar

from redicts.api.acquisitions import Location
from redicts.api.functions import LocksFunctions
from redicts.api.lock import Lock
from redicts.api.lockable import Lockable, for_task
from redicts.api.opened import OpenedDatabase
from redicts.locks.manager import Acquired
from redicts.locks.owner import LockOwner, Paths

_Proxy = TypeVar("_Proxy")


class LockedProxy(LocksFunctions, Lockable[_Proxy]):
    """A lock on the path of a proxy, from :meth:`Proxy.locked`, as a decorator or for a ``with`` block.

    The block gives the proxy. The truth value is that of :meth:`Proxy.is_locked`: one round trip.
    """

    __slots__ = ("_acquire_timeout", "_lock", "_proxy")

    def __init__(self, lock: Lock, proxy: _Proxy) -> None:
        self._acquire_timeout = lock._acquire_timeout
        self._lock = lock
        self._proxy = proxy

    @for_task
    def __enter__(self) -> _Proxy:
        super().__enter__()
        return self._proxy

    def __bool__(self) -> bool:
        return self._lock.is_locked()

    def __repr__(self) -> str:
        return f"<locked {self._proxy!r}>"

    def _attempt(self, owner: LockOwner | None = None) -> tuple[OpenedDatabase, Acquired]:
        return self._lock._attempt(owner)

    def _releases(self) -> tuple[Location, Paths]:
        return self._lock._releases()
