"""Space: what has expired, was replaced or is over takes no room in the store or in the process."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

import gc
import itertools
import math
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial, wraps
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.client import Client
from redicts.contract.file_operations import kill_at
from redicts.contract.fixture import LONG, Fixture
from redicts.contract.forked import ForkedChild
from redicts.contract.listening import fresh_name
from redicts.contract.requirements import require, require_equal
from redicts.contract.sizes import files_of, size_of_process
from redicts.core.backend import Backend
from redicts.core.minitransaction import (
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
    Transaction,
    Write,
)
from redicts.errors import StoreError

_VALUE: Final = b"v" * 400
_MANY: Final = 300
_VOLUME: Final = _MANY * len(_VALUE)
"""Bytes of the values that have expired when writes are to free them."""

_LONG_VOLUME: Final = 100_000
"""Bytes of long values that are stored at a time."""

_AGAIN: Final = 3
"""How often a store must grow by the same work to be refused."""

_OVERWRITES: Final = 4
"""How often a store is overwritten, to find its largest size."""

_PROCESSES: Final = 280
"""How many processes are killed in the midst of reads, if a check is thorough: more than LMDB has slots for."""

_WRITES: Final = 150
"""So many writes free half of them, if each frees at least one."""

_PAUSE: Final = 0.003
"""Seconds in which a TTL of one millisecond has ended."""

_MORE: Final = 30
"""How often paths are written once more if a cache of them still grows: ten thousand of them end that."""

_PATHS: Final = 1_024
_MOST_PATHS: Final = 20 * _PATHS
"""Of so many paths one client uses some at a time. A cache that is emptied when it is full is by then smaller once."""

_ENDING_SECS: Final = 0.5
"""How long threads of a closed client may take to end, on a busy machine."""

_LEAST: Final = 48
"""Bytes that a record takes at least, in whatever store."""


def _measured(examine: Callable[[Fixture], None]) -> Callable[[Fixture], None]:
    """Decorate a check that measures: its garbage collections leave out what was there before, and are quick."""

    @wraps(examine)
    def measured(fixture: Fixture) -> None:
        gc.collect()
        gc.freeze()
        try:
            examine(fixture)
        finally:
            gc.unfreeze()

    return measured


@conformance_check(needs=[Need.TTL, Need.SIZE])
@_measured
def streams_of_short_ttls_are_freed(fixture: Fixture) -> None:
    """A stream of large transactions of values that soon expire leaves the store as large as a few of them.

    Writes large transactions of values that expire at once, and measures the store before and after.
    """
    rounds = 40 if fixture.thorough else 4
    numbers = itertools.count()
    kinds: dict[str, tuple[int, Callable[[Key], Write]]] = {
        "values": (1000 * 100, lambda key: Put(key, b"v" * 100, 1)),
        "long values": (20 * 20_000, lambda key: Put(key, b"v" * 20_000, 1)),
    }
    if fixture.capabilities.documents:
        small, large = b'{"a":"%b","b":{"c":1}}' % (b"v" * 500), b'{"a":"%b","b":{"c":1}}' % (b"v" * 8_000)
        kinds["documents"] = (100 * 500, lambda key: PutDocument(key, small, 1))
        kinds["long documents"] = (20 * 8_000, lambda key: PutDocument(key, large, 1))
    with suppress(StoreError):  # a store may refuse a long path
        fixture.store.apply(Put(_at_long_path(fixture.key("d")), b"1", 1))
        kinds["values at long paths"] = (100 * 1_000, lambda key: Put(_at_long_path(key), b"v" * 400, 1))
    for what, (volume, write) in kinds.items():
        each = {"values": 1000, "documents": 100, "values at long paths": 100}.get(what, 20)

        def stream(times: int, each: int = each, write: Callable[[Key], Write] = write) -> int:
            for _ in range(times):
                fixture.store.run(writes=[write(fixture.key("d", f"n{next(numbers)}")) for _ in range(each)])
                fixture.harness.advance(_PAUSE)
            return _size(fixture)

        before = stream(2)
        grown = _grown_again(partial(stream, rounds), before, rounds * volume / 2)
        require(
            grown < rounds * volume / 2,
            f"after {rounds} transactions of {each} {what} that expired, of {rounds * volume:,} bytes, the store "
            f"is {grown:,} bytes larger; a write must free at least as many expired values as it adds",
        )


@conformance_check(needs=[Need.TTL, Need.SIZE])
@_measured
def every_kind_of_write_frees_what_expired(fixture: Fixture) -> None:
    """What has expired is freed by writes of any kind, the fast paths among them, if there are no others.

    Lets 300 values end, writes 150 times by one kind of write, and measures the store.
    """
    fixture.store.run(writes=_puts(fixture, "there", None))
    full = _size(fixture)
    fixture.store.run(writes=[Delete(fixture.key("there"), Scope.SUBTREE)])
    taken = full - _size(fixture)
    shrinks = taken > _VOLUME / 8
    for kind, write in _writers(fixture):
        fixture.store.run(writes=_puts(fixture, kind, 1))
        full = _size(fixture)
        fixture.harness.advance(_PAUSE)
        if not write(0):
            continue
        for number in range(1, _WRITES):
            write(number)
        left = _size(fixture)
        if not shrinks:  # files mostly do not, but what is free in them is used first
            fixture.store.run(writes=_puts(fixture, f"after {kind}", None))
            left, taken = _size(fixture) - _VOLUME, _VOLUME
        require(
            left < full - taken / 2,
            f"of {_MANY} values that have expired, more than half are stored after {_WRITES} writes, all {kind}; "
            "each kind of write must free what has expired, at least one value by each",
        )


@conformance_check(needs=[Need.TTL, Need.SIZE])
@_measured
def reads_change_nothing(fixture: Fixture) -> None:
    """Transactions that only read leave the store as it is: they free nothing and record nothing.

    Reads a hundred times by five clients over expired values, and measures the store.
    """
    fixture.store.run(writes=_puts(fixture, "expired", 1))
    fixture.store.run(writes=[Put(fixture.key("there"), b"1")])
    before = _size(fixture)
    fixture.harness.advance(_PAUSE)
    root = fixture.key()
    for _ in range(5):
        client = fixture.client()
        for _ in range(10):
            client.run(reads=[Read(root, Scope.SUBTREE), ReadNames(root), Read(fixture.key("there"))])
            client.run(reads=[Read(root, Scope.SUBTREE, limit=100)])
            client.fetch(fixture.key("there"))
    change = _size(fixture) - before
    require(
        abs(change) < _VOLUME / 4,
        f"a hundred transactions that only read have changed the size of the store by {change:,} bytes",
    )


@conformance_check()
@_measured
def nothing_is_kept_of_what_is_over(fixture: Fixture) -> None:
    """Thousands of renewals, paths, requests, walks, threads, notifications and waits leave store and process small.

    Makes hundreds of renewals, paths, requests, refusals, clients, threads, notifications, listeners and waits that are
    over, and of walks that end early, again and again, and measures the store and the process.
    """
    times = 10_000 if fixture.thorough else 200
    for what, (each, work) in {
        **_changes(fixture, times),
        **_calls(fixture, times),
        **_vain(fixture, 2 * times // 5),
    }.items():
        work()  # caches may fill
        fills_caches = what.startswith("paths")
        for _ in range(_MORE + 1 if fills_caches else 3):  # a larger cache, or a server that has made room for more
            grown = _growth(fixture, work, math.inf if fills_caches else each * _LEAST)
            if max(grown.values()) < each * _LEAST:
                break
        for whose, more in grown.items():
            require(
                more < each * _LEAST,
                f"{each:,} {what} have made the {whose} some {more:,} bytes larger, time and again; nothing may be "
                "kept of each",
            )


@conformance_check()
@_measured
def an_open_client_stays_small(fixture: Fixture) -> None:
    """Hundreds of listeners and requests that are over leave a client that stays open small, and its process.

    Listens and is refused again and again by one client, which has a listener all the time, and measures the process
    meanwhile.
    """
    times = 2_000 if fixture.thorough else 80
    client, key = fixture.store, fixture.key("a")
    client.apply(Put(key, b"1"))
    refused = Transaction((Equals(key, Scope.SUBTREE, {("x",): b"1"}),), (), (Put(key, b"2"),))
    calls: dict[str, Callable[[], object]] = {
        "listeners": lambda: client.listen(fresh_name()).close(),
        "refusals": lambda: client.execute(refused),
    }
    if fixture.capabilities.changes:
        section = fresh_name().replace("/", "-")
        numbers = itertools.count()
        calls["listeners to changes"] = lambda: client.listen_to_changes(
            fresh_name(), (f"redicts-{section}-{next(numbers)}", "a")
        ).close()
    with client.listen(fresh_name()):
        for what, call in calls.items():
            grown = _kept(partial(_repeat, call, times), times)
            require(
                grown < times * _LEAST,
                f"{times:,} {what} that are over have made the process some {grown:,} bytes larger, time and again, "
                "while their client is open; nothing may be kept of each",
            )


@conformance_check(needs=[Need.FORK, Need.PROCESSES, Need.OPENER, Need.SIZE])
@_measured
def killed_processes_leave_nothing(fixture: Fixture) -> None:
    """Processes that are killed in the midst of reads and writes leave the store as large as it was.

    Kills child processes while they read and write, and measures the store.
    """
    rounds = 40 if fixture.thorough else 3
    opener = fixture.harness.opener
    assert opener is not None  # the check needs it
    tree: dict[Path, bytes] = {("d", f"n{number}"): _VALUE for number in range(_MANY)}
    fixture.plant(tree)

    def overwrite() -> int:
        for _ in range(2):
            fixture.store.run(writes=fixture.puts(tree))
        return _size(fixture)

    def work() -> None:
        client = Client(opener())
        while True:
            client.read(fixture.key("d"))
            client.run(writes=[*fixture.puts(tree), Put(fixture.key("busy"), b"1")])

    def kill() -> int:
        for _ in range(rounds):
            fixture.store.apply(Delete(fixture.key("busy"), Scope.NODE))
            in_time = fixture.deadline()
            with ForkedChild(work, fixture.timeout):
                while fixture.store.value(fixture.key("busy")) is None:
                    in_time()
            overwrite()
        return overwrite()

    # The size of a store that appends goes up and down.
    before = max([overwrite() for _ in range(_OVERWRITES)])
    grown = _grown_again(kill, before, rounds * _VOLUME / 4)
    require(
        grown < rounds * _VOLUME / 4,
        f"after {rounds} processes were killed in the midst of reads and writes, the store is {grown:,} bytes larger, "
        "time and again",
    )
    if fixture.thorough:
        _kill_many(fixture, opener)


def _grown_again(work: Callable[[], int], before: int, limit: float) -> int:
    """Return by how many bytes work makes a store larger, the least of several times."""
    for _ in range(_AGAIN):
        grown = work() - before
        if grown < limit:
            break
        before += grown  # a store that copies what it writes has made room for more
    return grown


def _kill_many(fixture: Fixture, opener: Callable[[], Backend]) -> None:
    """Kill more processes in the midst of reads than an engine has slots for, while this one has the store open."""
    key = fixture.key("d", "n0")
    fixture.store.apply(Put(key, b"1"))
    reading = Transaction(reads=(Read(key),))

    def read(last: float) -> int:
        """Read twice, and end by a signal at this event of the second time; return how many events there are."""
        backend, events = opener(), itertools.count()
        backend.execute(reading)

        def end(*_: object) -> None:
            if next(events) >= last:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(end)
        backend.execute(reading)
        sys.setprofile(None)
        backend.close()
        return next(events)

    events = read(math.inf)
    for number in range(_PROCESSES):
        with ForkedChild(partial(read, events * number / _PROCESSES), fixture.timeout) as child:
            child.was_killed()
    with ForkedChild(partial(read, math.inf), fixture.timeout) as child:
        child.finish()
    require_equal(fixture.store.value(key), b"1", f"after {_PROCESSES} processes were killed, the value is")


@conformance_check(needs=[Need.FORK, Need.DURABLE, Need.OPENER])
def a_killed_process_leaves_no_file(fixture: Fixture) -> None:
    """A process that is killed leaves no half write, no lock and no file for good, whatever it was doing.

    Kills child processes that open, write, read, notify and close: before each of their operations on files, and before
    they close. After each, it uses the store and counts its files, and those in a directory for temporary ones.
    """
    opener = fixture.harness.opener
    assert opener is not None  # the check needs it
    most = 1000 if fixture.thorough else 30
    pair = [fixture.key("pair", name) for name in "ab"]
    with tempfile.TemporaryDirectory(prefix="redicts-killed-") as directory:

        def work(number: int) -> None:
            os.environ["TMPDIR"] = tempfile.tempdir = directory
            kill_at(number)
            backend = opener()
            client = Client(backend)
            for text in (b"1", b"long" * 20_000):
                client.apply(*[Put(key, text + b"%d" % os.getpid()) for key in pair])
            client.apply(*fixture.puts({("many", f"n{each}"): b"1" for each in range(_MANY)}))
            client.read(fixture.key())
            with client.listen(name := fresh_name()):
                client.apply(Put(fixture.key("listed"), name.encode()))
                client.apply(Notify(fixture.key("listed"), Scope.NODE))
            if number < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            backend.close()

        def is_killed(number: int) -> bool:
            with ForkedChild(partial(work, number), fixture.timeout) as child:
                return child.was_killed()

        def count() -> int:
            """Use the store, which may remove what is left, and count the files after that."""
            fixture.store.apply(Add(fixture.key("count"), 1))
            values = {fixture.store.value(key) for key in pair}
            require(len(values) == 1, "of two values written at once by a process that was killed, one is there")
            fixture.close_clients()
            return len(fixture.harness.files() or ()) + len(files_of(directory))

        for number in range(-1, most):
            before, killed = count(), 0
            while killed < _AGAIN and is_killed(number):
                killed += 1
                if count() < before + killed:
                    break
            else:
                where = "before it closed the store" if number < 0 else f"before its operation {number} on files"
                require(killed < _AGAIN, f"each process that was killed {where} has left a file, time and again")
            if not killed:  # there are no more operations
                break


@conformance_check(needs=[Need.LASTING])
def what_a_client_keeps_ends(fixture: Fixture) -> None:
    """What a client keeps in the store for itself ends with it, or after a time.

    Opens clients that each write, read and listen, with a call at last whose outcome is long, large or a refusal, and
    counts the records that have no end.
    """
    clients = 100 if fixture.thorough else 6
    key, large = fixture.key("a"), fixture.key("large")
    fixture.store.apply(Put(key, b"text"), Put(large, b"%d" % 2**60))
    before = fixture.harness.lasting() or 0
    put = Put(key, b"text")
    lasts = {
        "a put": Transaction((), (), (put,)),
        "a write with reads": Transaction((), (Read(key), ReadNames(fixture.key())), (put,)),
        "a condition that fails": Transaction((Equals(key, Scope.NODE, {}),), (), (put,)),
        "a refused Add": Transaction((), (), (Add(key, 1),)),
        "an Add to a large counter": Transaction((), (), (Add(large, 1),)),
        "a Notify": Transaction((), (), (Notify(fixture.key("listed"), Scope.SUBTREE),)),
    }
    for what, last in lasts.items():
        for number in range(clients):
            fixture.close_clients()
            if number % 2:
                fixture.store.apply(put)
                require_equal(fixture.store.value(key), b"text", "what was written is")
                fixture.store.listen(fresh_name()).close()
            fixture.store.execute(last)
        more = (fixture.harness.lasting() or 0) - before
        require(
            more < clients / 2,
            f"{clients} clients that are closed have left {more} records without an end, each after {what}; a record "
            "of a client that is gone must end, for instance by a TTL",
        )


@conformance_check(needs=[Need.SIZE])
@_measured
def long_values_are_freed(fixture: Fixture) -> None:
    """Long values and documents that are deleted, cleared or replaced leave the store as large as before.

    Stores and ends long values and documents in each way, in both kinds of spaces, and measures the store before and
    after.
    """
    rounds = 40 if fixture.thorough else 4
    ends = [*_ends_of_long_values(fixture).items()]
    fixture.renew()
    for what, writes in [*ends, *_ends_of_long_values(fixture).items()]:

        def work(times: int, writes: tuple[Write, ...] = writes) -> int:
            for _ in range(times):
                for write in writes:  # each in a transaction of its own
                    fixture.store.run(writes=[write])
            return _size(fixture)

        before = work(2)
        grown = work(rounds) - before
        require(
            grown < rounds * _LONG_VOLUME / 2,
            f"after {what}, {rounds} times with {_LONG_VOLUME:,} bytes, the store is {grown:,} bytes larger; the room "
            "of a value must be freed with it",
        )


@conformance_check()
@_measured
def nothing_is_kept_of_paths(fixture: Fixture) -> None:
    """A client that stays open keeps nothing of the paths that it has used, but in caches that have a limit.

    Fetches, and compares as a lock does, at a thousand new paths by one client, again and again, and measures the
    process.
    """
    client, numbers, documents = fixture.store, itertools.count(), fixture.capabilities.documents

    def fresh(times: int) -> list[Key]:
        return [fixture.key("d", f"p{next(numbers)}") for _ in range(times)]

    def fetch() -> None:
        for keys in (fresh(_PATHS // 2), fresh(_PATHS // 2)):
            client.run(writes=[PutDocument(key, b'{"a":1,"b":2}') if documents else Put(key, b"1") for key in keys])
            for key in keys:
                client.fetch_document(key) if documents else client.fetch(key)
            client.run(writes=[Delete(fixture.key("d"), Scope.SUBTREE)])

    def compare() -> None:
        above = StartsWith(fixture.key("d"), Scope.BELOW, b"mine")
        for key in fresh(_PATHS):
            client.run([above, StartsWith(key, Scope.BELOW, b"mine")])

    for what, work in {"fetched from": fetch, "compared": compare}.items():
        grown = _kept(work, _PATHS, rounds=_MOST_PATHS // _PATHS)
        require(
            grown < _PATHS * _LEAST,
            f"{_PATHS:,} paths that were {what} have made the process some {grown:,} bytes larger while their client "
            "stayed open, time and again; nothing may be kept of each",
        )
        fixture.renew()


def _repeat(call: Callable[[], object], times: int) -> None:
    for _ in range(times):
        call()


def _kept(work: Callable[[], object], times: int, rounds: int = _AGAIN) -> int:
    """Return by how many bytes work of an open client has made the process larger in each round, or once by little."""
    grown = 0
    for turn in range(1 + rounds):
        before = _process_size()
        work()
        grown = _process_size() - before
        if turn and grown < times * _LEAST:  # the first time, caches may fill, or lose what is larger
            break
    return grown


def _ends_of_long_values(fixture: Fixture) -> dict[str, tuple[Write, ...]]:
    """Return writes that store long values and documents and end them, by how they end."""
    root, keys = fixture.key("d"), [fixture.key("d", name) for name in "abcde"]
    long = tuple(Put(key, b"v" * (_LONG_VOLUME // len(keys))) for key in keys)
    ends: dict[str, tuple[Write, ...]] = {
        "deletes of long values": tuple(Delete(key, Scope.NODE) for key in keys),
        "deletes below a key": (Delete(root, Scope.BELOW),),
        "deletes of a subtree": (Delete(root, Scope.SUBTREE),),
        "Notifies": (Notify(root, Scope.SUBTREE),),
        "puts of other values": tuple(Put(key, b"1") for key in keys),
    }
    found: dict[str, tuple[Write, ...]] = {what: (*long, *end) for what, end in ends.items()}
    if fixture.capabilities.documents:
        short, text = PutDocument(root, b'{"a":1}'), b'{"a":"%b","b":{"c":1}}' % (b"v" * _LONG_VOLUME)
        found["puts of a document"] = (*long, short)
        document = (Delete(root, Scope.SUBTREE), PutDocument(root, text))
        found["deletes of long documents"] = document
        found["puts over a document"] = (*document, short)
        found["deletes of a part"] = (*document, Delete(keys[0], Scope.SUBTREE))
    return found


def _at_long_path(key: Key) -> Key:
    return Key(key.space, (*key.path, "n" * 600))


def _growth(fixture: Fixture, work: Callable[[], object], least: float) -> dict[str, int]:
    """Return by how many bytes the process and the store are larger after some work.

    If it is ``least`` or more, the threads of a client that is closed may still be about to end.
    """
    store, process = _size(fixture), size_of_process()
    work()
    after, until = _size(fixture), time.monotonic() + _ENDING_SECS
    while (grown := size_of_process() - process) >= least and time.monotonic() < until:
        time.sleep(_ENDING_SECS / 20)
    return {"process": grown, "store": after - store}


def _process_size() -> int:
    """Return the size of the process, without garbage."""
    gc.collect()
    return size_of_process()


def _size(fixture: Fixture) -> int:
    """Return the size of the store after all clients are closed, or 0 if it is not known."""
    fixture.close_clients()
    gc.collect()  # a store may be in this process
    return fixture.harness.size() or 0


def _puts(fixture: Fixture, name: str, ttl: int | None) -> list[Write]:
    return [Put(fixture.key(name, f"n{number}"), b"%d " % number + _VALUE, ttl) for number in range(_MANY)]


def _writers(fixture: Fixture) -> Iterator[tuple[str, Callable[[int], bool]]]:
    """Yield the kinds of writes, each a function that writes once and tells whether it did."""
    value, counter, document = (fixture.key("of", name) for name in ("value", "counter", "document"))
    fixture.store.run(writes=[Put(value, b"0"), Put(counter, b"0")])
    absent = fixture.key("absent")
    others = (Delete(absent, Scope.SUBTREE), Notify(absent, Scope.BELOW), Expire(value, Scope.NODE, None))
    yield "puts", lambda number: fixture.store.run(writes=[Put(value, b"%d" % number)]).applied
    yield "the first ones of their clients", lambda number: _write_once(fixture, Put(value, b"%d" % number))
    yield "Adds", lambda _: fixture.store.run(writes=[Add(counter, 1)]).applied
    yield "deletes and Notifies", lambda number: fixture.store.run(writes=[others[number % 3]]).applied
    yield (
        "overwritings",
        lambda number: (
            fixture.store.overwrite(value, b"%d" % number)
            or (number > 0 and fixture.store.run(writes=[Put(value, b"%d" % number)]).applied)
        ),
    )
    if fixture.capabilities.documents:
        fixture.store.run(writes=[PutDocument(document, b'{"a":1,"b":2}')])

        def overwrite(number: int) -> bool:
            text = b'{"a":%d,"b":2}' % number
            if fixture.store.overwrite_document(document, text):
                return True
            return number > 0 and fixture.store.run(writes=[PutDocument(document, text)]).applied

        yield "overwritings of documents", overwrite


def _write_once(fixture: Fixture, write: Write) -> bool:
    """Write by a client that does nothing else."""
    backend = fixture.harness.open()
    try:
        return Client(backend).run(writes=[write]).applied
    finally:
        backend.close()


def _changes(fixture: Fixture, times: int) -> dict[str, tuple[int, Callable[[], object]]]:
    """Return changes of which nothing is left, as functions that make so many of them in few transactions."""
    key, numbers, run = fixture.key("d", "a"), itertools.count(), fixture.client
    spaces, of_one, ttl = [fixture.space, fixture.fresh_space()], times // 2, LONG if fixture.capabilities.ttl else None

    def renew() -> None:
        client = run()
        for start in range(0, 2 * times, of_one):
            ttls = range(LONG + start, LONG + start + of_one)
            client.run(
                writes=[each for ttl in ttls for each in (Put(key, b"1", ttl), Expire(key, Scope.NODE, ttl + 5))]
            )
        client.run(writes=[Delete(key, Scope.NODE)])

    def walk_through_paths() -> None:
        client = run()
        for space in spaces:  # of values and of records
            keys = [Key(space, ("d", f"p{next(numbers)}", "deep")) for _ in range(of_one)]
            client.run(writes=[Put(key, b"long" * 300) for key in keys])
            client.run(writes=[Put(key, b"1", ttl) for key in keys])
            client.run(writes=[Add(key, 1) for key in keys])
            client.run(writes=[Delete(key, Scope.NODE) for key in keys[::2]])
            client.run(writes=[Delete(Key(space, ("d",)), Scope.SUBTREE)])

    def notify() -> None:
        client = run()
        for _ in range(4):
            names = [f"nobody-{next(numbers)}/{next(numbers)}".encode() for _ in range(of_one)]
            lists = [Put(fixture.key("list", f"n{number}"), name) for number, name in enumerate(names)]
            client.run(writes=[*lists, Notify(fixture.key("list"), Scope.SUBTREE)])

    changes: dict[str, tuple[int, Callable[[], object]]] = {
        "paths": (2 * of_one, walk_through_paths),
        "notifications of nobody": (4 * of_one, notify),
    }
    return {**changes, "renewals": (2 * times, renew)} if fixture.capabilities.ttl else changes


def _calls(fixture: Fixture, times: int) -> dict[str, tuple[int, Callable[[], object]]]:
    """Return calls of which nothing is left, as functions that make so many of them."""
    key = fixture.key("d", "a")

    def request() -> None:
        for _ in range(5):
            client = fixture.client()
            for _ in range(times // 5):
                client.backend.execute(Transaction((), (Read(key),), (Put(key, b"1"),)))
        fixture.close_clients()

    def listen() -> None:
        for number in range(times // 2):
            name = fresh_name()
            with fixture.store.listen(name):
                if number % 20 == 0:
                    fixture.store.run(writes=[Put(key, name.encode()), Notify(key, Scope.NODE)])

    def watch() -> None:
        for _ in range(times // 4):
            name = fresh_name()
            with fixture.store.listen_to_changes(name, (f"redicts-contract-{name}", "a")):
                pass

    calls: dict[str, tuple[int, Callable[[], object]]] = {
        "requests": (times, request),
        "listeners": (times // 2, listen),
    }
    return {**calls, "listeners to changes": (times // 4, watch)} if fixture.capabilities.changes else calls


def _vain(fixture: Fixture, times: int) -> dict[str, tuple[int, Callable[[], object]]]:
    """Return calls that find, change or await nothing, and threads that end, as functions that make so many of them."""
    key, walked, numbers = fixture.key("d", "a"), fixture.key("walked"), itertools.count()
    writing = Transaction((), (), (Put(key, b"1"), *[Put(fixture.key("walked", name), b"1") for name in "abc"]))
    refused = Transaction((Equals(key, Scope.SUBTREE, {("x",): b"1"}),), (), (Put(key, b"1"),))

    def execute(draw: Callable[[], Transaction], times: int) -> None:
        backend = fixture.client().backend
        backend.execute(writing)
        for _ in range(times):
            backend.execute(draw())

    def walk() -> Transaction:
        limit = 1 + next(numbers) % 2
        return Transaction((), (Read(walked, Scope.BELOW, limit), ReadNames(walked, limit)))

    def look() -> Transaction:
        return Transaction((), tuple([Read(fixture.key("no", f"n{next(numbers)}")) for _ in range(5)]))

    def wait() -> None:
        with fixture.store.listen(fresh_name()) as listener:
            for _ in range(times):
                listener.wait(0.0)

    def use_threads() -> None:
        backend = fixture.client().backend
        for _ in range(times):
            thread = threading.Thread(target=backend.execute, args=(writing,))
            thread.start()
            thread.join()

    return {
        "refusals": (times, lambda: execute(lambda: refused, times)),
        "walks that ended early": (2 * times, lambda: execute(walk, times)),
        "paths of nothing": (times, lambda: execute(look, times // 5)),
        "waits": (times, wait),
        "threads": (times, use_threads),
    }
