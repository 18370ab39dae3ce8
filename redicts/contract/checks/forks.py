"""Forks: a child goes on with the instance its parent opened, and neither gets into the other's way."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from redicts.contract.check import Need, conformance_check, require, require_equal
from redicts.contract.client import Client
from redicts.contract.fixture import Fixture
from redicts.contract.forked import ForkedChild
from redicts.contract.listening import await_listing, fresh_name, list_at, require_notified, wait_until_cleared
from redicts.core.minitransaction import Add, Key, Notify, Put, Scope

_ROUNDS: Final = 60


@conformance_check(needs=[Need.FORK, Need.PROCESSES])
def child_and_parent_work_on(fixture: Fixture) -> None:
    """A child and its parent go on at once with one instance: each gets its own answers, and all writes are there."""
    store = fixture.store
    store.apply(Put(fixture.key("before"), b"1"))
    for number in range(3):
        count = fixture.key("count", f"n{number}")

        def work(name: str, count: Key = count) -> None:
            require_equal(
                store.value(fixture.key("before")), b"1", f"what was written before the fork, {name} reads as"
            )
            for each in range(_ROUNDS):
                _own_answers(store, fixture.key("own", name), f"{name} {each}".encode())
                store.apply(Add(count, 1))

        with ForkedChild(partial(work, "child"), fixture.timeout) as child:
            work("parent")
            child.finish()
        require_equal(store.value(count), b"%d" % (2 * _ROUNDS), "child and parent together count")
    require_equal(store.value(fixture.key("own", "child")), b"child %d" % (_ROUNDS - 1), "the child's last write is")


@conformance_check(needs=[Need.FORK, Need.PROCESSES])
def an_unused_instance_may_be_forked(fixture: Fixture) -> None:
    """An instance that was opened before a fork and first used after it works in the child and in the parent."""
    fresh = fixture.client()
    with ForkedChild(lambda: fresh.apply(Add(fixture.key("a"), 1)), fixture.timeout) as child:
        fresh.apply(Add(fixture.key("a"), 1))
        child.finish()
    fixture.expect({("a",): b"2"})


@conformance_check(needs=[Need.FORK, Need.PROCESSES])
def a_child_may_close(fixture: Fixture) -> None:
    """A child that closes the instance, or just ends, leaves the parent's in order."""
    store = fixture.store
    store.apply(Put(fixture.key("a"), b"1"))

    def use_and_close() -> None:
        store.apply(Add(fixture.key("a"), 1))
        store.backend.close()

    for work in (use_and_close, store.backend.close, lambda: None):
        with ForkedChild(work, fixture.timeout) as child:
            child.finish()
        _own_answers(store, fixture.key("own"), b"parent")
    require_equal(store.value(fixture.key("a")), b"2", "after a child counted and closed, the counter is")


@conformance_check(needs=[Need.FORK, Need.PROCESSES])
def a_fork_amid_calls_is_harmless(fixture: Fixture) -> None:
    """A child forked while other threads of its parent are in the middle of calls goes on with the instance."""
    store = fixture.store

    def work() -> None:
        for number in range(5):
            _own_answers(store, fixture.key("own"), b"%d" % number)
            store.apply(Add(fixture.key("children"), 1))

    _fork_amid_calls(fixture, store, work)
    require_equal(store.value(fixture.key("children")), b"25", "five children of five Adds count")


@conformance_check(needs=[Need.FORK, Need.NO_PROCESSES])
def a_child_has_its_own_copy(fixture: Fixture) -> None:
    """What a store without ``processes`` gives a forked child is a copy of its own: each goes on without the other."""
    store = fixture.store
    store.apply(Put(fixture.key("a"), b"1"), Put(fixture.key("d", "b"), b"2"))

    def work() -> None:
        fixture.expect({("a",): b"1", ("d", "b"): b"2"}, store)
        store.apply(Put(fixture.key("a"), b"child"), Add(fixture.key("c"), 1))
        fixture.expect({("a",): b"child", ("d", "b"): b"2", ("c",): b"1"}, store)

    for _ in range(3):
        with ForkedChild(work, fixture.timeout) as child:
            child.finish()
        fixture.expect({("a",): b"1", ("d", "b"): b"2"}, store)
    store.apply(Put(fixture.key("a"), b"parent"))
    fixture.expect({("a",): b"parent", ("d", "b"): b"2"}, store)


