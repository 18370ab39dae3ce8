"""A task owns what it acquires: tasks that it creates do not, and functions in threads work under its locks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

import redicts
from redicts import Deadlock, LockLost, LockTimeout, NotHeld, WrongUse
from redicts.aio import Lock, Pool, Proxy, root
from redicts.locks.retention import Retention
from tests.support.servers import RedisServer
from tests.support.waiting import TIMEOUT, eventually


async def in_a_task(function: Callable[[], Any]) -> Any:
    """Await a call in a task of its own."""

    async def task() -> Any:
        return await function()

    return await asyncio.create_task(task())


def test_a_task_that_a_task_creates_does_not_inherit_its_locks() -> None:
    """The child cannot acquire, does not hold and cannot release what its parent holds."""

    async def main() -> None:
        async with Proxy("a") as place:
            assert place.lock().held
            assert not await in_a_task(lambda: place.acquire(blocking=False))
            assert not await in_a_task(held)
            with pytest.raises(NotHeld, match="task"):
                await in_a_task(place.release)
            async with Proxy("a.b"):  # without a round trip
                pass

    async def held() -> bool:
        return Proxy("a").lock().held

    asyncio.run(main())


def test_a_function_in_a_thread_works_under_the_lock_of_its_task() -> None:
    """``asyncio.to_thread`` carries the owner: the function relies on the lock, and its writes are guarded."""

    def work() -> int:
        with redicts.Proxy("a.b"):
            redicts.Proxy("a").set("n", 1)
        return redicts.Proxy("a.n").add(1)

    async def main() -> None:
        async with Proxy("a") as place:
            assert await asyncio.to_thread(work) == 2
            await in_a_task(lambda: place.lock().break_locks())
            with pytest.raises(LockLost):
                await asyncio.to_thread(redicts.Proxy("a").set, "n", 5)
        assert await Proxy("a.n").val() == 2

    asyncio.run(main())


def test_a_function_in_a_thread_works_under_a_lock_of_an_opened_database() -> None:
    """``db.blocking`` is the same database for threads, with the same locks."""

    async def main() -> None:
        async with redicts.aio.open({"backend": "memory"}) as db:
            async with db.lock("a") as lock:
                await asyncio.to_thread(db.blocking.proxy("a").set, "n", 1)
                await in_a_task(lock.break_locks)
                with pytest.raises(LockLost):
                    await asyncio.to_thread(db.blocking.proxy("a").set, "n", 5)
            assert await db.root().val() == {"a": {"n": 1}}

    asyncio.run(main())


def test_a_task_releases_what_it_acquired_by_a_blocking_call() -> None:
    """Both fronts have the same locks: either releases and extends what the other one has acquired."""

    async def main() -> None:
        redicts.Proxy("a").acquire()
        await Proxy("a").lock().extend()
        await Proxy("a").release()
        await Proxy("a").acquire()
        redicts.Proxy("a").release()
        assert not await Proxy("a").is_locked()

    asyncio.run(main())


@pytest.mark.parametrize("wrapped", [asyncio.gather, asyncio.create_task, lambda call: asyncio.wait_for(call, TIMEOUT)])
def test_a_call_acts_for_the_task_that_makes_it(wrapped: Callable[[Any], Any]) -> None:
    """What a task passes to ``gather``, ``create_task`` or ``wait_for`` acquires, writes and releases for that task."""

    async def main() -> None:
        place = Proxy("a")
        await wrapped(place.acquire())
        assert place.lock().held
        await wrapped(place.set("n", 1))
        await in_a_task(lambda: place.lock().break_locks())
        with pytest.raises(LockLost):
            await wrapped(place.set("n", 2))
        await wrapped(place.release())
        assert not place.lock().held

    asyncio.run(main())


def test_a_block_may_end_in_another_task() -> None:
    """It releases the lock of the task that entered it: in an exit stack, and in an asynchronous generator."""

    @asynccontextmanager
    async def dependency() -> AsyncIterator[Proxy]:
        async with Proxy("a") as place:
            yield place

    async def main() -> None:
        for block in (Proxy("a"), Proxy("a").lock(), dependency(), Proxy("a").edit(), Proxy("a").locked()):
            stack = AsyncExitStack()
            await stack.enter_async_context(block)
            assert await Proxy("a").is_locked()
            await in_a_task(stack.aclose)
            assert not await Proxy("a").is_locked()

    asyncio.run(main())


def test_a_blocking_acquire_for_a_lock_of_the_same_loop_is_an_error_at_once() -> None:
    """It would stall the loop: the task that holds the lock, or waits for it, could never go on."""

    async def main() -> None:
        holds, until = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            async with Proxy("a.b"):
                holds.set()
                await until.wait()

        holder = asyncio.create_task(hold())
        await holds.wait()
        for path in ("a", "a.b", "a.b.c"):
            with pytest.raises(Deadlock, match=r"held by .* one event loop; use the lock of redicts\.aio"):
                redicts.Proxy(path, lock_acquire_timeout=None).acquire()
        assert not redicts.Proxy("a").acquire(blocking=False)
        with redicts.Proxy("c"):
            pass
        with pytest.raises(LockTimeout):  # in a thread it waits
            await asyncio.to_thread(redicts.Proxy("a", lock_acquire_timeout=0.01).acquire)
        until.set()
        await holder
        with redicts.Proxy("a"):
            pass

    asyncio.run(main())


def test_without_a_loop_of_asyncio_a_call_says_what_to_do() -> None:
    """Another library, such as trio, cannot await the calls."""
    with pytest.raises(WrongUse, match=r"event loop of asyncio.*trio\.to_thread"):
        Proxy("a").val().send(None)
    with pytest.raises(WrongUse, match="event loop of asyncio"):
        Proxy("a").acquire().send(None)


def test_a_renewed_lock_is_renewed_while_the_loop_is_busy() -> None:
    """Renewal has a thread of its own, so a callback that blocks the loop does not lose the lock."""

    async def main() -> None:
        async with Proxy("a").lock(renew=True, expire_timeout=1) as lock:
            blocking = redicts.Proxy("a").lock()
            (first,) = blocking.holders()
            eventually(lambda: blocking.holders()[0].until > first.until, "the lease is renewed")
            assert lock.held

    asyncio.run(main())


def test_callbacks_run_in_their_loop() -> None:
    """``on_loss`` is called in the loop of its task, and may be a coroutine function. What it raises is logged."""

    async def main(make: Callable[[asyncio.Event], Callable[[Lock], Any]]) -> None:
        lost = asyncio.Event()
        async with Proxy("a").lock(on_loss=make(lost)) as lock:
            await in_a_task(lock.break_locks)
            with pytest.raises(LockLost):
                await lock.extend()
            await asyncio.wait_for(lost.wait(), TIMEOUT)

    def plain(lost: asyncio.Event) -> Callable[[Lock], Any]:
        loop = asyncio.get_running_loop()

        def on_loss(lock: Lock) -> None:
            assert asyncio.get_running_loop() is loop
            assert lock.key == "a"
            lost.set()
            raise KeyError

        return on_loss

    def awaited(lost: asyncio.Event) -> Callable[[Lock], Any]:
        async def on_loss(lock: Lock) -> None:
            await root().set("lost", lock.key)
            lost.set()

        return on_loss

    for make in (plain, awaited):
        asyncio.run(main(make))
    assert redicts.root()["lost"].val() == "a"


def test_nothing_is_retained(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a task comes back to its lock, each release frees it in the store."""
    monkeypatch.setattr(Retention, "reserve_tokens", lambda *_: pytest.fail("tokens are reserved"))

    async def work() -> None:
        for _ in range(10):
            async with Proxy("a"):
                await Proxy("a.n").add(1)

    async def main() -> None:
        await asyncio.gather(work(), work())
        assert await Proxy("a.n").val() == 20

    asyncio.run(main())


@pytest.mark.parametrize("store", ["memory", "redis"])
def test_of_many_waiters_few_are_in_the_store(store: str, request: pytest.FixtureRequest) -> None:
    """Tasks get the lock in order, each once; the queue in the store stays short, and a timeout counts everywhere."""
    if store == "redis":
        server: RedisServer = request.getfixturevalue("server")
        redicts.Pool().reload(cfg={"backend": "redis", "host": server.host, "port": server.port})

    async def main() -> None:
        order: list[int] = []
        lock = Lock(Pool(), "a", acquire_timeout=None)

        async def count(number: int) -> None:
            async with lock:
                order.append(number)

        async with lock:
            tasks = [asyncio.create_task(count(number)) for number in range(40)]
            await asyncio.sleep(0)
            with pytest.raises(LockTimeout, match="40 tasks of this event loop"):
                await in_a_task(Lock(Pool(), "a", acquire_timeout=0.05).acquire)
            until = time.monotonic() + TIMEOUT
            while len(await lock.waiters()) < 16:
                assert time.monotonic() < until
            tasks[20].cancel()
            assert len(await lock.waiters()) == 16
        await asyncio.wait(tasks)
        assert order == [number for number in range(40) if number != 20]

    asyncio.run(main())
