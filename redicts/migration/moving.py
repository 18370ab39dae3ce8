"""Move the leaves of redicts 1.0 into a database, in batches.

Every leaf takes the same steps, in any order of leaves. It is read with its TTL. It is stored if the new tree then has
nothing at, above or below its path. If old keys are to be removed, its key is removed last, if it still holds the bytes
that were read. So a run may end anywhere, and the next one continues.

In place
    The new tree keeps the dict ``a`` in a hash that has the name of the old leaf ``a``. Storing ``a.b`` writes to the
    hash of ``a`` and to those above it, and never needs the name of its own old key. An old leaf ``a`` conflicts with
    it and is reported. There is one exception: a hash name escapes some characters, so the hash of the dict ``a%b``,
    ``v:.a%25b``, may be the old key of another leaf. A leaf that needs such a hash waits for a further pass, after that
    key is removed.

    While an old key exists, no hash has its name, so the new tree has nothing below its path.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import redis
from redis.client import Pipeline

from redicts.api.opened import Databases, OpenedDatabase
from redicts.api.proxy import Proxy, root
from redicts.backends.redis.layout import suffix
from redicts.backends.redis.settings import RedisSettings
from redicts.core.driver import Steps
from redicts.core.minitransaction import (
    NOTHING,
    VALUES,
    Entries,
    Equals,
    Key,
    Outcome,
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
from redicts.transfer.leaves import ttl_left

MOST_PER_BATCH: Final = 10_000


def from_1_0(
    source: redis.Redis,
    target: Proxy | None = None,
    *,
    batch: int = 500,
    delete: bool = False,
    progress: Callable[[Migration], object] | None = None,
) -> Migration:
    """Move what redicts 1.0 left in a Redis database into a tree of this version, and return a report.

    ``source`` is a client of redis-py for the database of 1.0. ``target`` is the root of the new tree, by default
    :func:`~redicts.root`: in another database, in a store of another kind, or in place, in the same database. Stop the
    programs that write with 1.0 first, and run one migration at a time; what changes meanwhile is not moved.

    - Values are what their JSON says. TTLs are kept to the millisecond; a leaf that expires meanwhile is not stored.
    - What the new tree has is never overwritten.
    - A run that was interrupted is continued by the next one with the same arguments.
    - What cannot be moved is reported in :attr:`Migration.skipped` and left unchanged; the rest is moved. If 1.0 has a
      leaf above others, which its writes allow, the one above is moved, because 1.0 showed that one.
    - Locks of 1.0 are left alone.

    With ``delete`` an old key is removed once its value is in the new tree. Without it a second run stores again what
    was deleted from the new tree since the first. In place it is required, because the new tree uses the names of the
    old keys. Until an old key is removed, other programs get :class:`~redicts.errors.CorruptData` for its path.

    ``progress`` is called after each batch with the report so far; what it raises ends the run.

    Raises :class:`~redicts.errors.SettingsError` for arguments that do not fit, :class:`~redicts.errors.StoreError` if
    the target fails, and errors of redis-py if the source does.

    Cost: two round trips to the source and one to the target for every ``batch`` keys (1 to 10,000), one more each if
    the target already has some of them; memory for one batch and for the list of skipped keys.
    """
    proxy = root() if target is None else target
    if proxy.key():
        raise SettingsError(f"the target of a migration must be the root of a tree; got {proxy.key()!r}")
    if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= MOST_PER_BATCH:
        raise SettingsError(f"batch must be a number of keys from 1 to {MOST_PER_BATCH}; got {batch!r}")
    if not isinstance(source, redis.Redis) or isinstance(source, Pipeline):
        kind = type(source)
        raise SettingsError(
            f"the source must be a blocking client of redis-py, redis.Redis; got {kind.__module__}.{kind.__qualname__}"
        )
    if source.get_encoder().decode_responses:
        raise SettingsError("the source must return bytes; create its client without decode_responses")
    database = proxy._database()
    # An unreachable target is reported before anything is read, as an error of redicts.
    database.run(_send(Transaction()))
    in_place = _is_in_place(source, database)
    if in_place and not delete:
        raise SettingsError(
            "source and target are the same database, and the new tree needs the names of the old keys: pass "
            "delete=True, or choose another database or a prefix"
        )
    mover = _Mover(OldData(source, batch), database, in_place=in_place, delete=delete)
    mover.run(progress or (lambda _: None))
    return mover.report


def _is_in_place(source: redis.Redis, target: OpenedDatabase) -> bool:
    """Tell whether the new tree uses key names of 1.0: whether a key written to the target appears in the source."""
    client = getattr(target.backend, "client", None)
    options = target.databases.settings.options if isinstance(target.databases, Databases) else None
    prefix = options.prefix if isinstance(options, RedisSettings) else ""
    if client is None or not (prefix == "" or prefix.startswith("v:.")):
        return False
    probe = f"{prefix}m:{secrets.token_hex(16)}"
    client.set(probe, b"1", px=60_000)
    same = source.get(probe) is not None
    client.delete(probe)
    if same and prefix:
        raise SettingsError(
            "in the database of 1.0 a prefix must not begin with v:., which old keys do; choose another"
        )
    return same


def _send(transaction: Transaction) -> Steps[Outcome]:
    outcome: Outcome = yield transaction
    return outcome


class _Leaf(NamedTuple):
    """A leaf that can be stored."""

    key: bytes
    old: bytes
    """The bytes of the old key."""
    put: Put
    """With the TTL that was read."""
    read_at: float
    free: Scope
    """The scope at its path in which the new tree must have nothing."""


class _Mover:
    """One run of a migration."""

    def __init__(self, old: OldData, database: OpenedDatabase, *, in_place: bool, delete: bool) -> None:
        self.report = Migration()
        self._old = old
        self._database = database
        self._in_place = in_place
        self._delete = delete
        self._waiting = 0

    def run(self, progress: Callable[[Migration], object]) -> None:
        """Move everything, in as many passes as leaves have to wait for."""
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
        """Return the leaf of an old key, or note in the report why there is none."""
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
        old, ttl = batch.values[key], batch.ttls.get(key)
        try:
            value, data = _parsed(old)
        except (ValueError, RecursionError) as error:
            # The text of the error must not have any of the value, which may be a secret.
            reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
            self.report.skip(key, Reason.NO_JSON, reason)
            return None
        if data is not None and self._database.store.form.codec_of(data)[1] is None:
            self.report.skip(key, Reason.REFUSED, "its codec is not JSON, and this interpreter reads fewer digits")
            return None
        if ttl is not None and not self._database.backend.capabilities.ttl:
            self.report.skip(key, Reason.REFUSED, "it has a TTL, and that store has none")
            return None
        try:
            # A JSON object that somebody wrote by hand is one leaf in 1.0, and stays one.
            data = self._database.store.encoded(path, value) if data is None else data
        except LeafError as error:
            self.report.skip(key, Reason.REFUSED, str(error))
            return None
        blocked = self._in_place and batch.types[_hash(path)] not in ("none", "hash")
        put = Put(Key(VALUES, path), data, ttl)
        return _Leaf(key, old, put, batch.read_at, Scope.NODE if blocked else Scope.SUBTREE)

    def _store(self, leaves: Sequence[_Leaf]) -> None:
        """Store the leaves whose paths are free in the new tree, in one transaction, and report the others."""
        while True:
            ttls = [ttl_left(leaf.put.ttl, leaf.read_at) for leaf in leaves]
            puts = [(leaf, leaf.put._replace(ttl=ttl)) for leaf, ttl in zip(leaves, ttls) if ttl is None or ttl > 0]
            self.report.gone += len(leaves) - len(puts)
            leaves = [leaf for leaf, _ in puts]
            if not leaves:
                return
            checks = [Equals(leaf.put.key, leaf.free, NOTHING) for leaf in leaves]
            above = {leaf.put.key.path[:depth]: None for leaf in leaves for depth in range(1, len(leaf.put.key.path))}
            checks += [Equals(Key(VALUES, path), Scope.NODE, NOTHING) for path in above]
            reads = tuple([Read(leaf.put.key) for leaf in leaves])
            try:
                outcome = self._database.run(_send(Transaction(tuple(checks), reads, tuple([put for _, put in puts]))))
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
            leaves = self._free(leaves, found, checks[outcome.failed_index].key.path)

    def _store_in_parts(self, leaves: Sequence[_Leaf], reason: Reason, detail: str) -> None:
        """Halve leaves that cannot be stored together, down to the leaf that is the cause."""
        if len(leaves) == 1:
            self.report.skip(leaves[0].key, reason, detail)
            return
        middle = len(leaves) // 2
        self._store(leaves[:middle])
        self._store(leaves[middle:])

    def _free(self, leaves: Sequence[_Leaf], found: Sequence[bytes | None], occupied: Path) -> list[_Leaf]:
        """Return the leaves whose paths may be free, and count or report the others."""
        rest, same = [], []
        for leaf, value in zip(leaves, found):
            if value == leaf.put.value:
                same.append(leaf)
            elif value is not None:
                self.report.skip(leaf.key, Reason.DIFFERS)
            elif leaf.put.key.path[: len(occupied)] == occupied:
                self.report.skip(leaf.key, Reason.OCCUPIED)
            else:
                rest.append(leaf)
        if len(rest) == len(leaves):
            raise InternalError("the store refused to store leaves although their paths are free")
        self.report.already_there += len(same)
        self._remove(same)
        return rest

    def _remove(self, leaves: Sequence[_Leaf]) -> None:
        if not self._delete or not leaves:
            return
        for key, removal in self._old.remove({leaf.key: leaf.old for leaf in leaves}).items():
            if removal is Removal.OTHER_BYTES:
                self.report.skip(key, Reason.CHANGED)
            elif removal is Removal.DONE:
                self.report.removed += 1


def _parsed(old: bytes) -> tuple[object, bytes | None]:
    """Return a value of 1.0; the bytes themselves if they are JSON with more digits than this interpreter reads.

    A program with another limit wrote such a value, and reads it. Raises ``ValueError`` for bytes that are not JSON.
    """
    text = old.decode()
    try:
        return json.loads(text), None
    except json.JSONDecodeError:
        raise
    except ValueError:
        json.loads(text, parse_int=len)
        return None, old


def _hash(path: Path) -> bytes:
    """Return the name of the hash that the new tree, without a prefix, has for a dict."""
    return f"{VALUES}:".encode() + suffix(path)


def _hashes_for(path: Path) -> list[bytes]:
    """Return the names of the hashes that the new tree needs for a leaf at this path."""
    return [_hash(path[:depth]) for depth in range(len(path))]
