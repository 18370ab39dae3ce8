"""Backends in front of that of a database with a cache: their writes drop what the cache keeps, before they return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from redicts.api.cache import Cache
from redicts.core.async_backend import AsyncBackend, AsyncListener
from redicts.core.backend import Backend, Capabilities, ServerState
from redicts.core.listener import Listener
from redicts.core.minitransaction import Key, Outcome, Path, Transaction


class Caching(Backend):
    """A backend whose writes drop what they concern from a cache, also if they fail: they may have been applied."""

    def __init__(self, inner: Backend, cache: Cache) -> None:
        self._inner: Final = inner
        self._cache: Final = cache
        self.may_wait = inner.may_wait  # type: ignore[misc]  # of the instance, as the capabilities are

    @property
    def capabilities(self) -> Capabilities:
        """Those of the backend."""
        return self._inner.capabilities

    def execute(self, transaction: Transaction, /) -> Outcome:
        """Execute a transaction, and drop what it writes."""
        if not transaction.writes:
            return self._inner.execute(transaction)
        try:
            return self._inner.execute(transaction)
        finally:
            self._cache.forget(transaction.writes)

    def execute_until(self, transaction: Transaction, deadline: float, /) -> Outcome:
        """Execute a transaction until a deadline, and drop what it writes."""
        try:
            return self._inner.execute_until(transaction, deadline)
        finally:
            self._cache.forget(transaction.writes)

    def fetch(self, key: Key, /) -> bytes | None:
        """Use the fast path of the backend."""
        return self._inner.fetch(key)

    def fetch_document(self, key: Key, /) -> bytes | None:
        """Use the fast path of the backend."""
        return self._inner.fetch_document(key)

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        """Use the fast path of the backend, and drop what it writes."""
        try:
            return self._inner.overwrite(key, value)
        finally:
            self._cache.forget_path(key.path)

    def overwrite_document(self, key: Key, document: bytes, /) -> bool:
        """Use the fast path of the backend, and drop what it writes."""
        try:
            return self._inner.overwrite_document(key, document)
        finally:
            self._cache.forget_path(key.path)

    def listen(self, name: str, /) -> Listener:
        """Listen with the backend."""
        return self._inner.listen(name)

    def listen_until(self, name: str, deadline: float, /) -> Listener:
        """Listen with the backend."""
        return self._inner.listen_until(name, deadline)

    def listen_to_changes(self, name: str, path: Path, /) -> Listener:
        """Listen with the backend."""
        return self._inner.listen_to_changes(name, path)

    def for_asyncio(self) -> AsyncBackend | None:
        """Return the part for asyncio of the backend, in front of which the same is done."""
        inner = self._inner.for_asyncio()
        return None if inner is None else _CachingTasks(inner, self._cache)

    @property
    def address(self) -> Mapping[str, str | int]:
        """That of the backend."""
        return self._inner.address

    def about(self) -> Mapping[str, str]:
        """Return what the backend says."""
        return self._inner.about()

    def servers(self) -> Mapping[str, ServerState]:
        """Return what the backend says."""
        return self._inner.servers()

    def close(self) -> None:
        """Close the cache and the backend."""
        self._cache.close()
        self._inner.close()

    def __getattr__(self, name: str) -> Any:
        """Return what else the backend has, such as its client."""
        return getattr(self._inner, name)


class _CachingTasks(AsyncBackend):
    """The same for the tasks of one event loop."""

    def __init__(self, inner: AsyncBackend, cache: Cache) -> None:
        self._inner: Final = inner
        self._cache: Final = cache

    @property
    def address(self) -> Mapping[str, str | int]:
        """That of the backend."""
        return self._inner.address

    async def execute(self, transaction: Transaction, deadline: float | None = None, /) -> Outcome:
        try:
            return await self._inner.execute(transaction, deadline)
        finally:
            self._cache.forget(transaction.writes)

    async def fetch(self, key: Key, document: bool, /) -> bytes | None:
        return await self._inner.fetch(key, document)

    async def overwrite(self, key: Key, value: bytes, document: bool, /) -> bool:
        try:
            return await self._inner.overwrite(key, value, document)
        finally:
            self._cache.forget_path(key.path)

    async def listen(self, name: str, deadline: float | None = None, /) -> AsyncListener | None:
        return await self._inner.listen(name, deadline)

    async def listen_to_changes(self, name: str, path: Path, /) -> AsyncListener | None:
        return await self._inner.listen_to_changes(name, path)

    def close(self, at_once: bool, /) -> None:
        self._inner.close(at_once)
