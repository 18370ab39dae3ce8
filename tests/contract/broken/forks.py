"""Stores that a fork leaves in a state that no child can use."""

from __future__ import annotations

import atexit
import contextlib
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from mmap import mmap
from pathlib import Path
from typing import Final
from weakref import WeakSet, WeakValueDictionary

from redicts.core.listener import Listener
from redicts.core.minitransaction import Delete, Entries, Key, Notify, Outcome, Read, Transaction, Write
from redicts.errors import Unreachable
from tests.contract.broken.commits import InAFile
from tests.contract.broken.register import broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.reference_model import PlainBackend, Spaces


@broken_store("forks.a_fork_amid_calls_is_harmless", alone=True)
class ChildrenSeeHalfTransactions(PlainBackend):
    """Writes are applied in place, under a lock, which a child does not have to wait for."""

    def draft(self, writes: tuple[Write, ...]) -> Spaces:
        for write in writes:
            self.spaces.setdefault(write.key.space, {})
        return self.spaces

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        before = {name: dict(entries) for name, entries in self.spaces.items()}
        applied = False
        try:
            outcome = super().decide(transaction, now)
            applied = outcome.applied
        finally:
            if not applied:
                self.spaces = before
        return outcome


@broken_store("forks.a_fork_amid_calls_is_harmless")
class ReadersHaveALock(PlainBackend):
    """Reads have a lock of their own, which stays held in a child if another thread held it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.reading = threading.RLock()

    def execute(self, transaction: Transaction, /) -> Outcome:
        if transaction.writes:
            return super().execute(transaction)
        with self.reading:
            return super().execute(transaction)


@broken_shared_store("forks.a_fork_amid_calls_is_harmless")
class ReadersOfAFileHaveALock(OnSqlite):
    """Reads of many values have a lock of their own, which stays held in a child if another thread held it."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.reading = threading.RLock()

    def execute(self, transaction: Transaction, /) -> Outcome:
        if transaction.writes:
            return super().execute(transaction)
        with self.reading:
            return super().execute(transaction)


@broken_store("forks.a_fork_amid_waits_is_harmless")
class TheForkingThreadKeepsTheLock(PlainBackend):
    """A fork takes the lock, and in the child only the thread that forked ever gets it again."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.own = threading.RLock()
        _forking.add(self)

    def execute(self, transaction: Transaction, /) -> Outcome:
        with self.own:
            return super().execute(transaction)


_forking: Final[WeakSet[TheForkingThreadKeepsTheLock]] = WeakSet()
_held: Final[list[TheForkingThreadKeepsTheLock]] = []


def _take_locks() -> None:
    for store in list(_forking):
        store.own.acquire()
        _held.append(store)


def _release_locks() -> None:
    while _held:
        _held.pop().own.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_take_locks, after_in_parent=_release_locks)


@broken_store("forks.a_fork_amid_calls_is_harmless", alone=True)
class ListeningHoldsALock(PlainBackend):
    """``listen`` holds a lock, which a fork by another thread leaves held in the child."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.own = threading.Lock()

    def listen(self, name: str, /) -> Listener:
        with self.own:
            return super().listen(name)


@broken_shared_store("forks.a_fork_amid_calls_is_harmless", alone=True)
class FetchingADocumentHoldsALock(OnSqlite):
    """A fetch of a document holds a lock, which a fork by another thread leaves held in the child."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.own = threading.Lock()

    def fetch_document(self, key: Key, /) -> bytes | None:
        with self.own:
            return super().fetch_document(key)


@broken_shared_store("forks.a_fork_amid_calls_is_harmless", alone=True)
class ListeningAtAFileHoldsALock(OnSqlite):
    """``listen`` holds a lock, which a fork by another thread leaves held in the child."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.own = threading.Lock()

    def listen(self, name: str, /) -> Listener:
        with self.own:
            return super().listen(name)


@broken_shared_store("forks.a_fork_amid_calls_is_harmless")
class FetchingHoldsALock(OnSqlite):
    """The fast path to a value holds a lock, which a fork by another thread leaves held in the child."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.own = threading.Lock()

    def fetch(self, key: Key, /) -> bytes | None:
        with self.own:
            return self.store.fetch(key)


@broken_shared_store("forks.child_and_parent_work_on", alone=True)
class ClosingInAChildEndsTheSession(OnSqlite):
    """Each instance has a session, which ends when a forked child closes its copy."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.opened = os.getpid()
        self.session: Final = Path(f"{path}-{uuid.uuid4().hex}")

    def execute(self, transaction: Transaction, /) -> Outcome:
        if self.session.exists() and self.opened == os.getpid():
            raise Unreachable("the session has ended")
        return super().execute(transaction)

    def close(self) -> None:
        if self.opened != os.getpid():
            self.session.touch()
        super().close()


