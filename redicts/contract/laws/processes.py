"""Processes: those that open the same store see each other's writes, lose none, and leave nothing half done."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from redicts.contract.bench import LONG, SHORT, Bench
from redicts.contract.client import Client
from redicts.contract.law import Need, law, require, require_equal
from redicts.contract.listening import SOON, await_listing, fresh_name, list_at, wait_until_cleared
from redicts.contract.spawned import other_processes, report
from redicts.contract.trees import TREE
from redicts.core.transaction import NOTHING, Add, Delete, Exactly, Key, Path, Put, Scope, Wake, Write

_ADDS: Final = 100
_PAIRS: Final = 300
_REPORTED: Final = 5
_TRIES: Final = 5


@law(needs=[Need.PROCESSES, Need.OPENER])
def processes_see_each_other(bench: Bench) -> None:
    """What one process has written, another one sees in its next call: values of hostile names, deletes, and lives."""
    with other_processes(bench, 1) as [other]:
        bench.plant(TREE)
        require_equal(other.call(_read, bench.key()), dict(TREE), "another process reads")
        names: dict[Path, bytes] = {("d", name): b"%d" % number for number, name in enumerate(bench.harness.names)}
        other.call(_write, [Delete(bench.key(), Scope.SUBTREE), *bench.puts(names)])
        bench.expect(names)
        for number in range(5):
            bench.store.apply(Put(bench.key("d", "turn"), b"%d" % number))
            require_equal(other.call(_read, bench.key("d", "turn")), {(): b"%d" % number}, "another process reads")
            other.call(_write, [Add(bench.key("d", "turn"), 10)])
            require_equal(bench.store.value(bench.key("d", "turn")), b"%d" % (number + 10), "this process reads")
        bench.store.apply(Delete(bench.key(), Scope.SUBTREE))
        require_equal(other.call(_read, bench.key()), {}, "after a delete, another process reads")
        if bench.capabilities.life:
            other.call(_write, [Put(bench.key("long"), b"1", LONG), Put(bench.key("short"), b"1", SHORT)])
            bench.outlive()
            bench.expect({("long",): b"1"})
            require(
                0 < bench.store.lives(bench.key("long")).get((), 0) <= LONG, "a life given by another process is lost"
            )


@law(needs=[Need.PROCESSES, Need.OPENER])
def processes_lose_no_update(bench: Bench) -> None:
    """Adds and optimistic loops of several processes at once are all counted."""
    with other_processes(bench, 2) as others:
        for other in others:
            other.start(_count, bench.key("count"), bench.key("d", "optimistic"))
        _count(bench.store, bench.key("count"), bench.key("d", "optimistic"))
        for other in others:
            other.result()
    expected = b"%d" % (_ADDS * (len(others) + 1))
    bench.expect({("count",): expected, ("d", "optimistic"): expected})


@law(needs=[Need.PROCESSES, Need.OPENER])
def processes_see_no_half_write(bench: Bench) -> None:
    """Values that another process always writes together, and a subtree it replaces, are never seen half written."""
    _pair(bench.store, bench.key(), 0)
    with other_processes(bench, 2) as [writer, reader]:
        writer.start(_write_pairs, bench.key(), _PAIRS)
        reader.start(_read_pairs, bench.key(), _PAIRS, bench.patience)
        _read_pairs(bench.store, bench.key(), _PAIRS, bench.patience)
        writer.result()
        reader.result()


@law(needs=[Need.PROCESSES, Need.OPENER])
def a_killed_process_leaves_nothing_half_done(bench: Bench) -> None:
    """A process that is killed in the middle of its writes leaves whole transactions, and stops nobody else."""
    _pair(bench.store, bench.key(), 0)
    with other_processes(bench, 2) as others:
        for other in others:
            other.start(_write_pairs, bench.key(), None)
            other.wait_for_word()
            other.kill()
            age = _whole(bench.store, bench.key())
            require(
                age >= _REPORTED, f"a killed process had written the state {_REPORTED}, but the state {age} is there"
            )
            _pair(bench.store, bench.key(), 1)
            _whole(bench.store, bench.key())


@law(needs=[Need.PROCESSES, Need.OPENER])
def processes_wake_each_other(bench: Bench) -> None:
    """A Wake of one process wakes the listeners of another, of its own, and of both at once."""
    root, here, there = bench.key("list"), bench.key("list", "here"), bench.key("list", "there")
    name = fresh_name()
    with other_processes(bench, 1) as [other], bench.store.listen(name) as listener:
        for wake in (Wake(there, Scope.NODE), Wake(root, Scope.BELOW)):
            other.start(_sleep, there, bench.patience)
            await_listing(bench.store, there, in_time=bench.deadline())
            bench.store.apply(wake)
            other.result()
        list_at(bench.store, here, name)
        other.call(_write, [Wake(here, Scope.NODE)])
        wait_until_cleared(listener, bench.store, here, bench.patience)
        list_at(bench.store, here, name)
        other.start(_sleep, there, bench.patience)
        await_listing(bench.store, there, in_time=bench.deadline())
        bench.client().apply(Wake(root, Scope.SUBTREE))
        wait_until_cleared(listener, bench.store, here, bench.patience)
        other.result()


@law(needs=[Need.PROCESSES, Need.OPENER, Need.PUSH])
def calls_to_other_processes_are_sent(bench: Bench) -> None:
    """Where ``push`` is claimed, a Wake reaches the listener of another process long before he would look himself."""
    key = bench.key("list")
    seconds: list[float] = []
    with other_processes(bench, 1) as [other]:
        for _ in range(_TRIES):
            other.start(_sleep, key, bench.patience)
            await_listing(bench.store, key, in_time=bench.deadline())
            begun = time.monotonic()
            bench.store.apply(Wake(key, Scope.NODE))
            other.result()
            seconds.append(time.monotonic() - begun)
    require(
        min(seconds) < SOON,
        f"the fastest of {_TRIES} wake-ups of another process took {min(seconds):.2f} seconds: they are not sent",
    )


@law(needs=[Need.PROCESSES, Need.OPENER])
def a_killed_listener_harms_nobody(bench: Bench) -> None:
    """A Wake over a list on which a process stands that was killed is applied, and wakes the others on it."""
    here, there = bench.key("list", "here"), bench.key("list", "there")
    name = fresh_name()
    with other_processes(bench, 1) as [other], bench.store.listen(name) as listener:
        other.start(_sleep, there, bench.patience)
        await_listing(bench.store, there, in_time=bench.deadline())
        other.kill()
        list_at(bench.store, here, name)
        bench.store.apply(Wake(bench.key("list"), Scope.BELOW))
        wait_until_cleared(listener, bench.store, here, bench.patience)
        bench.expect({})


def _sleep(client: Client, key: Key, patience: float) -> None:
    name = fresh_name()
    with client.listen(name) as listener:
        list_at(client, key, name)
        wait_until_cleared(listener, client, key, patience)


def _read(client: Client, key: Key) -> dict[Path, bytes]:
    return dict(client.read(key))


def _write(client: Client, writes: Sequence[Write]) -> None:
    client.apply(*writes)


def _count(client: Client, added: Key, compared: Key) -> None:
    for _ in range(_ADDS):
        client.apply(Add(added, 1))
        while True:
            old = client.value(compared)
            check = Exactly(compared, Scope.NODE, NOTHING if old is None else {(): old})
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


def _read_pairs(client: Client, root: Key, rounds: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    last = 0
    while last < rounds:
        require(time.monotonic() < deadline, f"within {patience:g} seconds, only the state {last} of {rounds} was seen")
        age = _whole(client, root)
        require(age >= last, f"a reader sees the state {age} after the state {last}")
        last = age
