"""Locks as decorators, and ``Proxy.locked``."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from redicts import Lock, LockLost, LockTimeout, Pool, Proxy, aio
from tests.locks.locking import Somebody, break_locks, in_store, nothing_is_left, try_lock
from tests.support.stores import Store
from tests.support.waiting import TIMEOUT


def try_elsewhere(path: str = "a") -> bool:
    """Try to acquire a lock in another thread."""
    with Somebody() as ben:
        return ben.does(try_lock, path)


def lock_of(**options: Any) -> Lock:
    """Return a lock on the path of these tests."""
    return Lock(Pool(), "a", **options)


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


@pytest.fixture(params=["lock", "proxy"])
def decorate(request: pytest.FixtureRequest) -> Decorator:
    """Return a lock as a decorator, and what a proxy makes of itself."""
    return lock_of(acquire_timeout=0) if request.param == "lock" else Proxy("a").locked(timeout=0)


def test_a_decorated_function_runs_under_the_lock(decorate: Decorator) -> None:
    """It has arguments, result and exceptions of its own, and the lock is held for as long as it runs."""

    @decorate
    def work(first: int, *, second: int) -> tuple[int, int]:
        """Do it."""
        assert not try_elsewhere()
        if first < 0:
            raise KeyError(first)
        return first, second

    for _ in range(2):
        assert work(1, second=2) == (1, 2)
        assert not in_store()
    with pytest.raises(KeyError):
        work(-1, second=0)
    with pytest.raises(TypeError):
        work()
    assert not in_store()
    assert (work.__name__, work.__doc__) == ("work", "Do it.")
    assert str(inspect.signature(work)) == "(first: 'int', *, second: 'int') -> 'tuple[int, int]'"
    with Somebody() as ben:
        ben.does(Proxy("a").acquire)
        with pytest.raises(LockTimeout):
            work(1, second=2)
        ben.does(Proxy("a").release)


def test_a_decorated_function_may_call_itself(decorate: Decorator) -> None:
    """The inner calls rely on the lock of the outer one, which is released at the end of that."""

    @decorate
    def factorial(number: int) -> int:
        assert not try_elsewhere()
        return number * factorial(number - 1) if number else 1

    assert factorial(3) == 6
    assert not in_store()


def test_methods_of_every_kind_are_decorated(decorate: Decorator) -> None:
    """A method, a class method, a static method and a property run under the lock, called as usual."""

    class Thing:
        @decorate
        def method(self, more: int) -> tuple[object, int, bool]:
            return self, more, try_elsewhere()

        @classmethod
        @decorate
        def of_class(cls) -> tuple[object, bool]:
            return cls, try_elsewhere()

        @staticmethod
        @decorate
        def static() -> bool:
            return try_elsewhere()

        @decorate
        @staticmethod
        def also_static() -> bool:
            return try_elsewhere()

        @property
        @decorate
        def value(self) -> bool:
            return try_elsewhere()

    thing = Thing()
    assert thing.method(1) == (thing, 1, False)
    assert Thing.of_class() == (Thing, False)
    assert Thing.static() is False
    assert Thing.also_static() is False
    assert thing.value is False
    assert not in_store()


def test_threads_in_a_decorated_function_exclude_each_other() -> None:
    """Each call acquires the lock for its thread, so no update is lost."""

    @Proxy("n").locked(timeout=60)
    def count() -> None:
        Proxy("").set("n", Proxy("n").val(0) + 1)

    def work() -> None:
        for _ in range(10):
            count()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Proxy("n").val() == 30
    nothing_is_left()


def test_a_decorated_generator_holds_the_lock_until_it_ends(decorate: Decorator) -> None:
    """The lock is held from the first item to the end, the close, or the exception of a generator."""

    @decorate
    def numbers(count: int) -> Generator[int, str, str]:
        received = ""
        for number in range(count):
            received += (yield number) or ""
        return received

    assert inspect.isgeneratorfunction(numbers)
    steps = numbers(2)
    assert not in_store()
    assert next(steps) == 0
    assert not try_elsewhere()
    assert steps.send("x") == 1
    with pytest.raises(StopIteration) as ended:
        steps.send("y")
    assert ended.value.value == "xy"
    assert not in_store()
    for error in (GeneratorExit, KeyError):
        steps = numbers(2)
        next(steps)
        assert not try_elsewhere()
        with pytest.raises(error):
            steps.throw(error())
        assert not in_store()
    steps = numbers(2)
    next(steps)
    del steps  # which closes it
    nothing_is_left()

    @contextmanager
    @decorate
    def block() -> Iterator[None]:
        yield

    with block():
        assert not try_elsewhere()
    assert not in_store()


def test_coroutine_functions_are_refused(decorate: Decorator) -> None:
    """A coroutine runs after the call that makes it, so ``TypeError`` says how to hold the lock while it runs."""

    async def work() -> None:
        pass

    async def items() -> AsyncIterator[None]:
        yield

    class Works:
        async def __call__(self) -> None:
            pass

        async def method(self) -> None:
            pass

    for function in (work, items, functools.partial(work), Works(), Works().method):
        with pytest.raises(TypeError, match=r"redicts\.aio"):
            decorate(function)

    @decorate
    def hidden() -> Any:
        return work()

    with pytest.raises(TypeError, match=r"hidden returned a coroutine.*redicts\.aio"):
        hidden()
    assert not in_store()


def test_the_advice_for_coroutines_works() -> None:
    """The coroutine that the error describes holds the lock while it runs."""

    @aio.Lock(Pool(), "a")
    async def work() -> None:
        assert not await asyncio.to_thread(try_elsewhere)

    asyncio.run(work())
    assert not in_store()


@pytest.mark.parametrize("wrong", [classmethod(print), property(int), int, None, 5, "a"])
def test_other_things_are_not_decorated(decorate: Decorator, wrong: Any) -> None:
    """What is not a function is refused with ``TypeError`` where it is decorated, not where it is called."""
    with pytest.raises(TypeError, match="decorates functions"):
        decorate(wrong)


def test_locked_has_the_options_of_a_lock(any_store: Store) -> None:
    """``locked(timeout=..., shared=...)`` locks for a block, which gives the proxy, with timeouts of the proxy."""
    place = Proxy("a", lock_acquire_timeout=0, lock_expire_timeout=100)
    lost = threading.Event()
    with Somebody() as ben:
        with place.locked(shared=True) as found:
            assert found is place
            (info,) = place.lock().holders()
            assert info.shared
            assert 90 < (info.until - info.since).total_seconds() < 110
            ben.does(lock_of(shared=True).acquire)
            ben.does(lock_of(shared=True).release)
            with pytest.raises(LockTimeout):
                ben.does(place.locked().acquire)
        with place.locked(expire_timeout=50, renew=True, on_loss=lambda _: lost.set(), on_renewal_overdue=print):
            (info,) = place.lock().holders()
            assert 40 < (info.until - info.since).total_seconds() < 60
            break_locks("a")
            with pytest.raises(LockLost):
                place.set("x", 1)
            assert lost.wait(TIMEOUT)
    nothing_is_left()
    assert repr(Proxy("a").locked(shared=True)) == "<locked Proxy('a')>"


def test_locked_without_a_timeout_waits_as_the_proxy_does() -> None:
    """``timeout`` is the proxy's by default, -1 is no limit, and making it costs no request and opens nothing."""
    assert Proxy("a", lock_acquire_timeout=7).locked()._acquire_timeout == 7
    assert Proxy("a", lock_acquire_timeout=7).locked(timeout=3)._acquire_timeout == 3
    assert Proxy("a", lock_acquire_timeout=7).locked(timeout=-1)._acquire_timeout is None
    assert not in_store()


def test_type_checkers_see_signatures() -> None:
    """A decorated function keeps its signature, ``locked`` gives a proxy, and options that do not exist are errors.

    mypy reports a comment that ignores an error which is not there.
    """

    @Proxy("a").locked()
    def text(number: int) -> str:
        return str(number)

    @lock_of()
    def number(text: str = "5") -> int:
        return int(text)

    of_text: str = text(5)
    of_number: int = number()
    assert (of_text, of_number) == ("5", 5)
    text("5")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        number(texts="5")  # type: ignore[call-arg]
    with Proxy("a").locked() as found, Proxy("a") as same, lock_of() as lock:
        proxies: list[Proxy] = [found, same]
        locks: list[Lock] = [lock]
        assert (len(proxies), len(locks)) == (2, 1)
    with pytest.raises(TypeError):
        Proxy("a").lock(expire_timout=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Proxy("a").locked(acquire_timeout=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        lock_of().acquire(5)  # type: ignore[arg-type]
