"""Lock owners: threads, tasks of every framework, calls in worker threads for them, and owners that are handed over."""

from __future__ import annotations

import _thread
import asyncio
import contextvars
import sys
import threading
import types
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest

from redicts import Lock, LockLost, LockTimeout, NotHeld, Pool, Proxy
from redicts.locks.owner import current_owner
from tests.locks.locking import Somebody, break_locks, in_store, nothing_is_left, try_lock
from tests.support.stores import Store, together
from tests.support.waiting import TIMEOUT, eventually


def lock_of(path: str = "a", timeout: float | None = None, **options: Any) -> Lock:
    """Return a lock that waits for as long as it takes, by default."""
    return Lock(Pool(), path, acquire_timeout=timeout, **options)


def in_tasks(*work: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Run coroutines as tasks of one event loop, at the same time."""

    async def main() -> None:
        await asyncio.wait_for(asyncio.gather(*[each() for each in work]), 3 * TIMEOUT)

    asyncio.run(main())


def counts(count: int) -> None:
    """Insist that nothing was lost."""
    assert Proxy("n").val() == count
    nothing_is_left()


# Tasks of asyncio, and worker threads


@pytest.mark.parametrize("of", [Lock, Proxy])
def test_a_lock_that_is_acquired_in_a_worker_thread_belongs_to_the_task(any_store: Store, of: Any) -> None:
    """``asyncio.to_thread(lock.acquire)`` lets one task in at a time, and its writes and release are the task's."""
    lock = Proxy("n", lock_acquire_timeout=60) if of is Proxy else lock_of("n", 60)
    inside = []

    async def count() -> None:
        for _ in range(4):
            assert await asyncio.to_thread(lock.acquire)
            inside.append(1)
            assert len(inside) == 1
            value = await asyncio.to_thread(Proxy("n").val, 0)
            await asyncio.to_thread(Proxy("").set, "n", value + 1)
            inside.pop()
            await asyncio.to_thread(lock.release)

    in_tasks(*[count] * 4)
    counts(16)


def test_writes_in_worker_threads_are_guarded(any_store: Store) -> None:
    """A write through ``to_thread`` is guarded by the locks of its task, however the task has acquired them."""

    async def main(acquire: Callable[[Lock], Any]) -> None:
        lock = lock_of("a", 0)
        await acquire(lock)
        await asyncio.to_thread(Proxy("a").set, "x", 1)
        await asyncio.to_thread(break_locks, "a")
        with pytest.raises(LockLost):
            await asyncio.to_thread(Proxy("a").set, "x", 2)
        assert Proxy("a.x").val() == 1
        await asyncio.to_thread(lock.release)

    async def here(lock: Lock) -> None:
        lock.acquire()

    for acquire in (here, lambda lock: asyncio.to_thread(lock.acquire), lambda lock: asyncio.to_thread(lock.__enter__)):
        asyncio.run(main(acquire))


def test_an_executor_that_copies_no_context_acquires_for_the_task() -> None:
    """``loop.run_in_executor(None, lock.acquire)`` acquires for the task too, though it copies no context."""

    async def count() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(5):
            await loop.run_in_executor(None, lock_of("n").acquire)
            value = Proxy("n").val(0)
            await asyncio.sleep(0)
            Proxy("").set("n", value + 1)
            await loop.run_in_executor(None, lock_of("n").release)

    in_tasks(*[count] * 4)
    counts(20)


def test_functions_in_worker_threads_exclude_each_other(any_store: Store) -> None:
    """Functions that lock exclude each other in worker threads, also if the task that gathers them holds locks."""

    def count() -> None:
        with lock_of("n"):
            Proxy("").set("n", Proxy("n").val(0) + 1)

    async def main(*locks: Lock) -> None:
        Proxy("").set("n", 0)
        for lock in locks:
            lock.acquire()
        await asyncio.gather(*[asyncio.to_thread(count) for _ in range(8)])
        for lock in locks:
            lock.release()

    for locks in ((), (lock_of("other"),), (lock_of("n"),), (lock_of(""),)):
        asyncio.run(main(*locks))
        counts(8)


def test_a_function_in_a_worker_thread_relies_on_the_locks_of_its_task(any_store: Store) -> None:
    """Such a function sees the locks of its task, acquires them again, and may release what the task has acquired."""
    lock = lock_of("a", 0)

    def look() -> None:
        assert lock.held
        assert lock.token
        with lock, Proxy("a.b", lock_acquire_timeout=0), lock_of("a.c", 0, shared=True):
            Proxy("a").set("x", 1)
        lock.extend(60)
        assert not try_elsewhere("a")
        lock.release()

    async def main() -> None:
        with lock_of("x"):
            await asyncio.to_thread(lock.acquire)
            await asyncio.to_thread(look)
            assert not lock.held
            loop = asyncio.get_running_loop()
            lock.acquire()
            await loop.run_in_executor(None, contextvars.copy_context().run, look)

    asyncio.run(main())
    assert not in_store()


def try_elsewhere(path: str) -> bool:
    """Try to acquire a lock in another thread."""
    with Somebody() as ben:
        return ben.does(try_lock, path)


def test_one_call_at_a_time_relies_on_an_exclusive_lock_of_its_task() -> None:
    """Of two calls for one task that acquire again what it holds, the second waits or times out; readers do not."""
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with lock_of("a.b"):
            inside.set()
            assert leave.wait(TIMEOUT)

    def meet() -> None:
        assert inside.wait(TIMEOUT)
        assert not lock_of("a.b").acquire(blocking=False)
        with pytest.raises(LockTimeout, match="uses it"):
            lock_of("a", 0.01).acquire()
        leave.set()
        with lock_of("a"):
            pass

    async def main(*, shared: bool) -> None:
        inside.clear()
        leave.clear()
        with lock_of("a", shared=shared):
            calls = [read, read] if shared else [stay, meet]
            await asyncio.gather(*[asyncio.to_thread(call) for call in calls])

    barrier = threading.Barrier(2)

    def read() -> None:
        with lock_of("a", shared=True):
            barrier.wait(TIMEOUT)

    for shared in (False, True):
        asyncio.run(main(shared=shared))
    assert not in_store()


def test_what_a_function_acquires_in_a_worker_thread_is_its_own() -> None:
    """A function that acquires in a worker thread, and returns, leaves the lock to no later call in this thread."""
    with ThreadPoolExecutor(1) as executor:

        async def enter() -> bool:
            return await asyncio.get_running_loop().run_in_executor(
                executor, contextvars.copy_context().run, lambda: lock_of("a", 0.01).acquire(False)
            )

        async def leave() -> None:
            await asyncio.get_running_loop().run_in_executor(
                executor, contextvars.copy_context().run, lambda: lock_of("a").release()
            )

        async def main() -> None:
            assert await asyncio.create_task(enter())
            assert not await asyncio.create_task(enter())
            with pytest.raises(NotHeld, match="owner_token"):
                await asyncio.create_task(leave())

        asyncio.run(main())
    break_locks("a")


def test_a_task_that_a_task_creates_is_another_owner() -> None:
    """A child task has a copy of its parent's context, and is an owner of its own all the same."""
    lock = lock_of("a", 0)

    async def child() -> None:
        assert not lock.held
        assert not lock.acquire(blocking=False)
        with pytest.raises(NotHeld):
            lock.release()

    async def main() -> None:
        with lock:
            await asyncio.create_task(child())
            await asyncio.gather(child(), child())
            lock.ensure_held()

    asyncio.run(main())


def test_callbacks_of_a_loop_belong_to_its_thread() -> None:
    """Callbacks that no task runs acquire and release for the thread; a task's bound method acts for the task."""
    lock = lock_of("a", 0)
    done: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: done.append(lock.acquire()))
        await asyncio.sleep(0)
        assert not lock.acquire(blocking=False)
        loop.call_soon(lambda: done.append(lock.release()))
        await asyncio.sleep(0)
        assert lock.acquire()
        loop.call_soon(lock.release)
        await asyncio.sleep(0)
        assert not lock.held

    def lock_before() -> None:
        with lock:
            pass
        asyncio.run(main())

    together(lambda: asyncio.run(main()))
    together(lock_before)
    assert done == [True, None] * 2
    assert not in_store()


