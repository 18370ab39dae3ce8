"""What ``doctor`` says of the servers of a store: replicas, how far they are behind, and Sentinels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from redicts.api.database import Database
from redicts.cli.findings import Finding, Status
from redicts.errors import AccessDenied

_BEHIND: Final = 1 << 20
"""Bytes by which a replica may be behind without a notice."""

_PRIMARY: Final = "master"  # as Redis calls it


def servers(database: Database) -> Iterator[Finding]:
    """Examine the replicas and the Sentinels of a store that has any. One round trip to each Sentinel."""
    topology = getattr(database.backend, "topology", None)
    if topology is not None and database.backend.capabilities.durable:
        try:
            found = topology()
        except AccessDenied:
            options = database.settings.options
            if getattr(options, "sentinels", ()) or getattr(options, "acknowledged_by", 0):
                raise
            return
        is_alone = found["role"] == _PRIMARY and not found["replicas"] and "sentinels" not in found
        if not is_alone or found["acknowledged_by"] or found["min_replicas_to_write"]:
            yield _replication(found)
        if "sentinels" in found:
            yield _sentinels(found["sentinels"])


def _replication(found: Mapping[str, Any]) -> Finding:
    if found["role"] != _PRIMARY:
        text = f"the server is a replica (role {found['role']}), which refuses writes; connect to the primary"
        return Finding("replication", Status.WRONG, text, dict(found))
    replicas, required = found["replicas"], found["acknowledged_by"]
    online = [each for each in replicas if each["state"] == "online"]
    late = [each["address"] for each in replicas if each not in online or each["bytes_behind"] > _BEHIND]
    least = found["min_replicas_to_write"]
    parts = [
        f"primary with {len(replicas)} replicas",
        f"at most {max([each['bytes_behind'] for each in online], default=0)} bytes behind",
        f"min-replicas-to-write {'unknown' if least is None else least}",
        f"acknowledged_by {required}",
    ]
    status = Status.OK
    if required > len(online):
        status = Status.WRONG
        parts.append(f"each write fails, because only {len(online)} replicas can acknowledge it")
    elif late:
        status = Status.NOTICE
        parts.append(f"not up to date: {', '.join(late)}")
    elif 0 < required < len(online):
        status = Status.NOTICE
        parts.append(
            f"a failover may promote a replica without the last writes, unless acknowledged_by is {len(online)}"
        )
    return Finding("replication", status, "; ".join(parts), dict(found))


def _sentinels(found: list[dict[str, Any]]) -> Finding:
    primaries = sorted({each["primary"] for each in found if each["primary"] is not None})
    problems = [each["problem"] for each in found if each["problem"]]
    quorum = max([each["quorum"] for each in found if each["primary"] is not None], default=1)
    agreeing = sum(each["primary"] is not None for each in found)
    parts = [f"{agreeing} of {len(found)} Sentinels name {' and '.join(primaries) or 'no primary'}", f"quorum {quorum}"]
    status = Status.OK
    if len(primaries) != 1 or agreeing < quorum:
        status = Status.WRONG
    elif problems:
        status = Status.NOTICE
    return Finding("sentinels", status, "; ".join([*parts, *problems]), {"sentinels": found})
