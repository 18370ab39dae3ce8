"""Raw access: the bytes in the store are those that the backend writes and reads."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from redicts.contract.check import Need, conformance_check
from redicts.contract.fixture import Fixture
from redicts.contract.harness import Raw
from redicts.contract.hostile import HOSTILE_VALUES
from redicts.contract.requirements import require_equal, shortened
from redicts.core.minitransaction import Add, Delete, Path, Put, Scope


@conformance_check(needs=[Need.RAW])
def what_is_written_lies_in_the_store(fixture: Fixture) -> None:
    """When a transaction returns, the store holds exactly the written bytes, and no deleted value.

    Puts hostile values and reads them without the backend.
    """
    raw = _raw(fixture)
    for path, value in _entries(fixture).items():
        key = fixture.key(*path)
        fixture.store.apply(Put(key, value))
        require_equal(raw.read(key), value, f"what was put at {shortened(path)} is stored as")
    fixture.store.apply(Put(fixture.key("count"), b"41"), Add(fixture.key("count"), 1))
    require_equal(raw.read(fixture.key("count")), b"42", "a counter is stored as")
    for path in _entries(fixture):
        key = fixture.key(*path)
        fixture.store.apply(Delete(key, Scope.NODE))
        require_equal(raw.read(key), None, f"what was deleted at {shortened(path)} is stored as")


@conformance_check(needs=[Need.RAW])
def what_lies_in_the_store_is_read(fixture: Fixture) -> None:
    """A value that was written without the backend is read, also if the backend wrote another one before.

    Replaces values without the backend, and reads them by old and new clients.
    """
    raw = _raw(fixture)
    for path, value in _entries(fixture).items():
        key = fixture.key(*path)
        fixture.store.apply(Put(key, b"before"))
        require_equal(fixture.store.value(key), b"before", "a value that was put is")
        raw.write(key, value)
        require_equal(fixture.store.value(key), value, f"the stored value at {shortened(path)} is read as")
        require_equal(fixture.client().value(key), value, "another client reads it as")


def _raw(fixture: Fixture) -> Raw:
    raw = fixture.harness.raw
    assert raw is not None  # the check needs it
    return raw


def _entries(fixture: Fixture) -> dict[Path, bytes]:
    """Return every hostile value, under as many of the names, some of them deep."""
    names = fixture.harness.names
    return {
        ("d",) * (number % 3) + (names[number % len(names)], f"n{number}"): value
        for number, value in enumerate(HOSTILE_VALUES)
    }
