"""Fast paths to values: over random histories they do what a transaction does, or nothing."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import product
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.client import Client
from redicts.contract.fixture import LONG, SHORT, Fixture
from redicts.contract.forked import ForkedChild
from redicts.contract.requirements import require, require_equal
from redicts.core.minitransaction import Add, Delete, Expire, Key, Path, Put, Scope, Write

_PATHS: Final[tuple[Path, ...]] = (("a",), ("d", "b"), ("d", "e", "c"))

_LIMITS: Final = tuple(2**power for power in (4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16))
"""Sizes in bytes at which a store may begin to keep a value in another way; each is tried with its neighbours."""

_RUN: Final = 6
"""How often at most a thing is done in a row: a store may do otherwise every few times."""

_WAITS: Final = 3
"""How often values expire, if the suite must wait for it."""


@conformance_check()
def they_equal_a_transaction(fixture: Fixture) -> None:
    """Fetch and overwrite do what ``execute`` would do, or nothing, in random histories of writes, sizes and TTLs.

    Fetches and overwrites among random writes by two clients, with values of every size around powers of two, and
    compares with a read.
    """
    rng = random.Random(fixture.seed)  # noqa: S311  (no secret)
    clients = [fixture.store, fixture.client()]
    there: dict[Path, bytes] = {}
    mortal: set[Path] = set()
    kinds = ["overwrite"] * 6 + ["put", "add", "delete", "inner"]
    kinds += ["mortal", "persistent"] * 2 + ["expired"] if fixture.capabilities.ttl else []
    waits = _WAITS if fixture.harness.waits else 20
    for _ in range(1000 if fixture.thorough else 45 if _is_fast(fixture) else 10):
        kind, path, client = rng.choice(kinds), rng.choice(_PATHS), rng.choice(clients)
        key = fixture.key(*path)
        if kind == "expired" and (waits := waits - 1) < 0:
            continue
        for _ in range(rng.randrange(_RUN) if kind == "overwrite" else 1):
            value = _value(rng)
            if kind == "overwrite":
                if client.overwrite(key, value):
                    require(path in there, f"overwriting at {path!r}, where no value is, returns true")
                    there[path] = value
                    mortal.discard(path)
            elif kind == "inner":
                _are_refused(client, fixture.key("d", "e") if path == _PATHS[2] else fixture.key("d"), value)
            else:
                client.apply(*_writes(kind, key, value, path in there))
                there, mortal = _after(kind, there, mortal, path, value)
                if kind == "expired":
                    fixture.outlive()
            _agree(fixture, clients, there, path)
        ttls = set(fixture.store.ttls(fixture.key())) if fixture.capabilities.ttl else set()
        require_equal(ttls, mortal, f"after a step of the kind {kind}, the paths with a TTL are")
        require_equal(dict(clients[1].read(fixture.key())), there, f"after a step of the kind {kind}, the space holds")
    if _is_fast(fixture):
        _try_every_size(fixture)


def _is_fast(fixture: Fixture) -> bool:
    """Tell whether the store has a fast path at all, for values as plain as can be."""
    key = fixture.key("plain")
    fixture.store.apply(Put(key, b"1"))
    is_fast = fixture.store.fetch(key) is not None or fixture.store.overwrite(key, b"2")
    fixture.store.apply(Delete(key, Scope.NODE))
    return is_fast


def _try_every_size(fixture: Fixture) -> None:
    """Overwrite a short and a long value by one of each size, with which a store may begin to keep it elsewhere."""
    key, client = fixture.key("size"), fixture.store
    sizes = sorted({0, 1, *(limit + more for limit in _LIMITS for more in (-1, 0, 1))})
    for before, ttl in product((sizes[0], sizes[-1]), (None, LONG) if fixture.capabilities.ttl else (None,)):
        for size in sizes:
            value = bytes([size % 251]) * size
            client.apply(Put(key, b"-" * before, ttl))
            if client.overwrite(key, value):
                same = client.value(key) == value and client.fetch(key) in (None, value)
                require(same, f"a value of {before} bytes overwritten by one of {size} comes back as another")
                require(
                    not (ttl and client.ttls(key)), f"a value of {before} bytes overwritten by {size} keeps its TTL"
                )


@conformance_check(needs=[Need.PROCESSES, Need.FORK, Need.OPENER])
def they_see_other_processes(fixture: Fixture) -> None:
    """Fetch and overwrite see what another process has written, deleted or replaced since.

    Uses the fast paths, lets a child process write, delete, replace and expire, and uses them again.
    """
    key, below = fixture.key("d", "a"), fixture.key("d", "a", "x")
    opener = fixture.harness.opener
    assert opener is not None  # the check needs an opener
    changes: list[tuple[list[Write], dict[Path, bytes]]] = [
        ([Put(key, b"theirs")], {("d", "a"): b"theirs"}),
        ([Delete(key, Scope.NODE)], {}),
        ([Delete(key, Scope.NODE), Put(below, b"a dict")], {("d", "a", "x"): b"a dict"}),
    ]
    if fixture.capabilities.ttl:
        changes.append(([Expire(key, Scope.NODE, SHORT)], {}))
    for writes, expected in changes:
        fixture.store.apply(Delete(fixture.key(), Scope.SUBTREE), Put(key, b"first"))
        for _ in range(2):
            _ours(fixture.store, key, b"ours")

        def work(writes: list[Write] = writes) -> None:
            backend = opener()
            try:
                Client(backend).apply(*writes)
            finally:
                backend.close()

        with ForkedChild(work, fixture.timeout) as child:
            child.finish()
        if isinstance(writes[0], Expire):
            fixture.outlive()
        found = fixture.store.fetch(key)
        require(found in (None, expected.get(("d", "a"))), f"what another process wrote is fetched as {found!r}")
        written = fixture.store.overwrite(key, b"again")
        require(not written or ("d", "a") in expected, "overwriting what another process deleted returns true")
        fixture.expect({("d", "a"): b"again"} if written else expected)


def _ours(client: Client, key: Key, value: bytes) -> None:
    """Write and read on the fast paths, so that what they remember is known."""
    if not client.overwrite(key, value):
        client.apply(Put(key, value))
    found = client.fetch(key)
    require(found in (None, value), f"what was just written is fetched as {found!r}")


def _value(rng: random.Random) -> bytes:
    size = max(0, rng.choice(_LIMITS) + rng.choice((-1, 0, 1))) if rng.randrange(3) else rng.randrange(4)
    return bytes([rng.randrange(256)]) * size


def _writes(kind: str, key: Key, value: bytes, is_there: bool) -> list[Write]:
    if kind == "add":
        return [Delete(key, Scope.NODE), Add(key, len(value))] if is_there else [Add(key, len(value))]
    if kind == "delete":
        return [Delete(key, Scope.SUBTREE)]
    if kind == "persistent":
        return [Expire(key, Scope.NODE, None)]
    return [Put(key, value, {"mortal": LONG, "expired": SHORT}.get(kind))]


def _after(
    kind: str, there: Mapping[Path, bytes], mortal: set[Path], path: Path, value: bytes
) -> tuple[dict[Path, bytes], set[Path]]:
    """Return the values and the paths with a TTL after a step."""
    left, still = dict(there), mortal - {path}
    if kind in ("delete", "expired"):
        left.pop(path, None)
    elif kind == "add":
        left[path] = b"%d" % len(value)
    elif kind != "persistent":
        left[path] = value
    return left, still | {path} if kind == "mortal" else still


def _are_refused(client: Client, inner: Key, value: bytes) -> None:
    require(client.fetch(inner) is None, f"fetching the dict at {inner.path!r} returns a value")
    require(not client.overwrite(inner, value), f"overwriting the dict at {inner.path!r} returns true")


def _agree(fixture: Fixture, clients: list[Client], there: Mapping[Path, bytes], path: Path) -> None:
    expected = there.get(path)
    for client in clients:
        found = client.fetch(fixture.key(*path))
        require(found is None or found == expected, f"what is fetched at {path!r} is not what was written last")
