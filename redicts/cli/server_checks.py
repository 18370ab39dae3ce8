"""The checks of ``doctor`` that ask a Redis server: its settings, the permissions of the user, and slow commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from redicts.api.opened import OpenedDatabase
from redicts.cli.findings import Finding, Status
from redicts.cli.limits import Limits
from redicts.cli.output import size

_PROBE: Final = "doctor"
_NO_EVICTION: Final = "noeviction"
_REFUSALS: Final = ("NOPERM", "unknown", "Unknown", "not allowed", "no permissions")


class _Needed(NamedTuple):
    """A command that redicts sends, with arguments that are valid for it."""

    name: str
    arguments: tuple[str, ...] = ()
    reads: bool = False
    """Whether a user who only reads needs it too."""


_COMMANDS: Final = (
    *[_Needed(name, ("KEY",), reads=True) for name in ("get", "hlen", "hgetall", "hvals", "hkeys", "hrandfield")],
    *[_Needed(name, ("KEY", "x"), reads=True) for name in ("hget", "hmget")],
    _Needed("hscan", ("KEY", "0"), reads=True),
    _Needed("zcard", ("KEY",), reads=True),
    _Needed("zrangebyscore", ("KEY", "0", "1"), reads=True),
    _Needed("zrangebylex", ("KEY", "-", "+"), reads=True),
    _Needed("time", (), reads=True),
    _Needed("evalsha", ("0" * 40, "1", "KEY"), reads=True),
    _Needed("eval", ("return 1", "1", "KEY"), reads=True),
    *[_Needed(name, ("KEY", "x")) for name in ("set", "hdel", "zrem")],
    *[_Needed(name, ("KEY",)) for name in ("del", "unlink")],
    _Needed("incrby", ("KEY", "1")),
    _Needed("hset", ("KEY", "x", "x")),
    _Needed("zadd", ("KEY", "1", "x")),
    _Needed("publish", ("CHANNEL", "x")),
    _Needed("subscribe", ("CHANNEL",)),
)
"""The commands that the page on production lists for a user."""

_WITH_ACKNOWLEDGEMENTS: Final = (_Needed("wait", ("1", "0")),)
"""Those that ``acknowledged_by`` adds."""


def server_checks(database: OpenedDatabase, options: object, limits: Limits) -> Iterator[Finding]:
    """Ask the server that a database is on, which these settings choose. What the user may not ask is not a finding."""
    client: Any = getattr(database.backend, "client", None)
    if client is None:
        return
    yield from _asked(lambda: _memory(client, limits))
    yield from _asked(lambda: _permissions(client, options))
    yield from _asked(lambda: _latency(client))


def _asked(question: Callable[[], Finding | None]) -> Iterator[Finding]:
    """Ask one question. Errors of the client library are of a command that this server or user does not have."""
    try:
        found = question()
    except Exception as error:
        if not any(word in str(error) for word in _REFUSALS):
            yield Finding("server", Status.NOTICE, f"not checked: the server answered with {type(error).__name__}")
        return
    if found is not None:
        yield found


def _memory(client: Any, limits: Limits) -> Finding:
    """Check that the server evicts nothing, and how much of its memory is used."""
    info = client.info("memory")
    policy, most, used = info["maxmemory_policy"], int(info["maxmemory"]), int(info["used_memory"])
    part = round(100 * used / most, 1) if most else None
    data = {"policy": policy, "maxmemory": most, "used_memory": used, "percent": part}
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


def _permissions(client: Any, options: object) -> Finding | None:
    """Ask whether the user may send each command that redicts sends. Redis answers that from 7.0 on, to some users."""
    user = _text(client.execute_command("ACL WHOAMI"))
    prefix = str(getattr(options, "prefix", ""))
    missing = []
    for command in (*_COMMANDS, *(_WITH_ACKNOWLEDGEMENTS if getattr(options, "acknowledged_by", 0) else ())):
        key, channel = f"{prefix}v:{_PROBE}", f"{prefix}s:{_PROBE}"
        arguments = [key if each == "KEY" else channel if each == "CHANNEL" else each for each in command.arguments]
        if _text(client.execute_command("ACL DRYRUN", user, command.name, *arguments)) != "OK":
            missing.append(command)
    data = {"user": user, "missing": [command.name for command in missing]}
    if not missing:
        return Finding("permissions", Status.OK, f"the user {user} may send every command that redicts needs", data)
    names = ", ".join(data["missing"])
    if any(command.reads for command in missing):
        return Finding("permissions", Status.WRONG, f"the user {user} may not send {names}; allow it", data)
    text = f"the user {user} may read and not write: it may not send {names}"
    return Finding("permissions", Status.NOTICE, text, data)


def _latency(client: Any) -> Finding | None:
    """Report the spikes that the server has recorded, if its ``latency-monitor-threshold`` is set."""
    events = client.execute_command("LATENCY LATEST")
    if not events:
        return None
    spikes = {_text(event[0]): {"last_ms": int(event[2]), "longest_ms": int(event[3])} for event in events}
    listed = ", ".join(f"{name} {each['longest_ms']} ms" for name, each in spikes.items())
    return Finding("latency", Status.NOTICE, f"the server was slow: {listed}; see LATENCY DOCTOR", {"spikes": spikes})


def _text(reply: Any) -> str:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
