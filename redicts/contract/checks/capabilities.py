"""What a backend says of itself."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

from redicts.contract.check import conformance_check, require, require_equal
from redicts.contract.fixture import Fixture
from redicts.core.backend import Capabilities
from redicts.core.minitransaction import Outcome, Put, Status


@conformance_check()
def capabilities_are_stated(fixture: Fixture) -> None:
    """Every backend states its capabilities, the same ones whenever it is asked."""
    claimed = fixture.capabilities
    require(isinstance(claimed, Capabilities), f"capabilities is no Capabilities but {claimed!r}")
    for name in ("ttl", "processes", "durable", "push", "documents"):
        require(isinstance(getattr(claimed, name), bool), f"{name} is {getattr(claimed, name)!r}, not True or False")
    fixture.store.apply(Put(fixture.key("a"), b"1"))
    require_equal(fixture.capabilities, claimed, "capabilities after a write")
    require_equal(fixture.client().capabilities, claimed, "capabilities of a second client")


@conformance_check()
def a_limit_is_a_thousand_or_more(fixture: Fixture) -> None:
    """``atomic_entries`` is None, or an integer of at least 1,000."""
    limit = fixture.capabilities.atomic_entries
    fits = limit is None or (type(limit) is int and limit >= 1000)
    require(fits, f"atomic_entries is {limit!r}")


@conformance_check()
def an_empty_transaction_is_applied(fixture: Fixture) -> None:
    """A transaction of nothing is applied, with no answers and no sums."""
    require_equal(fixture.store.run(), Outcome(Status.APPLIED), "the outcome of an empty transaction")
