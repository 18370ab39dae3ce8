"""How a process is notified: all its listeners share one connection, which subscribes to one channel.

No thread of our own reads that connection. The threads that wait do it themselves, as leader and followers (Schmidt et
al., "Leader/Followers: a design pattern for efficient multi-threaded event demultiplexing and dispatching", PLoP
2000): one of them reads, and notifies the listeners that the messages name; when it goes, it calls one of the others to
read on. What comes while nobody waits stays in the socket for the next one who does.

A connection that was lost may have lost messages with it. So each time that one is lost or made again, every listener
is notified: it then looks for itself.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Callable
from typing import Final

from redis import exceptions
from redis.connection import AbstractConnection

from redicts.backends.redis.connections import pause_before
from redicts.backends.redis.errors import is_answer, is_passing, mapped
from redicts.core.listener import Listener
from redicts.forks import Bell

_NAME: Final = re.compile(rb"[!-.0-~]+/[!-~]+")
"""What the script takes for the name of a listener; it looks at the length as well."""

_LONGEST_NAME: Final = 100
_LONGEST_READ_SECS: Final = 3600.0
"""Longer times are too long for ``poll``; whoever waits so long reads again."""

_SHORTEST_PAUSE_SECS: Final = 0.2
_LONGEST_PAUSE_SECS: Final = 1.0
_LOST: Final = (exceptions.RedisError, OSError)


class Listening:
    """The listeners of one backend, in whatever process it is used.

    ``make`` makes a connection of redis-py, ``channels`` is what the names of our channels begin with, ``where`` names
    the server in errors, and ``retries`` tells how often to try again to subscribe.
    """

    def __init__(self, make: Callable[[], AbstractConnection], channels: bytes, where: str, retries: int) -> None:
        self._make = make
        self._channels = channels
        self._where = where
        self._retries = retries
        self._closed = False
        # One, by the process and the channel that it is for; as a dict, because it settles in one step who is first.
        self._stations: dict[tuple[int, bytes], Subscription] = {}

    def listen(self, name: str) -> RedisListener:
        """Listen under this name. Raises ``ValueError`` if it is none, or an error below ``StoreError``."""
        said = name.encode()
        if len(said) > _LONGEST_NAME or not _NAME.fullmatch(said):
            raise ValueError(f"no name of a listener: {name!r}; it is ASCII, client_id/number")
        client_id, _, number = said.partition(b"/")
        try:
            return self._subscription_for(self._channels + client_id).listen(number, self._retries)
        except _LOST as error:
            raise mapped(error, self._where) from error

    def _subscription_for(self, channel: bytes) -> Subscription:
        here = os.getpid(), channel
        client_id = self._stations.get(here)
        if client_id is None:
            client_id = self._stations.setdefault(here, Subscription(self._make, channel))
            for other in list(self._stations):
                left = None if other == here else self._stations.pop(other, None)
                if left is not None:
                    left.end()
        if self._closed:
            client_id.end()
        return client_id

    def close(self) -> None:
        """Close the connection now, or when the last listener is closed. The same goes for one opened later."""
        self._closed = True
        for client_id in list(self._stations.values()):
            client_id.end()


class RedisListener(Listener):
    """A listener of one client id."""

    __slots__ = ("_client_id", "bell", "notified", "number")

    def __init__(self, client_id: Subscription, number: bytes) -> None:
        self._client_id = client_id
        self.number: Final = number
        self.notified = False
        self.bell: Final = Bell()
        """Rings when it is to look whether it is notified, or called to read."""

    def wait(self, seconds: float, /) -> bool:
        """Return true when notified, or false after this many seconds; later only if connecting takes longer."""
        return self._client_id.wait(self, seconds)

    def close(self) -> None:
        """Stop listening."""
        self._client_id.leave(self)


class Subscription:
    """One channel and the connection that subscribes to it, which one thread uses at a time: the leader.

    It is of use in the process that made it only. In a child its locks may be held by threads that are not there, and
    its connection is the parent's, which goes on using it.
    """

    def __init__(self, make: Callable[[], AbstractConnection], channel: bytes) -> None:
        self._owner = os.getpid()
        self._channel = channel
        self._make = make
        self._connection: AbstractConnection | None = None
        self._ended = False
        self._listeners: dict[bytes, RedisListener] = {}
        self._leader: RedisListener | None = None
        self._followers: list[RedisListener] = []
        # Guards all of the above, and tells when there is a connection or no leader.
        self._changed = threading.Condition()

    def listen(self, number: bytes, retries: int) -> RedisListener:
        """Return a new listener, subscribed. Raises what the client library raises."""
        listener = RedisListener(self, number)
        with self._changed:
            self._listeners[number] = listener
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._connection is not None or self._leader is None)
                if self._connection is None:
                    self._leader = listener
            if self._leader is listener:
                self._connect_and_retry(listener, retries)
        except BaseException:
            self.leave(listener)
            raise
        finally:
            self._hand_over(listener)
        return listener

    def _connect_and_retry(self, listener: RedisListener, retries: int) -> None:
        for attempt in range(retries + 1):
            pause_before(attempt)
            try:
                self._connect(listener)
            except _LOST as error:
                if attempt == retries or (is_answer(error) and not is_passing(error)):
                    raise
            else:
                break

    def _connect(self, listener: RedisListener) -> None:
        """As the leader, subscribe; and wake the others, who may have missed something before."""
        connection = self._make()
        try:
            connection.connect()
            connection.send_command("SUBSCRIBE", self._channel)
            connection.read_response()
        except BaseException:
            connection.disconnect()
            raise
        with self._changed:
            self._connection = connection
            self._changed.notify_all()
            for other in list(self._listeners.values()):
                if other is not listener:
                    _notify(other)

    def wait(self, listener: RedisListener, seconds: float) -> bool:
        """Return true when the listener is notified, or false after so many seconds."""
        if self._owner != os.getpid():
            return _pause(seconds)
        deadline = time.monotonic() + seconds
        left = max(0.0, seconds)
        while True:
            with self._changed:
                if listener.notified:
                    listener.notified = False
                    return True
                leads = self._leader is None
                if leads:
                    self._leader = listener
                else:
                    self._followers.append(listener)
            try:
                if leads:
                    self._lead(listener, left)
                else:
                    listener.bell.wait(left)
            finally:
                self._hand_over(listener)
            left = deadline - time.monotonic()
            if left <= 0 and not listener.notified:
                return False

    def _lead(self, listener: RedisListener, seconds: float) -> None:
        """Read until this listener is notified or the time is over; make the connection before, if there is none."""
        connection = self._connection
        if connection is None:
            try:
                self._connect(listener)
            except _LOST:
                _pause(seconds)
            self._notify_all()
            return
        deadline = time.monotonic() + seconds
        try:
            while not listener.notified and connection.can_read(min(seconds, _LONGEST_READ_SECS)):
                self._deliver(connection.read_response())
                seconds = max(0.0, deadline - time.monotonic())
        except BaseException as error:
            # Ctrl-C in the midst of a message would leave the rest of it to the next who reads.
            self._drop()
            if not isinstance(error, _LOST):
                raise

    def _deliver(self, message: object) -> None:
        if isinstance(message, list) and message[0] == b"message":
            with self._changed:
                listener = self._listeners.get(message[2])
                if listener is not None:
                    _notify(listener)

    def _drop(self) -> None:
        """As the leader, let go of the connection, and wake all, for what was on its way to them is lost."""
        with self._changed:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
        self._notify_all()

    def _notify_all(self) -> None:
        with self._changed:
            for listener in list(self._listeners.values()):
                _notify(listener)

    def _hand_over(self, listener: RedisListener) -> None:
        """Wait and lead no longer; where nobody leads, call one that waits."""
        with self._changed:
            if self._leader is listener:
                self._leader = None
                self._changed.notify_all()
            if listener in self._followers:
                self._followers.remove(listener)
            # Also if it was no leader: it may have been called a moment ago.
            if self._leader is None and self._followers:
                self._followers[0].bell.ring()

    def leave(self, listener: RedisListener) -> None:
        """Forget a listener."""
        if self._owner != os.getpid():
            return
        if self._leader is listener:
            # Something came between its reading and its handing over.
            self._drop()
        self._hand_over(listener)
        with self._changed:
            if self._listeners.get(listener.number) is listener:
                del self._listeners[listener.number]
        self._close_if_over()

    def end(self) -> None:
        """Close the connection as soon as there are no listeners, from now on."""
        if self._owner != os.getpid():
            return
        with self._changed:
            self._ended = True
        self._close_if_over()

    def _close_if_over(self) -> None:
        with self._changed:
            if not self._ended or self._listeners:
                return
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()


def _notify(listener: RedisListener) -> None:
    listener.notified = True
    listener.bell.ring()


def _pause(seconds: float) -> bool:
    """Let some time pass, at most so many seconds, and return true: it is time to look."""
    pause = random.uniform(_SHORTEST_PAUSE_SECS, _LONGEST_PAUSE_SECS)  # noqa: S311  (it only keeps rivals out of step)
    time.sleep(max(0.0, min(pause, seconds)))
    return True
