"""Probes: whether a store supports a capability that it does not declare.

A probe runs like a check. If it passes, the store could declare the capability.
"""

# ruff: noqa: D401  (the docstring of a probe states its rule)

from __future__ import annotations

from typing import Final

from redicts.contract.check import ConformanceCheck, Need
from redicts.contract.client import Client
from redicts.contract.fixture import LONG, Fixture
from redicts.contract.form import entries_of
from redicts.contract.requirements import NotRun, require, require_equal
from redicts.core.backend import Backend
from redicts.core.minitransaction import Delete, Key, Put, Read, Scope, Transaction


def _ttl(fixture: Fixture) -> None:
    """A TTL is returned by a read."""
    fixture.store.apply(Put(fixture.key("a"), b"1", LONG))
    require_equal(set(fixture.store.ttls(fixture.key())), {("a",)}, "the paths with a TTL are")


def _processes(fixture: Fixture) -> None:
    """Two processes read each other's writes."""
    here, there = fixture.key("here"), fixture.key("there")
    fixture.store.apply(Put(here, b"1"))
    with fixture.other_processes(1) as [other]:
        require_equal(other.call(_value, here), b"1", "another process reads")
        other.call(_put, there)
        require_equal(fixture.store.value(there), b"1", "this process reads")


def _durable(fixture: Fixture) -> None:
    """A value persists after the last client closed the store."""
    opener = fixture.harness.opener
    if opener is None:
        raise NotRun("the harness has no opener", required=False)
    key = fixture.key("a")
    fixture.close_clients()
    _and_close(opener(), Transaction(writes=(Put(key, b"1"),)))
    left = opener()
    try:
        outcome = left.execute(Transaction(reads=(Read(key),)))
        require(dict(entries_of(outcome.answers[0]).values) == {(): b"1"}, "the value is gone")
    finally:
        _and_close(left, Transaction(writes=(Delete(key, Scope.NODE),)))


PROBES: Final[dict[str, ConformanceCheck]] = {
    "ttl": ConformanceCheck("probes.ttl", _ttl.__doc__ or "", (Need.NO_TTL,), _ttl),
    "processes": ConformanceCheck(
        "probes.processes", _processes.__doc__ or "", (Need.NO_PROCESSES, Need.OPENER), _processes
    ),
    "durable": ConformanceCheck("probes.durable", _durable.__doc__ or "", (Need.NO_DURABLE, Need.OPENER), _durable),
}
"""Probes by capability.

The checks on ``atomic_entries`` and ``documents`` report what a store could declare. ``push`` cannot be probed, since
any listener may return early.
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
