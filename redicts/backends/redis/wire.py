"""The wire format: a transaction as one call of a function, and its reply as an outcome.

The arguments of a call and the elements of a reply are listed at the head of ``request.lua``. In RESP, the protocol of
Redis, each argument is a *bulk string*: its length, a line end, the bytes, a line end. Arguments are encoded when they
are made and joined once, so constants, recent names of hashes and the checks of a lock are encoded once and used again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar, cast

from redicts.backends.redis.documents import entries_in, names_within, opened, part_of, split
from redicts.backends.redis.functions import FREE, READ, WRITE
from redicts.backends.redis.layout import (
    CHANGES,
    channels_of_section,
    hash_name,
    name_bytes,
    name_text,
    path_of,
    suffix,
)
from redicts.core.minitransaction import (
    RECORDS,
    VALUES,
    Add,
    Answer,
    AnyRead,
    Check,
    Delete,
    Entries,
    Equals,
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
from redicts.errors import CorruptData, InternalError

_IN_THE_WAY: Final = b"D"
"""Status of a reply: a document is to be split first. Its position and field follow."""
_SWEPT: Final = b"A"
"""Status of a reply: expired fields were in the way, and some are removed now."""
_OUTDATED: Final = b"M"
"""Status of a reply: an earlier version has stored a record space, which is to be rewritten first."""
UNFINISHED: Final = (_SWEPT, _IN_THE_WAY, _OUTDATED)
"""The statuses of replies to calls that are to be sent again, after that of :meth:`Encoder.encode_before`."""
_REPEATED: Final = b"R"
_OVERTAKEN: Final = b"S"
_FROM_ABOVE: Final = b"^"
"""Begins the position of a document above the path that was read; the rest leads from it to the path."""
_STATUSES: Final = {
    b"+": Status.APPLIED,
    b"!": Status.CHECK_FAILED,
    b"#": Status.NOT_A_COUNTER,
    b"L": Status.TOO_LARGE,
}
_APPLIED: Final = Status.APPLIED  # the member of an Enum is looked up in Python, each time
_NODE: Final = Scope.NODE


def bulk_string(text: bytes) -> bytes:
    """Return one argument of a command in RESP."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


def command(*words: bytes) -> bytes:
    """Return one command in RESP."""
    return b"*%d\r\n" % len(words) + b"".join(map(bulk_string, words))


_Encoded = TypeVar("_Encoded")


class _Numbers(dict[int, bytes]):
    """Encoded numbers. Recent ones are kept, for counts, limits and TTLs recur."""

    def __missing__(self, number: int) -> bytes:
        encoded = bulk_string(b"%d" % number)
        if len(self) >= _MOST_NUMBERS:
            self.clear()
        self[number] = encoded
        return encoded


class _HashNames(dict[tuple[str, Path], bytes]):
    """The encoded names of the hashes of what lies directly below keys. Recent short ones are kept."""

    def __init__(self, prefix: bytes) -> None:
        super().__init__()
        self._prefix = prefix

    def __missing__(self, key: tuple[str, Path]) -> bytes:
        encoded = bulk_string(hash_name(self._prefix, *key))
        if len(encoded) <= _LONGEST_NAME:
            if len(self) >= _MOST_NAMES:
                self.clear()
            self[key] = encoded
        return encoded


class _Kept(dict[Path, _Encoded]):
    """Encoded paths above records, and ranges of them. Recent short ones are kept."""

    def __init__(self, encode: Callable[[Path], _Encoded]) -> None:
        super().__init__()
        self._encode = encode

    def __missing__(self, path: Path) -> _Encoded:
        encoded = self._encode(path)
        if sum(map(len, path)) <= _LONGEST_NAME:
            if len(self) >= _MOST_NAMES:
                self.clear()
            self[path] = encoded
        return encoded


_MOST_NUMBERS: Final = 2_000
_MOST_NAMES: Final = 2_000
_LONGEST_NAME: Final = 200
_MOST_CHECKS: Final = 256
_FEWEST_CHECKS: Final = 4
_LONGEST_CHECKS: Final = 2_000
"""Bounds of what an encoder keeps: how many, and how many bytes each. Fewer than four checks are not kept."""

