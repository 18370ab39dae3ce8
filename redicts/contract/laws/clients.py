"""Clients: several of one store see one state, and a client that leaves takes nothing along."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

import threading
from functools import partial
from typing import Final

from redicts.contract.bench import LONG, Bench
from redicts.contract.client import Client
from redicts.contract.law import Need, law, require, require_equal
from redicts.contract.trees import TREE, without
from redicts.core.transaction import Add, Delete, Expire, Path, Put, Scope, Write

_ROUNDS: Final = 12


@law()
def writes_are_seen_at_once(bench: Bench) -> None:
    """What one client has written, every other one sees in its next call: values, names, deletes, counters."""
    one, other = bench.store, bench.client()
    key, deep = bench.key("a"), bench.key("d", "x", "y")
    for number in range(20):
        value = b"%d" % number
        one.apply(Put(key, value), Put(deep, value))
        bench.expect({("a",): value, ("d", "x", "y"): value}, other)
        require_equal(other.value(key), value, "the other client reads")
        other.apply(Delete(deep, Scope.NODE), Add(key, 1))
        bench.expect({("a",): b"%d" % (number + 1)}, one)
        require_equal(one.value(key), b"%d" % (number + 1), "the first client reads")
        require_equal(one.names(bench.key("d")), set(), "the first client lists")


@law()
def a_read_is_never_stale(bench: Bench) -> None:
    """A client that has read a scope sees what another one changes in it afterwards, in checks and names as well."""
    reader, writer = bench.client(), bench.client()
    bench.plant(TREE)
    bench.expect(TREE, reader)
    steps: list[tuple[Write, dict[Path, bytes]]] = [
        (Put(bench.key("leaf"), b"new"), {**TREE, ("leaf",): b"new"}),
        (Delete(bench.key("leaf"), Scope.NODE), without(TREE, ("leaf",), Scope.NODE)),
        (Put(bench.key("leaf"), b"1"), dict(TREE)),
        (Put(bench.key("inner", "deep", "new"), b"2"), {**TREE, ("inner", "deep", "new"): b"2"}),
        (Delete(bench.key("inner", "deep", "new"), Scope.SUBTREE), dict(TREE)),
        (Delete(bench.key("inner"), Scope.BELOW), without(TREE, ("inner",), Scope.BELOW)),
        (Add(bench.key("inner"), 5), {**without(TREE, ("inner",), Scope.BELOW), ("inner",): b"5"}),
        (Delete(bench.key(), Scope.SUBTREE), {}),
    ]
    for write, expected in steps:
        writer.apply(write)
        bench.expect(expected, reader)


@law(needs=[Need.LIFE])
def lives_are_seen_by_all(bench: Bench) -> None:
    """A life that one client gave, changed or took is the same for every other one."""
    one, other, key = bench.store, bench.client(), bench.key("d", "a")
    one.apply(Put(key, b"1", LONG))
    require_equal(set(other.lives(bench.key())), {("d", "a")}, "those that have a life are")
    other.apply(Expire(key, Scope.NODE, None))
    require_equal(dict(one.lives(bench.key())), {}, "the lives are")
    one.apply(Expire(bench.key(), Scope.SUBTREE, LONG))
    other.apply(Add(key, 1), Put(key, b"3", keep_life=True))
    require(0 < one.lives(key).get((), 0) <= LONG, "a life kept by another client is gone")


@law()
def a_client_may_leave(bench: Bench) -> None:
    """Closing a client, also twice, disturbs neither the others nor what it wrote."""
    leaving, staying = bench.harness.open(), bench.store
    try:
        Client(leaving).apply(Put(bench.key("a"), b"1"))
        staying.apply(Put(bench.key("b"), b"2"))
    finally:
        leaving.close()
    leaving.close()
    bench.expect({("a",): b"1", ("b",): b"2"}, staying)
    staying.apply(Put(bench.key("a"), b"3"))
    bench.expect({("a",): b"3", ("b",): b"2"}, bench.client())


@law()
def calls_under_way_finish(bench: Bench) -> None:
    """Close lets calls under way in other threads finish; what they did is whole."""
    cut_short = sum(_close_amid_calls(bench) for _ in range(_ROUNDS))
    # A call may fail without fault if it begins in the very instant of the close, which is seldom: calls are long.
    require(
        cut_short <= _ROUNDS // 4, f"in {cut_short} of {_ROUNDS} rounds, closing a client cut short a call under way"
    )


@law(needs=[Need.DURABLE])
def values_outlast_all_clients(bench: Bench) -> None:
    """Values, lives and counters are there after the last client closed the store and another one opened it."""
    bench.plant({**TREE, ("count",): b"41", ("empty",): b""})
    if bench.capabilities.life:
        bench.store.apply(Put(bench.key("mortal"), b"1", LONG))
    else:
        bench.store.apply(Put(bench.key("mortal"), b"1"))
    for _ in range(2):
        bench.close_clients()
        bench.expect({**TREE, ("count",): b"41", ("empty",): b"", ("mortal",): b"1"})
    require_equal(bench.store.apply(Add(bench.key("count"), 1)).sums, (42,), "a counter goes on to")
    if bench.capabilities.life:
        lives = bench.store.lives(bench.key())
        require_equal(set(lives), {("mortal",)}, "those that have a life are")
        require(0 < lives["mortal",] <= LONG, f"a life of {LONG} ms is now {lives['mortal',]}")


def _close_amid_calls(bench: Bench) -> bool:
    """Close a client while threads use it; tell whether a call that had begun before was cut short."""
    bench.renew()
    backend = bench.harness.open()
    client = Client(backend)
    first, last = bench.key("a"), bench.key("z")
    writes = [Add(first, 1), *bench.puts({("d", f"n{number}"): b"x" for number in range(300)}), Add(last, 1)]
    begun = [threading.Event() for _ in range(2)]
    closing = threading.Event()
    cut_short: list[BaseException] = []

    def work(started: threading.Event) -> None:
        while not closing.is_set():
            try:
                client.run(writes=writes)
            except Exception as error:
                if not closing.is_set():
                    raise
                cut_short.append(error)
                return
            started.set()

    def close() -> None:
        for started in begun:
            started.wait(bench.patience)
        closing.set()
        backend.close()

    try:
        bench.together([close, *(partial(work, started) for started in begun)])
    finally:
        backend.close()
    values = bench.store.read(bench.key())
    require_equal(values.get(("a",)), values.get(("z",)), "two counters that are always counted together are")
    return bool(cut_short)
