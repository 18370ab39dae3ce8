"""The checks of ``doctor``, one function for each. They change nothing in the store but one probe."""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from statistics import median
from typing import Any, Final, NamedTuple

from redicts.api.opened import OpenedDatabase
from redicts.cli.findings import Finding, Status
from redicts.cli.limits import Limits
from redicts.cli.servers import servers
from redicts.cli.stores import MISSING, Store
from redicts.cli.tables import can_print
from redicts.cli.tables import leaves as of_leaves
from redicts.core.driver import Steps
from redicts.core.locks.acquisition import FIRST_TOKEN
from redicts.core.locks.records import HOLDERS, LISTENERS, TOKENS, WAITERS, WAITING_FOR, Record, records_in
from redicts.core.minitransaction import VALUES, Delete, Entries, Key, Put, Read, Scope, Transaction, canonical_counter
from redicts.core.paths import described
from redicts.errors import AccessDenied, CorruptData, NotReplicated, ReadOnly, StoreError
from redicts.locks.namespaces import pid_namespace
from redicts.transfer.checkpoints import SPACE, unfinished
from redicts.transfer.leaves import UNREADABLE, Leaf, leaves_at, pages, read_all
from redicts.version import __version__

_READS: Final = 50
_PROBE: Final = "doctor"
"""The probes are below this segment: one section, because a cluster keeps the name of each in a list."""

_PROBE_TTL: Final = 60_000
_LATE: Final = 2_500
"""Milliseconds: a waiter with a shorter TTL has missed a heartbeat, so its process is dead or starved."""

_MOST_LISTED: Final = 20


class CorruptEntry(NamedTuple):
    """The content of a damaged entry."""

    data: bytes
    ttl: int | None = None
    """In milliseconds."""


Damage = dict[Key, CorruptEntry]
"""Entries that are proven to be corrupt: leaves, and records of locks."""


def examine(store: Store, *, quick: bool, limits: Limits) -> tuple[list[Finding], Damage]:
    """Make all checks, and return their findings and the damaged entries. A failure of the store ends the checks."""
    damage: Damage = {}
    findings: list[Finding] = []
    try:
        for finding in _checks(store, damage, limits, quick=quick):
            findings.append(finding)  # noqa: PERF402  (findings before a failure are kept)
    except StoreError as error:
        findings.append(Finding("reach", Status.FAILED, str(error), {"error": type(error).__name__}))
    return findings, damage


def _checks(store: Store, damage: Damage, limits: Limits, *, quick: bool) -> Iterator[Finding]:
    database = store.database
    if store.missing is not None:
        yield Finding("reach", Status.FAILED, f"the file {store.missing} {MISSING}")
        return
    try:
        yield _reach(database, limits)
    except AccessDenied:
        yield from [each for each in servers(database.backend.servers(), limits) if each.name == "permissions"]
        raise
    yield from _permitted("version", lambda: [_version(database)])
    yield _capabilities(database)
    yield from _permitted("servers", lambda: servers(database.backend.servers(), limits))
    yield from _permitted("writing", lambda: [_writing(store)])
    yield from _permitted("locks", lambda: _locks(database, damage, limits))
    yield from _permitted("tokens", lambda: [_tokens(database, damage)])
    yield from _permitted("work", lambda: [_work(database)])
    if not quick:
        yield from _permitted("values", lambda: [_values(database, damage)])