_EMPTY: Final = bulk_string(b"")
_ONE: Final = bulk_string(b"1")
_KEEP: Final = bulk_string(b"keep")
_EQUALS: Final = bulk_string(b"=")
_STARTS_WITH: Final = bulk_string(b"^")
_FIELD: Final = bulk_string(b"f")
_VALUES: Final = bulk_string(b"r")
_NAMES: Final = bulk_string(b"n")
_STORE: Final = bulk_string(b"s")
_PUT: Final = bulk_string(b"p")
_SPLIT: Final = bulk_string(b"z")
_DIRECTORY: Final = b"\x01"
_PUT_DOCUMENTS: Final = bulk_string(b"o")
_REMOVE: Final = bulk_string(b"x")
_EXPIRE_NAMES: Final = bulk_string(b"l")
_ADD: Final = bulk_string(b"a")
_DELETE: Final = bulk_string(b"d")
_EXPIRE: Final = bulk_string(b"e")
_NOTIFY: Final = bulk_string(b"w")
_RECORDS_START: Final = bulk_string(b"S")
_RECORDS_EQUAL: Final = bulk_string(b"Q")
_RECORD: Final = bulk_string(b"G")
_RECORDS: Final = bulk_string(b"R")
_RECORD_NAMES: Final = bulk_string(b"N")
_PUT_RECORD: Final = bulk_string(b"P")
_ADD_RECORD: Final = bulk_string(b"I")
_DELETE_RECORDS: Final = bulk_string(b"D")
_EXPIRE_RECORDS: Final = bulk_string(b"E")
_NOTIFY_RECORDS: Final = bulk_string(b"W")
_NEVER: Final = b"9" * 16
_FIRST: Final = {Scope.NODE: b"\0", Scope.BELOW: b"\2", Scope.SUBTREE: b"\0"}
_END: Final = {Scope.NODE: b"\1", Scope.BELOW: b"\xff", Scope.SUBTREE: b"\xff"}
"""What follows a path in the first member of a scope, and in what is after the last one."""


_SPECIAL: Final = re.compile(rb"[\x00-\x02]")
_SPECIAL_WRITTEN: Final = re.compile(rb"\x02([0-2])")


def _member_segment(segment: str) -> bytes:
    """Return a segment as the members of a record space have it, see ``layout.py``."""
    return _SPECIAL.sub(_special, segment.encode("utf-8", "surrogatepass")) + b"\1"


def _special(found: re.Match[bytes]) -> bytes:
    return b"\2%d" % found[0][0]


def _member_path(path: Path) -> bytes:
    """Return how the members of a record space begin with a path."""
    return b"".join(map(_member_segment, path))


def _path_of_member(written: bytes) -> Path:
    """Return the path that a member of a record space begins with."""
    if b"\2" in written:
        return tuple([_segment_of_member(segment) for segment in written.split(b"\1")[:-1]])
    return tuple(written.decode("utf-8", "surrogatepass").split("\1")[:-1])


def _segment_of_member(written: bytes) -> str:
    return name_text(_SPECIAL_WRITTEN.sub(_unspecial, written) if b"\2" in written else written)


def _unspecial(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1])])


def _encoded_range(scope: Scope, path: Path) -> tuple[bytes, bytes]:
    written = _member_path(path)
    return bulk_string(b"[" + written + _FIRST[scope]), bulk_string(b"(" + written + _END[scope])


_ABOVE: Final = _Kept(_member_path)
_RANGES: Final = {scope: _Kept(partial(_encoded_range, scope)) for scope in Scope}
"""The paths above records, and by scope the first and the last member of a range."""


def _encoded_member(path: Path) -> bytes:
    """Encode the path of a record, whose last segment mostly is the name of a request, which does not recur."""
    if not path:
        return _EMPTY
    above, name = _ABOVE[path[:-1]], path[-1]
    last = name.encode() + b"\1" if name.isprintable() else _member_segment(name)  # no special byte is printable
    return b"$%d\r\n%b%b\r\n" % (len(above) + len(last), above, last)


_SCOPES: Final = {scope.value: bulk_string(scope.value.encode()) for scope in Scope}
_NUMBERS: Final = _Numbers()
_FREEING: Final = frozenset({Delete, Notify})
"""The writes that a full server carries out, because they free memory."""

_EncodedChecks = tuple[int, list[bytes]]
"""How many checks there are to the script, and their arguments."""
_NO_CHECKS: Final[_EncodedChecks] = (0, [])

_ARGUMENTS_BEFORE: Final = 7
"""How many are before the counts, without declared keys: three of the call, expiry index, session, number, most."""

