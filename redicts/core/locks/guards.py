"""Guarded operations: adds checks to the transactions of an operation, so that it writes only under held locks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from redicts.core.driver import Overwrite, Steps
from redicts.core.minitransaction import Check, Status, Transaction
from redicts.core.sections import section_of

_Result = TypeVar("_Result")


def guarded(
    steps: Steps[_Result],
    guards: tuple[Check, ...],
    refusal: Callable[[int], Steps[Exception]],
    reads: bool = False,
    sharded: bool = False,
) -> Steps[_Result]:
    """Run an operation and add the guards to each of its writing transactions, with ``reads`` to the others too.

    If a guard fails, nothing is written, and the operation ends with the exception that ``refusal`` returns for the
    index of this guard. The guards cost no further transaction. On a ``sharded`` store, a transaction has the guards of
    its section, since the locks of other ones do not concern it.
    """
    every = guards
    try:
        request = next(steps)
        while True:
            if isinstance(request, Overwrite):  # it has no checks, so the operation must write by a transaction
                request = steps.send(False)
                continue
            is_guarded = isinstance(request, Transaction) and (reads or bool(request.writes))
            if isinstance(request, Transaction) and is_guarded:
                if sharded:
                    home = (None, *{section_of(item.key) for part in request for item in part})
                    guards = tuple([guard for guard in every if section_of(guard.key) in home])
                request = request._replace(checks=guards + request.checks)
            try:
                outcome = yield request
            except GeneratorExit:
                raise
            except BaseException as error:
                request = steps.throw(error)
                continue
            if is_guarded and outcome.status is Status.CHECK_FAILED and outcome.failed_index is not None:
                if outcome.failed_index < len(guards):
                    raise (yield from refusal(every.index(guards[outcome.failed_index])))
                outcome = outcome._replace(failed_index=outcome.failed_index - len(guards))
            request = steps.send(outcome)
    except StopIteration as stop:
        result: _Result = stop.value
        return result
    finally:
        steps.close()
