"""What a report on a store says of its servers: roles, replicas and how far they are behind, and Sentinels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from redicts.backends.redis.sentinel import Sentinels, shown
from redicts.backends.redis.wire import bulk_string
from redicts.errors import AccessDenied

_INFO: Final = b"*2\r\n" + bulk_string(b"INFO") + bulk_string(b"replication")
_LEAST: Final = b"*3\r\n" + b"".join(map(bulk_string, (b"CONFIG", b"GET", b"min-replicas-to-write")))


def replication(call: Callable[[bytes], Any]) -> dict[str, Any]:
    """Return the role of a server, its replicas, and ``min-replicas-to-write``, ``None`` if that may not be asked.

    ``call`` sends a command. Raises an error below :class:`~redicts.errors.StoreError`. Cost: two round trips.
    """
    lines = call(_INFO).decode("utf-8", "replace").splitlines()
    info = dict(line.split(":", 1) for line in lines if ":" in line)
    end = int(info.get("master_repl_offset", 0))
    replicas = [_replica(text, end) for name, text in info.items() if name.startswith("slave") and "offset=" in text]
    try:
        least = int(call(_LEAST)[1])
    except (AccessDenied, IndexError):
        least = None
    return {"role": info.get("role", "unknown"), "replicas": replicas, "min_replicas_to_write": least}


def _replica(text: str, end: int) -> dict[str, Any]:
    found = dict(item.split("=", 1) for item in text.split(","))
    address = shown((found.get("ip", ""), int(found.get("port", 0))))
    behind = max(0, end - int(found["offset"]))
    return {"address": address, "state": found.get("state"), "bytes_behind": behind, "lag_secs": int(found["lag"])}


def sentinels(known: Sentinels) -> list[dict[str, Any]]:
    """Return for each Sentinel which server it names as the primary, or what is wrong. One connection to each."""
    found: list[dict[str, Any]] = []
    for at, state, problem in known.states():
        if state is None:
            found.append({"address": shown(at), "primary": None, "problem": problem})
        else:
            primary, quorum = shown((state["ip"], state["port"])), state["quorum"]
            found.append({"address": shown(at), "primary": primary, "quorum": quorum, "problem": problem})
    return found
