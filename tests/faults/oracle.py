"""An oracle that knows which owner is active where, without redicts, and refuses an owner that conflicts with another.

It keeps a hash in another database of the same server, and a script decides atomically. It states the rule of conflicts
independently: two paths overlap if one of them is a prefix of the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import redis

_ENTER: Final = """
local owner, mode = ARGV[1], ARGV[2]
local active = redis.call('HGETALL', KEYS[1])
for argument = 3, #ARGV do
  local path = ARGV[argument]
  for field = 1, #active, 2 do
    local other = active[field + 1]
    local other_mode, other_owner, other_path = string.match(other, '^(%u) (%S+) (.*)$')
    local length = math.min(#path, #other_path)
    local overlap = string.sub(path, 1, length) == string.sub(other_path, 1, length)
    if overlap and other_owner ~= owner and (mode == 'X' or other_mode == 'X') then return other end
  end
end
for argument = 3, #ARGV do
  local number = redis.call('HINCRBY', KEYS[1] .. ':numbers', 'last', 1)
  redis.call('HSET', KEYS[1], owner .. '#' .. number, mode .. ' ' .. owner .. ' ' .. ARGV[argument])
end
return ''
"""

_LEAVE: Final = """
for argument = 3, #ARGV do
  local entry = ARGV[2] .. ' ' .. ARGV[1] .. ' ' .. ARGV[argument]
  local active, found = redis.call('HGETALL', KEYS[1]), false
  for field = 1, #active, 2 do
    if not found and active[field + 1] == entry then
      redis.call('HDEL', KEYS[1], active[field])
      found = true
    end
  end
  if not found then return 0 end
end
return 1
"""


class Violation(AssertionError):
    """Two owners are active at the same time that should exclude each other."""


class Oracle:
    """A client of the oracle; any number of threads may use it."""

    def __init__(self, host: str, port: int) -> None:
        self._client = redis.Redis(host=host, port=port, db=1)
        self._enter = self._client.register_script(_ENTER)
        self._leave = self._client.register_script(_LEAVE)

    def enter(self, owner: str, shared: bool, paths: Iterable[str]) -> None:
        """Record that an owner is active at some paths.

        Raises :class:`Violation` if another owner is active in conflict with that.
        """
        wanted = list(paths)
        other = self._enter(["active"], [owner, "S" if shared else "X", *map(_text, wanted)])
        if other:
            raise Violation(
                f"{owner} is active at {wanted} ({'shared' if shared else 'exclusive'}), and so is {other!r}"
            )

    def leave(self, owner: str, shared: bool, paths: Iterable[str]) -> None:
        """Record that the owner is no longer active there."""
        assert self._leave(["active"], [owner, "S" if shared else "X", *map(_text, paths)]) == 1

    @property
    def active(self) -> int:
        """How many entries there are."""
        found = self._client.hlen("active")
        assert isinstance(found, int)
        return found

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _text(path: str) -> str:
    return "/" + "".join(f"{segment}/" for segment in path.split(".") if segment)