# Calls -----------------------------------------------------------------------------------------------------------


class Encoder:
    """Encodes transactions for one database.

    ``prefix`` begins the names of keys and ``channels`` those of channels. One call touches ``atomic_entries`` fields
    at most. ``declared`` is the name of a key that calls declare, by which a cluster knows the slot that they are for.
    """

    def __init__(self, prefix: bytes, channels: bytes, atomic_entries: int, declared: bytes | None = None) -> None:
        self._prefix = prefix
        self._names = _HashNames(prefix)
        self._channels = bulk_string(channels)
        at = channels if declared is None else channels_of_section(declared)
        self._changes = _Kept(partial(_encoded_change, at + CHANGES))
        self._publishes = () if declared is None else (bulk_string(b"SPUBLISH"),)
        """The command that publishes changes, if it is not ``PUBLISH``."""
        self._sessions = prefix + b"r:"
        keys = _NUMBERS[0] if declared is None else _NUMBERS[1] + bulk_string(declared)
        self._before = _ARGUMENTS_BEFORE + (declared is not None)
        self._expiries = keys + bulk_string(prefix + b"x:")
        """The declared keys, and the first argument."""
        self._atomic_entries = atomic_entries
        self._most = bulk_string(b"%d" % atomic_entries)
        self._kept: dict[int, tuple[tuple[Check, ...], _EncodedChecks]] = {}

    def encode_rewriting(self, name: bytes) -> bytes:
        """Return the call that rewrites a record space of an earlier version, given the name of its sorted set."""
        arguments = (self._expiries, _EMPTY, _EMPTY, self._most, bulk_string(b"m"), bulk_string(name))
        return b"*%d\r\n%b%b" % (self._before - 4 + len(arguments), WRITE, b"".join(arguments))

    def encode(self, transaction: Transaction, session: bytes = b"", number: int = 0) -> bytes:
        """Return the call of a transaction. One with writes has a session, and a number in that session."""
        checks, reads, writes = transaction
        groups = group_writes(writes) if writes else ()
        count, encoded_checks = self._encode_checks(checks) if checks else _NO_CHECKS
        arguments = [_NUMBERS[count], _NUMBERS[len(reads)], _NUMBERS[len(groups)], *encoded_checks]
        for read in reads:
            is_record = read.key.space[:1] in RECORDS
            arguments += self._encode_record_read(read) if is_record else self._encode_read(read)
        # For each section the path that changes there, or the section if there are several.
        changed: dict[Path, Path] = {}
        for group in groups:
            space, path = group[0].key
            if space[:1] in RECORDS:
                arguments += self._encode_record_write(group[0])
            else:
                arguments += self._encode_group(group)
                if space == VALUES:
                    if len(group) > 2 or group[-1].key.path != path:
                        path = path[:-1]  # of several names of a dict
                    section = path[:1]
                    if changed.setdefault(section, path) != path:
                        changed[section] = section
        if changed:
            for at in changed.values():
                arguments += self._changes[at]
            arguments += self._publishes
        function, session_key = READ, _EMPTY
        if session:
            function = FREE if _FREEING.issuperset(map(type, writes)) else WRITE
            session_key = b"$%d\r\n%b%b\r\n" % (len(self._sessions) + len(session), self._sessions, session)
        return b"".join(
            (
                b"*%d\r\n" % (self._before + len(arguments)),
                function,
                self._expiries,
                session_key,
                b"$16\r\n%016d\r\n" % number,
                self._most,
                *arguments,
            )
        )

    def is_too_large(self, transaction: Transaction) -> bool:
        """Tell whether a transaction puts more values than one call may touch, so that it need not be sent."""
        writes, most = transaction.writes, self._atomic_entries
        return len(writes) > most and sum(isinstance(write, Put) for write in writes) > most

    def encode_before(self, reply: Sequence[Any], transaction: Transaction) -> bytes | None:
        """Return the call to be made before an unfinished one is sent again, or ``None`` if there is none."""
        if reply[0] == _IN_THE_WAY:
            return self.encode_split(reply[1], reply[2], transaction)
        return self.encode_rewriting(reply[1]) if reply[0] == _OUTDATED else None

    def encode_split(self, position: bytes, field: bytes, transaction: Transaction) -> bytes:
        """Return the call that splits this document, if it is still there, as far as a transaction needs."""
        space, _, below = position[len(self._prefix) :].partition(b":")
        document = opened(field)
        key = Key(space.decode(), path_of(below))
        arguments = [_NUMBERS[0], _NUMBERS[0], _NUMBERS[1], _SPLIT, bulk_string(position), bulk_string(field)]
        arguments.append(bulk_string(b"%d" % document.deadline))
        try:
            dicts = split(document, key, transaction)
        except ValueError as error:
            raise CorruptData(
                f"the dict stored at {'.'.join(key.path)!r} is not valid JSON, so no part of it can be changed; "
                "set or delete it whole"
            ) from error
        for path, items in dicts.items():
            arguments += (bulk_string(suffix(path)), _NUMBERS[len(items)])
            for name, item in items.items():
                arguments += (bulk_string(name_bytes(name)), bulk_string(_DIRECTORY if item is None else item))
        before = (WRITE, self._expiries, _EMPTY, b"$16\r\n%016d\r\n" % 0, self._most)
        return b"".join((b"*%d\r\n" % (self._before + len(arguments)), *before, *arguments))

    def _encode_checks(self, checks: tuple[Check, ...]) -> _EncodedChecks:
        """Encode checks, those of several keys for one scope and prefix as one.

        Each request for one lock brings the same dozen checks, and encoding them takes longer than all the rest. So
        they are kept by identity: comparing them takes as long. To keep the checks too keeps their identity theirs.
        """
        kept = self._kept.get(id(checks))
        if kept is not None:
            return kept[1]
        count = 0
        arguments: list[bytes] = []
        before: tuple[bytes, list[bytes]] | None = None
        spaces = spaces_at = index = 0
        while index < len(checks):
            check = checks[index]
            if isinstance(check, Equals):
                is_record = check.key.space[:1] in RECORDS
                arguments += self._encode_record_equals(check) if is_record else self._encode_equals(check)
                before, count, index = None, count + 1, index + 1
                continue
            group = _alike(checks, index)
            index += len(group)
            space, prefix = check.key.space, b"$%d\r\n%b\r\n" % (len(check.prefix), check.prefix)
            if space[:1] not in RECORDS:
                before, count = None, count + 1
                names = [self._names[each.key] for each in group]
                arguments += (_STARTS_WITH, _SCOPES[check.scope._value_], _NUMBERS[len(names)], prefix, *names)
                continue
            ranges = [text for key, scope, _ in group for text in _RANGES[scope][key.path]]
            if before != (prefix, ranges):
                before, count, spaces, spaces_at = (prefix, ranges), count + 1, 0, len(arguments) + 2
                arguments += (_RECORDS_START, prefix, _EMPTY, _NUMBERS[len(group)], *ranges)
            arguments.insert(spaces_at + 2 + spaces, self._names[space, ()])
            spaces += 1
            arguments[spaces_at] = _NUMBERS[spaces]
        if len(checks) >= _FEWEST_CHECKS and sum(map(len, arguments)) <= _LONGEST_CHECKS:
            if len(self._kept) >= _MOST_CHECKS:
                self._kept.clear()
            self._kept[id(checks)] = checks, (count, arguments)
        return count, arguments

    def _encode_equals(self, check: Equals) -> list[bytes]:
        (space, path), scope, entries = check
        if scope is _NODE and path and len(entries) == 1 and () in entries:
            return [_FIELD, self._names[space, path[:-1]], bulk_string(name_bytes(path[-1])), bulk_string(entries[()])]
        arguments = [_EQUALS, _SCOPES[scope._value_], _NUMBERS[len(entries)], self._names[check.key]]
        for below, value in entries.items():
            where = (suffix(below[:-1]), name_bytes(below[-1])) if below else (b"=", b"")
            arguments += map(bulk_string, (*where, value))
        return arguments

    def _encode_record_equals(self, check: Equals) -> Sequence[bytes]:
        (space, path), scope, entries = check
        if scope is _NODE and len(entries) == 1 and () in entries:
            value = entries[()]
            return _RECORD, self._names[space, ()], _encoded_member(path), b"$%d\r\n%b\r\n" % (len(value), value)
        first, end = _RANGES[scope][path]
        arguments = [_RECORDS_EQUAL, self._names[space, ()], first, end, _NUMBERS[len(entries)]]
        for below, value in entries.items():
            arguments += (bulk_string(_member_path(path + below)), bulk_string(value))
        return arguments

    def _encode_record_read(self, read: AnyRead) -> tuple[bytes, ...]:
        (space, path), limit, cursor = read.key, read.limit, read.cursor
        name, most = self._names[space, ()], _EMPTY if limit is None else _NUMBERS[limit]
        if not isinstance(read, Read):
            first, end = _RANGES[Scope.BELOW][path]
            first = first if cursor is None else bulk_string(cursor)
            return _RECORD_NAMES, name, first, end, most, _NUMBERS[len(_member_path(path))]
        ttls = _ONE if read.ttls else _EMPTY
        if read.scope is _NODE:
            return _RECORD, name, _encoded_member(path), ttls
        first, end = _RANGES[read.scope][path]
        first = first if cursor is None else bulk_string(b"[" + cursor + b"\1")
        return _RECORDS, name, first, end, most, ttls

    def _encode_record_write(self, write: Write) -> tuple[bytes, ...]:
        space, path = write.key
        name, written = self._names[space, ()], _encoded_member(path)
        if isinstance(write, Put):
            value = write.value
            ttl = _KEEP if write.keep_ttl else _EMPTY if write.ttl is None else _NUMBERS[write.ttl]
            return _PUT_RECORD, name, written, ttl, b"$%d\r\n%b\r\n" % (len(value), value)
        if isinstance(write, Delete):
            return _DELETE_RECORDS, name, written, _SCOPES[write.scope._value_]
        if isinstance(write, Notify):
            return _NOTIFY_RECORDS, name, written, _SCOPES[write.scope._value_], self._channels
        if isinstance(write, Add):
            return _ADD_RECORD, name, written, _NUMBERS[write.amount]
        assert isinstance(write, Expire), "in_fields has split documents"
        return _EXPIRE_RECORDS, name, written, _SCOPES[write.scope._value_], _encode_ttl(write)

    def _encode_read(self, read: AnyRead) -> tuple[bytes, ...]:
        (space, path), limit, cursor = read.key, read.limit, read.cursor
        kind, scope, ttls = _NAMES, _EMPTY, _EMPTY
        if isinstance(read, Read):
            kind, scope, ttls = _VALUES, _SCOPES[read.scope._value_], _ONE if read.ttls else _EMPTY
            if read.scope is _NODE and path and cursor is None:
                name = path[-1].encode("utf-8", "surrogatepass")
                return _FIELD, self._names[space, path[:-1]], b"$%d\r\n%b\r\n" % (len(name), name), ttls
        most = _EMPTY if limit is None else _NUMBERS[limit]
        pending = [] if cursor is None else list(map(bulk_string, cursor.split(b"\0")))
        return kind, self._names[read.key], scope, most, ttls, _NUMBERS[len(pending)], *pending

    def _encode_group(self, group: Sequence[Write]) -> Sequence[bytes]:
        write = group[0]
        if isinstance(write, Put):
            return self._encode_puts(cast("Sequence[Put]", group))
        if isinstance(write, Add):
            (space, path), amount = write
            name = path[-1].encode("utf-8", "surrogatepass")
            return _ADD, self._names[space, path[:-1]], b"$%d\r\n%b\r\n" % (len(name), name), _NUMBERS[amount]
        if isinstance(write, PutDocument):
            return self._encode_documents(cast("Sequence[PutDocument]", group))
        if isinstance(group[-1], Put):
            (space, path), value = group[-1].key, group[-1].value
            name, ttl = path[-1].encode("utf-8", "surrogatepass"), _encode_ttl(group[-1])
            texts = (b"$%d\r\n%b\r\n" % (len(name), name), ttl, b"$%d\r\n%b\r\n" % (len(value), value))
            return _STORE, self._names[space, path[:-1]], *texts
        if write.scope is _NODE and not isinstance(write, Notify):
            return self._encode_names(cast("Sequence[Delete | Expire]", group))
        hash_name, scope = self._names[write.key], _SCOPES[write.scope._value_]
        if isinstance(write, Notify):
            return _NOTIFY, hash_name, scope, self._channels
        if isinstance(write, Delete):
            return _DELETE, hash_name, scope
        return _EXPIRE, hash_name, scope, _encode_ttl(write)

    def _encode_puts(self, puts: Sequence[Put]) -> list[bytes]:
        (space, path), _, ttl, keep_ttl = puts[0]
        values: dict[str, bytes] = {}
        for (_, (*_, name)), value, _, _ in puts:
            values[name] = value
        ending = _KEEP if keep_ttl else _EMPTY if ttl is None else _NUMBERS[ttl]
        arguments = [_PUT, self._names[space, path[:-1]], ending, _NUMBERS[len(values)]]
        for name, value in values.items():
            encoded = name.encode("utf-8", "surrogatepass")
            arguments += (b"$%d\r\n%b\r\n" % (len(encoded), encoded), b"$%d\r\n%b\r\n" % (len(value), value))
        return arguments

    def _encode_documents(self, puts: Sequence[PutDocument]) -> list[bytes]:
        (space, path), _, ttl = puts[0]
        documents = {name_bytes(write.key.path[-1]): write.document for write in puts}
        ending = _EMPTY if ttl is None else _NUMBERS[ttl]
        arguments = [_PUT_DOCUMENTS, self._names[space, path[:-1]], ending, _NUMBERS[len(documents)]]
        for name, document in documents.items():
            arguments += (bulk_string(name), bulk_string(document))
        return arguments

    def _encode_names(self, writes: Sequence[Delete | Expire]) -> list[bytes]:
        write = writes[0]
        space, path = write.key
        names = [bulk_string(name_bytes(each.key.path[-1])) for each in writes if each.key.path]
        if isinstance(write, Delete):
            return [_REMOVE, self._names[space, path[:-1]], _NUMBERS[len(names)], *names]
        return [_EXPIRE_NAMES, self._names[space, path[:-1]], _encode_ttl(write), _NUMBERS[len(names)], *names]


