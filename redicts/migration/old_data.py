"""What 1.0 left in a Redis database: found, read and removed. Nothing here knows what becomes of it.

Each leaf is a string key: ``v:``, a dot, and the dotted path, in which 1.0 knew no escapes. It holds JSON text, and the
life of the key is the TTL of the leaf.
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

_BEGIN: Final = b"v:."

_REMOVE_IF_EQUAL: Final = """
local value = redis.pcall('GET', KEYS[1])
if not value then return 0 end
if value ~= ARGV[1] then return -1 end
return redis.call('DEL', KEYS[1])
"""


class Removal(Enum):
    """What became of a key that was to be removed."""

    DONE = 1
    ABSENT = 0
    OTHER_BYTES = -1


class Batch(NamedTuple):
    """Some keys, all as they were atomically."""

    read_at: float
    """An instant before that one, by the monotonic clock of this process, in seconds."""
    values: Mapping[bytes, bytes]
    """The bytes of those keys that are strings."""
    ttls: Mapping[bytes, int]
    """The remaining milliseconds of those of them that have a TTL."""
    types: Mapping[bytes, str]
    """The types of the keys, and of the other names that were asked for; ``none`` for what is not there."""


class OldData:
    """The old keys of one database. What the client raises is passed on."""

    def __init__(self, client: redis.Redis, batch: int) -> None:
        self._client: Any = client
        self._batch = batch

    def batches(self) -> Iterator[list[bytes]]:
        """Yield the names of all keys that may be leaves, some at a time, each once in such a batch.

        This is the only place in redicts that uses SCAN: 1.0 kept no index of what it wrote. A call looks at a bounded
        number of keys, so the server is never held for long. What is there all the time is found; what changes
        meanwhile may or may not be, and a key may turn up in two batches.
        """
        found: dict[bytes, None] = {}
        cursor = 0
        while True:
            cursor, names = self._client.scan(cursor, match=_BEGIN + b"*", count=self._batch)
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
        """Read keys and the types of further names, atomically and in one round trip."""
        keys = list(keys)
        names = list(dict.fromkeys([*keys, *other_names]))
        read_at = time.monotonic()
        with self._client.pipeline(transaction=True) as pipe:
            for key in keys:
                pipe.pttl(key)
                pipe.get(key)
            for name in names:
                pipe.type(name)
            # A key of another type answers GET with an error, which is no reason to give up the others.
            replies = pipe.execute(raise_on_error=False)
        types = {name: _checked(reply).decode() for name, reply in zip(names, replies[2 * len(keys) :])}
        values = {key: reply for key, reply in zip(keys, replies[1::2]) if isinstance(reply, bytes)}
        ttls = {key: _checked(reply) for key, reply in zip(keys, replies[::2]) if key in values}
        return Batch(read_at, values, {key: ttl for key, ttl in ttls.items() if ttl >= 0}, types)

    def remove(self, values: Mapping[bytes, bytes]) -> dict[bytes, Removal]:
        """Remove those keys that still hold these bytes, each checked and removed atomically. One round trip."""
        with self._client.pipeline(transaction=False) as pipe:
            for key, value in values.items():
                pipe.eval(_REMOVE_IF_EQUAL, 1, key, value)
            return {key: Removal(reply) for key, reply in zip(values, pipe.execute())}


def path_of(key: bytes) -> Path:
    """Return the path of an old key. Raises :class:`~redicts.errors.PathError` if it is none that can be stored."""
    try:
        text = key[len(_BEGIN) :].decode()
    except UnicodeDecodeError:
        raise PathError("the name is no UTF-8") from None
    return parse(text.split("."))


def keys_above(key: bytes) -> list[bytes]:
    """Return the names of the keys that hold the leaves above an old key, if there are any."""
    return [key[:end] for end in range(len(_BEGIN) + 1, len(key)) if key[end : end + 1] == b"."]


def _checked(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise reply
    return reply
