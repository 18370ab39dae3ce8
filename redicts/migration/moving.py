"""Moves the leaves of 1.0 into a tree, a batch at a time.

Whatever the order in which they come, each leaf goes the same way: it is read with its TTL; it is stored if, at the
instant of storing, the new tree has nothing at, above or below its path; and only then, if old keys are to go, its old
key is removed if it still holds the bytes that were read. So a run may end anywhere, and the next one goes on.

In place
    The tree keeps the dict ``a`` in a hash that has the very name of the old leaf ``a``. A leaf itself is kept in the
    hash of the dict that it is in, so storing it needs its own old key out of the way only afterwards, and those of
    leaves above it before. Leaves above are conflicts, so that order is kept by moving each leaf for itself. The one
    exception are names that the hashes write in another way: the dict ``a%b`` has the hash ``v:.a%25b``, which may be
    the old key of a leaf of that name. What meets such a key waits for a further pass, after that key has gone.

    While an old key is there, no hash of its name can be: that is how it is known that the tree has nothing below it.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import redis

from redicts.api.opened import OpenedDatabase
from redicts.api.pool import Pool
from redicts.api.proxy import Proxy, root
from redicts.backends.redis.layout import suffix
from redicts.backends.redis.settings import RedisSettings
from redicts.core.leaves import Packed
from redicts.core.minitransaction import (
    NOTHING,
    VALUES,
    Entries,
    Equals,
    Key,
    Path,
    Put,
    Read,
    Scope,
    Status,
    Transaction,
)
from redicts.errors import CorruptData, InternalError, LeafError, PathError, SettingsError
from redicts.migration.old_data import Batch, OldData, Removal, keys_above, path_of
from redicts.migration.report import Migration, Reason, readable

MOST_PER_BATCH: Final = 10_000


def from_1_0(
    source: redis.Redis,
    target: Proxy | None = None,
    *,
    batch: int = 500,
    delete: bool = False,
    progress: Callable[[Migration], object] | None = None,
) -> Migration:
    """Move what redicts 1.0 left in a Redis database into a tree of today, and report on it.

    ``source`` is a client of redis-py on the database of 1.0, ``target`` the root of the tree, by default
    :func:`~redicts.root`: another database, a store of another kind, or the same database in place. Stop the programs
    that still write with 1.0 first, and run one migration at a time; what they changed meanwhile is not moved.

    - Values are what their JSON says; TTLs are kept to the millisecond, and what expires on the way stays gone.
    - What the new tree has is never overwritten, whoever wrote it.
    - A run that was interrupted, by whatever, is continued by another one with the same arguments.
    - What cannot be moved is reported in :attr:`Migration.skipped`, left as it is, and stops nothing else. If a leaf
      of 1.0 lies above others, which its writes made possible, the one above is moved, as 1.0 showed that one.
    - Locks of 1.0 are left alone.

    With ``delete`` an old key is removed once its value is in the new tree. Without it a second run brings back what
    was deleted from the new tree since the first. In place it is needed, for the new tree uses the names of the old
    keys. Until an old key is gone, other programs get :class:`~redicts.errors.CorruptData` for its path.

    ``progress`` is called after each batch with the report so far; what it raises ends the run.

    Raises :class:`~redicts.errors.SettingsError` for arguments that do not fit, :class:`~redicts.errors.StoreError` if
    the target fails, and what redis-py raises if the source does.

    Cost: two round trips to the source and one to the target for every ``batch`` keys (1 to 10,000), one more each
    where something was there already; and as much memory as such a batch takes, beside the list of what was skipped.
    """
    proxy = root() if target is None else target
    if proxy.key():
        raise SettingsError(f"the target of a migration is the root of a tree, not {proxy.key()!r}")
    if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= MOST_PER_BATCH:
        raise SettingsError(f"batch is a number of keys from 1 to {MOST_PER_BATCH}, not {batch!r}")
    if source.get_encoder().decode_responses:
        raise SettingsError("the source gives text instead of bytes; make its client without decode_responses")
    tree = proxy._database()
    # An unreachable target is told here, as an error of ours.
    tree.backend.execute(Transaction())
    in_place = _is_in_place(source, proxy)
    if in_place and not delete:
        raise SettingsError(
            "source and target are the same database, and the new tree needs the names of the old keys: pass "
            "delete=True, or choose another database or a prefix"
        )
    mover = _Mover(OldData(source, batch), tree, in_place=in_place, delete=delete)
    mover.run(progress or (lambda _: None))
    return mover.report


def _is_in_place(source: redis.Redis, target: Proxy) -> bool:
    """Tell whether the new tree uses key names that 1.0 used too, by writing a key to the one and reading the other."""
    options = Pool().settings.options
    if not isinstance(options, RedisSettings) or not (options.prefix == "" or options.prefix.startswith("v:.")):
        return False
    client = Pool().get_connection(target._db_name)
    probe = f"{options.prefix}m:{secrets.token_hex(16)}"
    client.set(probe, b"1", px=60_000)
    same = source.get(probe) is not None
    client.delete(probe)
    if same and options.prefix:
        raise SettingsError("in the database of 1.0 a prefix that begins with v:. mixes old and new keys; take another")
    return same


class _Leaf(NamedTuple):
    """A leaf that can be stored."""

    key: bytes
    data: bytes
    """What the old key held."""
    put: Put
    """With the TTL that was left when it was read."""
    read_at: float
    free: Scope
    """The scope at its path in which the new tree must have nothing."""

    def put_now(self) -> Put | None:
        """Return the write that stores it with the TTL that is left now, or ``None`` if none is left."""
        if self.put.ttl is None:
            return self.put
        ttl = self.put.ttl - int((time.monotonic() - self.read_at) * 1000)
        return self.put._replace(ttl=ttl) if ttl > 0 else None


class _Mover:
    """One run."""

    def __init__(self, old: OldData, tree: OpenedDatabase, *, in_place: bool, delete: bool) -> None:
        self.report = Migration()
        self._old = old
        self._tree = tree
        self._in_place = in_place
        self._delete = delete
        self._waiting = 0

    def run(self, progress: Callable[[Migration], object]) -> None:
        """Move everything. Passes follow each other as long as they make room for what waits."""
        last = False
        while True:
            self._waiting, removed = 0, self.report.removed
            for keys in self._old.batches():
                self._move([key for key in keys if key not in self.report.by_key], last=last)
                progress(self.report)
            if not self._waiting:
                return
            last = self.report.removed == removed

    def _move(self, keys: Sequence[bytes], *, last: bool) -> None:
        paths: dict[bytes, Path | PathError] = {}
        names: list[bytes] = []
        for key in keys:
            try:
                path = paths[key] = path_of(key)
            except PathError as error:
                paths[key] = error
                continue
            names += keys_above(key)
            if self._in_place:
                names += [*_hashes_for(path), _hash(path)]
        batch = self._old.read(keys, names)
        leaves = [leaf for key in keys if (leaf := self._leaf(key, paths[key], batch, last=last)) is not None]
        self._store(leaves)

    def _leaf(self, key: bytes, path: Path | PathError, batch: Batch, *, last: bool) -> _Leaf | None:
        """Return the leaf of an old key, or see to it that the report says why there is none."""
        kind = batch.types[key]
        if self._in_place and kind == "hash":
            return None
        taken = None
        if self._in_place and not isinstance(path, PathError):
            taken = next((name for name in _hashes_for(path) if batch.types[name] not in ("none", "hash")), None)
        leaf_above = next((name for name in keys_above(key) if batch.types.get(name) == "string"), None)
        if taken is not None and leaf_above is None and not last:
            self._waiting += 1
            return None
        self.report.read += 1
        if kind == "none" or (kind == "string" and key not in batch.values):
            self.report.gone += 1
        elif kind != "string":
            self.report.skip(key, Reason.FOREIGN, f"a {kind}")
        elif isinstance(path, PathError):
            self.report.skip(key, Reason.NO_PATH, str(path))
        elif leaf_above is not None:
            self.report.skip(key, Reason.LEAF_ABOVE, readable(leaf_above))
        elif taken is not None:
            self.report.skip(key, Reason.IN_THE_WAY, readable(taken))
        else:
            return self._encoded(key, path, batch)
        return None

    def _encoded(self, key: bytes, path: Path, batch: Batch) -> _Leaf | None:
        data, ttl = batch.values[key], batch.ttls.get(key)
        try:
            value = json.loads(data.decode())
        except (ValueError, RecursionError) as error:
            self.report.skip(key, Reason.NO_JSON, _without_content(error))
            return None
        if ttl is not None and not self._tree.backend.capabilities.ttl:
            self.report.skip(key, Reason.REFUSED, "it has a TTL, and that store has none")
            return None
        changes = self._tree.store.begin()
        try:
            # As one leaf, also if somebody wrote a JSON object by hand: that is what it is in 1.0.
            changes.write(path, Packed(value), None)
        except LeafError as error:
            self.report.skip(key, Reason.REFUSED, str(error))
            return None
        (put,) = [write for write in changes.writes if isinstance(write, Put)]
        blocked = self._in_place and batch.types[_hash(path)] not in ("none", "hash")
        return _Leaf(key, data, put._replace(ttl=ttl), batch.read_at, Scope.NODE if blocked else Scope.SUBTREE)

    def _store(self, leaves: Sequence[_Leaf]) -> None:
        """Store those leaves for whose path the new tree has room, in one transaction, and settle the others."""
        while True:
            puts = [(leaf, leaf.put_now()) for leaf in leaves]
            leaves = [leaf for leaf, put in puts if put is not None]
            self.report.gone += len(puts) - len(leaves)
            if not leaves:
                return
            checks = [Equals(leaf.put.key, leaf.free, NOTHING) for leaf in leaves]
            above = {leaf.put.key.path[:depth]: None for leaf in leaves for depth in range(1, len(leaf.put.key.path))}
            checks += [Equals(Key(VALUES, path), Scope.NODE, NOTHING) for path in above]
            reads = tuple([Read(leaf.put.key) for leaf in leaves])
            writes = tuple([put for _, put in puts if put is not None])
            try:
                outcome = self._tree.backend.execute(Transaction(tuple(checks), reads, writes))
            except CorruptData as error:
                self._store_in_parts(leaves, Reason.IN_THE_WAY, str(error))
                return
            if outcome.status is Status.TOO_LARGE:
                self._store_in_parts(leaves, Reason.OCCUPIED, "a large dict")
                return
            if outcome.applied:
                self.report.stored += len(leaves)
                self._remove(leaves)
                return
            assert outcome.failed_index is not None
            found = [answer.values.get(()) for answer in outcome.answers if isinstance(answer, Entries)]
            leaves = self._settled(leaves, found, checks[outcome.failed_index].key.path)

    def _store_in_parts(self, leaves: Sequence[_Leaf], reason: Reason, detail: str) -> None:
        """Halve what cannot be stored together, down to the leaf that is the cause."""
        if len(leaves) == 1:
            self.report.skip(leaves[0].key, reason, detail)
            return
        middle = len(leaves) // 2
        self._store(leaves[:middle])
        self._store(leaves[middle:])

    def _settled(self, leaves: Sequence[_Leaf], found: Sequence[bytes | None], refused: Path) -> list[_Leaf]:
        """Return the leaves that may have room, after those that have none were counted or reported."""
        rest, same = [], []
        for leaf, value in zip(leaves, found):
            if value == leaf.put.value:
                same.append(leaf)
            elif value is not None:
                self.report.skip(leaf.key, Reason.DIFFERS)
            elif leaf.put.key.path[: len(refused)] == refused:
                self.report.skip(leaf.key, Reason.OCCUPIED)
            else:
                rest.append(leaf)
        if len(rest) == len(leaves):
            raise InternalError("the store refused to store leaves and shows nothing that is in their way")
        self.report.already_there += len(same)
        self._remove(same)
        return rest

    def _remove(self, leaves: Sequence[_Leaf]) -> None:
        if not self._delete or not leaves:
            return
        for key, removal in self._old.remove({leaf.key: leaf.data for leaf in leaves}).items():
            if removal is Removal.OTHER_BYTES:
                self.report.skip(key, Reason.CHANGED)
            elif removal is Removal.DONE:
                self.report.removed += 1


def _hash(path: Path) -> bytes:
    """Return the name of the hash that the new tree, without a prefix, has for a dict."""
    return f"{VALUES}:".encode() + suffix(path)


def _hashes_for(path: Path) -> list[bytes]:
    """Return the names of the hashes that the new tree needs for a leaf at this path."""
    return [_hash(path[:depth]) for depth in range(len(path))]


def _without_content(error: Exception) -> str:
    """Return what is wrong with a JSON text, without any of it: it may be a secret."""
    return error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
