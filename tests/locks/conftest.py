"""The stores that these tests run on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redicts.locks import owner
from tests.locks.locking import no_thread_is_left
from tests.support.stores import (  # noqa: F401  (fixtures)
    any_store,
    clock,
    distributions,
    memory_before_and_after,
    pytest_generate_tests,
    use,
)


@pytest.fixture
def no_thread_outlives_a_test() -> Iterator[None]:
    """No thread is left after a test; and if one broke, the next test begins again."""
    yield
    try:
        no_thread_is_left()
    finally:
        owner._renew_after_fork()
