"""Clock: a transaction sees the time and the state of one moment, and a TTL ends exactly at its end."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.client import Client
from redicts.contract.fixture import LONG, SHORT, Fixture
from redicts.contract.form import entries_of, names_of
from redicts.contract.pauses import PausedCall, Point
from redicts.contract.requirements import require, require_equal
from redicts.core.minitransaction import (
    NOTHING,
    Answer,
    AnyRead,
    Equals,
    Expire,
    Path,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Write,
)

_OLDER: Final = 100
"""Values that have expired before, so that a write does not yet free what has just expired."""

_STEPS: Final = (3, 12, 80)
"""Milliseconds of a pause; if a machine is too busy for the short ones, the longer ones are tried."""

_BLOCKED: Final = 0.08
"""Seconds after which another client counts as waiting for the call that pauses, on a machine that is not busy."""

_SLOWER: Final = 20
"""The same as a multiple of the time that a write takes."""

_POINTS: Final = 60
"""The most pauses of a call."""

_SINGLE_POINTS: Final = 8
"""The most pauses where each needs a call of its own."""

_MINE: Final[Mapping[Path, bytes]] = {(): b"mine"}

_Call = Callable[[], tuple[Answer, ...]]


@conformance_check(needs=[Need.TTL])
def a_write_sees_one_moment(fixture: Fixture) -> None:
    """A write sees no value whose end another client saw before it, and each that was renewed before its end.

    Pauses a write wherever it calls a function. Meanwhile another client lets one value end and renews another one
    before its end.
    """
    root = fixture.key
    _stand_still(
        fixture, lambda: fixture.store.run((), [Read(root(), Scope.SUBTREE)], [Put(root("written"), b"1")]).answers
    )


@conformance_check(needs=[Need.TTL])
def a_read_sees_one_moment(fixture: Fixture) -> None:
    """A read sees no value whose end another client saw before it, and each that was renewed before its end.

    Does the same with a read of a dict, and with a read of one value.
    """
    _stand_still(fixture, lambda: fixture.store.ask(Read(fixture.key(), Scope.SUBTREE)))
    _stand_still_once(fixture, lambda: fixture.store.ask(Read(fixture.key("renewed", "n0"))))


def _stand_still(fixture: Fixture, call: _Call) -> None:
    """Pause a call wherever it calls a function, while one value ends and another one is renewed."""
    other = fixture.client()
    _Pauses(fixture, other, 0, set()).during(call)  # the first time, more is done
    left = set(range(_POINTS))
    for step in _STEPS:
        left -= _Pauses(fixture, other, step, left).during(call)
        if not left:
            return


def _stand_still_once(fixture: Fixture, call: _Call) -> None:
    """Do the same with a call that reads one value, which is renewed at one point each time."""
    other = fixture.client()
    for _ in range(2):
        dry = _Pauses(fixture, other, 0, set())
        dry.during(call)
    # A state is mostly read by a function written in C.
    numbers = sorted(range(len(dry.points)), key=lambda number: dry.points[number].event != "c_return")
    for number in numbers if fixture.thorough else numbers[:_SINGLE_POINTS]:
        for step in _STEPS:
            pauses = _Pauses(fixture, other, step, {number}, renewed=0)
            if number in pauses.during(call):
                break
        if pauses.blocked and not fixture.thorough:
            break


class _Pauses:
    """What happens while one call stands still: at each point one value ends, and another one is renewed in time."""

    def __init__(
        self, fixture: Fixture, other: Client, step: int, wanted: set[int], renewed: int | None = None
    ) -> None:
        self._fixture = fixture
        self._other = other
        self._step = step
        self._wanted = wanted
        self._renewed = renewed
        self._began = 0.0
        self.points: list[Point] = []
        self.blocked = False

    def during(self, call: _Call) -> set[int]:
        """Run the call, examine its answers, and return the numbers of the points that need not be tried again."""
        fixture, answers, done = self._fixture, list[Answer](), list[int]()
        fixture.renew()
        numbers = sorted(self._wanted) if self._renewed is None else [self._renewed]
        renewed = [(fixture.key("renewed", f"n{number}"), index + 1) for index, number in enumerate(numbers)]
        before = time.monotonic()
        fixture.store.run(writes=[Put(key, b"mine", steps * self._step - 1) for key, steps in renewed])
        self._began = time.monotonic()
        blocked = max(_BLOCKED, _SLOWER * (self._began - before))
        steps = 0
        with PausedCall(lambda: answers.extend(call()), fixture.store.backend, fixture.timeout) as paused:
            for number, point in enumerate(paused):
                self.points.append(point)
                if number in self._wanted:
                    steps += 1
                    other = threading.Thread(target=self._act, args=(number, steps, done), daemon=True)
                    other.start()
                    other.join(blocked + self._step / 1000)
                    if other.is_alive():  # the call holds a lock, mostly until its end
                        self.blocked = True
                        break
            paused.resume()
            if self.blocked:
                done = [each for each in done if each != number]
                other.join(fixture.timeout)
                require(not other.is_alive(), f"another client does not end within {fixture.timeout:g} seconds")
        self._examine(answers, done)
        return self._wanted if self.blocked else {*done, *range(len(self.points), _POINTS)}

    def _act(self, number: int, steps: int, done: list[int]) -> None:
        """Renew one value before its end, see the end of another one and write that down."""
        fixture, step = self._fixture, self._step
        renewed = fixture.key("renewed", f"n{number if self._renewed is None else self._renewed}")
        ends, gone = fixture.key("ends", f"n{number}"), fixture.key("gone", f"n{number}")
        older = [Put(fixture.key("older", f"n{each}"), b"", 1) for each in range(_OLDER)]
        in_time = self._other.run([Equals(renewed, Scope.NODE, _MINE)], (), [Expire(renewed, Scope.NODE, LONG)]).applied
        self._other.run(writes=[*older, Put(ends, b"mine", 2)])
        waits = fixture.harness.waits
        pause = max(self._began + steps * step / 1000 - time.monotonic(), 0.002) + 0.001 if waits else step / 1000
        fixture.harness.advance(pause)
        self._other.run([Equals(ends, Scope.NODE, NOTHING)], (), [Put(gone, b"1")])
        if in_time:
            done.append(number)

    def _examine(self, answers: list[Answer], done: list[int]) -> None:
        values = entries_of(answers[0]).values
        for number, point in enumerate(self.points):
            name, during = f"n{number}", f"while a call stood still {point}"
            at: Path = ("renewed", name) if self._renewed is None else ()
            require(
                number not in done or at in values,
                f"a value was renewed before its end, {during}, and is absent in its answer; the clock must be read "
                "together with the state, not after it",
            )
            require(
                not (("ends", name) in values and ("gone", name) in values),
                f"a value had ended, as another client saw and wrote down, {during}: its answer has what was written, "
                "and yet the value; the clock must be read together with the state, not before waiting",
            )


@conformance_check(needs=[Need.TTL])
def a_ttl_ends_at_its_end(fixture: Fixture) -> None:
    """A value is there until the end of its TTL, with at least a millisecond left, and never after it.

    Puts values with TTLs of 6 to 38 ms in several ways, and looks at them all the time: alone, together, by name,
    by condition and by the fast path. Looks at the leaves and names of documents, too.
    """
    for longer in _LONGER:
        ttls = {f"n{ttl}": ttl for ttl in range(6 * longer, 40 * longer, 2 * longer)}
        if not fixture.harness.waits:
            _with_a_clock_that_is_set(fixture, ttls)
            return
        if fixture.capabilities.documents:
            _of_documents(fixture)
        if _with_the_time_of_this_process(fixture, ttls) < _FINE:
            return


@conformance_check(needs=[Need.TTL, Need.WALL_CLOCK])
def the_wall_clock_changes_no_ttl(fixture: Fixture) -> None:
    """No TTL changes if the clock of the machine is set forwards or back, for old and new clients.

    Sets the clock of the machine by days and years, forwards and back, and reads the remaining TTLs by old and new
    clients.
    """
    harness = fixture.harness
    fixture.close_clients()
    try:
        harness.set_clock(0.001)  # for what clients keep when they are opened
        fixture.store.apply(Put(fixture.key("d", "a"), b"1", LONG), Put(fixture.key("d", "b"), b"1"))
        for days in (2, -2, 5000):
            harness.set_clock(days * 86_400.0)
            for client in (fixture.store, fixture.client()):
                found = client.entries(Read(fixture.key(), Scope.SUBTREE, ttls=True))
                when = f"after the clock of the machine was set by {days} days"
                require_equal(set(found.values), {("d", "a"), ("d", "b")}, f"{when}, there are values at")
                left = found.ttls.get(("d", "a"), 0)
                require(
                    LONG // 2 < left <= LONG,
                    f"{when}, {left} ms remain of a TTL of {LONG} ms, which must not change",
                )
                client.apply(Put(fixture.key("d", "a"), b"1", LONG))
            fixture.store.apply(Put(fixture.key("short"), b"1", SHORT))
            fixture.outlive()
            require_equal(fixture.store.value(fixture.key("short")), None, f"{when}, a short TTL over, its value is")
            fixture.close_clients()
    finally:
        harness.set_clock(0.0)


_SLACK: Final = 0.002
"""Seconds by which a TTL may end earlier or later, for clocks that count milliseconds."""


_FINE: Final = 0.006
"""The most seconds between two looks that find a TTL which ends some milliseconds too early or too late."""

_LONGER: Final = (1, 4, 16)
"""The factors of TTLs that are tried one after the other, if the machine is too busy to look often."""


def _of_documents(fixture: Fixture) -> None:
    """Require that as long as a document is there, each leaf has a millisecond left, and its names are listed."""
    key = fixture.key("document")
    reads = (Read(key, Scope.BELOW, ttls=True), ReadNames(key))
    for ttl in (4, 5, 6):
        fixture.store.apply(PutDocument(key, b'{"x":{"y":1,"z":2}}', ttl))
        in_time = fixture.deadline()
        while True:
            in_time()
            answers = fixture.store.run(reads=reads).answers
            whole, names = entries_of(answers[0]), names_of(answers[1]).names
            left = [whole.ttls.get(path, 0) for path in whole.values]
            require(all(each >= 1 for each in left), f"of the TTLs of a document that is there, {left} ms remain")
            require_equal(set(names), {path[0] for path in whole.values}, "the names of a document that ends are")
            if not left:
                break


def _with_the_time_of_this_process(fixture: Fixture, ttls: dict[str, int]) -> float:
    """Look until all TTLs have ended; return the longest time between two looks."""
    longest = 0.0
    before = time.monotonic()
    _put(fixture, ttls)
    after = ended = time.monotonic()
    other, left, number = fixture.client(), set(ttls), 0
    in_time = fixture.deadline()
    while left:
        in_time()
        number += 1
        if number % 4 == 0:  # a write frees what has expired, and must free nothing else
            other.run(writes=[Put(fixture.key("meanwhile", f"n{number}"), b"1", 1)])
        soonest = min(left, key=lambda name: ttls[name])
        previous, began = ended, time.monotonic()
        found = _look(fixture, sorted(left), soonest)
        ended = time.monotonic()
        longest = max(longest, ended - previous)
        for name in left:
            if name in found:
                late = began - after - ttls[name] / 1000
                require(
                    late < _SLACK, f"a value with a TTL of {ttls[name]} ms is there {late * 1000:.1f} ms after its end"
                )
                most = (after - began + _SLACK) * 1000 + ttls[name]
                require(
                    found[name] <= most, f"of a TTL of {ttls[name]} ms, {found[name]} remain; at most {most:.1f} can"
                )
                least = (before - ended - _SLACK) * 1000 + ttls[name]
                require(
                    found[name] >= least,
                    f"of a TTL of {ttls[name]} ms, {found[name]} remain; at least {least:.1f} must",
                )
            else:
                early = before + ttls[name] / 1000 - ended
                require(
                    early < _SLACK,
                    f"a value with a TTL of {ttls[name]} ms is gone {early * 1000:.1f} ms before its end",
                )
        left &= set(found)
    return longest


def _with_a_clock_that_is_set(fixture: Fixture, ttls: dict[str, int]) -> None:
    for ttl in (1000, 2000):  # whole seconds, so that sums are exact
        fixture.store.apply(Put(fixture.key("exact"), b"1", ttl))
        document = fixture.key("document")
        if fixture.capabilities.documents:
            fixture.store.apply(PutDocument(document, b'{"x":{"y":1,"z":2}}', ttl))
        fixture.harness.advance(ttl / 1000)
        left = fixture.store.value(fixture.key("exact"))
        require_equal(left, None, f"exactly at the end of a TTL of {ttl} ms, the value is")
        text = fixture.store.fetch_document(document) if fixture.capabilities.documents else None
        require_equal(text, None, f"exactly at the end of a TTL of {ttl} ms, the text of a document is")
        part = fixture.store.read(document._replace(path=(*document.path, "x")), Scope.BELOW)
        require_equal(dict(part), {}, f"exactly at the end of a TTL of {ttl} ms, a part of a document is")
    _put(fixture, ttls)
    passed = 0.0
    for name, ttl in sorted(ttls.items(), key=lambda item: item[1]):
        for at, there in ((ttl - 0.6, True), (ttl + 0.6, False)):
            fixture.harness.advance((at - passed) / 1000)
            passed = at
            fixture.client().run(writes=[Put(fixture.key("meanwhile", name), b"1", 1)])
            found = _look(fixture, sorted(ttls), name)
            require_equal(name in found, there, f"{at:.1f} ms after a put with a TTL of {ttl} ms, the value is there:")
            expected = {other for other in ttls if ttls[other] > at}
            require_equal(set(found), expected, f"{at:.1f} ms after puts with several TTLs, those are there:")
            for other in found:
                remains = ttls[other] - at
                require(found[other] <= remains + 1, f"{found[other]} ms remain where at most {remains:.1f} can")


def _put(fixture: Fixture, ttls: dict[str, int]) -> None:
    """Put values with these TTLs in several ways."""
    writes: list[Write] = []
    for number, (name, ttl) in enumerate(ttls.items()):
        key = fixture.key("d", name)
        ways: list[list[Write]] = [
            [Put(key, b"mine", ttl)],
            [Put(key, b"mine"), Expire(key, Scope.SUBTREE, ttl)],
            [Put(key, b"other", ttl), Put(key, b"mine", keep_ttl=True)],
        ]
        writes += ways[number % 3]
    fixture.store.apply(*writes)


def _look(fixture: Fixture, names: list[str], soonest: str) -> dict[str, int]:
    """Return the remaining TTLs by name; require that checks, reads and names of one transaction agree."""
    key = fixture.key("d", soonest)
    reads: list[AnyRead] = [Read(fixture.key("d"), Scope.BELOW, ttls=True), ReadNames(fixture.key("d"))]
    reads += [Read(fixture.key("d", name), ttls=True) for name in names]
    is_prefix = len(names) % 2
    check = StartsWith(key, Scope.NODE, b"other") if is_prefix else Equals(key, Scope.NODE, _MINE)
    outcome = fixture.store.run([check], reads)
    whole = entries_of(outcome.answers[0])
    found = {path[0]: ttl for path, ttl in whole.ttls.items()}
    require_equal(set(whole.values), set(whole.ttls), "the values that have TTLs are told with them:")
    require_equal(set(names_of(outcome.answers[1]).names), set(found), "the names of what has not expired are")
    alone = {name for name, answer in zip(names, outcome.answers[2:]) if entries_of(answer).values}
    require_equal(
        alone & set(found), alone, "what reads of one key find, and not that of the dict in the same transaction:"
    )
    require_equal(
        set(found) & set(names), alone, "what reads of one key find, in the transaction that reads the dict, is"
    )
    told = {name: entries_of(answer).ttls.get(()) for name, answer in zip(names, outcome.answers[2:]) if name in alone}
    require_equal(told, {name: found[name] for name in alone}, "the TTLs that reads of one key tell are")
    what = f"{check!r} of a value that is about to expire agrees with the read:"
    require_equal(outcome.applied, (soonest in found) is not bool(is_prefix), what)
    fetched = fixture.store.fetch(key)
    require(fetched is None or (fetched == b"mine" and soonest in found), f"{fetched!r} is fetched of an expired value")
    return found
