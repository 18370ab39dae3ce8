"""The model: whatever happens, a store answers as the reference backend does."""

from __future__ import annotations

from redicts.contract.bench import Bench
from redicts.contract.law import law
from redicts.contract.machine import compare_with_model


@law()
def the_store_answers_as_the_model(bench: Bench) -> None:
    """Random transactions, checks, reads and walks over hostile names, through two clients, go as on the model."""
    examples, steps = (400, 50) if bench.thorough else (30, 30)
    compare_with_model(bench, examples=examples, steps=steps, seconds=bench.patience / 2)