# Other frameworks


class MiniLoop:
    """An event loop that gives each task a context, as others than asyncio do."""

    def __init__(self, *tasks: Callable[[], Iterator[None]]) -> None:
        self._tasks = [(contextvars.copy_context(), task()) for task in tasks]

    def run(self) -> None:
        while self._tasks:
            context, task = self._tasks.pop(0)
            if context.run(next, task, "ended") != "ended":
                self._tasks.append((context, task))


@pytest.mark.parametrize("before", [False, True], ids=["the thread is new", "the thread has locked before"])
def test_tasks_in_contexts_of_their_own_are_owners(any_store: Store, before: bool) -> None:
    """Two tasks of one thread that run in contexts of their own exclude each other, whatever framework runs them."""
    inside = []

    def task() -> Iterator[None]:
        lock = lock_of("a", 0)
        for _ in range(3):
            while not lock.acquire(blocking=False):
                yield
            inside.append(1)
            yield
            assert len(inside) == 1
            inside.pop()
            lock.release()

    def work() -> None:
        if before:
            with lock_of("b"):
                pass
        MiniLoop(task, task, task).run()

    together(work)
    assert not in_store()


def test_tasks_of_trio_are_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task that trio runs is the owner, in whatever context; outside of trio, it is the thread."""

    class Task:
        def __init__(self, name: str) -> None:
            self.name = name
            self.coro = types.SimpleNamespace(cr_frame=object())

    running: list[Task] = []

    def current_task() -> Task:
        if not running:
            raise RuntimeError("must be called from async context")
        return running[-1]

    trio = types.SimpleNamespace(lowlevel=types.SimpleNamespace(current_task=current_task))
    one, other = Task("one"), Task("other")
    lock = lock_of("a", 0)
    with lock_of("b", 0):
        monkeypatch.setitem(sys.modules, "trio", trio)
        assert lock_of("b").held
        running.append(one)
        lock.acquire()
        (info,) = lock.holders()
        assert info.thread == "task one"
        owner, release = current_owner(), lock.release
        running.append(other)
        assert not lock.acquire(blocking=False)
        assert not lock_of("b").acquire(blocking=False)
        running.clear()
        assert not lock.acquire(blocking=False)
        assert owner.is_alive()
        together(release)
        assert lock.acquire()
        lock.release()
        one.coro.cr_frame = None
        assert not owner.is_alive()


# Threads


def test_a_thread_that_inherits_a_context_is_a_new_owner() -> None:
    """A thread that runs in a copy of the context of the one that starts it, as in some builds, is a new owner."""
    lock, answers = lock_of("a", 0), []

    def look() -> None:
        answers.append((lock.held, lock.acquire(blocking=False)))

    def start() -> None:
        thread = threading.Thread(target=look)
        context = contextvars.copy_context()
        thread._context = context  # type: ignore[attr-defined]  # as Python 3.14 names it
        thread.run = partial(context.run, thread.run)  # type: ignore[method-assign]
        thread.start()
        thread.join()

    async def main() -> None:
        with lock:
            start()

    with lock:
        start()
    asyncio.run(main())
    assert answers == [(False, False)] * 2


def test_a_copied_context_makes_another_thread_no_owner() -> None:
    """A thread holds no lock of another thread in whose context it runs: several may run in copies of it."""
    with lock_of("a", 0) as lock, ThreadPoolExecutor(1) as executor:
        for context in (contextvars.copy_context(), contextvars.copy_context()):
            assert not executor.submit(context.run, lambda: lock.held).result(TIMEOUT)
            assert not executor.submit(context.run, lambda: lock.acquire(blocking=False)).result(TIMEOUT)


def test_a_copied_context_relies_on_the_locks_around_it() -> None:
    """A call in a copy of the context of its own thread acquires again what the thread holds."""
    lock = lock_of("a", 0)

    def again() -> None:
        assert lock.held
        with lock:
            Proxy("a").set("x", 1)

    with lock:
        contextvars.copy_context().run(again)
        contextvars.copy_context().run(contextvars.copy_context().run, again)
        lock.ensure_held()
    assert not in_store()


def test_renewal_ends_with_a_thread_that_python_did_not_start() -> None:
    """The lock of a thread that ended is renewed no more, also if the module ``threading`` does not know it."""
    done = threading.Event()
    owners = []

    def work() -> None:
        owners.append(current_owner())
        done.set()

    _thread.start_new_thread(work, ())
    assert done.wait(TIMEOUT)
    eventually(lambda: not owners[0].is_alive(), "the owner has ended with its thread")


# Handing over


def test_a_token_hands_a_lock_over_to_another_thread(any_store: Store) -> None:
    """With the owner's token, another thread writes under the lock, extends it and releases it."""
    lock = lock_of("a", 0)
    with Somebody() as ben:
        lock.acquire()
        owner = lock.owner_token()
        with pytest.raises(NotHeld, match="owner_token"):
            ben.does(lock.release)

        def finish() -> None:
            with owner:
                assert lock.held
                Proxy("a").set("x", 1)
                lock.extend()
                lock.release()
            assert not lock.held

        ben.does(finish)
        with pytest.raises(NotHeld):
            lock.owner_token()
        assert not in_store()
        assert ben.does(try_lock, "a")