def _encoded_change(channels: bytes, path: Path) -> tuple[bytes, bytes]:
    """Return the channel and the message that tell those who watch a section what has changed."""
    return bulk_string(channels + suffix(path[:1])), bulk_string(suffix(path))


def _encode_ttl(write: Put | Expire) -> bytes:
    if isinstance(write, Put) and write.keep_ttl:
        return _KEEP
    return _EMPTY if write.ttl is None else _NUMBERS[write.ttl]


def _alike(checks: Sequence[Check], start: int) -> list[StartsWith]:
    """Return the checks from one on that are encoded as one: those of one prefix, and of one scope or record space."""
    first = cast("StartsWith", checks[start])
    (space, _), scope, prefix = first
    is_record = space[:1] in RECORDS
    group = [first]
    for index in range(start + 1, len(checks)):
        check = checks[index]
        if not isinstance(check, StartsWith) or check.prefix != prefix:
            break
        if (check.key.space != space) if is_record else (check.scope is not scope or check.key.space[:1] in RECORDS):
            break
        group.append(check)
    return group


def group_writes(writes: Sequence[Write]) -> list[list[Write]]:
    """Return writes in the groups that the script carries out one by one: successive ones alike on names of one dict.

    Writes that a later one implies are left out: the last elements of the groups are those of ``writes`` all the same.
    """
    if writes[0].key.space[:1] in RECORDS:  # of a lock: there is nothing to group
        return [[write] for write in writes]
    groups: list[list[Write]] = []
    likeness: tuple[object, ...] | None = None
    for write in writes:
        space, path = write.key
        alike: tuple[object, ...] | None = None
        if space[:1] in RECORDS:
            pass
        elif isinstance(write, Put):
            alike = Put, space, path[:-1], write.ttl, write.keep_ttl
        elif isinstance(write, PutDocument):
            alike = PutDocument, space, path[:-1], write.ttl
        elif isinstance(write, Delete) and write.scope is _NODE:
            alike = Delete, space, path[:-1]
        elif isinstance(write, Expire) and write.scope is _NODE:
            alike = Expire, space, path[:-1], write.ttl
        if alike is None or alike != likeness:
            groups.append([write])
            likeness = alike
        else:
            groups[-1].append(write)
    return _shortened(groups) if len(groups) > 1 and isinstance(groups[0][0], Delete) else groups


