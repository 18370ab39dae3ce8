"""Stores that processes really share, in a SQLite file, and that go wrong between them."""

from __future__ import annotations

import fcntl
import itertools
import json
import mmap
import os
import random
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Final
from weakref import WeakValueDictionary

from redicts.backends.sqlite import SqliteBackend
from redicts.core.backend import Backend, Capabilities
from redicts.core.listener import Listener
from redicts.core.minitransaction import (
    Add,
    Delete,
    Entries,
    Key,
    Notify,
    Outcome,
    Put,
    Read,
    Scope,
    Status,
    Transaction,
    Write,
)
from tests.contract.broken.register import broken_shared_store
from tests.contract.broken.rendezvous import wait_until
from tests.contract.failing_commits import FAILS


class OnSqlite(Backend):
    """A SQLite file, and whatever is broken around it."""

    fails: Final = FAILS

    def __init__(self, path: str, number: int = 0) -> None:
        self.store: Final = SqliteBackend(path, number)

    @property
    def capabilities(self) -> Capabilities:
        return self.store.capabilities

    def execute(self, transaction: Transaction, /) -> Outcome:
        return self.store.execute(transaction)

    def listen(self, name: str, /) -> Listener:
        return self.store.listen(name)

    def close(self) -> None:
        self.store.close()


def in_memory(clock: Callable[[], float]) -> SqliteBackend:
    """Return a correct store on SQLite, in the memory of this process."""
    return SqliteBackend(":memory:", clock=clock)


_bells: Final[dict[bytes, threading.Event]] = {}
"""By name, those who listen in this process."""


class _Bell(Listener):
    """A listener that only its own process notifies."""

    def __init__(self, name: bytes) -> None:
        self.name: Final = name
        self.bell: Final = _bells.setdefault(name, threading.Event())

    def wait(self, seconds: float, /) -> bool:
        notified = self.bell.wait(min(max(0.0, seconds), threading.TIMEOUT_MAX))
        self.bell.clear()
        return notified

    def close(self) -> None:
        _bells.pop(self.name, None)


@broken_shared_store("processes.processes_notify_each_other", "forks.a_child_notifies_its_parent")
class CallsStayInTheProcess(OnSqlite):
    """Pushing is declared, and a Notify reaches the listeners of the process that applied it, and no others."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, push=True)

    def listen(self, name: str, /) -> Listener:
        return _Bell(name.encode())

    def execute(self, transaction: Transaction, /) -> Outcome:
        lists = [Read(write.key, write.scope) for write in transaction.writes if isinstance(write, Notify)]
        if not lists:
            return super().execute(transaction)
        outcome = super().execute(transaction._replace(reads=(*transaction.reads, *lists)))
        asked = len(transaction.reads)
        if outcome.applied:
            called = {write.value for write in transaction.writes if isinstance(write, Put)}
            for answer in outcome.answers[asked:]:
                assert isinstance(answer, Entries)
                called.update(answer.values.values())
            for name in called:
                if name in _bells:
                    _bells[name].set()
        return outcome._replace(answers=outcome.answers[:asked])


_names: Final[WeakValueDictionary[bytes, Listener]] = WeakValueDictionary()
"""By name, those who listen to a store of the next class in this process."""


@broken_shared_store("processes.processes_notify_each_other", alone=True)
class LongListsAreReadInTheProcess(OnSqlite):
    """Of a list of hundreds, a Notify reaches the listeners of its own process, and no others."""

    def listen(self, name: str, /) -> Listener:
        listener = super().listen(name)
        _names[name.encode()] = listener
        return listener

    def execute(self, transaction: Transaction, /) -> Outcome:
        writes = [each for write in transaction.writes for each in (*self.strangers(write), write)]
        return super().execute(transaction._replace(writes=tuple(writes)))

    def strangers(self, write: Write) -> list[Write]:
        """Return deletes of who listens elsewhere."""
        if not isinstance(write, Notify):
            return []
        (answer,) = super().execute(Transaction(reads=(Read(write.key, write.scope),))).answers
        assert isinstance(answer, Entries)
        space, base = write.key
        found = [
            Delete(Key(space, base + path), Scope.NODE) for path, value in answer.values.items() if value not in _names
        ]
        return [*found] if len(answer.values) > 300 else []


class _InAllProcesses(Listener):
    """Ends in a process and in those that were forked from it."""

    def __init__(self, inner: Listener) -> None:
        self.inner: Final = inner
        self.ended: Final = mmap.mmap(-1, 1)

    def wait(self, seconds: float, /) -> bool:
        return not self.ended[0] and self.inner.wait(seconds)

    def close(self) -> None:
        self.ended[0] = 1
        self.inner.close()


@broken_shared_store("forks.child_and_parent_work_on")
class ChildrenEndListeners(OnSqlite):
    """A forked child that closes a listener which it inherited ends that of its parent."""

    def listen(self, name: str, /) -> Listener:
        return _InAllProcesses(super().listen(name))


@broken_shared_store("forks.child_and_parent_work_on")
class ChildrenPassForTheirParents(OnSqlite):
    """Requests are numbered so that each is applied once, and a forked child goes on with the numbers of its parent."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.session: Final = uuid.uuid4().hex
        self.numbers: Final = itertools.count()
        self.door: Final = path + ".door"

    def execute(self, transaction: Transaction, /) -> Outcome:
        record = Key("sessions", (self.session, str(next(self.numbers))))
        with open(self.door, "ab") as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            return self.once(record, transaction)

    def once(self, record: Key, transaction: Transaction) -> Outcome:
        """Execute a transaction, unless there is an outcome under this key already."""
        (known,) = super().execute(Transaction(reads=(Read(record),))).answers
        assert isinstance(known, Entries)
        if known.values:
            status, counters, failed_index = json.loads(known.values[()])
            answers = super().execute(Transaction(reads=transaction.reads)).answers
            return Outcome(Status[status], answers, tuple(counters), failed_index)
        outcome = super().execute(transaction)
        told = json.dumps([outcome.status.name, outcome.counters, outcome.failed_index]).encode()
        super().execute(Transaction(writes=(Put(record, told),)))
        return outcome


