"""``tree``: draw a subtree with its values, sizes, TTLs and locks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import click

from redicts.api.lock_info import LockInfo
from redicts.cli import exits
from redicts.cli.locks import lock_document, lock_times
from redicts.cli.output import Document, duration, echo, json_text, print_json, printable, size, tell, terminal_width
from redicts.cli.stores import PATH, Store, reading_command
from redicts.cli.tables import can_print, coloured, columns_of, cut, leaves, padded, wrapped
from redicts.core.minitransaction import Path
from redicts.core.paths import described, parse, render
from redicts.transfer.leaves import UNREADABLE, pages
from redicts.transfer.lines import is_plain

_LONGEST: Final = 40
"""How many characters or columns of a value are shown."""

_ALIGNED: Final = 60
"""Columns of names and values up to which sizes are aligned, where no terminal bounds them."""

_SHORTEST: Final = 16
"""Columns that names and values keep on a terminal, however narrow it is."""

_FEW: Final = 8
"""A value that must be cut to fewer columns is an ellipsis instead."""

_ELLIPSIS: Final = 4
"""Columns of an ellipsis after the equals sign."""


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
            "value": self.value and (self.value if len(self.value) <= _LONGEST else f"{self.value[:_LONGEST]}..."),
            "locks": [lock_document(lock) for lock in self.locks],
            "hidden": self.hidden,
            "names": {name: child.document() for name, child in sorted(self.children.items())},
        }

    def totals(self) -> tuple[str, str, str]:
        """Return the number of leaves, none for a leaf itself, the bytes and the TTL as text."""
        ttl = f"{duration(self.ttl / 1000)} left" if self.leaves and self.ttl is not None else ""
        return leaves(self.leaves) if self.value is None else "", size(self.bytes), ttl


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
@click.option(
    "--most",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    metavar="NUMBER",
    help="Show no more names.",
)
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
        _draw(shown.top, render(path) or "the root")
    else:
        tell(f"nothing is stored at {described(path)}")
    return exits.DONE if found else exits.NEGATIVE


def _beginning(store: Store, path: Path, data: bytes) -> str:
    try:
        value = store.database.store.decoded(path, data)
    except UNREADABLE:
        return "(not readable)"
    text = json_text(value) if is_plain(value) else repr(value)
    return text[: _LONGEST + 1]


class _Row(NamedTuple):
    """One line of the drawing."""

    branch: str
    name: str
    value: str = ""
    totals: tuple[str, str, str] = ("", "", "")
    locks: tuple[str, ...] = ()
    is_bold: bool = False


class _Branches(NamedTuple):
    """The characters that connect a node with the one above it."""

    middle: str
    last: str
    through: str
    blank: str = "    "


_LINES: Final = _Branches("\u251c\u2500\u2500 ", "\u2514\u2500\u2500 ", "\u2502   ")
_ASCII: Final = _Branches("|-- ", "`-- ", "|   ")


def _rows(node: _Node, name: str, branches: _Branches, branch: str = "", below: str = "") -> Iterator[_Row]:
    value = "" if node.value is None else f" = {cut(printable(node.value), _LONGEST)}"
    locks = tuple([_lock_text(lock) for lock in node.locks])
    yield _Row(branch, printable(name), value, node.totals(), locks, bool(node.children))
    children = sorted(node.children.items())
    for number, (inner, child) in enumerate(children, start=1):
        is_last = number == len(children) and not node.hidden
        connected, further = (branches.last, branches.blank) if is_last else (branches.middle, branches.through)
        yield from _rows(child, render((inner,)), branches, below + connected, below + further)
    if node.hidden:
        yield _Row(below + branches.last, f"... {leaves(node.hidden)} more")


def _lock_text(lock: LockInfo) -> str:
    kind = "shared" if lock.shared else "exclusive"
    return printable(
        f"[{'waits' if lock.waiting else 'locked'}: {kind} lock on {lock.path or 'the root'!r}, "
        f"{lock.host}, process {lock.pid}, {lock.thread}, {lock_times(lock)}]"
    )


def _draw(top: _Node, name: str) -> None:
    """Print the drawing: totals in columns, and on a terminal no line that is longer than it is wide.

    Values are cut first, and a name only if it does not fit by itself.
    """
    rows = list(_rows(top, name, _LINES if can_print("".join(_LINES)) else _ASCII))
    width = terminal_width()
    widths = [max(columns_of(row.totals[at]) for row in rows) for at in range(3)]
    deepest = max(columns_of(row.branch) for row in rows)
    if width is not None and width - sum(widths) - 6 < max(_SHORTEST, deepest + _FEW):
        widths[0] = 0  # narrow: sizes and TTLs are worth more than numbers of leaves
    totals = sum(width + 2 for width in widths if width)
    longest = max(columns_of(row.branch + row.name + row.value) for row in rows)
    first = min(longest, _ALIGNED if width is None else max(width - totals, _SHORTEST))
    for row in rows:
        echo(_line(row, first, widths, width))
        for lock in row.locks:
            text = row.branch.replace(_LINES.middle, _LINES.through).replace(_ASCII.middle, _ASCII.through)
            text = text.replace(_LINES.last, _LINES.blank).replace(_ASCII.last, _ASCII.blank)
            room = None if width is None else width - columns_of(text)
            for part in [cut(lock, room)] if room is not None and room < _SHORTEST else wrapped(lock, room):
                echo(text + coloured(part, "yellow"))


def _line(row: _Row, first: int, widths: list[int], width: int | None) -> str:
    name, value = row.name, row.value
    if width is not None:
        if not any(row.totals) or first < columns_of(row.branch) + min(columns_of(name), _FEW):
            first, widths = width, [0, 0, 0]  # too deep for columns
        name = cut(name, max(first - columns_of(row.branch), 1))
        whole, value = value, cut(value, first - columns_of(row.branch + name))
        if value != whole and columns_of(value) < _FEW:
            value = cut(whole, _ELLIPSIS) if first - columns_of(row.branch + name) >= _ELLIPSIS else ""
    shown = row.branch + coloured(name, bold=row.is_bold) + coloured(value, "cyan")
    blanks = " " * max(0, first - columns_of(row.branch + name + value))
    cells = [padded(text, most, right=at < 2) for at, (text, most) in enumerate(zip(row.totals, widths)) if most]
    totals = "  ".join(cells).rstrip()
    return f"{shown}{blanks}  {coloured(totals, dim=True)}" if totals else shown
