"""What the doctor looks at, one function for each question. Nothing is changed here but for one probe."""

from __future__ import annotations

import os
import platform
import secrets
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from enum import Enum
from importlib.metadata import version
from statistics import median
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from redicts.api.opened import OpenedDatabase
from redicts.cli.stores import Store
from redicts.core.locks.records import HOLDERS, LISTENERS, TOKENS, WAITERS, WAITING_FOR, Record, records_in
from redicts.core.minitransaction import (
    VALUES,
    Delete,
    Entries,
    Key,
    Path,
    Put,
    Read,
    Scope,
    Transaction,
    canonical_counter,
)
from redicts.core.paths import described
from redicts.errors import CorruptData, LeafError, ReadOnly, StoreError
from redicts.transfer.checkpoints import SPACE, unfinished
from redicts.transfer.leaves import pages

_LOOKS: Final = 50
_PROBE_TTL: Final = 60_000
_CLOCK_TOLERANCE: Final = 2_000
"""Milliseconds by which a server's clock may differ from ours before it is told as something to look at."""

_LATE: Final = 2_500
"""A waiter with less life left than this, in milliseconds, has missed a beat: its process is dead or starved."""

_FIRST_TOKEN: Final = 2**40
_MOST_TOLD: Final = 20


class Status(Enum):
    """How serious a finding is."""

    OK = "ok"
    NOTICE = "notice"
    """Worth knowing; nothing is wrong."""
    WRONG = "wrong"
    FAILED = "failed"
    """The store did not answer."""


class Finding(NamedTuple):
    """The answer to one question."""

    name: str
    status: Status
    text: str
    data: dict[str, Any] = {}  # noqa: RUF012  (nobody changes it)


@dataclass
class Damage:
    """Entries that are not what redicts writes, with the bytes that they hold."""

    values: dict[Path, bytes] = field(default_factory=dict)
    """Leaves of the tree."""
    others: dict[Key, bytes] = field(default_factory=dict)
    """Records of locks."""

    @property
    def found(self) -> bool:
        """Whether there are any."""
        return bool(self.values or self.others)


def examine(store: Store, *, quick: bool) -> tuple[list[Finding], Damage]:
    """Ask everything, and return the answers and what is damaged. A store that fails ends it."""
    damage = Damage()
    findings: list[Finding] = []
    try:
        for finding in _answers(store, damage, quick=quick):
            findings.append(finding)  # noqa: PERF402  (what was found before a failure is kept)
    except StoreError as error:
        findings.append(Finding("reach", Status.FAILED, str(error), {"error": type(error).__name__}))
    return findings, damage


def _answers(store: Store, damage: Damage, *, quick: bool) -> Iterator[Finding]:
    tree = store.tree
    yield _reach(tree)
    yield _version(store)
    yield _capabilities(tree)
    yield _writing(tree)
    yield from _clock(tree)
    yield from _locks(tree, damage)
    yield _tokens(tree, damage)
    yield _work(tree)
    yield from _file(store)
    if not quick:
        yield _values(tree, damage)


def _reach(tree: OpenedDatabase) -> Finding:
    """Read nothing at all, some times, each with the way there and back."""
    read = Transaction((), (Read(Key(SPACE, ("doctor",))),))
    tree.backend.execute(read)
    taken = []
    for _ in range(_LOOKS):
        start = time.perf_counter()
        tree.backend.execute(read)
        taken.append((time.perf_counter() - start) * 1e6)
    data = {"median_us": round(median(taken), 1), "longest_us": round(max(taken), 1)}
    return Finding("reach", Status.OK, f"answers within {data['median_us']} us, {data['longest_us']} at most", data)


def _version(store: Store) -> Finding:
    data = {"redicts": version("redicts"), "python": platform.python_version()}
    client = getattr(store.tree.backend, "client", None)
    if client is not None:
        info = client.info("server")
        data["server"] = f"{info.get('server_name', 'redis')} {info.get('valkey_version', info.get('redis_version'))}"
    elif store.settings.backend == "sqlite":
        data["sqlite"] = sqlite3.sqlite_version
    return Finding("version", Status.OK, ", ".join([f"{name} {text}" for name, text in data.items()]), data)


