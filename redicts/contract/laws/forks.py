"""Forks: a child goes on with the instance its parent opened, and neither gets into the other's way."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from redicts.contract.bench import Bench
from redicts.contract.client import Client
from redicts.contract.forked import ForkedChild
from redicts.contract.law import Need, law, require, require_equal
from redicts.contract.listening import await_listing, fresh_name, list_at, require_woken, wait_until_cleared
from redicts.core.transaction import Add, Key, Put, Scope, Wake

_ROUNDS: Final = 60


@law(needs=[Need.FORK, Need.PROCESSES])
def child_and_parent_work_on(bench: Bench) -> None:
    """A child and its parent go on at once with one instance: each gets its own answers, and all writes are there."""
    store = bench.store
    store.apply(Put(bench.key("before"), b"1"))
    for number in range(3):
        count = bench.key("count", f"n{number}")

        def work(name: str, count: Key = count) -> None:
            require_equal(store.value(bench.key("before")), b"1", f"what was written before the fork, {name} reads as")
            for each in range(_ROUNDS):
                _own_answers(store, bench.key("own", name), f"{name} {each}".encode())
                store.apply(Add(count, 1))

        with ForkedChild(partial(work, "child"), bench.patience) as child:
            work("parent")
            child.finish()
        require_equal(store.value(count), b"%d" % (2 * _ROUNDS), "child and parent together count")
    require_equal(store.value(bench.key("own", "child")), b"child %d" % (_ROUNDS - 1), "the child's last write is")


@law(needs=[Need.FORK, Need.PROCESSES])
def an_unused_instance_may_be_forked(bench: Bench) -> None:
    """An instance that was opened before a fork and first used after it works in the child and in the parent."""
    fresh = bench.client()
    with ForkedChild(lambda: fresh.apply(Add(bench.key("a"), 1)), bench.patience) as child:
        fresh.apply(Add(bench.key("a"), 1))
        child.finish()
    bench.expect({("a",): b"2"})


@law(needs=[Need.FORK, Need.PROCESSES])
def a_child_may_close(bench: Bench) -> None:
    """A child that closes the instance, or just ends, leaves the parent's in order."""
    store = bench.store
    store.apply(Put(bench.key("a"), b"1"))

    def use_and_close() -> None:
        store.apply(Add(bench.key("a"), 1))
        store.backend.close()

    for work in (use_and_close, store.backend.close, lambda: None):
        with ForkedChild(work, bench.patience) as child:
            child.finish()
        _own_answers(store, bench.key("own"), b"parent")
    require_equal(store.value(bench.key("a")), b"2", "after a child counted and closed, the counter is")


@law(needs=[Need.FORK, Need.PROCESSES])
def a_fork_amid_calls_is_harmless(bench: Bench) -> None:
    """A child forked while other threads of its parent are in the middle of calls goes on with the instance."""
    store = bench.store

    def work() -> None:
        for number in range(5):
            _own_answers(store, bench.key("own"), b"%d" % number)
            store.apply(Add(bench.key("children"), 1))

    _fork_amid_calls(bench, store, work)
    require_equal(store.value(bench.key("children")), b"25", "five children of five Adds count")


@law(needs=[Need.FORK, Need.NO_PROCESSES])
def a_child_has_its_own_copy(bench: Bench) -> None:
    """What a store without ``processes`` gives a forked child is a copy of its own: each goes on without the other."""
    store = bench.store
    store.apply(Put(bench.key("a"), b"1"), Put(bench.key("d", "b"), b"2"))

    def work() -> None:
        bench.expect({("a",): b"1", ("d", "b"): b"2"}, store)
        store.apply(Put(bench.key("a"), b"child"), Add(bench.key("c"), 1))
        bench.expect({("a",): b"child", ("d", "b"): b"2", ("c",): b"1"}, store)

    for _ in range(3):
        with ForkedChild(work, bench.patience) as child:
            child.finish()
        bench.expect({("a",): b"1", ("d", "b"): b"2"}, store)
    store.apply(Put(bench.key("a"), b"parent"))
    bench.expect({("a",): b"parent", ("d", "b"): b"2"}, store)


