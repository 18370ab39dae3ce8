"""The words that the script is called with, and what its replies mean (see the head of ``script.lua``).

A word is *packed* when it is made: it stands after its length, as the protocol of Redis has it. So most words are made
once, and to say a request is to join them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain
from typing import Any, Final, cast

from redicts.backends.redis.layout import hash_name, name_bytes, name_text, path_of, suffix
from redicts.core.minitransaction import (
    Add,
    Answer,
    AnyRead,
    Check,
    Delete,
    Entries,
    Expire,
    Key,
    Names,
    Notify,
    Outcome,
    Path,
    Put,
    PutDocument,
    Read,
    Scope,
    StartsWith,
    Status,
    Transaction,
    Write,
)
from redicts.errors import InternalError, Unsupported

_SHORT: Final = 256
_HEADS: Final = [b"$%d\r\n" % size for size in range(_SHORT)]
"""What goes before short texts, made once: to format a number takes longer than to join."""


def word(text: bytes) -> bytes:
    """Return a text as a word."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


def words_of(texts: Collection[bytes]) -> list[bytes]:
    """Return texts as words."""
    if max(map(len, texts), default=0) < _SHORT:
        return [_HEADS[len(text)] + text + b"\r\n" for text in texts]
    return [word(text) for text in texts]


_EMPTY: Final = word(b"")
_ONE: Final = word(b"1")
_KEEP: Final = word(b"keep")
_AT: Final = word(b"=")
_BELOW: Final = word(b">")
_AT_AND_BELOW: Final = word(b"*")
_FIELD: Final = word(b"f")
_VALUES: Final = word(b"r")
_NAMES: Final = word(b"n")
_PUT: Final = word(b"p")
_ADD: Final = word(b"a")
_REMOVE: Final = word(b"x")
_NOTIFY: Final = word(b"w")
_NUMBERS: Final = [word(b"%d" % number) for number in range(_SHORT)]

_FEW_CHECKS: Final = 4
_MOST_KEPT: Final = 256
_LONGEST_KEPT: Final = 2_000
"""How many checks are remembered, from how many on, and how many bytes they may have."""

_NODE: Final = Scope.NODE
_APPLIED: Final = Status.APPLIED
_STATUSES: Final = {
    b"+": _APPLIED,
    b"!": Status.CHECK_FAILED,
    b"#": Status.NOT_A_COUNTER,
    b"L": Status.TOO_LARGE,
}

_Checks = tuple[int, list[bytes]]
"""How many checks there are to the script, and the words that say them: one of its checks is of several keys."""

_NO_CHECKS: Final[_Checks] = (0, [])

_MOST_NAMES: Final = 2_000
_LONGEST_NAME: Final = 200
"""How many names of hashes are remembered, and how many bytes their words may have."""


class HashNames(dict[tuple[str, Path], bytes]):
    """The words that name the hash of what lies directly below a key, by key.

    Short names are remembered, a bounded number of them: every request for a lock speaks of the same keys above it, and
    to spell out half a dozen takes longer than the server takes to look at them.
    """

    def __init__(self, prefix: bytes) -> None:
        super().__init__()
        self._prefix = prefix

    def __missing__(self, key: tuple[str, Path]) -> bytes:
        name = word(hash_name(self._prefix, *key))
        if len(name) <= _LONGEST_NAME:
            if len(self) >= _MOST_NAMES:
                self.clear()
            self[key] = name
        return name