def _capabilities(tree: OpenedDatabase) -> Finding:
    data = asdict(tree.backend.capabilities)
    said = [name for name, value in data.items() if value is True]
    most = data["atomic_entries"]
    said.append("any number of values at once" if most is None else f"{most} values at once")
    return Finding("capabilities", Status.OK, ", ".join(said), data)


def _writing(tree: OpenedDatabase) -> Finding:
    """Write a value with a TTL, see it end more slowly than it should or not, and remove it."""
    key = Key(SPACE, (f"doctor {secrets.token_hex(8)}",))
    ttl = _PROBE_TTL if tree.backend.capabilities.ttl else None
    try:
        tree.backend.execute(Transaction(writes=(Put(key, b"probe", ttl),)))
    except ReadOnly as error:
        return Finding("writing", Status.WRONG, str(error))
    try:
        (answer,) = tree.backend.execute(Transaction((), (Read(key, ttls=True),))).answers
    finally:
        tree.backend.execute(Transaction(writes=(Delete(key, Scope.NODE),)))
    assert isinstance(answer, Entries)
    if answer.values.get(()) != b"probe":
        return Finding("writing", Status.WRONG, "what was written was not there to be read")
    return Finding("writing", Status.OK, "what is written is there to be read")


def _clock(tree: OpenedDatabase) -> Iterator[Finding]:
    """Compare the store's clock with ours, where it has one of its own."""
    client = getattr(tree.backend, "client", None)
    if client is None:
        yield Finding("clock", Status.OK, "TTLs end by a clock of this machine, or are not compared here")
        return
    before = time.time()
    seconds, micros = client.time()
    ahead = round((seconds + micros / 1e6 - (before + time.time()) / 2) * 1000)
    status = Status.OK if abs(ahead) <= _CLOCK_TOLERANCE else Status.NOTICE
    side = "ahead of" if ahead >= 0 else "behind"
    yield Finding("clock", status, f"the store is {abs(ahead)} ms {side} this machine", {"ahead_ms": ahead})


def _locks(tree: OpenedDatabase, damage: Damage) -> Iterator[Finding]:
    if not tree.backend.capabilities.ttl:
        yield Finding("locks", Status.NOTICE, "a store without lives has no locks")
        return
    records: list[Record] = []
    left = 0
    for space in (HOLDERS, WAITERS, LISTENERS, WAITING_FOR):
        for entries in _all(tree, space):
            known = {record.key: record for record in records_in(Key(space, ()), entries)}
            records += known.values()
            for path, data in entries.values.items():
                key = Key(space, path)
                strange = space in (HOLDERS, WAITERS) and key not in known
                if strange or path not in entries.ttls:
                    damage.others[key] = data
                    left += 1
    held = [record for record in records if record.held]
    waiting = [record for record in records if not record.held]
    late = [record for record in waiting if (record.ttl or 0) < _LATE]
    dead = [record for record in held if not _is_alive(record)]
    yield Finding("locks", Status.OK, f"{len(held)} held, {len(waiting)} waited for", {"held": len(held)})
    if late:
        told = ", ".join(map(str, late[:_MOST_TOLD]))
        text = f"{len(late)} waiters have missed a beat and will be gone within seconds: {told}"
        yield Finding("waiters", Status.NOTICE, text, {"late": len(late), "waiting": len(waiting)})
    else:
        text = "no waiter is left over"
        yield Finding("waiters", Status.OK, text, {"late": 0, "waiting": len(waiting)})
    if dead:
        told = ", ".join(map(str, dead[:_MOST_TOLD]))
        text = (
            f"{len(dead)} holders seem to be dead, their locks end with their leases: {told}; see redicts locks --break"
        )
        yield Finding("holders", Status.NOTICE, text, {"dead": len(dead)})
    if left:
        text = f"{left} records of locks would never end, or are none; redicts did not write them"
        yield Finding("leftovers", Status.WRONG, text, {"left": left})


def _all(tree: OpenedDatabase, space: str) -> Iterator[Entries]:
    cursor = None
    while True:
        read = Read(Key(space, ()), Scope.BELOW, 1000, cursor, ttls=True)
        (answer,) = tree.backend.execute(Transaction((), (read,))).answers
        assert isinstance(answer, Entries)
        yield answer
        cursor = answer.cursor
        if cursor is None:
            return


