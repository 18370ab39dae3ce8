"""The lock protocol step by step: when requests are granted, at what cost, and that failures leave nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from redicts.backends.memory import MemoryBackend
from redicts.contract.clock import ManualClock
from redicts.core.driver import Await, Steps
from redicts.core.listener import Listener
from redicts.core.locks import acquisition, records
from redicts.core.locks.acquisition import AcquireOperations, Grant
from redicts.core.locks.records import TOKENS, WAITING_FOR, Request, scopes_of
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Equals,
    Key,
    Notify,
    Outcome,
    Path,
    Put,
    Read,
    Scope,
    Status,
    Transaction,
)
from redicts.errors import CorruptData, LockTimeout, Unreachable, Unsupported
from tests.core.locks.simulation import LEASE, TIMING, Actor, Failing, S, Simulation, X
from tests.core.test_large_trees import Limited, ShortPages

A, B, AB, AC = ("a",), ("b",), ("a", "b"), ("a", "c")


def acquire(
    simulation: Simulation, owner: str, *paths: Path, timeout: float | None = None, **more: object
) -> Grant | None:
    """Acquire a lock that need not be waited for."""
    return simulation.start(simulation.request(owner, *paths, **more), timeout).outcome()  # type: ignore[arg-type]


# Costs


def test_a_free_lock_costs_one_transaction() -> None:
    """Acquiring a free lock, of one path or several, is one transaction, and so is its release."""
    simulation = Simulation()
    simulation.hold("2", B)  # the first one sets the counter
    for paths in ((A,), ((),), (AB, AC, ("x", "y", "z"))):
        if paths == ((),):
            simulation.do(simulation.protocol.break_locks(simulation.records("h")))
        simulation.sent.clear()
        request = simulation.hold("1", *paths)
        assert len(simulation.sent) == 1
        simulation.release(request)
        assert len(simulation.sent) == 2
        assert "1" not in {owner for owner, _ in simulation.holders()}


@pytest.mark.parametrize("is_checked", [True, False])
def test_a_release_after_an_operation_reads_only_what_no_check_of_it_shows(is_checked: bool) -> None:
    """Where the operation checks that the record of the lock is there, its transaction does not read the record too."""
    simulation = Simulation()
    request = simulation.hold("1", A)
    guards = tuple([Equals(key, Scope.NODE, {(): request.record}) for key in request.keys("h")])

    def last() -> Steps[None]:
        yield Transaction(guards if is_checked else (), (), (Put(Key("v", A), b"1"),))

    assert simulation.do(simulation.protocol.release(request, last()))
    assert simulation.sent[-1].reads == (() if is_checked else tuple(map(Read, request.keys("h"))))
    assert not simulation.holders()
    assert not request.pending


def test_the_first_token_costs_a_second_transaction() -> None:
    """The request that finds a new counter sets it to the time."""
    simulation = Simulation()
    simulation.hold("1", A)
    assert len(simulation.sent) == 2


def test_a_contended_lock_costs_three_transactions_and_one_when_notified() -> None:
    """A waiter tries, queues and registers; after the release one more transaction acquires the lock."""
    simulation = Simulation()
    held = simulation.hold("1", A)
    simulation.sent.clear()
    waiting = simulation.start(simulation.request("2", AB))
    assert not waiting.done
    assert len(simulation.sent) == 3
    simulation.sent.clear()
    simulation.release(held)
    assert waiting.result is not None
    assert len(simulation.sent) == 2, "the release, and the claim"


def test_a_waiter_that_own_locks_block_is_passed() -> None:
    """An owner whose own lock blocks the waiter gets its second lock without waiting."""
    simulation = Simulation()
    first = simulation.hold("1", AB)
    waiting = simulation.start(simulation.request("2", A))
    for timeout in (None, 5.0, 0):
        simulation.sent.clear()
        second = simulation.request("1", AC)
        assert simulation.start(second, timeout, [first]).result is not None
        assert len(simulation.sent) == 3
        assert not waiting.done
        simulation.release(second)
    assert simulation.start(simulation.request("3", AC), 0).outcome() is None, "another owner queues behind it"
    simulation.release(first)
    assert waiting.result is not None


def test_a_waiter_for_several_paths_is_passed() -> None:
    """A waiter for several paths is passed at any of them by the owner of one of them."""
    simulation = Simulation()
    first = simulation.hold("1", A)
    simulation.start(simulation.request("2", A, B))
    for timeout in (0, None):
        second = simulation.request("1", B)
        assert simulation.start(second, timeout, [first]).result is not None
        simulation.release(second)


def test_waiting_costs_little() -> None:
    """A waiter sends a few transactions per heartbeat."""
    simulation = Simulation()
    held = simulation.hold("1", A)
    waiting = simulation.start(simulation.request("2", A))
    simulation.sent.clear()
    for _ in range(6):
        simulation.do(simulation.protocol.renew([(held, LEASE)]))
        simulation.advance(10)
    assert not waiting.done
    beats = 60 / (0.8 * TIMING.heartbeat) + 2
    assert len(simulation.sent) <= 4 * beats + 6


def test_a_release_notifies_only_the_next() -> None:
    """Of five waiters one is notified at a release; of the readers behind it, all are at its release."""
    simulation = Simulation()
    held = simulation.hold("0", A)
    requests = [simulation.request(str(number), A, mode=S if number > 2 else X) for number in range(1, 6)]
    waiting = [simulation.start(request) for request in requests]
    before = held
    for turn in range(2):
        simulation.do(simulation.protocol.release(before))
        assert [actor.ready for actor in waiting] == [number == turn for number in range(5)]
        waiting[turn]._until = simulation.clock()
        simulation.settle()
        before = requests[turn]
    simulation.release(before)
    assert all(actor.result is not None for actor in waiting)


# Trying, waiting, and giving up


def test_a_try_does_not_wait() -> None:
    """With a timeout of 0 there is a grant or none, at once, and nothing is left of a try that failed."""
    simulation = Simulation()
    simulation.hold("1", A)
    simulation.sent.clear()
    request = simulation.request("2", AB)
    assert simulation.start(request, 0).outcome() is None
    assert not request.pending
    assert len(simulation.sent) == 1
    assert simulation.left() == {"h": 1}
    assert simulation.start(request, 0).outcome() is None
    assert acquire(simulation, "2", B, timeout=0) is not None


def test_an_attempt_without_waiting_does_not_pass_a_waiter() -> None:
    """A free lock with a waiter is not granted to an attempt without waiting."""
    simulation = Simulation()
    held = simulation.hold("1", AB)
    waiting = simulation.start(simulation.request("2", A))
    assert acquire(simulation, "3", AC, timeout=0) is None
    simulation.release(held)
    assert waiting.result is not None


@pytest.mark.parametrize("timeout", [0.001, 0.5, 1.0, 3.0, 25.0])
def test_a_timeout_is_raised_at_the_deadline(timeout: float) -> None:
    """A waiter gets LockTimeout at its deadline, and has left the queue."""
    simulation = Simulation()
    simulation.hold("1", AB)
    request = simulation.request("2", A)
    began = simulation.clock()
    waiting = simulation.start(request, timeout)
    simulation.advance(timeout - 0.0005)
    assert not waiting.done
    simulation.advance(0.001)
    assert isinstance(waiting.error, LockTimeout)
    assert simulation.clock() - began < timeout + 0.001
    assert str(waiting.error) == "the lock on 'a' was not free in time; it is held: 'a.b' by host 1"
    assert not request.pending
    assert set(simulation.left()) <= {"h", "n"}


def test_a_timeout_names_earlier_waiters() -> None:
    """If no owner holds the lock, the error names the earlier waiters."""
    simulation = Simulation()
    held = simulation.hold("1", AB)
    simulation.start(simulation.request("2", A))
    late = simulation.start(simulation.request("3", AC, ("x",)), 0.5)
    simulation.advance(1)
    assert str(late.error) == ("the lock on 'a.c' and 'x' was not free in time; it is waited for: 'a' by host 2")
    assert simulation.release(held)


def test_without_a_limit_there_is_no_timeout() -> None:
    """A timeout of None waits as long as it takes."""
    simulation = Simulation()
    held = simulation.hold("1", A)
    waiting = simulation.start(simulation.request("2", A), None)
    for _ in range(100):
        simulation.do(simulation.protocol.renew([(held, LEASE)]))
        simulation.advance(20)
    assert not waiting.done
    simulation.release(held)
    assert waiting.result is not None


def test_a_timed_out_waiter_notifies_later_ones() -> None:
    """A waiter that leaves by timeout notifies the waiter behind it."""
    simulation = Simulation()
    simulation.hold("1", AB)
    simulation.start(simulation.request("2", A), 0.5)
    behind = simulation.start(simulation.request("3", AC))
    simulation.advance(0.49)
    assert not behind.done
    simulation.advance(0.02)
    assert behind.result is not None


# Leases


@pytest.mark.parametrize("lease", [1, 250, 30_000, 86_400_000])
def test_the_lease_is_the_ttl_of_the_record(lease: int) -> None:
    """A lock is held for so many milliseconds by the clock of the store, on each of its paths, and not longer."""
    simulation = Simulation()
    request = simulation.request("1", A, B)
    simulation.start(request, lease=lease)
    assert [record.ttl for record in simulation.records("h")] == [lease, lease]
    simulation.clock.advance((lease - 0.5) / 1000)
    assert acquire(simulation, "2", A, timeout=0) is None
    simulation.clock.advance(0.0006)
    assert simulation.do(simulation.protocol.renew([(request, lease)])) == [False]
    assert acquire(simulation, "2", A, B, timeout=0) is not None
    assert not simulation.release(request)
    assert {record.owner for record in simulation.records("h")} == {"here.2"}, "who is late harms nobody"


def test_since_is_before_the_grant() -> None:
    """``since`` is a time before the granting transaction was sent, so no lease is overestimated."""
    simulation = Simulation()
    simulation.hold("2", B)
    steps = simulation.protocol.acquire(simulation.request("1", A), LEASE, None)
    request = next(steps)
    sent = simulation.clock()
    simulation.clock.advance(2)
    assert isinstance(request, Transaction)
    with pytest.raises(StopIteration) as stop:
        steps.send(simulation.backend.execute(request))
    assert stop.value.value.since == sent


def test_renewing() -> None:
    """Leases begin again with the milliseconds given, several in one transaction; what is not held stays away."""
    simulation = Simulation()
    one, two, three = simulation.hold("1", A, B), simulation.hold("2", ("c",)), simulation.hold("3", ("d",))
    simulation.release(two)
    simulation.advance(10)
    simulation.sent.clear()
    assert simulation.do(simulation.protocol.renew([(one, 40_000), (two, 40_000), (three, 5_000)])) == [
        True,
        False,
        True,
    ]
    assert len(simulation.sent) == 1
    assert sorted((record.path, record.ttl) for record in simulation.records("h")) == [
        (A, 40_000),
        (B, 40_000),
        (("d",), 5_000),
    ]
    assert simulation.do(simulation.protocol.renew([])) == []


def test_a_lock_that_lost_a_path_is_not_held() -> None:
    """If one of several paths was broken, neither renewal nor release returns that the lock was held."""
    for lost in (A, B):
        simulation = Simulation()
        request = simulation.hold("1", A, B)
        simulation.do(
            simulation.protocol.break_locks([record for record in simulation.records("h") if record.path == lost])
        )
        assert simulation.do(simulation.protocol.renew([(request, LEASE)])) == [False], f"{lost} is lost"
        assert simulation.release(request) is False


def test_a_crashed_waiter_blocks_for_seconds() -> None:
    """Waiters behind a crashed one go on when its record expires, not minutes later."""
    simulation = Simulation()
    held = simulation.hold("1", AB)
    dying = simulation.start(simulation.request("2", A))
    behind = simulation.start(simulation.request("3", AC))
    simulation.advance(1.5)
    dying.abandon()
    simulation.advance(TIMING.waiter_ttl - TIMING.heartbeat - 0.5)
    assert not behind.done
    simulation.advance(TIMING.heartbeat + 1)
    assert behind.result is not None
    assert simulation.release(held)


# Tokens


def tokens(simulation: Simulation, count: int) -> list[int]:
    """Acquire so often, and return the tokens."""
    found = []
    for number in range(count):
        grant = acquire(simulation, str(number), (f"p{simulation.clock()}{number}",))
        assert grant is not None
        found.append(grant.token)
    return found


def test_tokens_begin_with_the_time_and_rise() -> None:
    """The first token of a store is the time in milliseconds times 256; each later one is greater."""
    simulation = Simulation()
    first, *others = tokens(simulation, 20)
    assert first == int(simulation.clock() * 1000) * 256
    assert others == [first + number for number in range(1, 20)]
    assert simulation.entries("f").values[("token",)] == b"%d" % others[-1]
    assert not simulation.entries("f").ttls
    assert others[-1] < 2**53, "exact as a float too"


def test_tokens_rise_after_the_counter_was_lost() -> None:
    """If the store lost the counter, what is given out is greater all the same, for time has passed."""
    simulation = Simulation()
    before = tokens(simulation, 1_000)[-1]
    for lost in (None, b"0", b"17", b"-5", b"1099511627000"):
        simulation.clock.advance(1)
        write = Delete(TOKENS, Scope.NODE) if lost is None else Put(TOKENS, lost)
        simulation.backend.execute(Transaction(writes=(write,)))
        found = tokens(simulation, 3)
        assert found == sorted(set(found))
        assert found[0] > before
        before = found[-1]


def test_two_requests_at_a_new_counter_get_increasing_tokens() -> None:
    """However two requests that find a new counter interleave, they get different tokens, both based on the time."""
    for schedule in itertools.product((0, 1), repeat=6):
        simulation = Simulation()
        actors = [
            Actor(simulation.protocol.acquire(simulation.request(str(n), (str(n),)), LEASE, None), simulation)
            for n in (1, 2)
        ]
        for index in schedule:
            if not actors[index].done:
                actors[index].step()
        for actor in actors:
            actor.run()
        one, two = (actor.outcome().token for actor in actors)  # type: ignore[union-attr]
        assert one != two
        assert min(one, two) >= int(simulation.clock() * 1000) * 256
        assert simulation.entries("f").values[("token",)] == b"%d" % max(one, two)


@pytest.mark.parametrize("value", [b"x", b"", b"9223372036854775807", b"1.5"])
def test_a_damaged_counter_is_named(value: bytes) -> None:
    """A counter that is not a number, or is at its maximum, raises CorruptData and leaves nothing."""
    simulation = Simulation()
    held = simulation.hold("1", A)
    waiting = simulation.start(simulation.request("2", A))
    simulation.backend.execute(Transaction(writes=(Put(TOKENS, value),)))
    with pytest.raises(CorruptData, match="counter of fencing tokens"):
        acquire(simulation, "3", B)
    simulation.release(held)
    assert isinstance(waiting.error, CorruptData)
    assert set(simulation.left()) <= {"n"}


# Lost replies, and a store that is away


def test_a_request_keeps_its_name() -> None:
    """Every record of one acquisition, at each attempt, has the same name, which is also notified."""
    simulation = Simulation()
    held = simulation.hold("1", A)
    request = simulation.request("2", A, B)
    name = request.name
    waiting = simulation.start(request)
    simulation.advance(15)
    simulation.release(held)
    assert waiting.result is not None
    assert request.name == name
    put = [write.key.path for sent in simulation.sent for write in sent.writes if isinstance(write, Put)]
    mine = {path for path in put if name in path}
    assert mine == {("/a", "!", name), ("/b", "!", name), ("here/1", name)}


class Fault:
    """How one transaction fails: whether it is applied all the same, and whether the error says so."""

    def __init__(self, backend: MemoryBackend, *, applied: bool, maybe: bool) -> None:
        self._backend = backend
        self._applied = applied
        self._maybe = maybe

    def __call__(self, transaction: Transaction) -> Outcome:
        if self._applied:
            self._backend.execute(transaction)
        raise Unreachable("away", maybe_applied=self._maybe)


FAULTS = {
    "applied, reply lost": {"applied": True, "maybe": True},
    "request lost, nobody knows": {"applied": False, "maybe": True},
    "not sent": {"applied": False, "maybe": False},
}

Scenario = Callable[[Simulation, Request], Actor[Grant | None]]


def first_ever(simulation: Simulation, request: Request) -> Actor[Grant | None]:
    """Acquire a free lock on a store that had none."""
    return simulation.start(request)


def free(simulation: Simulation, request: Request) -> Actor[Grant | None]:
    """Acquire a free lock."""
    simulation.backend.execute(Transaction(writes=(Put(TOKENS, b"%d" % 2**50),)))
    return simulation.start(request)


def tried_beside_own(simulation: Simulation, request: Request) -> Actor[Grant | None]:
    """Try a lock whose path the owner has shared."""
    own = simulation.request("2", A, mode=S)
    simulation.backend.execute(Transaction(writes=tuple(Put(key, own.record, LEASE) for key in own.keys("h"))))
    return simulation.start(request, 0, [own])


def queued(simulation: Simulation, request: Request) -> Actor[Grant | None]:
    """Wait for a lock over several beats, behind another waiter, until it is granted."""
    current_owner = Request("there/1", request.owner._replace(name="there.1", label="host 9"), X, [A], 1)
    other = Request("there/2", request.owner._replace(name="there.2", label="host 8"), X, [("a", "z")], 2)
    put = [
        Put(key, made.record, LEASE) for made, space in ((current_owner, "h"), (other, "w")) for key in made.keys(space)
    ]
    inner = simulation.backend.inner  # type: ignore[attr-defined]
    inner.execute(Transaction(writes=tuple(put)))
    actor = simulation.start(request)
    simulation.advance(4)
    for made in (other, current_owner):
        gone = [Delete(key, Scope.NODE) for space in "hw" for key in made.keys(space)]
        inner.execute(Transaction(writes=(*gone, Notify(Key("n", (made.name,)), Scope.BELOW))))
        simulation.settle()
    simulation.advance(4)
    return actor


SCENARIOS: dict[str, Scenario] = {
    "first ever": first_ever,
    "free": free,
    "tried beside own": tried_beside_own,
    "queued": queued,
}


def of(request: Request, simulation: Simulation) -> set[str]:
    """Return in which spaces something of a request is, besides lists of whom to wake."""
    entries = {space: simulation.entries(space).values for space in ("h", "w", "d")}
    names = {request.name, request.name.rstrip("'"), request.owner.name}
    kept = {("/a", "!", "here/own")}
    return {
        space
        for space, values in entries.items()
        for path in values
        if path[-1] in names and path not in kept and not (space == "h" and path[-1] != request.name)
    }


def failing_at(
    which: int, fault: Callable[[Transaction], Outcome]
) -> Iterator[Callable[[Transaction], Outcome] | None]:
    """Let one transaction fail."""
    return itertools.chain(itertools.repeat(None, which), [fault])


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("fault", FAULTS)
def test_one_lost_reply_leaves_nothing(scenario: str, fault: str) -> None:
    """Whichever transaction of an acquisition fails, and however, it raises, and the store has no record of it."""
    for which in itertools.count():
        simulation = Simulation(Failing)
        assert isinstance(simulation.backend, Failing)
        request = simulation.request("2", AB, mode=X)
        inner = simulation.backend.inner
        count = len(simulation.sent)
        simulation.backend.faults = Shifted(simulation, failing_at(which, Fault(inner, **FAULTS[fault])))
        actor = SCENARIOS[scenario](simulation, request)
        if actor.error is None:
            assert actor.result is not None
            assert which >= 1, "at least one transaction failed"
            simulation.backend.faults = iter(())
            assert simulation.do(simulation.protocol.release(request))
            assert not of(request, simulation)
            break
        assert isinstance(actor.error, Unreachable), which
        assert len(simulation.sent) > count
        assert not of(request, simulation), f"transaction {which} failed"
        assert not request.pending


class Shifted:
    """Faults for the transactions of actors only, not for those by which a test prepares or looks."""

    def __init__(self, simulation: Simulation, faults: Iterator[Callable[[Transaction], Outcome] | None]) -> None:
        self._simulation = simulation
        self._faults = faults
        self._seen = 0

    def __iter__(self) -> Shifted:
        return self

    def __next__(self) -> Callable[[Transaction], Outcome] | None:
        if len(self._simulation.sent) == self._seen:
            return None
        self._seen = len(self._simulation.sent)
        return next(self._faults, None)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_pending_can_be_withdrawn(scenario: str, fault: str) -> None:
    """If the store stays away, the request stays pending unless nothing can have been done; withdrawing finishes it."""
    for which in itertools.count():
        simulation = Simulation(Failing)
        assert isinstance(simulation.backend, Failing)
        request = simulation.request("2", AB, mode=X)
        once = Fault(simulation.backend.inner, **FAULTS[fault])
        away = Fault(simulation.backend.inner, applied=False, maybe=False)
        simulation.backend.faults = Shifted(
            simulation, itertools.chain(failing_at(which, once), itertools.repeat(away))
        )
        actor = SCENARIOS[scenario](simulation, request)
        if actor.error is None:
            break
        assert isinstance(actor.error, Unreachable)
        assert request.pending or not of(request, simulation), f"transaction {which} failed"
        simulation.backend.faults = iter(())
        if request.pending:
            simulation.do(simulation.protocol.withdraw(request))
        assert not request.pending
        assert not of(request, simulation), f"transaction {which} failed"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_release_whose_reply_is_lost_can_be_finished(fault: str) -> None:
    """A release without a reply leaves the request pending; withdrawing it frees the lock and notifies."""
    simulation = Simulation(Failing)
    assert isinstance(simulation.backend, Failing)
    request = simulation.hold("1", A)
    waiting = simulation.start(simulation.request("2", A))
    for finish in (simulation.protocol.release, simulation.protocol.withdraw):
        simulation.backend.faults = iter([Fault(simulation.backend.inner, **FAULTS[fault])])
        with pytest.raises(Unreachable):
            simulation.do(finish(request))
        assert request.pending
    simulation.do(simulation.protocol.withdraw(request))
    simulation.settle()
    assert not request.pending
    assert waiting.result is not None
    assert simulation.holders() == {("2", A)}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_an_interruption_withdraws(error: type[BaseException]) -> None:
    """Ctrl-C before, at or after each transaction or wait of an acquisition leaves nothing, and is raised."""
    for which in itertools.count():
        simulation = Simulation()
        held = simulation.hold("1", A)
        request = simulation.request("2", AB)
        actor = Actor(simulation.protocol.acquire(request, LEASE, None), simulation)
        simulation.actors.append(actor)
        for _ in range(which):
            if actor.waits:
                simulation.release(held) if held.pending else simulation.advance(TIMING.heartbeat)
            elif not actor.done:
                actor.step()
        if actor.done:
            assert actor.error is None
            assert which > 4
            break
        actor.throw(error())
        actor.run()
        assert type(actor.error) is error
        assert not of(request, simulation)
        assert not request.pending
        assert acquire(simulation, "3", B, timeout=0) is not None


def test_what_is_dropped_stays_pending() -> None:
    """Steps that are closed send nothing more; the request stays pending, and can be withdrawn."""
    simulation = Simulation()
    simulation.hold("1", A)
    request = simulation.request("2", A)
    waiting = simulation.start(request)
    sent = len(simulation.sent)
    waiting.abandon()
    assert len(simulation.sent) == sent
    assert request.pending
    simulation.do(simulation.protocol.withdraw(request))
    assert not of(request, simulation)
    assert simulation.holders() == {("1", A)}


# Places in the queue


def test_a_waiter_whose_record_expired_queues_again() -> None:
    """A waiter that was stopped for longer than its TTL queues again at the end, under another name."""
    simulation = Simulation()
    held = simulation.hold("1", A)
    request = simulation.request("2", A)
    name = request.name
    stopped = simulation.start(request)
    stopped.stopped = True
    simulation.advance(TIMING.waiter_ttl + 0.1)
    later = simulation.start(simulation.request("3", A))
    stopped.stopped = False
    simulation.settle()
    assert request.name != name
    assert request.listener == name
    assert simulation.waiters() == {("2", A), ("3", A)}
    simulation.release(held)
    assert (later.result is not None, stopped.done) == (True, False)
    simulation.do(simulation.protocol.break_locks(simulation.records("h")))
    simulation.settle()
    assert stopped.result is not None
    assert [record.request for record in simulation.records("h")] == [request.name]
    assert simulation.release(request)


def test_a_waiter_whose_record_expired_does_not_get_the_lock() -> None:
    """A stopped waiter that the release notifies does not pass requests that came meanwhile."""
    simulation = Simulation()
    held = simulation.hold("1", A)
    stopped = simulation.start(simulation.request("2", A))
    stopped.stopped = True
    simulation.advance(TIMING.waiter_ttl + 0.1)
    later = simulation.start(simulation.request("3", A))
    later.stopped = True
    simulation.release(held)
    stopped.stopped = False
    simulation.settle()
    assert not stopped.done
    later.stopped = False
    simulation.settle()
    assert later.result is not None


def test_a_late_attempt_does_not_overtake() -> None:
    """An attempt that arrives after the record has expired is refused: later requests do not know of it."""
    simulation = Simulation()
    held = simulation.hold("1", A)
    late = simulation.start(simulation.request("2", A))
    late.step()  # it looks for itself, as after a notification for no reason
    assert isinstance(late.asked, Transaction)
    assert any(isinstance(write, Add) for write in late.asked.writes)
    late.stopped = True
    simulation.advance(TIMING.waiter_ttl + 0.1)
    other = simulation.start(simulation.request("3", A))
    other.stopped = True
    simulation.release(held)
    late.run()
    assert not late.done
    other.stopped = False
    simulation.settle()
    assert other.result is not None


def test_a_waiter_whose_record_was_broken_queues_again() -> None:
    """An operator who removes a waiter sends it to the end; later waiters are notified."""
    simulation = Simulation()
    simulation.hold("1", AB)
    first = simulation.start(simulation.request("2", A))
    behind = simulation.start(simulation.request("3", AC))
    simulation.do(simulation.protocol.break_locks(simulation.records("w")[:1]))
    simulation.settle()
    assert behind.result is not None
    simulation.advance(TIMING.heartbeat)
    assert not first.done
    assert ("2", A) in simulation.waiters()


def test_a_broken_waiter_of_two_paths_leaves_no_old_record() -> None:
    """If the first record of a waiter is broken, the others do not stay under the old name."""
    simulation = Simulation()
    simulation.hold("1", A)
    simulation.start(simulation.request("2", A, B))
    simulation.do(simulation.protocol.break_locks([record for record in simulation.records("w") if record.path == A]))
    simulation.advance(TIMING.heartbeat)
    assert len(simulation.records("w")) == 2


@pytest.mark.parametrize("count", [31, 32, 33, 40])
def test_many_waiters_are_served_in_order(count: int) -> None:
    """However many requests wait for one lock, each gets it in its order."""
    simulation = Simulation()
    before = simulation.hold("0", A)
    requests = [simulation.request(str(number), A) for number in range(1, count + 1)]
    actors = [simulation.start(request) for request in requests]
    for number, request in enumerate(requests):
        simulation.release(before)
        assert [actor.done for actor in actors] == [other <= number for other in range(count)]
        assert actors[number].result is not None
        before = request


def test_more_earlier_waiters_than_one_attempt_checks() -> None:
    """A request with more than 32 independent earlier waiters is granted when all of them are gone, and not before."""
    simulation = Simulation()
    held = simulation.hold("0", A)
    requests = [simulation.request(str(number), ("a", str(number))) for number in range(1, 41)]
    for request in requests:
        simulation.start(request)
    last = simulation.start(simulation.request("last", A))
    simulation.release(held)
    assert len(simulation.holders()) == 40
    for request in requests:
        assert not last.done
        simulation.release(request)
    assert last.result is not None


@pytest.mark.parametrize("store", ["memory", "short pages"])
def test_a_ticket_is_complete(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All earlier waiters are on the ticket, also if they are more than one page, or pages are short or empty."""
    monkeypatch.setattr(acquisition, "PAGE", 2)
    monkeypatch.setattr(records, "PAGE", 2)
    simulation = Simulation(MemoryBackend if store == "memory" else short_pages)
    held = [simulation.hold("0", ("a", str(number))) for number in range(5)]
    requests = [simulation.request(str(number), ("a", str(number))) for number in range(1, 5)]
    before = [simulation.start(request) for request in requests]
    last = simulation.start(simulation.request("last", A))
    before[-1].stopped = True  # it is notified, and does not go on yet
    for request in [*held, *requests[:-1]]:
        simulation.release(request)
    assert [actor.done for actor in before] == [True, True, True, False]
    assert not last.done, "one of four who came before still waits"
    before[-1].stopped = False
    simulation.settle()
    assert before[-1].result is not None
    assert not last.done
    simulation.release(requests[-1])
    assert last.result is not None


