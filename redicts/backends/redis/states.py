"""What a server tells of itself for reports: version, replicas, clock, memory, permissions of the user, and latency.

A question that the server does not know, or that its user may not ask, has no answer, and is not an error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from redicts.backends.redis.options import RedisOptions
from redicts.backends.redis.sentinel import shown
from redicts.backends.redis.wire import command
from redicts.core.backend import Fact, ServerState
from redicts.errors import AccessDenied, StoreError

Call = Callable[..., Any]
"""Sends encoded commands, see :meth:`~redicts.backends.redis.connections.Connections.call`."""

_MOST_NAMED: Final = 3


class _Needed(NamedTuple):
    """A command that redicts sends, with arguments that are valid for it."""

    words: str
    reads: bool = False
    """Whether a user who only reads needs it too."""


_COMMANDS: Final = (
    *[_Needed(f"{name} KEY", reads=True) for name in ("get", "hlen", "hgetall", "hvals", "hkeys", "hrandfield")],
    *[_Needed(f"{name} KEY x", reads=True) for name in ("hget", "hmget")],
    _Needed("hscan KEY 0", reads=True),
    _Needed("zcard KEY", reads=True),
    _Needed("zrangebyscore KEY 0 1", reads=True),
    _Needed("zrangebylex KEY - +", reads=True),
    _Needed("time", reads=True),
    _Needed(f"evalsha {'0' * 40} 1 KEY", reads=True),
    _Needed("eval x 1 KEY", reads=True),
    *[_Needed(f"{name} KEY x") for name in ("set", "hdel", "hstrlen", "zrem")],
    *[_Needed(f"{name} KEY") for name in ("del", "unlink")],
    _Needed("incrby KEY 1"),
    _Needed("hset KEY x x"),
    _Needed("zadd KEY 1 x"),
    _Needed("publish CHANNEL x"),
    _Needed("subscribe CHANNEL"),
)
"""The commands that the page on production lists for a user."""

_WITH_ACKNOWLEDGEMENTS: Final = (_Needed("wait 1 0"),)
"""Those that ``acknowledged_by`` adds."""

_ON_A_CLUSTER: Final = (
    _Needed("cluster slots", reads=True),
    _Needed("sscan KEY 0", reads=True),
    _Needed("sadd KEY x"),
    _Needed("spublish SHARD x"),
    _Needed("ssubscribe SHARD"),
)
"""Those that a cluster adds."""


def version_of(call: Call) -> dict[str, str]:
    """Return the version of a server. Raises :class:`~redicts.errors.StoreError`. Cost: one round trip."""
    info = _info(call, b"server")
    # Valkey gives the version of Redis that it is compatible with, and its own.
    name = "valkey" if "valkey_version" in info else "redis"
    version = info.get(f"{name}_version")
    return {f"{name} server": version} if version else {}


def facts_of(call: Call, settings: RedisOptions) -> dict[str, Fact]:
    """Return the facts that a server tells.

    Raises :class:`~redicts.errors.StoreError` if the server does not answer. Cost: seven round trips.
    """
    has_replicas = bool(settings.sentinels or settings.acknowledged_by)
    questions: tuple[tuple[str, Callable[[], Mapping[str, Any] | None], bool], ...] = (
        ("replication", partial(_replication, call, settings), has_replicas),
        ("clock", partial(_clock, call), True),
        ("memory", partial(_memory, call), False),
        ("permissions", partial(_permissions, call, settings), False),
        ("latency", partial(_latency, call), False),
    )
    found: dict[str, Fact] = {}
    for name, question, is_missed in questions:
        told: Fact | None
        try:
            told = question()
        except (LookupError, TypeError, ValueError):
            told = "the server's answer is not understood"
        except StoreError as error:
            if type(error) not in (AccessDenied, StoreError):
                raise
            told = str(error) if is_missed else None
        if told is not None:
            found[name] = told
    return found


def state_of_node(facts: dict[str, Fact], slots: int, sections: Collection[str]) -> ServerState:
    """Return the state of a node of a cluster, given its facts, and the slots and sections that it has."""
    replication = facts.get("replication", "")
    if not isinstance(replication, str) and "primary" in replication:
        del facts["replication"]  # a replica is as it should be there
        link = replication["link"]
        return ServerState(f"replica of {replication['primary']}, whose link is {link}", link == "up", facts)
    named = ", ".join(sorted(sections)[:_MOST_NAMED]) + (", ..." if len(sections) > _MOST_NAMED else "")
    text = f"primary of {slots} slots and {len(sections)} sections" + (f" ({named})" if named else "")
    alone = _is_alone(replication)
    return ServerState(f"{text}; {_ALONE}" if alone else text, not alone, facts)


def state_of_primary(facts: dict[str, Fact], settings: RedisOptions) -> ServerState:
    """Return the state of a server that is not a node of a cluster. One that Sentinels watch needs a replica."""
    alone = bool(settings.sentinels) and _is_alone(facts.get("replication", ""))
    return ServerState(_ALONE if alone else "", not alone, facts)


_ALONE: Final = "no replica is connected"


def _is_alone(replication: Fact) -> bool:
    return not isinstance(replication, str) and not replication["replicas"]


def _info(call: Call, section: bytes) -> dict[str, str]:
    lines = call(command(b"INFO", section)).decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _replication(call: Call, settings: RedisOptions) -> dict[str, Any]:
    """Return the role of a server, its replicas, and how many of them a write needs; ``None`` if that is not told."""
    info = _info(call, b"replication")
    end = int(info.get("master_repl_offset", 0))
    replicas = [_replica(text, end) for name, text in info.items() if name.startswith("slave") and "offset=" in text]
    try:
        least = int(call(command(b"CONFIG", b"GET", b"min-replicas-to-write"))[1])
    except (StoreError, LookupError):
        least = None
    found = {
        "role": info.get("role", "unknown"),
        "replicas": replicas,
        "min_replicas_to_write": least,
        "acknowledged_by": settings.acknowledged_by,
    }
    if "master_host" in info:
        primary = shown((info["master_host"], int(info["master_port"])))
        found |= {"primary": primary, "link": info.get("master_link_status", "unknown")}
    return found


def _replica(text: str, end: int) -> dict[str, Any]:
    found = dict(item.split("=", 1) for item in text.split(","))
    address = shown((found.get("ip", ""), int(found.get("port", 0))))
    behind = max(0, end - int(found["offset"]))
    return {"address": address, "state": found.get("state"), "bytes_behind": behind, "lag_secs": int(found["lag"])}


def _clock(call: Call) -> dict[str, Any]:
    before = time.time()
    seconds, micros = call(command(b"TIME"))
    return {"ahead_ms": round((int(seconds) + int(micros) / 1e6 - (before + time.time()) / 2) * 1000)}


def _memory(call: Call) -> dict[str, Any]:
    info = _info(call, b"memory")
    return {
        "policy": info["maxmemory_policy"],
        "maxmemory": int(info["maxmemory"]),
        "used_memory": int(info["used_memory"]),
    }


def _permissions(call: Call, settings: RedisOptions) -> dict[str, Any]:
    """Return the user, and the commands that it may not send. Servers from 7.0 on tell that, to some users."""
    user = call(command(b"ACL", b"WHOAMI"))
    prefix = settings.prefix
    names = {"KEY": f"{prefix}v:doctor", "CHANNEL": f"{prefix}s:doctor", "SHARD": f"{prefix}{{doctor"}
    needed = [
        *_COMMANDS,
        *(_WITH_ACKNOWLEDGEMENTS if settings.acknowledged_by else ()),
        *(_ON_A_CLUSTER if settings.cluster else ()),
    ]
    asked = [[names.get(word, word).encode() for word in each.words.split()] for each in needed]
    packet = b"".join([command(b"ACL", b"DRYRUN", user, *words) for words in asked])
    replies = call(packet, False, None, len(asked))
    missing = [each for each, reply in zip(needed, replies) if reply != b"OK"]
    return {
        "user": user.decode("utf-8", "replace"),
        "missing": [each.words.partition(" ")[0] for each in missing],
        "may_read": not any(each.reads for each in missing),
    }


def _latency(call: Call) -> dict[str, Any] | None:
    """Return the spikes that the server has recorded, if its ``latency-monitor-threshold`` is set."""
    events = call(command(b"LATENCY", b"LATEST"))
    spikes = {event[0].decode(): {"last_ms": int(event[2]), "longest_ms": int(event[3])} for event in events}
    return {"spikes": spikes} if spikes else None
