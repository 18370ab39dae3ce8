"""How a process is notified: all its listeners share one connection, which listens to one channel.

No thread of our own reads that connection. Of the threads that wait, one reads and notifies the listeners that the
messages name; when it goes, it rings one of the others to read on (Schmidt et al., "Leader/Followers", PLoP 2000). What
comes while nobody waits stays in the socket.

A connection that was lost may have lost messages with it. So each time that one is lost or made again, every listener
is notified: it then looks for itself.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import select
import threading
import time
from typing import Final

import psycopg

from redicts.plugin import Listener
from redicts_postgres.connections import Connect, Connection, pause_before
from redicts_postgres.errors import NoAnswer, is_lost, is_passing, is_refused, mapped

_NAME: Final = re.compile(r"[!-.0-~]+/[!-~]+")
"""What the function that writes takes for the name of a listener; it looks at the length as well."""

_LONGEST_NAME: Final = 100
_LONGEST_READ_SECS: Final = 3600.0
_SHORTEST_PAUSE_SECS: Final = 0.2
_LONGEST_PAUSE_SECS: Final = 1.0
_FAILURES: Final = (psycopg.Error, NoAnswer, OSError)


class Listening:
    """The listeners of one backend, in whatever process it is used. ``channels`` tells this store from others."""

    def __init__(self, make: Connect, channels: str, where: str, retries: int) -> None:
        self._make = make
        self._channels = channels
        self._where = where
        self._retries = retries
        self._closed = False
        # By process and client id; as a dict, because it settles in one step who is first.
        self._stations: dict[tuple[int, str], Subscription] = {}

    def listen(self, name: str) -> RedisListener:
        """Listen under this name. Raises ``ValueError`` if it is none, or an error below ``StoreError``."""
        if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
            raise ValueError(f"no name of a listener: {name!r}; it is ASCII, client_id/number")
        client_id, _, number = name.partition("/")
        here = os.getpid(), client_id
        at = self._stations.get(here)
        if at is None:
            digest = hashlib.sha256((self._channels + client_id).encode()).hexdigest()[:32]
            at = self._stations.setdefault(here, Subscription(self._make, f"redicts_{digest}"))
            for other in list(self._stations):
                left = None if other == here else self._stations.pop(other, None)
                if left is not None:
                    left.end()
        if self._closed:
            at.end()
        try:
            return at.listen(number, self._retries)
        except _FAILURES as error:
            raise mapped(error, self._where) from error

    def close(self) -> None:
        """Close the connection now, or when the last listener is closed. The same goes for one opened later."""
        self._closed = True
        for client_id in list(self._stations.values()):
            client_id.end()


class RedisListener(Listener):
    """A listener of one client id."""

    __slots__ = ("_client_id", "bell", "notified", "number")

    def __init__(self, client_id: Subscription, number: str) -> None:
        self._client_id = client_id
        self.number: Final = number
        self.notified = False
        self.bell: Final = threading.Semaphore(0)
        """Rings when it is to look whether it is notified, or called to read."""

    def wait(self, seconds: float, /) -> bool:
        """Return true when notified, or false after this many seconds; later only if connecting takes longer."""
        return self._client_id.wait(self, seconds)

    def close(self) -> None:
        """Stop listening."""
        self._client_id.leave(self)


class Subscription:
    """One channel and the connection that listens to it, which one thread uses at a time.

    It is of use in the process that made it only. In a child its locks may be held by threads that are not there, and
    its connection is the parent's, which goes on using it.
    """

    def __init__(self, make: Connect, channel: str) -> None:
        self._owner = os.getpid()
        self._make = make
        self._channel = channel
        self._ended = False
        self._listeners: dict[str, RedisListener] = {}
        self._waiting: dict[str, RedisListener] = {}
        self._state = threading.Lock()
        """Guards the two of them, and is held for a moment only."""
        self._reading = threading.Lock()
        """Held by whoever uses the connection."""
        self._connection: Connection | None = None

    def listen(self, number: str, retries: int) -> RedisListener:
        """Return a new listener, who is heard from now on. Raises what psycopg raises."""
        listener = RedisListener(self, number)
        with self._state:
            self._listeners[number] = listener
        try:
            # Whoever reads holds the connection for long, but then there is one.
            while self._connection is None:
                if self._reading.acquire(timeout=_SHORTEST_PAUSE_SECS):
                    try:
                        if self._connection is None:
                            self._connect_and_retry(listener, retries)
                    finally:
                        self._reading.release()
                        self._ring_next()
        except BaseException:
            self.leave(listener)
            raise
        return listener

    def wait(self, listener: RedisListener, seconds: float) -> bool:
        """Return true when the listener is notified, or false after so many seconds."""
        if self._owner != os.getpid():
            return _pause(seconds)
        deadline = time.monotonic() + seconds
        left = max(0.0, seconds)
        try:
            with self._state:
                self._waiting[listener.number] = listener
            while True:
                if self._reading.acquire(blocking=False):
                    try:
                        self._read(listener, left)
                    finally:
                        self._reading.release()
                elif not listener.notified:
                    listener.bell.acquire(timeout=min(left, _LONGEST_READ_SECS))
                if listener.notified:
                    listener.notified = False
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
        finally:
            with self._state:
                self._waiting.pop(listener.number, None)
            self._ring_next()

    def _read(self, listener: RedisListener, seconds: float) -> None:
        """Read until this listener is notified or the time is over; make the connection before, if there is none."""
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
            self._drop()
            if not isinstance(error, _FAILURES):
                raise

    def _deliver(self, connection: Connection) -> None:
        while True:
            message = connection.pgconn.notifies()
            if message is None:
                return
            with self._state:
                listener = self._listeners.get(message.extra.decode("ascii", "replace"))
                if listener is not None:
                    _notify(listener)

    def _connect_and_retry(self, listener: RedisListener, retries: int) -> None:
        for attempt in range(retries + 1):
            pause_before(attempt)
            try:
                self._connect(listener)
            except _FAILURES as error:
                worth_it = is_passing(error) or (is_lost(error) and not is_refused(error))
                if attempt == retries or not worth_it:
                    raise
            else:
                return

    def _connect(self, listener: RedisListener) -> None:
        """Listen; and wake the others, who may have missed something before."""
        connection = self._make()
        try:
            connection.execute(f'LISTEN "{self._channel}"'.encode())
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._notify_all(beside=listener)

    def _drop(self) -> None:
        """Let go of the connection, and wake all, for what was on its way to them is lost."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._notify_all()

    def _notify_all(self, beside: RedisListener | None = None) -> None:
        with self._state:
            for listener in self._listeners.values():
                if listener is not beside:
                    _notify(listener)

    def _ring_next(self) -> None:
        """Where nobody reads, call one of those that wait."""
        with self._state:
            if not self._reading.locked():
                for listener in self._waiting.values():
                    listener.bell.release()
                    return

    def leave(self, listener: RedisListener) -> None:
        """Forget a listener."""
        if self._owner != os.getpid():
            return
        with self._state:
            if self._listeners.get(listener.number) is listener:
                del self._listeners[listener.number]
        self._close_if_over()

    def end(self) -> None:
        """Close the connection as soon as there are no listeners, from now on."""
        if self._owner != os.getpid():
            return
        self._ended = True
        self._close_if_over()

    def _close_if_over(self) -> None:
        with self._state:
            over = self._ended and not self._listeners
        if over:
            with self._reading:
                connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()


def _notify(listener: RedisListener) -> None:
    listener.notified = True
    listener.bell.release()


def _pause(seconds: float) -> bool:
    """Let some time pass, at most so many seconds, and return true: it is time to look."""
    pause = random.uniform(_SHORTEST_PAUSE_SECS, _LONGEST_PAUSE_SECS)  # it only keeps rivals out of step
    time.sleep(max(0.0, min(pause, seconds)))
    return True
