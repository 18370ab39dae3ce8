"""Forks: a forked child may use the instance of its parent."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

import threading
from functools import partial
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.client import Client
from redicts.contract.fixture import Fixture
from redicts.contract.forked import ForkedChild
from redicts.contract.listening import fresh_name, list_at, require_notified
from redicts.contract.requirements import require_equal
from redicts.core.minitransaction import Add, Key, Notify, Put, Scope

_ROUNDS: Final = 60


@conformance_check(needs=[Need.FORK, Need.PROCESSES])
def child_and_parent_work_on(fixture: Fixture) -> None:
    """A forked child and its parent use one instance: each gets its own answers, and no write is lost."""
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


@conformance_check(needs=[Need.FORK, Need.NO_PROCESSES])
def a_child_has_its_own_copy(fixture: Fixture) -> None:
    """A forked child of a store without ``processes`` has an independent copy of the store."""
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


@conformance_check(needs=[Need.FORK])
def a_fork_amid_waits_is_harmless(fixture: Fixture) -> None:
    """A child that is forked while other threads wait can notify, listen and be notified."""
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


def _own_answers(store: Client, key: Key, value: bytes) -> None:
    """Write and read back: clients that share a connection get each other's answers sooner or later."""
    store.apply(Put(key, value))
    require_equal(store.value(key), value, "what was just written reads as")
