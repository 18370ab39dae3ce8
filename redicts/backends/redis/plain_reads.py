r"""Plain reads: most reads of a subtree are answered by ``HGET`` or ``HRANDFIELD`` instead of the script.

Each command is a snapshot of one hash. What it finds decides whether that hash tells everything about the subtree:

- ``HGET`` of the parent's hash finds a value or a document: it is the whole subtree, because nothing else is below.
- ``HGET`` finds nothing at a path of one segment: nothing is there, or the root's hash would have its marker. A longer
  path may be in a document.
- ``HRANDFIELD`` of the dict's own hash finds values and documents only: they are the whole subtree. A hash exists only
  if its marker is in the parent's hash, so no value is at the path itself. Without a marker in it nothing is further
  below.
- ``HGET`` finds the document that held the path the last time: nothing else is below it, so its leaves there are all.
- All else is asked from the script: dicts of dicts, fields that have expired, a hash with more fields than one call may
  touch.

``HRANDFIELD`` with a count returns the whole hash as ``HGETALL`` does, but never more fields than the count.

The first read of a path sends both commands in one packet, and a writer may come between them. Each answer rests on one
command alone, so it is the state at the time of that command, whatever the other one finds:

=====================  ============================  ==========================================
``HGET`` finds         ``HRANDFIELD`` finds          answer
=====================  ============================  ==========================================
a value or document    anything                      this, at the time of ``HGET``
nothing, one segment   anything                      nothing, at the time of ``HGET``
anything else          values and documents only     these, at the time of ``HRANDFIELD``
anything else          anything else                 that of the script, at a later time
=====================  ============================  ==========================================

A field with a TTL needs the server's clock. ``TIME`` comes last in the packet, so a deadline after it was not over when
the fields were read.

The command that answered is remembered for recent paths, and only that one is sent the next time. So a leaf that was
read once is fetched without a transaction, see :meth:`PlainReads.leaf`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

from redicts.backends.redis import documents
from redicts.backends.redis.layout import hash_name, name_bytes, name_text
from redicts.backends.redis.wire import bulk_string
from redicts.core.documents import DocumentLeaves
from redicts.core.minitransaction import (
    RECORDS,
    Entries,
    Key,
    Outcome,
    Path,
    Read,
    Scope,
    Status,
    Transaction,
)

_FIELD: Final = 1
_HASH: Final = 2
_TIME: Final = 4
_ABOVE: Final = 8
"""The commands of a packet, in this order. The last one stands for ``HGET`` of a document above the path."""
_WRAPPED: Final = 16
"""``HGET`` has found something else than a leaf as it is: a document, or one with a TTL or an escape."""

_HGET: Final = b"*3\r\n" + bulk_string(b"HGET")
_HGETALL: Final = b"*2\r\n" + bulk_string(b"HGETALL")
_HRANDFIELD: Final = b"*4\r\n" + bulk_string(b"HRANDFIELD")
_WITH_VALUES: Final = bulk_string(b"WITHVALUES")
_ASK_TIME: Final = b"*1\r\n" + bulk_string(b"TIME")

_MARKED: Final = frozenset((b"\x01", b"\x02", b"\x03", documents.MARK))
_EXPIRING: Final = frozenset((b"\x02", documents.MARK))
_DEADLINE: Final = slice(1, 17)
_ESCAPED: Final = b"\x03"


class Packet(NamedTuple):
    """The commands of a packet, their number, their encoding, and how many segments the document is above the path."""

    commands: int
    amount: int
    encoded: bytes
    above: int


_SCRIPT: Final = Packet(0, 0, b"", 0)
"""Stands for a path that the script is to be asked about at once."""

_MOST_PATHS: Final = 2_000
_LONGEST_PACKET: Final = 400
"""Bounds of what is remembered: how many paths, and how many bytes each."""


class PlainReads:
    """The plain commands for one database. ``most`` is the number of fields that one of them may touch."""

    def __init__(self, prefix: bytes, most: int, *, simulated: bool) -> None:
        self._prefix = prefix
        self._most = most
        # A simulated HRANDFIELD shuffles the fields, and HGETALL occupies no other process.
        self._whole = (_HGETALL, b"") if simulated else (_HRANDFIELD, bulk_string(b"%d" % most) + _WITH_VALUES)
        self._known: dict[Key, Packet] = {}

    def packet(self, transaction: Transaction) -> Packet | None:
        """Return the packet to be sent for a transaction, or ``None`` if the script is to be asked."""
        read = _subtree_of(transaction)
        if read is None:
            return None
        key, limit = read.key, read.limit
        is_page = limit is not None and limit < self._most
        packet = self._known.get(key)
        if packet is None:
            # A page is mostly read to learn whether anything is there, and the script reads no more than that.
            packet = _SCRIPT if is_page else self._packet(key, _FIELD | _HASH)
        return packet if packet.commands and not (is_page and packet.commands & _HASH) else None

    def leaf(self, key: Key) -> bytes | None:
        """Return the command that has answered the last read of this key, if it found a leaf without a TTL."""
        packet = self._known.get(key)
        return None if packet is None or packet[0] != _FIELD else packet[2]

    def found(self, key: Key, field: bytes | None) -> bytes | None:
        """Return the leaf in what the command of :meth:`leaf` found, or ``None``, and then ask for more next time."""
        if field is not None and field[:1] not in _MARKED:
            return field
        self._known.pop(key, None)
        return None

    def outcome(self, transaction: Transaction, packet: Packet, found: Any) -> Outcome | None:
        """Return what the reply to a packet tells, a list for several commands, or ``None`` for the script."""
        commands, amount, _, above = packet
        if commands == _FIELD and found is not None and found[:1] not in _MARKED:
            return Outcome(Status.APPLIED, (Entries({(): found}),))
        read = cast("Read", transaction.reads[0])
        entries = self._answer(read, commands, above, (found,) if amount == 1 else found)
        return None if entries is None else Outcome(Status.APPLIED, (entries,))

    def learn(self, transaction: Transaction, outcome: Outcome) -> None:
        """Learn from the script's answer which plain command can answer the next time."""
        read = _subtree_of(transaction)
        if read is None or not outcome.answers or self._known.get(read.key, _SCRIPT).commands:
            return
        found = cast("Entries", outcome.answers[0])
        values = found.values
        if isinstance(values, documents.Part):
            self._remember(read.key, _ABOVE, values.above)
        elif () in (values.texts if type(values) is DocumentLeaves else values):
            is_plain = type(values) is dict and not found.ttls
            self._remember(read.key, _FIELD if is_plain else _FIELD | _WRAPPED)
        elif type(values) is DocumentLeaves:
            self._remember(read.key, _HASH if all(len(path) == 1 for path in values.texts) else 0)
        elif values and found.cursor is None and max(map(len, values)) == 1:
            self._remember(read.key, _HASH)
        else:
            self._remember(read.key, 0)

    def _answer(self, read: Read, commands: int, above: int, found: Sequence[Any]) -> Entries | None:
        """Return what the replies to a packet tell about the subtree, and remember the command that told it."""
        key, timed = read.key, commands & _TIME
        now = _milliseconds(*found[-1]) if timed else None
        if commands & _ABOVE:
            return self._part(read, above, found[0], now)
        told: list[tuple[int, dict[Path, bytes]]] = []
        if commands & _FIELD:
            if found[0] is None and len(key.path) == 1:
                return Entries({})
            if found[0] is not None:
                is_plain = found[0][:1] not in _MARKED
                told.append((_FIELD if is_plain else _FIELD | _WRAPPED, {(): found[0]}))
        if commands & _HASH:
            items = found[1 if commands & _FIELD else 0] or ()
            is_page = read.limit is not None and len(items) + sum(map(_leaves_more, items[1::2])) > 2 * read.limit
            if 0 < len(items) < 2 * self._most and not is_page:
                told.append((_HASH, {(name_text(name),): field for name, field in zip(items[::2], items[1::2])}))
        for command, fields in told:
            entries = _live(fields, now, read.ttls)
            if entries is not None:
                self._remember(key, command | timed)
                return entries
            if not timed and any(map(_expires, fields.values())):
                self._remember(key, command | _TIME)
                return None
        self._remember(key, 0)
        return None

    def _part(self, read: Read, above: int, field: bytes | None, now: int | None) -> Entries | None:
        """Return the leaves of the document above in this field, if it certainly is a live one."""
        if field is None or field[:1] != documents.MARK:
            self._remember(read.key, 0)
            return None
        deadline, text = documents.opened(field)
        if deadline and (now is None or deadline <= now):
            self._remember(read.key, 0 if now else _ABOVE | _TIME, above)
            return None
        ttl = deadline - now if read.ttls and now is not None and deadline else 0
        return documents.part_of(text, ttl, read.key.path[-above:], read.scope)

    def _remember(self, key: Key, commands: int, above: int = 0) -> None:
        known = self._known.get(key)
        if known is None or known[0] != commands:
            packet = self._packet(key, commands, above) if commands else _SCRIPT
            if len(self._known) >= _MOST_PATHS:
                self._known.clear()
            if len(packet[2]) <= _LONGEST_PACKET and sum(map(len, key.path)) <= _LONGEST_PACKET:
                self._known[key] = packet

    def _packet(self, key: Key, commands: int, above: int = 0) -> Packet:
        """Return the packet of these commands; there is no parent's hash of the root."""
        space, path = key
        at = path[: len(path) - above]
        parts: list[bytes] = []
        if not path:
            commands = commands & ~_FIELD or _HASH
        if commands & (_FIELD | _ABOVE):
            name = name_bytes(at[-1])
            parts.append(_HGET + bulk_string(hash_name(self._prefix, space, at[:-1])) + bulk_string(name))
        if commands & _HASH:
            command, arguments = self._whole
            parts.append(command + bulk_string(hash_name(self._prefix, space, path)) + arguments)
        if commands & _TIME:
            parts.append(_ASK_TIME)
        return Packet(commands, len(parts), b"".join(parts), above)


