"""Around the backend: what it writes lies in the store, and what lies in the store it reads."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

from redicts.contract.bench import Bench
from redicts.contract.harness import Raw
from redicts.contract.hostile import HOSTILE_VALUES
from redicts.contract.law import Need, law, require_equal, shortened
from redicts.core.transaction import Add, Delete, Path, Put, Scope


@law(needs=[Need.RAW])
def what_is_written_lies_in_the_store(bench: Bench) -> None:
    """What a transaction writes is in the store when it returns, byte by byte, and what it deletes is not."""
    raw = _raw(bench)
    for path, value in _entries(bench).items():
        key = bench.key(*path)
        bench.store.apply(Put(key, value))
        require_equal(raw.read(key), value, f"what was put at {shortened(path)} lies in the store as")
    bench.store.apply(Put(bench.key("count"), b"41"), Add(bench.key("count"), 1))
    require_equal(raw.read(bench.key("count")), b"42", "a counter lies in the store as")
    for path in _entries(bench):
        key = bench.key(*path)
        bench.store.apply(Delete(key, Scope.NODE))
        require_equal(raw.read(key), None, f"what was deleted at {shortened(path)} lies in the store as")


@law(needs=[Need.RAW])
def what_lies_in_the_store_is_read(bench: Bench) -> None:
    """A value that was put into the store without the backend is read as it lies there, whatever was there before."""
    raw = _raw(bench)
    for path, value in _entries(bench).items():
        key = bench.key(*path)
        bench.store.apply(Put(key, b"before"))
        require_equal(bench.store.value(key), b"before", "a value that was put is")
        raw.write(key, value)
        require_equal(bench.store.value(key), value, f"what lies in the store at {shortened(path)} is read as")
        require_equal(bench.client().value(key), value, "another client reads it as")


def _raw(bench: Bench) -> Raw:
    raw = bench.harness.raw
    assert raw is not None  # the law needs it
    return raw


def _entries(bench: Bench) -> dict[Path, bytes]:
    """Return every hostile value, under as many of the names, some of them deep."""
    names = bench.harness.names
    return {
        ("d",) * (number % 3) + (names[number % len(names)], f"n{number}"): value
        for number, value in enumerate(HOSTILE_VALUES)
    }
