"""asyncio: the part of a backend that tasks use keeps the same rules, and a cancelled task disturbs nobody."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from redicts.contract.check import ConformanceCheck, Need, conformance_check, registered
from redicts.contract.fixture import Fixture
from redicts.contract.form import entries_of
from redicts.contract.harness import Harness, inner_of
from redicts.contract.leftovers import Leftovers
from redicts.contract.listening import fresh_name
from redicts.contract.pauses import paused_process
from redicts.contract.requirements import CheckFailed, NotRun, require, require_equal
from redicts.contract.through_tasks import LoopThread, through_tasks
from redicts.core.async_backend import AsyncBackend
from redicts.core.minitransaction import RECORDS, Add, Key, Notify, Outcome, Put, Read, Scope, Transaction
from redicts.errors import StoreError

_SUBJECTS: Final = (
    "conditions.equals_compares_its_scope",
    "conditions.starts_with_compares_its_scope",
    "conditions.prefixes_are_bytes",
    "reads",
    "sizes.what_has_expired_does_not_count",
    "waits.any_deadline_is_a_deadline",
)
_ALL_SUBJECTS: Final = ("conditions", "counters", "names", "reads", "ttl", "writes")
"""The subjects whose checks are examined through tasks, usually and thoroughly: what a transaction means."""

_FAULTS: Final = (
    "replies.a_lost_add_counts_once",
    "replies.a_lost_refusal_is_returned",
    "replies.a_lost_put_overwrites_nobody",
    "failures.a_write_in_doubt_says_so",
    "failures.a_deadline_ends_a_call",
    "failures.a_late_answer_is_nobodys",
    "failures.damage_is_told",
    "servers.a_server_that_forgot_is_told_again",
    "servers.connections_that_broke_are_replaced",
    "servers.a_request_in_doubt_ends_with_the_next",
)
_LISTENERS: Final = (
    "listeners.a_call_before_the_wait_counts",
    "listeners.names_that_begin_alike_are_two",
    "waits.any_wait_is_a_wait",
    "listeners.a_listener_may_leave",
    "servers.listeners_outlast_their_connection",
    "changes.a_notification_follows_the_change",
    "changes.writes_above_and_below_are_told",
    "changes.no_change_is_lost_with_a_connection",
)

_TASKS: Final = 20
_ROUNDS: Final = 10
_TURNS: Final = 5
_LENGTHS: Final = 0, 1, 10_000, 2, 100_000, 0, 0
"""How many bytes are added to values, in turn."""
_STEPS: Final = 24
"""How often a task that is to be cancelled lets others run first, at most."""

_LATE_SECS: Final = 0.003
_FEW_LEFT: Final = 5
"""How many open files a pool may keep."""

_WAIT_SECS: Final = 0.05
"""Seconds until the deadline of a call that waits for another process."""
_FEW_STEPS: Final = 5
"""How many steps other tasks make meanwhile, at least."""
_HELD_UP: Final = 3
"""How often they must not, since a busy machine may stand still."""
_PAUSE_SECS: Final = 2.0
"""The longest pause of the other process, for a call without a deadline."""
_POINTS: Final = 30
"""The most pauses."""


@conformance_check(needs=[Need.ASYNCIO])
def transactions_mean_the_same(fixture: Fixture) -> None:
    """A transaction of a task has the outcome that one of a thread has: the checks of transactions hold for it.

    Examines the checks of reads, and some of conditions, expired values and deadlines, through tasks, and those of all
    transactions if it is thorough.
    """
    _examine(fixture, _ALL_SUBJECTS if fixture.thorough else _SUBJECTS)


@conformance_check(needs=[Need.ASYNCIO, Need.LOST_REPLIES])
def faults_mean_the_same(fixture: Fixture) -> None:
    """What a fault of the network does to a task is what it does to a thread: the checks of lost replies hold for it.

    Examines the checks of lost and late replies, of writes in doubt, of damage, of connections that broke and of a
    server that forgot through tasks.
    """
    _examine(fixture, _FAULTS)


@conformance_check(needs=[Need.ASYNCIO, Need.PUSH])
def listeners_mean_the_same(fixture: Fixture) -> None:
    """A listener of a task is notified when one of a thread is, of changes too, and after its connection broke.

    Examines some checks of listeners and changes through tasks, and those of listeners whose connection broke.
    """
    _examine(fixture, _LISTENERS)


@conformance_check(needs=[Need.ASYNCIO])
def tasks_share_it(fixture: Fixture) -> None:
    """Any number of tasks execute at the same time, and each gets its own outcome.

    Twenty tasks at the same time write values of their own, some of them long, read them, and Add to one counter.
    """
    count = fixture.key("count")

    async def work(backend: AsyncBackend) -> None:
        await asyncio.gather(*[one(backend, number) for number in range(_TASKS)])
        outcome = await backend.execute(Transaction((), (Read(count),)))
        require_equal(entries_of(outcome.answers[0]).values, {(): b"%d" % (_TASKS * _TURNS)}, "the counter is")

    async def one(backend: AsyncBackend, number: int) -> None:
        mine, other = fixture.key("of", f"task {number}"), fixture.key("other", f"task {number}")
        read = Transaction((), (Read(mine),))
        for turn in range(_TURNS):
            value = b"%d of %d" % (turn, number)
            more = Put(other, value + b"." * _LENGTHS[(turn + number) % len(_LENGTHS)])
            await backend.execute(Transaction((), (), (Put(mine, value), Add(count, 1))))
            calls = (read, Transaction((), (), (more,)), read)
            first, _, last = await asyncio.gather(*map(backend.execute, calls))
            for outcome in (first, last):
                require_equal(entries_of(outcome.answers[0]).values, {(): value}, "a task reads")

    _in_a_loop(fixture, work)


@conformance_check(needs=[Need.ASYNCIO, Need.DAMAGE])
def a_refused_request_is_its_tasks_own(fixture: Fixture) -> None:
    """If the store refuses the request of one task, those of others at the same time get their own outcomes.

    Damages what the store keeps at one path, and reads that and other paths at the same time.
    """
    while fixture.space[0] in RECORDS:  # such a space may be one record
        fixture.renew()
    bad, good = fixture.key("bad", "a"), [fixture.key("good", name) for name in "abc"]
    fixture.store.apply(Put(bad, b"1"), *[Put(key, key.path[-1].encode()) for key in good])

    async def work(backend: AsyncBackend) -> None:
        for scope in (Scope.NODE, Scope.SUBTREE, Scope.SUBTREE):
            asked = [bad, good[0], bad, *good[1:]]
            calls = [backend.execute(Transaction((), (Read(key, scope),))) for key in asked]
            for key, found in zip(asked, await asyncio.gather(*calls, return_exceptions=True)):
                if key is bad:
                    require(isinstance(found, StoreError), f"a read of what is damaged, among others, gives {found!r}")
                    continue
                require(isinstance(found, Outcome), f"beside a request that is refused, another one gives {found!r}")
                assert isinstance(found, Outcome)
                values = dict(entries_of(found.answers[0]).values)
                require_equal(values, {(): key.path[-1].encode()}, "beside a request that is refused, a task reads")

    repair = fixture.harness.damage(bad)
    if repair is None:
        raise NotRun("the harness cannot damage what is stored", required=False)
    try:
        _in_a_loop(fixture, work)
    finally:
        repair()


@conformance_check(needs=[Need.ASYNCIO])
def a_cancelled_task_takes_its_reply_along(fixture: Fixture) -> None:
    """The reply to a request whose task was cancelled, wherever it was, goes to no later request.

    Cancels a read at each step of the loop, and reads another value next.
    """
    mine, other = fixture.key("mine"), fixture.key("other")
    fixture.store.apply(Put(mine, b"mine"), Put(other, b"other"))

    async def work(backend: AsyncBackend) -> None:
        for steps in range(_STEPS):
            await _cancelled(backend.execute(Transaction((), (Read(other),))), steps)
            outcome = await backend.execute(Transaction((), (Read(mine),)))
            require_equal(entries_of(outcome.answers[0]).values, {(): b"mine"}, "after a cancellation, a read gives")

    _in_a_loop(fixture, work)


@conformance_check(needs=[Need.ASYNCIO])
def a_cancelled_write_is_not_late(fixture: Fixture) -> None:
    """A write whose task was cancelled is not applied after a later write.

    Cancels a Put at each step of the loop, and waits for a moment after the next Put of the same key.
    """
    key = fixture.key("value")

    async def work(backend: AsyncBackend) -> None:
        for steps in range(_STEPS):
            await _cancelled(backend.execute(Transaction((), (), (Put(key, b"early"),))), steps)
            await backend.execute(Transaction((), (), (Put(key, b"late"),)))
            await asyncio.sleep(_LATE_SECS)
            require_equal(fixture.store.read(key, Scope.NODE), {(): b"late"}, "after the later write, the value is")

    _in_a_loop(fixture, work)


@conformance_check(needs=[Need.ASYNCIO, Need.PUSH])
def a_task_is_notified(fixture: Fixture) -> None:
    """A Notify by any client, also of another thread, ends the wait of a task at once.

    Notifies the listener of a task from another thread, before it waits and while it does.
    """
    name = f"tasks{fixture.space}/1"
    key = fixture.key("listed")

    async def work(backend: AsyncBackend) -> None:
        listener = await backend.listen(name)
        require(listener is not None, "the store declares push, and its tasks poll")
        assert listener is not None
        try:
            for before in (True, False):
                thread = threading.Thread(target=partial(_notify, fixture, key, name))
                thread.start()
                if before:
                    await asyncio.to_thread(thread.join)
                begun = time.monotonic()
                is_notified = await listener.wait(fixture.timeout)
                took = time.monotonic() - begun
                await asyncio.to_thread(thread.join)
                require(is_notified and took < fixture.timeout * 0.9, "a task that waits was not notified")
        finally:
            listener.close()

    _in_a_loop(fixture, work)


@conformance_check(needs=[Need.ASYNCIO, Need.PROCESSES, Need.FORK, Need.OPENER])
def a_task_that_waits_lets_others_run(fixture: Fixture) -> None:
    """While a call of a task waits for another process, the other tasks of its loop run.

    A child process pauses in a write, wherever that calls a function. A task writes meanwhile, and another one counts.
    """
    opener, key = fixture.harness.opener, fixture.key("a")
    assert opener is not None  # the check needs an opener
    fixture.store.apply(Put(key, b"0"))
    writing, pause = Transaction((), (), (Put(fixture.key("b"), b"1"),)), min(_PAUSE_SECS, fixture.timeout / 4)

    async def is_held_up(backend: AsyncBackend, calls: list[asyncio.Future[Outcome]]) -> bool | None:
        """Tell whether a write that waits holds the loop up, or return ``None`` if it does not wait."""
        begun, steps = time.monotonic(), 0
        calls.append(asyncio.ensure_future(backend.execute(writing, begun + _WAIT_SECS)))
        while not calls[-1].done() and steps < _FEW_STEPS:
            await asyncio.sleep(_WAIT_SECS / 100)
            steps += 1
        return None if time.monotonic() < begun + _WAIT_SECS * 0.9 and calls[-1].done() else steps < _FEW_STEPS

    async def work(backend: AsyncBackend) -> None:
        calls: list[asyncio.Future[Outcome]] = []
        told: list[bool] = []
        where = ""
        with paused_process(opener, Put(key, b"1"), fixture.timeout, pause) as points:
            for point, _ in zip(points, range(_POINTS)):
                where = point
                held_up = await is_held_up(backend, calls)
                told += [] if held_up is None else [held_up]
                if False in told or len(told) == _HELD_UP:
                    break
        failures = [
            each for each in await asyncio.gather(*calls, return_exceptions=True) if isinstance(each, Exception)
        ]
        require(
            False in told or len(told) < _HELD_UP,
            f"a task that writes while a write of another process stands still {where} holds up all others of its loop",
        )
        for failure in failures:
            require(isinstance(failure, StoreError), f"a task that waits for another process raises {failure!r}")

    _in_a_loop(fixture, work)


@conformance_check(needs=[Need.ASYNCIO])
def each_loop_has_one(fixture: Fixture) -> None:
    """One backend serves several event loops, one after the other and at the same time, and leaves nothing open.

    Adds to one counter and listens in ten event loops one after the other, and then in three at the same time. Counts
    the open files.
    """
    count = fixture.key("count")
    made: list[AsyncBackend] = []  # so that no garbage collection closes what is left open

    async def work(backend: AsyncBackend) -> None:
        made.append(backend)
        for _ in range(2):
            await backend.execute(Transaction((), (), (Add(count, 1),)))
        listener = await backend.listen(fresh_name())
        if listener is not None:
            listener.close()

    async def meet(backend: AsyncBackend) -> None:
        are_open.wait(fixture.timeout)
        await work(backend)

    are_open = threading.Barrier(3)
    gc.collect()  # of what earlier loops have left
    leftovers = Leftovers()
    for _ in range(_ROUNDS):
        _in_a_loop(fixture, work)
    leftovers.require_few(_FEW_LEFT, f"{_ROUNDS} event loops", fixture.timeout / 4)
    fixture.together([partial(_in_a_loop, fixture, meet)] * 3)
    counted = 2 * (_ROUNDS + 3)
    require_equal(fixture.store.read(count, Scope.NODE), {(): b"%d" % counted}, "the counter of all loops is")


def _examine(fixture: Fixture, names: Sequence[str]) -> None:
    """Examine checks through tasks, given their names or their subjects, as far as the harness lets them run."""
    loop = LoopThread(fixture.timeout)
    harness = through_tasks(fixture.harness, loop)
    try:
        for check in registered():
            if (check.name in names or check.name.partition(".")[0] in names) and _can_run(check, fixture):
                inner = fixture.through(harness)
                try:
                    check.examine(inner)
                except CheckFailed as error:
                    raise CheckFailed(f"through tasks, {check.name}: {error}") from error
                except NotRun as reason:
                    if reason.required:
                        raise
                finally:
                    inner.close()
    finally:
        loop.close()


def _can_run(check: ConformanceCheck, fixture: Fixture) -> bool:
    met = {
        Need.TTL: fixture.capabilities.ttl,
        Need.CHANGES: fixture.capabilities.changes,
        Need.DOCUMENTS: fixture.capabilities.documents,
        Need.LOST_REPLIES: fixture.harness.networked,
        Need.LATE_REQUESTS: fixture.harness.networked,
        Need.LIMIT: fixture.capabilities.atomic_entries is not None,
        Need.FORGETTING: type(fixture.harness).forget is not Harness.forget,
        Need.DAMAGE: type(fixture.harness).damage is not Harness.damage,
    }
    return all(met.get(need, False) for need in check.needs)


def _in_a_loop(fixture: Fixture, work: Callable[[AsyncBackend], Awaitable[None]]) -> None:
    """Run work in a new event loop, with the part for asyncio that the backend makes for it."""
    store = fixture.store.backend

    async def main() -> None:
        backend = inner_of(store).for_asyncio()
        require(backend is not None, "for_asyncio returns a backend, and then None")
        assert backend is not None
        try:
            await asyncio.wait_for(_awaited(work(backend)), fixture.timeout)
        except asyncio.TimeoutError:
            raise CheckFailed(f"tasks did not finish within {fixture.timeout:g} seconds") from None
        finally:
            backend.close(True)
            await asyncio.sleep(0)

    asyncio.run(main())


async def _awaited(work: Awaitable[None]) -> None:
    await work


async def _cancelled(call: Any, steps: int) -> None:
    """Cancel a call after so many steps of the loop, if it has not ended, and wait until it has."""
    task = asyncio.ensure_future(call)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


def _notify(fixture: Fixture, key: Key, name: str) -> None:
    time.sleep(_LATE_SECS)  # the loop sleeps by then
    fixture.store.apply(Put(key, name.encode()))
    fixture.store.apply(Notify(key, Scope.NODE))