def _shortened(groups: list[list[Write]]) -> list[list[Write]]:
    """Leave out what is implied, and join the removal of what is below a leaf with the one put of that leaf."""
    del groups[: _implied(groups)]
    if len(groups) != 2 or len(groups[1]) != 1:
        return groups
    delete, put = groups[0][0], groups[1][0]
    if not isinstance(put, Put) or not isinstance(delete, Delete) or put.key.space[:1] in RECORDS:
        return groups
    is_one = delete.scope is Scope.BELOW and delete.key == put.key
    return [[*groups[0], *groups[1]]] if is_one else groups


def _implied(groups: list[list[Write]]) -> int:
    """Return how many of the first groups are implied: removals of each leaf above all that is written after them.

    A leaf above gives way to the marker of the dict that it becomes, so that a value can be put or counted below.
    """
    last = groups[-1][-1]
    if not isinstance(last, (Put, PutDocument, Add)) or last.key.space[:1] in RECORDS:
        return 0
    above: Path = ()
    for index, group in enumerate(groups):
        write = group[0]
        space, path = write.key
        is_next = isinstance(write, Delete) and write.scope is _NODE and len(group) == 1
        if not is_next or path[:-1] != above or space != last.key.space:
            for other in groups[index:]:
                # The writes of one group are about names of one dict, so its first one stands for all.
                below = other[0].key.path
                if len(below) <= len(above) or below[: len(above)] != above:
                    return 0
            return index
        above = path
    return 0