def test_a_token_hands_a_lock_over_to_a_task() -> None:
    """A task acts for another owner within the block only, and the tasks that it creates there do not."""
    lock = lock_of("a", 0)

    async def main() -> None:
        lock.acquire()
        owner = lock.owner_token()

        async def stranger() -> bool:
            return lock.held

        async def finish() -> None:
            assert not lock.held
            with owner, owner:
                assert not await asyncio.create_task(stranger())
                assert await asyncio.to_thread(lambda: lock.held)
                lock.release()
            assert not lock.held

        await asyncio.create_task(finish())
        assert not lock.held

    asyncio.run(main())
    assert not in_store()


def test_a_token_keeps_renewal_alive() -> None:
    """A lock is renewed after its thread ended, while the token of its owner exists."""
    lock, tokens = lock_of("a", 0, expire_timeout=2, renew=True), []

    def begin() -> None:
        lock.acquire()
        tokens.append(lock.owner_token())

    together(begin)
    (first,) = lock.holders()
    eventually(lambda: (lock.holders()[0].until - first.until).total_seconds() > 1, "it is renewed")
    with tokens.pop():
        lock.release()
    assert not in_store()


def test_a_with_block_may_end_in_another_thread_or_task(any_store: Store) -> None:
    """A block that one thread or task enters and another leaves, as in a dependency that yields, releases its lock."""

    @contextmanager
    def dependency(place: Any) -> Iterator[None]:
        with place:
            yield

    async def request(place: Any) -> None:
        block = dependency(place)
        await asyncio.create_task(asyncio.to_thread(block.__enter__))
        assert not await asyncio.create_task(asyncio.to_thread(place.acquire, False))
        await asyncio.create_task(asyncio.to_thread(block.__exit__, None, None, None))

    async def generator(place: Any) -> Any:
        with place:
            yield

    async def fixture(place: Any) -> None:
        steps = generator(place)
        await asyncio.create_task(steps.__anext__())
        with pytest.raises(StopAsyncIteration):
            await asyncio.create_task(steps.__anext__())

    for place in (Proxy("a", lock_acquire_timeout=0), lock_of("a", 0)):
        with Somebody() as anna, Somebody() as ben:
            block = dependency(place)
            anna.does(block.__enter__)
            assert not ben.does(try_lock, "a")
            ben.does(partial(block.__exit__, None, None, None))
        assert not in_store()
        for use in (request, fixture):
            asyncio.run(use(place))
            assert not in_store()


