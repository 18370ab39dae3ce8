"""Handles of the store: one for each process, one for each name, and none that a child takes over."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from redicts.contract.forked import ForkedChild
from redicts.errors import StoreBusy
from redicts.handles import PerProcess, SharedByName
from tests.support.waiting import TIMEOUT


class Opened:
    """What a handle opens; it counts the calls of ``close``."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        """Count."""
        self.closed += 1


def test_a_child_opens_its_own_and_frees_none_of_its_parent() -> None:
    """A child gets another handle, and so does its own child; neither the parent's is freed there, nor used."""
    handles = PerProcess(Opened)
    mine = handles.get()
    freed: list[int] = []
    weakref.finalize(mine, freed.append, 1)

    def work() -> None:
        nonlocal mine
        inherited, mine = id(mine), handles.get()
        assert id(mine) != inherited
        assert not freed

    def work_and_fork() -> None:
        work()
        with ForkedChild(work, TIMEOUT) as grandchild:
            grandchild.finish()

    with ForkedChild(work_and_fork, TIMEOUT) as child:
        child.finish()
    assert handles.get() is mine


def test_a_child_frees_the_handle_if_that_only_closes_its_copy() -> None:
    """With ``keep_inherited=False``, the child keeps nothing of its parent."""
    handles = PerProcess(Opened, keep_inherited=False)
    freed: list[int] = []
    weakref.finalize(handles.get(), freed.append, 1)

    def work() -> None:
        assert freed == [1]

    with ForkedChild(work, TIMEOUT) as child:
        child.finish()
    assert not freed


def test_a_child_opens_while_a_thread_of_its_parent_does() -> None:
    """A fork in the midst of an opening leaves no lock held in the child."""
    begun, go_on = threading.Event(), threading.Event()

    def open_slowly() -> Opened:
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            assert go_on.wait(TIMEOUT)
        return Opened()

    handles = PerProcess(open_slowly)
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(handles.get)
        assert begun.wait(TIMEOUT)
        try:
            with ForkedChild(handles.get, TIMEOUT) as child:
                child.finish()
        finally:
            go_on.set()
        assert opening.result(TIMEOUT) is handles.get()


def test_threads_that_open_at_once_get_one() -> None:
    """While one thread opens, another waits, and both have the same."""
    begun, go_on = threading.Event(), threading.Event()

    def open_slowly() -> Opened:
        begun.set()
        assert go_on.wait(TIMEOUT)
        return Opened()

    handles = PerProcess(open_slowly)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(handles.get)
        assert begun.wait(TIMEOUT)
        second = pool.submit(handles.get)
        go_on.set()
        assert first.result(TIMEOUT) is second.result(TIMEOUT)


def test_a_closed_one_ends_with_the_call_that_uses_it() -> None:
    """Closing drops the handle. The calls under way keep it, and a later call opens one for itself."""
    handles = PerProcess(Opened)
    used = weakref.ref(mine := handles.get())
    handles.close()
    handles.close()
    assert used() is mine
    del mine
    assert used() is None
    later = weakref.ref(handles.get())
    assert later() is None
    assert handles.current is None


def test_a_pool_closes_as_it_says() -> None:
    """With ``close``, closing calls that, and again for what is opened later."""
    handles = PerProcess(Opened, Opened.close)
    pool = handles.get()
    handles.close()
    assert (pool.closed, handles.get()) == (1, pool)
    other = PerProcess(Opened, Opened.close)
    other.close()
    assert other.current is None
    assert other.get().closed == 1


def test_a_failed_opening_is_tried_again() -> None:
    """What ``open`` raises comes out, and nothing is left of it."""
    errors: list[BaseException] = [KeyboardInterrupt(), OSError("refused")]

    def open_at_last() -> Opened:
        if errors:
            raise errors.pop()
        return Opened()

    handles = PerProcess(open_at_last)
    with pytest.raises(OSError, match="refused"):
        handles.get()
    with pytest.raises(KeyboardInterrupt):
        handles.get()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(handles.get).result(TIMEOUT) is handles.get()


def test_a_call_inside_of_an_opening_is_refused() -> None:
    """A signal handler that interrupts the opening must not open a second time."""
    handles: PerProcess[Opened] = PerProcess(lambda: handles.get())  # noqa: PLW0108  (it exists only then)
    with pytest.raises(StoreBusy, match="is being opened"):
        handles.get()


def test_a_name_has_one_while_it_is_held() -> None:
    """All get the same object by name, which is forgotten when nobody holds it."""
    shared = SharedByName[Opened]()
    one = shared.get("a", Opened)
    assert shared.get("a", Opened) is shared.find("a") is one
    assert shared.get("b", Opened) is not one
    del one
    assert shared.find("a") is None


def test_a_name_has_one_though_its_making_is_interrupted() -> None:
    """What a signal handler makes in the midst of another call is what both get."""
    shared = SharedByName[Opened]()
    handlers: list[Opened] = []

    def interrupted() -> Opened:
        handlers.append(shared.get("a", Opened))
        return Opened()

    assert shared.get("a", interrupted) is handlers[0]
