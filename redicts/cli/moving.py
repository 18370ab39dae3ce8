"""``cp`` and ``mv``: copy or move what is at a path within one database, atomically."""

from __future__ import annotations

import time
from functools import partial

import click

from redicts.api.opened import OpenedDatabase
from redicts.cli import exits
from redicts.cli.confirming import MUCH, require, yes_option
from redicts.cli.output import print_json, tell
from redicts.cli.stores import PATH, Store, reading_command
from redicts.cli.tables import leaves as of_leaves
from redicts.cli.values import count_lost, many
from redicts.core.driver import Steps
from redicts.core.leaves import clearing_above, refuse_root
from redicts.core.minitransaction import (
    VALUES,
    Delete,
    Entries,
    Equals,
    Key,
    Path,
    Put,
    Read,
    Scope,
    Status,
    Transaction,
    Write,
)
from redicts.core.paths import described, joined, render
from redicts.errors import Conflict, Unsupported
from redicts.transfer.copying import refuse_overlap
from redicts.transfer.leaves import ttl_left

_ATTEMPTS = 100


@click.command("cp")
@click.argument("source", type=PATH)
@click.argument("target", type=PATH)
@yes_option
@reading_command
def copy_(source: Path, target: Path, yes: bool, store: Store, as_json: bool) -> int:
    """Copy what is at SOURCE to TARGET, with its TTLs.

    It replaces what is at TARGET, atomically. The status is 1 if nothing is stored at SOURCE. To copy more than the
    store changes at once, or between stores, use redicts copy.
    """
    return _moved(store, source, target, keep=True, yes=yes, as_json=as_json)


@click.command("mv")
@click.argument("source", type=PATH)
@click.argument("target", type=PATH)
@yes_option
@reading_command
def move(source: Path, target: Path, yes: bool, store: Store, as_json: bool) -> int:
    """Move what is at SOURCE to TARGET, with its TTLs.

    It replaces what is at TARGET. Others see it at one of both paths at any time. The status is 1 if nothing is stored
    at SOURCE.
    """
    return _moved(store, source, target, keep=False, yes=yes, as_json=as_json)


def _moved(store: Store, at: Path, to: Path, *, keep: bool, yes: bool, as_json: bool) -> int:
    refuse_overlap(at, to)
    refuse_root(to)
    store.require_writable()
    database = store.database
    if database.run(database.store.exists(at)):
        lost = count_lost(store, to)
        if lost > MUCH:
            require(yes, "--yes", f"removes {many(lost)} at {described(to)}")
    count = database.write(_move(database, at, to, keep=keep), *(() if keep else (at,)), to)
    if as_json:
        print_json({"source": render(at), "target": render(to), "leaves": count})
    elif not count:
        tell(f"nothing is stored at {described(at)}")
    elif count > 1:
        tell(f"{of_leaves(count)} of {described(at)} {'are also' if keep else 'are now'} at {described(to)}")
    return exits.DONE if count else exits.NEGATIVE


def _move(database: OpenedDatabase, at: Path, to: Path, *, keep: bool) -> Steps[int]:
    """Store the leaves at a path at another one, and remove them where they are unless they are kept.

    Returns their number. Two transactions, more while others change them.
    """
    source, target = Key(VALUES, at), Key(VALUES, to)
    most = database.backend.capabilities.atomic_entries
    too_large = partial(
        Unsupported,
        f"{described(at)} has more leaves than this store changes at once ({most}); use redicts copy, and redicts del",
    )
    for _ in range(_ATTEMPTS):
        read_at = time.monotonic()
        (found,) = (
            yield Transaction(reads=(Read(source, Scope.SUBTREE, most, None, database.backend.capabilities.ttl),))
        ).answers
        assert isinstance(found, Entries)
        if found.cursor is not None:
            raise too_large()
        if not found.values:
            return 0
        writes: list[Write] = [] if keep else [Delete(source, Scope.SUBTREE)]
        writes += [*clearing_above(to), Delete(target, Scope.SUBTREE)]
        for below, data in found.values.items():
            left = ttl_left(found.ttls.get(below), read_at)
            if left is None or left > 0:
                moved = _bound_to(database, at + below, joined(to, below), data)
                writes.append(Put(Key(VALUES, to + below), moved, left))
        outcome = yield Transaction((Equals(source, Scope.SUBTREE, found.values),), (), tuple(writes))
        if outcome.status is Status.TOO_LARGE:
            raise too_large()
        if outcome.applied:
            return len(found.values)
    raise Conflict(f"{described(at)} was changed by others {_ATTEMPTS} times in a row; lock it, or try again later")


def _bound_to(database: OpenedDatabase, at: Path, to: Path, data: bytes) -> bytes:
    """Return the bytes of a leaf for another path: signed again if its codec signs them for their path."""
    _, codec = database.store.form.codec_of(data)
    if codec is None or not codec.binds_path:
        return data
    return database.store.encoded(to, database.store.decoded(at, data))
