"""Documents and clients: all clients see one state, and never half a document."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.client import Client
from redicts.contract.documented import (
    WHOLE,
    Tree,
    apply,
    fetch,
    leaves_of,
    lying_at,
    paths_around,
    plant,
    putting,
    text_of,
)
from redicts.contract.fixture import LONG, Fixture
from redicts.contract.pauses import PausedCall
from redicts.contract.requirements import require, require_equal
from redicts.core.documents import leaves_in
from redicts.core.minitransaction import Add, Delete, Expire, Key, Path, Put, PutDocument, Scope

_ROUNDS: Final = 60
_THOROUGH_ROUNDS: Final = 600
_PAUSE_SECS: Final = 0.002
"""Seconds of a pause of a call that holds a lock, for which another client waits."""


@conformance_check(needs=[Need.DOCUMENTS, Need.DURABLE])
def it_outlasts_all_clients(fixture: Fixture) -> None:
    """Documents, whole and changed, with and without a TTL, persist after the last client closed the store.

    Closes all clients between changes of documents, and reads values, texts and TTLs by a new one.
    """
    there = plant(fixture, ("d", "doc"))
    ttl = LONG if fixture.capabilities.ttl else None
    there = apply(fixture, there, putting(fixture, ("mortal",), WHOLE, ttl), putting(fixture, ("changed",), WHOLE))
    there = apply(fixture, there, Put(fixture.key("changed", "inner", "leaf"), b"new"))
    for _ in range(2):
        fixture.close_clients()
        fixture.expect(there)
        fetch(fixture, fixture.store, there, [("mortal",), ("changed",), *paths_around(("d", "doc"))])
    if ttl is not None:
        ttls = fixture.store.ttls(fixture.key())
        require_equal(set(ttls), set(lying_at(("mortal",), WHOLE)), "the paths with a TTL are")
        require(all(0 < left <= LONG for left in ttls.values()), f"TTLs of {LONG} ms are now {ttls!r}")
        fixture.store.apply(Expire(fixture.key("mortal"), Scope.SUBTREE, None))
    fixture.close_clients()
    there = apply(fixture, there, Put(fixture.key("mortal", "leaf"), b"new"), Add(fixture.key("d", "doc", "count"), 1))
    fixture.close_clients()
    fixture.expect(there)


@conformance_check(needs=[Need.DOCUMENTS])
def no_reader_sees_half_of_one(fixture: Fixture) -> None:
    """A reader sees one whole version of a document that others replace and split, by any read.

    Threads replace and split a document while others read and fetch it, by one client and by two.
    """
    other = fixture.client()
    rounds = _THOROUGH_ROUNDS if fixture.thorough else _ROUNDS
    base = ("d", "doc")
    for clients in ([fixture.store] * 4, [fixture.store, other, fixture.store, other]):
        fixture.renew()
        key, versions = fixture.key(*base), [_version(number) for number in range(2)]
        fixture.store.apply(PutDocument(key, text_of(versions[0])))
        both = [leaves_of(version) for version in versions]

        def put(client: Client, key: Key = key, versions: list[Tree] = versions) -> None:
            for number in range(rounds):
                text = text_of(versions[number % 2])
                if number % 3 or not client.overwrite_document(key, text):
                    client.apply(PutDocument(key, text))

        def split(client: Client, key: Key = key) -> None:
            for _ in range(rounds):
                # Adding 0 changes nothing, but may make the store split the document.
                client.apply(Add(Key(key.space, (*key.path, "count")), 0))

        def read(client: Client, key: Key = key, both: list[dict[Path, bytes]] = both) -> None:
            names = {path[0] for path in both[0]}
            found = dict(client.read(key))
            require(found in both, f"a reader sees neither of two documents, but {len(found)} leaves")
            require(client.names(key) == names, "a reader sees names of neither document")

        def fetch_it(client: Client, key: Key = key, both: list[dict[Path, bytes]] = both) -> None:
            document = client.fetch_document(key)
            require(
                document is None or dict(leaves_in(document)) in both, "what is fetched is neither of two documents"
            )

        works: list[Callable[[], object]] = [partial(put, clients[0]), partial(split, clients[1])]
        fixture.together(works, [partial(read, clients[2]), partial(fetch_it, clients[3])])
        require(dict(fixture.store.read(key)) in both, "what is left is neither of two documents")


@conformance_check(needs=[Need.DOCUMENTS])
def what_was_replaced_stays_away(fixture: Fixture) -> None:
    """No write to a part of a document brings back what another client has replaced or deleted meanwhile.

    Pauses a Put to a part of a document wherever it calls a function, and there reads, replaces and deletes the
    document by another client.
    """
    other, key = fixture.client(), fixture.key("d", "doc")
    part = Key(key.space, (*key.path, "count"))
    fixture.store.apply(PutDocument(key, text_of(_version(0))))
    there = leaves_of(_version(0))

    def look(where: object) -> None:
        found, changed = dict(other.read(key)), {**there, ("count",): b'"new"'}
        require(found in (there, changed), f"{where} of a Put, the document that was written last is another one")

    def replace(where: object, number: int, deletes: bool) -> None:
        nonlocal there
        look(where)
        if deletes and number % 4:
            other.apply(Delete(key, Scope.SUBTREE))
            there = {}
        else:
            other.apply(PutDocument(key, text_of(_version(number))))
            there = leaves_of(_version(number))

    put = partial(fixture.store.apply, Put(part, b'"new"'))
    for deletes in (False, True):
        with ThreadPoolExecutor(1) as threads, PausedCall(put, fixture.store.backend, fixture.timeout) as paused:
            step: Future[None] | None = None
            for number, point in enumerate(paused):
                if number % 2 == 0 and (step is None or step.done()):
                    step = threads.submit(replace, point, number, deletes)
                if step is not None:
                    wait([step], _PAUSE_SECS)  # while the Put holds a lock, another client waits for it
                    _ = step.done() and step.result()
            if step is not None:
                step.result(fixture.timeout)
        look("after the end")


def _version(number: int) -> Tree:
    """Return one of many dicts of the same names, whose leaves are all different but for the counter."""
    return {
        "count": 5,
        "in": {f"n{each}": [number, each] for each in range(8)},
        **{f"m{each}": f"version {number}" for each in range(8)},
    }
