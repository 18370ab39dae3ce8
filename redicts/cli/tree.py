"""``tree``: a subtree drawn, with sizes, lives and locks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import click

from redicts.cli import exits
from redicts.cli.output import Document, as_json, console, is_plain, print_json, printable, size
from redicts.cli.stores import PATH, common_options, opened
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render
from redicts.errors import CorruptData, LeafError

if TYPE_CHECKING:
    from rich.tree import Tree as Drawing

    from redicts.api.lock import LockInfo

_LONGEST: Final = 40
"""How many characters of a value are shown to people."""


class _Node:
    """What is known of a place: how much is below it, and those of its names that are shown."""

    __slots__ = ("bytes", "hidden", "inner", "leaves", "locks", "ttl", "value")

    def __init__(self) -> None:
        self.inner: dict[str, _Node] = {}
        self.hidden = 0
        """How many leaves are below names that are not shown."""
        self.leaves = 0
        self.bytes = 0
        self.ttl: int | None = 0
        """Of the longest-lived leaf, in milliseconds; ``None`` for ever."""
        self.value: str | None = None
        """The beginning of the value of a leaf."""
        self.locks: list[LockInfo] = []

    def count(self, data: bytes, ttl: int | None) -> None:
        """Count a leaf at or below this place."""
        self.leaves += 1
        self.bytes += len(data)
        self.ttl = None if ttl is None or self.ttl is None else max(self.ttl, ttl)


class _Plan:
    """The places that are shown: as many as were asked for, however many leaves there are."""

    def __init__(self, depth: int | None, most: int) -> None:
        self.top = _Node()
        self._depth = depth
        self._left = most

    def add(self, path: Path, data: bytes, ttl: int | None) -> _Node | None:
        """Count a leaf in all places that it is in, and return its own if that is shown."""
        node = self.top
        node.count(data, ttl)
        for depth, name in enumerate(path):
            inner = node.inner.get(name)
            if inner is None:
                if self._left == 0 or (self._depth is not None and depth >= self._depth):
                    node.hidden += 1
                    return None
                self._left -= 1
                inner = node.inner[name] = _Node()
            node = inner
            node.count(data, ttl)
        return node

    def lock(self, path: Path, lock: LockInfo) -> None:
        """Note a lock at the nearest place that is shown."""
        node = self.top
        for name in path:
            inner = node.inner.get(name)
            if inner is None:
                break
            node = inner
        node.locks.append(lock)


@click.command("tree")
@click.argument("path", type=PATH, default=".")
@click.option("--depth", type=click.IntRange(min=0), metavar="LEVELS", help="Show no more levels.")
@click.option("--most", type=click.IntRange(min=1), default=1000, show_default=True, help="Show no more names.")
@common_options
def tree(path: Path, depth: int | None, most: int, store: str | None, database: str | None, json_: bool) -> int:
    """Draw what is at and below PATH: values, sizes, lives and locks.

    All leaves are read and counted, a page at a time; what is not shown is counted at the place above it.
    """
    from redicts.api.lock import Lock  # noqa: PLC0415  (help needs none of it)
    from redicts.transfer.leaves import pages  # noqa: PLC0415

    where = opened(store, database)
    plan = _Plan(depth, most)
    for page in pages(where.tree, path):
        for leaf in page.leaves:
            node = plan.add(leaf.path, leaf.data, leaf.ttl)
            if node is not None:
                node.value = _beginning(where.tree, path + leaf.path, leaf.data)
    lock = Lock(where.tree.backend, path)
    locks = [*lock.holders(), *lock.waiters()] if where.tree.backend.capabilities.ttl else []
    for each in locks:
        plan.lock(_below(path, each.path), each)
    if json_:
        print_json({"path": render(path), **_document(plan.top)})
    elif plan.top.leaves or locks:
        console().print(_drawing(plan.top, described(path) if not path else render(path), None))
    else:
        click.echo(f"redicts: nothing is stored at {described(path)}", err=True)
    return exits.DONE if plan.top.leaves or locks else exits.NEGATIVE


def _below(path: Path, locked: str) -> Path:
    from redicts.core.paths import parse  # noqa: PLC0415

    return parse(locked)[len(path) :] if locked else ()


def _beginning(tree: Any, path: Path, data: bytes) -> str:
    try:
        value = tree.store.decoded(path, data)
    except (CorruptData, LeafError):
        return "(not readable)"
    text = as_json(value) if is_plain(value) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _drawing(node: _Node, name: str, into: Drawing | None) -> Drawing:
    from rich.text import Text  # noqa: PLC0415  (takes a while, and JSON needs none of it)
    from rich.tree import Tree  # noqa: PLC0415

    line = Text(printable(name), style="bold" if node.inner else "")
    if node.value is not None:
        line.append(f" = {printable(node.value)}", style="cyan")
    line.append(f"  {_told(node)}", style="dim")
    for lock in node.locks:
        line.append(f"  [{'waits' if lock.waiting else 'locked'}: {printable(str(lock))}]", style="yellow")
    drawn = Tree(line) if into is None else into.add(line)
    for inner, below in sorted(node.inner.items()):
        _drawing(below, inner, drawn)
    if node.hidden:
        drawn.add(Text(f"... {node.hidden} more leaves", style="dim"))
    return drawn


def _told(node: _Node) -> str:
    parts = [size(node.bytes)] if node.value is not None else [f"{node.leaves} leaves", size(node.bytes)]
    if node.leaves and node.ttl is not None:
        parts.append(f"{node.ttl / 1000:.0f} s left")
    return ", ".join(parts)


def _document(node: _Node) -> Document:
    return {
        "leaves": node.leaves,
        "bytes": node.bytes,
        "ttl": node.ttl / 1000 if node.leaves and node.ttl is not None else None,
        "value": node.value,
        "locks": [lock_document(lock) for lock in node.locks],
        "hidden": node.hidden,
        "names": {name: _document(below) for name, below in sorted(node.inner.items())},
    }


def lock_document(lock: LockInfo) -> Document:
    """Return what JSON says of a lock."""
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


def lock_documents(locks: Iterable[LockInfo]) -> list[Document]:
    """Return what JSON says of locks."""
    return [lock_document(lock) for lock in locks]
