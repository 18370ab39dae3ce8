"""A task may be cancelled at each await: nothing is applied twice or later, and no lock and no waiter stays."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import pytest

from redicts import Pool
from redicts.aio import Proxy, root
from redicts.aio.adapters import InLoop, InThreads
from redicts.aio.loops import Loops
from redicts.core.async_backend import AsyncBackend, AsyncListener
from redicts.core.minitransaction import Key, Outcome, Transaction
from tests.support.servers import RedisServer
from tests.support.waiting import TIMEOUT


class Plan:
    """Cancels the running task at one of the points that it passes, if any task is the victim."""

    def __init__(self) -> None:
        self.victim: asyncio.Task[Any] | None = None
        self.at = 0
        self.passed = 0

    def begin(self, victim: asyncio.Task[Any], at: int) -> None:
        """Cancel this task at the point with this number."""
        self.victim, self.at, self.passed = victim, at, 0

    def is_due(self) -> bool:
        """Count a point, and return whether the task is to be cancelled there."""
        if self.victim is None or asyncio.current_task() is not self.victim:
            return False
        self.passed += 1
        return self.passed == self.at

    async def point(self) -> None:
        """Pass a point between two requests."""
        if self.victim is not None and asyncio.current_task() is self.victim:
            if self.is_due():
                self.victim.cancel()
            await asyncio.sleep(0)

    def in_flight(self) -> None:
        """Pass the point at which a request was sent and is not answered."""
        if self.is_due():
            assert self.victim is not None
            asyncio.get_running_loop().call_soon(self.victim.cancel)


class Cancelling(AsyncBackend):
    """A backend with three points to cancel in each request: before, while it is under way, and after."""

    def __init__(self, inner: AsyncBackend, plan: Plan) -> None:
        self.inner = inner
        self.plan = plan

    async def _do(self, request: Callable[[], Awaitable[Any]]) -> Any:
        await self.plan.point()
        self.plan.in_flight()
        answer = await request()
        await self.plan.point()
        return answer

    async def execute(self, transaction: Transaction, deadline: float | None = None, /) -> Outcome:
        outcome: Outcome = await self._do(lambda: self.inner.execute(transaction, deadline))
        return outcome

    async def fetch(self, key: Key, document: bool, /) -> bytes | None:
        found: bytes | None = await self._do(lambda: self.inner.fetch(key, document))
        return found

    async def overwrite(self, key: Key, value: bytes, document: bool, /) -> bool:
        return bool(await self._do(lambda: self.inner.overwrite(key, value, document)))

    async def listen(self, name: str, deadline: float | None = None, /) -> AsyncListener | None:
        await self.plan.point()
        self.plan.in_flight()
        listener = await self.inner.listen(name, deadline)
        try:
            await self.plan.point()
        except asyncio.CancelledError:
            if listener is not None:
                listener.close()
            raise
        self.plan.in_flight()  # it is cancelled where it waits
        return listener

    def close(self, at_once: bool, /) -> None:
        self.inner.close(at_once)


@pytest.fixture(params=["memory", "threads", "redis"])
def plan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plan]:
    """Use a store whose requests can be cancelled by a plan: in the loop, in threads, and on a server."""
    made = Plan()
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("server")
        Pool().reload(cfg={"backend": "redis", "host": server.host, "port": server.port})
    kind = InThreads if request.param == "threads" else InLoop
    opened = Loops._open_in

    def open_in(self: Loops, loop: asyncio.AbstractEventLoop) -> Any:
        found = opened(self, loop)
        inner = found.backend
        if request.param == "threads":
            inner = kind(self._backend)
        found.backend = Cancelling(inner, made)
        return found

    monkeypatch.setattr(Loops, "_open_in", open_in)
    yield made
    Pool().reload(cfg={"backend": "memory"})


PLACE: Final = "a.b"
BEFORE: Final = {"n": 1, "list": [1], "deep": {"x": 1, "y": 2}}


async def locked_add(place: Proxy) -> None:
    """Count under the lock."""
    async with place:
        await place["n"].add(1)


async def edit(place: Proxy) -> None:
    """Count in an edit."""
    async with place.edit() as value:
        value["n"] += 1


async def transaction(place: Proxy) -> None:
    """Count in a transaction."""
    async with place.transaction() as changes:
        changes.add("n", 1)
        changes.set("list", [2])


async def acquire_and_release(place: Proxy) -> None:
    """Acquire and release by calls."""
    lock = place.lock(expire_timeout=5)
    await lock.acquire()
    try:
        await lock.extend(10)
    finally:
        await lock.release()


OPERATIONS: Final[dict[str, Callable[[Proxy], Awaitable[Any]]]] = {
    "val": lambda place: place.val(),
    "set": lambda place: place.set("deep", {"x": 2}),
    "put": lambda place: place.put({"n": 5}),
    "add": lambda place: place["n"].add(1),
    "add a float": lambda place: place["n"].add(0.5),
    "update": lambda place: place.update({"deep": {"z": {}}, "n": 2}),
    "update_with": lambda place: place.update_with(lambda old: {**old, "n": old["n"] + 1}),
    "compare_and_set": lambda place: place["n"].compare_and_set(1, 2),
    "pop": lambda place: place.pop("deep", None),
    "setdefault": lambda place: place.setdefault("new", 1),
    "delete": lambda place: place.delete("deep"),
    "expire": lambda place: place.expire(1000),
    "items": lambda place: place.items(),
    "transaction": transaction,
    "edit": edit,
    "with": locked_add,
    "acquire": acquire_and_release,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_cancelled_at_each_await(plan: Plan, name: str) -> None:
    """Wherever a task is cancelled, its operation was applied or not, and never is later; other tasks go on."""
    operation = OPERATIONS[name]

    async def main() -> None:
        place = Proxy(PLACE)
        await root().put({"a": {"b": BEFORE}})
        await operation(place)
        after = await place.val()
        for at in itertools.count(1):
            await root().put({"a": {"b": BEFORE}})
            if not await is_cancelled(plan, operation(place), at):
                break
            await in_order_again(place)
            assert await place.val() in (BEFORE, after), at
        assert at > 3

    run(main())


async def is_cancelled(plan: Plan, call: Awaitable[Any], at: int) -> bool:
    """Await a call in a task of its own, which the plan cancels at a point, and return whether it came so far."""

    async def victim() -> None:
        await call

    task = asyncio.create_task(victim())
    plan.begin(task, at)
    await asyncio.wait([task], timeout=TIMEOUT)
    assert task.done()
    is_done = not task.cancelled()
    if is_done:
        task.result()
    plan.victim = None
    return not is_done


async def in_order_again(place: Proxy) -> None:
    """Insist that nobody holds the lock or waits for it any more, and that a reply is that of its request."""
    lock = place.lock(acquire_timeout=TIMEOUT)
    async with lock:  # what a cancelled task left is withdrawn in the background
        assert len(await lock.holders()) == 1
    loop = asyncio.get_running_loop()
    until = loop.time() + TIMEOUT
    while await lock.holders() or await lock.waiters():
        assert loop.time() < until
        await asyncio.sleep(0.005)
    marks = [loop.time() + index for index in range(3)]
    for mark in marks:
        await root().set("echo", mark)
        assert await root()["echo"].val() == mark
    await root().delete("echo")


@pytest.mark.parametrize("name", ["with", "edit", "acquire"])
def test_a_waiter_is_cancelled_at_each_await(plan: Plan, name: str) -> None:
    """A task that waits for a lock and is cancelled leaves no entry in the queue: the next one gets the lock."""
    operation = OPERATIONS[name]

    async def hold(holds: asyncio.Event, until: asyncio.Event) -> None:
        async with Proxy("a"):
            holds.set()
            await until.wait()

    async def main() -> None:
        place = Proxy(PLACE)
        for at in itertools.count(1):
            await root().put({"a": {"b": BEFORE}})
            holds, until = asyncio.Event(), asyncio.Event()
            holder = asyncio.create_task(hold(holds, until))
            await holds.wait()
            asyncio.get_running_loop().call_later(0.02, until.set)
            was_cancelled = await is_cancelled(plan, operation(place), at)
            until.set()
            await holder
            await in_order_again(place)
            if not was_cancelled:
                break
        assert at > 10

    run(main())


def run(main: Any) -> None:
    """Run a test in an event loop, with a limit of time."""
    asyncio.run(asyncio.wait_for(main, 5 * TIMEOUT))


def test_a_write_that_was_cancelled_is_not_applied_after_a_later_one(plan: Plan) -> None:
    """A write whose task was cancelled while it was under way never overwrites a later one."""

    async def main() -> None:
        for at in range(1, 4):
            await is_cancelled(plan, Proxy("a").set("n", "early"), at)
            await Proxy("a").set("n", "late")
            await asyncio.sleep(0.002)
            assert await Proxy("a.n").val() == "late"

    run(main())


def test_tasks_are_cancelled_at_random_under_load(server: RedisServer) -> None:
    """Tasks count in an edit and are cancelled at random: each that succeeds counts once, no other twice."""
    Pool().reload(cfg={"backend": "redis", "host": server.host, "port": server.port, "max_connections": 4})
    dice = random.Random(7)

    async def count(number: int, place: Proxy) -> int:
        async with place.edit() as value:
            value["n"] = value.get("n", 0) + 1
            value[f"by {number}"] = True
        return number

    async def main() -> None:
        place = Proxy("visits", lock_acquire_timeout=None)
        tasks = [asyncio.create_task(count(number, place)) for number in range(300)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0.005)
            for task in dice.sample(tasks, 5):
                if dice.random() < 0.5:
                    task.cancel()
        succeeded = [task.result() for task in tasks if not task.cancelled()]
        assert 0 < len(succeeded) < len(tasks)
        await in_order_again(place)
        value = await place.val()
        counted = value.pop("n")
        assert counted == len(value)
        assert {f"by {number}" for number in succeeded} <= value.keys()
        assert len(value) - len(succeeded) <= len(tasks) - len(succeeded)

    run(main())
    Pool().reload(cfg={"backend": "memory"})
