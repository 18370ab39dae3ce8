"""Forks: a forked child may use the instance of its parent."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import islice, product
from multiprocessing import get_context
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.client import Client
from redicts.contract.fixture import Fixture
from redicts.contract.forked import ForkedChild
from redicts.contract.listening import await_listing, fresh_name, list_at, quieten, require_notified, wait_until_cleared
from redicts.contract.pauses import PausedCall
from redicts.contract.requirements import CheckFailed, require, require_equal
from redicts.contract.spawned import report
from redicts.core.backend import Backend
from redicts.core.listener import Listener
from redicts.core.minitransaction import (
    NOTHING,
    VALUES,
    Add,
    Delete,
    Equals,
    Key,
    Notify,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
)

_ROUNDS: Final = 30
_VALUES: Final = 100
_FORK_SECS: Final = 0.1
_QUIET_SECS: Final = 0.02
_FORKS: Final = 4
"""Forks in the midst of each kind of call; all of its points are tried if the examination is thorough."""


@conformance_check(needs=[Need.FORK, Need.PROCESSES])
def child_and_parent_work_on(fixture: Fixture) -> None:
    """A forked child, its own child and its parent use one instance: each gets its own answers, and no write is lost.

    Child and parent write, read and count by one instance at the same time. The child forks a child that does the
    same, and closes the instance, and listeners that its parent waits for afterwards.
    """
    store, listed, name = fixture.store, fixture.key("listed"), fresh_name()
    with ExitStack() as stack:
        section = stack.enter_context(fixture.section())
        listener = stack.enter_context(store.listen(name))
        watchers: list[Listener] = []
        if fixture.capabilities.changes:
            watchers.append(stack.enter_context(store.listen_to_changes(fresh_name(), (section,))))
        _work_with_children(fixture, (listener, *watchers))
        for watcher in watchers:
            watcher.wait(0.0)  # it may be notified for nothing before
        fixture.client().apply(Put(listed, name.encode()), Put(Key(VALUES, (section,)), b"1"))
        fixture.client().apply(Notify(listed, Scope.NODE))
        wait_until_cleared(listener, store, listed, fixture.timeout)
        for watcher in watchers:
            require_notified(watcher, fixture.timeout, "a listener to changes that a child has closed")


def _work_with_children(fixture: Fixture, inherited: Sequence[Listener]) -> None:
    """Work together with children, who close these listeners."""
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

        def work_as_child(work: Callable[[str], None] = work) -> None:
            work("child")
            with ForkedChild(partial(work, "grandchild"), fixture.timeout) as grandchild:
                grandchild.finish()
            for listener in inherited:
                listener.close()
            store.backend.close()

        with ForkedChild(work_as_child, fixture.timeout) as child:
            work("parent")
            child.finish()
        require_equal(store.value(count), b"%d" % (3 * _ROUNDS), "child, grandchild and parent together count")
    require_equal(store.value(fixture.key("own", "child")), b"child %d" % (_ROUNDS - 1), "the child's last write is")


@conformance_check(needs=[Need.FORK, Need.PROCESSES])
def a_child_notifies_its_parent(fixture: Fixture) -> None:
    """A forked child notifies the listeners of its parent, also those that were open before the fork.

    Lists a listener, forks, waits until nothing else notifies it, and has the child notify it by the same instance.
    """
    store, listed, begin = fixture.store, fixture.key("listed"), fixture.key("begin")

    def work() -> None:
        in_time = fixture.deadline()
        await_listing(store, begin, in_time=in_time)
        store.apply(Notify(listed, Scope.NODE))

    name = fresh_name()
    with store.listen(name) as listener:
        list_at(store, listed, name)
        with ForkedChild(work, fixture.timeout) as child:
            quieten(listener, seconds=_QUIET_SECS)
            list_at(store, begin, name)
            wait_until_cleared(listener, store, listed, fixture.timeout)
            child.finish()


@conformance_check(needs=[Need.FORK, Need.PROCESSES, Need.OPENER])
def a_child_that_ends_disturbs_nobody(fixture: Fixture) -> None:
    """A forked child that exits or drops its copy of an instance changes nothing for its parent and for others.

    Another process forks children that call exit handlers, or drop the instance, unused and used. After each it writes,
    reads and is notified by the instance, and this process writes.
    """
    listed, count = fixture.key("listed"), fixture.key("count")
    with fixture.other_processes(1) as [other]:
        other.start(_outlive_children, fixture.harness.opener, listed, count, fixture.timeout)
        for _ in _ENDS:
            other.wait_for_report()
            fixture.store.apply(Put(fixture.key("meanwhile"), b"1"))
        other.result()
    found = {("count",): b"%d" % len(_ENDS), ("of", "child"): b"1", ("of", "parent"): b"1", ("meanwhile",): b"1"}
    fixture.expect(found)


_ENDS: Final = tuple(product((False, True), ("exits", "drops")))
"""How a child ends: whether it has used the instance, and whether it exits or drops it."""


def _outlive_children(_: Client, opener: Callable[[], Backend], listed: Key, count: Key, timeout: float) -> None:
    """Fork children that end, and go on with two instances. It runs in a process of which nobody needs the exit."""
    # A child that empties the list drops the last reference, at least to the instance without a listener.
    instances, name = [opener(), opener()], fresh_name()

    def work(used: bool, end: str) -> None:
        for instance in instances if used else ():
            _own_answers(Client(instance), Key(count.space, ("of", "child")), b"1")
            instance.listen(fresh_name()).close()
        if end == "drops":
            instance = None  # type: ignore[assignment]
            instances.clear()
            gc.collect()

    try:
        with instances[0].listen(name) as listener:
            for used, end in _ENDS:
                with ForkedChild(partial(work, used, end), timeout, exits=end == "exits") as child:
                    child.finish()
                for number in range(len(instances)):
                    _own_answers(Client(instances[number]), Key(count.space, ("of", "parent")), b"%d" % number)
                client = Client(instances[0])
                client.apply(Add(count, 1), Put(listed, name.encode()))
                report(None)
                client.apply(Notify(listed, Scope.NODE))
                wait_until_cleared(listener, client, listed, timeout / 4)
                del client
    finally:
        while instances:
            instances.pop().close()


@conformance_check(needs=[Need.FORK, Need.PROCESSES])
def a_parent_may_close(fixture: Fixture) -> None:
    """A forked child works on when its parent has closed all instances, and everybody sees what it writes then.

    A child writes, its parent closes all clients, opens another one and writes, and the child writes once more.
    """
    store, context = fixture.store, get_context("fork")
    store.apply(Put(fixture.key("parent", "first"), b"1"))
    written, closed = context.Event(), context.Event()

    def work() -> None:
        store.apply(Put(fixture.key("child", "first"), b"1"))
        written.set()
        require(closed.wait(fixture.timeout), "the parent does not close its clients")
        store.apply(Put(fixture.key("child", "last"), b"1"))

    with ForkedChild(work, fixture.timeout) as child:
        if written.wait(fixture.timeout / 2):
            store.apply(Put(fixture.key("parent", "then"), b"1"))
            fixture.close_clients()
            fixture.store.apply(Put(fixture.key("parent", "last"), b"1"))
        closed.set()
        child.finish()
    times = {"parent": ("first", "then", "last"), "child": ("first", "last")}
    fixture.expect({(who, when): b"1" for who in times for when in times[who]})


@conformance_check(needs=[Need.FORK, Need.NO_PROCESSES])
def a_child_has_its_own_copy(fixture: Fixture) -> None:
    """A forked child of a store without ``processes`` has an independent copy of the store.

    Child and parent write by one instance, and each reads what it wrote itself.
    """
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
    """A child that is forked while other threads wait can notify, listen and be notified, in any of its threads.

    Forks four times while two threads wait; each child notifies, listens and is notified, every second in a new thread.
    """
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
            for number in range(4):
                # What the thread that forks held must be free for the other threads of the child too.
                with ForkedChild(partial(_in_a_thread, work) if number % 2 else work, fixture.timeout / 2) as child:
                    child.finish()
        finally:
            over.set()

    fixture.together([fork, *(partial(sleep, fixture.key("list", name)) for name in ("one", "two"))])


@conformance_check(needs=[Need.FORK])
def a_fork_amid_calls_is_harmless(fixture: Fixture) -> None:
    """A child that is forked at any moment of another thread's read or write works, and sees no half transaction.

    Pauses a long read, a read in pages, the fast paths, a write and a listen wherever they call a function, and forks
    there; each child writes, listens, fetches and reads.
    """
    store, documents = fixture.store, fixture.capabilities.documents
    fixture.plant({**{("d", f"n{number}"): b"1" for number in range(_VALUES)}, ("fast",): b"1"})
    root, fast, fetched = fixture.key("d"), fixture.key("fast"), fixture.key("fetched")
    store.apply(PutDocument(fetched, b'{"a":1}') if documents else Put(fetched, b"1"))
    fetch = partial(store.fetch_document if documents else store.fetch, fetched)
    writes = [Put(fixture.key("d", f"n{number}"), b"2") for number in range(_VALUES)]
    calls: dict[str, Callable[[], object]] = {
        "a long read": lambda: store.run(
            [Equals(root, Scope.NODE, NOTHING)], [Read(root, Scope.BELOW), ReadNames(root)]
        ),
        "a read in pages": lambda: store.ask(Read(root, Scope.BELOW, limit=_VALUES // 2)),
        "a fetch": fetch,
        "the fast paths": lambda: (store.fetch(fast), store.overwrite(fast, b"2")),
        "a write": lambda: store.run(writes=[Delete(root, Scope.SUBTREE), *writes]),
        "a listen": lambda: store.listen(fresh_name()).close(),
    }

    def work(name: str) -> None:
        """Write and read in the child; what the call in its parent writes is there as a whole or not yet."""
        _own_answers(store, fixture.key("own", name), name.encode())
        store.listen(fresh_name()).close()
        fetch()
        require(store.fetch(fast) in (b"1", b"2", None), "a child fetches another value")
        values = store.read(root, Scope.BELOW).values()
        require_equal(
            (len(values), len(set(values))), (_VALUES, 1), "values and versions of a subtree written at once are"
        )

    begun = time.monotonic()
    with ForkedChild(partial(work, "the first child"), fixture.timeout) as child:
        child.finish()
    # A fork may wait for the call. On a busy machine any fork takes long.
    fork_secs = max(_FORK_SECS, 3 * (time.monotonic() - begun))
    for what, call in calls.items():
        for _ in range(2):  # the first time, more is done
            with PausedCall(call, store.backend, fixture.timeout) as paused:
                count = sum(1 for _ in paused)
        some = range(count) if fixture.thorough else sorted({count * number // _FORKS for number in range(_FORKS)})
        for number in some:  # by a call each, since a call goes on in another way after a fork
            with PausedCall(call, store.backend, fixture.timeout, at_most=fork_secs) as paused:
                point, begun = next(islice(paused, number, None), None), time.monotonic()
                with ForkedChild(partial(work, f"child {number}"), fixture.timeout) as child:
                    waited = time.monotonic() - begun >= fork_secs
                    paused.resume()  # the child may wait for the call
                    try:
                        child.finish()
                    except CheckFailed as error:
                        raise CheckFailed(f"{error} (it was forked amid {what}, {point})") from None
            if waited and not fixture.thorough:  # so it would at most other points
                break
        _own_answers(store, fixture.key("own", "parent"), what.encode())
        require_equal(
            set(store.read(root, Scope.BELOW).values()),
            {b"2" if what in ("a write", "a listen") else b"1"},
            "the values are",
        )


def _in_a_thread(work: Callable[[], None]) -> None:
    """Run work in a new thread, and raise its error."""
    with ThreadPoolExecutor(1) as threads:
        threads.submit(work).result()


def _own_answers(store: Client, key: Key, value: bytes) -> None:
    """Write and read back: clients that share a connection get each other's answers sooner or later."""
    store.apply(Put(key, value))
    require_equal(store.value(key), value, "what was just written reads as")
