"""Failures: each is raised as a StoreError that tells the truth, holds no secret, and leaves nothing behind."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.client import Client
from redicts.contract.fixture import Fixture
from redicts.contract.forked import ForkedChild
from redicts.contract.leftovers import Leftovers
from redicts.contract.listening import fresh_name
from redicts.contract.requirements import NotRun, require, require_equal
from redicts.core.backend import Backend
from redicts.core.minitransaction import Add, Delete, Key, Put, Read, Scope, Transaction, Write
from redicts.errors import StoreError

with suppress(ImportError):  # where there is none, there is no fork either
    import resource

_BRIEF_SECS: Final = 0.02
"""How long a call tries whose replies are all lost, if the backend knows deadlines."""

_LATE_SECS: Final = 0.1
"""The same for a call whose request is held up."""

_LARGEST_FILE: Final = 200_000
_FILLING: Final = b"x" * 10_000
_GROWING: Final = 60
"""So many pairs of such values need more room than the largest file has."""

_FEW_LEFT: Final = 8
"""How many open files a pool may keep."""


@conformance_check(needs=[Need.UNUSABLE])
def what_cannot_work_says_so(fixture: Fixture) -> None:
    """A client with a wrong address or password raises a ``StoreError``, without secrets, each time it is called.

    Opens, reads, writes and listens dozens of times with each wrong setting, and takes each fast path. Searches the
    errors and their causes for secrets, and counts the open files and threads.
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
            _examine(fixture, _failure(backend.about), f"about() with {what}")
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


@conformance_check(needs=[Need.LOST_REPLIES])
def a_write_in_doubt_says_so(fixture: Fixture) -> None:
    """If every reply is lost, a write that may be there has ``maybe_applied``, a read has not, and later calls work.

    Loses every reply until the client gives up, and then compares the errors with what is stored.
    """
    client, count = fixture.lossy(), fixture.key("count")
    errors: list[StoreError | None] = []
    rounds = 100 if fixture.thorough else 5
    leftovers = Leftovers()
    for number in range(rounds):
        writes = (Add(count, 1), Put(fixture.key("n", f"{number}"), b"1"))
        with fixture.losing_replies():
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
    value = fixture.store.value(count) or b"0"
    require_equal(
        value, b"%d" % len(there), f"of {rounds} writes with an Add, {len(there)} are there, and the Adds are"
    )


@conformance_check(needs=[Need.LATE_REQUESTS])
def a_late_answer_is_nobodys(fixture: Fixture) -> None:
    """The answer to a read that comes after the client gave up is not taken for the answer to a later one.

    Holds the answer to a read back until the client gives up, and reads other values by the same client.
    """
    client = fixture.lossy()
    values = {name: name.encode() for name in ("one", "two", "three")}
    fixture.plant({(name,): value for name, value in values.items()})
    for name in ("one", "two"):
        fixture.hold_request()
        read = Transaction(reads=(Read(fixture.key(name)),))
        try:
            until = time.monotonic() + _LATE_SECS
            error = _failure(partial(client.backend.execute_until, read, until))
            _examine(fixture, error, "a read that is answered too late")
        finally:
            fixture.harness.deliver_request()
        for other, value in values.items():
            require_equal(client.value(fixture.key(other)), value, f"after a late answer, the value at {other!r} is")


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
    later writes.
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
    if not failed:
        raise NotRun("no write failed though the harness had its commit fail", required=False)


@contextmanager
def _small_files() -> Iterator[None]:
    """Let no file of this process grow beyond some hundred kibibytes; writes that need more fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _briefly(backend: Backend, transaction: Transaction) -> object:
    return backend.execute_until(transaction, time.monotonic() + _BRIEF_SECS)


def _listen(backend: Backend) -> None:
    backend.listen(fresh_name()).close()


def _failure(call: Callable[[], object]) -> Exception | None:
    """Return the error that a call raises, or ``None``."""
    try:
        call()
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
