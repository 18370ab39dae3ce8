"""Operations on locks that are there, as steps without I/O: withdraw, release, renew, find and break."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from redicts.core.driver import Steps
from redicts.core.locks.records import (
    HOLDERS,
    LISTENERS,
    WAITERS,
    WAITING_FOR,
    Record,
    Request,
    reads_of,
    records_in,
)
from redicts.core.minitransaction import (
    Check,
    Delete,
    Entries,
    Equals,
    Expire,
    Key,
    Notify,
    Outcome,
    Read,
    Scope,
    Status,
    Transaction,
    Write,
)
from redicts.core.sections import by_section
from redicts.errors import RedictsError, StoreError, Unsupported

_STEP: Final = 100
"""The number of records that one transaction removes, renews or notifies."""

_NODE: Final = Scope.NODE
_BELOW: Final = Scope.BELOW
_APPLIED: Final = Status.APPLIED  # some versions of Python look up the member of an Enum in Python, each time

_Item = TypeVar("_Item")


class LockOperations:
    """Operations on locks that are there. ``sharded`` says whether the store keeps sections on several servers."""

    def __init__(self, *, sharded: bool = False) -> None:
        self.sharded = sharded

    def withdraw(self, request: Request) -> Steps[None]:
        """Remove the records of a request, and notify later waiters. One transaction."""
        keys = [key for space in (HOLDERS, WAITERS) for key in request.keys(space)]
        yield from self._remove([*keys, Key(WAITING_FOR, (request.owner.name,))], [request.name])
        request.pending = False

    def release(self, request: Request, last: Steps[None] | None = None) -> Steps[bool]:
        """Release a lock, and return whether it was still held on all its paths. One transaction; two if it was lost.

        ``last`` is an operation to carry out first. Its transaction that writes also releases the lock. However it
        ends, the lock is released, and its error is raised, unless the store fails.
        """
        request.pending = True
        there: list[bool] = []
        try:
            if last is not None:
                there = yield from self._ending(last, request)
        except StoreError:
            raise
        except RedictsError as error:
            try:
                yield from self._remove(request.keys(HOLDERS), (request.name,))
            except StoreError:
                raise error from None  # ``request.pending`` tells the caller to withdraw it
            request.pending = False
            raise
        if not there:
            # A check is cheaper than a read, whose answer a store may have to keep for a request that is sent again.
            keys, record = request.keys(HOLDERS), request.record
            held = tuple([Equals(key, _NODE, {(): record}) for key in keys])
            gone = [Delete(key, _NODE) for key in keys]
            outcome = yield Transaction(held, (), (*gone, notify(request.name)))
            if outcome.status is not _APPLIED:
                there = yield from self._remove(keys, (request.name,))
        request.pending = False
        return all(there)

    def _ending(self, steps: Steps[None], request: Request) -> Steps[list[bool]]:
        """Run an operation, and remove a lock in its transaction that writes.

        Returns for the records of the lock whether they were there; nothing if the operation did not write.
        """
        there: list[bool] = []
        try:
            step = next(steps)
            while True:
                try:
                    if isinstance(step, Transaction) and step.writes:
                        keys, names = request.keys(HOLDERS), (request.name,)
                        outcome = yield from self._remove_with(keys, names, step.checks, step.writes)
                        if outcome.applied:
                            there = [True, *_found_in(outcome)]
                    else:
                        outcome = yield step
                except GeneratorExit:
                    raise
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration:
            return there
        finally:
            steps.close()

    def renew(self, requests: Iterable[tuple[Request, int]]) -> Steps[list[bool]]:
        """Renew leases, each for so many milliseconds, and return which locks are still held.

        A lock that is lost on one of its paths is not restored. One transaction per hundred paths, and per section of a
        sharded store.
        """
        asked = list(requests)
        keys = [(key, lease) for request, lease in asked for key in request.keys(HOLDERS)]
        there: set[Key] = set()
        for step in self._steps(keys, lambda item: item[0]):
            outcome = yield Transaction(
                (),
                tuple([Read(key) for key, _ in step]),
                tuple([Expire(key, Scope.NODE, lease) for key, lease in step]),
            )
            there.update([key for (key, _), answer in zip(step, outcome.answers) if answer.values])
        return [there.issuperset(request.keys(HOLDERS)) for request, _ in asked]

    def _steps(self, items: Sequence[_Item], key_of: Callable[[_Item], Key]) -> Iterator[Sequence[_Item]]:
        """Yield items with a key in steps that one transaction takes each."""
        for part in by_section(items, key_of) if self.sharded else [items]:
            for start in range(0, len(part), _STEP):
                yield part[start : start + _STEP]

    def find_locks(self, scopes: Iterable[Key]) -> Steps[list[Record]]:
        """Return the lock records below some keys, with their remaining TTLs. One transaction per page."""
        records: list[Record] = []
        reads = reads_of(scopes, ttls=True)
        while reads:
            outcome = yield Transaction((), tuple(reads))
            further = []
            for read, answer in zip(reads, outcome.answers):
                records += records_in(read.key, answer)
                if answer.cursor is not None:
                    further.append(read._replace(cursor=answer.cursor))
            reads = further
        return records

    def break_locks(self, records: Iterable[Record]) -> Steps[None]:
        """Remove the records of any owners, and notify their waiters. One transaction per hundred records.

        And at least one per section of a sharded store.
        """
        for step in self._steps(list(records), lambda record: record.key):
            yield from self._remove([record.key for record in step], [record.request for record in step])

    def _remove(self, keys: Sequence[Key], names: Sequence[str]) -> Steps[list[bool]]:
        """Remove records, notify the waiters of some requests, and return which records were there."""
        outcome = yield from self._remove_with(keys, names)
        if not outcome.applied:
            raise Unsupported(
                "a lock must have no more paths than this store changes in one transaction; lock a common parent"
            )
        return _found_in(outcome)

    def _remove_with(
        self, keys: Sequence[Key], names: Sequence[str], checks: tuple[Check, ...] = (), writes: tuple[Write, ...] = ()
    ) -> Steps[Outcome]:
        """Apply checks and writes, remove records and notify the waiters of some requests, all or nothing.

        The answers are the values of the records, but of those that a check expects to be there.
        """
        expected = [check.key for check in checks if isinstance(check, Equals) and () in check.entries]
        reads = tuple([Read(key) for key in keys if key not in expected])
        writes += tuple([Delete(key, _NODE) for key in keys])
        outcome: Outcome = yield Transaction(checks, reads, writes + tuple(map(notify, names)))
        if outcome.status is Status.TOO_LARGE:
            # Too many waiters for one transaction: remove the records first, then notify.
            outcome = yield Transaction(checks, reads, writes)
            if outcome.applied:
                for name in names:
                    yield from self._notify_in_steps(name, Read(keys[0]))
        return outcome

    def _notify_in_steps(self, name: str, home: Read) -> Steps[None]:
        """Notify the waiters of a request. ``home`` only says in which section of a sharded store they are."""
        scope = Key(LISTENERS, (name,))
        cursor = None
        while True:
            listed, _ = (yield Transaction((), (Read(scope, Scope.BELOW, _STEP, cursor), home))).answers
            below = list(listed.values)
            for start in range(0, len(below), _STEP):
                notifies = [Notify(Key(LISTENERS, (name, *path)), Scope.NODE) for path in below[start : start + _STEP]]
                yield Transaction((), (home,), tuple(notifies))
            cursor = listed.cursor
            if cursor is None:
                return


def notify(request: str) -> Notify:
    """Return the write that notifies the waiters registered with a request."""
    return Notify(Key(LISTENERS, (request,)), _BELOW)


def _found_in(outcome: Outcome) -> list[bool]:
    """Return which of the values that a transaction read were there."""
    return [isinstance(answer, Entries) and bool(answer.values) for answer in outcome.answers]