class Encoder:
    """Says transactions to the script of one database; ``channels`` is what the names of channels begin with.

    It remembers how it said checks: every request for one lock brings the same dozen, and to say them takes longer than
    everything else.
    """

    __slots__ = ("_channels", "_known", "_names")

    def __init__(self, names: HashNames, channels: bytes) -> None:
        self._names = names
        self._channels = word(channels)
        self._known: dict[int, tuple[tuple[Check, ...], _Checks]] = {}

    def say(self, transaction: Transaction) -> list[bytes]:
        """Return the words that say a transaction: three counts, and then checks, reads and writes."""
        writes = transaction.writes
        if _are_apart(writes):
            words = self._beginning(transaction, len(writes))
            for write in writes:
                words += _write((write,), self._names, self._channels)
            return words
        groups = _groups(writes)
        groups = groups[_implied(groups) :]
        if _is_store(groups):
            return [*self._beginning(transaction, 1), *_store(cast("Put", groups[1][0]), self._names)]
        words = self._beginning(transaction, len(groups))
        for group in groups:
            words += _write(group, self._names, self._channels)
        return words

    def _beginning(self, transaction: Transaction, writes: int) -> list[bytes]:
        """Return the words up to the writes, of which there are so many to the script."""
        checks, reads, _ = transaction
        number, said = self._checks(checks) if checks else _NO_CHECKS
        words = [_number(number), _number(len(reads)), _number(writes), *said]
        for read in reads:
            words += _read(read, self._names)
        return words

    def _checks(self, checks: tuple[Check, ...]) -> _Checks:
        # By identity, for to compare them takes as long as to say them. What is known is kept, so none takes its place.
        known = self._known.get(id(checks))
        if known is not None:
            return known[1]
        said = _checks(checks, self._names)
        if len(checks) >= _FEW_CHECKS and sum(map(len, said[1])) <= _LONGEST_KEPT:
            if len(self._known) >= _MOST_KEPT:
                self._known.clear()
            self._known[id(checks)] = checks, said
        return said


def _number(number: int) -> bytes:
    return _NUMBERS[number] if 0 <= number < _SHORT else word(b"%d" % number)


def _are_apart(writes: tuple[Write, ...]) -> bool:
    """Tell whether each write is one to the script: so are two of different kinds, but for a removal and a put."""
    if len(writes) < 2:
        return True
    if len(writes) > 2:
        return False
    one, other = writes
    return type(one) is not type(other) and (isinstance(other, Notify) or not isinstance(one, Delete))


def outcome_of(reply: Sequence[Any], transaction: Transaction) -> Outcome:
    """Return what a reply with one of the four statuses means for this transaction."""
    status = _STATUSES[reply[0]]
    reads = transaction.reads
    answers = tuple(map(_answer, reads, reply[2:])) if reads else ()
    if status is _APPLIED:
        counters = reply[2 + len(answers) :]
        return Outcome(status, answers, tuple(map(int, counters)) if counters else ())
    if status is Status.TOO_LARGE:
        return Outcome(status)
    failed_index = int(reply[1]) - 1
    if status is Status.NOT_A_COUNTER:
        failed_index = _index_of_write(transaction.writes, failed_index)
    return Outcome(status, answers, failed_index=failed_index)


def unpacked(data: bytes) -> list[Any]:
    """Return a reply that the script kept in its session: ``s<bytes>:...`` is text, ``l<items>:...`` a list."""

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
        raise InternalError("the record of a session is damaged")
    return reply


def _scope(scope: Scope) -> bytes:
    # Not by a dict: the hash of an Enum's member is computed in Python, each time.
    return _AT if scope is _NODE else _BELOW if scope is Scope.BELOW else _AT_AND_BELOW


def _checks(checks: tuple[Check, ...], names: HashNames) -> _Checks:
    said = 0
    words: list[bytes] = []
    alike: tuple[Scope, bytes] | None = None
    for check in checks:
        if isinstance(check, StartsWith):
            key, scope, start = check
            if alike is None or start != alike[1] or scope is not alike[0]:
                alike, counted, keys = (scope, start), len(words) + 2, 0
                words += (word(b"^"), _scope(scope), _EMPTY, word(start))
                said += 1
            keys += 1
            words[counted] = _number(keys)
            words.append(names[key])
        else:
            alike = None
            said += 1
            if check.scope is _NODE and check.key.path and len(check.entries) == 1 and () in check.entries:
                words += (_FIELD, *_field(check.key, names), word(check.entries[()]))
                continue
            words += (word(b"="), _scope(check.scope), _number(len(check.entries)), names[check.key])
            for path, value in check.entries.items():
                where = (word(suffix(path[:-1])), word(name_bytes(path[-1]))) if path else (word(b"="), _EMPTY)
                words += (*where, word(value))
    return said, words


