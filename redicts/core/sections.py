"""The home of a transaction: the section of the tree that all its keys are in, for stores that keep sections apart.

A *sharded* store (``Capabilities.sharded``) keeps each section, which is everything below one first segment, on one
server. It executes a transaction within one section as any other store does. The home of a transaction is that section:

- A key of the tree is in the section of its first segment.
- A lock record of a path in a section begins with the same segment after a slash, so it is in that section too.
- All other keys of locks belong to the home of the transaction that they are in: those of locks on the root, who waits
  for whom, whom to notify, and the counter of fencing tokens. So each section has its own of them.

A transaction with two homes, or at the root, raises :class:`~redicts.errors.Unsupported`, and so does one without a
home that checks or writes. There is one exception: reads of pages at the root. Their answers come section by section,
so together they are no snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, TypeVar

from redicts.core.minitransaction import Key, Path, Transaction
from redicts.errors import Unsupported

_Item = TypeVar("_Item")

ROOT: Final = ""
"""Stands for the root in place of a section: no segment is empty."""

_RECORDS: Final = frozenset("hw")
_AT_HOME: Final = frozenset("ndf")
"""The first letters of the spaces of locks, see :mod:`redicts.core.locks.records`."""


def section_of(key: Key) -> str | None:
    """Return the section of a key, :data:`ROOT` for the root, or ``None`` for a key that any transaction may have."""
    space, path = key
    return _section_at(space, path[0] if path else ROOT)


@lru_cache(maxsize=1024)
def _section_at(space: str, first: str) -> str | None:
    """Return the section of a key whose path begins with a segment, or is empty as the segment is then."""
    kind = space[0]
    if kind in _RECORDS:
        return first[1:] if first[:1] == "/" else None
    return None if kind in _AT_HOME else first


def home_of(transaction: Transaction) -> str | None:
    """Return the section of a transaction, or ``None`` if it has none.

    Raises :class:`~redicts.errors.Unsupported` for the root, for keys in several sections, and for a transaction
    without a section unless it only reads: then nothing is there.
    """
    home: str | None = None
    known_space = known = None
    for part in transaction:
        for item in part:
            # Each request passes here, one for a lock with a dozen checks. Most keys are like the last one.
            space, path = item[0]
            first = path[0] if path else ROOT
            if first == known and space == known_space:
                continue
            known_space, known = space, first
            section = _section_at(space, first)
            if section is not None and section != home:
                if home is not None or not section:
                    keys = [item.key for part in transaction for item in part]
                    raise _spans([found for key in keys if (found := section_of(key)) is not None])
                home = section
    if home is None and (transaction.checks or transaction.writes):
        raise _spans([])
    return home


def refuse_several(paths: Iterable[Path]) -> None:
    """Raise :class:`~redicts.errors.Unsupported` unless all paths are in one section."""
    sections = {path[0] if path else ROOT for path in paths}
    if len(sections) > 1 or ROOT in sections:
        raise _spans(sections)


def is_at_root(transaction: Transaction) -> bool:
    """Tell whether a transaction only reads pages at the root, which may be answered section by section."""
    checks, reads, writes = transaction
    if checks or writes or not reads:
        return False
    return not any([read.key.path or read.limit is None for read in reads])  # noqa: C419  (no generator: it is quicker)


def by_section(items: Iterable[_Item], key_of: Callable[[_Item], Key]) -> list[list[_Item]]:
    """Return items that have a key in one list for each section, so that each list fits into one transaction.

    >>> keys = [Key("v", ("a", "x")), Key("v", ("b",)), Key("v", ("a", "y"))]
    >>> [[key.path for key in part] for part in by_section(keys, lambda key: key)]
    [[('a', 'x'), ('a', 'y')], [('b',)]]
    """
    parts: dict[str | None, list[_Item]] = {}
    for item in items:
        parts.setdefault(section_of(key_of(item)), []).append(item)
    return list(parts.values())


def _spans(found: Iterable[str]) -> Unsupported:
    sections = sorted({*found} - {ROOT})
    if len(sections) < 2:
        where = "the root, which spans all sections,"
    else:
        named = ", ".join([repr(section) for section in sections[:5]])
        more = f" and {len(sections) - 5} more" if len(sections) > 5 else ""
        where = f"the sections {named}{more}"
    return Unsupported(
        f"{where} cannot be read, changed or locked as one: this store keeps sections on different servers; "
        "nothing was done. Use paths below one first segment"
    )
