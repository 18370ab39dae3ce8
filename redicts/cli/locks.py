"""``locks``: who holds what, who waits, and the operator's way to break a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from redicts.cli import exits
from redicts.cli.output import console, print_json, printable
from redicts.cli.stores import PATH, common_options, opened
from redicts.cli.tree import lock_documents
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render

if TYPE_CHECKING:
    from redicts.api.lock import LockInfo


@click.command("locks")
@click.argument("path", type=PATH, default=".")
@click.option("--break", "break_", is_flag=True, help="Break the locks that are held there, whoever holds them.")
@common_options
def locks(path: Path, break_: bool, store: str | None, database: str | None, json_: bool) -> int:
    """List the locks that are held and waited for at PATH, above it and below it; the status is 1 if there are none.

    With --break their holders lose them: what they then write under the lock is refused, and who waits goes on.
    """
    from redicts.api.lock import Lock  # noqa: PLC0415  (help needs none of it)

    lock = Lock(opened(store, database).tree.backend, path)
    broken = lock.break_locks() if break_ else []
    holders, waiters = lock.holders(), lock.waiters()
    if json_:
        document = {"holders": lock_documents(holders), "waiters": lock_documents(waiters)}
        print_json({"path": render(path), "broken": lock_documents(broken), **document})
    else:
        _table("broken", broken)
        _table("held", holders)
        _table("waiting", waiters)
        if not broken and not holders and not waiters:
            click.echo(f"redicts: nothing is locked at {described(path)}", err=True)
    return exits.DONE if broken or holders or waiters else exits.NEGATIVE


def _table(title: str, found: list[LockInfo]) -> None:
    if not found:
        return
    from rich.table import Table  # noqa: PLC0415  (takes a while, and JSON needs none of it)

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("path", "kind", "host", "process", "thread", "since", "until"):
        table.add_column(name, overflow="fold")
    for lock in found:
        kind = "shared" if lock.shared else "exclusive"
        since, until = (f"{each.astimezone():%Y-%m-%d %H:%M:%S}" for each in (lock.since, lock.until))
        path, host, thread = (printable(text) for text in (lock.path or ".", lock.host, lock.thread))
        table.add_row(path, kind, host, str(lock.pid), thread, since, until)
    console().print(table)
