"""Guards an operation: checks go along with each of its writes, so that they apply only while a lock is held."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from redicts.core.driver import Overwrite, Steps
from redicts.core.minitransaction import Check, Status, Transaction

_Result = TypeVar("_Result")


def guarded(
    steps: Steps[_Result], guards: tuple[Check, ...], refusal: Callable[[int], Steps[Exception]]
) -> Steps[_Result]:
    """Run an operation so that none of its writes is applied unless all guards hold.

    If one does not, the operation ends there, with the exception that ``refusal`` makes for the index of that guard.
    No transaction more than without: the guards are part of those that write.
    """
    count = len(guards)
    try:
        request = next(steps)
        while True:
            if isinstance(request, Overwrite):  # it carries no checks; the operation goes on without it
                request = steps.send(False)
                continue
            writing = isinstance(request, Transaction) and bool(request.writes)
            if isinstance(request, Transaction) and writing:
                request = request._replace(checks=guards + request.checks)
            try:
                outcome = yield request
            except GeneratorExit:
                raise
            except BaseException as error:
                request = steps.throw(error)
                continue
            if writing and outcome.status is Status.CHECK_FAILED and outcome.failed_index is not None:
                if outcome.failed_index < count:
                    raise (yield from refusal(outcome.failed_index))
                outcome = outcome._replace(failed_index=outcome.failed_index - count)
            request = steps.send(outcome)
    except StopIteration as stop:
        result: _Result = stop.value
        return result
    finally:
        steps.close()
