"""Processes: those that open the same store see each other's writes, lose none, and leave nothing half done."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Final

from redicts.contract.bench import LONG, SHORT, Bench
from redicts.contract.client import Client
from redicts.contract.law import Need, NotRun, law, require, require_equal
from redicts.contract.spawned import OtherProcess, report
from redicts.contract.trees import TREE
from redicts.core.transaction import NOTHING, Add, Delete, Exactly, Key, Path, Put, Scope

_ADDS: Final = 100
_PAIRS: Final = 300
_REPORTED: Final = 5


@law(needs=[Need.PROCESSES, Need.OPENER])
def processes_see_each_other(bench: Bench) -> None:
    """What one process has written, another one sees in its next call: values of hostile names, deletes, and lives."""
    with _others(bench, 1) as [other]:
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
    with _others(bench, 2) as others:
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
    with _others(bench, 2) as [writer, reader]:
        writer.start(_write_pairs, bench.key(), _PAIRS)
        reader.start(_read_pairs, bench.key(), _PAIRS, bench.patience)
        _read_pairs(bench.store, bench.key(), _PAIRS, bench.patience)
        writer.result()
        reader.result()


@law(needs=[Need.PROCESSES, Need.OPENER])
def a_killed_process_leaves_nothing_half_done(bench: Bench) -> None:
    """A process that is killed in the middle of its writes leaves whole transactions, and stops nobody else."""
    _pair(bench.store, bench.key(), 0)
    with _others(bench, 2) as others:
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


def _read(client: Client, key: Key) -> dict[Path, bytes]:
    return dict(client.read(key))


def _write(client: Client, writes: Sequence[Put | Delete | Add]) -> None:
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


@contextlib.contextmanager
def _others(bench: Bench, count: int) -> Iterator[list[OtherProcess]]:
    opener = bench.harness.opener
    if opener is None:  # the need was met when the law began
        raise NotRun("the harness has no opener", demanded=True)
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(OtherProcess(opener, bench.patience)) for _ in range(count)]