def test_later_requests_are_not_on_the_ticket(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ticket of several pages lists earlier requests; one that comes between two pages queues behind."""
    monkeypatch.setattr(acquisition, "PAGE", 2)
    monkeypatch.setattr(records, "PAGE", 2)
    simulation = Simulation()
    held = simulation.hold("0", A)
    before = [simulation.request(str(number), ("a", f"a{number}")) for number in range(1, 4)]
    for request in before:
        simulation.start(request)
    reading: Actor[Grant | None] = Actor(
        simulation.protocol.acquire(simulation.request("r", A), LEASE, None), simulation
    )
    while not (isinstance(reading.asked, Transaction) and any(read.cursor for read in reading.asked.reads)):
        reading.step()
    late = simulation.start(simulation.request("late", ("a", "z")))
    simulation.actors.append(reading)
    reading.run()
    for request in [held, *before]:
        assert not reading.done
        simulation.release(request)
    assert reading.result is not None
    assert not late.done


class Answering(ShortPages):
    """A store whose pages come short or empty, with a clock and listeners."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.inner = MemoryBackend(clock)

    def listen(self, name: str, /) -> Listener:
        return self.inner.listen(name)


def short_pages(clock: ManualClock) -> Answering:
    """Return such a store."""
    return Answering(clock)


@pytest.mark.parametrize("store", ["memory", "short pages"])
@pytest.mark.parametrize("readers", [2, 3, 7])
def test_many_readers_block_a_writer(store: str, readers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer waits for all readers, more than one page of them, and is granted when the last one is gone."""
    monkeypatch.setattr(acquisition, "PAGE", 2)
    monkeypatch.setattr(records, "PAGE", 2)
    simulation = Simulation(MemoryBackend if store == "memory" else short_pages)
    held = [simulation.hold(str(number), ("a", str(number % 2)), mode=S) for number in range(readers)]
    writer = simulation.start(simulation.request("w", A))
    for request in held:
        assert not writer.done
        assert simulation.release(request)
        simulation.advance(0.01)
    assert writer.result is not None


@pytest.mark.parametrize("store", ["memory", "short pages"])
def test_a_holder_on_a_later_page_is_waited_for(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocker is found behind pages of other records, and is waited for without polling."""
    monkeypatch.setattr(acquisition, "PAGE", 2)
    monkeypatch.setattr(records, "PAGE", 2)
    simulation = Simulation(MemoryBackend if store == "memory" else short_pages)
    for number in range(5):
        simulation.hold(str(number), ("a", f"a{number}"), mode=S)
    writer = simulation.hold("w", ("a", "z"))
    simulation.sent.clear()
    waiting = simulation.start(simulation.request("r", A, mode=S))
    assert waiting.waits
    assert len(simulation.sent) < 20
    simulation.release(writer)
    assert waiting.result is not None


def test_a_reader_of_what_it_writes_among_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner of an exclusive lock on a part reads the whole, however many other readers there are."""
    monkeypatch.setattr(acquisition, "PAGE", 2)
    monkeypatch.setattr(records, "PAGE", 2)
    for readers in (1, 5):
        simulation = Simulation()
        own = simulation.hold("1", AB)
        for number in range(readers):
            simulation.hold(str(number + 10), AC, mode=S)
        simulation.sent.clear()
        actor = simulation.start(simulation.request("1", A, mode=S), 30, [own])
        simulation.advance(40)
        assert actor.error is None, readers
        assert actor.result is not None


def test_the_only_reader_becomes_a_writer() -> None:
    """The only reader of a path may lock it exclusively, and vice versa."""
    simulation = Simulation()
    mine, yours = simulation.hold("1", A, mode=S), simulation.hold("2", A, mode=S)
    upgrade = simulation.start(simulation.request("1", A), None, [mine])
    assert not upgrade.done
    assert acquire(simulation, "3", A, timeout=0, mode=S) is None, "it waits"
    simulation.release(yours)
    assert upgrade.result is not None
    assert acquire(simulation, "2", A, timeout=0, mode=S) is None
    for own_mode, mode in ((S, X), (X, S)):
        simulation = Simulation()
        held = simulation.hold("1", A, mode=own_mode)
        assert simulation.start(simulation.request("1", AB, mode=mode), 0, [held]).result is not None


def test_changing_readers_are_not_taken_for_corruption() -> None:
    """If other readers change at every attempt, a request for the whole does not raise CorruptData."""
    simulation = Simulation()
    own = simulation.hold("1", AB)
    request = simulation.request("1", A, mode=S)
    actor: Actor[Grant | None] = Actor(simulation.protocol.acquire(request, LEASE, 60.0, [own]), simulation)
    others = itertools.count()
    for _ in range(1_000):
        if actor.done:
            break
        claims = isinstance(actor.asked, Transaction) and any(
            isinstance(check, Equals) and check.scope is Scope.BELOW for check in actor.asked.checks
        )
        if claims:
            simulation.hold(f"r{next(others)}", AC, mode=S)
        actor.step()
    assert not isinstance(actor.error, CorruptData)


# What strangers leave, and what is too large


@pytest.mark.parametrize("path", [("!", "x"), ("/a", "!", "x"), ("/a", "/b", "/c", "!", "x"), ("/a", "/b", "x")])
def test_foreign_records_that_block_are_corruption(path: Path) -> None:
    """A record among held locks that is not a lock raises CorruptData after a limited number of attempts."""
    simulation = Simulation()
    simulation.backend.execute(Transaction(writes=(Put(Key("h", path), b"?"),)))
    request = simulation.request("1", AB)
    assert simulation.start(request, 0).outcome() is None
    with pytest.raises(CorruptData, match=r"'a.b' is blocked by a record in the store that is not a lock"):
        simulation.start(request).outcome()
    assert not request.pending
    assert simulation.left() == {"h": 1}
    assert len(simulation.sent) < 500
    assert acquire(simulation, "1", ("x",), timeout=0) is not None or path == ("!", "x")


@pytest.mark.parametrize("space", ["w", "n", "d"])
def test_foreign_records_elsewhere_are_ignored(space: str) -> None:
    """Foreign records among waiters, registrations and links block no request."""
    simulation = Simulation()
    for path in (("/a", "!", "x"), ("x",), ("here.1",), ("here/1", "x")):
        simulation.backend.execute(Transaction(writes=(Put(Key(space, path), b"\xff?"),)))
    held = simulation.hold("1", A)
    waiting = simulation.start(simulation.request("2", A))
    simulation.advance(5)
    simulation.release(held)
    assert waiting.result is not None


def limited(clock: ManualClock) -> Small:
    """Return a store that takes little at once."""
    return Small(clock)


class Small(Limited):
    """A store that takes the fewest values at once that a store may; what is notified counts too."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(1_000)
        self.inner = MemoryBackend(clock)

    def _size(self, transaction: Transaction) -> int:
        notified = [write for write in transaction.writes if isinstance(write, Notify)]
        return super()._size(transaction) + sum(self._live(write.key, write.scope) for write in notified)

    def listen(self, name: str, /) -> Listener:
        return self.inner.listen(name)


def put_readers(simulation: Simulation, count: int) -> None:
    """Let many share what is at a."""
    made = [Request(f"r/{number}", simulation.request(f"r{number}", A).owner, S, [A], 1) for number in range(count)]
    writes = [Put(key, request.record, LEASE) for request in made for key in request.keys("h")]
    for start in range(0, len(writes), 500):
        simulation.backend.execute(Transaction(writes=tuple(writes[start : start + 500])))


def test_more_locks_than_a_store_checks_are_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a claim exceeds the size of a transaction, and nothing conflicts, the error says so."""
    monkeypatch.setattr(acquisition, "_FRUITLESS", 5)
    simulation = Simulation(limited)
    put_readers(simulation, 1_001)
    request = simulation.request("1", AB, mode=S)
    with pytest.raises(Unsupported, match="more locks than this store can check"):
        simulation.start(request).outcome()
    assert not request.pending
    assert set(simulation.left()) == {"h"}


def test_an_attempt_distinguishes_too_large_from_held() -> None:
    """An attempt that exceeds the size of a transaction raises, and does not return that the lock is held."""
    simulation = Simulation(limited)
    put_readers(simulation, 1_001)
    with pytest.raises(Unsupported):
        simulation.start(simulation.request("1", AB, mode=S), 0).outcome()


@pytest.mark.parametrize("timeout", [None, 0])
def test_more_paths_than_a_store_takes_are_unsupported(timeout: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request for more paths than the store puts at once is refused as such, tried or waited for."""
    monkeypatch.setattr(acquisition, "_FRUITLESS", 5)
    simulation = Simulation(limited)
    request = simulation.request("1", *[(f"p{number}",) for number in range(1_001)])
    with pytest.raises(Unsupported):
        simulation.start(request, timeout).outcome()
    assert not simulation.left()


def put_listed(simulation: Simulation, request: Request, count: int) -> None:
    """List so many to be notified when a request goes."""
    for start in range(0, count, 500):
        writes = [Put(Key("n", (request.name, f"l/{start + number}")), b"l/1", 6_000) for number in range(500)]
        simulation.backend.execute(Transaction(writes=tuple(writes)))


@pytest.mark.parametrize("operation", ["release", "withdraw", "break"])
def test_a_lock_with_many_waiters_is_released(operation: str) -> None:
    """With more waiters than one transaction notifies, the lock is released first, and they are notified in steps."""
    simulation = Simulation(limited)
    request = simulation.hold("1", A)
    put_listed(simulation, request, 1_500)
    steps: dict[str, Callable[[], Steps[object]]] = {
        "release": lambda: simulation.protocol.release(request),
        "withdraw": lambda: simulation.protocol.withdraw(request),
        "break": lambda: simulation.protocol.break_locks(simulation.records("h")),
    }
    simulation.do(steps[operation]())
    assert not simulation.holders()
    assert "n" not in simulation.left(), "all are notified"


def test_many_leases_are_renewed() -> None:
    """More locks than the store touches at once are renewed, in steps."""
    simulation = Simulation(limited)
    requests = [simulation.hold("1", (str(number),)) for number in range(600)]
    simulation.advance(10)
    told = simulation.do(simulation.protocol.renew([(request, LEASE) for request in requests]))
    assert told == [True] * 600
    assert {record.ttl for record in simulation.records("h")} == {LEASE}


def test_many_earlier_waiters_are_refreshed() -> None:
    """A request with more earlier waiters than one transaction reads stays in the queue."""
    simulation = Simulation(limited)
    held = simulation.hold("0", A)
    owner = simulation.request("w", A).owner
    made = [Request(f"w/{number}", owner._replace(name=f"w.{number}"), X, [A], 1) for number in range(1_000)]
    for start in range(0, 1_000, 500):
        writes = [Put(key, one.record, 60_000) for one in made[start : start + 500] for key in one.keys("w")]
        simulation.backend.execute(Transaction(writes=tuple(writes)))
    request = simulation.request("1", A)
    name = request.name
    simulation.start(request)
    simulation.advance(5)
    assert request.name == name
    assert len([record for record in simulation.records("w") if record.owner == "here.1"]) == 1
    assert simulation.release(held)


# Looking, and breaking


def test_find_locks_returns_every_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """``find_locks`` returns all records below some keys, over as many pages as necessary."""
    monkeypatch.setattr(records, "PAGE", 2)
    for make in (MemoryBackend, short_pages):
        simulation = Simulation(make)
        for number in range(7):
            simulation.hold(str(number), ("a", str(number)))
        simulation.start(simulation.request("w", A))
        assert len(simulation.do(simulation.protocol.find_locks(scopes_of(A, "h")))) == 7
        (waiter,) = simulation.do(simulation.protocol.find_locks(scopes_of(("a", "3"), "w")))
        assert not waiter.held
        assert str(waiter) == "'a' by host w"


def test_a_broken_lock_is_free() -> None:
    """Breaking a lock frees it and notifies waiters, and its owner can neither renew nor release it."""
    simulation = Simulation()
    held = simulation.hold("1", A)
    waiting = simulation.start(simulation.request("2", AB))
    simulation.sent.clear()
    simulation.do(simulation.protocol.break_locks(simulation.records("h")))
    simulation.settle()
    assert waiting.result is not None
    assert simulation.do(simulation.protocol.renew([(held, LEASE)])) == [False]
    assert simulation.release(held) is False
    assert simulation.holders() == {("2", AB)}
    simulation.do(simulation.protocol.break_locks([]))


def test_withdrawing_touches_nothing_else() -> None:
    """Only the request's own records are removed, whatever else its owner holds."""
    simulation = Simulation()
    kept, gone = simulation.hold("1", A), simulation.hold("1", AB)
    simulation.do(simulation.protocol.withdraw(gone))
    assert simulation.holders() == {("1", A)}
    simulation.do(simulation.protocol.withdraw(gone))
    assert simulation.release(kept)
    assert simulation.left() == {}


def test_nothing_of_a_waiter_is_left_once_it_is_granted() -> None:
    """After the grant there is only the record of the held lock."""
    simulation = Simulation()
    held = simulation.hold("1", A)
    request = simulation.request("2", A)
    waiting = simulation.start(request)
    simulation.advance(3)
    assert set(simulation.left()) == {"h", "w", "n", "d"}
    simulation.release(held)
    assert waiting.result is not None
    assert simulation.left() == {"h": 1}
    assert simulation.release(request)
    assert simulation.left() == {}


def test_timing_is_a_setting() -> None:
    """The TTL of a waiter and its heartbeat can be set."""
    timing = acquisition.Timing(waiter_ttl=0.6, heartbeat=0.2, first_heartbeat=0.1)
    simulation = Simulation(timing=timing)
    simulation.hold("1", A)
    waiting = simulation.start(simulation.request("2", A))
    assert [record.ttl for record in simulation.records("w")] == [600]
    assert isinstance(waiting.asked, Await)
    assert waiting.asked.seconds == pytest.approx(0.1)
    simulation.advance(0.1)
    assert isinstance(waiting.asked, Await)
    assert 0.16 <= waiting.asked.seconds <= 0.2


def test_a_lost_notification_costs_a_heartbeat() -> None:
    """A waiter that is not notified finds the lock free at its next heartbeat."""
    simulation = Simulation()
    simulation.hold("1", A)
    waiting = simulation.start(simulation.request("2", A))
    simulation.advance(1.5)
    simulation.backend.execute(Transaction(writes=(Delete(Key("h", ()), Scope.BELOW),)))
    simulation.settle()
    assert not waiting.done
    simulation.advance(TIMING.heartbeat)
    assert waiting.result is not None


def test_processes_share_only_the_store() -> None:
    """Two processes with clocks of their own agree through the store alone."""
    simulation = Simulation()
    ahead = ManualClock(simulation.clock() + 86_400)
    other = AcquireOperations(ahead, ahead)
    held = simulation.hold("1", A)
    request = simulation.request("2", A)
    actor = Actor(other.acquire(request, LEASE, 5.0), simulation)
    actor.run()
    assert not actor.done
    simulation.release(held)
    actor.run()
    assert actor.result is not None
    assert actor.result.since == ahead()


def test_waiting_for_is_one_per_owner() -> None:
    """Withdrawing a request removes what its owner has written down."""
    simulation = Simulation()
    simulation.hold("1", A)
    request = simulation.request("2", A)
    waiting = simulation.start(request, 1.5)
    simulation.advance(1.2)
    assert simulation.entries("d").values.keys() == {("here.2",)}
    simulation.advance(1)
    assert isinstance(waiting.error, LockTimeout)
    outcome = simulation.backend.execute(Transaction((Equals(Key(WAITING_FOR, ("here.2",)), Scope.NODE, NOTHING),)))
    assert outcome.status is Status.APPLIED
    assert simulation.backend.execute(Transaction((), (Read(TOKENS),), (Add(TOKENS, 1),))).applied
