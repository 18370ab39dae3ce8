"""``watch``: looks at a subtree at intervals and tells what is different."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from redicts.cli import exits
from redicts.cli.output import as_json, encoded, is_plain, printable
from redicts.cli.stores import PATH, common_options, opened
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render
from redicts.errors import CorruptData, LeafError, Unsupported

if TYPE_CHECKING:
    from redicts.api.opened import OpenedDatabase

_MOST: Final = 100_000
"""How many leaves are watched at most: all of them are read at every look, and kept until the next."""


@click.command("watch")
@click.argument("path", type=PATH, default=".")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.05),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait between two looks.",
)
@click.option("--looks", type=click.IntRange(min=1), metavar="NUMBER", help="End after so many looks.")
@common_options
def watch(path: Path, interval: float, looks: int | None, store: str | None, database: str | None, json_: bool) -> int:
    """Look at PATH again and again, and print each leaf that is different from the last look.

    No store tells when a value changes, so this reads all of it at every look: what is changed twice between two looks
    is seen once, and what is changed and changed back is not seen. It ends with Ctrl-C, or after --looks. With --json
    each line is a document of its own.
    """
    tree = opened(store, database).tree
    before = _seen(tree, path)
    while looks is None or looks > 1:
        time.sleep(interval)
        now = _seen(tree, path)
        for below in sorted(before.keys() | now.keys()):
            if before.get(below) != now.get(below):
                _print(tree, path + below, before.get(below), now.get(below), json_)
        before = now
        looks = None if looks is None else looks - 1
    return exits.DONE


def _seen(tree: OpenedDatabase, path: Path) -> dict[Path, bytes]:
    from redicts.transfer.leaves import pages  # noqa: PLC0415  (help needs none of it)

    found: dict[Path, bytes] = {}
    for page in pages(tree, path):
        found.update({leaf.path: leaf.data for leaf in page.leaves})
        if len(found) > _MOST:
            raise Unsupported(f"{described(path)} has more than {_MOST} leaves, too many to watch; watch a part of it")
    return found


def _print(tree: OpenedDatabase, path: Path, before: bytes | None, now: bytes | None, json_: bool) -> None:
    change = "removed" if now is None else "added" if before is None else "changed"
    if json_:
        document: dict[str, Any] = {"at": time.time(), "path": render(path), "change": change}
        document |= {"before": _value(tree, path, before), "now": _value(tree, path, now)}
        click.echo(as_json(document))
        return
    sign = {"removed": "-", "added": "+", "changed": "~"}[change]
    shown = "" if now is None else f" = {printable(as_json(_value(tree, path, now)))}"
    click.echo(f"{time.strftime('%H:%M:%S')} {sign} {printable(render(path))}{shown}")


def _value(tree: OpenedDatabase, path: Path, data: bytes | None) -> object:
    if data is None:
        return None
    try:
        value = tree.store.decoded(path, data)
    except (CorruptData, LeafError):
        return encoded(data)
    return value if is_plain(value) else encoded(data)
