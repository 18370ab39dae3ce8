"""The arguments of ``acquire``, by the rules of ``threading.Lock``, and which arguments are taken by position."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from math import inf, nan
from typing import Any

import pytest

from redicts import Deadlock, Lock, LockTimeout, Pool, Proxy
from tests.locks.locking import QUICK, Somebody, in_store, nothing_is_left, waiting
from tests.support.stores import Store
from tests.support.waiting import TIMEOUT

Made = Callable[..., Any]


@pytest.fixture(params=["Lock", "Proxy"])
def made(request: pytest.FixtureRequest) -> Made:
    """Return what makes a lock on ``a``, or the proxy of it, with a timeout."""
    if request.param == "Proxy":
        return lambda timeout: Proxy("a", lock_acquire_timeout=timeout)
    return lambda timeout: Lock(Pool(), "a", acquire_timeout=timeout)


def test_an_attempt_with_a_timeout_returns_whether_the_lock_was_free(any_store: Store, made: Made) -> None:
    """``acquire(timeout=...)`` overrides the usual timeout, and returns false where that raises ``LockTimeout``."""
    lock = made(3000)
    assert lock.acquire(timeout=0.01) is True
    with Somebody() as ben:
        for arguments in ((True, 0.01), (True, 0), (True, 0.0), (False,), (False, -1), (False, None)):
            assert ben.does(lock.acquire, *arguments) is False
        with pytest.raises(LockTimeout):
            ben.does(made(0.01).acquire)
    lock.release()
    nothing_is_left()


@pytest.mark.parametrize("forever", [-1, -1.0, inf])
def test_a_timeout_of_minus_one_is_no_limit(made: Made, forever: float) -> None:
    """As in ``threading``, ``timeout=-1`` waits without limit, whatever the usual timeout is."""
    lock = made(0)
    with Somebody() as ben:
        with lock:
            got = ben.begins(lambda: lock.acquire(timeout=forever))
            waiting(1)
        assert got.result(TIMEOUT)
        ben.does(lock.release)


@pytest.mark.parametrize("wrong", [5, 1, 0, 0.5, -1, None, "yes", nan])
def test_a_number_is_not_taken_for_blocking(made: Made, wrong: Any) -> None:
    """``acquire(5)`` raises ``TypeError``, which names the parameter ``timeout``, and locks nothing."""
    with pytest.raises(TypeError, match=r"True or False.*timeout="):
        made(0).acquire(wrong)
    assert not in_store()


@pytest.mark.parametrize("wrong", [-2, -0.5, nan, "5", True, False, [1]])
def test_a_wrong_timeout_of_an_attempt_is_refused(made: Made, wrong: Any) -> None:
    """A timeout is a number of seconds, 0 or more, or -1; all else raises ``ValueError``, and locks nothing."""
    with pytest.raises(ValueError, match="timeout must be a number of seconds"):
        made(0).acquire(timeout=wrong)
    with pytest.raises(ValueError, match="timeout must be a number of seconds"):
        Proxy("a").locked(timeout=wrong)
    assert not in_store()


@pytest.mark.parametrize("timeout", [0, 1, inf])
def test_an_attempt_without_blocking_has_no_timeout(made: Made, timeout: float) -> None:
    """As in ``threading``, ``blocking=False`` with a timeout raises ``ValueError``."""
    with pytest.raises(ValueError, match="without blocking"):
        made(0).acquire(False, timeout)
    with pytest.raises(ValueError, match="non-blocking"):
        threading.Lock().acquire(False, 0)
    assert not in_store()


def test_a_deadlock_is_raised_within_a_timeout(made: Made) -> None:
    """``Deadlock`` is raised by an attempt with a timeout too: it says more than that the lock was not free."""
    errors = []

    def wait(path: str) -> None:
        try:
            if Lock(Pool(), path).acquire(timeout=TIMEOUT):
                Lock(Pool(), path).release()
        except Deadlock as error:
            errors.append(error)

    def both() -> None:
        with Lock(Pool(), "b"):
            wait("a")

    Pool().database().store.timing = QUICK
    with Somebody() as ben:
        with made(0):
            waits = ben.begins(both)
            waiting(1)
            wait("b")
        waits.result(TIMEOUT)
    assert len(errors) == 1


def test_locked_is_the_name_in_threading() -> None:
    """``Lock.locked`` is ``is_locked``; of a proxy, ``locked()`` has that truth value."""
    lock = Lock(Pool(), "a.b")
    assert lock.locked() is False
    assert not Proxy("a.b").locked()
    with Somebody() as ben:
        ben.does(Proxy("a").acquire)
        assert lock.locked() is True
        assert Proxy("a.b").locked()
        assert not Proxy("b").locked()
        ben.does(Proxy("a").release)
    assert lock.locked() is False


def test_the_positions_of_1_0_are_taken() -> None:
    """Timeouts are taken by position in the order of redicts 1.0, and no other option is."""
    assert Proxy("a", 1, 2, None) is Proxy("a", lock_acquire_timeout=1, lock_expire_timeout=2)
    lock = Lock(Pool(), "a", 0.002, 0)
    assert (lock._wanted.lease, lock._acquire_timeout) == (2, 0)
    for function, positional in ((Lock, 4), (Proxy.lock, 1), (Proxy.locked, 1)):
        parameters = inspect.signature(function).parameters.values()
        kinds = [each.kind for each in parameters if each.name != "self"]
        assert kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) == (positional if function is Lock else 0)
        assert set(kinds) <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    wrong: Any = {"expire_timout": 5}
    for make in (Proxy("a").lock, Proxy("a").locked):
        with pytest.raises(TypeError, match="expire_timout"):
            make(**wrong)


def test_a_proxy_with_a_wrong_timeout_is_not_made() -> None:
    """The timeouts of a proxy are checked when it is made, before anything relies on them."""
    with pytest.raises(ValueError, match="acquire_timeout"):
        Proxy("a", lock_acquire_timeout=-1)
    with pytest.raises(ValueError, match="lease"):
        Proxy("a", lock_expire_timeout=0)
    assert Proxy("a", lock_acquire_timeout=inf)["b"].lock()._acquire_timeout is None
