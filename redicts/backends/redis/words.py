"""The words that the script is called with, and what its replies mean (see the head of ``script.lua``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final, cast

from redicts.backends.redis.layout import name_bytes, name_text, path_of, suffix
from redicts.core.transaction import (
    Add,
    Answer,
    AnyRead,
    Check,
    Delete,
    Entries,
    Exactly,
    Expire,
    Key,
    Names,
    Outcome,
    Path,
    Put,
    Read,
    Scope,
    Transaction,
    Verdict,
    Write,
)
from redicts.errors import InternalError

_SCOPES: Final = {Scope.NODE: b"=", Scope.BELOW: b">", Scope.SUBTREE: b"*"}
_VERDICTS: Final = {
    b"+": Verdict.APPLIED,
    b"!": Verdict.CHECK_FAILED,
    b"#": Verdict.NOT_A_COUNTER,
    b"L": Verdict.TOO_LARGE,
}


def words_for(transaction: Transaction, prefix: bytes) -> list[bytes]:
    """Return the words that say a transaction, the names of its keys beginning with this prefix."""
    groups = _groups(transaction.writes)
    groups = groups[_implied(groups) :]
    if not transaction.checks and not transaction.reads and _is_store(groups):
        return [b"0", b"0", b"1", *_store(cast("Put", groups[1][0]), prefix)]
    words = [b"%d" % len(transaction.checks), b"%d" % len(transaction.reads), b"%d" % len(groups)]
    for check in transaction.checks:
        words += _check(check, prefix)
    for read in transaction.reads:
        words += _read(read, prefix)
    for group in groups:
        words += _write(group, prefix)
    return words


def outcome_of(reply: Sequence[Any], transaction: Transaction) -> Outcome:
    """Return what a reply with one of the four verdicts means for this transaction."""
    verdict = _VERDICTS[reply[0]]
    if verdict is Verdict.TOO_LARGE:
        return Outcome(verdict)
    answers = tuple([_answer(read, answer) for read, answer in zip(transaction.reads, reply[2:])])
    if verdict is Verdict.APPLIED:
        return Outcome(verdict, answers, tuple([int(total) for total in reply[2 + len(answers) :]]))
    culprit = int(reply[1]) - 1
    if verdict is Verdict.NOT_A_COUNTER:
        culprit = _index_of_write(transaction.writes, culprit)
    return Outcome(verdict, answers, culprit=culprit)


def unpacked(data: bytes) -> list[Any]:
    """Return a reply that the script kept in its lane: ``s<bytes>:...`` is text, ``l<items>:...`` a list."""

    def item(position: int) -> tuple[Any, int]:
        colon = data.index(b":", position)
        size = int(data[position + 1 : colon])
        if data[position : position + 1] == b"s":
            return data[colon + 1 : colon + 1 + size], colon + 1 + size
        items = []
        position = colon + 1
        for _ in range(size):
            inner, position = item(position)
            items.append(inner)
        return items, position

    reply, end = item(0)
    if end != len(data) or not isinstance(reply, list):
        raise InternalError("the record of a lane is damaged")
    return reply


def _hash(key: Key, prefix: bytes) -> bytes:
    return prefix + key.space.encode() + b":" + suffix(key.path)


def _check(check: Check, prefix: bytes) -> Iterator[bytes]:
    if not isinstance(check, Exactly):
        yield from (b"^", _hash(check.key, prefix), _SCOPES[check.scope], check.prefix)
        return
    yield from (b"=", _hash(check.key, prefix), _SCOPES[check.scope], b"%d" % len(check.entries))
    for path, value in check.entries.items():
        if path:
            yield from (suffix(path[:-1]), name_bytes(path[-1]), value)
        else:
            yield from (b"=", b"", value)


def _read(read: AnyRead, prefix: bytes) -> list[bytes]:
    limit = b"" if read.limit is None else b"%d" % read.limit
    pending = [] if read.cursor is None else read.cursor.split(b"\0")
    scope, lives = (_SCOPES[read.scope], b"1" if read.lives else b"") if isinstance(read, Read) else (b"", b"")
    kind = b"r" if isinstance(read, Read) else b"n"
    return [kind, _hash(read.key, prefix), scope, limit, lives, b"%d" % len(pending), *pending]


def _kin(write: Write) -> tuple[object, ...]:
    """Return what successive writes must share to be one to the script: they speak of names of one dict alike."""
    if isinstance(write, Put):
        (space, path), _, life, keep_life = write
        return Put, space, path[:-1], life, keep_life
    space, path = write.key
    if isinstance(write, Delete) and write.scope is Scope.NODE:
        return Delete, space, path[:-1]
    if isinstance(write, Expire) and write.scope is Scope.NODE:
        return Expire, space, path[:-1], write.life
    return (id(write),)


def _groups(writes: tuple[Write, ...]) -> list[list[Write]]:
    groups: list[list[Write]] = []
    group: list[Write] = []
    kin: tuple[object, ...] = ()
    for write in writes:
        other = _kin(write)
        if other != kin:
            kin, group = other, []
            groups.append(group)
        group.append(write)
    return groups


def _write(group: list[Write], prefix: bytes) -> list[bytes]:
    write = group[0]
    if isinstance(write, Add):
        return [b"a", _hash(write.key, prefix), b"%d" % write.amount]
    if not isinstance(write, Put) and write.scope is not Scope.NODE:
        said = [_hash(write.key, prefix), _SCOPES[write.scope]]
        return [b"d", *said] if isinstance(write, Delete) else [b"e", *said, _life(write)]
    parent = _hash(Key(write.key.space, write.key.path[:-1]), prefix)
    if isinstance(write, Put):
        items = {name_bytes(path[-1]): value for (_, path), value, _, _ in cast("list[Put]", group)}
        return [b"p", parent, _life(write), b"%d" % len(items), *chain.from_iterable(items.items())]
    names = [name_bytes(other.key.path[-1]) for other in group if other.key.path]
    said = [b"x", parent] if isinstance(write, Delete) else [b"l", parent, _life(write)]
    return [*said, b"%d" % len(names), *names]


def _life(write: Put | Expire) -> bytes:
    if isinstance(write, Put) and write.keep_life:
        return b"keep"
    return b"" if write.life is None else b"%d" % write.life


def _implied(groups: list[list[Write]]) -> int:
    """Return how many of the first groups need not be said: removals of what is above all that is written then.

    A leaf above gives way to the marker of the dict that it becomes, so that a value can be put or counted below.
    """
    last = groups[-1][-1] if groups else None
    if not isinstance(last, (Put, Add)):
        return 0
    above: Path = ()
    for index, group in enumerate(groups):
        write = group[0]
        space, path = write.key
        is_next = isinstance(write, Delete) and write.scope is Scope.NODE and len(group) == 1
        if not is_next or path[:-1] != above or space != last.key.space:
            depth = len(above)
            # Writes of one group speak of names of one dict, so its first one stands for all.
            below = [group[0].key for group in groups[index:]]
            return index if all(len(key.path) > depth and key.path[:depth] == above for key in below) else 0
        above = path
    return 0


def _is_store(groups: list[list[Write]]) -> bool:
    """Tell whether the writes put one value and remove what is below: what storing one leaf comes down to."""
    if len(groups) != 2 or len(groups[1]) != 1:
        return False
    (one, *_), (other,) = groups
    return isinstance(other, Put) and isinstance(one, Delete) and one.scope is Scope.BELOW and one.key == other.key


def _store(put: Put, prefix: bytes) -> list[bytes]:
    return [b"s", _hash(put.key, prefix), _life(put), put.value]


def _index_of_write(writes: tuple[Write, ...], said: int) -> int:
    groups = _groups(writes)
    return sum(len(group) for group in groups[: _implied(groups) + said])


def _answer(read: AnyRead, answer: Sequence[Any]) -> Answer:
    cursor: bytes | None = answer[0] or None
    if not isinstance(read, Read):
        return Names(tuple([name_text(name) for name in answer[1]]), cursor)
    if len(answer) == 4 and answer[1] == b"=":
        return Entries({(): answer[2]}, {(): int(answer[3])} if answer[3] != b"" else {})
    values: dict[Path, bytes] = {}
    lives: dict[Path, int] = {}
    for index in range(1, len(answer), 3):
        where, items, mortal = answer[index : index + 3]
        above = path_of(where)
        values.update({(*above, name_text(name)): value for name, value in zip(items[::2], items[1::2])})
        lives.update({(*above, name_text(name)): int(life) for name, life in zip(mortal[::2], mortal[1::2])})
    return Entries(values, lives, cursor)
