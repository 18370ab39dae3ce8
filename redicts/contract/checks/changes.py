"""Changes: a listener at a path is told of each write at, above or below it, once it is there."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.client import Client
from redicts.contract.fixture import LONG, Fixture
from redicts.contract.hostile import HOSTILE_SEGMENTS
from redicts.contract.listening import fresh_name, quieten, require_notified
from redicts.contract.requirements import require
from redicts.contract.spawned import report
from redicts.core.listener import Listener
from redicts.core.minitransaction import (
    VALUES,
    Add,
    Delete,
    Expire,
    Key,
    Path,
    Put,
    PutDocument,
    Scope,
    Write,
)

_ROUNDS: Final = 10
_LONG: Final = 20
_HOSTILE_ENDS: Final = ".b", "/b", "*", "[b]", "?", "%2E", "\x00", "\ud800", "{}", ":"
"""The ends of names of sections."""
_QUIET_SECS: Final = 0.005
_WAITS: Final = 5


@conformance_check(needs=[Need.CHANGES])
def a_notification_follows_the_change(fixture: Fixture) -> None:
    """A listener that is notified of a change finds it in the store, and it says that it is live.

    Counts in one thread, while another one reads after each notification, until it has seen the last number.
    """
    writer = fixture.client()
    with fixture.section() as section:
        key = _key(section, "a", "b")

        def write() -> None:
            for number in range(1, _ROUNDS + 1):
                writer.apply(Put(key, b"%d" % number))

        def read() -> None:
            while fixture.store.value(key) != b"%d" % _ROUNDS:
                require_notified(listener, fixture.timeout, "a listener that had not found the last change")

        with _listening(fixture.store, key.path) as listener:
            _await_live(fixture, listener)
            fixture.together([write, read])


@conformance_check(needs=[Need.CHANGES])
def writes_above_and_below_are_told(fixture: Fixture) -> None:
    """A listener is notified of a write at its path, above it and below it, also if it listens at the root.

    Puts values at a path, above it and below it, with listeners at each of them, in the other order too, and with one
    listener that is the only one of its client.
    """
    other, alone = fixture.client(), fixture.client()
    with fixture.section() as section:
        positions: list[Path] = [(), (section,), (section, "a"), (section, "a", "b"), (section, "a", "b", "c", "d")]
        with ExitStack() as stack:
            listeners = {path: stack.enter_context(_listening(fixture.store, path)) for path in positions}
            for client in (fixture.store, other):
                for written in positions[1:]:
                    quieten(*listeners.values(), seconds=_QUIET_SECS)
                    client.apply(*_replacing(written, b"1"))
                    for path, listener in listeners.items():
                        what = f"a listener at depth {len(path)}, of a write at depth {len(written)},"
                        require_notified(listener, fixture.timeout, what)
        for path in positions:
            with _listening(alone, path) as listener:
                quieten(listener, seconds=_QUIET_SECS)
                other.apply(*_replacing(positions[-1], b"2"))
                require_notified(listener, fixture.timeout, f"a listener at depth {len(path)}, without others,")


@conformance_check(needs=[Need.CHANGES])
def each_kind_of_write_is_told(fixture: Fixture) -> None:
    """Every write notifies: Put, Add, Delete of any scope, Expire, PutDocument, and the fast paths.

    Makes each kind of write at a path, and those that reach it from above, with a listener there.
    """
    store = fixture.client()
    with fixture.section() as section:
        key, inner, top = _key(section, "a", "b"), _key(section, "a"), _key(section)
        writes: list[tuple[str, Callable[[], object]]] = [
            ("a Put", partial(store.apply, Put(key, b"1"))),
            ("an Add", partial(store.apply, Add(key, 1))),
            ("a Put of the same value", partial(store.apply, Put(key, b"2"))),
            ("a fast path", partial(_overwrite, store, key)),
            ("a Delete of the node", partial(store.apply, Delete(key, Scope.NODE))),
            ("a Put again", partial(store.apply, Put(key, b"1"))),
            ("a Delete of the subtree", partial(store.apply, Delete(key, Scope.SUBTREE))),
            ("a Put once more", partial(store.apply, Put(key, b"1"))),
            ("a Delete of what is below a key above", partial(store.apply, Delete(inner, Scope.BELOW))),
            ("a Put after that", partial(store.apply, Put(key, b"1"))),
            ("a Delete of all above", partial(store.apply, Delete(top, Scope.SUBTREE))),
        ]
        if fixture.capabilities.ttl:
            writes += [
                ("a Put with a TTL", partial(store.apply, Put(key, b"1", LONG))),
                ("an Expire", partial(store.apply, Expire(key, Scope.NODE, LONG))),
                ("an Expire of all above", partial(store.apply, Expire(top, Scope.SUBTREE, None))),
                ("a Delete before documents", partial(store.apply, Delete(top, Scope.SUBTREE))),
            ]
        if fixture.capabilities.documents:
            writes += [
                ("a PutDocument", partial(store.apply, PutDocument(inner, b'{"b":{"c":1,"d":2}}'))),
                ("a PutDocument again", partial(store.apply, PutDocument(inner, b'{"b":{"c":3,"d":4}}'))),
                ("a fast path to a document", partial(_overwrite_document, store, inner)),
                ("a Put into a document", partial(store.apply, Put(_key(section, "a", "b", "c"), b"5"))),
            ]
        for what, write in writes:
            with _listening(fixture.store, key.path) as listener:
                quieten(listener, seconds=_QUIET_SECS)
                write()
                require_notified(listener, fixture.timeout, f"a listener, of {what},")


@conformance_check(needs=[Need.CHANGES])
def each_path_of_a_transaction_is_told(fixture: Fixture) -> None:
    """A transaction that writes at several paths notifies the listeners at each of them, in different sections too.

    Puts a value at each of a hundred paths with hostile names, in one transaction and one by one, with a listener at
    each of them, and deletes two. Puts the first of those two before and after the other.
    """
    with ExitStack() as stack:
        tops = [stack.enter_context(fixture.section(end)) for end in ("", "", *_HOSTILE_ENDS)]
        names = [name for name in HOSTILE_SEGMENTS if len(name) < _LONG and name in fixture.harness.names][::3]
        paths: list[Path] = [(top, "a", name) for name in names for top in tops[:2]]
        paths += [(top, "a") for top in tops[2:]]
        listeners = [stack.enter_context(_listening(fixture.store, path)) for path in paths]
        quieten(*listeners, seconds=_QUIET_SECS)
        writer = fixture.client()
        writer.apply(*[Put(_key(*path), b"1") for path in paths])
        for number, listener in enumerate(listeners):
            require_notified(listener, fixture.timeout, f"the listener at path {number + 1} of {len(paths)}")
        one_by_one = dict(list(zip(paths, listeners))[: 2 * len(names) : 2])
        quieten(*one_by_one.values(), seconds=_QUIET_SECS)
        for path, listener in one_by_one.items():
            writer.apply(Put(_key(*path), b"2"))
            require_notified(listener, fixture.timeout, f"the listener at {path[-1]!r}, of a write there alone,")
        two = slice(0, 3, 2)  # both in one dict
        keys = [_key(*path) for path in paths[two]]
        quieten(*listeners[two], seconds=_QUIET_SECS)
        writer.apply(*[Delete(key, Scope.NODE) for key in keys])
        for listener in listeners[two]:
            require_notified(listener, fixture.timeout, "the listener at one of two leaves that are deleted")
        quieten(*listeners[two], seconds=_QUIET_SECS)
        writer.apply(*[Put(key, b"2") for key in (*keys, keys[0])])
        for listener in listeners[two]:
            require_notified(listener, fixture.timeout, "the listener at one of two leaves, of which one is put twice,")


@conformance_check(needs=[Need.CHANGES, Need.LOST_REPLIES])
def no_change_is_lost_with_a_connection(fixture: Fixture) -> None:
    """A listener is notified of what was written while its connection was broken, and of what comes later.

    Breaks the connections of a client that listens in three sections, and writes at once, several times. Waits until
    each listener says that it is live again.
    """
    client = fixture.lossy()
    with ExitStack() as stack:
        keys = [_key(stack.enter_context(fixture.section()), "a") for _ in range(3)]
        listeners = [stack.enter_context(_listening(client, key.path)) for key in keys]
        for number in range(3):
            quieten(*listeners, seconds=_QUIET_SECS)
            fixture.break_connections()
            fixture.store.apply(Put(keys[number], b"%d" % number))
            require_notified(listeners[number], fixture.timeout, "a listener whose connection was broken")
            for listener in listeners:
                _await_live(fixture, listener)
            quieten(*listeners, seconds=_QUIET_SECS)
            fixture.store.apply(*[Put(key, b"%d, later" % number) for key in keys])
            for listener in listeners:
                require_notified(listener, fixture.timeout, "a listener whose connection was broken before")


@conformance_check(needs=[Need.CHANGES, Need.LOST_REPLIES, Need.SILENCE])
def a_listener_knows_whether_it_is_live(fixture: Fixture) -> None:
    """A listener to changes is live once it listens, not while it knows that nothing arrives, and then live again.

    Breaks the connections of a client that listens, lets new ones carry nothing for a while, and asks.
    """
    client = fixture.lossy()
    with fixture.section() as section, _listening(client, (section, "a")) as listener:

        def is_live() -> bool:
            return listener.is_live or (listener.wait(_QUIET_SECS) and listener.is_live)

        def hears() -> bool:
            """Tell whether a change ends a wait, and nothing else does."""
            if any(listener.wait(_QUIET_SECS) for _ in range(_WAITS)):
                return False
            fixture.store.apply(Put(_key(section, "a"), b"1"))
            return listener.wait(fixture.timeout / 4)

        for _ in range(2):
            _await(fixture, is_live, "a listener to changes is not live")
            with fixture.silence():
                fixture.break_connections()
                # It may hear in another way.
                _await(fixture, lambda: not listener.is_live or hears(), "a listener is live though nothing arrives")
        _await(fixture, lambda: is_live() and hears(), "a listener to changes does not hear again")


@conformance_check(needs=[Need.CHANGES, Need.DATABASES])
def each_database_tells_its_own(fixture: Fixture) -> None:
    """A write notifies the listeners of its own database, and those of the same path elsewhere change nothing in that.

    Listens at one path in every database, and writes there in one after the other.
    """
    clients = [fixture.store, *fixture.databases]
    with fixture.section() as section, ExitStack() as stack:
        key = _key(section, "a")
        listeners = [stack.enter_context(_listening(client, key.path)) for client in clients]
        for number, (client, listener) in enumerate(zip(clients, listeners)):
            quieten(listener, seconds=_QUIET_SECS)
            client.apply(Put(key, b"1"))
            require_notified(listener, fixture.timeout, f"a listener in database {number} of {len(clients)}")
        for client in clients:
            client.apply(Delete(key, Scope.NODE))


@conformance_check(needs=[Need.CHANGES, Need.PROCESSES, Need.OPENER])
def processes_tell_each_other(fixture: Fixture) -> None:
    """A write of one process at, above or below a path notifies the listeners of others there.

    Listens in one process and writes in another one, in both directions.
    """
    with fixture.other_processes(1) as [other], fixture.section() as section:
        written: list[Path] = [(section, "a", "b"), (section,), (section, "a", "b", "c", "d"), (section, "a")]
        with _listening(fixture.store, (section, "a", "b")) as listener:
            for path in written:
                quieten(listener, seconds=_QUIET_SECS)
                other.call(_write, _replacing(path, b"1"))
                require_notified(listener, fixture.timeout, f"a listener, of a write at depth {len(path)} elsewhere,")
        for path in written:
            other.start(_await_change, (section, "a", "b"), fixture.timeout)
            other.wait_for_report()
            fixture.client().apply(*_replacing(path, b"2"))
            other.result()


def _await(fixture: Fixture, condition: Callable[[], object], what: str) -> None:
    """Return when a condition holds. ``what`` says what is wrong if it does not in time."""
    until = time.monotonic() + fixture.timeout / 2
    while not condition():
        require(time.monotonic() < until, what)


@contextmanager
def _listening(client: Client, path: Path) -> Iterator[Listener]:
    with client.listen_to_changes(fresh_name(), path) as listener:
        yield listener


def _await_live(fixture: Fixture, listener: Listener) -> None:
    """Wait until a listener says that it is live: a cache keeps nothing before."""
    ends = time.monotonic() + fixture.timeout
    while not listener.is_live:
        require(time.monotonic() < ends, f"a listener is not live within {fixture.timeout:g} seconds")
        listener.wait(_QUIET_SECS)


def _write(client: Client, writes: Sequence[Write]) -> None:
    client.apply(*writes)


def _await_change(client: Client, path: Path, timeout: float) -> None:
    with _listening(client, path) as listener:
        quieten(listener, seconds=_QUIET_SECS)
        report("listening")
        require_notified(listener, timeout, "a listener, of a write in the process that started this one,")


def _key(*path: str) -> Key:
    return Key(VALUES, path)


def _replacing(path: Path, value: bytes) -> list[Write]:
    """Return writes that put one value at a path, and remove what is above and below."""
    above: list[Write] = [Delete(_key(*path[:depth]), Scope.NODE) for depth in range(1, len(path))]
    return [*above, Delete(_key(*path), Scope.BELOW), Put(_key(*path), value)]


def _overwrite(client: Client, key: Key) -> None:
    if not client.overwrite(key, b"3"):
        client.apply(Put(key, b"3"))


def _overwrite_document(client: Client, key: Key) -> None:
    if not client.overwrite_document(key, b'{"b":{"c":6,"d":7}}'):
        client.apply(PutDocument(key, b'{"b":{"c":6,"d":7}}'))
