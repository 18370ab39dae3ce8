"""Harnesses of servers that say how much memory their data takes."""

from __future__ import annotations

import contextlib

from redicts.backends.redis.backend import RedisBackend
from redicts.contract.configured import StoreHarness
from redicts.core.backend import Backend


class RedisStoreHarness(StoreHarness):
    """The harness of the backend ``redis``: the server knows the size of its data."""

    def size(self) -> int:
        """Return the bytes of all values on the server."""
        return size_of_data(self.store.open())


def size_of_data(backend: Backend) -> int:
    """Return the bytes of all values on a server, without its connections and administration; close the backend."""
    assert isinstance(backend, RedisBackend)
    with contextlib.closing(backend):
        memory: int = backend.client.info("memory")["used_memory_dataset"]
    return memory
