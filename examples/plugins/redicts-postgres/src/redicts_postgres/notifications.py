"""Notifications through LISTEN: all listeners of a process share one connection, which listens to two channels.

One is that of the process, for locks. The other one is that of the store, which tells where values have changed.

The waiting threads read that connection themselves. One of them reads and notifies the listeners that the messages
name. When it stops waiting, it signals another one to read on (Schmidt et al., "Leader/Followers", PLoP 2000). Messages
that arrive while no thread waits stay in the socket.

Messages are lost with a connection. So every listener is notified when the connection breaks or is made again, and then
looks for itself.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import select
import threading
import time
from collections.abc import Callable
from typing import Final

import psycopg

from redicts.plugin import ForkSafeLock, Listener, Path
from redicts_postgres.connections import Connect, Connection, pause_before
from redicts_postgres.errors import Errors, NoAnswer, is_lost, is_refused, is_temporary
from redicts_postgres.wire import path_told

_NAME: Final = re.compile(r"[!-.0-~]+/[!-~]+")
"""The names of listeners that the SQL function accepts; it also checks the length."""

_LONGEST_NAME: Final = 100
_LONGEST_READ_SECS: Final = 3600.0
_SHORTEST_PAUSE_SECS: Final = 0.2
_LONGEST_PAUSE_SECS: Final = 1.0
_FAILURES: Final = (psycopg.Error, NoAnswer, OSError)


class Listeners:
    """The listeners of one backend, in each process that uses it. ``channels`` distinguishes it from other stores."""

    def __init__(self, make: Connect, channels: str, errors: Errors, retries: int) -> None:
        self._make = make
        self._channels = channels
        self._errors = errors
        self._retries = retries
        self._closed = False
        # By process and client id. dict.setdefault decides atomically which thread is first.
        self._subscriptions: dict[tuple[int, str], Subscription] = {}

    def listen(self, name: str, path: Path | None = None) -> PostgresListener:
        """Listen under this name, and to changes at, above and below a path.

        Raises ``ValueError`` if the name is not valid, or an error below ``StoreError``.
        """
        if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
            raise ValueError(f"the name of a listener must be ASCII of the form client_id/number; got {name!r}")
        client_id, _, number = name.partition("/")
        key = os.getpid(), client_id
        subscription = self._subscriptions.get(key)
        if subscription is None:
            channels = _channel(self._channels + client_id), _channel(self._channels + "/changes")
            subscription = self._subscriptions.setdefault(key, Subscription(self._make, *channels))
            for other in list(self._subscriptions):
                left = None if other == key else self._subscriptions.pop(other, None)
                if left is not None:
                    left.end()
        if self._closed:
            subscription.end()
        try:
            return subscription.listen(PostgresListener(subscription, number, path), self._retries)
        except _FAILURES as error:
            raise self._errors.mapped(error) from error

    def close(self) -> None:
        """Close each connection now, or when its last listener is closed, including connections opened later."""
        self._closed = True
        for subscription in list(self._subscriptions.values()):
            subscription.end()


class PostgresListener(Listener):
    """One listener of a client id. With a path, it is notified of changes at, above and below that, too."""

    __slots__ = ("_bell", "_subscription", "notified", "number", "path", "signal")

    def __init__(self, subscription: Subscription, number: str, path: Path | None) -> None:
        self._subscription = subscription
        self._bell: Callable[[], object] | None = None
        self.number: Final = number
        self.path: Final = path
        self.notified = False
        self.signal: Final = threading.Semaphore(0)
        """Released when the waiting thread is notified, or is the next to read the connection."""

    def wait(self, seconds: float, /) -> bool:
        """Return true when notified, or false after this many seconds; later only if connecting takes longer."""
        return self._subscription.wait(self, seconds)

    def ring(self, bell: Callable[[], object], /) -> bool:
        """Call a function at each notification that a waiting thread reads."""
        self._bell = bell
        return True

    def notify(self) -> None:
        """End a wait, the current one or the next."""
        self.notified = True
        self.signal.release()
        if self._bell is not None:
            self._bell()

    @property
    def is_live(self) -> bool:
        """Whether there is a connection."""
        return self._subscription.is_live

    def close(self) -> None:
        """Stop listening."""
        self._subscription.leave(self)


class Subscription:
    """A channel for locks and one for changes, and their connection, which one thread uses at a time.

    It works only in the process that made it. In a forked child, threads that do not exist may hold its locks, and its
    connection belongs to the parent.
    """

    def __init__(self, make: Connect, channel: str, changes: str) -> None:
        self._owner = os.getpid()
        self._make = make
        self._channel = channel
        self._changes = changes
        self._ended = False
        self._listeners: dict[str, PostgresListener] = {}
        self._waiting: dict[str, PostgresListener] = {}
        self._state = threading.Lock()
        """Guards both dicts, briefly."""
        self._reading = ForkSafeLock()
        """Held by the thread that uses the connection."""
        self._connection: Connection | None = None

    @property
    def is_live(self) -> bool:
        """Whether it is connected, in this process."""
        return self._connection is not None and self._owner == os.getpid()

    def listen(self, listener: PostgresListener, retries: int) -> PostgresListener:
        """Let a listener receive notifications from now on, and return it. Raises psycopg's errors."""
        with self._state:
            self._listeners[listener.number] = listener
        try:
            # A reader holds the lock for long, but then there is a connection.
            while self._connection is None:
                if self._reading.acquire(timeout=_SHORTEST_PAUSE_SECS):
                    try:
                        if self._connection is None:
                            self._connect_and_retry(listener, retries)
                    finally:
                        self._reading.release_if_mine()
                        self._signal_next()
        except BaseException:
            self._reading.release_if_mine()
            self.leave(listener)
            raise
        return listener

    def wait(self, listener: PostgresListener, seconds: float) -> bool:
        """Return true when the listener is notified, or false after this many seconds."""
        if self._owner != os.getpid():
            return _pause(seconds)
        try:
            try:
                return self._wait(listener, seconds)
            finally:
                self._stop_waiting(listener)
        finally:
            self._stop_waiting(listener)  # again: an exception of a signal handler may have come in between

    def _wait(self, listener: PostgresListener, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        left = max(0.0, seconds)
        with self._state:
            self._waiting[listener.number] = listener
        while True:
            # A signal handler may have interrupted the thread that reads.
            if not self._reading.is_mine() and self._reading.acquire(blocking=False):
                try:
                    self._read(listener, left)
                finally:
                    self._reading.release_if_mine()
            elif not listener.notified:
                listener.signal.acquire(timeout=min(left, _LONGEST_READ_SECS))
            if listener.notified:
                listener.notified = False
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False

    def _stop_waiting(self, listener: PostgresListener) -> None:
        """Let a listener read and wait no longer, and the next one read."""
        self._reading.release_if_mine()
        with self._state:
            self._waiting.pop(listener.number, None)
        self._signal_next()

    def _read(self, listener: PostgresListener, seconds: float) -> None:
        """Read until this listener is notified or the time has passed; first connect, if there is no connection."""
        if listener.notified:
            return
        if self._connection is None:
            try:
                self._connect(listener)
            except _FAILURES:
                _pause(seconds)
            self._notify_all()
            return
        deadline = time.monotonic() + seconds
        try:
            self._deliver(self._connection)
            while not listener.notified:
                seconds = min(max(0.0, deadline - time.monotonic()), _LONGEST_READ_SECS)
                poller = select.poll()
                poller.register(self._connection.fileno(), select.POLLIN)
                if not poller.poll(seconds * 1000):
                    return
                self._connection.pgconn.consume_input()
                self._deliver(self._connection)
        except BaseException as error:
            self._close_connection()
            self._notify_all()  # messages may be lost with the connection
            if not isinstance(error, _FAILURES):
                raise

    def _deliver(self, connection: Connection) -> None:
        while (message := connection.pgconn.notifies()) is not None:
            text = message.extra.decode("ascii", "replace")
            if message.relname.decode() == self._changes:
                self._deliver_change(path_told(text))
                continue
            with self._state:
                listener = self._listeners.get(text)
            if listener is not None:
                listener.notify()

    def _deliver_change(self, changed: Path) -> None:
        with self._state:
            listeners = list(self._listeners.values())
        for listener in listeners:
            path = listener.path
            if path is not None and all(one == other for one, other in zip(path, changed)):
                listener.notify()

    def _connect_and_retry(self, listener: PostgresListener, retries: int) -> None:
        for attempt in range(retries + 1):
            pause_before(attempt)
            try:
                self._connect(listener)
            except _FAILURES as error:
                worth_it = is_temporary(error) or (is_lost(error) and not is_refused(error))
                if attempt == retries or not worth_it:
                    raise
            else:
                return

    def _connect(self, listener: PostgresListener) -> None:
        """Listen, and notify the other listeners, which may have missed messages before."""
        connection = self._make()
        try:
            for channel in (self._channel, self._changes):
                connection.execute(f'LISTEN "{channel}"'.encode())
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._notify_all(except_for=listener)

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _notify_all(self, except_for: PostgresListener | None = None) -> None:
        with self._state:
            listeners = list(self._listeners.values())
        for listener in listeners:
            if listener is not except_for:
                listener.notify()

    def _signal_next(self) -> None:
        """If no thread reads the connection, signal one that waits."""
        with self._state:
            if not self._reading.acquire(blocking=False):
                return
            self._reading.release()
            for listener in self._waiting.values():
                listener.signal.release()
                return

    def leave(self, listener: PostgresListener) -> None:
        """Forget a listener."""
        if self._owner != os.getpid():
            return
        with self._state:
            if self._listeners.get(listener.number) is listener:
                del self._listeners[listener.number]
        self._close_if_over()

    def end(self) -> None:
        """Close the connection as soon as there are no listeners."""
        if self._owner == os.getpid():
            self._ended = True
            self._close_if_over()

    def _close_if_over(self) -> None:
        with self._state:
            over = self._ended and not self._listeners
        if over:
            with self._reading:
                self._close_connection()


def _channel(text: str) -> str:
    return f"redicts_{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _pause(seconds: float) -> bool:
    """Pause for a random time of at most this many seconds, and return true: the listener then looks for itself."""
    pause = random.uniform(_SHORTEST_PAUSE_SECS, _LONGEST_PAUSE_SECS)  # spreads the attempts of rivals
    time.sleep(max(0.0, min(pause, seconds)))
    return True
