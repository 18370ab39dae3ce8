"""Processes: all processes see one state, lose no update, and never half a transaction."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from itertools import product
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.client import Client
from redicts.contract.fixture import Fixture
from redicts.contract.listening import await_listing, fresh_name, list_at, wait_until_cleared
from redicts.contract.requirements import require, require_equal
from redicts.contract.spawned import report
from redicts.core.backend import Backend
from redicts.core.minitransaction import NOTHING, Add, Delete, Equals, Key, Notify, Path, Put, Scope, Write
from redicts.errors import StoreError

_ADDS: Final = 100
_PAIRS: Final = 300
_LONG: Final = (200, 500, 3_000)
"""Lengths of paths and values."""
_REPORTED: Final = 5
_TRIES: Final = 5
_LEAVING_SECS: Final = 0.1

_TWIN: Final = 4711
"""The process id of two processes, and their seed."""

_TWIN_WRITES: Final = 30


@conformance_check(needs=[Need.PROCESSES, Need.OPENER])
def processes_lose_no_update(fixture: Fixture) -> None:
    """Counters and optimistic updates of several processes at once all take effect.

    Three processes count by Add and by optimistic updates at the same time.
    """
    with fixture.other_processes(2) as others:
        for other in others:
            other.start(_count, fixture.key("count"), fixture.key("d", "optimistic"))
        _count(fixture.store, fixture.key("count"), fixture.key("d", "optimistic"))
        for other in others:
            other.result()
    expected = b"%d" % (_ADDS * (len(others) + 1))
    fixture.expect({("count",): expected, ("d", "optimistic"): expected})


@conformance_check(needs=[Need.PROCESSES, Need.OPENER])
def a_process_finds_what_another_wrote(fixture: Fixture) -> None:
    """A process finds each path and value of another one, of any length, and replaces or deletes exactly that.

    Writes at hostile names and long paths. Another process reads each of them, replaces one half and deletes the other.
    """
    tree: dict[Path, bytes] = {("short", name): name.encode("utf-8", "surrogatepass") for name in fixture.harness.names}
    fixture.plant(tree)
    for size, depth in product(_LONG, (1, 30)):
        for end in "ab":
            path = ("long", *["n" * (size // depth)] * depth, end)
            with suppress(StoreError):  # a store may refuse long paths
                fixture.store.apply(Put(fixture.key(*path), b"v" * size))
                tree[path] = b"v" * size
    paths = list(tree)
    keys = [fixture.key(*path) for path in paths]
    with fixture.other_processes(1) as [other]:
        found = dict(zip(paths, other.call(_values, keys)))
        require_equal({path for path in paths if found[path] != tree[path]}, set(), "what another process misreads is")
        other.call(_write, [Delete(key, Scope.NODE) for key in keys[::2]])
        other.call(_write, [Put(key, b"new") for key in keys[1::2]])
    fixture.expect(dict.fromkeys(paths[1::2], b"new"))


@conformance_check(needs=[Need.PROCESSES, Need.OPENER])
def processes_notify_each_other(fixture: Fixture) -> None:
    """A Notify of one process notifies the listeners of others and its own, in any thread and on a list of hundreds.

    A process waits and another one notifies, in both directions, also on a list of 500, and when a thread that began to
    wait before has left.
    """
    root, here, there = fixture.key("list"), fixture.key("list", "here"), fixture.key("list", "there")
    name = fresh_name()
    with fixture.other_processes(1) as [other], fixture.store.listen(name) as listener:
        for notify in (Notify(there, Scope.NODE), Notify(root, Scope.BELOW)):
            other.start(_sleep, there, fixture.timeout)
            await_listing(fixture.store, there, in_time=fixture.deadline())
            fixture.store.apply(notify)
            other.result()
        list_at(fixture.store, here, name)
        other.call(_write, [Notify(here, Scope.NODE)])
        wait_until_cleared(listener, fixture.store, here, fixture.timeout)
        list_at(fixture.store, here, name)
        other.start(_sleep, there, fixture.timeout)
        await_listing(fixture.store, there, in_time=fixture.deadline())
        fixture.client().apply(Notify(root, Scope.SUBTREE))
        wait_until_cleared(listener, fixture.store, here, fixture.timeout)
        other.result()
        several = [fixture.key("list", f"{number:03}") for number in (0, 250, 499)]
        other.start(_sleep_all, several, fixture.timeout)
        await_listing(fixture.store, *several, in_time=fixture.deadline())
        listed = {key.path for key in several}
        rest = [Put(fixture.key("list", f"{number:03}"), b"nobody/1") for number in range(500)]
        fixture.store.apply(*(put for put in rest if put.key.path not in listed))
        fixture.store.apply(Notify(root, Scope.SUBTREE))
        other.result()
        begun, left = threading.Event(), threading.Event()

        def leave() -> None:
            until = time.monotonic() + _LEAVING_SECS
            with fixture.store.listen(fresh_name()) as leaving:
                while (seconds := until - time.monotonic()) > 0:
                    begun.set()
                    leaving.wait(seconds)
            left.set()

        def stay() -> None:
            begun.wait(fixture.timeout)
            time.sleep(_LEAVING_SECS / 4)  # most likely the other thread waits then; if not, that makes no difference
            _sleep(fixture.store, here, fixture.timeout)

        def call() -> None:
            left.wait(fixture.timeout)
            await_listing(fixture.store, here, in_time=fixture.deadline())
            other.call(_write, [Notify(here, Scope.NODE)])

        fixture.together([leave, stay, call])


@conformance_check(needs=[Need.PROCESSES, Need.OPENER])
def processes_of_one_number_are_told_apart(fixture: Fixture) -> None:
    """Processes with the same process id and the same random seed, as in containers, are still different ones.

    Two processes that are told one process id and have one seed write, count and listen at the same time.
    """
    count = fixture.key("count")
    with fixture.other_processes(2) as others:
        for number, other in enumerate(others):
            own, listed = fixture.key("own", f"{number}"), fixture.key("list", f"{number}")
            other.start(_work_as_twin, fixture.harness.opener, own, count, listed, fixture.timeout)
        for other in others:
            other.result()
    require_equal(fixture.store.value(count), b"%d" % (len(others) * _TWIN_WRITES), "two processes together count")


@conformance_check(needs=[Need.PROCESSES, Need.OPENER])
def processes_see_no_half_write(fixture: Fixture) -> None:
    """A process sees the transactions of another one as a whole, also after that process was killed.

    One process replaces a subtree hundreds of times while two read it. Then processes are killed while they write.
    """
    _pair(fixture.store, fixture.key(), 0)
    with fixture.other_processes(2) as [writer, reader]:
        writer.start(_write_pairs, fixture.key(), _PAIRS)
        reader.start(_read_pairs, fixture.key(), _PAIRS, fixture.timeout)
        _read_pairs(fixture.store, fixture.key(), _PAIRS, fixture.timeout)
        writer.result()
        reader.result()
        for killed in (writer, reader):
            killed.start(_write_pairs, fixture.key(), None)
            killed.wait_for_report()
            killed.kill()
            age = _whole(fixture.store, fixture.key())
            require(age >= _REPORTED, f"a killed process wrote the state {_REPORTED}, but {age} is stored")
            _pair(fixture.store, fixture.key(), 1)
            _whole(fixture.store, fixture.key())


def _work_as_twin(_: Client, opener: Callable[[], Backend], own: Key, count: Key, listed: Key, timeout: float) -> None:
    """Write and listen in a process that has the number and the seed of another one."""
    true = os.getpid
    os.getpid = lambda: _TWIN
    random.seed(_TWIN)
    backend, name = opener(), fresh_name()
    try:
        client = Client(backend)
        with client.listen(name) as listener:
            for each in range(_TWIN_WRITES):
                client.apply(Put(own, b"%d" % each), Add(count, 1))
                require_equal(client.value(own), b"%d" % each, "what a process has just written reads as")
            list_at(client, listed, name)
            client.apply(Notify(listed, Scope.NODE))
            wait_until_cleared(listener, client, listed, timeout)
    finally:
        backend.close()
        os.getpid = true


def _sleep_all(client: Client, keys: Sequence[Key], timeout: float) -> None:
    names = [fresh_name() for _ in keys]
    with ExitStack() as stack:
        listeners = [stack.enter_context(client.listen(name)) for name in names]
        for key, name in zip(keys, names):
            list_at(client, key, name)
        for listener, key in zip(listeners, keys):
            wait_until_cleared(listener, client, key, timeout)


def _sleep(client: Client, key: Key, timeout: float) -> None:
    name = fresh_name()
    with client.listen(name) as listener:
        list_at(client, key, name)
        wait_until_cleared(listener, client, key, timeout)


def _values(client: Client, keys: Sequence[Key]) -> list[bytes | None]:
    return [client.value(key) for key in keys]


def _write(client: Client, writes: Sequence[Write]) -> None:
    client.apply(*writes)


def _count(client: Client, added: Key, compared: Key) -> None:
    for _ in range(_ADDS):
        client.apply(Add(added, 1))
        while True:
            old = client.value(compared)
            check = Equals(compared, Scope.NODE, NOTHING if old is None else {(): old})
            if client.run(checks=[check], writes=[Put(compared, b"%d" % (int(old or b"0") + 1))]).applied:
                break


def _pair(client: Client, root: Key, number: int) -> None:
    """Replace a subtree and a value beside it, in one transaction."""
    space, value = root.space, b"%d" % number
    puts = [Put(Key(space, ("t", f"s{number % 3}", f"n{each}")), value) for each in range(10)]
    client.apply(Delete(Key(space, ("t",)), Scope.SUBTREE), *puts, Put(Key(space, ("z",)), value))


def _whole(client: Client, root: Key) -> int:
    values = client.read(root)
    ages = set(values.values())
    require_equal(
        (len(ages), len(values)), (1, 11), f"values always written together have the ages {ages!r}; ages, values"
    )
    return int(ages.pop())


def _write_pairs(client: Client, root: Key, rounds: int | None) -> None:
    number = 0
    while rounds is None or number < rounds:
        number += 1
        _pair(client, root, number)
        if rounds is None and number == _REPORTED:
            report("busy")


def _read_pairs(client: Client, root: Key, rounds: int, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    last = 0
    while last < rounds:
        require(time.monotonic() < deadline, f"within {timeout:g} seconds, only the state {last} of {rounds} was seen")
        age = _whole(client, root)
        require(age >= last, f"a reader sees the state {age} after the state {last}")
        last = age
