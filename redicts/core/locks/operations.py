"""Operations on the locks of a tree, as steps without I/O: acquire, withdraw, release, renew, find and break."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from redicts.core.driver import Listen, Steps
from redicts.core.locks.acquisition import Acquisition, Grant, Timing, notify
from redicts.core.locks.records import (
    HOLDERS,
    LISTENERS,
    TOKENS,
    WAITERS,
    WAITING_FOR,
    Record,
    Request,
    reads_of,
    records_in,
)
from redicts.core.minitransaction import (
    Add,
    Check,
    Delete,
    Entries,
    Equals,
    Expire,
    Key,
    Notify,
    Outcome,
    Put,
    Read,
    Scope,
    Status,
    Transaction,
    Write,
    canonical_counter,
)
from redicts.core.sections import by_section, refuse_several
from redicts.errors import CorruptData, LockLost, RedictsError, StoreError, Unsupported

_CLOCK_BITS: Final = 8
"""The first fencing token of a tree is the time in milliseconds, shifted left by so many bits."""

_STEP: Final = 100
"""The number of records that one transaction removes, renews or notifies."""

FIRST_TOKEN: Final = 2**40
"""The lowest fencing token. A counter below it is new, and is first set to the time."""

_ATTEMPTS: Final = 1_000
"""The maximum number of attempts to set it under contention."""

_Item = TypeVar("_Item")


class LockOperations:
    """Operations on locks: one half of :class:`redicts.core.store.TreeStore`, which documents the arguments."""

    def __init__(
        self,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        timing: Timing = Timing(),  # noqa: B008  (it is immutable)
        *,
        sharded: bool = False,
    ) -> None:
        self.sharded = sharded
        self.clock = clock
        self.wall_clock = wall_clock
        self.timing = timing

    def acquire(
        self,
        request: Request,
        lease: int,
        timeout: float | None,
        own: Collection[Request] = (),
        reads: tuple[Read, ...] = (),
    ) -> Steps[Grant | None]:
        """Acquire a lock for ``lease`` milliseconds, waiting at most ``timeout`` seconds, ``None`` without limit.

        With a timeout of 0 it returns ``None`` if the lock is not free. ``own`` are the locks that the owner holds.
        The transaction that grants the lock carries out ``reads``, which must be limited to a page each.
        Raises :class:`~redicts.errors.LockTimeout` and :class:`~redicts.errors.Deadlock`. Without a grant, nothing is
        left in the store, or ``request.pending`` stays true and :meth:`withdraw` must be called later.

        One transaction if the lock is free. Otherwise three before waiting, and one after a notification. With a
        timeout of 0 and locks of its own, two more, to pass the waiters that these locks block.
        """
        if self.sharded:
            refuse_several(request.paths)
        deadline = None if timeout is None else self.clock() + timeout
        request.pending = True
        acquisition = Acquisition(request, lease, own, deadline, self.clock, self.timing, reads)
        try:
            grant = yield from acquisition.at_once()
            if grant is None and timeout != 0:
                yield Listen(request.listener)
                grant = yield from acquisition.in_order()
            elif grant is None and (own or acquisition.too_large):
                grant = yield from acquisition.past_blocked_waiters()
            if grant is None:
                request.pending = False
                return None
            if grant.token >= FIRST_TOKEN:
                return grant
            token = yield from self._token(grant.token, request)
            return Grant(token, grant.since, 0, grant.answers)
        except GeneratorExit:
            raise
        except BaseException as error:
            if isinstance(error, StoreError) and not error.maybe_applied and not acquisition.written:
                request.pending = False
            else:
                yield from self._withdraw_after(error, request)
            raise

    def _withdraw_after(self, error: BaseException, request: Request) -> Steps[None]:
        try:
            yield from self.withdraw(request)
        except StoreError:
            # The first error is the cause; ``request.pending`` tells the caller to withdraw again.
            raise error from None

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
            there = yield from self._release_if_held(request)
        request.pending = False
        return all(there)

    def _release_if_held(self, request: Request) -> Steps[list[bool]]:
        """Remove the records of a held lock, and return which were there: one transaction if all were, else two.

        A check is cheaper than a read, whose answer a store may have to keep for a request that is sent again.
        """
        keys = request.keys(HOLDERS)
        held = tuple([Equals(key, Scope.NODE, {(): request.record}) for key in keys])
        gone = tuple([Delete(key, Scope.NODE) for key in keys])
        outcome = yield Transaction(held, (), (*gone, notify(request.name)))
        if outcome.applied:
            return [True]
        return (yield from self._remove(keys, (request.name,)))

    def _ending(self, steps: Steps[None], request: Request) -> Steps[list[bool]]:
        """Run an operation, and remove a lock in its transaction that writes.

        Returns which records of the lock were there; nothing if the operation did not write.
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
                            there = _found_in(outcome)
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

        The answers are the values of the records.
        """
        reads = tuple(map(Read, keys))
        writes += tuple([Delete(key, Scope.NODE) for key in keys])
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

    def _token(self, counted: int, request: Request) -> Steps[int]:
        """Return the fencing token for a grant; set a new counter to the time first.

        Tokens must increase even if the store loses its data, because the resources that they guard keep theirs. So a
        new counter is set to the time, while the request holds its lock: until the release, no conflicting lock has a
        later token.
        """
        mine = Equals(request.keys(HOLDERS)[0], Scope.NODE, {(): request.record})
        for _ in range(_ATTEMPTS):
            if counted >= FIRST_TOKEN:
                return counted
            start = int(self.wall_clock() * 1000) << _CLOCK_BITS
            unchanged = Equals(TOKENS, Scope.NODE, {(): b"%d" % counted})
            outcome = yield Transaction((mine, unchanged), (Read(TOKENS),), (Put(TOKENS, b"%d" % start),))
            if outcome.applied:
                return start
            counted = canonical_counter(outcome.answers[0].values.get((), b"0")) or 0
            if outcome.failed_index and counted >= FIRST_TOKEN:
                outcome = yield Transaction((mine,), (), (Add(TOKENS, 1),))
                counted = outcome.counters[0] if outcome.applied else counted
            if not outcome.failed_index and not outcome.applied:
                raise LockLost("the lease ran out, or the lock was broken, before it was granted; acquire it again")
        raise CorruptData(
            "the counter of fencing tokens does not keep its value; remove it from the store, see the page on locks"
        )


def _found_in(outcome: Outcome) -> list[bool]:
    """Return which of the values that a transaction read were there."""
    return [isinstance(answer, Entries) and bool(answer.values) for answer in outcome.answers]