def _permitted(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Make a check; a permission that the user lacks is a notice, and does not end the other checks."""
    try:
        yield from check()
    except AccessDenied as error:
        yield Finding(name, Status.NOTICE, f"not checked: {error}")


def _reach(database: OpenedDatabase, limits: Limits) -> Finding:
    """Measure round trips with reads of an absent key."""
    read = Read(Key(SPACE, (_PROBE,)))
    database.run(read_all([read]))
    taken = []
    for _ in range(_READS):
        start = time.perf_counter()
        database.run(read_all([read]))
        taken.append((time.perf_counter() - start) * 1e6)
    data = {"median_us": round(median(taken), 1), "longest_us": round(max(taken), 1)}
    unit = "\u00b5s" if can_print("\u00b5") else "us"
    text = f"answers within {data['median_us']:,.0f} {unit}, {data['longest_us']:,.0f} {unit} at most"
    if limits.latency_ms is not None and data["median_us"] > limits.latency_ms * 1000:
        return Finding("reach", Status.WRONG, f"{text}, which is more than {limits.latency_ms:g} ms", data)
    return Finding("reach", Status.OK, text, data)


def _version(database: OpenedDatabase) -> Finding:
    data = {"redicts": __version__, "python": platform.python_version(), **database.backend.about()}
    return Finding("version", Status.OK, ", ".join([f"{name} {text}" for name, text in data.items()]), data)


def _capabilities(database: OpenedDatabase) -> Finding:
    data = asdict(database.backend.capabilities)
    names = [name for name, value in data.items() if value is True]
    most = data["atomic_entries"]
    names.append("any number of values at once" if most is None else f"{most:,} values at once")
    return Finding("capabilities", Status.OK, ", ".join(names), data)


def _writing(store: Store) -> Finding:
    database, key = store.database, Key(SPACE, (_PROBE, secrets.token_hex(8)))
    try:
        store.require_writable()
        found = database.run(_probe(key, _PROBE_TTL if database.backend.capabilities.ttl else None))
    except (NotReplicated, ReadOnly) as error:
        return Finding("writing", Status.WRONG, str(error))
    if found != b"probe":
        return Finding("writing", Status.WRONG, "a value that was written could not be read")
    return Finding("writing", Status.OK, "a value that was written could be read")


def _probe(key: Key, ttl: int | None) -> Steps[bytes | None]:
    """Write a value, read it and remove it."""
    yield Transaction(writes=(Put(key, b"probe", ttl),))
    try:
        (found,) = yield from read_all([Read(key, ttls=ttl is not None)])
    finally:
        yield Transaction(writes=(Delete(key, Scope.NODE),))
    return found.values.get(())


def _locks(database: OpenedDatabase, damage: Damage, limits: Limits) -> Iterator[Finding]:
    if not database.backend.capabilities.ttl:
        yield Finding("locks", Status.NOTICE, "this store has no TTLs, and so no locks")
        return
    records: list[Record] = []
    strange: Damage = {}
    for space in (HOLDERS, WAITERS, LISTENERS, WAITING_FOR):
        for entries in _pages(database, space):
            known = {record.key: record for record in records_in(Key(space, ()), entries)}
            records += known.values()
            for path, data in entries.values.items():
                key = Key(space, path)
                if path not in entries.ttls or (space in (HOLDERS, WAITERS) and key not in known):
                    strange[key] = CorruptEntry(data, entries.ttls.get(path))
    damage.update(strange)
    held = [record for record in records if record.held]
    waiting = [record for record in records if not record.held]
    alive = {record.key: _is_alive(record) for record in held}
    dead = [record for record in held if alive[record.key] is False]
    unknown = [record for record in held if alive[record.key] is None]
    yield Finding("locks", Status.OK, f"{len(held)} held, {len(waiting)} waited for", {"held": len(held)})
    yield from _old(held, limits)
    yield _waiters(waiting, limits)
    if dead:
        text = f"{len(dead)} locks seem to have dead owners: {_listed(dead)}; they expire, or see redicts locks --break"
        yield Finding("holders", Status.NOTICE, text, {"dead": len(dead)})
    elif unknown:
        text = (
            f"cannot tell whether the owners of {len(unknown)} locks are alive, because their processes cannot be seen "
            f"from here (another host, or container): {_listed(unknown)}"
        )
        yield Finding("holders", Status.OK, text, {"dead": 0, "unknown": len(unknown)})
    if strange:
        text = f"{len(strange)} records of locks never expire or are not valid; redicts did not write them"
        yield Finding("leftovers", Status.WRONG, text, {"left": len(strange)})


def _waiters(waiting: list[Record], limits: Limits) -> Finding:
    late = [record for record in waiting if (record.ttl or 0) < _LATE]
    counts = {"late": len(late), "waiting": len(waiting)}
    if limits.waiters is not None and len(waiting) > limits.waiters:
        text = f"{len(waiting)} wait for locks, more than {limits.waiters}: {_listed(waiting)}"
        return Finding("waiters", Status.WRONG, text, counts)
    if late:
        text = f"{len(late)} waiters have missed a heartbeat and expire within seconds: {_listed(late)}"
        return Finding("waiters", Status.NOTICE, text, counts)
    return Finding("waiters", Status.OK, "no waiter has missed a heartbeat", counts)


def _old(held: list[Record], limits: Limits) -> Iterator[Finding]:
    """Compare how long locks are held with the limit, by the clocks of this machine and of the owners' hosts."""
    if limits.lock_age_secs is None:
        return
    since = (time.time() - limits.lock_age_secs) * 1000
    old = [record for record in held if record.since < since]
    if old:
        text = f"{len(old)} locks are held for longer than {limits.lock_age_secs:g} s: {_listed(old)}"
        yield Finding("age", Status.WRONG, text, {"old": len(old)})
    else:
        yield Finding("age", Status.OK, f"no lock is held for longer than {limits.lock_age_secs:g} s", {"old": 0})


def _pages(database: OpenedDatabase, space: str) -> Iterator[Entries]:
    cursor = None
    while True:
        (entries,) = database.run(read_all([Read(Key(space, ()), Scope.BELOW, 1000, cursor, ttls=True)]))
        yield entries
        cursor = entries.cursor
        if cursor is None:
            return


def _listed(entries: Iterable[object], separator: str = ", ") -> str:
    return separator.join(list(map(str, entries))[:_MOST_LISTED])


def _is_alive(record: Record) -> bool | None:
    """Tell whether the process that holds a lock exists, ``None`` if its id says nothing here.

    A process id is one of its PID namespace: a container that has the name of this host has other ids.
    """
    process = record.label.partition(":")[2].partition(":")[0]
    pid, _, namespace = process.partition("@")
    if not namespace or namespace != pid_namespace() or not pid.isdecimal():
        return None
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _tokens(database: OpenedDatabase, damage: Damage) -> Finding:
    if database.store.sharded:
        return Finding("tokens", Status.OK, "each section has a counter of fencing tokens, which is not examined")
    (found,) = database.run(read_all([Read(TOKENS)]))
    data = found.values.get(())
    if data is None:
        return Finding("tokens", Status.OK, "no lock was ever granted")
    last = canonical_counter(data)
    if last is None or last < FIRST_TOKEN:
        damage[TOKENS] = CorruptEntry(data)
        return Finding("tokens", Status.WRONG, "the counter of fencing tokens is not valid; it was overwritten")
    return Finding("tokens", Status.OK, f"the last fencing token is {last}", {"last": last})


def _work(database: OpenedDatabase) -> Finding:
    states = database.run(unfinished()).values()
    if not states:
        return Finding("work", Status.OK, "no copy and no import is unfinished", {"unfinished": 0})
    listed = _listed(f"{state.get('kind', '?')} after {_leaves_done(state)}" for state in states)
    return Finding("work", Status.NOTICE, f"unfinished or under way: {listed}", {"unfinished": len(states)})


def _leaves_done(state: Mapping[str, Any]) -> str:
    done = state.get("done")
    return of_leaves(done) if isinstance(done, int) else "? leaves"


def _values(database: OpenedDatabase, damage: Damage) -> Finding:
    """Decode every leaf, and look for leaves above others."""
    leaves = 0
    damaged: list[str] = []
    unreadable: list[str] = []
    try:
        for page in pages(database, ()):
            leaves += len(page.leaves)
            for leaf, error in _unreadable(database, page.leaves):
                if not isinstance(error, CorruptData):
                    unreadable.append(str(error))
                elif Key(VALUES, leaf.path) not in damage:
                    damage[Key(VALUES, leaf.path)] = CorruptEntry(leaf.data, leaf.ttl)
                    damaged.append(str(error))
    except CorruptData as error:
        return Finding("values", Status.WRONG, f"{of_leaves(leaves)} read, then: {error}", {"leaves": leaves})
    data = {"leaves": leaves, "damaged": len(damaged), "refused": len(unreadable)}
    texts = []
    if damaged:
        texts.append(f"{len(damaged)} of {of_leaves(leaves)} damaged: {_listed(damaged, '; ')}")
    if unreadable:
        texts.append(
            f"{len(unreadable)} of {of_leaves(leaves)} cannot be read here, which is no damage: "
            f"{_listed(unreadable, '; ')}"
        )
    if not texts:
        return Finding("values", Status.OK, f"{of_leaves(leaves)}, all readable", data)
    return Finding("values", Status.WRONG if damaged else Status.NOTICE, "; ".join(texts), data)


def _unreadable(database: OpenedDatabase, leaves: list[Leaf]) -> Iterator[tuple[Leaf, Exception]]:
    """Yield those leaves of a page that cannot be decoded, and leaves above leaves of the page."""
    for leaf in leaves:
        try:
            database.store.decoded(leaf.path, leaf.data)
        except UNREADABLE as error:
            yield leaf, error
    above = list(dict.fromkeys([leaf.path[:depth] for leaf in leaves for depth in range(1, len(leaf.path))]))
    for start in range(0, len(above), 1000):
        for found in database.run(leaves_at(above[start : start + 1000], database.store.sharded)):
            if found is not None:
                yield found, CorruptData(f"{described(found.path)} is a leaf, and others are stored below it")
