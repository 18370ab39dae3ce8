"""The stores that these tests run on."""

from __future__ import annotations

from tests.support.stores import (  # noqa: F401  (fixtures)
    any_store,
    fast_store,
    memory_before_and_after,
    pytest_generate_tests,
    use,
)
