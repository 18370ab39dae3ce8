"""An oracle that knows who is active where, without redicts: it refuses whoever would disturb somebody who is active.

It keeps a hash of its own in another database of the same server, and a script of its own decides atomically. What
conflicts is written here again, from the rule: two paths of which one is the beginning of the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import redis

_ENTER: Final = """
local owner, mode = ARGV[1], ARGV[2]
local active = redis.call('HGETALL', KEYS[1])
for place = 3, #ARGV do
  local path = ARGV[place]
  for field = 1, #active, 2 do
    local other, told = active[field], active[field + 1]
    local other_mode, other_owner, other_path = string.match(told, '^(%u) (%S+) (.*)$')
    local length = math.min(#path, #other_path)
    local overlap = string.sub(path, 1, length) == string.sub(other_path, 1, length)
    if overlap and other_owner ~= owner and (mode == 'X' or other_mode == 'X') then return told end
  end
end
for place = 3, #ARGV do
  local number = redis.call('HINCRBY', KEYS[1] .. ':numbers', 'last', 1)
  redis.call('HSET', KEYS[1], owner .. '#' .. number, mode .. ' ' .. owner .. ' ' .. ARGV[place])
end
return ''
"""

_LEAVE: Final = """
for place = 3, #ARGV do
  local told = ARGV[2] .. ' ' .. ARGV[1] .. ' ' .. ARGV[place]
  local active, found = redis.call('HGETALL', KEYS[1]), false
  for field = 1, #active, 2 do
    if not found and active[field + 1] == told then
      redis.call('HDEL', KEYS[1], active[field])
      found = true
    end
  end
  if not found then return 0 end
end
return 1
"""


class Violation(AssertionError):
    """Two are active at the same time who should exclude each other."""


class Oracle:
    """A client of the oracle; any number of threads may use it."""

    def __init__(self, host: str, port: int) -> None:
        self._client = redis.Redis(host=host, port=port, db=1)
        self._enter = self._client.register_script(_ENTER)
        self._leave = self._client.register_script(_LEAVE)

    def enter(self, owner: str, shared: bool, paths: Iterable[str]) -> None:
        """Say that an owner is active at some paths from now on.

        Raises :class:`Violation` if somebody is active that it must not be active beside.
        """
        wanted = list(paths)
        other = self._enter(["active"], [owner, "S" if shared else "X", *map(_told, wanted)])
        if other:
            raise Violation(f"{owner} is active at {wanted} ({'shared' if shared else 'exclusive'}) beside {other!r}")

    def leave(self, owner: str, shared: bool, paths: Iterable[str]) -> None:
        """Say that it is active there no more."""
        assert self._leave(["active"], [owner, "S" if shared else "X", *map(_told, paths)]) == 1

    @property
    def active(self) -> int:
        """How many activities there are."""
        found = self._client.hlen("active")
        assert isinstance(found, int)
        return found

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _told(path: str) -> str:
    return "/" + "".join(f"{segment}/" for segment in path.split(".") if segment)
