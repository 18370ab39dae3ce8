"""Interruptions: an exception or a call in the midst of a transaction, from a signal handler or a finalizer."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from mmap import mmap
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.client import Client
from redicts.contract.fixture import Fixture
from redicts.contract.forked import ForkedChild
from redicts.contract.interruption import Interrupt, Points, Traced, sample, trace
from redicts.contract.leftovers import Leftovers
from redicts.contract.listening import fresh_name, list_at, quieten, require_notified
from redicts.contract.requirements import CheckFailed, require, require_equal
from redicts.core.listener import Listener
from redicts.core.minitransaction import Add, Delete, Key, Notify, Put, PutDocument, Read, Scope, Write
from redicts.errors import StoreBusy, StoreError

_LEAVES = 20

_POINTS: Final = 6
"""At how many instructions each kind of read is interrupted."""

_QUIET_SECS: Final = 0.01

_WAITS: Final = 12
"""At how many instructions a wait without a notification is interrupted."""
_MOMENT_SECS: Final = 0.003
"""Seconds of such a wait, in which a listener that polls looks at least once."""

_LONG_SECS: Final = 0.2
"""Seconds of a wait in between that is not repeated."""

_FORKS: Final = 3
"""At how many instructions of each kind of call a fork comes."""

_FEW_LEFT = 6
"""How many open files a pool may keep."""


@conformance_check()
def an_exception_leaves_a_transaction_whole(fixture: Fixture) -> None:
    """After an exception at any instruction, a transaction is applied whole or not at all, and all clients go on.

    Raises an exception at dozens of instructions of a write. Then another client writes, and the same one reads and
    writes in this thread and in others.
    """
    other = fixture.client()

    def interrupt() -> None:
        raise Interrupt

    def examine(found: Traced, number: int) -> None:
        _use(other, fixture)  # before another call of the first client
        expected = type(None) if found.where is None else Interrupt
        require(isinstance(found.error, expected), f"a call that Interrupt ends, {found.where}, raises {found.error!r}")
        values = set(fixture.store.read(fixture.key("t")).values())
        require(
            values in ({b"%d" % number}, {b"%d" % (number - 1)}),
            f"after an exception {found.where}, a subtree replaced as a whole shows values of {values!r}",
        )

    _interrupt(fixture, Points.REACHED, lambda _: interrupt, examine)


@conformance_check()
def an_exception_in_a_read_holds_nothing_up(fixture: Fixture) -> None:
    """After an exception at any instruction of a read, a fast path, or a listen, every thread goes on.

    Raises an exception at instructions of each of them, and then makes the same call and others in other threads.
    """
    points = 100 if fixture.thorough else _POINTS

    def interrupt() -> None:
        raise Interrupt

    for what, call in _short_calls(fixture, 3 * points + 2).items():
        fixture.together([call])  # the first time, more is done
        total = trace(call, Points.REACHED).instructions
        for at in sample(total, points, fixture.seed):
            found = trace(call, Points.REACHED, at, interrupt)
            expected = type(None) if found.where is None else Interrupt
            require(isinstance(found.error, expected), f"{what}, interrupted {found.where}, raises {found.error!r}")
            try:
                fixture.together([call, partial(_use, fixture.store, fixture)] * 2)  # twice, as below
            except Exception as error:
                raise CheckFailed(f"after {what} that was interrupted {found.where}: {error}") from error


@conformance_check()
def a_call_in_between_works_or_is_refused(fixture: Fixture) -> None:
    """A call at any instruction of another one of its thread works, or raises ``StoreBusy`` at once.

    Calls the store at dozens of instructions of a write of the same thread, by the same client and by another one in
    turn, and reads what both wrote.
    """
    told: list[bool] = []
    clients = [fixture.store, fixture.client()]
    for client in clients:
        client.apply(Put(fixture.key("between"), b"0"))  # the first time, more is opened

    def act(number: int) -> Callable[[], None]:
        def call() -> None:
            try:
                clients[number % 2].apply(Put(fixture.key("between"), b"%d" % number))
                told.append(True)
            except StoreBusy:
                told.append(False)

        return call

    def examine(found: Traced, number: int) -> None:
        require(found.error is None, f"a call that another one interrupts, {found.where}, raises {found.error!r}")
        require_equal(
            set(fixture.store.read(fixture.key("t")).values()), {b"%d" % number}, "the interrupted call wrote"
        )
        if told and told.pop():
            value = fixture.store.value(fixture.key("between"))
            require_equal(value, b"%d" % number, f"what the call in between wrote, {found.where}, is")

    _interrupt(fixture, Points.EVERY, act, examine, len(clients) * _FEW_LEFT)


@conformance_check(needs=[Need.FORK])
def a_fork_in_between_leaves_a_call_alone(fixture: Fixture) -> None:
    """A call that is interrupted by a fork of its thread goes on, and the child works or gets a ``StoreError`` at once.

    Forks at instructions of a write, of a fetch, and of the first write of a new client. Each child writes and reads.
    """
    points = 100 if fixture.thorough else _FORKS
    unused = [fixture.client() for _ in range(points + 3)]
    store, value, number = fixture.store, fixture.key("a"), 0
    store.apply(Put(value, b"1"))
    calls: dict[str, Callable[[], object]] = {
        "a write": lambda: store.apply(Add(fixture.key("n"), 1)),
        "a fetch": lambda: require(store.fetch(value) in (b"1", None), "a value is fetched as another one"),
        "a first write": lambda: unused.pop().apply(Add(fixture.key("n"), 1)),
    }
    acknowledged = mmap(-1, len(calls) * points)

    def work(number: int) -> None:
        try:
            store.apply(Put(fixture.key("child", f"n{number}"), b"1"))
        except StoreError:
            return
        acknowledged[number] = 1
        require_equal(store.value(fixture.key("child", f"n{number}")), b"1", "what was just written reads as")

    children: list[ForkedChild] = []

    def fork(number: int) -> None:
        children.append(ForkedChild(partial(work, number), fixture.timeout))

    for what, call in calls.items():
        fixture.together([call])
        total = trace(call, Points.EVERY).instructions
        for at in sample(total, points, fixture.seed):
            found = trace(call, Points.EVERY, at, partial(fork, number))
            while children:
                with children.pop() as child:
                    child.finish()
            require(found.error is None, f"{what} that forks {found.where} raises {found.error!r}")
            number += 1
    fixture.together([*calls.values()])
    require_equal(store.value(fixture.key("n")), b"%d" % (2 * points + 6), "calls that forked, and others, count")
    if fixture.capabilities.processes:
        written = {path[0] for path in store.read(fixture.key("child"))}
        lost = {f"n{each}" for each in range(number) if acknowledged[each]} - written
        require(not lost, f"children wrote {len(lost)} of {number} values, and nobody reads them")


@conformance_check()
def an_exception_in_a_wait_disturbs_no_other(fixture: Fixture) -> None:
    """An exception at any instruction of a wait ends it, and all listeners are notified, of what came before it too.

    Notifies two listeners, raises an exception at dozens of instructions of a wait of the first one, and looks whether
    the second one and then both are notified. Also raises one in waits that nothing notifies, and looks whether it ends
    them.
    """
    waker, names = fixture.client(), [fresh_name(), fresh_name()]
    orders = (
        names,
        names[::-1],
    )  # in whatever order a store goes through its list, the second one is the first at times

    def interrupt() -> None:
        raise Interrupt

    def wait(listener: Listener, seconds: float, at: int) -> Traced:
        found = trace(partial(listener.wait, seconds), Points.REACHED, at, interrupt)
        expected = type(None) if found.where is None else Interrupt
        require(isinstance(found.error, expected), f"a wait, interrupted {found.where}, raises {found.error!r}")
        return found

    def notify(order: Sequence[str]) -> None:
        waker.apply(*[Put(fixture.key("list", f"n{at}"), name.encode()) for at, name in enumerate(order)])
        waker.apply(Notify(fixture.key("list"), Scope.BELOW))

    def work() -> None:
        with fixture.store.listen(names[0]) as first, fixture.store.listen(names[1]) as second:

            def examine(at: int, order: Sequence[str]) -> int:
                for listener in (first, second):
                    listener.wait(0.0)  # what an interrupted wait has left
                notify(order)
                found = wait(first, fixture.timeout, at)
                during = f"when the wait of another one was interrupted {found.where},"
                require_notified(second, fixture.timeout / 2, f"a listener, {during}")
                notify(order)
                for listener in (first, second):
                    require_notified(listener, fixture.timeout, f"a listener, after a wait that ended {found.where},")
                return found.instructions

            most = 100 if fixture.thorough else _WAITS
            with fixture.store.listen(fresh_name()) as idle:
                total = wait(idle, _MOMENT_SECS, -1).instructions
            for at in sample(total, most, fixture.seed):
                with fixture.store.listen(fresh_name()) as idle:
                    wait(idle, _MOMENT_SECS, at)
            total = max([examine(-1, order) for order in orders * 2])
            for number, at in enumerate(sample(total, 400 if fixture.thorough else 48, fixture.seed)):
                examine(at, orders[number % 2])

    fixture.together([work])


@conformance_check(needs=[Need.PROCESSES, Need.OPENER])
def a_wait_in_between_is_notified(fixture: Fixture) -> None:
    """A wait in the midst of another one of its thread, as of a signal handler, ends when another process notifies it.

    Waits for one listener at two instructions of a wait for another one, until nothing notifies it, and then has
    another process notify it. If that takes long, one instruction is enough.
    """
    store, names = fixture.store, [fresh_name(), fresh_name()]
    listed = fixture.key("listed")

    def work() -> None:
        with store.listen(names[0]) as outer, store.listen(names[1]) as inner:

            def call() -> None:
                quieten(inner, seconds=_QUIET_SECS)
                other.start(_notify, listed)
                require_notified(inner, fixture.timeout / 2, "a listener, in the midst of a wait for another one,")
                other.result()

            wait = partial(outer.wait, _QUIET_SECS)
            while wait():
                pass
            for at in sample(trace(wait, Points.REACHED).instructions, 20 if fixture.thorough else 2, fixture.seed):
                list_at(store, listed, names[1])
                begun = time.monotonic()
                found = trace(wait, Points.REACHED, at, call)
                if found.error is not None:
                    raise found.error
                if time.monotonic() - begun > _LONG_SECS and not fixture.thorough:  # so it is at other instructions
                    break

    with fixture.other_processes(1) as [other]:
        other.call(_notify, listed)  # it has started then
        fixture.together([work])


def _notify(client: Client, listed: Key) -> None:
    client.apply(Notify(listed, Scope.NODE))


def _short_calls(fixture: Fixture, times: int) -> dict[str, Callable[[], None]]:
    """Return calls that read, take a fast path, or listen, each for so many times at most."""
    client, key, document, text = fixture.store, fixture.key("a"), fixture.key("d"), b'{"x":1,"y":{"z":2}}'
    client.apply(Put(key, b"1"))
    names = [fresh_name() for _ in range(times)]  # before, since only the calls of the store are traced

    def read() -> None:
        require_equal(client.value(key), b"1", "a value reads as")

    def fetch() -> None:
        require(client.fetch(key) in (b"1", None), "the value that was stored is not fetched")

    def overwrite() -> None:
        client.overwrite(key, b"1")

    def fetch_document() -> None:
        require(client.fetch_document(document) in (text, None), "the document that was stored is not fetched")

    def overwrite_document() -> None:
        client.overwrite_document(document, text)

    def listen() -> None:
        client.listen(names.pop()).close()

    calls = {"a read": read, "a fetch": fetch, "an overwrite": overwrite, "a listen": listen}
    if fixture.capabilities.documents:
        client.apply(PutDocument(document, text))
        calls |= {"a fetch of a document": fetch_document, "an overwrite of a document": overwrite_document}
    return calls


def _interrupt(
    fixture: Fixture,
    points: Points,
    act: Callable[[int], Callable[[], None]],
    examine: Callable[[Traced, int], None],
    few_left: int = _FEW_LEFT,
) -> None:
    """Replace a subtree while ``act`` comes in between, at one instruction after the other, and examine each."""
    client = fixture.store
    number, total = 0, 0

    def replace(at: int, act: Callable[[], None]) -> None:
        """Replace it, examine it in the same thread and then in others."""
        nonlocal total
        works: list[Traced] = []

        def work() -> None:
            found = trace(partial(client.apply, *_version(fixture, number)), points, at, act)
            works.append(found)
            examine(found, number)
            _use(client, fixture)

        fixture.together([work])
        # In two threads, because one of them may have the identity of a thread that ended and left its lock held.
        fixture.together([*[partial(_use, client, fixture)] * 2, partial(examine, works[0], number)])
        total = works[0].instructions

    for _ in range(2):  # the first time, more is done
        number += 1
        replace(-1, _nothing)
    leftovers = Leftovers()
    for at in sample(total, 200 if fixture.thorough else 24, fixture.seed):
        number += 1
        client.apply(*_version(fixture, number - 1))
        replace(at, act(number))
    leftovers.require_few(few_left, "interrupted calls", fixture.timeout / 4)


def _version(fixture: Fixture, number: int) -> list[Write]:
    puts = [Put(fixture.key("t", f"n{leaf}"), b"%d" % number) for leaf in range(_LEAVES)]
    return [Delete(fixture.key("t"), Scope.SUBTREE), *puts]


def _use(client: Client, fixture: Fixture) -> None:
    client.run(reads=[Read(fixture.key(), Scope.SUBTREE)], writes=[Put(fixture.key("used"), b"1")])


def _nothing() -> None:
    """Do nothing in between."""
