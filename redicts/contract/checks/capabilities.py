"""Declared capabilities: they are stated, valid and stable."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from redicts.contract.check import conformance_check
from redicts.contract.fixture import Fixture
from redicts.contract.harness import inner_of
from redicts.contract.requirements import require, require_equal
from redicts.core.backend import Capabilities
from redicts.core.minitransaction import Put


@conformance_check()
def capabilities_are_stated(fixture: Fixture) -> None:
    """A backend declares valid capabilities, the same ones in every client and after every write.

    Compares the declared capabilities of two clients, before and after a write, with the types and limits that they
    may have.
    """
    declared = fixture.capabilities
    require(isinstance(declared, Capabilities), f"capabilities must be a Capabilities, got {declared!r}")
    for name in ("ttl", "processes", "durable", "push", "documents", "sharded", "changes"):
        require(isinstance(getattr(declared, name), bool), f"{name} must be a bool, got {getattr(declared, name)!r}")
    limit = declared.atomic_entries
    valid = limit is None or (type(limit) is int and limit >= 1000)
    require(valid, f"atomic_entries must be None or an integer of at least 1000, got {limit!r}")
    waits = inner_of(fixture.store.backend).may_wait or not declared.processes
    require(waits, "may_wait must be true for a store that processes share, since one of them waits for another")
    fixture.store.apply(Put(fixture.key("a"), b"1"))
    require_equal(fixture.capabilities, declared, "the capabilities after a write are")
    require_equal(fixture.client().capabilities, declared, "the capabilities of a second client are")
