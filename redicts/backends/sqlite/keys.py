"""Encoded keys, and the bounds of scopes, that were used before."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from redicts.core.minitransaction import RECORDS, Key, Scope
from redicts.core.ordered_keys import CACHED, bounds, encode

LOCK_SPACES: Final = RECORDS | {"f"}
"""The first letters of the names of spaces of locks: of their records, and of the fencing tokens. Documents are kept
whole in all other spaces, and not in ``VALUES`` alone, so that certification examines them in spaces of its own."""


class EncodedKeys(dict[Key, bytes]):
    """The encoded keys of one database: the look-up of one that was used before takes half the time of ``encode``."""

    def __init__(self, database: str) -> None:
        super().__init__()
        self._database = database

    def __missing__(self, key: Key) -> bytes:
        if len(self) >= CACHED:
            self.clear()
        encoded = self[key] = encode(self._database, key)
        return encoded


@lru_cache(maxsize=CACHED)
def below(database: str, key: Key) -> tuple[bytes, bytes]:
    """Return the bounds of all keys below one, as the checks and reads of a lock name them each time."""
    return bounds(encode(database, key), Scope.BELOW)
