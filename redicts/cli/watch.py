"""``watch``: print the differences each time that a subtree has changed."""

from __future__ import annotations

import errno
import os
import sys
import time
from typing import Final

import click

from redicts.cli import exits
from redicts.cli.numbers import Seconds
from redicts.cli.output import echo, json_text, printable
from redicts.cli.stores import PATH, Store, reading_command
from redicts.core import driver
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render
from redicts.core.watching import Change, Watched
from redicts.errors import Unsupported
from redicts.locks.owner import request_name
from redicts.transfer.leaves import UNREADABLE
from redicts.transfer.lines import encoded, is_plain

_MOST: Final = 100_000
"""How many leaves are watched at most: each look reads all of them, and they are kept until the next one."""

_COLOURS: Final = {"added": "green", "changed": "yellow", "removed": "red"}
_SIGNS: Final = {"added": "+", "changed": "~", "removed": "-"}


@click.command("watch")
@click.argument("path", type=PATH, default=".")
@click.option(
    "--interval",
    type=Seconds(0.05),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="With --looks, how long each of them waits for a change.",
)
@click.option("--looks", type=click.IntRange(min=1), metavar="NUMBER", help="End after so many looks, not at Ctrl-C.")
@reading_command
def watch(path: Path, interval: float, looks: int | None, store: Store, as_json: bool) -> int:
    """Print the leaves at and below PATH that change.

    The store tells of changes, and then the leaves are read and compared: a leaf that changes twice meanwhile is
    printed once, and one that changes back is not printed. While the store does not answer, this waits. Ends with
    Ctrl-C, or after --looks. With --json each line is a document.
    """
    if store.missing is not None:
        raise FileNotFoundError(errno.ENOENT, "there is nothing to watch yet", store.missing)
    database = store.database
    watched = Watched(database.store, path, time.monotonic)
    timeout = None if looks is None else interval
    with driver.listen_to_changes(database.backend, request_name(), path) as listener:
        database.run(watched.begin())
        while True:
            if watched.count > _MOST:
                raise Unsupported(
                    f"{described(path)} has more than {_MOST} leaves, too many to watch; watch a part of it"
                )
            looks = None if looks is None else looks - 1
            if looks == 0:
                return exits.DONE
            change = driver.run(watched.next(timeout), database.backend, None, listener)
            if change is not None:
                _print_all(store, path, change, as_json)


def _print_all(store: Store, path: Path, change: Change, as_json: bool) -> None:
    for below in change.paths():
        _print(store, path + below, change.before.get(below), change.leaves.get(below), as_json)


def _print(store: Store, path: Path, old: bytes | None, new: bytes | None, as_json: bool) -> None:
    change = "removed" if new is None else "added" if old is None else "changed"
    before, now = _value(store, path, old), _value(store, path, new)
    if as_json:
        document = {"at": time.time(), "path": render(path), "change": change, "before": before, "now": now}
        echo(json_text(document))
    else:
        shown = "" if new is None else f" = {printable(json_text(now))}"
        line = f"{time.strftime('%H:%M:%S')} {_SIGNS[change]} {printable(render(path))}{shown}"
        echo(click.style(line, fg=_COLOURS[change]) if _is_coloured() else line)


def _is_coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _value(store: Store, path: Path, data: bytes | None) -> object:
    if data is None:
        return None
    try:
        value = store.database.store.decoded(path, data)
    except UNREADABLE:
        return encoded(data)
    return value if is_plain(value) else encoded(data)
