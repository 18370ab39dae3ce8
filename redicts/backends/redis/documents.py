"""Documents on Redis: dicts stored whole in one field, and their split, which the client computes.

A document stays whole until a transaction needs a part of it: a check of its leaves, or a change. Then the script
answers with the document that is in the way and changes nothing. This process splits it into the items of the dicts
that the transaction enters, and sends these back on condition that the document is still there. The split changes no
value, so it may happen any number of times, and the transaction is sent again afterwards. The script parses no JSON:
Redis's parser for Lua loses digits.

An item that is not entered stays a document. So a change of one leaf costs time in proportion to the document once, and
the dict is still read in few fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from redicts.core.documents import MOST_BYTES, DocumentLeaves, items_in, leaves_in
from redicts.core.minitransaction import (
    RECORDS,
    SMALL_PAGE,
    Delete,
    Entries,
    Key,
    Names,
    Notify,
    Path,
    Put,
    PutDocument,
    Scope,
    Transaction,
    Write,
)

MARK: Final = b"\x05"
"""The first byte of a document. 16 digits of its deadline follow, zeros for none, then 4 of the number of leaves."""

_BEFORE: Final = 21
_OBJECT: Final = b'{"'


class Whole(NamedTuple):
    """A document as a field holds it; the deadline is in milliseconds since the epoch, 0 for none."""

    deadline: int
    text: bytes


def opened(field: bytes) -> Whole:
    """Return the document in a field."""
    return Whole(int(field[1:17]), field[_BEFORE:])


def _count(text: bytes) -> int:
    """Count the leaves of a document, without parsing it if it has neither escapes nor dicts in lists."""
    if b'\\"' in text or b'[{"' in text or b',{"' in text:
        return len(leaves_in(text))
    return text.count(b'":') - text.count(b'":{"')


def _field_of(text: bytes) -> bytes | None:
    """Return the field of a document without a TTL, or ``None`` if it is too large for one.

    As a field it has no more leaves than the smallest page, so each page of a read has room for it.
    """
    if len(text) > MOST_BYTES:
        return None
    count = _count(text)
    return b"%b%016d%04d%b" % (MARK, 0, count, text) if count <= SMALL_PAGE else None


# Writing ----------------------------------------------------------------------------------------------------------


def in_fields(transaction: Transaction) -> tuple[Transaction, list[int]]:
    """Return a transaction whose documents are as a field holds them, and for each write the index of the given one.

    A document is split if it is too large for a field or in a record space, or if
    a later write enters or reads it.
    """
    writes = transaction.writes
    *others, last = writes
    if isinstance(last, PutDocument) and PutDocument not in map(type, others):
        planned = [[write] for write in others] + [_in_fields(last, last.key.space[:1] in RECORDS)]
        return _joined(transaction, planned)
    planned = []
    entered: set[Key] = set()
    read: set[str] = set()
    for write in reversed(writes):
        if isinstance(write, PutDocument):
            space = write.key.space
            planned.append(_in_fields(write, write.key in entered or space in read or space[:1] in RECORDS))
        else:
            planned.append([write])
        if isinstance(write, Notify):
            read.add(write.key.space)
        space, path = write.key
        entered.update([Key(space, path[:depth]) for depth in range(1, len(path) + 1)])
    planned.reverse()
    return _joined(transaction, planned)


def _joined(transaction: Transaction, planned: list[list[Write]]) -> tuple[Transaction, list[int]]:
    writes = tuple([each for some in planned for each in some])
    return transaction._replace(writes=writes), [index for index, some in enumerate(planned) for _ in some]


def _in_fields(write: PutDocument, is_entered: bool) -> list[Write]:
    (space, path), text, ttl = write
    field = None if is_entered else _field_of(text)
    if field is not None:
        return [PutDocument(write.key, field, ttl)]
    parts: list[Write] = [Delete(write.key, Scope.SUBTREE)]
    if is_entered:
        return parts + [Put(Key(space, path + below), leaf, ttl) for below, leaf in leaves_in(text).items()]
    pending = [(path, text)]
    while pending:
        at, whole = pending.pop()
        for name, item in items_in(whole).items():
            key = Key(space, (*at, name))
            if not item.startswith(_OBJECT):
                parts.append(Put(key, item, ttl))
                continue
            field = _field_of(item)
            if field is None:
                pending.append((key.path, item))
            else:
                parts.append(PutDocument(key, field, ttl))
    return parts


# Splitting --------------------------------------------------------------------------------------------------------


def split(document: Whole, key: Key, transaction: Transaction) -> dict[Path, dict[str, bytes | None]]:
    """Split the document at a key as far as a transaction enters it.

    Returns the dicts by relative path, each with its items by name: fields, or ``None`` for a further one of the dicts.
    """
    entered, whole = _entered(key, transaction)
    dicts: dict[Path, dict[str, bytes | None]] = {}
    pending: list[tuple[Path, bytes]] = [((), document.text)]
    while pending:
        at, text = pending.pop()
        items: dict[str, bytes | None] = {}
        for name, item in items_in(text).items():
            path = (*at, name)
            if not item.startswith(_OBJECT):
                items[name] = b"\x02%016d%b" % (document.deadline, item) if document.deadline else item
            elif path in entered or any(path[: len(top)] == top for top in whole):
                items[name] = None
                pending.append((path, item))
            else:
                items[name] = b"%b%016d%04d%b" % (MARK, document.deadline, _count(item), item)
        dicts[at] = items
    return dicts


def _entered(key: Key, transaction: Transaction) -> tuple[set[Path], list[Path]]:
    """Return the relative paths of the dicts that a transaction enters, and of those that it needs leaf by leaf."""
    entered: set[Path] = set()
    whole: list[Path] = []
    depth = len(key.path)
    needed: Iterable[tuple[Key, bool]] = [
        *[(check.key, check.scope is not Scope.NODE) for check in transaction.checks],
        *[(write.key, isinstance(write, Notify)) for write in transaction.writes],
    ]
    for (space, path), all_below in needed:
        if space != key.space:
            continue
        if path[:depth] == key.path:
            below = path[depth:]
            entered.update([below[:length] for length in range(len(below) + all_below)])
            if all_below:
                whole.append(below)
        elif all_below and key.path[: len(path)] == path:
            whole.append(())
    return entered, whole


# Reading ----------------------------------------------------------------------------------------------------------


def entries_in(
    texts: Mapping[Path, bytes], documents: Mapping[Path, int], ttls: dict[Path, int], cursor: bytes | None = None
) -> Entries:
    """Return the answer that consists of leaves with their TTLs, and of documents: 0 or the TTL of each by path."""
    for path, ttl in documents.items():
        if ttl:
            found = DocumentLeaves({path: texts[path]}, (path,))
            ttls.update(dict.fromkeys(found, ttl))
    return Entries(DocumentLeaves(texts, documents.keys()) if documents else texts, ttls, cursor)


class Part(DocumentLeaves):
    """Leaves of a document that is so many segments above the path that was read."""

    __slots__ = ("above",)

    def __init__(self, leaves: Mapping[Path, bytes], above: int) -> None:
        super().__init__(leaves, ())
        self.above: Final = above


def part_of(text: bytes, ttl: int, below: Path, scope: Scope) -> Entries:
    """Return the leaves of a document in a scope at a path below it, each with its TTL unless that is 0."""
    leaves = within(text, below, scope)
    return Entries(Part(leaves, len(below)), dict.fromkeys(leaves, ttl) if ttl else {})


def within(text: bytes, below: Path, scope: Scope) -> dict[Path, bytes]:
    """Return the leaves of a document in a scope at a path below it."""
    leaves = DocumentLeaves({(): text}, ((),))
    depth = len(below)
    return {path[depth:]: leaf for path, leaf in leaves.items() if path[:depth] == below and scope.covers(path[depth:])}


def names_within(text: bytes, below: Path) -> Names:
    """Return the names directly below a path in a document."""
    return Names(tuple(dict.fromkeys([path[0] for path in within(text, below, Scope.BELOW)])))
