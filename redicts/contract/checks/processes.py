"""Processes: those that open the same store see each other's writes, lose none, and leave nothing half done."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from redicts.contract.check import Need, conformance_check, require, require_equal
from redicts.contract.client import Client
from redicts.contract.fixture import LONG, SHORT, Fixture
from redicts.contract.listening import SOON, await_listing, fresh_name, list_at, wait_until_cleared
from redicts.contract.spawned import other_processes, report
from redicts.contract.trees import TREE
from redicts.core.minitransaction import NOTHING, Add, Delete, Equals, Key, Notify, Path, Put, Scope, Write

_ADDS: Final = 100
_PAIRS: Final = 300
_REPORTED: Final = 5
_TRIES: Final = 5


@conformance_check(needs=[Need.PROCESSES, Need.OPENER])
def processes_see_each_other(fixture: Fixture) -> None:
    """What one process has written, another one sees in its next call: values of hostile names, deletes, and TTLs."""
    with other_processes(fixture, 1) as [other]:
        fixture.plant(TREE)
        require_equal(other.call(_read, fixture.key()), dict(TREE), "another process reads")
        names: dict[Path, bytes] = {("d", name): b"%d" % number for number, name in enumerate(fixture.harness.names)}
        other.call(_write, [Delete(fixture.key(), Scope.SUBTREE), *fixture.puts(names)])
        fixture.expect(names)
        for number in range(5):
            fixture.store.apply(Put(fixture.key("d", "turn"), b"%d" % number))
            require_equal(other.call(_read, fixture.key("d", "turn")), {(): b"%d" % number}, "another process reads")
            other.call(_write, [Add(fixture.key("d", "turn"), 10)])
            require_equal(fixture.store.value(fixture.key("d", "turn")), b"%d" % (number + 10), "this process reads")
        fixture.store.apply(Delete(fixture.key(), Scope.SUBTREE))
        require_equal(other.call(_read, fixture.key()), {}, "after a delete, another process reads")
        if fixture.capabilities.ttl:
            other.call(_write, [Put(fixture.key("long"), b"1", LONG), Put(fixture.key("short"), b"1", SHORT)])
            fixture.outlive()
            fixture.expect({("long",): b"1"})
            require(
                0 < fixture.store.ttls(fixture.key("long")).get((), 0) <= LONG,
                "a TTL given by another process is lost",
            )


@conformance_check(needs=[Need.PROCESSES, Need.OPENER])
def processes_lose_no_update(fixture: Fixture) -> None:
    """Adds and optimistic loops of several processes at once are all counted."""
    with other_processes(fixture, 2) as others:
        for other in others:
            other.start(_count, fixture.key("count"), fixture.key("d", "optimistic"))
        _count(fixture.store, fixture.key("count"), fixture.key("d", "optimistic"))
        for other in others:
            other.result()
    expected = b"%d" % (_ADDS * (len(others) + 1))
    fixture.expect({("count",): expected, ("d", "optimistic"): expected})


@conformance_check(needs=[Need.PROCESSES, Need.OPENER])
def processes_see_no_half_write(fixture: Fixture) -> None:
    """Values that another process always writes together, and a subtree it replaces, are never seen half written."""
    _pair(fixture.store, fixture.key(), 0)
    with other_processes(fixture, 2) as [writer, reader]:
        writer.start(_write_pairs, fixture.key(), _PAIRS)
        reader.start(_read_pairs, fixture.key(), _PAIRS, fixture.timeout)
        _read_pairs(fixture.store, fixture.key(), _PAIRS, fixture.timeout)
        writer.result()
        reader.result()


@conformance_check(needs=[Need.PROCESSES, Need.OPENER])
def a_killed_process_leaves_nothing_half_done(fixture: Fixture) -> None:
    """A process that is killed in the middle of its writes leaves whole transactions, and stops nobody else."""
    _pair(fixture.store, fixture.key(), 0)
    with other_processes(fixture, 2) as others:
        for other in others:
            other.start(_write_pairs, fixture.key(), None)
            other.wait_for_word()
            other.kill()
            age = _whole(fixture.store, fixture.key())
            require(
                age >= _REPORTED, f"a killed process had written the state {_REPORTED}, but the state {age} is there"
            )
            _pair(fixture.store, fixture.key(), 1)
            _whole(fixture.store, fixture.key())


@conformance_check(needs=[Need.PROCESSES, Need.OPENER])
def processes_notify_each_other(fixture: Fixture) -> None:
    """A Wake of one process notifies the listeners of another, of its own, and of both at once."""
    root, here, there = fixture.key("list"), fixture.key("list", "here"), fixture.key("list", "there")
    name = fresh_name()
    with other_processes(fixture, 1) as [other], fixture.store.listen(name) as listener:
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


@conformance_check(needs=[Need.PROCESSES, Need.OPENER, Need.PUSH])
def calls_to_other_processes_are_sent(fixture: Fixture) -> None:
    """Where ``push`` is claimed, a Wake reaches the listener of another process long before he would look himself."""
    key = fixture.key("list")
    seconds: list[float] = []
    with other_processes(fixture, 1) as [other]:
        for _ in range(_TRIES):
            other.start(_sleep, key, fixture.timeout)
            await_listing(fixture.store, key, in_time=fixture.deadline())
            begun = time.monotonic()
            fixture.store.apply(Notify(key, Scope.NODE))
            other.result()
            seconds.append(time.monotonic() - begun)
    require(
        min(seconds) < SOON,
        f"the fastest of {_TRIES} notifications of another process took {min(seconds):.2f} seconds: they are not sent",
    )


@conformance_check(needs=[Need.PROCESSES, Need.OPENER])
def a_killed_listener_harms_nobody(fixture: Fixture) -> None:
    """A Wake over a list on which a process stands that was killed is applied, and notifies the others on it."""
    here, there = fixture.key("list", "here"), fixture.key("list", "there")
    name = fresh_name()
    with other_processes(fixture, 1) as [other], fixture.store.listen(name) as listener:
        other.start(_sleep, there, fixture.timeout)
        await_listing(fixture.store, there, in_time=fixture.deadline())
        other.kill()
        list_at(fixture.store, here, name)
        fixture.store.apply(Notify(fixture.key("list"), Scope.BELOW))
        wait_until_cleared(listener, fixture.store, here, fixture.timeout)
        fixture.expect({})


def _sleep(client: Client, key: Key, timeout: float) -> None:
    name = fresh_name()
    with client.listen(name) as listener:
        list_at(client, key, name)
        wait_until_cleared(listener, client, key, timeout)


def _read(client: Client, key: Key) -> dict[Path, bytes]:
    return dict(client.read(key))


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
