"""What a backend says of itself."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

from redicts.contract.bench import Bench
from redicts.contract.law import law, require, require_equal
from redicts.core.backend import Capabilities
from redicts.core.transaction import Outcome, Put, Verdict


@law()
def capabilities_are_stated(bench: Bench) -> None:
    """Every backend states its capabilities, the same ones whenever it is asked."""
    claimed = bench.capabilities
    require(isinstance(claimed, Capabilities), f"capabilities is no Capabilities but {claimed!r}")
    for name in ("life", "processes", "durable", "push", "documents"):
        require(isinstance(getattr(claimed, name), bool), f"{name} is {getattr(claimed, name)!r}, not True or False")
    bench.store.apply(Put(bench.key("a"), b"1"))
    require_equal(bench.capabilities, claimed, "capabilities after a write")
    require_equal(bench.client().capabilities, claimed, "capabilities of a second client")


@law()
def a_limit_is_a_thousand_or_more(bench: Bench) -> None:
    """``atomic_entries`` is None, or an integer of at least 1,000."""
    limit = bench.capabilities.atomic_entries
    fits = limit is None or (type(limit) is int and limit >= 1000)
    require(fits, f"atomic_entries is {limit!r}")


@law()
def an_empty_transaction_is_applied(bench: Bench) -> None:
    """A transaction of nothing is applied, with no answers and no sums."""
    require_equal(bench.store.run(), Outcome(Verdict.APPLIED), "the outcome of an empty transaction")
