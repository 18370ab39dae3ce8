"""``tree``: draw a subtree with its values, sizes, TTLs and locks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from redicts.api.lock_info import LockInfo
from redicts.cli import exits
from redicts.cli.locks import lock_document
from redicts.cli.output import Document, draw, json_text, print_json, printable, size, tell
from redicts.cli.stores import PATH, Store, reading_command
from redicts.core.minitransaction import Path
from redicts.core.paths import described, parse, render
from redicts.transfer.leaves import UNREADABLE, pages
from redicts.transfer.lines import is_plain

if TYPE_CHECKING:
    from rich.tree import Tree as Drawing

_LONGEST: Final = 40
"""How many characters of a value are shown."""


class _Node:
    """A node of the tree: totals of all leaves below it, and those of its children that are shown."""

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.hidden = 0
        """Leaves below children that are not shown."""
        self.leaves = 0
        self.bytes = 0
        self.ttl: int | None = 0
        """The TTL of the longest-lived leaf in milliseconds, ``None`` without expiry."""
        self.value: str | None = None
        """The beginning of the value of a leaf."""
        self.locks: list[LockInfo] = []

    def count(self, data: bytes, ttl: int | None) -> None:
        """Add a leaf at or below this node to the totals."""
        self.leaves += 1
        self.bytes += len(data)
        self.ttl = None if ttl is None or self.ttl is None else max(self.ttl, ttl)

    def document(self) -> Document:
        """Return the node as JSON shows it."""
        return {
            "leaves": self.leaves,
            "bytes": self.bytes,
            "ttl": self.ttl / 1000 if self.leaves and self.ttl is not None else None,
            "value": self.value,
            "locks": [lock_document(lock) for lock in self.locks],
            "hidden": self.hidden,
            "names": {name: child.document() for name, child in sorted(self.children.items())},
        }

    def summary(self) -> str:
        """Return the totals as text."""
        parts = [size(self.bytes)] if self.value is not None else [f"{self.leaves} leaves", size(self.bytes)]
        if self.leaves and self.ttl is not None:
            parts.append(f"{self.ttl / 1000:.0f} s left")
        return ", ".join(parts)


class _Shown:
    """The nodes that are shown: a bounded number, whatever the number of leaves."""

    def __init__(self, depth: int | None, most: int) -> None:
        self.top = _Node()
        self._depth = depth
        self._left = most

    def add(self, path: Path, data: bytes, ttl: int | None) -> _Node | None:
        """Count a leaf in all nodes above it, and return its own node if that is shown."""
        node = self.top
        node.count(data, ttl)
        for depth, name in enumerate(path):
            child = node.children.get(name)
            if child is None:
                if self._left == 0 or (self._depth is not None and depth >= self._depth):
                    node.hidden += 1
                    return None
                self._left -= 1
                child = node.children[name] = _Node()
            node = child
            node.count(data, ttl)
        return node

    def add_lock(self, path: Path, lock: LockInfo) -> None:
        """Show a lock at its node, or at the nearest one above that is shown."""
        node = self.top
        for name in path:
            if name not in node.children:
                break
            node = node.children[name]
        node.locks.append(lock)


@click.command("tree")
@click.argument("path", type=PATH, default=".")
@click.option("--depth", type=click.IntRange(min=0), metavar="LEVELS", help="Show no more levels.")
@click.option("--most", type=click.IntRange(min=1), default=1000, show_default=True, help="Show no more names.")
@reading_command
def tree(path: Path, depth: int | None, most: int, store: Store, as_json: bool) -> int:
    """Draw a subtree with its values, sizes, TTLs and locks.

    All leaves are read and counted, page by page; a leaf that is not shown is counted at the node above it.
    """
    shown = _Shown(depth, most)
    for page in pages(store.database, path):
        for leaf in page.leaves:
            node = shown.add(leaf.path, leaf.data, leaf.ttl)
            if node is not None:
                node.value = _beginning(store, path + leaf.path, leaf.data)
    locks: list[LockInfo] = []
    if store.database.backend.capabilities.ttl:
        locks = [*store.database.lock(path).holders(), *store.database.lock(path).waiters()]
    for lock in locks:
        shown.add_lock(parse(lock.path)[len(path) :] if lock.path else (), lock)
    found = bool(shown.top.leaves or locks)
    if as_json:
        print_json({"path": render(path), **shown.top.document()})
    elif found:
        draw(_drawing(shown.top, render(path) or "the root"))
    else:
        tell(f"nothing is stored at {described(path)}")
    return exits.DONE if found else exits.NEGATIVE


def _beginning(store: Store, path: Path, data: bytes) -> str:
    try:
        value = store.database.store.decoded(path, data)
    except UNREADABLE:
        return "(not readable)"
    text = json_text(value) if is_plain(value) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _drawing(node: _Node, name: str, above: Drawing | None = None) -> Drawing:
    from rich.text import Text  # noqa: PLC0415
    from rich.tree import Tree as Drawing  # noqa: PLC0415

    line = Text(printable(name), style="bold" if node.children else "")
    if node.value is not None:
        line.append(f" = {printable(node.value)}", style="cyan")
    line.append(f"  {node.summary()}", style="dim")
    for lock in node.locks:
        line.append(f"  [{'waits' if lock.waiting else 'locked'}: {printable(str(lock))}]", style="yellow")
    drawn = Drawing(line) if above is None else above.add(line)
    for inner, child in sorted(node.children.items()):
        _drawing(child, render((inner,)), drawn)
    if node.hidden:
        drawn.add(Text(f"... {node.hidden} more leaves", style="dim"))
    return drawn
