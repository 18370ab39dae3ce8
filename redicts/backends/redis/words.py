"""The words that the script is called with, and what its replies mean (see the head of ``script.lua``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, cast

from redicts.backends.redis.layout import HashNames, name_bytes, name_text, path_of, suffix
from redicts.core.transaction import (
    Add,
    Answer,
    AnyRead,
    Check,
    Delete,
    Entries,
    Expire,
    Key,
    Names,
    Outcome,
    Path,
    Prefixed,
    Put,
    PutDocument,
    Read,
    Scope,
    Transaction,
    Verdict,
    Wake,
    Write,
)
from redicts.errors import InternalError, Unsupported

_SHORT: Final = 256
_SIZES: Final = [b"$%d" % size for size in range(_SHORT)]
_NUMBERS: Final = [b"%d" % number for number in range(_SHORT)]
"""What goes before short words, and small counts, made once: to format forty takes longer than to join them."""

_FEW_CHECKS: Final = 4
_MOST_KEPT: Final = 256
_LONGEST_KEPT: Final = 2_000
"""How many checks are remembered, from how many on, and how many bytes they may have."""

_NODE: Final = Scope.NODE
_BELOW: Final = Scope.BELOW
_VERDICTS: Final = {
    b"+": Verdict.APPLIED,
    b"!": Verdict.CHECK_FAILED,
    b"#": Verdict.NOT_A_COUNTER,
    b"L": Verdict.TOO_LARGE,
}


class Checks(NamedTuple):
    """The words of checks: how many checks they are to the script, how many words, and these, packed."""

    number: int
    words: int
    packed: bytes


_NO_CHECKS: Final = Checks(0, 0, b"")


class Request(NamedTuple):
    """The words that say a transaction: three counts, checks, and then reads and writes."""

    counts: list[bytes]
    checks: Checks
    rest: list[bytes]

    def after(self, words: list[bytes]) -> tuple[int, bytes]:
        """Return how many words there are with some that go before, and all of them, packed."""
        packed_words = packed([*words, *self.counts]) + self.checks.packed
        if self.rest:
            packed_words += packed(self.rest)
        return len(words) + len(self.counts) + self.checks.words + len(self.rest), packed_words


class Speaker:
    """Says transactions to the script of one database; ``channels`` is what the names of channels begin with.

    It remembers how it said checks: every request for one lock brings the same dozen, and to say them takes longer than
    everything else.
    """

    __slots__ = ("_channels", "_known", "_names")

    def __init__(self, names: HashNames, channels: bytes) -> None:
        self._names = names
        self._channels = channels
        self._known: dict[int, tuple[tuple[Check, ...], Checks]] = {}

    def say(self, transaction: Transaction) -> Request:
        """Return the words that say a transaction."""
        checks, reads, writes = transaction
        names = self._names
        said = self._checks(checks) if checks else _NO_CHECKS
        rest: list[bytes] = []
        for read in reads:
            rest += _read(read, names)
        if _are_apart(writes):
            for write in writes:
                rest += _wake(write, names, self._channels) if isinstance(write, Wake) else _write((write,), names)
            return Request([_number(said.number), _number(len(reads)), _number(len(writes))], said, rest)
        groups = _groups(writes)
        groups = groups[_implied(groups) :]
        if _is_store(groups):
            rest += _store(cast("Put", groups[1][0]), names)
            return Request([_number(said.number), _number(len(reads)), b"1"], said, rest)
        for group in groups:
            rest += _wake(group[0], names, self._channels) if isinstance(group[0], Wake) else _write(group, names)
        return Request([_number(said.number), _number(len(reads)), _number(len(groups))], said, rest)

    def _checks(self, checks: tuple[Check, ...]) -> Checks:
        # By identity, for to compare them takes as long as to say them. What is known is kept, so none takes its place.
        known = self._known.get(id(checks))
        if known is not None:
            return known[1]
        number, words = _checks(checks, self._names)
        said = Checks(number, len(words), packed(words))
        if len(checks) >= _FEW_CHECKS and len(said.packed) <= _LONGEST_KEPT:
            if len(self._known) >= _MOST_KEPT:
                self._known.clear()
            self._known[id(checks)] = checks, said
        return said


def packed(words: list[bytes]) -> bytes:
    """Return words as the protocol of Redis has them, each after its length."""
    sizes = list(map(len, words))
    if max(sizes) < _SHORT:
        heads: Iterable[bytes] = map(_SIZES.__getitem__, sizes)
    else:
        heads = [b"$%d" % size for size in sizes]
    return b"\r\n".join([*chain.from_iterable(zip(heads, words)), b""])


def _number(number: int) -> bytes:
    return _NUMBERS[number] if number < _SHORT else b"%d" % number


def _are_apart(writes: tuple[Write, ...]) -> bool:
    """Tell whether each write is one to the script: so are two of different kinds, but for a removal and a put."""
    if len(writes) < 2:
        return True
    if len(writes) > 2:
        return False
    one, other = writes
    return type(one) is not type(other) and (isinstance(other, Wake) or not isinstance(one, Delete))


def outcome_of(reply: Sequence[Any], transaction: Transaction) -> Outcome:
    """Return what a reply with one of the four verdicts means for this transaction."""
    verdict = _VERDICTS[reply[0]]
    if verdict is Verdict.TOO_LARGE:
        return Outcome(verdict)
    reads = transaction.reads
    answers = tuple(map(_answer, reads, reply[2:])) if reads else ()
    if verdict is Verdict.APPLIED:
        sums = reply[2 + len(answers) :]
        return Outcome(verdict, answers, tuple(map(int, sums)) if sums else ())
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


def _scope(scope: Scope) -> bytes:
    # Not by a dict: the hash of an Enum's member is computed in Python, each time.
    return b"=" if scope is _NODE else b">" if scope is _BELOW else b"*"


def _checks(checks: tuple[Check, ...], names: HashNames) -> tuple[int, list[bytes]]:
    """Return how many checks there are to the script, and their words: one of its checks is of several keys."""
    said = 0
    words: list[bytes] = []
    alike: tuple[Scope, bytes] | None = None
    for check in checks:
        if isinstance(check, Prefixed):
            key, scope, start = check
            if alike is None or start != alike[1] or scope is not alike[0]:
                alike, counted, keys = (scope, start), len(words) + 2, 0
                words += (b"^", _scope(scope), b"", start)
                said += 1
            keys += 1
            words[counted] = b"%d" % keys
            words.append(names(key))
        else:
            alike = None
            said += 1
            if check.scope is _NODE and check.key.path and len(check.entries) == 1 and () in check.entries:
                words += (b"f", *_field(check.key, names), check.entries[()])
                continue
            words += (b"=", _scope(check.scope), b"%d" % len(check.entries), names(check.key))
            for path, value in check.entries.items():
                words += (suffix(path[:-1]), name_bytes(path[-1]), value) if path else (b"=", b"", value)
    return said, words


def _read(read: AnyRead, names: HashNames) -> list[bytes]:
    if isinstance(read, Read) and read.scope is _NODE and read.key.path and read.cursor is None:
        return [b"f", *_field(read.key, names), b"1" if read.lives else b""]
    limit = b"" if read.limit is None else b"%d" % read.limit
    pending = [] if read.cursor is None else read.cursor.split(b"\0")
    scope, lives = (_scope(read.scope), b"1" if read.lives else b"") if isinstance(read, Read) else (b"", b"")
    kind = b"r" if isinstance(read, Read) else b"n"
    return [kind, names(read.key), scope, limit, lives, b"%d" % len(pending), *pending]


def _field(key: Key, names: HashNames) -> tuple[bytes, bytes]:
    """Return the hash that a value lies in, and its name there: most values have neighbours, so the hash is known."""
    return names(Key(key.space, key.path[:-1])), name_bytes(key.path[-1])


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


def _write(group: Sequence[Write], names: HashNames) -> list[bytes]:
    write = group[0]
    assert not isinstance(write, Wake)  # words_for says those itself
    if isinstance(write, PutDocument):
        raise Unsupported("Redis keeps no documents; put their leaves")
    if isinstance(write, Add):
        return [b"a", names(write.key), b"%d" % write.amount]
    if not isinstance(write, Put) and write.scope is not Scope.NODE:
        said = [names(write.key), _scope(write.scope)]
        return [b"d", *said] if isinstance(write, Delete) else [b"e", *said, _life(write)]
    if isinstance(write, Put) and len(group) == 1:
        parent, name = _field(write.key, names)
        return [b"p", parent, _life(write), b"1", name, write.value]
    parent = names(Key(write.key.space, write.key.path[:-1]))
    if isinstance(write, Put):
        items = {name_bytes(path[-1]): value for (_, path), value, _, _ in cast("list[Put]", group)}
        return [b"p", parent, _life(write), b"%d" % len(items), *chain.from_iterable(items.items())]
    removed = [name_bytes(other.key.path[-1]) for other in group if other.key.path]
    said = [b"x", parent] if isinstance(write, Delete) else [b"l", parent, _life(write)]
    return [*said, b"%d" % len(removed), *removed]


def _wake(write: Wake, names: HashNames, channels: bytes) -> list[bytes]:
    return [b"w", names(write.key), _scope(write.scope), channels]


def _life(write: Put | Expire) -> bytes:
    if isinstance(write, Put) and write.keep_life:
        return b"keep"
    return b"" if write.life is None else b"%d" % write.life


def _implied(groups: list[list[Write]]) -> int:
    """Return how many of the first groups need not be said: removals of what is above all that is written then.

    A leaf above gives way to the marker of the dict that it becomes, so that a value can be put or counted below.
    """
    last = groups[-1][-1] if groups else None
    if not isinstance(last, (Put, Add)) or not isinstance(groups[0][0], Delete):
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


def _store(put: Put, names: HashNames) -> list[bytes]:
    return [b"s", names(put.key), _life(put), put.value]


def _index_of_write(writes: tuple[Write, ...], said: int) -> int:
    if _are_apart(writes):
        return said
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
