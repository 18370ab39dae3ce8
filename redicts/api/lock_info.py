"""LockInfo: describes a lock that an owner holds or waits for, to people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from redicts.api.timeouts import LONGEST_SECS
from redicts.core import paths
from redicts.core.locks.records import Mode, Record

_LATEST: Final = 253402300799
"""The last second of the year 9999: a record that redicts did not write may contain any time."""


@dataclass(frozen=True)
class LockInfo:
    """A lock that an owner holds or waits for, from :meth:`Lock.holders` or :meth:`Lock.waiters`."""

    path: str
    """The locked path as dotted text; the empty text is the root."""
    shared: bool
    waiting: bool
    """Whether the owner waits for it."""
    host: str
    pid: int
    thread: str
    """The name of the thread, or ``task`` and the name of the asyncio task."""
    since: datetime
    """The time of the request, by the clock of that host."""
    until: datetime
    """The end of the lease, unless it is renewed."""

    def __str__(self) -> str:
        kind = "shared" if self.shared else "exclusive"
        return f"{kind} lock on {self.path or 'the root'!r}: {self.host}, process {self.pid}, {self.thread}"


def infos_of(records: Iterable[Record]) -> list[LockInfo]:
    """Describe lock records, as far as they can be parsed."""
    return [_info_of(record) for record in records]


def _info_of(record: Record) -> LockInfo:
    host, _, rest = record.label.partition(":")
    process, _, thread = rest.partition(":")
    pid = process.partition("@")[0]  # followed by its PID namespace
    return LockInfo(
        paths.render(record.path),
        record.mode is Mode.SHARED,
        not record.held,
        host,
        int(pid) if pid.isdecimal() else 0,
        thread,
        datetime.fromtimestamp(min(record.since / 1000, _LATEST), timezone.utc),
        datetime.now(timezone.utc) + timedelta(seconds=min((record.ttl or 0) / 1000, LONGEST_SECS)),
    )
