"""Databases: what is opened with another number shares nothing with this one."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.client import Client
from redicts.contract.documented import fetch_at
from redicts.contract.fixture import LONG, SHORT, Fixture
from redicts.contract.forked import ForkedChild
from redicts.contract.form import entries_of, names_of
from redicts.contract.harness import inner_of
from redicts.contract.listening import fresh_name, list_at, require_notified
from redicts.contract.requirements import require, require_equal
from redicts.contract.trees import names_below, within
from redicts.core.backend import Backend
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Equals,
    Expire,
    Key,
    Notify,
    Path,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Status,
    Transaction,
    Write,
)

_Tree = Mapping[Path, bytes]

_ROUNDS: Final = 5
_THREADS: Final = 4
_SOON: Final = 0.02
"""Seconds for a notification that must not come."""


@conformance_check(needs=[Need.DATABASES])
def they_share_nothing(fixture: Fixture) -> None:
    """The same keys in two databases are different keys for every check, read, write, fast path and expiry.

    Writes, adds, deletes, overwrites and notifies under the same keys in each database, and after each step reads
    all databases.
    """
    clients = [fixture.store, *fixture.databases]
    trees: list[_Tree] = [{}] * len(clients)

    def write(number: int, tree: _Tree, *writes: Write) -> None:
        """Write to one database, and look into all of them."""
        clients[number].apply(*writes)
        trees[number] = tree
        _look(
            fixture,
            clients,
            trees,
            f"after {[type(each).__name__ for each in writes]} in database {number} of {len(clients)}",
        )

    for number, client in enumerate(clients):
        where = f"in database {number} of {len(clients)}"
        require(client.holds(Equals(fixture.key(), Scope.SUBTREE, NOTHING)), f"a check {where} sees values of another")
        tree = {("a",): b"%d" % number, ("d", "b"): b"%d" % number, ("d", "c"): b"5", ("count",): b"1"}
        write(number, tree, *fixture.puts(tree))
        holds = client.holds(StartsWith(fixture.key("a"), Scope.SUBTREE, b"%d" % number))
        require(holds, f"a check {where} compares with values of another")
    for number, client in enumerate(clients):
        tree = {**trees[number], ("a",): b"new %d" % number}
        if client.overwrite(fixture.key("a"), tree["a",]):
            trees[number] = tree
        found = client.apply(Add(fixture.key("count"), 10 + number)).counters
        require_equal(found, (11 + number,), f"the counter of database {number} of {len(clients)} is")
        text = fixture.key("text")
        refused = client.run(writes=[Delete(fixture.key("d"), Scope.SUBTREE), Put(text, b"x"), Add(text, 1)])
        require_equal(refused.status, Status.NOT_A_COUNTER, "the status of an Add to a text is")
        trees[number] = {**trees[number], ("count",): b"%d" % (11 + number)}
        _look(fixture, clients, trees, f"after an Add in database {number} of {len(clients)}")
    for number, client in enumerate(clients):
        write(number, {("d", "x"): b"1"}, Delete(fixture.key(), Scope.SUBTREE), Put(fixture.key("d", "x"), b"1"))
        if fixture.capabilities.documents:
            document = {("d", "x"): b"7", ("d", "y", "z"): b"8"}
            client.apply(PutDocument(fixture.key("d"), b'{"x":7,"y":{"z":8}}'))
            trees[number] = document
            if client.overwrite_document(fixture.key("d"), b'{"x":%d}' % number):
                trees[number] = {("d", "x"): b"%d" % number}
            _look(fixture, clients, trees, f"after an overwriting of a document in database {number}")
        write(number, {}, Notify(fixture.key(), Scope.SUBTREE))
    records = fixture.fresh_space()
    asked = Transaction(tuple([StartsWith(Key(records, path), Scope.BELOW, b"me") for path in (("a",), ("a", "b"))]))
    clients[-1].apply(Put(Key(records, ("a", "b", "c")), b"you"))
    for number, client in enumerate(clients):
        holds = client.execute(asked).applied
        require_equal(holds, number < len(clients) - 1, f"the same conditions hold in database {number}:")


@conformance_check(needs=[Need.DATABASES, Need.TTL])
def ttls_are_of_one_database(fixture: Fixture) -> None:
    """A TTL that is set or ends in one database changes no value and no TTL under the same key of another.

    Lets values end in one database while the same keys are persistent or renewed in the others.
    """
    clients = [fixture.store, *fixture.databases]
    tree = {("a",): b"1", ("d", "b"): b"2"}
    for client in clients:
        client.apply(*fixture.puts(tree))
    for number, client in enumerate(clients):
        others = [other for other in clients if other is not client]
        client.apply(*fixture.puts(tree, SHORT))
        for other in others:
            require_equal(dict(other.ttls(fixture.key())), {}, f"after TTLs in database {number}, those of another are")
            other.apply(*fixture.puts(tree))
        fixture.outlive()
        for other in others:  # a write may free what has expired, and must free that alone
            other.apply(Put(fixture.key("a"), b"1"), Delete(fixture.key("e"), Scope.SUBTREE))
        client.apply(Put(fixture.key("e"), b"5"))
        fixture.expect({("e",): b"5"}, client)
        for other in others:
            fixture.expect(tree, other)
        client.apply(Delete(fixture.key(), Scope.SUBTREE), *fixture.puts(tree, LONG))
        client.apply(Expire(fixture.key(), Scope.SUBTREE, None))
        for other in others:
            other.apply(*fixture.puts(tree, LONG))
        require_equal(dict(client.ttls(fixture.key())), {}, f"after TTLs in other databases, those of {number} are")
        client.apply(Expire(fixture.key(), Scope.SUBTREE, None))
        for other in others:
            require_equal(
                set(other.ttls(fixture.key())), set(tree), f"after {number} has none, the paths with a TTL are"
            )
            other.apply(*fixture.puts(tree))
        client.apply(*fixture.puts(tree))


@conformance_check(needs=[Need.DATABASES, Need.PUSH])
def a_notify_is_for_one_database(fixture: Fixture) -> None:
    """A Notify reaches the listeners of its own database, and none of the same name in another.

    Listens under one name in every database, and notifies it in one of them.
    """
    clients = [fixture.store, *fixture.databases]
    key = fixture.key("list")
    for number, client in enumerate(clients):
        others = [other for other in clients if other is not client]
        told = [True] * len(others)
        for _ in range(_ROUNDS):
            name = fresh_name()
            with ExitStack() as stack:
                # Those of the same name begin before and after it.
                earlier = [stack.enter_context(other.listen(name)) for other in others[:1]]
                listener = stack.enter_context(client.listen(name))
                listeners = earlier + [stack.enter_context(other.listen(name)) for other in others[1:]]
                list_at(client, key, name)
                client.apply(Notify(key, Scope.NODE))
                require_notified(listener, fixture.timeout, f"a listener in database {number} of {len(clients)}")
                told = [was and other.wait(_SOON) for was, other in zip(told, listeners)]
            if not any(told):
                break
        # A wait may end for no reason, but not each time.
        require(not any(told), f"a Notify in database {number} of {len(clients)} notifies listeners in another")


@conformance_check(needs=[Need.DATABASES])
def every_connection_is_to_its_own(fixture: Fixture) -> None:
    """Threads, tasks, a child, and a client that was closed or lost its connections stay in its database.

    Reads, adds and listens in another database: by several threads at once, by tasks, after the connections of a client
    broke, in a forked child, and after close. Reads the counters of both databases after each.
    """
    key, count = fixture.key("number"), fixture.key("count")
    clients = [fixture.store, fixture.databases[-1]]
    for client, value in zip(clients, (b"first", b"other")):
        client.apply(Put(key, value), Put(count, b"0"))
    other, expected = clients[1], 0

    def work(turn: int) -> None:
        require_equal(other.value(key), b"other", "in the other database, the value is")
        listed, name = fixture.key("list", f"{turn}"), fresh_name()
        with other.listen(name) as listener:
            listener.wait(0.0)  # it may be notified for nothing at first
            list_at(other, listed, name)
            other.apply(Notify(listed, Scope.NODE), Add(count, 1))
            require_notified(listener, fixture.timeout, "a listener in the other database")

    for what, times, call in _users(fixture, other, work, key):
        call()
        expected += times
        found = [client.value(count) for client in clients]
        require_equal(found, [b"0", b"%d" % expected], f"after {what} counted in the other database, the counters are")


def _users(
    fixture: Fixture, client: Client, work: Callable[[int], None], key: Key
) -> Iterator[tuple[str, int, Callable[[], object]]]:
    """Yield what else uses a client than one thread, how often it counts, and how it does."""
    yield "threads", _THREADS, lambda: fixture.together([partial(work, turn) for turn in range(_THREADS)])
    if type(inner_of(client.backend)).for_asyncio is not Backend.for_asyncio:
        yield "tasks", 1, lambda: asyncio.run(_in_tasks(fixture, client, key))
    if fixture.harness.networked and fixture.harness.break_connections():
        yield "a client whose connections broke", 1, partial(work, 0)
    if hasattr(os, "fork") and fixture.capabilities.processes:

        def fork() -> None:
            with ForkedChild(partial(work, 0), fixture.timeout) as child:
                child.finish()

        yield "a forked child", 1, fork
    client.backend.close()
    yield "a client that was closed", 1, partial(work, 0)


async def _in_tasks(fixture: Fixture, client: Client, key: Key) -> None:
    """Read, count, and be notified as threads are."""
    backend, listed, name = inner_of(client.backend).for_asyncio(), fixture.key("list"), fresh_name()
    if backend is None:
        client.apply(Add(fixture.key("count"), 1))
        return
    try:
        found = await backend.execute(Transaction((), (Read(key),)))
        require_equal(entries_of(found.answers[0]).values.get(()), client.value(key), "a task reads")
        listener = await backend.listen(name)
        if listener is not None:
            await listener.wait(0.0)
        list_at(client, listed, name)
        await backend.execute(Transaction((), (), (Notify(listed, Scope.NODE), Add(fixture.key("count"), 1))))
        if listener is not None:
            require(await listener.wait(fixture.timeout), "a task that listens in a database is not notified there")
            listener.close()
    finally:
        backend.close(True)
        await asyncio.sleep(0)


def _look(fixture: Fixture, clients: Sequence[Client], trees: Sequence[_Tree], when: str) -> None:
    """Require that each of these databases holds its tree."""
    for number, (client, tree) in enumerate(zip(clients, trees)):
        reads = (Read(fixture.key(), Scope.SUBTREE), ReadNames(fixture.key("d")))
        outcome = client.run([Equals(fixture.key(), Scope.SUBTREE, tree)], reads)
        values, names = entries_of(outcome.answers[0]).values, names_of(outcome.answers[1]).names
        require_equal(dict(values), dict(tree), f"{when}, database {number} holds")
        require_equal(set(names), names_below(tree, ("d",)), f"{when}, the names of a dict in database {number} are")
        require(outcome.applied, f"{when}, Equals of the values in database {number} fails")
        value, below = fixture.key("a"), fixture.key("d")
        require(client.fetch(value) in (None, tree.get(("a",))), f"{when}, database {number} fetches another value")
        if fixture.capabilities.documents:
            fetch_at(client, below, within(tree, ("d",), Scope.SUBTREE))
