"""``watch``: read a subtree at intervals and print the differences."""

from __future__ import annotations

import errno
import time
from typing import Final

import click

from redicts.cli import exits
from redicts.cli.numbers import Seconds
from redicts.cli.output import echo, json_text, printable
from redicts.cli.stores import PATH, Store, reading_command
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render
from redicts.errors import Unsupported
from redicts.transfer.leaves import UNREADABLE, pages
from redicts.transfer.lines import encoded, is_plain

_MOST: Final = 100_000
"""How many leaves are watched at most: each look reads all of them, and they are kept until the next one."""


@click.command("watch")
@click.argument("path", type=PATH, default=".")
@click.option(
    "--interval",
    type=Seconds(0.05),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait between two looks.",
)
@click.option("--looks", type=click.IntRange(min=1), metavar="NUMBER", help="End after so many looks.")
@reading_command
def watch(path: Path, interval: float, looks: int | None, store: Store, as_json: bool) -> int:
    """Print the leaves at and below PATH that change.

    Stores do not report changes, so the leaves are read at intervals and compared with the last look: a leaf that
    changes twice between two looks is printed once, and one that changes back is not printed. Ends with Ctrl-C, or
    after --looks. With --json each line is a document.
    """
    if store.missing is not None:
        raise FileNotFoundError(errno.ENOENT, "there is nothing to watch yet", store.missing)
    before = _leaves(store, path)
    while looks is None or looks > 1:
        time.sleep(interval)
        now = _leaves(store, path)
        for below in sorted(before.keys() | now.keys()):
            if before.get(below) != now.get(below):
                _print(store, path + below, before.get(below), now.get(below), as_json)
        before = now
        looks = None if looks is None else looks - 1
    return exits.DONE


def _leaves(store: Store, path: Path) -> dict[Path, bytes]:
    found: dict[Path, bytes] = {}
    for page in pages(store.database, path):
        found.update({leaf.path: leaf.data for leaf in page.leaves})
        if len(found) > _MOST:
            raise Unsupported(f"{described(path)} has more than {_MOST} leaves, too many to watch; watch a part of it")
    return found


def _print(store: Store, path: Path, old: bytes | None, new: bytes | None, as_json: bool) -> None:
    change, sign = ("removed", "-") if new is None else ("added", "+") if old is None else ("changed", "~")
    before, now = _value(store, path, old), _value(store, path, new)
    if as_json:
        document = {"at": time.time(), "path": render(path), "change": change, "before": before, "now": now}
        echo(json_text(document))
    else:
        shown = "" if new is None else f" = {printable(json_text(now))}"
        echo(f"{time.strftime('%H:%M:%S')} {sign} {printable(render(path))}{shown}")


def _value(store: Store, path: Path, data: bytes | None) -> object:
    if data is None:
        return None
    try:
        value = store.database.store.decoded(path, data)
    except UNREADABLE:
        return encoded(data)
    return value if is_plain(value) else encoded(data)
