"""The words that the script is called with, and what its replies mean (see the head of ``script.lua``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from redicts.backends.redis.layout import name_bytes, name_text, path_of, suffix
from redicts.core.transaction import (
    Add,
    Answer,
    AnyRead,
    Check,
    Delete,
    Entries,
    Exactly,
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
    writes = list(_grouped(transaction.writes, prefix))
    words = [b"%d" % len(transaction.checks), b"%d" % len(transaction.reads), b"%d" % len(writes)]
    for check in transaction.checks:
        words += _check(check, prefix)
    for read in transaction.reads:
        words += _read(read, prefix)
    for write in writes:
        words += write
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


def _read(read: AnyRead, prefix: bytes) -> Iterator[bytes]:
    limit = b"" if read.limit is None else b"%d" % read.limit
    pending = [] if read.cursor is None else read.cursor.split(b"\0")
    if isinstance(read, Read):
        yield from (b"r", _hash(read.key, prefix), _SCOPES[read.scope], limit, b"1" if read.lives else b"")
    else:
        yield from (b"n", _hash(read.key, prefix), b"", limit, b"")
    yield b"%d" % len(pending)
    yield from pending


def _life(write: Put) -> bytes:
    if write.keep_life:
        return b"keep"
    return b"" if write.life is None else b"%d" % write.life


def _same_group(one: Write, other: Write) -> bool:
    """Tell whether the script takes two puts as one: into the same dict, with the same life."""
    return (
        isinstance(one, Put)
        and isinstance(other, Put)
        and one.life == other.life
        and one.keep_life == other.keep_life
        and one.key.space == other.key.space
        and one.key.path[:-1] == other.key.path[:-1]
    )


def _groups(writes: tuple[Write, ...]) -> Iterator[tuple[Write, ...]]:
    start = 0
    for index in range(1, len(writes) + 1):
        if index == len(writes) or not _same_group(writes[start], writes[index]):
            yield writes[start:index]
            start = index


def _grouped(writes: tuple[Write, ...], prefix: bytes) -> Iterator[list[bytes]]:
    for group in _groups(writes):
        write = group[0]
        if isinstance(write, Put):
            items = {name_bytes(put.key.path[-1]): put.value for put in group if isinstance(put, Put)}
            parent = Key(write.key.space, write.key.path[:-1])
            words = [b"p", _hash(parent, prefix), _life(write), b"%d" % len(items)]
            for item in items.items():
                words += item
            yield words
        elif isinstance(write, Delete):
            yield [b"d", _hash(write.key, prefix), _SCOPES[write.scope]]
        elif isinstance(write, Add):
            yield [b"a", _hash(write.key, prefix), b"%d" % write.amount]
        else:
            life = b"" if write.life is None else b"%d" % write.life
            yield [b"e", _hash(write.key, prefix), _SCOPES[write.scope], life]


def _index_of_write(writes: tuple[Write, ...], group: int) -> int:
    return sum(len(members) for index, members in enumerate(_groups(writes)) if index < group)


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
