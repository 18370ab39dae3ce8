"""The states of the nodes of a cluster, for reports: roles, slots, sections, and how far replicas lag behind."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from redicts.backends.redis.cluster_nodes import Nodes
from redicts.backends.redis.wire import bulk_string
from redicts.core.backend import ServerState
from redicts.errors import RedictsError, Unreachable

_INFO: Final = b"*2\r\n" + bulk_string(b"INFO") + bulk_string(b"replication")
_LEAST: Final = b"*3\r\n" + b"".join(map(bulk_string, (b"CONFIG", b"GET", b"min-replicas-to-write")))
_LONGEST_LAG_SECS: Final = 10
_MOST_NAMED: Final = 3
_LAG: Final = re.compile(r"lag=(\d+)")


def states_of(nodes: Nodes, sections: Mapping[str, Sequence[str]]) -> dict[str, ServerState]:
    """Return the state of each known node by its address, given the sections that each has."""
    found: dict[str, ServerState] = {}
    for address in dict.fromkeys([*nodes.primaries, *nodes.replicas]):
        try:
            info = _fields(nodes.at(address).call(_INFO).decode("utf-8", "replace"))
        except Unreachable as error:
            found[address] = ServerState(f"does not answer: {error}", False)
            continue
        if info.get("role") == "master":
            found[address] = _primary(nodes, address, info, sections.get(address, ()))
        else:
            found[address] = _replica(info)
    return found


def _primary(nodes: Nodes, address: str, info: Mapping[str, str], sections: Sequence[str]) -> ServerState:
    count = nodes.owners.count(address)
    lags = [int(lag) for name, text in info.items() if re.fullmatch(r"slave\d+", name) for lag in _LAG.findall(text)]
    named = ", ".join(sorted(sections)[:_MOST_NAMED]) + (", ..." if len(sections) > _MOST_NAMED else "")
    texts = [f"primary of {count} slots and {len(sections)} sections" + (f" ({named})" if named else "")]
    texts.append(f"{len(lags)} replicas, {max(lags)} s behind at most" if lags else "no replica is connected")
    try:
        texts.append(f"min-replicas-to-write {nodes.at(address).call(_LEAST)[1].decode()}")
    except (RedictsError, IndexError):
        texts.append("min-replicas-to-write is not known: this user may not ask for it")
    return ServerState("; ".join(texts), bool(lags) and max(lags) < _LONGEST_LAG_SECS)


def _replica(info: Mapping[str, str]) -> ServerState:
    link = info.get("master_link_status", "unknown")
    of = f"{info.get('master_host', '?')}:{info.get('master_port', '?')}"
    return ServerState(f"replica of {of}, whose link is {link}", link == "up")


def _fields(text: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
