"""Seconds go in and whole seconds come out; what is between are milliseconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redicts.core.ttl import milliseconds, whole_seconds
from redicts.errors import LeafError


@pytest.mark.parametrize(
    ("seconds", "ttl"),
    [
        (None, None),
        (1, 1000),
        (10, 10_000),
        (0.5, 500),
        (1.2345, 1234),
        (0.0001, 1),
        (5e-324, 1),
        (10**11, 10**14),
        (10**12, 10**14),
        (1e307, 10**14),
        (1.7e308, 10**14),
        (10**400, 10**14),
    ],
    ids=lambda number: f"{number!r:.8}",
)
def test_seconds_become_milliseconds(seconds: float | None, ttl: int | None) -> None:
    """A TTL is rounded to milliseconds, from one to about three thousand years; ``None`` is no expiry."""
    found = milliseconds(seconds)
    assert found == ttl
    assert type(found) is type(ttl)


@pytest.mark.parametrize(
    "wrong",
    [
        0,
        -1,
        0.0,
        -0.0,
        -5.5,
        float("nan"),
        float("inf"),
        float("-inf"),
        "10",
        b"1",
        True,
        False,
        [],
        {},
        1j,
        -(10**400),
    ],
    ids=lambda wrong: f"{wrong!r:.8}",
)
def test_what_is_no_ttl(wrong: object) -> None:
    """Anything but a positive finite number is refused, with what was found and what to do instead."""
    with pytest.raises(LeafError, match="positive number of seconds") as caught:
        milliseconds(wrong)  # type: ignore[arg-type]
    assert isinstance(caught.value, ValueError)
    assert repr(wrong)[:20] in str(caught.value)


@pytest.mark.parametrize(
    ("ttl", "seconds"), [(1, 1), (999, 1), (1000, 1), (1001, 2), (9999, 10), (10_000, 10), (10**14, 10**11)]
)
def test_remaining_ttls_are_rounded_up(ttl: int, seconds: int) -> None:
    """A value that is still there has at least one second left."""
    assert whole_seconds(ttl) == seconds


@given(seconds=st.integers(1, 10**11))
def test_whole_seconds_come_back(seconds: int) -> None:
    """A TTL of whole seconds that has just begun is returned unchanged."""
    ttl = milliseconds(seconds)
    assert ttl is not None
    assert whole_seconds(ttl) == seconds


@given(seconds=st.floats(min_value=0.0005, max_value=1e9))
def test_a_ttl_is_exact_to_a_millisecond(seconds: float) -> None:
    """The stored TTL differs from the given one by less than a millisecond."""
    ttl = milliseconds(seconds)
    assert ttl is not None
    assert abs(ttl - seconds * 1000) < 1
