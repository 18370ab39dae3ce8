"""A value as it was read, and the checks and writes that change it into another one.

Leaves that stay the same are not written. Leaves that change preserve their TTL, and new ones get the longest that
there was. A dict that was packed stays packed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from typing import Any, Final

from redicts.core.envelope import LeafFormat
from redicts.core.leaves import ABSENT, Packed, leaves_of, nest
from redicts.core.minitransaction import NOTHING, VALUES, Delete, Entries, Equals, Key, Path, Put, Scope, Write

IMMUTABLE: Final = (type(None), str, bytes, int, float, tuple, frozenset)
"""Types of values that code can return, and cannot change."""


class Original:
    """The value at a path, with its leaves as they were read at a time of a clock in seconds.

    ``value`` is the decoded value, or ``ABSENT``. ``leaves`` are those that it was decoded from: what is stored, or a
    default.
    """

    __slots__ = ("_form", "_packed", "_path", "_read_at", "found", "leaves", "ttls", "value")

    def __init__(self, found: Entries, path: Path, form: LeafFormat, read_at: float) -> None:
        self._path = path
        self._form = form
        self._read_at = read_at
        self.found: Mapping[Path, bytes] = found.values
        """The stored leaves."""
        self.ttls = found.ttls
        self.value: Any = ABSENT
        self._decode(found.values)

    def default_to(self, default: object) -> None:
        """Take a copy of the default for the value; the copy is what would be read if the default were stored.

        Raises :class:`~redicts.errors.LeafError` for a default that cannot be stored.
        """
        self._decode(leaves_of(default, self._path, self._form))
        if self.value is ABSENT:  # an empty dict at the root has no leaves
            self.value = {}

    def _decode(self, leaves: Mapping[Path, bytes]) -> None:
        self.leaves = leaves
        self.value = nest(leaves, self._path, self._form)
        self._packed = _packed_in(self.value, leaves)

    def changed_to(self, value: object) -> dict[Path, bytes]:
        """Return the leaves of another value for the path; none for ``ABSENT``.

        Raises :class:`~redicts.errors.LeafError` for a value that cannot be stored.
        """
        return {} if value is ABSENT else leaves_of(_packing(value, self._packed), self._path, self._form)

    def edited_to(self, value: object) -> dict[Path, bytes]:
        """Return the leaves of another value as :meth:`changed_to` does, with the bytes that were read of equal ones.

        Other bytes do not mean another value: another codec, or another program, may have written the leaf.
        """
        leaves = self.changed_to(value)
        for below, data in leaves.items():
            was = self.leaves.get(below)
            if was is not None and was != data and self._encoded_again(was, below) == data:
                leaves[below] = was
        return leaves

    def _encoded_again(self, data: bytes, below: Path) -> bytes:
        at = self._path + below
        return leaves_of(Packed(nest({(): data}, at, self._form)), at, self._form)[()]

    def differs(self, value: object, leaves: Mapping[Path, bytes]) -> bool:
        """Return whether a value certainly is not what these leaves were decoded to."""
        is_equal: bool | None = None
        try:
            is_equal = bool(nest(leaves, self._path, self._form) == value)
            return not is_equal and self.changed_to(value) != leaves
        except Exception:  # the value's own comparison failed, or it cannot be stored as it is now
            return is_equal is False

    # The changes

    def writes(self, new: Mapping[Path, bytes], now: float, gone: Collection[Path] = ()) -> list[Write]:
        """Return the writes that change the stored leaves into new ones, but for leaves above the path.

        ``gone`` are leaves that have expired since. If they are written, they expire at once.
        """
        longest = None if len(self.ttls) < len(self.found) else max(self.ttls.values(), default=None)
        found, passed = self.found, int((now - self._read_at) * 1000)
        writes: list[Write] = [Delete(self._key(below), Scope.NODE) for below in found if below not in new]
        for below, data in new.items():
            if found.get(below) != data:
                ttl = self.ttls[below] if below in gone else None if below in found else longest
                left = None if ttl is None else max(1, ttl - passed)
                writes.append(Put(self._key(below), data, left, below in found and below not in gone))
        return writes

    def checks(self, new: Mapping[Path, bytes], gone: Collection[Path] = ()) -> tuple[Equals, ...]:
        """Return the checks that the leaves which :meth:`writes` replaces, removes and adds are as they were read."""
        found, path = self.found, self._path
        live = {below: data for below, data in found.items() if below not in gone} if gone else found
        replaced = [below for below, data in live.items() if new.get(below) != data]
        checks = {key: Equals(key, Scope.NODE, {(): live[below]}) for below in replaced for key in [self._key(below)]}
        entries: dict[Path, dict[Path, bytes]] = {below: {} for below in new if below not in live}
        """What is expected at and below each leaf that is added: leaves that are removed for it."""
        for below in replaced if entries else ():
            for depth in range(len(below)):
                if below[:depth] in entries:
                    entries[below[:depth]][below[depth:]] = live[below]
        # A leaf above the path gives way to a new value. Where a value is, there is none above.
        highest = 1 if live else len(path)
        for below, inside in entries.items():
            at = path + below
            for depth in range(highest, len(at)):
                key = Key(VALUES, at[:depth])
                if depth < len(path) or at[len(path) : depth] not in live:
                    checks.setdefault(key, Equals(key, Scope.NODE, NOTHING))
            checks[Key(VALUES, at)] = Equals(Key(VALUES, at), Scope.SUBTREE, inside)
        return tuple(checks.values())

    def _key(self, below: Path) -> Key:
        return Key(VALUES, self._path + below)


def is_changeable(value: object) -> bool:
    """Return whether code can change a value in place: a dict, a list, or an object with attributes that can be set.

    A value with a hash of its own is taken for immutable, unless it has attributes like most objects.
    """
    kind = type(value)
    if isinstance(value, (*IMMUTABLE, Enum)):
        return False
    if kind.__hash__ is None:
        return True
    has_slots = kind.__hash__ is object.__hash__ and any("__slots__" in vars(each) for each in kind.__mro__)
    return kind.__setattr__ is object.__setattr__ and (hasattr(value, "__dict__") or has_slots)


def _packed_in(value: Any, leaves: Iterable[Path]) -> list[Path]:
    """Return the paths of the leaves that are dicts with items."""
    found = []
    for path in leaves:
        leaf = value
        for name in path:
            leaf = leaf[name]
        if isinstance(leaf, dict) and leaf:
            found.append(path)
    return found


def _packing(value: object, packed: Iterable[Path]) -> object:
    """Return a value in which the dicts at these relative paths are packed."""
    if not packed or not isinstance(value, dict):
        return value
    below: dict[str, list[Path]] = {}
    for path in packed:
        if not path:
            return Packed(value) if value else value
        below.setdefault(path[0], []).append(path[1:])
    return {**value, **{name: _packing(value[name], paths) for name, paths in below.items() if name in value}}
