"""``ls`` and ``stats``: the names below a path, and totals of what is there."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

import click

from redicts.cli import exits
from redicts.cli.output import duration, echo, print_json, printable, size, tell
from redicts.cli.stores import PATH, Store, reading_command
from redicts.cli.tables import counted, print_table
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render
from redicts.transfer.leaves import Leaf, pages


@dataclass
class Totals:
    """Totals of some leaves."""

    leaves: int = 0
    bytes: int = 0
    ttls: int = 0
    """How many leaves have a TTL."""
    next_expiry: int | None = None
    """The milliseconds until the first of them expires."""

    def count(self, leaf: Leaf) -> None:
        """Add a leaf."""
        self.leaves += 1
        self.bytes += len(leaf.data)
        if leaf.ttl is not None:
            self.ttls += 1
            self.next_expiry = leaf.ttl if self.next_expiry is None else min(self.next_expiry, leaf.ttl)

    @property
    def ttl_text(self) -> str:
        """The TTLs as text."""
        if self.next_expiry is None:
            return ""
        return f"{counted(self.ttls, 'TTL')}, the next ends in {duration(self.next_expiry / 1000)}"


@click.command("ls")
@click.argument("path", type=PATH, default=".")
@click.option("-l", "--long", "is_long", is_flag=True, help="Show leaves, bytes and TTLs of each name; reads them all.")
@reading_command
def ls(path: Path, is_long: bool, store: Store, as_json: bool) -> int:
    """List the names directly below PATH, as a path has them.

    The status is 1 if there are none.
    """
    database = store.database
    found: dict[str, Totals] = {}
    if is_long:
        for page in pages(database, path):
            for leaf in page.leaves:
                if leaf.path:
                    found.setdefault(leaf.path[0], Totals()).count(leaf)
    else:
        found = {name: Totals() for name in database.run(database.store.names(path))}
    shown = sorted(found.items())
    if as_json:
        documents = [{"name": name, **(_document(totals) if is_long else {})} for name, totals in shown]
        print_json({"path": render(path), "names": documents})
    elif is_long and shown:
        rows = [
            (f"{each.leaves:,}", size(each.bytes), each.ttl_text or "no expiry", render((name,)))
            for name, each in shown
        ]
        print_table(("leaves", "bytes", "expiry", "name"), rows, heads=3)
    else:
        for name, _ in shown:
            echo(printable(render((name,))))
    if not found:
        tell(f"nothing is stored below {described(path)}")
    return exits.DONE if found else exits.NEGATIVE


def _document(totals: Totals) -> dict[str, Any]:
    secs = None if totals.next_expiry is None else totals.next_expiry / 1000
    return {"leaves": totals.leaves, "bytes": totals.bytes, "ttls": totals.ttls, "next_expiry": secs}


@dataclass
class _Statistics:
    """Totals of a subtree, of the subtrees in it, and of the codecs that wrote its leaves."""

    depth: int
    total: Totals = field(default_factory=Totals)
    largest: Leaf | None = None
    codecs: Counter[str] = field(default_factory=Counter)
    subtrees: dict[Path, Totals] = field(default_factory=dict)

    def count(self, leaf: Leaf, codec: str) -> None:
        """Add a leaf."""
        self.total.count(leaf)
        self.codecs[codec] += 1
        if self.largest is None or len(leaf.data) > len(self.largest.data):
            self.largest = leaf
        for depth in range(1, min(len(leaf.path), self.depth + 1)):
            self.subtrees.setdefault(leaf.path[:depth], Totals()).count(leaf)


_MOST: Final = 10


@click.command("stats", short_help="Print how much is at and below PATH.")
@click.argument("path", type=PATH, default=".")
@click.option(
    "--depth",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    metavar="LEVELS",
    help="How deep subtrees may be.",
)
@click.option(
    "--most",
    type=click.IntRange(0),
    default=_MOST,
    show_default=True,
    metavar="NUMBER",
    help="How many subtrees to show.",
)
@reading_command
def stats(path: Path, depth: int, most: int, store: Store, as_json: bool) -> int:
    """Print how much is at and below PATH: leaves, bytes, TTLs, codecs and the largest subtrees.

    All leaves are read, page by page, and none is decoded. The status is 1 if nothing is stored there.
    """
    found = _Statistics(depth)
    form = store.database.store.form
    for page in pages(store.database, path):
        for leaf in page.leaves:
            found.count(leaf, form.codec_of(leaf.data)[0])
    largest = heapq.nlargest(most, found.subtrees.items(), key=lambda each: each[1].bytes)
    codecs = dict(sorted(found.codecs.items(), key=itemgetter(1), reverse=True))
    if as_json:
        one = found.largest
        print_json(
            {
                "path": render(path),
                **_document(found.total),
                "largest_leaf": one and {"path": render(path + one.path), "bytes": len(one.data)},
                "codecs": codecs,
                "subtrees": [{"path": render(path + below), **_document(each)} for below, each in largest],
            }
        )
    elif found.largest is None:
        tell(f"nothing is stored at {described(path)}")
    else:
        _print(path, found, found.largest, largest, codecs)
    return exits.DONE if found.total.leaves else exits.NEGATIVE


def _print(
    path: Path, found: _Statistics, leaf: Leaf, largest: list[tuple[Path, Totals]], codecs: dict[str, int]
) -> None:
    total = found.total
    rows = [
        ("leaves", f"{total.leaves:,}"),
        ("bytes", size(total.bytes)),
        ("expiry", total.ttl_text or "none"),
        ("codecs", ", ".join(f"{name} {count:,}" for name, count in codecs.items())),
        ("largest leaf", f"{render(path + leaf.path) or '.'}, {size(len(leaf.data))}"),
    ]
    print_table(("", ""), rows)
    if largest:
        echo("")
        of_subtrees = [(f"{each.leaves:,}", size(each.bytes), render(path + below)) for below, each in largest]
        print_table(("leaves", "bytes", "path"), of_subtrees, "largest subtrees", heads=2)