@conformance_check(needs=[Need.FORK, Need.NO_PROCESSES])
def a_copy_is_never_half(fixture: Fixture) -> None:
    """A child forked while other threads of its parent are in the middle of calls has a whole copy, and can use it."""
    store = fixture.store

    def work() -> None:
        sides = set(store.read(fixture.key("pair")).values())
        require(len(sides) <= 1, f"a child's copy holds half of a transaction: {sides!r}")
        _own_answers(store, fixture.key("own"), b"child")

    _fork_amid_calls(fixture, store, work)


@conformance_check(needs=[Need.FORK, Need.PROCESSES])
def child_and_parent_notify_each_other(fixture: Fixture) -> None:
    """A child listens again; parent and child notify each other, also after the child closed and ended."""
    store, name = fixture.store, fresh_name()
    here, there = fixture.key("list", "here"), fixture.key("list", "there")
    with store.listen(name) as listener:

        def work() -> None:
            listener.close()  # what a child leaves that was forked amid a wait
            own = fresh_name()
            with store.listen(own) as childs:
                list_at(store, there, own)
                wait_until_cleared(childs, store, there, fixture.timeout / 2)
            store.apply(Notify(here, Scope.NODE))

        for _ in range(2):
            list_at(store, here, name)
            with ForkedChild(work, fixture.timeout) as child:
                await_listing(store, there, in_time=fixture.deadline())
                store.apply(Notify(there, Scope.NODE))
                wait_until_cleared(listener, store, here, fixture.timeout)
                child.finish()
        list_at(store, here, name)
        fixture.client().apply(Notify(here, Scope.NODE))
        require_notified(listener, fixture.timeout, "a listener of a parent, after its child closed it and ended,")


@conformance_check(needs=[Need.FORK, Need.NO_PROCESSES])
def a_child_listens_in_its_own_copy(fixture: Fixture) -> None:
    """A child of a store without ``processes`` listens and calls in its copy; its parent goes on to be called."""
    store, name, key = fixture.store, fresh_name(), fixture.key("list")
    with store.listen(name) as listener:

        def work() -> None:
            listener.close()
            own = fresh_name()
            with store.listen(own) as childs:
                list_at(store, key, own)
                store.apply(Notify(key, Scope.NODE))
                require_notified(childs, fixture.timeout / 2, "a listener of a forked child")

        for _ in range(2):
            with ForkedChild(work, fixture.timeout) as child:
                child.finish()
        list_at(store, key, name)
        store.apply(Notify(key, Scope.NODE))
        require_notified(listener, fixture.timeout, "a listener of a parent, after its child closed it and ended,")


@conformance_check(needs=[Need.FORK])
def a_fork_amid_waits_is_harmless(fixture: Fixture) -> None:
    """A child forked while other threads of its parent wait calls those on the list, and listens itself."""
    store, over = fixture.store, threading.Event()

    def sleep(key: Key) -> None:
        name = fresh_name()
        with store.listen(name) as listener:
            while not over.is_set():
                list_at(store, key, name)
                for _ in range(200):
                    listener.wait(0.0)

    def work() -> None:
        store.apply(Notify(fixture.key("list"), Scope.SUBTREE))
        own = fresh_name()
        with store.listen(own) as listener:
            list_at(store, fixture.key("own"), own)
            store.apply(Notify(fixture.key("own"), Scope.NODE))
            require_notified(listener, fixture.timeout / 4, "a listener of a forked child")

    def fork() -> None:
        try:
            for _ in range(10):
                with ForkedChild(work, fixture.timeout / 2) as child:
                    child.finish()
        finally:
            over.set()

    fixture.together([fork, *(partial(sleep, fixture.key("list", name)) for name in ("one", "two"))])


def _fork_amid_calls(fixture: Fixture, store: Client, work: Callable[[], object]) -> None:
    """Fork five children while two threads use the store."""
    over = threading.Event()

    def busy() -> None:
        number = 0
        while not over.is_set():
            number += 1
            value = b"%d" % number
            store.apply(Put(fixture.key("pair", "left"), value), Put(fixture.key("pair", "right", "x"), value))
            store.read(fixture.key("pair"))

    def fork() -> None:
        try:
            for _ in range(5):
                with ForkedChild(work, fixture.timeout / 2) as child:
                    child.finish()
        finally:
            over.set()

    fixture.together([fork, busy, busy])


def _own_answers(store: Client, key: Key, value: bytes) -> None:
    """Write and read back: whoever shares a connection gets somebody else's answer sooner or later."""
    store.apply(Put(key, value))
    require_equal(store.value(key), value, "what was just written reads as")
