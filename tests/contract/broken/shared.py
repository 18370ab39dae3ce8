"""Stores that processes really share, in a SQLite file, and that go wrong between them."""

from __future__ import annotations

import fcntl
import itertools
import json
import threading
import uuid
from dataclasses import replace
from typing import Final

from redicts.backends.sqlite import SqliteBackend
from redicts.core.backend import Backend, Capabilities
from redicts.core.listener import Listener
from redicts.core.minitransaction import Entries, Key, Notify, Outcome, Put, Read, Status, Transaction
from tests.contract.broken.register import broken_shared_store


class OnSqlite(Backend):
    """A SQLite file, and whatever is broken around it."""

    def __init__(self, path: str) -> None:
        self.store: Final = SqliteBackend(path)

    @property
    def capabilities(self) -> Capabilities:
        return self.store.capabilities

    def execute(self, transaction: Transaction, /) -> Outcome:
        return self.store.execute(transaction)

    def listen(self, name: str, /) -> Listener:
        return self.store.listen(name)

    def close(self) -> None:
        self.store.close()


_bells: Final[dict[bytes, threading.Event]] = {}
"""By name, those who listen in this process."""


class _Bell(Listener):
    """One who is notified by whoever is in the same process."""

    def __init__(self, name: bytes) -> None:
        self.name: Final = name
        self.bell: Final = _bells.setdefault(name, threading.Event())

    def wait(self, seconds: float, /) -> bool:
        notified = self.bell.wait(max(0.0, seconds))
        self.bell.clear()
        return notified

    def close(self) -> None:
        _bells.pop(self.name, None)


@broken_shared_store(
    "processes.processes_notify_each_other",
    "processes.calls_to_other_processes_are_sent",
    "forks.child_and_parent_notify_each_other",
    "locks_processes.processes_hand_locks_on",
)
class CallsStayInTheProcess(OnSqlite):
    """Pushing is claimed, and a Wake reaches the listeners of the process that applied it, and no others."""

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


@broken_shared_store(
    "forks.child_and_parent_work_on",
    "locks_forks.a_childs_request_does_not_pass_for_its_parents",
    "locks_forks.child_and_parent_exclude_each_other",
)
class ChildrenPassForTheirParents(OnSqlite):
    """Requests are numbered so that each is applied once, and a forked child goes on with the numbers of its parent."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.session: Final = uuid.uuid4().hex
        self.numbers: Final = itertools.count()
        self.door: Final = path + ".door"

    def execute(self, transaction: Transaction, /) -> Outcome:
        place = Key("sessions", (self.session, str(next(self.numbers))))
        with open(self.door, "ab") as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            return self.once(place, transaction)

    def once(self, place: Key, transaction: Transaction) -> Outcome:
        """Execute a transaction, unless there is an outcome in this place already."""
        (known,) = super().execute(Transaction(reads=(Read(place),))).answers
        assert isinstance(known, Entries)
        if known.values:
            status, counters, failed_index = json.loads(known.values[()])
            answers = super().execute(Transaction(reads=transaction.reads)).answers
            return Outcome(Status[status], answers, tuple(counters), failed_index)
        outcome = super().execute(transaction)
        told = json.dumps([outcome.status.name, outcome.counters, outcome.failed_index]).encode()
        super().execute(Transaction(writes=(Put(place, told),)))
        return outcome
