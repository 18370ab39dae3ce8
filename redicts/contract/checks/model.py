"""The reference model: a store has the same outcomes as the memory backend."""

from __future__ import annotations

from redicts.contract.check import conformance_check
from redicts.contract.fixture import Fixture
from redicts.contract.machine import compare_with_model


@conformance_check()
def the_store_answers_as_the_model(fixture: Fixture) -> None:
    """Random transactions and walks over hostile names, by two clients, have the results of the reference model.

    Runs random transactions, walks and fast paths on two clients and on the memory backend, compares all outcomes
    and states, and shrinks a difference to few steps.
    """
    examples, steps = (400, 50) if fixture.thorough else (20, 36)
    compare_with_model(fixture, examples=examples, steps=steps, seconds=fixture.timeout / 2)