class _InSessions(OnSqlite):
    """Numbers its requests in a session, so that each is applied once: the store keeps the last number and its status.

    A child, and another instance, has a session of its own.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.sessions: Final[dict[int, str]] = {}
        self.number = 0
        self.is_used = False
        """Whether a call uses the session: one in the midst of that does without."""

    def session(self) -> str:
        raise NotImplementedError

    def execute(self, transaction: Transaction, /) -> Outcome:
        with _process[0]:
            if self.is_used or not transaction.writes or transaction.reads or transaction.checks:
                return super().execute(transaction)
            self.is_used = True
            try:
                return self.once(transaction)
            finally:
                self.is_used = False

    def once(self, transaction: Transaction) -> Outcome:
        self.number += 1
        record = Key("sessions", (self.sessions.setdefault(os.getpid(), self.session()),))
        (known,) = super().execute(Transaction(reads=(Read(record),))).answers
        assert isinstance(known, Entries)
        if int(known.values.get((), b"0")) >= self.number:
            return Outcome(Status.APPLIED, (), tuple([1 for write in transaction.writes if isinstance(write, Add)]))
        numbered = Put(record, b"%d" % self.number)
        return super().execute(transaction._replace(writes=(*transaction.writes, numbered)))


@broken_shared_store("processes.processes_of_one_number_are_told_apart", alone=True)
class SessionsAreNamedByTheProcess(_InSessions):
    """A session has the number of its process and a count in that, so that two containers may have the same."""

    counts: Final[dict[int, int]] = {}

    def session(self) -> str:
        process = os.getpid()
        self.counts[process] = self.counts.get(process, 0) + 1
        return f"{process}-{self.counts[process]}"


@broken_shared_store("processes.processes_of_one_number_are_told_apart")
class SessionsAreDrawnAtRandom(_InSessions):
    """A session has a random number, from the generator for which programs choose a seed."""

    def session(self) -> str:
        return f"{random.getrandbits(64)}"


_process: Final = [threading.RLock()]
"""The lock of the thread of this process that uses one of these stores."""


def _renew_lock() -> None:
    """Replace the lock in a forked child, where another thread may have held it."""
    _process[0] = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)


@broken_shared_store("forks.child_and_parent_work_on", alone=True)
class AddsOfAChildAddNothing(OnSqlite):
    """In a forked child, Adds add 0."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.process: Final = os.getpid()

    def execute(self, transaction: Transaction, /) -> Outcome:
        if self.process == os.getpid():
            return super().execute(transaction)
        writes = [write._replace(amount=0) if isinstance(write, Add) else write for write in transaction.writes]
        return super().execute(transaction._replace(writes=tuple(writes)))


@broken_shared_store("processes.processes_lose_no_update", alone=True)
class ConditionsAreEvaluatedEarlier(OnSqlite):
    """Conditions of a put are evaluated in a transaction before it, and another process writes in between."""

    vain = 3
    """How often to wait in vain, until other processes have begun."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        if not transaction.checks or not any(isinstance(write, Put) for write in transaction.writes):
            return super().execute(transaction)
        with _process[0]:
            checked = tuple(Read(check.key, check.scope) for check in transaction.checks)
            outcome = super().execute(transaction._replace(reads=(*transaction.reads, *checked), writes=()))
            before = outcome.answers[len(transaction.reads) :]
            outcome = outcome._replace(answers=outcome.answers[: len(transaction.reads)])
            if not outcome.applied:
                return outcome
            look = super().execute
            if self.vain:
                changed = wait_until(lambda: look(Transaction(reads=checked)).answers != before, 1.0)
                self.vain = 0 if changed else self.vain - 1
            return super().execute(transaction._replace(checks=()))


@broken_shared_store("processes.processes_see_no_half_write", alone=True)
class LongTransactionsAreSplit(OnSqlite):
    """A transaction of more than ten puts and deletes is written in two, which only other processes see."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.looks: Final = path + ".looks"
        self.vain = 8
        """How often to wait in vain, until other processes have begun."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        with _process[0]:
            writes = transaction.writes
            if (
                10 < len(writes) < 20
                and not transaction.checks
                and all(isinstance(each, (Put, Delete)) for each in writes)
            ):
                super().execute(Transaction(writes=writes[:10]))
                self.let_others_look()
                return super().execute(transaction._replace(writes=writes[10:]))
            outcome = super().execute(transaction)
            if transaction.reads:
                with open(self.looks, "ab") as looks:
                    looks.write(b"%d\n" % os.getpid())
            return outcome

    def let_others_look(self) -> None:
        """Wait until three reads of others have ended: of two processes that read, one has begun a read meanwhile."""
        before = self.count()
        if self.vain and before:
            looked = wait_until(lambda: self.count() >= before + 3, 0.5)
            self.vain = 0 if looked else self.vain - 1

    def count(self) -> int:
        """Return how many reads of other processes have ended."""
        if not os.path.exists(self.looks):
            return 0
        with open(self.looks, "rb") as looks:
            return sum(int(line) != os.getpid() for line in looks if line.endswith(b"\n"))
