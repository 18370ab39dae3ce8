"""Walks: reading a large scope page by page, to the end, however many pages the store makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from redicts.contract.client import Client
from redicts.contract.law import require
from redicts.core.transaction import Entries, Names, Path, Read, ReadNames


def pages(clients: Sequence[Client], read: Read, at_most: int) -> Iterator[Entries]:
    """Yield the pages of a walk, asked for by these clients in turn; insist that there are at most ``at_most``."""
    for number in range(at_most):
        page = clients[number % len(clients)].entries(read)
        yield page
        if page.cursor is None:
            return
        read = read._replace(cursor=page.cursor)
    require(False, f"the walk with the limit {read.limit} did not end after {at_most} pages")


def walk(client: Client, read: Read, at_most: int) -> list[tuple[Path, bytes]]:
    """Return all entries of a walk in the order of their pages, repeated ones repeatedly."""
    return [entry for page in pages([client], read, at_most) for entry in page.values.items()]


def pages_of_names(client: Client, read: ReadNames, at_most: int) -> Iterator[Names]:
    """Yield the pages of a walk over names; insist that there are not more than ``at_most``."""
    for _ in range(at_most):
        page = client.page_of_names(read)
        yield page
        if page.cursor is None:
            return
        read = read._replace(cursor=page.cursor)
    require(False, f"the walk over names with the limit {read.limit} did not end after {at_most} pages")


def walk_names(client: Client, read: ReadNames, at_most: int) -> list[str]:
    """Return all names of a walk, repeated ones repeatedly."""
    return [name for page in pages_of_names(client, read, at_most) for name in page.names]


def many(entries: int) -> int:
    """Return how many pages a walk over this many entries may take at most: pages may be short, but must get on."""
    return 20 * entries + 200
