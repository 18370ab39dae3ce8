"""The table of outages: its bounds hold. ``python -m tests.outages`` prints it."""

from __future__ import annotations

import pytest

from tests.faults.actions import LONG
from tests.outages.sentinel import PAUSED, SCENARIOS
from tests.outages.table import Row, Scenario, broken_bounds, printed

CHOSEN = [each for each in SCENARIOS if LONG or each.name == PAUSED]


@pytest.mark.parametrize("scenario", CHOSEN, ids=lambda scenario: scenario.name)
def test_a_primary_is_replaced_under_load(scenario: Scenario) -> None:
    """Nothing acknowledged is lost, nothing is applied twice or in part, no lock has two owners, and calls go on."""
    row = scenario.run()
    assert not broken_bounds(row), printed([row])


def test_a_broken_bound_is_named() -> None:
    """A row that loses a write, or had none, is not accepted."""
    good = Row("x", 10, 0, 0, 0, 0, 0.5, 9.0)
    assert broken_bounds(good) == []
    assert broken_bounds(good._replace(lost=1)) == ["x: lost is 1, at most 0"]
    assert broken_bounds(good._replace(lost=1, most_lost=1)) == []
    assert broken_bounds(good._replace(twice=2)) == ["x: twice is 2, at most 0"]
    assert broken_bounds(good._replace(half=2)) == ["x: half is 2, at most 0"]
    assert broken_bounds(good._replace(overlaps=2)) == ["x: overlaps is 2, at most 0"]
    assert broken_bounds(good._replace(client_secs=1.5)) == ["x: client secs is 1.5, at most 1"]
    assert broken_bounds(good._replace(acknowledged=0)) == ["x: no write was acknowledged"]
    assert (
        printed([good]).splitlines()[2]
        == "| x        |           10 |    0 |     0 |    0 |        0 |     0.50 |    9.00 |"
    )
