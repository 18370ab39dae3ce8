"""Failures: each is raised as a StoreError that tells the truth, holds no secret, and leaves nothing behind."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import product
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.client import Client
from redicts.contract.fixture import Fixture
from redicts.contract.foreign import FOREIGN, contents
from redicts.contract.forked import ForkedChild
from redicts.contract.harness import inner_of
from redicts.contract.leftovers import Leftovers
from redicts.contract.listening import fresh_name, require_notified, wait_until_cleared
from redicts.contract.pauses import paused_process
from redicts.contract.requirements import CheckFailed, NotRun, require, require_below, require_equal
from redicts.core.backend import Backend
from redicts.core.minitransaction import (
    RECORDS,
    Add,
    AnyRead,
    Delete,
    Entries,
    Key,
    Notify,
    Put,
    Read,
    ReadNames,
    Scope,
    Transaction,
    Write,
)
from redicts.core.minitransaction import (
    Path as StorePath,
)
from redicts.errors import StoreError

with suppress(ImportError):  # where there is none, there is no fork either
    import resource

_BRIEF_SECS: Final = 0.02
"""How long a call tries whose replies are all lost, if the backend knows deadlines."""

_BRIEF_CALLS: Final = 3
"""How often such a call is measured: the fastest counts."""

_LATE_SECS: Final = 0.05
"""The same for a call whose request is held up."""

_LONGEST_SECS: Final = 2.0
"""The same for a call that waits for another client: a busy machine may stand still for seconds, but not each time."""

_POINTS: Final = 30
"""The most pauses of that other client."""

_ENOUGH_WAITS: Final = 2
"""How many waits for it end with their deadline."""
_PAUSE_SECS: Final = 0.003

_LARGEST_FILE: Final = 200_000
_FILLING: Final = b"x" * 10_000
_GROWING: Final = 60
"""So many pairs of such values need more room than the largest file has."""

_LARGE: Final = b"x" * 1_200_000

_MOMENT_SECS: Final = 0.003
"""Seconds of a wait in which a listener that polls looks at least once, mostly."""

_FEW_LEFT: Final = 8
"""How many open files a pool may keep."""


@conformance_check(needs=[Need.UNUSABLE])
def what_cannot_work_says_so(fixture: Fixture) -> None:
    """A client with a wrong address or password raises a ``StoreError``, without secrets, each time it is called.

    Opens, reads, writes, listens and waits with each wrong setting, dozens of times, and takes each fast path. Searches
    the errors and their causes for secrets, and counts the open files and threads.
    """
    calls = 300 if fixture.thorough else 30
    fixture.store.apply(Put(fixture.key("a"), b"1"))
    unusable = fixture.harness.unusable()
    if not unusable:
        raise NotRun("the harness does not offer unusable clients", required=False)
    for what, opener in unusable.items():
        with ExitStack() as stack:
            try:
                backend = opener()
            except Exception as error:
                _examine(fixture, error, f"opening a client with {what}")
                continue
            stack.callback(backend.close)
            write = partial(backend.execute, Transaction(writes=(Put(fixture.key("a"), b"2"),)))
            read = partial(backend.execute, Transaction(reads=(Read(fixture.key("a")),)))
            for kind, call in (("a write", write), ("a read", read)):
                failed = _failure(call)
                require(failed is not None, f"{kind} works with {what}")
                _examine(fixture, failed, f"{kind} with {what}")
            _examine(fixture, _failure(partial(_listen, backend)), f"listening with {what}")
            for reports in (backend.about, backend.servers):
                _examine(fixture, _failure(reports), f"{reports.__name__}() with {what}")
            for fetch in (backend.fetch, backend.fetch_document):
                failed = _failure(partial(fetch, fixture.key("a")))
                _examine(fixture, failed, f"{fetch.__name__} with {what}")
            for overwrite in (backend.overwrite, backend.overwrite_document):
                failed = _failure(partial(overwrite, fixture.key("a"), b'{"x":1}'))
                _examine(fixture, failed, f"{overwrite.__name__} with {what}")
            leftovers = Leftovers()
            kinds = {type(_failure(write)) for _ in range(calls)}
            require(len(kinds) == 1, f"the same write with {what} raises {kinds!r} one time and another")
            leftovers.require_few(_FEW_LEFT, f"{calls} calls that fail with {what}", fixture.timeout / 4)
    fixture.expect({("a",): b"1"})


@conformance_check(needs=[Need.PATHS])
def what_another_program_stored_stays(fixture: Fixture) -> None:
    """What another program keeps at the path is refused by a ``StoreError`` and stays byte for byte, whatever it is.

    Opens stores at texts, databases and directories of other programs, and at one after the other, makes each kind of
    call first: reads, writes, fast paths, listens and reports. Compares the bytes after each.
    """
    with tempfile.TemporaryDirectory(prefix="redicts-foreign-") as directory:
        for (what, make), (kind, first) in product(FOREIGN.items(), _FIRST_CALLS.items()):
            path = Path(tempfile.mkdtemp(dir=directory), "state")
            make(path)
            before = contents(path)
            taken = _failure(partial(_use, fixture, str(path), first, what))
            after = {name: found for name, found in contents(path).items() if name in before}
            require(after == before, f"{what} at the path of the store was changed, by {kind} and a write after it")
            if taken is not None:
                raise taken


@conformance_check(needs=[Need.LOST_REPLIES])
def a_write_in_doubt_says_so(fixture: Fixture) -> None:
    """If every reply is lost, a write that may be there has ``maybe_applied``, a read has not, and later calls work.

    Loses every reply until the client gives up, also that to a write of a mebibyte, or loses one, after which no
    connection can be made, and then compares the errors with what is stored.
    """
    client, count = fixture.lossy(), fixture.key("count")
    errors: list[StoreError | None] = []
    rounds = 100 if fixture.thorough else 5
    leftovers = Leftovers()
    for number in range(rounds):
        value = _LARGE if number == 1 else b"1"  # a large request may be sent in another way
        writes = (Add(count, 1), Put(fixture.key("n", f"{number}"), value))
        with _refusing(fixture) if number % 3 == 2 else fixture.losing_replies():
            error = _failure(partial(_briefly, client.backend, Transaction(writes=writes)))
            _examine(fixture, error, "a write whose replies are all lost", maybe_applied=True)
            errors.append(error if isinstance(error, StoreError) else None)
            read = _failure(partial(_briefly, client.backend, Transaction(reads=(Read(count),))))
            _examine(fixture, read, "a read whose replies are all lost")
        other = fixture.key("other", f"{number}")
        client.apply(Put(other, b"%d" % number))
        require_equal(client.value(other), b"%d" % number, "after calls without a reply, what was just written is")
    leftovers.require_few(_FEW_LEFT, f"{2 * rounds} calls without a reply", fixture.timeout / 4)
    there = {int(path[0]) for path in fixture.store.read(fixture.key("n"))}
    for number, error in enumerate(errors):
        if error is None:
            require(number in there, "a write whose replies were all lost returned, but it is not there")
        else:
            told = number not in there or error.maybe_applied
            require(told, f"a write is there whose error says maybe_applied=False: {error!r}")
    counted = fixture.store.value(count) or b"0"
    require_equal(
        counted, b"%d" % len(there), f"of {rounds} writes with an Add, {len(there)} are there, and the Adds are"
    )


@conformance_check(needs=[Need.LATE_REQUESTS])
def a_late_answer_is_nobodys(fixture: Fixture) -> None:
    """The answer to a read that comes after the client gave up is not taken for the answer to a later one.

    Holds the answer to a read back until the client gives up, and reads other values by the same client, before that
    answer comes and after.
    """
    client = fixture.lossy()
    values = {name: name.encode() for name in ("three", "two", "one")}
    fixture.plant({(name,): value for name, value in values.items()})
    for name in ("one", "two"):
        fixture.hold_request()
        read = Transaction(reads=(Read(fixture.key(name)),))
        try:
            until = time.monotonic() + _LATE_SECS
            error = _failure(partial(client.backend.execute_until, read, until))
            _examine(fixture, error, "a read that is answered too late")

            def look() -> None:
                for other, value in values.items():
                    found = client.value(fixture.key(other))
                    require_equal(found, value, f"while an answer is late, the value at {other!r} is")

            def deliver() -> None:
                time.sleep(_PAUSE_SECS)  # most likely, another read is sent by then
                fixture.harness.deliver_request()

            if name == "two":
                fixture.together([look, deliver])
        finally:
            fixture.harness.deliver_request()
        for other, value in values.items():
            require_equal(client.value(fixture.key(other)), value, f"after a late answer, the value at {other!r} is")


@conformance_check(needs=[Need.LATE_REQUESTS])
def a_deadline_ends_a_call(fixture: Fixture) -> None:
    """A call with a deadline whose request is held up ends soon after it, if the backend takes deadlines.

    Holds requests with and without a deadline up, those to listen among them, and compares how long the calls take.
    """
    client, key = fixture.lossy(), fixture.key("a")
    backend = inner_of(client.backend)
    if type(backend).execute_until is Backend.execute_until:
        raise NotRun("the backend takes no deadlines", required=False)
    write, read = Transaction(writes=(Put(key, b"1"),)), Transaction(reads=(Read(key),))

    def took(prepare: Callable[[], Callable[[float], object]], seconds: float) -> float:
        call = prepare()
        fixture.hold_request()
        begun = time.monotonic()
        try:
            _failure(partial(call, begun + seconds))
            return time.monotonic() - begun
        finally:
            fixture.harness.deliver_request()

    def listen(other: Backend, deadline: float) -> None:
        name, listed = fresh_name(), fixture.key("listed")
        with other.listen_until(name, deadline) as listener:
            # It has not given up, so it must hear this, whatever is held up. It may be notified for nothing at first.
            listener.wait(0.0)
            fixture.store.apply(Put(listed, name.encode()))
            fixture.store.apply(Notify(listed, Scope.NODE))
            fixture.harness.deliver_request()
            wait_until_cleared(listener, fixture.store, listed, fixture.timeout)

    calls: dict[str, Callable[[], Callable[[float], object]]] = {
        "write": lambda: partial(client.backend.execute_until, write),
        "read": lambda: partial(client.backend.execute_until, read),
        "listen": lambda: partial(listen, fixture.lossy().backend),
    }
    unhurried = took(calls["write"], fixture.timeout)
    for kind, call in calls.items():
        if kind == "listen" and type(backend).listen_until is Backend.listen_until:
            break

        def says(brief: float, kind: str = kind) -> str:
            return (
                f"a {kind} that is held up takes {brief:.3f} s with a deadline of {_BRIEF_SECS} s, and {unhurried:.3f} "
                "s with a late one; connecting, waiting and repeating must end with the deadline"
            )

        require_below(partial(took, call, _BRIEF_SECS), (unhurried + _BRIEF_SECS) / 2, _BRIEF_CALLS, says)


@conformance_check(needs=[Need.PROCESSES, Need.FORK, Need.OPENER])
def a_deadline_ends_the_wait_for_others(fixture: Fixture) -> None:
    """A call with a deadline that waits for another process ends soon after it, if the backend takes deadlines.

    A child process pauses in a write, wherever that calls a function. Counts and reads with a deadline meanwhile.
    """
    backend, opener = fixture.store.backend, fixture.harness.opener
    assert opener is not None  # the check needs an opener
    if type(inner_of(backend)).execute_until is Backend.execute_until:
        raise NotRun("the backend takes no deadlines", required=False)
    key, count, waits = fixture.key("paused"), fixture.key("count"), 0
    counting = Transaction(writes=(Add(count, 1),))
    reading = Transaction(reads=(Read(fixture.key(), Scope.SUBTREE),))
    fixture.store.apply(Put(key, b"0"), Put(count, b"0"))
    late: list[SimpleQueue[Exception | None]] = []

    def error_of(transaction: Transaction, point: str) -> Exception | None:
        """Return the error of a call with a deadline, which must end soon after it."""
        for _ in range(_BRIEF_CALLS):
            ended: SimpleQueue[Exception | None] = SimpleQueue()
            threading.Thread(target=_tell, args=(ended, partial(_briefly, backend, transaction)), daemon=True).start()
            with suppress(Empty):
                return ended.get(timeout=min(_LONGEST_SECS, fixture.timeout / 8))
            late.append(ended)
        raise CheckFailed(
            f"a call with a deadline of {_BRIEF_SECS} s waits for seconds while a write of another process stands "
            f"still {point}; the wait for other users of the store must end with the deadline"
        )

    done, in_doubt = 0, False
    with paused_process(opener, Put(key, b"1"), fixture.timeout) as points:
        for point, _ in zip(points, range(_POINTS)):
            for transaction in (reading, counting):
                error = error_of(transaction, point)
                # Over a network, a reply may come too late on a busy machine.
                _examine(fixture, error, "a call with a deadline", maybe_applied=fixture.harness.networked)
            in_doubt |= isinstance(error, StoreError) and error.maybe_applied
            done += error is None
            waits += error is not None
            if waits == _ENOUGH_WAITS:
                break
    if not late and not in_doubt:
        sum_of = f"after {done} Adds in time, and {waits} in vain, the sum is"
        require_equal(fixture.store.value(count), b"%d" % done, sum_of)
    require_equal(fixture.store.value(key), b"1", "after a process paused in a Put, the value is")


def _tell(ended: SimpleQueue[Exception | None], call: Callable[[], object]) -> None:
    ended.put(_failure(call))


@conformance_check(needs=[Need.FULL])
def a_full_store_lets_go(fixture: Fixture) -> None:
    """A store without room refuses what needs some by a ``StoreError``, and reads, deletes and notifies as before.

    Lets the store have no room, writes long values in vain, reads, notifies and deletes, and writes when there is room.
    """
    client, new, name = fixture.store, fixture.key("new"), fresh_name()
    entries: dict[StorePath, bytes] = {("d", "a"): b"1", ("d", "b"): b"2"}
    fixture.plant({**entries, ("listed",): name.encode()})
    with client.listen(name) as listener:
        if not fixture.harness.fill(True):
            raise NotRun("the harness cannot fill the store", required=False)
        try:
            for more in ((), (Add(fixture.key("count"), 1),)):
                error = _failure(partial(client.backend.execute, Transaction(writes=(*more, Put(new, _FILLING)))))
                require(error, "a write is applied for which there is no room")
                _examine(fixture, error, "a write for which there is no room")
            client.apply(Notify(fixture.key("listed"), Scope.NODE))
            require_notified(listener, fixture.timeout, "a listener, of a Notify while there is no room,")
            fixture.expect(entries)
            client.apply(Delete(fixture.key("d", "b"), Scope.NODE))
            fixture.expect({("d", "a"): b"1"})
            client.apply(Delete(fixture.key("d"), Scope.SUBTREE))
            fixture.expect({})
        finally:
            fixture.harness.fill(False)
    client.apply(Put(fixture.key("new"), b"1"))
    fixture.expect({("new",): b"1"})


@conformance_check(needs=[Need.DAMAGE])
def damage_is_told(fixture: Fixture) -> None:
    """What another program damaged is told by a ``StoreError``, and all other reads and writes go on as before.

    Damages what the store keeps at one path, and asks for that, alone and among other reads, and for others.
    """
    client = fixture.store
    while fixture.space[0] in RECORDS:  # such a space may be one record
        fixture.renew()
    bad, good = fixture.key("bad", "a"), fixture.key("good", "a")
    client.apply(Put(bad, b"1"), Put(good, b"2"), Put(fixture.key("good", "b"), b"3"))
    others: tuple[AnyRead, ...] = (Read(good), ReadNames(fixture.key("good")), Read(fixture.key("good"), Scope.BELOW))
    expected = _found(client, others)
    repair = fixture.harness.damage(bad)
    if repair is None:
        raise NotRun("the harness cannot damage what is stored", required=False)
    try:
        damaged = [Read(bad), Read(bad, Scope.SUBTREE)]
        damaged += [Read(fixture.key("bad"), scope) for scope in (Scope.BELOW, Scope.SUBTREE)]
        for asked in [each for read in damaged for each in ((read,), (read, *others), (*others, read))]:
            error = _failure(partial(client.backend.execute, Transaction(reads=asked)))
            require(error, "a read of what another program damaged is answered")
            _examine(fixture, error, "a read of what another program damaged")
            require_equal(_found(client, others), expected, "after a read that failed, other reads give")
        new = fixture.key("good", "new")
        for writes in ((Put(new, b"1"), Put(bad, b"4")), (Put(bad, b"4"), Put(new, b"1"))):
            error = _failure(partial(client.backend.execute, Transaction((), others, writes)))
            _examine(fixture, error, "a write to what another program damaged")
            require_equal(client.value(new), None if error else b"1", f"after {error!r}, what was written with it is")
            client.apply(Put(new, b"2"))
            require_equal(client.value(new), b"2", "after a write that failed, what is written later is")
            client.apply(Delete(new, Scope.NODE))
    finally:
        repair()
    require_equal(_found(client, others), expected, "after the repair, other reads give")


def _found(client: Client, reads: tuple[AnyRead, ...]) -> list[object]:
    """Return the values and names that reads find, by several transactions."""
    answers = [client.ask(read)[0] for read in reads]
    return [dict(each.values) if isinstance(each, Entries) else set(each.names) for each in answers]


@conformance_check(needs=[Need.DURABLE, Need.FORK, Need.OPENER, Need.LOCAL])
def a_full_disk_is_told(fixture: Fixture) -> None:
    """If its files cannot grow, a store refuses writes as a whole by a ``StoreError``, and works on when they can.

    Lets the files of a child process not grow while it writes, and compares the errors with what is stored.
    """
    opener = fixture.harness.opener
    assert opener is not None  # the check needs an opener
    failed = fixture.key("failed")

    def work() -> None:
        backend = opener()
        try:
            client = Client(backend)
            client.apply(Put(failed, b"0"))
            errors: dict[int, StoreError | None] = {}
            with _small_files():
                for number in range(_GROWING):
                    puts = [Put(fixture.key("n", f"{number}", name), _FILLING) for name in ("a", "b")]
                    error = _failure(partial(client.apply, *puts))
                    _examine(fixture, error, "a write for which the disk has no room", maybe_applied=True)
                    errors[number] = error if isinstance(error, StoreError) else None
                    if list(errors.values())[-3:].count(None) == 0:
                        break
            found = client.read(fixture.key("n"))
            for number, error in errors.items():
                there = sum((f"{number}", name) in found for name in ("a", "b"))
                require(there != 1, f"of two values written at once, one is there after {error!r}")
                require(error or there, "a write is applied for which the disk had no room, but it is not there")
                told = error is None or error.maybe_applied or not there
                require(told, f"a write is there whose error says maybe_applied=False: {error!r}")
            count = sum(error is not None for error in errors.values())
            client.apply(Delete(fixture.key("n"), Scope.SUBTREE), Put(failed, b"%d" % count))
        finally:
            backend.close()

    with ForkedChild(work, fixture.timeout) as child:
        child.finish()
    count = fixture.store.value(failed) or b"0"
    fixture.expect({("failed",): count})
    fixture.store.apply(Put(failed, b"again"))
    if count == b"0":
        raise NotRun("no write failed though the files of this process could not grow", required=False)


@conformance_check(needs=[Need.FAILING_COMMITS])
def a_failed_commit_is_told(fixture: Fixture) -> None:
    """If a commit fails, its writes are there whole or not at all, the error tells the truth, and later calls work.

    Has the commit of one client after another fail, and compares the error with what is stored, at once and after
    later writes. Does so with transactions and with the fast path.
    """
    rounds, failed, applied = 100 if fixture.thorough else 6, 0, 0
    count = fixture.key("count")
    for number in range(rounds):
        client, here = fixture.lossy(), fixture.key("n", f"{number}")
        if not fixture.harness.fail_commit():
            raise NotRun("the harness cannot have a commit fail", required=False)
        writes: list[Write] = [Add(count, 1), *(Put(Key(here.space, (*here.path, name)), b"1") for name in ("a", "b"))]
        error = _failure(partial(client.apply, *writes))
        _examine(fixture, error, "a write whose commit fails", maybe_applied=True)
        there = fixture.store.read(here)
        require(len(there) != 1, f"of two values written at once, one is there after {error!r}")
        require(error or there, "a write is applied whose commit failed, but it is not there")
        told = not isinstance(error, StoreError) or error.maybe_applied or not there
        require(told, f"a write is there whose error says maybe_applied=False: {error!r}")
        for later in (client, fixture.store):
            later.apply(Put(fixture.key("later"), b"1"))
        require_equal(dict(client.read(here)), dict(there), "after later writes, the values whose commit failed are")
        failed += error is not None
        applied += bool(there)
    value = fixture.store.value(count) or b"0"
    require_equal(value, b"%d" % applied, f"of {rounds} writes with an Add, {applied} are there, and the Adds are")
    for number in range(1, rounds + 1):
        failed += _overwrite_in_vain(fixture, b"%d" % number)
    if not failed:
        raise NotRun("no write failed though the harness had its commit fail", required=False)


def _overwrite_in_vain(fixture: Fixture, value: bytes) -> bool:
    """Have the commit of an overwriting fail, compare the error with what is stored, and tell whether there was one."""
    client, key = fixture.lossy(), fixture.key("over")
    fixture.store.apply(Put(key, b"0"))
    if not client.overwrite(key, b"0"):
        return False
    done: list[bool] = []
    fixture.harness.fail_commit()
    error = _failure(lambda: done.append(client.overwrite(key, value)))
    if error is None:
        _failure(partial(client.apply, Put(fixture.key("later"), b"2")))  # the fault may be of the next commit
    _examine(fixture, error, "an overwriting whose commit fails", maybe_applied=True)
    there = fixture.store.value(key) == value
    told = not isinstance(error, StoreError) or error.maybe_applied or not there
    require(told, f"what was overwritten is there, and the error says maybe_applied=False: {error!r}")
    require(error or done == [there], f"an overwriting returns {done}, and what it wrote is there: {there}")
    return error is not None


@contextmanager
def _small_files() -> Iterator[None]:
    """Let no file of this process grow beyond some hundred kibibytes; writes that need more fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _use(fixture: Fixture, path: str, first: Callable[[Backend, Key], object], what: str) -> None:
    """Make a call of a store whose path is taken, and then write and read; require errors, or that all of it works."""
    key = fixture.key("a")
    try:
        backend = fixture.harness.open_at(path)
    except Exception as error:
        _examine(fixture, error, f"opening a store where there is {what}")
        return
    if backend is None:
        raise NotRun("the harness cannot open a store at another path", required=False)
    try:
        _examine(fixture, _failure(partial(first, backend, key)), f"a first call of a store where there is {what}")
        write, read = Transaction(writes=(Put(key, b"1"),)), Transaction(reads=(Read(key),))
        refused = [_failure(partial(backend.execute, each)) for each in (read, write, read)]
        for failure in refused:
            _examine(fixture, failure, f"a transaction of a store where there is {what}")
        works = {failure is None for failure in refused}
        require(len(works) == 1, f"where there is {what}, some of a read, a write and a read work: {refused!r}")
    finally:
        backend.close()


