"""Probes: whether a store can do what it does not claim, as far as that can be seen.

A probe is examined like a law, but its success is what nobody expected: the store could claim more than it does.
"""

# ruff: noqa: D401  (the docstring of a probe states what would be so)

from __future__ import annotations

from typing import Final

from redicts.contract.bench import LONG, Bench
from redicts.contract.client import Client
from redicts.contract.form import entries_of
from redicts.contract.law import Law, Need, NotRun, require, require_equal
from redicts.contract.spawned import other_processes
from redicts.core.backend import Backend
from redicts.core.transaction import Delete, Key, Put, Read, Scope, Transaction


def _life(bench: Bench) -> None:
    """A life that is given is told, which is what the capability life is about."""
    bench.store.apply(Put(bench.key("a"), b"1", LONG))
    require_equal(set(bench.store.lives(bench.key())), {("a",)}, "those that have a life are")


def _processes(bench: Bench) -> None:
    """Another process reads what this one wrote, and this one what the other wrote."""
    here, there = bench.key("here"), bench.key("there")
    bench.store.apply(Put(here, b"1"))
    with other_processes(bench, 1) as [other]:
        require_equal(other.call(_value, here), b"1", "another process reads")
        other.call(_put, there)
        require_equal(bench.store.value(there), b"1", "this process reads")


def _durable(bench: Bench) -> None:
    """A value is there after the last client closed the store and another one opened it."""
    opener = bench.harness.opener
    if opener is None:
        raise NotRun("the harness has no opener", demanded=False)
    key = bench.key("a")
    bench.close_clients()
    _and_close(opener(), Transaction(writes=(Put(key, b"1"),)))
    left = opener()
    try:
        outcome = left.execute(Transaction(reads=(Read(key),)))
        require(dict(entries_of(outcome.answers[0]).values) == {(): b"1"}, "the value is gone")
    finally:
        _and_close(left, Transaction(writes=(Delete(key, Scope.NODE),)))


PROBES: Final[dict[str, Law]] = {
    "life": Law("probes.life", _life.__doc__ or "", (Need.NO_LIFE,), _life),
    "processes": Law("probes.processes", _processes.__doc__ or "", (Need.NO_PROCESSES, Need.OPENER), _processes),
    "durable": Law("probes.durable", _durable.__doc__ or "", (Need.NO_DURABLE, Need.OPENER), _durable),
}
"""By the capability that a store could claim.

That it could claim a larger ``atomic_entries`` is no secret either: what goes beyond the limit must be refused, and the
law on that says so. Whether it could claim ``push`` cannot be seen: to come back early is allowed to all.
"""


def _value(client: Client, key: Key) -> bytes | None:
    return client.value(key)


def _put(client: Client, key: Key) -> None:
    client.apply(Put(key, b"1"))


def _and_close(backend: Backend, transaction: Transaction) -> None:
    try:
        backend.execute(transaction)
    finally:
        backend.close()