def _is_alive(record: Record) -> bool:
    """Tell whether the process that holds a lock may be alive: for sure not if it is of this host and is not there."""
    host, _, rest = record.label.partition(":")
    pid = rest.partition(":")[0]
    if host != socket.gethostname() or not pid.isdecimal():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _tokens(tree: OpenedDatabase, damage: Damage) -> Finding:
    (answer,) = tree.backend.execute(Transaction((), (Read(TOKENS),))).answers
    assert isinstance(answer, Entries)
    data = answer.values.get(())
    counted = None if data is None else canonical_counter(data)
    if data is None:
        return Finding("tokens", Status.OK, "no lock was ever given out")
    if counted is None or counted < _FIRST_TOKEN:
        damage.others[TOKENS] = data
        return Finding("tokens", Status.WRONG, "the counter of fencing tokens is none; something wrote over it")
    return Finding("tokens", Status.OK, f"the last fencing token is {counted}", {"last": counted})


def _work(tree: OpenedDatabase) -> Finding:
    checkpoints = unfinished(tree)
    if not checkpoints:
        return Finding("work", Status.OK, "no copy and no import is unfinished", {"unfinished": 0})
    done = ", ".join(
        [f"{state.get('kind', '?')} after {state.get('done', '?')} leaves" for state in checkpoints.values()]
    )
    return Finding("work", Status.NOTICE, f"not ended, or under way: {done}", {"unfinished": len(checkpoints)})


def _file(store: Store) -> Iterator[Finding]:
    """Let SQLite examine its file."""
    path = store.place.get("path")
    if store.settings.backend != "sqlite" or path in (None, ":memory:"):
        return
    try:
        with closing(sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=ro", uri=True)) as connection:
            said = [text for (text,) in connection.execute("PRAGMA quick_check")]
    except sqlite3.Error as error:
        said = [str(error)]
    if said == ["ok"]:
        yield Finding(
            "file", Status.OK, f"{os.path.getsize(path)} bytes, without damage", {"bytes": os.path.getsize(path)}
        )
    else:
        yield Finding("file", Status.WRONG, f"SQLite found damage: {said[0]}; restore the file from a copy")


def _values(tree: OpenedDatabase, damage: Damage) -> Finding:
    """Read every leaf: whether it can be decoded, and no leaf is above it."""
    leaves = 0
    reasons: list[str] = []
    refused: list[str] = []
    try:
        for page in pages(tree, ()):
            leaves += len(page.leaves)
            for leaf in page.leaves:
                try:
                    tree.store.decoded(leaf.path, leaf.data)
                except CorruptData as error:
                    damage.values[leaf.path] = leaf.data
                    reasons.append(str(error))
                except LeafError as error:
                    refused.append(str(error))
            for path, data in _leaves_above(tree, [leaf.path for leaf in page.leaves]).items():
                if path not in damage.values:
                    damage.values[path] = data
                    reasons.append(f"{described(path)} is a leaf, and others are stored below it")
    except CorruptData as error:
        return Finding("values", Status.WRONG, f"{leaves} leaves were read, then: {error}", {"leaves": leaves})
    if refused and not reasons:
        text = (
            f"{len(refused)} of {leaves} leaves are not readable with these settings: {'; '.join(refused[:_MOST_TOLD])}"
        )
        return Finding("values", Status.NOTICE, text, {"leaves": leaves, "damaged": 0, "refused": len(refused)})
    if not reasons:
        return Finding("values", Status.OK, f"{leaves} leaves, all of them readable", {"leaves": leaves, "damaged": 0})
    told = "; ".join(reasons[:_MOST_TOLD])
    text = f"{len(reasons)} of {leaves} leaves are damaged: {told}"
    return Finding("values", Status.WRONG, text, {"leaves": leaves, "damaged": len(reasons)})


def _leaves_above(tree: OpenedDatabase, below: list[Path]) -> dict[Path, bytes]:
    """Return the leaves that are above some paths, where none should be."""
    above = list(dict.fromkeys([path[:depth] for path in below for depth in range(1, len(path))]))
    found: dict[Path, bytes] = {}
    for start in range(0, len(above), 1000):
        wanted = above[start : start + 1000]
        reads = tuple([Read(Key(VALUES, path)) for path in wanted])
        for path, answer in zip(wanted, tree.backend.execute(Transaction((), reads)).answers):
            assert isinstance(answer, Entries)
            if () in answer.values:
                found[path] = answer.values[()]
    return found
