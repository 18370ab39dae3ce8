"""``locks``: list the locks that are held and waited for, and break them."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Final

import click

from redicts.api.lock_info import LockInfo
from redicts.cli import exits
from redicts.cli.confirming import require
from redicts.cli.output import Document, duration, print_json, tell
from redicts.cli.stores import PATH, Store, reading_command
from redicts.cli.tables import print_table
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render


@click.command("locks")
@click.argument("path", type=PATH, default=".")
@click.option("--break", "break_", is_flag=True, help="Break the locks that are held there, by any owner.")
@click.option("--everything", is_flag=True, help="Allow --break at the root, for all locks of the store.")
@reading_command
def locks(path: Path, break_: bool, everything: bool, store: Store, as_json: bool) -> int:
    """List the locks at, above and below PATH.

    The status is 1 if none is held or waited for. With --break the owners lose the held locks: their writes under them
    are refused, and waiters go on.
    """
    if break_:
        store.require_writable()
    lock = store.database.lock(path)
    if break_ and not path and lock.holders():
        require(everything, "--everything", "breaks all locks of the store; name a PATH to break those there")
    found = {"broken": lock.break_locks() if break_ else [], "holders": lock.holders(), "waiters": lock.waiters()}
    if as_json:
        print_json({"path": render(path), **{name: list(map(lock_document, each)) for name, each in found.items()}})
    else:
        for title, each in zip(("broken", "held", "waiting"), found.values()):
            if each:
                print_table(_COLUMNS, map(_row, each), title)
        if not any(found.values()):
            tell(f"nothing is locked at {described(path)}")
    return exits.DONE if any(found.values()) else exits.NEGATIVE


_COLUMNS: Final = ("path", "kind", "host", "process", "thread", "times")


def _row(lock: LockInfo) -> list[object]:
    kind = "shared" if lock.shared else "exclusive"
    return [lock.path or ".", kind, lock.host, lock.pid, lock.thread, lock_times(lock)]


def lock_times(lock: LockInfo) -> str:
    """Return for how long a lock is held or waited for, and when it ends unless it is renewed."""
    now = datetime.now(timezone.utc)
    since, left = max((now - lock.since).total_seconds(), 0), max((lock.until - now).total_seconds(), 0)
    return f"{'waits' if lock.waiting else 'held'} {duration(since)}, ends in {duration(left)}"


def lock_document(lock: LockInfo) -> Document:
    """Return a lock as JSON shows it."""
    return {
        "path": lock.path,
        "waiting": lock.waiting,
        "shared": lock.shared,
        "host": lock.host,
        "pid": lock.pid,
        "thread": lock.thread,
        "since": lock.since.isoformat(),
        "until": lock.until.isoformat(),
    }