@broken_shared_store("forks.a_parent_may_close", alone=True)
class ClosingInAParentEndsTheSession(OnSqlite):
    """Each instance has a session that it shares with forked children, and that ends when it is closed."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.opened = os.getpid()
        self.ended: Final = mmap(-1, 1)

    def execute(self, transaction: Transaction, /) -> Outcome:
        if self.ended[0] and self.opened != os.getpid():
            raise Unreachable("the session has ended")
        return super().execute(transaction)

    def close(self) -> None:
        if self.opened == os.getpid():
            self.ended[0] = 1
        super().close()


@broken_shared_store("forks.child_and_parent_work_on", alone=True)
class GrandchildrenShareTheSession(InAFile):
    """A forked child opens a session of its own, and a child of it uses that one."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.opened = self.session = os.getpid()

    def execute(self, transaction: Transaction, /) -> Outcome:
        if self.session == self.opened:
            self.session = os.getpid()
        if self.session not in (self.opened, os.getpid()):
            raise Unreachable("the answer to another request came")
        return super().execute(transaction)


class _WithSession(OnSqlite):
    """Has a session, of which a file says that it has ended."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.process: Final = os.getpid()
        self.ended: Final = Path(f"{path}-{uuid.uuid4().hex}")

    def execute(self, transaction: Transaction, /) -> Outcome:
        if self.process == os.getpid() and self.ended.exists():
            raise Unreachable("the session has ended")
        return super().execute(transaction)

    def end(self) -> None:
        """End the session, whichever process this is."""
        if self.process != os.getpid():  # nothing is left of a session of this process
            self.ended.touch()


@broken_shared_store("forks.a_child_that_ends_disturbs_nobody", alone=True)
class ExitEndsTheSession(_WithSession):
    """The session ends when the process exits, and so it does when a forked child exits."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        atexit.register(self.end)

    def close(self) -> None:
        super().close()
        atexit.unregister(self.end)


@broken_shared_store("forks.a_child_that_ends_disturbs_nobody", alone=True)
class TheLastReferenceEndsTheSession(_WithSession):
    """The session ends when the instance is not used any more, and so it does when a forked child drops its copy."""

    def __del__(self) -> None:
        self.end()


@broken_shared_store("forks.a_child_that_ends_disturbs_nobody", "space.a_killed_process_leaves_no_file")
class ExitRemovesTheDirectory(InAFile):
    """Each instance writes in a directory of its own, which is removed when a process exits, or a forked child."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.directory: tempfile.TemporaryDirectory[str] | None = None

    def commit(self, data: bytes) -> None:
        if self.directory is None:
            self.directory = tempfile.TemporaryDirectory()
        with open(os.path.join(self.directory.name, "written"), "wb") as file:
            file.write(data)
        super().commit(data)

    def close(self) -> None:
        directory, self.directory = self.directory, None
        if directory is not None:
            directory.cleanup()
        super().close()


@broken_shared_store("forks.a_child_notifies_its_parent", alone=True)
class ChildrenInheritListeners(OnSqlite):
    """Other processes are not told of those who listen by the same instance, and a child has inherited them."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.opened: Final = os.getpid()
        self.names: Final[WeakValueDictionary[bytes, Listener]] = WeakValueDictionary()

    def listen(self, name: str, /) -> Listener:
        listener = super().listen(name)
        if self.opened == os.getpid():
            self.names[name.encode()] = listener
        return listener

    def execute(self, transaction: Transaction, /) -> Outcome:
        if self.opened == os.getpid():
            return super().execute(transaction)
        writes = [self.as_child(write) for write in transaction.writes]
        return super().execute(transaction._replace(writes=tuple(writes)))

    def as_child(self, write: Write) -> Write:
        """Return a write without a notification, if that is for one of these listeners."""
        if isinstance(write, Notify):
            (answer,) = super().execute(Transaction(reads=(Read(write.key, write.scope),))).answers
            assert isinstance(answer, Entries)
            if not {*self.names}.isdisjoint(answer.values.values()):
                return Delete(write.key, write.scope)
        return write


@broken_shared_store("forks.a_child_that_ends_disturbs_nobody")
class ExitClosesTheListeners(OnSqlite):
    """The listeners of an instance hear nothing more when a process exits, or a forked child."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.ended: Final = Path(f"{path}-{uuid.uuid4().hex}")
        atexit.register(self.end)

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self.ended.touch()

    def close(self) -> None:
        super().close()
        atexit.unregister(self.end)

    def listen(self, name: str, /) -> Listener:
        return _Ending(self, super().listen(name))


class _Ending(Listener):
    def __init__(self, store: ExitClosesTheListeners, listener: Listener) -> None:
        self.store = store
        self.listener = listener

    def wait(self, seconds: float, /) -> bool:
        if self.store.ended.exists():
            time.sleep(min(seconds, 3))
            return False
        return self.listener.wait(seconds)

    def close(self) -> None:
        self.listener.close()
