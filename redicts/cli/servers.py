"""What ``doctor`` says of the servers of a store, or of its file: judges the facts that ``Backend.servers`` returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from redicts.cli.findings import Finding, Status
from redicts.cli.limits import Limits
from redicts.cli.output import size
from redicts.core.backend import ServerState

_BEHIND: Final = 1 << 20
"""Bytes by which a replica may be behind without a notice."""

_LAG_SECS: Final = 10
"""Seconds that may have passed without a notice since a replica told how far it is."""

_CLOCK_TOLERANCE: Final = 2_000
"""Milliseconds by which a server's clock may differ from this machine's without a notice."""

_PRIMARY: Final = "master"  # as Redis calls it
_NO_EVICTION: Final = "noeviction"


def servers(states: Mapping[str, ServerState], limits: Limits) -> Iterator[Finding]:
    """Judge the states of servers by their addresses. Facts of other names than those here are left out."""
    described = {at: state.text for at, state in states.items() if state.text}
    if described:
        status = Status.OK if all(state.is_fine for state in states.values()) else Status.NOTICE
        text = ". ".join([f"{at}: {text}" for at, text in described.items()])
        yield Finding("servers", status, text, {"servers": described})
    for name, judge in _JUDGES.items():
        found = {at: _judged(name, judge, state, limits) for at, state in states.items() if name in state.facts}
        yield from _merged(name, {at: finding for at, finding in found.items() if finding is not None})
    sentinels = [{"address": at, **_known(state, "sentinel")} for at, state in states.items()]
    if any("primary" in each for each in sentinels):
        yield _sentinels([each for each in sentinels if "primary" in each])
    if not any("clock" in state.facts for state in states.values()):
        yield Finding("clock", Status.OK, "TTLs end by a clock of this machine, or it cannot be compared")


def _known(state: ServerState, name: str) -> Mapping[str, Any]:
    fact = state.facts.get(name, "")
    return {} if isinstance(fact, str) else fact


_Judge = Callable[[Mapping[str, Any], Limits], "Finding | None"]


def _judged(name: str, judge: _Judge, state: ServerState, limits: Limits) -> Finding | None:
    fact = state.facts[name]
    return Finding(name, Status.NOTICE, f"not checked: {fact}") if isinstance(fact, str) else judge(fact, limits)


def _merged(name: str, found: Mapping[str, Finding]) -> Iterator[Finding]:
    """Yield one finding for all servers: as serious as the worst, with each text once."""
    if len(found) < 2:
        yield from found.values()
        return
    by_text: dict[str, list[str]] = {}
    for at, finding in found.items():
        by_text.setdefault(finding.text, []).append(at)
    status = max([finding.status for finding in found.values()], key=list(Status).index)
    everywhere = [f"each of {len(found)} servers"]
    told = {text: everywhere if len(by_text) == 1 else addresses for text, addresses in by_text.items()}
    text = ". ".join([f"{', '.join(addresses)}: {text}" for text, addresses in told.items()])
    yield Finding(name, status, text, {"servers": {at: finding.data for at, finding in found.items()}})


def _replication(fact: Mapping[str, Any], _: Limits) -> Finding | None:
    """Compare the replicas with those that a write needs. A server without any of this is on its own."""
    replicas, required, least = fact["replicas"], fact["acknowledged_by"], fact["min_replicas_to_write"]
    if fact["role"] != _PRIMARY:
        text = f"the server is a replica (role {fact['role']}), which refuses writes; connect to the primary"
        return Finding("replication", Status.WRONG, text, dict(fact))
    if not (replicas or required or least):
        return None
    online = [each for each in replicas if each["state"] == "online"]
    late = [
        each["address"]
        for each in replicas
        if each not in online or each["bytes_behind"] > _BEHIND or each["lag_secs"] >= _LAG_SECS
    ]
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
    return Finding("replication", status, "; ".join(parts), dict(fact))


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


def _clock(fact: Mapping[str, Any], _: Limits) -> Finding:
    ahead = fact["ahead_ms"]
    status = Status.OK if abs(ahead) <= _CLOCK_TOLERANCE else Status.NOTICE
    side = "ahead of" if ahead >= 0 else "behind"
    return Finding("clock", status, f"the store is {abs(ahead)} ms {side} this machine", dict(fact))


def _memory(fact: Mapping[str, Any], limits: Limits) -> Finding:
    """Judge whether the server evicts anything, and how much of its memory is used."""
    policy, most, used = fact["policy"], fact["maxmemory"], fact["used_memory"]
    part = round(100 * used / most, 1) if most else None
    data = {**fact, "percent": part}
    evicted = f"maxmemory-policy is {policy}, which removes data that redicts relies on; set it to {_NO_EVICTION}"
    if policy != _NO_EVICTION:
        status = Status.WRONG if most else Status.NOTICE
        return Finding("memory", status, evicted + ("" if most else " before you set maxmemory"), data)
    if part is not None and limits.memory_percent is not None and part > limits.memory_percent:
        text = (
            f"{part} % of maxmemory is used, more than {limits.memory_percent:g} %; the server refuses writes when full"
        )
        return Finding("memory", Status.WRONG, text, data)
    of = f"{size(used)} of {size(most)}" if most else f"{size(used)}, without a limit"
    return Finding("memory", Status.OK, f"{of}; nothing is evicted", data)


def _permissions(fact: Mapping[str, Any], _: Limits) -> Finding:
    user, names = fact["user"], ", ".join(fact["missing"])
    if not names:
        text = f"the user {user} may send every command that redicts needs"
        return Finding("permissions", Status.OK, text, dict(fact))
    if not fact["may_read"]:
        return Finding("permissions", Status.WRONG, f"the user {user} may not send {names}; allow it", dict(fact))
    text = f"the user {user} may read and not write: it may not send {names}"
    return Finding("permissions", Status.NOTICE, text, dict(fact))


def _latency(fact: Mapping[str, Any], _: Limits) -> Finding:
    listed = ", ".join(f"{name} {each['longest_ms']} ms" for name, each in fact["spikes"].items())
    return Finding("latency", Status.NOTICE, f"the server was slow: {listed}; see LATENCY DOCTOR", dict(fact))


def _file(fact: Mapping[str, Any], _: Limits) -> Finding:
    if fact["problem"] is None:
        return Finding("file", Status.OK, f"{fact['bytes']:,} bytes, without damage", {"bytes": fact["bytes"]})
    text = f"SQLite found damage: {fact['problem']}; restore the file from a backup"
    return Finding("file", Status.WRONG, text)


_JUDGES: Final[Mapping[str, _Judge]] = {
    "replication": _replication,
    "clock": _clock,
    "memory": _memory,
    "permissions": _permissions,
    "latency": _latency,
    "file": _file,
}