@law(needs=[Need.FORK, Need.NO_PROCESSES])
def a_copy_is_never_half(bench: Bench) -> None:
    """A child forked while other threads of its parent are in the middle of calls has a whole copy, and can use it."""
    store = bench.store

    def work() -> None:
        sides = set(store.read(bench.key("pair")).values())
        require(len(sides) <= 1, f"a child's copy holds half of a transaction: {sides!r}")
        _own_answers(store, bench.key("own"), b"child")

    _fork_amid_calls(bench, store, work)


@law(needs=[Need.FORK, Need.PROCESSES])
def child_and_parent_wake_each_other(bench: Bench) -> None:
    """A child listens anew and is woken by its parent, and the parent by it, also after the child closed and ended."""
    store, name = bench.store, fresh_name()
    here, there = bench.key("list", "here"), bench.key("list", "there")
    with store.listen(name) as listener:

        def work() -> None:
            listener.close()  # what a child leaves that was forked amid a wait
            own = fresh_name()
            with store.listen(own) as childs:
                list_at(store, there, own)
                wait_until_cleared(childs, store, there, bench.patience / 2)
            store.apply(Wake(here, Scope.NODE))

        for _ in range(2):
            list_at(store, here, name)
            with ForkedChild(work, bench.patience) as child:
                await_listing(store, there, in_time=bench.deadline())
                store.apply(Wake(there, Scope.NODE))
                wait_until_cleared(listener, store, here, bench.patience)
                child.finish()
        list_at(store, here, name)
        bench.client().apply(Wake(here, Scope.NODE))
        require_woken(listener, bench.patience, "a listener of a parent, after its child closed it and ended,")


@law(needs=[Need.FORK, Need.NO_PROCESSES])
def a_child_listens_in_its_own_copy(bench: Bench) -> None:
    """A child of a store without ``processes`` listens and calls in its copy; its parent goes on to be called."""
    store, name, key = bench.store, fresh_name(), bench.key("list")
    with store.listen(name) as listener:

        def work() -> None:
            listener.close()
            own = fresh_name()
            with store.listen(own) as childs:
                list_at(store, key, own)
                store.apply(Wake(key, Scope.NODE))
                require_woken(childs, bench.patience / 2, "a listener of a forked child")

        for _ in range(2):
            with ForkedChild(work, bench.patience) as child:
                child.finish()
        list_at(store, key, name)
        store.apply(Wake(key, Scope.NODE))
        require_woken(listener, bench.patience, "a listener of a parent, after its child closed it and ended,")


@law(needs=[Need.FORK])
def a_fork_amid_waits_is_harmless(bench: Bench) -> None:
    """A child forked while other threads of its parent wait calls those on the list, and listens itself."""
    store, over = bench.store, threading.Event()

    def sleep(key: Key) -> None:
        name = fresh_name()
        with store.listen(name) as listener:
            while not over.is_set():
                list_at(store, key, name)
                for _ in range(200):
                    listener.wait(0.0)

    def work() -> None:
        store.apply(Wake(bench.key("list"), Scope.SUBTREE))
        own = fresh_name()
        with store.listen(own) as listener:
            list_at(store, bench.key("own"), own)
            store.apply(Wake(bench.key("own"), Scope.NODE))
            require_woken(listener, bench.patience / 4, "a listener of a forked child")

    def fork() -> None:
        try:
            for _ in range(10):
                with ForkedChild(work, bench.patience / 2) as child:
                    child.finish()
        finally:
            over.set()

    bench.together([fork, *(partial(sleep, bench.key("list", name)) for name in ("one", "two"))])


def _fork_amid_calls(bench: Bench, store: Client, work: Callable[[], object]) -> None:
    """Fork five children while two threads use the store."""
    over = threading.Event()

    def busy() -> None:
        number = 0
        while not over.is_set():
            number += 1
            value = b"%d" % number
            store.apply(Put(bench.key("pair", "left"), value), Put(bench.key("pair", "right", "x"), value))
            store.read(bench.key("pair"))

    def fork() -> None:
        try:
            for _ in range(5):
                with ForkedChild(work, bench.patience / 2) as child:
                    child.finish()
        finally:
            over.set()

    bench.together([fork, busy, busy])


def _own_answers(store: Client, key: Key, value: bytes) -> None:
    """Write and read back: whoever shares a connection gets somebody else's answer sooner or later."""
    store.apply(Put(key, value))
    require_equal(store.value(key), value, "what was just written reads as")