# Replies ---------------------------------------------------------------------------------------------------------


def decode(reply: Sequence[Any], transaction: Transaction, origins: Sequence[int] = ()) -> Outcome:
    """Return the outcome that the script's reply means for this transaction.

    ``origins`` are the indices of the writes that its writes stand for, if they are others.
    """
    status = _STATUSES.get(reply[0])
    if status is None:
        if reply[0] == _OVERTAKEN:
            raise InternalError("the server saw a later request of the same session; was this process copied?")
        return decode(decode_record(reply[1]), transaction, origins)
    reads = transaction.reads
    answers = tuple(map(_decode_answer, reads, reply[2:])) if reads else ()
    if status is _APPLIED:
        counters = reply[2 + len(reads) :]
        return Outcome(status, answers, tuple(map(int, counters)) if counters else ())
    if status is Status.TOO_LARGE:
        return Outcome(status)
    failed = int(reply[1]) - 1
    if status is Status.NOT_A_COUNTER:
        failed = len(transaction.writes) - sum(map(len, group_writes(transaction.writes)[failed:]))
        failed = origins[failed] if origins else failed
    return Outcome(status, answers, failed_index=failed)


def decode_record(data: bytes) -> list[Any]:
    """Return a reply as the record of its session holds it: ``s<bytes>:...`` is text, ``l<items>:...`` a list."""

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