@pytest.mark.parametrize("of", [Lock, Proxy])
def test_an_exit_stack_may_be_closed_in_another_thread_or_task(of: Any) -> None:
    """What looks the exit up in the class, as ``ExitStack`` does, releases the lock of the owner that entered it."""
    place: Any = Proxy("a", lock_acquire_timeout=0) if of is Proxy else lock_of("a", 0)
    inner: Any = Proxy("a.b", lock_acquire_timeout=0) if of is Proxy else lock_of("a.b", 0)
    stack = ExitStack()

    def begin() -> None:
        for each in (place, inner, place):
            stack.enter_context(each)

    with Somebody() as anna, Somebody() as ben:
        for end in (ben.does, anna.does, lambda function: function()):
            anna.does(begin)
            assert not ben.does(try_lock, "a.c")
            end(stack.pop_all().close)
            assert not in_store()
        anna.does(begin)
        stack.pop_all()  # and drop it
        nothing_is_left()

    async def main() -> None:
        await asyncio.create_task(asyncio.to_thread(begin))
        assert not await asyncio.to_thread(try_elsewhere, "a")
        await asyncio.create_task(asyncio.to_thread(stack.close))

    asyncio.run(main())
    assert not in_store()


def test_the_exit_of_the_class_ends_the_block_that_it_is_called_for() -> None:
    """``Lock.__exit__`` may be kept and called several times, for any lock: it acts for the thread that calls it."""
    one, other = lock_of("a", 0), lock_of("b", 0)
    leave = Lock.__exit__
    for lock in (one, other):
        lock.__enter__()
    leave(other, None, None, None)
    assert one.held
    assert not other.held
    leave(one, None, None, None)
    assert not one.held

    def again() -> None:
        one.__enter__()
        leave(one, None, None, None)

    with Somebody() as ben:
        ben.does(again)
    with pytest.raises(NotHeld):
        leave(one, None, None, None)
    assert not in_store()


