"""Notifications by publish and subscribe: all listeners of a process share one connection and one channel.

No thread is started to read that connection. The waiting threads read it themselves, as leader and followers (Schmidt
et al., "Leader/Followers: a design pattern for efficient multi-threaded event demultiplexing and dispatching", PLoP
2000): the leader reads messages and notifies the listeners that they name. When it stops waiting, one of the followers
becomes the leader. Without a waiting thread, messages stay in the socket.

Messages may be lost with the connection. So each time it is lost or made again, every listener is notified, and looks.
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
from redicts.backends.redis.errors import is_transient, mapped
from redicts.core.listener import Listener
from redicts.forks import Bell

_NAME: Final = re.compile(rb"[!-.0-~]+/[!-~]+")
"""The name of a listener, as the script checks it too."""

_LONGEST_NAME: Final = 100
_LONGEST_READ_SECS: Final = 3600.0
"""``poll`` accepts no longer times, so a longer wait reads several times."""

_SHORTEST_PAUSE_SECS: Final = 0.2
_LONGEST_PAUSE_SECS: Final = 1.0
_FAILURES: Final = (exceptions.RedisError, OSError)


class Subscriptions:
    """The subscription of each process that uses one backend.

    ``make`` makes a connection of redis-py, ``channels`` begins the names of channels, ``where`` names the server in
    errors, and subscribing is tried again up to ``retries`` times.
    """

    def __init__(self, make: Callable[[], AbstractConnection], channels: bytes, where: str, retries: int) -> None:
        self._make = make
        self._channels = channels
        self._where = where
        self._retries = retries
        self._closed = False
        # By process and channel. It has one item, but a dict decides atomically which thread is the first to add it.
        self._subscriptions: dict[tuple[int, bytes], Subscription] = {}

    def listen(self, name: str) -> RedisListener:
        """Return a new listener of this name.

        Raises ``ValueError`` if it is not valid, or an error below :class:`~redicts.errors.StoreError`.
        """
        encoded = name.encode()
        if len(encoded) > _LONGEST_NAME or not _NAME.fullmatch(encoded):
            raise ValueError(
                f"the name of a listener must be client_id/number, up to {_LONGEST_NAME} ASCII characters; got {name!r}"
            )
        client_id, _, number = encoded.partition(b"/")
        try:
            return self._subscription_to(self._channels + client_id).listen(number, self._retries)
        except _FAILURES as error:
            raise mapped(error, self._where) from error

    def _subscription_to(self, channel: bytes) -> Subscription:
        mine = os.getpid(), channel
        subscription = self._subscriptions.get(mine)
        if subscription is None:
            subscription = self._subscriptions.setdefault(mine, Subscription(self._make, channel))
            for other in list(self._subscriptions):
                left = None if other == mine else self._subscriptions.pop(other, None)
                if left is not None:
                    left.end()
        if self._closed:
            subscription.end()
        return subscription

    def close(self) -> None:
        """Close the connection as soon as the last listener is closed. The same goes for one that is opened later."""
        self._closed = True
        for subscription in list(self._subscriptions.values()):
            subscription.end()


class RedisListener(Listener):
    """A listener of one subscription."""

    __slots__ = ("_subscription", "bell", "notified", "number")

    def __init__(self, subscription: Subscription, number: bytes) -> None:
        self._subscription = subscription
        self.number: Final = number
        self.notified = False
        self.bell: Final = Bell()
        """Rings when ``notified`` is set, and when this follower is to become the leader."""

    def wait(self, seconds: float, /) -> bool:
        """Return true when notified, or false after this many seconds; later only if connecting takes longer."""
        return self._subscription.wait(self, seconds)

    def close(self) -> None:
        """Stop listening."""
        self._subscription.leave(self)


class Subscription:
    """One channel and the connection that subscribes to it. One listener at a time uses that: the leader.

    It works in the process that made it only: in a child, threads that do not exist there may hold its locks, and its
    connection is the parent's, which goes on using it.
    """

    def __init__(self, make: Callable[[], AbstractConnection], channel: bytes) -> None:
        self._process = os.getpid()
        self._channel = channel
        self._make = make
        self._connection: AbstractConnection | None = None
        self._ended = False
        self._listeners: dict[bytes, RedisListener] = {}
        self._leader: RedisListener | None = None
        self._followers: list[RedisListener] = []
        # Guards all of the above. Notified when there is a connection, and when there is no leader.
        self._changed = threading.Condition()

    def listen(self, number: bytes, retries: int) -> RedisListener:
        """Return a new listener, subscribed. Raises what redis-py raises."""
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
            self._stop_waiting(listener)
        return listener

    def _connect_and_retry(self, listener: RedisListener, retries: int) -> None:
        for attempt in range(retries + 1):
            pause_before(attempt)
            try:
                self._connect(listener)
            except _FAILURES as error:
                if attempt == retries or not is_transient(error):
                    raise
            else:
                return

    def _connect(self, leader: RedisListener) -> None:
        """Subscribe, and notify the other listeners, which may have missed something before."""
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
        self._notify_all(but=leader)

    def wait(self, listener: RedisListener, seconds: float) -> bool:
        """Return true when the listener is notified, or false after this many seconds."""
        if self._process != os.getpid():
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
                self._stop_waiting(listener)
            left = deadline - time.monotonic()
            if left <= 0 and not listener.notified:
                return False

    def _lead(self, leader: RedisListener, seconds: float) -> None:
        """Dispatch messages until the leader is notified or the time is over. Connect first if necessary."""
        connection = self._connection
        if connection is None:
            try:
                self._connect(leader)
            except _FAILURES:
                _pause(seconds)
            self._notify_all()
            return
        deadline = time.monotonic() + seconds
        try:
            while not leader.notified and connection.can_read(min(seconds, _LONGEST_READ_SECS)):
                self._dispatch(connection.read_response())
                seconds = max(0.0, deadline - time.monotonic())
        except BaseException as error:
            # After Ctrl-C within a message, the next leader would read the rest of it.
            self._disconnect()
            if not isinstance(error, _FAILURES):
                raise

    def _dispatch(self, message: object) -> None:
        """Notify the listener that a message names."""
        if isinstance(message, list) and message[0] == b"message":
            with self._changed:
                listener = self._listeners.get(message[2])
                if listener is not None:
                    _notify(listener)

    def _notify_all(self, but: RedisListener | None = None) -> None:
        with self._changed:
            for listener in self._listeners.values():
                if listener is not but:
                    _notify(listener)

    def _stop_waiting(self, listener: RedisListener) -> None:
        """Let a listener wait and lead no longer, and a follower lead if nobody does."""
        with self._changed:
            if self._leader is listener:
                self._leader = None
                self._changed.notify_all()
            if listener in self._followers:
                self._followers.remove(listener)
            # Also after a follower stops: it may be the one whose bell has just rung to make it the leader.
            if self._leader is None and self._followers:
                self._followers[0].bell.ring()

    def leave(self, listener: RedisListener) -> None:
        """Forget a listener."""
        if self._process != os.getpid():
            return
        if self._leader is listener:
            # An exception ended its wait between reading a message and giving up the lead.
            self._disconnect()
        self._stop_waiting(listener)
        with self._changed:
            if self._listeners.get(listener.number) is listener:
                del self._listeners[listener.number]
        self._close_if_over()

    def end(self) -> None:
        """Close the connection as soon as there are no listeners."""
        if self._process != os.getpid():
            return
        with self._changed:
            self._ended = True
        self._close_if_over()

    def _close_if_over(self) -> None:
        if self._ended and not self._listeners:
            self._disconnect()

    def _disconnect(self) -> None:
        """Close the connection, and notify all listeners, for messages to them are lost with it."""
        with self._changed:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
        self._notify_all()


def _notify(listener: RedisListener) -> None:
    listener.notified = True
    listener.bell.ring()


def _pause(seconds: float) -> bool:
    """Let a random time pass, at most this many seconds, and return true: the caller is to look."""
    pause = random.uniform(_SHORTEST_PAUSE_SECS, _LONGEST_PAUSE_SECS)  # noqa: S311  (it only keeps rivals out of step)
    time.sleep(max(0.0, min(pause, seconds)))
    return True