def _decode_answer(read: AnyRead, answer: Sequence[Any]) -> Answer:
    cursor: bytes | None = answer[0] or None
    if read.key.space[:1] in RECORDS:
        return _decode_records(read, answer, cursor)
    if not isinstance(read, Read):
        if len(answer) == 4:
            _, where, text, _ = answer
            return names_within(text, path_of(where.lstrip(_FROM_ABOVE)))
        return Names(tuple([name.decode("utf-8", "surrogatepass") for name in answer[1]]), cursor)
    if len(answer) == 4 and answer[1] == b"=":
        return Entries({(): answer[2]}, {(): int(answer[3])} if answer[3] != b"" else {})
    values: dict[Path, bytes] = {}
    documents: dict[Path, int] = {}
    ttls: dict[Path, int] = {}
    for index in range(1, len(answer), 3):
        where, items, expiring = answer[index : index + 3]
        if type(items) is bytes:
            ttl = int(expiring or 0)
            if where[:1] == _FROM_ABOVE:
                return part_of(items, ttl, path_of(where[1:]), read.scope)
            at = path_of(where)
            values[at], documents[at] = items, ttl
            continue
        above = path_of(where)
        for name, value in zip(items[::2], items[1::2]):
            path = *above, name.decode("utf-8", "surrogatepass")
            values[path] = value
        for name, ttl in zip(expiring[::2], expiring[1::2]):
            path = *above, name.decode("utf-8", "surrogatepass")
            ttls[path] = int(ttl)
    return entries_in(values, documents, ttls, cursor)


def _decode_records(read: AnyRead, answer: Sequence[Any], cursor: bytes | None) -> Answer:
    if not isinstance(read, Read):
        return Names(tuple([_segment_of_member(name) for name in answer[1]]), cursor)
    above, time = len(read.key.path), answer[2]
    values: dict[Path, bytes] = {}
    ttls: dict[Path, int] = {}
    for member in answer[3:]:
        end = member.index(b"\0")
        path = _path_of_member(member[:end])[above:]
        values[path] = member[end + 17 :]
        if time and member[end + 1 : end + 17] != _NEVER:
            ttls[path] = int(member[end + 1 : end + 17]) - int(time)
    return Entries(values, ttls, cursor)
