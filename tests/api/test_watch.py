"""A watch gives the value of a subtree, and then each value that it becomes, on every store."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import pytest

import redicts
from redicts import ABSENT, Packed, Proxy, StoreBusy, Watch, WrongUse, root
from tests.support.stores import CLUSTER, SENTINELS, Store
from tests.support.waiting import eventually
from tests.support.workers import Worker

ALSO_ON: Final = (CLUSTER, SENTINELS)

SOON: Final = 8.0
"""Less than the time after which a watch looks without a notification."""


@pytest.fixture
def soon() -> Iterator[Callable[[Watch], Any]]:
    """Give a function that returns the next value of a watch, or fails if no notification leads to it."""
    worker = Worker("watcher")
    yield lambda watch: worker(lambda: next(watch), "the wait for a change", SOON)
    worker.end()


def transfer() -> None:
    """Change two sections in one transaction, of which the other one is not watched."""
    with root().transaction() as changes:
        changes.set("shop.stock", 1)
        changes.set("garage.car.wheels", 7)


def edited() -> None:
    """Change one leaf under a lock."""
    with Proxy("garage.car").edit() as car:
        car["edited"] = True


WRITES: Final[list[tuple[str, Callable[[], object]]]] = [
    ("a leaf at the path", lambda: Proxy("garage.car").put(1)),
    ("a dict above", lambda: Proxy("garage").put({"car": {"wheels": 3}})),
    ("a leaf below", lambda: Proxy("garage.car").set("wheels", 4)),
    ("the same leaf on a fast path", lambda: Proxy("garage.car").set("wheels", 5)),
    ("a counter", lambda: Proxy("garage.car.wheels").add(1)),
    ("a leaf far below", lambda: Proxy("garage.car").set("a.b.c.d.e", [1])),
    ("a merge", lambda: Proxy("garage.car").update({"a": {"b": {"x": 1}}, "y": 2})),
    ("several paths", transfer),
    ("the function of a change", lambda: Proxy("garage.car.wheels").update_with(lambda wheels: wheels + 1)),
    ("a comparison", lambda: Proxy("garage.car.wheels").compare_and_set(8, 9)),
    ("an edit", edited),
    ("a document", lambda: Proxy("garage.car").put({f"n{n}": n for n in range(20)})),
    ("a document again", lambda: Proxy("garage.car").put({f"n{n}": -n for n in range(20)})),
    ("a leaf in a document", lambda: Proxy("garage.car").set("n3", "other")),
    ("a packed dict", lambda: Proxy("garage.car").put(Packed({"a": 1}))),
    ("everything at once", lambda: root().put({"garage": {"car": {"wheels": 1}}, "shop": {"n": 1}})),
    ("a delete below", lambda: Proxy("garage.car").delete("wheels")),
    ("a default", lambda: Proxy("garage.car").setdefault("wheels", 1)),
    ("a leaf above", lambda: root().set("garage", "closed")),
    ("a leaf in place of that", lambda: Proxy("garage.car").set("wheels", 1)),
    ("a pop above", lambda: root().pop("garage")),
    ("a value again", lambda: Proxy("garage.car").set("wheels", 2)),
    ("a clear of the root", lambda: root().clear()),
]


@pytest.mark.parametrize("watched", ["", "garage", "garage.car"])
def test_each_kind_of_write_is_told(any_store: Store, watched: str, soon: Callable[[Watch], Any]) -> None:
    """A write at, above or below the path is told, whichever method made it, and in another connection."""
    watch = Proxy(watched).watch()
    assert soon(watch) is ABSENT
    for what, write in WRITES:
        if write is transfer and any_store.name == CLUSTER:
            Proxy("garage.car").set("wheels", 7)  # no transaction spans sections there
        else:
            write()
        assert soon(watch) == Proxy(watched).val(ABSENT), what
    watch.close()


def test_another_path_is_not_told(any_store: Store) -> None:
    """A write elsewhere, also in the same section or where names begin alike, gives no value."""
    Proxy("garage.car").put(1)
    with Proxy("garage.car").watch(timeout=0) as watch:
        assert list(watch) == [1]
        Proxy("garage.cart").put(2)
        Proxy("garage.bike").put({"car": 3})
        Proxy("garage.car").put(1)
        assert list(watch) == []


def test_several_changes_may_come_as_one_and_the_last_one_comes(any_store: Store, soon: Callable[[Watch], Any]) -> None:
    """A slow reader gets the last value, and then no older one."""
    counter = Proxy("count")
    watch = counter.watch(timeout=0)
    for number in range(20):
        counter.put(number)
    assert list(watch) == [19]
    assert list(watch) == []


def test_the_end_of_a_ttl_is_a_change(any_store: Store, soon: Callable[[Watch], Any]) -> None:
    """A leaf that expires is told within a second, also if its TTL was set or shortened by another client."""
    car = Proxy("garage.car").put({"wheels": 4, "paint": "red"})
    watch = car.watch()
    assert soon(watch) == {"wheels": 4, "paint": "red"}
    car["paint"].expire(0.3)
    began = time.monotonic()
    assert soon(watch) == {"wheels": 4}
    assert time.monotonic() - began < 0.3 + 1 + 1
    car.set("wheels", 5, expire=1000)
    assert soon(watch) == {"wheels": 5}
    car["wheels"].expire(0.2)
    assert soon(watch) is ABSENT


def test_later_changes_only(any_store: Store) -> None:
    """Without the initial value, changes are given from the call of watch on, not from the first iteration."""
    Proxy("a").put(1)
    watch = Proxy("a").watch(initial=False, timeout=0)
    assert list(watch) == []
    Proxy("a").put(2)
    assert list(watch) == [2]


def test_the_keys_that_changed(any_store: Store) -> None:
    """With keys, each value comes with the keys of the leaves that were added, changed and removed."""
    car = Proxy("garage.car").put({"wheels": 4, "paint": {"colour": "red", "coats": 2}})
    watch = car.watch(keys=True, timeout=0)
    whole = ["garage.car.paint.coats", "garage.car.paint.colour", "garage.car.wheels"]
    assert list(watch) == [(car.val(), whole)]
    with car.transaction() as changes:
        changes.set(["paint", "co.at"], 1)
        changes.delete("paint.coats")
        changes.set("wheels", 5)
    assert list(watch) == [(car.val(), [r"garage.car.paint.co\.at", "garage.car.paint.coats", "garage.car.wheels"])]
    car.clear()
    ((value, keys),) = list(watch)
    assert value is ABSENT
    assert keys == [r"garage.car.paint.co\.at", "garage.car.paint.colour", "garage.car.wheels"]


def test_a_change_ends_the_wait_of_a_thread(any_store: Store) -> None:
    """A thread that waits gets each change, and every one of several threads does."""
    found: dict[int, list[Any]] = {number: [] for number in range(3)}

    def read(number: int) -> None:
        for value in Proxy("a").watch():
            found[number].append(value)
            if value == "end":
                break

    def all_have(value: Any) -> bool:
        return all(each[-1] == value for each in found.values())

    threads = [threading.Thread(target=read, args=(number,), daemon=True) for number in found]
    for thread in threads:
        thread.start()
    for value in (1, 2, "end"):
        eventually(lambda: all(found.values()), "each has the first value")
        Proxy("a").put(value)
        eventually(partial(all_have, value), f"all have {value}")
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()


def test_close_ends_the_iteration(any_store: Store) -> None:
    """Closing a watch ends it, also while another thread waits, and it cannot be entered again."""
    watch = Proxy("a").watch()
    assert next(watch) is ABSENT
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(watch), daemon=True)
    thread.start()
    watch.close()
    watch.close()
    thread.join(SOON)
    assert not thread.is_alive()
    assert found == list(watch) == []
    with pytest.raises(WrongUse, match="begin another one"):
        watch.__enter__()
    assert "closed" in repr(watch)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this platform")
def test_a_child_goes_on(any_store: Store, soon: Callable[[Watch], Any]) -> None:
    """A forked child and its parent go on with the same watch, each for itself."""
    proxy = Proxy("a").put(1)
    watch = proxy.watch(timeout=SOON)
    assert next(watch) == 1
    child = os.fork()
    if child == 0:
        code = 1
        try:
            proxy.put(2)
            code = 0 if next(watch) == 2 else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    proxy.put(3)
    assert soon(watch) == 3


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers of signals on this platform")
def test_signal_handlers_may_write_watch_and_close(any_store: Store) -> None:
    """A handler that interrupts the wait may write, watch or be told that it cannot, and end the wait."""
    watch = Proxy("a").watch(timeout=SOON)
    assert next(watch) is ABSENT
    handled: list[int] = []

    def handle(*_: object) -> None:
        handled.append(1)
        with contextlib.suppress(StoreBusy):
            Proxy("a").put(len(handled))
            assert list(Proxy("b").watch(timeout=0)) == [ABSENT]
        if len(handled) == 6:
            watch.close()
        else:
            signal.setitimer(signal.ITIMER_REAL, 0.02)  # now: it shall not interrupt this handler on a slow machine

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        values = list(watch)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(handled) == 6
    assert values == sorted(values)
    assert Proxy("a").val() in range(1, 7)


def test_watches_of_databases_are_apart(any_store: Store) -> None:
    """A write in another database of the store is not told, and one in the same database through another handle is."""
    configuration = {**any_store.configuration, "names": {"other": 3}}
    with redicts.open(configuration, fake_redis=any_store.fake) as db:
        watch = db.proxy("a").watch(timeout=0)
        assert list(watch) == [ABSENT]
        db.proxy("a", db_name="other").put(1)
        assert list(watch) == []
        db.proxy("a").put(2)
        assert list(watch) == [2]


@pytest.mark.parametrize("timeout", [-1, "1", True, float("nan")])
def test_a_timeout_is_a_number_of_seconds(timeout: Any) -> None:
    """A timeout that is no number of seconds is refused."""
    with pytest.raises(ValueError, match="timeout must be a number of seconds"):
        Proxy("a").watch(timeout=timeout)
