"""Runs steps against a backend, blocking.

An operation of core is a generator: it yields what it wants done, a transaction or a wait, and is sent the outcome.
This is the only place where that meets a store and a clock, so tests can put anything else in its place and run every
interleaving of several operations.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Final, NamedTuple, TypeVar, Union

from redicts.core.backend import Backend
from redicts.core.listener import Listener
from redicts.core.minitransaction import Outcome, Status, Transaction


class Pause(NamedTuple):
    """A request to let this many seconds pass."""

    seconds: float


class Listen(NamedTuple):
    """A request to listen under this name until the operation ends."""

    name: str


class Await(NamedTuple):
    """A request to wait at most this many seconds for a notification, which may be spurious."""

    seconds: float


Request = Union[Transaction, Pause, Listen, Await]

Result = TypeVar("Result")

Steps = Generator[Request, Outcome, Result]
"""An operation that returns a ``Result``. What is no transaction is answered by :data:`DONE`."""

DONE: Final = Outcome(Status.APPLIED)


def run(steps: Steps[Result], backend: Backend) -> Result:
    """Run an operation to its end and return its result. What the backend raises is raised inside the operation."""
    listener: Listener | None = None
    try:
        request = next(steps)
        while True:
            try:
                if isinstance(request, Transaction):
                    outcome = backend.execute(request)
                else:
                    listener = _attend(request, listener, backend)
                    outcome = DONE
            except BaseException as error:
                request = steps.throw(error)
            else:
                request = steps.send(outcome)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    finally:
        if listener is not None:
            listener.close()


def _attend(request: Pause | Listen | Await, listener: Listener | None, backend: Backend) -> Listener | None:
    """Do what is no transaction, and return the listener that is open then."""
    if isinstance(request, Pause):
        time.sleep(request.seconds)
    elif isinstance(request, Listen):
        return backend.listen(request.name)
    elif listener is not None:
        listener.wait(request.seconds)
    return listener
