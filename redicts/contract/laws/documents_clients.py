"""Documents that several clients put, read and take apart: all see one state, and nobody half a document."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from redicts.contract.bench import LONG, Bench
from redicts.contract.client import Client
from redicts.contract.documented import (
    BASES,
    OTHER,
    WHOLE,
    Tree,
    after,
    apply,
    fetch,
    key_in,
    leaves_of,
    look,
    lying_at,
    places_around,
    plant,
    putting,
    text_of,
)
from redicts.contract.law import Need, law, require, require_equal
from redicts.contract.spawned import other_processes
from redicts.core.documents import leaves_in
from redicts.core.transaction import Add, Delete, Expire, Key, Path, Put, PutDocument, Scope, Write

_ROUNDS: Final = 60
_THOROUGH_ROUNDS: Final = 600


@law(needs=[Need.DOCUMENTS])
def it_is_seen_at_once(bench: Bench) -> None:
    """A document that one client put, changed or removed is so for every other one in its next call."""
    one, other = bench.store, bench.client()
    for base in BASES:
        there = plant(bench, base)
        places = places_around(base)
        steps: Sequence[Sequence[Write]] = (
            [Put(key_in(bench, base, "leaf"), b"2")],
            [putting(bench, base, OTHER)],
            [Add(key_in(bench, base, "count"), 1)],
            [putting(bench, base, WHOLE)],
            [Delete(key_in(bench, base, "inner"), Scope.SUBTREE)],
            [putting(bench, (*base, "inner"), OTHER)],
            [putting(bench, base, OTHER)],
            [Delete(bench.key(*base), Scope.SUBTREE)],
            [putting(bench, base, WHOLE)],
            [Delete(bench.key(*base), Scope.BELOW), Put(bench.key(*base), b"a leaf")],
            [putting(bench, base, OTHER)],
        )
        for number, writes in enumerate(steps):
            writer, reader = (one, other) if number % 2 else (other, one)
            fetch(bench, reader, there, places)
            there = apply(bench, there, *writes, client=writer)
            fetch(bench, reader, there, places)
            bench.expect(there, reader)
            look(bench, there, places, reader)
        written = one.overwrite_document(bench.key(*base), text_of(WHOLE))
        left = after(there, [putting(bench, base, WHOLE)] if written else [])
        assert left is not None
        bench.expect(left, other)
        fetch(bench, other, left, places)


@law(needs=[Need.DOCUMENTS, Need.DURABLE])
def it_outlasts_all_clients(bench: Bench) -> None:
    """Documents, whole and changed, with and without a life, are there after the last client closed the store."""
    there = plant(bench, ("d", "doc"))
    life = LONG if bench.capabilities.life else None
    there = apply(bench, there, putting(bench, ("mortal",), WHOLE, life), putting(bench, ("changed",), WHOLE))
    there = apply(bench, there, Put(bench.key("changed", "inner", "leaf"), b"new"))
    for _ in range(2):
        bench.close_clients()
        bench.expect(there)
        fetch(bench, bench.store, there, [("mortal",), ("changed",), *places_around(("d", "doc"))])
    if life is not None:
        lives = bench.store.lives(bench.key())
        require_equal(set(lives), set(lying_at(("mortal",), WHOLE)), "those that have a life are")
        require(all(0 < left <= LONG for left in lives.values()), f"lives of {LONG} ms are now {lives!r}")
        bench.store.apply(Expire(bench.key("mortal"), Scope.SUBTREE, None))
    bench.close_clients()
    there = apply(bench, there, Put(bench.key("mortal", "leaf"), b"new"), Add(bench.key("d", "doc", "count"), 1))
    bench.close_clients()
    bench.expect(there)


@law(needs=[Need.DOCUMENTS, Need.PROCESSES, Need.OPENER])
def processes_see_it_at_once(bench: Bench) -> None:
    """A document that one process put, changed or removed is so for every other one in its next call."""
    base = ("d", "doc")
    with other_processes(bench, 1) as [other]:
        there = plant(bench, base)
        key = bench.key(*base)
        steps: Sequence[Sequence[Write]] = (
            [Put(key_in(bench, base, "leaf"), b"2")],
            [putting(bench, base, OTHER)],
            [Add(key_in(bench, base, "count"), 1)],
            [putting(bench, base, WHOLE)],
            [Delete(key, Scope.SUBTREE)],
            [putting(bench, base, OTHER)],
        )
        for number, writes in enumerate(steps):
            _fetched_there(other.call(_fetch, key), there, base)
            fetch(bench, bench.store, there, [base])
            left = after(there, writes)
            assert left is not None
            there = left
            if number % 2:
                bench.store.apply(*writes)
            else:
                other.call(_write, list(writes))
            _fetched_there(other.call(_fetch, key), there, base)
            require_equal(other.call(_read, bench.key()), there, "another process reads")
            bench.expect(there)
            fetch(bench, bench.store, there, places_around(base))


@law(needs=[Need.DOCUMENTS])
def no_reader_sees_half_of_one(bench: Bench) -> None:
    """Of documents that are put in turn and taken apart, each reader sees one whole, in whichever way he reads."""
    other = bench.client()
    rounds = _THOROUGH_ROUNDS if bench.thorough else _ROUNDS
    base = ("d", "doc")
    for clients in ([bench.store] * 4, [bench.store, other, bench.store, other]):
        bench.renew()
        key, versions = bench.key(*base), [_version(number) for number in range(2)]
        bench.store.apply(PutDocument(key, text_of(versions[0])))
        both = [leaves_of(version) for version in versions]

        def put(client: Client, key: Key = key, versions: list[Tree] = versions) -> None:
            for number in range(rounds):
                text = text_of(versions[number % 2])
                if number % 3 or not client.overwrite_document(key, text):
                    client.apply(PutDocument(key, text))

        def take_apart(client: Client, key: Key = key) -> None:
            for _ in range(rounds):
                # Nothing is changed by it, but whoever keeps documents whole may have to take this one apart.
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

        works: list[Callable[[], object]] = [partial(put, clients[0]), partial(take_apart, clients[1])]
        bench.together(works, [partial(read, clients[2]), partial(fetch_it, clients[3])])
        require(dict(bench.store.read(key)) in both, "what is left is neither of two documents")


def _version(number: int) -> Tree:
    """Return one of two dicts of the same names, whose leaves are all different but for the counter."""
    return {
        "count": 5,
        "in": {f"n{each}": [number, each] for each in range(8)},
        **{f"m{each}": f"version {number}" for each in range(8)},
    }


def _fetched_there(found: bytes | None, there: Mapping[Path, bytes], base: Path) -> None:
    """Insist that another process fetched what is there, or nothing."""
    below = {path[len(base) :]: value for path, value in there.items() if path[: len(base)] == base}
    require(found is None or dict(leaves_in(found)) == below, "another process fetches a document that is not there")


def _fetch(client: Client, key: Key) -> bytes | None:
    client.fetch_document(key)
    return client.fetch_document(key)


def _read(client: Client, key: Key) -> dict[Path, bytes]:
    return dict(client.read(key))


def _write(client: Client, writes: Sequence[Write]) -> None:
    client.apply(*writes)