def test_a_block_releases_what_it_began_with() -> None:
    """The inner one of two blocks of a lock ends only its own acquisition, and callbacks, whichever ends first."""
    called: list[str] = []
    outer = lock_of("a", 0, on_loss=lambda _: called.append("outer"))
    inner = lock_of("a", 0, on_loss=lambda _: called.append("inner"))
    first, second = ExitStack(), ExitStack()
    first.enter_context(outer)
    second.enter_context(inner)
    first.close()
    assert inner.held
    break_locks("a")
    with pytest.raises(LockLost):
        inner.extend()
    eventually(lambda: called, "the loss is reported")
    second.close()
    assert called == ["inner"]
    with pytest.raises(NotHeld), outer:
        outer.release()
    with outer:
        outer.release()
        outer.acquire()
    assert not in_store()


def test_looking_at_the_exit_begins_no_block() -> None:
    """``hasattr`` looks the exit up and drops it: a lock that is entered without a block is not one of a block."""
    lock, owners = lock_of("a", 0), []

    def work() -> None:
        assert hasattr(lock, "__exit__")
        assert hasattr(type(lock), "__exit__")
        lock.__enter__()
        owners.append(current_owner())
        assert lock.held

    together(work)
    eventually(lambda: not owners[0].is_alive(), "the owner has ended with its thread")
    assert len(lock.break_locks()) == 1


def test_a_lock_goes_from_a_task_to_a_thread_and_back() -> None:
    """A task acquires, a thread without its context writes and extends, and another task of the loop releases."""
    lock = lock_of("a", 0)

    async def begin() -> Any:
        await asyncio.to_thread(lock.acquire)
        return lock.owner_token()

    def work(owner: Any) -> None:
        with owner:
            Proxy("a").set("x", 1)
            lock.extend(60)
            lock.ensure_held()

    async def end(owner: Any) -> None:
        assert not lock.held
        with owner:
            await asyncio.to_thread(Proxy("a").set, "y", 2)
            lock.release()

    async def whole() -> None:
        loop = asyncio.get_running_loop()
        owner = await asyncio.create_task(begin())
        await loop.run_in_executor(None, work, owner)
        await asyncio.create_task(end(owner))

    asyncio.run(whole())
    assert Proxy("a").val() == {"x": 1, "y": 2}
    assert not in_store()
