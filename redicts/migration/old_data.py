"""The data of redicts 1.0 in a Redis database: find, read and remove its keys.

Each leaf is a string key: ``v:``, a dot, and the dotted path, in which 1.0 has no escapes. Its value is JSON text, and
the TTL of the key is the TTL of the leaf.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, Final, NamedTuple

import redis

from redicts.core.minitransaction import Path
from redicts.core.paths import parse
from redicts.errors import PathError

_PREFIX: Final = b"v:."

_REMOVE_IF_EQUAL: Final = """
local value = redis.pcall('GET', KEYS[1])
if not value then return 0 end
if value ~= ARGV[1] then return -1 end
return redis.call('DEL', KEYS[1])
"""


class Removal(Enum):
    """The result of removing a key."""

    DONE = 1
    ABSENT = 0
    OTHER_BYTES = -1


class Batch(NamedTuple):
    """Keys that were read atomically."""

    read_at: float
    """The monotonic time just before the read."""
    values: Mapping[bytes, bytes]
    """The bytes of those keys that are strings."""
    ttls: Mapping[bytes, int]
    """The remaining milliseconds of those of them that have a TTL."""
    types: Mapping[bytes, str]
    """The types of the keys and of the other names; ``none`` for an absent one."""


class OldData:
    """The old keys of one database. Errors of the client are passed on."""

    def __init__(self, client: redis.Redis, batch: int) -> None:
        self._client: Any = client
        self._batch = batch

    def batches(self) -> Iterator[list[bytes]]:
        """Yield the names of all keys that may be leaves, in batches without repeats.

        Only here redicts uses SCAN, because 1.0 has no index of its keys. Each call looks at a bounded number of keys
        and holds the server only shortly. A key that exists throughout is found, others may be, and a key may come in
        two batches.
        """
        found: dict[bytes, None] = {}
        cursor = 0
        while True:
            cursor, names = self._client.scan(cursor, match=_PREFIX + b"*", count=self._batch)
            found |= dict.fromkeys(names)
            while len(found) >= self._batch:
                full, rest = list(found)[: self._batch], list(found)[self._batch :]
                found = dict.fromkeys(rest)
                yield full
            if not int(cursor):
                break
        if found:
            yield list(found)

    def read(self, keys: Iterable[bytes], other_names: Iterable[bytes]) -> Batch:
        """Read keys, and the types of further names, atomically in one round trip."""
        keys = list(keys)
        names = list(dict.fromkeys([*keys, *other_names]))
        read_at = time.monotonic()
        with self._client.pipeline(transaction=True) as pipe:
            for key in keys:
                pipe.pttl(key)
                pipe.get(key)
            for name in names:
                pipe.type(name)
            # GET of a key of another type is an error, and the other replies are still valid.
            replies = pipe.execute(raise_on_error=False)
        types = {name: _checked(reply).decode() for name, reply in zip(names, replies[2 * len(keys) :])}
        values = {key: reply for key, reply in zip(keys, replies[1::2]) if isinstance(reply, bytes)}
        ttls = {key: _checked(reply) for key, reply in zip(keys, replies[::2]) if key in values}
        return Batch(read_at, values, {key: ttl for key, ttl in ttls.items() if ttl >= 0}, types)

    def remove(self, values: Mapping[bytes, bytes]) -> dict[bytes, Removal]:
        """Remove those keys that still hold these bytes, each atomically. One round trip."""
        with self._client.pipeline(transaction=False) as pipe:
            for key, value in values.items():
                pipe.eval(_REMOVE_IF_EQUAL, 1, key, value)
            return {key: Removal(reply) for key, reply in zip(values, pipe.execute())}


def path_of(key: bytes) -> Path:
    """Return the path of an old key. Raises :class:`~redicts.errors.PathError` if it cannot be stored."""
    try:
        text = key[len(_PREFIX) :].decode()
    except UnicodeDecodeError:
        raise PathError("the name is not UTF-8") from None
    return parse(text.split("."))


def keys_above(key: bytes) -> list[bytes]:
    """Return the names that leaves above an old key have, if they exist."""
    return [key[:end] for end in range(len(_PREFIX) + 1, len(key)) if key[end : end + 1] == b"."]


def _checked(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise reply
    return reply
