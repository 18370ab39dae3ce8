"""Clients: all clients of a store see one state, and closing one affects no other."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

import tempfile
import threading
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.client import Client
from redicts.contract.fixture import LONG, Fixture
from redicts.contract.leftovers import Leftovers
from redicts.contract.listening import fresh_name
from redicts.contract.requirements import NotRun, require, require_equal
from redicts.contract.trees import TREE, without
from redicts.core.minitransaction import Add, Delete, Expire, Put, Scope, Write
from redicts.core.minitransaction import Path as StorePath
from redicts.errors import StoreError

_ROUNDS: Final = 12

_CALLS: Final = 12
_TURNS: Final = 3
_FEW_LEFT: Final = 6
"""How many open files a pool may keep."""


@conformance_check()
def writes_are_seen_at_once(fixture: Fixture) -> None:
    """Every client sees in its next call what another one wrote: in reads, names and conditions, read before or not.

    One client writes, overwrites and deletes leaves and dicts, and after each step another one reads, lists and
    compares all of the space.
    """
    writer, reader = fixture.store, fixture.client()
    fixture.plant(TREE)
    fixture.expect(TREE, reader)
    steps: list[tuple[Write, dict[StorePath, bytes]]] = [
        (Put(fixture.key("leaf"), b"new"), {**TREE, ("leaf",): b"new"}),
        (Delete(fixture.key("leaf"), Scope.NODE), without(TREE, ("leaf",), Scope.NODE)),
        (Put(fixture.key("leaf"), b"1"), dict(TREE)),
        (Put(fixture.key("inner", "deep", "new"), b"2"), {**TREE, ("inner", "deep", "new"): b"2"}),
        (Delete(fixture.key("inner", "deep", "new"), Scope.SUBTREE), dict(TREE)),
        (Delete(fixture.key("inner"), Scope.BELOW), without(TREE, ("inner",), Scope.BELOW)),
        (Add(fixture.key("inner"), 5), {**without(TREE, ("inner",), Scope.BELOW), ("inner",): b"5"}),
        (Delete(fixture.key(), Scope.SUBTREE), {}),
    ]
    for write, expected in steps:
        writer.apply(write)
        fixture.expect(expected, reader)
    key = fixture.key("a")
    for number in range(20):
        value, name = b"%d" % number, f"x{number}"
        deep = fixture.key("d", name, "y")
        writer.apply(Put(key, value), Put(deep, value))
        fixture.expect({("a",): value, ("d", name, "y"): value}, reader)
        require_equal(reader.names(fixture.key("d")), {name}, "the other client lists")
        require_equal(reader.value(key), value, "the other client reads")
        reader.apply(Delete(deep, Scope.NODE), Add(key, 1))
        fixture.expect({("a",): b"%d" % (number + 1)}, writer)
        require_equal(writer.value(key), b"%d" % (number + 1), "the first client reads")
        require_equal(writer.names(fixture.key("d")), set(), "the first client lists")


@conformance_check(needs=[Need.TTL])
def ttls_are_seen_by_all(fixture: Fixture) -> None:
    """A TTL that one client set, changed or removed is the same for every other client.

    Two clients set, remove and keep a TTL in turn, and each reads what the other one left.
    """
    one, other, key = fixture.store, fixture.client(), fixture.key("d", "a")
    one.apply(Put(key, b"1", LONG))
    require_equal(set(other.ttls(fixture.key())), {("d", "a")}, "the paths with a TTL are")
    other.apply(Expire(key, Scope.NODE, None))
    require_equal(dict(one.ttls(fixture.key())), {}, "the TTLs are")
    one.apply(Expire(fixture.key(), Scope.SUBTREE, LONG))
    other.apply(Add(key, 1), Put(key, b"3", keep_ttl=True))
    require(0 < one.ttls(key).get((), 0) <= LONG, "a TTL kept by another client is gone")


@conformance_check()
def a_client_may_leave(fixture: Fixture) -> None:
    """Closing a client, also twice, affects neither the other clients nor the values that it wrote.

    Closes one of two clients twice, and then reads and writes by the other one and by a new one.
    """
    leaving, staying = fixture.harness.open(), fixture.store
    try:
        Client(leaving).apply(Put(fixture.key("a"), b"1"))
        staying.apply(Put(fixture.key("b"), b"2"))
    finally:
        leaving.close()
    leaving.close()
    fixture.expect({("a",): b"1", ("b",): b"2"}, staying)
    staying.apply(Put(fixture.key("a"), b"3"))
    fixture.expect({("a",): b"3", ("b",): b"2"}, fixture.client())


@conformance_check()
def a_call_after_close_leaves_nothing_open(fixture: Fixture) -> None:
    """A client still works after it was closed, and closes what it opens for that; so do its listeners.

    Closes a client, calls it a dozen times more, and counts the open files and threads of the process.
    """
    backend = fixture.harness.open()
    try:
        client = Client(backend)
        client.apply(Put(fixture.key("a"), b"1"))
        backend.close()
        leftovers = Leftovers()
        for number in range(_CALLS):
            client.apply(Put(fixture.key("a"), b"%d" % number))
            require_equal(client.value(fixture.key("a")), b"%d" % number, "after close, what was just written is")
            with client.listen(fresh_name()):
                pass
        leftovers.require_few(_FEW_LEFT, f"{_CALLS} calls of each kind after close", fixture.timeout / 4)
    finally:
        backend.close()
    fixture.store.apply(Put(fixture.key("a"), b"last"))
    fixture.expect({("a",): b"last"}, fixture.client())


@conformance_check()
def calls_under_way_finish(fixture: Fixture) -> None:
    """Closing a client lets calls in other threads finish, and each of them is applied as a whole.

    Closes a client a dozen times while two threads write 300 values at once, and compares two counters that each of
    these transactions counts.
    """
    cut_short = sum(_close_amid_calls(fixture) for _ in range(_ROUNDS))
    # A call may fail without fault if it begins in the very instant of the close, which is seldom: calls are long.
    require(
        cut_short <= _ROUNDS // 4, f"in {cut_short} of {_ROUNDS} rounds, closing a client cut short a call under way"
    )


@conformance_check(needs=[Need.PATHS])
def a_link_leads_to_the_same_store(fixture: Fixture) -> None:
    """A store that is opened through a symbolic link is the same one, also at the same time, or refused.

    Opens a store by its path and through links to it and to its directory, and counts and reads by each in turn.
    """
    count = fixture.key("count")
    with tempfile.TemporaryDirectory(prefix="redicts-linked-") as directory, ExitStack() as stack:
        path, link, folder = (Path(directory, *names) for names in (("real", "state"), ("link",), ("linked",)))
        path.parent.mkdir()
        try:
            link.symlink_to(path)
            folder.symlink_to(path.parent)
        except OSError as error:
            raise NotRun("this platform has no symbolic links", required=False) from error
        clients: list[Client] = []
        for at in (path, link, folder / "state"):
            with suppress(*([] if at is path else [StoreError])):
                client = _opened_at(fixture, at, stack)
                client.apply(Put(fixture.key(at.parent.name), b"1"))
                clients.append(client)
        for number, client in enumerate(clients * _TURNS):
            found = client.apply(Add(count, 1)).counters
            require_equal(found, (number + 1,), f"by {len(clients)} clients of one store through links, an Add gives")
        require(link.is_symlink(), "a link to the store has been replaced by something else")
        by_path = dict(clients[0].read(fixture.key()))
        for client in clients:
            require_equal(dict(client.read(fixture.key())), by_path, "what is read through a link is")


@conformance_check(needs=[Need.DURABLE])
def values_outlast_all_clients(fixture: Fixture) -> None:
    """Values, TTLs and counters persist after the last client closed the store.

    Closes all clients twice, and reads values, TTLs and a counter by a new one.
    """
    fixture.plant({**TREE, ("count",): b"41", ("empty",): b""})
    if fixture.capabilities.ttl:
        fixture.store.apply(Put(fixture.key("mortal"), b"1", LONG))
    else:
        fixture.store.apply(Put(fixture.key("mortal"), b"1"))
    for _ in range(2):
        fixture.close_clients()
        fixture.expect({**TREE, ("count",): b"41", ("empty",): b"", ("mortal",): b"1"})
    require_equal(fixture.store.apply(Add(fixture.key("count"), 1)).counters, (42,), "a counter goes on to")
    if fixture.capabilities.ttl:
        ttls = fixture.store.ttls(fixture.key())
        require_equal(set(ttls), {("mortal",)}, "the paths with a TTL are")
        require(0 < ttls["mortal",] <= LONG, f"a TTL of {LONG} ms is now {ttls['mortal',]}")


def _opened_at(fixture: Fixture, path: Path, stack: ExitStack) -> Client:
    backend = fixture.harness.open_at(str(path))
    if backend is None:
        raise NotRun("the harness cannot open a store at another path", required=False)
    stack.callback(backend.close)
    return Client(backend)


def _close_amid_calls(fixture: Fixture) -> bool:
    """Close a client while threads use it; tell whether a call that had begun before was cut short."""
    fixture.renew()
    backend = fixture.harness.open()
    client = Client(backend)
    first, last = fixture.key("a"), fixture.key("z")
    writes = [Add(first, 1), *fixture.puts({("d", f"n{number}"): b"x" for number in range(300)}), Add(last, 1)]
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
            started.wait(fixture.timeout)
        closing.set()
        backend.close()

    try:
        fixture.together([close, *(partial(work, started) for started in begun)])
    finally:
        backend.close()
    values = fixture.store.read(fixture.key())
    require_equal(values.get(("a",)), values.get(("z",)), "two counters that are always counted together are")
    return bool(cut_short)