_FIRST_CALLS: Final[dict[str, Callable[[Backend, Key], object]]] = {
    "opening and closing": lambda _backend, _key: None,
    "a read": lambda backend, key: backend.execute(Transaction(reads=(Read(key),))),
    "a write": lambda backend, key: backend.execute(Transaction(writes=(Put(key, b"1"),))),
    "fetching": lambda backend, key: backend.fetch(key),
    "overwriting": lambda backend, key: backend.overwrite(key, b"1"),
    "listening": lambda backend, _key: _listen(backend),
    "listening to changes": lambda backend, key: backend.listen_to_changes(fresh_name(), key.path).close(),
    "a report": lambda backend, _key: (backend.about(), backend.servers()),
}
"""The call that a program makes first, by its name."""


@contextmanager
def _refusing(fixture: Fixture) -> Iterator[None]:
    """Lose one reply, and refuse the connections that follow, as far as the harness can."""
    fixture.lose_reply()
    fixture.harness.refuse(True)
    try:
        yield
    finally:
        fixture.harness.refuse(False)


def _briefly(backend: Backend, transaction: Transaction) -> object:
    return backend.execute_until(transaction, time.monotonic() + _BRIEF_SECS)


def _listen(backend: Backend) -> None:
    """Listen, and wait for a moment: then a failure of the store counts as a notification."""
    with backend.listen(fresh_name()) as listener:
        failed = _failure(partial(listener.wait, _MOMENT_SECS))
        require(failed is None, f"a wait raises {failed!r}; a failure of the store must end it as a notification does")


def _failure(call: Callable[[], object]) -> Exception | None:
    """Return the error that a call raises, or ``None``."""
    try:
        call()
    except CheckFailed:
        raise
    except Exception as error:
        return error
    return None


def _examine(fixture: Fixture, error: Exception | None, what: str, *, maybe_applied: bool = False) -> None:
    """Require that an error, if there is one, is a StoreError without secrets, and not in doubt without reason."""
    if error is None:
        return
    require(isinstance(error, StoreError), f"{what} raises {type(error).__name__}, which is no StoreError")
    assert isinstance(error, StoreError)
    require(maybe_applied or not error.maybe_applied, f"{what} raises {error!r} with maybe_applied=True")
    secrets = [secret for secret in fixture.harness.secrets if len(secret) > 3]
    for each in _chain(error):
        told = "".join([*traceback.format_exception_only(type(each), each), repr(each), repr(each.args)])
        leaks = any(secret in told for secret in secrets)
        require(not leaks, f"{what} raises {type(error).__name__} whose text or cause contains a secret")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ if error.__suppress_context__ else error.__cause__ or error.__context__