def _subtree_of(transaction: Transaction) -> Read | None:
    """Return the read that is all of a transaction, if it is the first one of a subtree of values."""
    checks, reads, writes = transaction
    if checks or writes or len(reads) != 1:
        return None
    read = reads[0]
    if type(read) is not Read or read.scope is not Scope.SUBTREE or read.cursor is not None:
        return None
    return None if read.key.space[:1] in RECORDS else read


def _live(fields: dict[Path, bytes], now: int | None, with_ttls: bool) -> Entries | None:
    """Return what is in fields, or ``None`` if one holds nothing that is certainly live at this time."""
    if _MARKED.isdisjoint([field[:1] for field in fields.values()]):
        return Entries(fields)
    texts: dict[Path, bytes] = {}
    whole: dict[Path, int] = {}
    ttls: dict[Path, int] = {}
    for path, field in fields.items():
        first, deadline = field[:1], 0
        if first in _EXPIRING:
            deadline = int(field[_DEADLINE])
            if deadline and (now is None or deadline <= now):
                return None
        ttl = deadline - now if with_ttls and deadline and now is not None else 0
        if first not in _MARKED:
            texts[path] = field
        elif first == _ESCAPED:
            texts[path] = field[1:]
        elif first == documents.MARK:
            texts[path] = documents.opened(field).text
            whole[path] = ttl
        elif first in _EXPIRING:
            texts[path] = field[17:]
            if ttl:
                ttls[path] = ttl
        else:
            return None
    return documents.entries_in(texts, whole, ttls)


def _leaves_more(field: bytes) -> int:
    """Return twice the number of leaves in a field that is a document, less the one that each field is."""
    return 2 * int(field[17:21]) - 2 if field[:1] == documents.MARK else 0


def _expires(field: bytes) -> bool:
    return field[:1] in _EXPIRING and int(field[_DEADLINE]) > 0


def _milliseconds(seconds: bytes, microseconds: bytes) -> int:
    """Return the server's clock in milliseconds, as the script computes it."""
    return int(seconds) * 1_000 + int(microseconds) // 1_000
