"""Walks: reads of a large scope page by page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from redicts.contract.client import Client
from redicts.contract.requirements import require, require_equal
from redicts.core.minitransaction import Entries, Names, Path, Read, ReadNames


def pages(clients: Sequence[Client], read: Read, at_most: int) -> Iterator[Entries]:
    """Yield the pages of a walk, by these clients in turn; require at most ``at_most`` pages."""
    for number in range(at_most):
        page = clients[number % len(clients)].entries(read)
        yield page
        if page.cursor is None:
            return
        read = read._replace(cursor=page.cursor)
    require(False, f"the walk with the limit {read.limit} did not end after {at_most} pages")


def walk(client: Client, read: Read, at_most: int) -> list[tuple[Path, bytes]]:
    """Return all entries of a walk in the order of their pages, with repetitions."""
    return [entry for page in pages([client], read, at_most) for entry in page.values.items()]


def pages_of_names(client: Client, read: ReadNames, at_most: int) -> Iterator[Names]:
    """Yield the pages of a walk over names; require at most ``at_most`` pages."""
    for _ in range(at_most):
        page = client.page_of_names(read)
        yield page
        if page.cursor is None:
            return
        read = read._replace(cursor=page.cursor)
    require(False, f"the walk over names with the limit {read.limit} did not end after {at_most} pages")


def walk_names(client: Client, read: ReadNames, at_most: int) -> list[str]:
    """Return all names of a walk, with repetitions."""
    return [name for page in pages_of_names(client, read, at_most) for name in page.names]


def many(entries: int) -> int:
    """Return the most pages of a walk over this many entries: pages may be short, but must progress."""
    return 20 * entries + 200


def require_walked(found: list[tuple[Path, bytes]], expected: Mapping[Path, bytes], what: str) -> None:
    """Require that a walk found each of these entries once, and no other; ``what`` names the walk."""
    counts = Counter(path for path, _ in found)
    missed = [path for path in expected if path not in counts]
    repeated = [path for path, count in counts.items() if count > 1]
    require(not missed, f"{what} missed {len(missed)} of {len(expected)} entries: {missed[:5]!r}")
    require(not repeated, f"{what} found {len(repeated)} entries more than once: {repeated[:5]!r}")
    require_equal(sorted(found), sorted(expected.items()), f"{what} finds")
