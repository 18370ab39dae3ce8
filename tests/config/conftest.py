"""Fixtures for the tests of the configuration."""

from __future__ import annotations

from tests.support.stores import (  # noqa: F401  (fixtures)
    any_store,
    clock,
    distributions,
    memory_before_and_after,
    pytest_generate_tests,
    use,
)