def _read(read: AnyRead, names: HashNames) -> tuple[bytes, ...]:
    if isinstance(read, Read) and read.scope is _NODE and read.key.path and read.cursor is None:
        return _FIELD, *_field(read.key, names), _ONE if read.ttls else _EMPTY
    limit = _EMPTY if read.limit is None else _number(read.limit)
    pending = [] if read.cursor is None else words_of(read.cursor.split(b"\0"))
    kind, scope, ttls = _NAMES, _EMPTY, _EMPTY
    if isinstance(read, Read):
        kind, scope, ttls = _VALUES, _scope(read.scope), _ONE if read.ttls else _EMPTY
    return kind, names[read.key], scope, limit, ttls, _number(len(pending)), *pending


def _field(key: Key, names: HashNames) -> tuple[bytes, bytes]:
    """Return the hash that a value lies in, and its name there: most values have neighbours, so the hash is known."""
    space, path = key
    return names[space, path[:-1]], word(name_bytes(path[-1]))


def _kin(write: Write) -> tuple[object, ...]:
    """Return what successive writes must share to be one to the script: they speak of names of one dict alike."""
    if isinstance(write, Put):
        (space, path), _, ttl, keep_ttl = write
        return Put, space, path[:-1], ttl, keep_ttl
    space, path = write.key
    if isinstance(write, Delete) and write.scope is Scope.NODE:
        return Delete, space, path[:-1]
    if isinstance(write, Expire) and write.scope is Scope.NODE:
        return Expire, space, path[:-1], write.ttl
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


def _write(group: Sequence[Write], names: HashNames, channels: bytes) -> tuple[bytes, ...]:
    write = group[0]
    if isinstance(write, Put):
        parent, name = _field(write.key, names)
        if len(group) == 1:
            return _PUT, parent, _ttl(write), _ONE, name, word(write.value)
        items = {name_bytes(path[-1]): value for (_, path), value, _, _ in cast("list[Put]", group)}
        leaves = words_of(list(chain.from_iterable(items.items())))
        return _PUT, parent, _ttl(write), _number(len(items)), *leaves
    if isinstance(write, Add):
        return _ADD, names[write.key], _number(write.amount)
    if isinstance(write, Notify):
        return _NOTIFY, names[write.key], _scope(write.scope), channels
    if isinstance(write, PutDocument):
        raise Unsupported("Redis keeps no documents; put their leaves")
    if write.scope is not _NODE:
        below = names[write.key], _scope(write.scope)
        return (word(b"d"), *below) if isinstance(write, Delete) else (word(b"e"), *below, _ttl(write))
    parent = names[write.key.space, write.key.path[:-1]]
    changed = [word(name_bytes(other.key.path[-1])) for other in group if other.key.path]
    if isinstance(write, Delete):
        return _REMOVE, parent, _number(len(changed)), *changed
    return word(b"l"), parent, _ttl(write), _number(len(changed)), *changed


def _ttl(write: Put | Expire) -> bytes:
    if isinstance(write, Put) and write.keep_ttl:
        return _KEEP
    return _EMPTY if write.ttl is None else _number(write.ttl)


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


def _store(put: Put, names: HashNames) -> tuple[bytes, ...]:
    return word(b"s"), names[put.key], _ttl(put), word(put.value)


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
    ttls: dict[Path, int] = {}
    for index in range(1, len(answer), 3):
        where, items, mortal = answer[index : index + 3]
        above = path_of(where)
        values.update({(*above, name_text(name)): value for name, value in zip(items[::2], items[1::2])})
        ttls.update({(*above, name_text(name)): int(ttl) for name, ttl in zip(mortal[::2], mortal[1::2])})
    return Entries(values, ttls, cursor)
