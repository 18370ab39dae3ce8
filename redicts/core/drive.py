"""Runs steps against a backend, blocking.

An operation of core is a generator: it yields what it wants done, a transaction or a pause, and is sent the outcome.
This is the only place where that meets a store and a clock, so tests can put anything else in its place and run every
interleaving of several operations.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Final, NamedTuple, TypeVar, Union

from redicts.core.backend import Backend
from redicts.core.transaction import Outcome, Transaction, Verdict


class Pause(NamedTuple):
    """A request to let this many seconds pass."""

    seconds: float


Request = Union[Transaction, Pause]

Result = TypeVar("Result")

Steps = Generator[Request, Outcome, Result]
"""An operation that returns a ``Result``. A pause is answered by :data:`PAUSED`."""

PAUSED: Final = Outcome(Verdict.APPLIED)


def run(steps: Steps[Result], backend: Backend) -> Result:
    """Run an operation to its end and return its result. What the backend raises is raised inside the operation."""
    try:
        request = next(steps)
        while True:
            try:
                if isinstance(request, Transaction):
                    outcome = backend.execute(request)
                else:
                    time.sleep(request.seconds)
                    outcome = PAUSED
            except BaseException as error:
                request = steps.throw(error)
            else:
                request = steps.send(outcome)
    except StopIteration as stop:
        result: Result = stop.value
        return result
