"""Notifications by publish and subscribe: all listeners of a process share one connection.

Those that wait for locks share the channel of the process. Those to changes share the channels of the sections in which
they watch, to which the connection also subscribes. Only the leader uses the connection. So another thread that needs a
further channel has the server send the leader a message, after which it subscribes.

No thread is started to read that connection. The waiting threads read it themselves, as leader and followers (Schmidt
et al., "Leader/Followers: a design pattern for efficient multi-threaded event demultiplexing and dispatching", PLoP
2000): the leader reads messages and notifies the listeners that they name. When it stops waiting, one of the followers
becomes the leader. Without a waiting thread, messages stay in the socket.

Messages may be lost with the connection. So each time it is lost or made again, every listener is notified, and looks.
A connection whose other end has vanished reports nothing. So the leader asks for an answer when it has heard nothing
for a while, and replaces a connection without one.

A signal handler or a finalizer may run between any two instructions here. It may raise, and it may use redicts. So no
lock is held: each change of a shared collection is one atomic operation, the leader is the first of those that wait,
and a connection counts as whole only between two messages. What must be done in the end is done twice, because an
exception may end it once. References to listeners are weak, so that none stays that nobody uses.
"""

from __future__ import annotations

import math
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final
from weakref import ref

from redis import exceptions
from redis.connection import AbstractConnection

from redicts.backends.redis.connections import pause_before, socket_of
from redicts.backends.redis.errors import Errors, is_transient, unencodable
from redicts.backends.redis.layout import channels_of_changes, path_of, subscribing
from redicts.core.listener import Listener
from redicts.core.minitransaction import Path
from redicts.core.watchers import Watchers
from redicts.errors import RedictsError, StoreBusy
from redicts.forks import Bell
from redicts.randomness import RANDOM
from redicts.reports import notifications_interrupted

_NAME: Final = re.compile(rb"[!-.0-~]+/[!-~]+")
"""The name of a listener, as the script checks it too."""

_CHANGED: Final = (b"message", b"pmessage", b"smessage")
_SUBSCRIBED: Final = (b"subscribe", b"psubscribe", b"ssubscribe")

_LONGEST_NAME: Final = 100
_LONGEST_READ_SECS: Final = 3600.0
"""``poll`` accepts no longer times, so a longer wait reads several times."""

_SILENCE_SECS: Final = 2.0
"""When the leader has heard nothing for so long, it asks for an answer."""

_LONGEST_FOLLOW_SECS: Final = 1.0
"""How long a follower waits before it looks again whether it leads."""

_LONGEST_SUBSCRIBING_SECS: Final = 10.0
"""How long a listener to changes waits until its channels are subscribed."""

_SHORTEST_PAUSE_SECS: Final = 0.2
_LONGEST_PAUSE_SECS: Final = 1.0
_FAILURES: Final = (exceptions.RedisError, OSError)


class Subscriptions:
    """The subscription of each process that uses one backend.

    ``make`` makes a connection of redis-py, ``channels`` begins the names of channels, and subscribing is tried again
    up to ``retries`` times. A connection that does not answer within ``answer_secs`` is replaced. ``publish`` sends an
    empty message to a channel, over another connection.
    """

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        channels: bytes,
        errors: Errors,
        retries: int,
        answer_secs: float,
        publish: Callable[[bytes], object],
    ) -> None:
        self._make = make
        self._publish = publish
        self._channels = channels
        self._errors = errors
        self._retries = retries
        self._answer_secs = answer_secs
        self._closed = False
        # By process and channel. It has one item, but a dict decides atomically which thread is the first to add it.
        self._subscriptions: dict[tuple[int, bytes], Subscription] = {}

    def listen(self, name: str, deadline: float | None = None) -> RedisListener:
        """Return a new listener of this name.

        ``deadline`` is a time of ``time.monotonic``. Raises ``ValueError`` if the name is not valid, or an error below
        :class:`~redicts.errors.StoreError`.
        """
        client_id, number = channel_and_number(name)
        try:
            return self._subscription_to(self._channels + client_id).listen(number, self._retries, deadline)
        except _FAILURES as error:
            raise self._errors.mapped(error) from error

    def listen_to_changes(self, name: str, path: Path, channels: tuple[bytes, ...] = ()) -> RedisListener:
        """Return a new listener to the changes at, above and below a path, or to other channels that tell of them.

        Raises as :meth:`listen` does.
        """
        client_id, number = channel_and_number(name)
        subscription = self._subscription_to(self._channels + client_id)
        try:
            listener = subscription.listen(number, self._retries, None)
            channels = channels or channels_of_changes(self._channels, path)
            return subscription.watch(listener, path, channels, self._publish)
        except _FAILURES as error:
            raise self._errors.mapped(error) from error

    def _subscription_to(self, channel: bytes) -> Subscription:
        mine = os.getpid(), channel
        subscription = self._subscriptions.get(mine)
        if subscription is None:
            subscription = Subscription(self._make, channel, self._errors.where, self._answer_secs)
            subscription = self._subscriptions.setdefault(mine, subscription)
            for other in list(self._subscriptions):
                left = None if other == mine else self._subscriptions.pop(other, None)
                if left is not None:
                    left.end()
        if self._closed:
            subscription.end()
        return subscription

    def close_unused(self) -> None:
        """Close the connection if there are no listeners. The next one makes another."""
        for subscription in list(self._subscriptions.values()):
            subscription.close_unused()

    def close(self) -> None:
        """Close the connection as soon as the last listener is closed. The same goes for one that is opened later."""
        self._closed = True
        for subscription in list(self._subscriptions.values()):
            subscription.end()

    def interrupt(self) -> None:
        """End the wait of the thread that reads the connection, which is lost."""
        for subscription in list(self._subscriptions.values()):
            subscription.interrupt()


class BellListener(Listener):
    """A listener with a bell, which rings when it is notified. Most never wait for it, so it is made when one does."""

    __slots__ = ("__weakref__", "_bell", "_ring", "notified")

    def __init__(self) -> None:
        self.notified = False
        self._bell: Bell | None = None
        self._ring: Callable[[], object] | None = None

    def notify(self) -> None:
        """End a wait, the current one or the next."""
        self.notified = True
        ring = self._ring or (self._bell and self._bell.ring)
        if ring:
            ring()

    def wake(self) -> None:
        """End a call of :meth:`pause`, the current one or the next."""
        if self._bell is not None:
            self._bell.ring()

    def pause(self, seconds: float) -> None:
        """Return when it is notified or woken, or after this many seconds. It may return earlier."""
        bell = self._bell
        if bell is None:
            self._bell = Bell()  # nothing could ring before, so the caller is to look again
        else:
            bell.wait(seconds)

    def ring(self, bell: Callable[[], object], /) -> bool:
        """Call a function in place of ending :meth:`wait`, while another thread waits."""
        self._ring = bell
        return True


class RedisListener(BellListener):
    """A listener of one subscription. Its bell also rings when this follower is to become the leader."""

    __slots__ = ("_subscription", "channels", "number", "thread")

    def __init__(self, subscription: Subscription, number: bytes) -> None:
        super().__init__()
        self._subscription = subscription
        self.number: Final = number
        self.channels: tuple[bytes, ...] = ()
        """The channels of the changes that it listens to."""
        self.thread = 0
        """The thread that waits."""

    def wait(self, seconds: float, /) -> bool:
        """Return true when notified, or false after this many seconds."""
        return self._subscription.wait(self, seconds)

    @property
    def is_live(self) -> bool:
        """Whether the connection is there, and subscribed to the channels of this listener."""
        return self._subscription.is_subscribed_to(self.channels)

    def close(self) -> None:
        """Stop listening."""
        self._subscription.leave(self)


class Subscription:
    """One channel and the connection that subscribes to it. One listener at a time uses that: the leader.

    It works in the process that made it only: in a child, its connection is the parent's, which goes on using it.
    """

    def __init__(self, make: Callable[[], AbstractConnection], channel: bytes, where: str, answer_secs: float) -> None:
        self._process = os.getpid()
        self._channel = channel
        self._make = make
        self._where = where
        self._answer_secs = answer_secs
        self._connection: AbstractConnection | None = None
        self._is_whole = False
        """Whether the next byte of the connection begins a message, and all listeners know that it is a new one."""
        self._heard = 0.0
        """The time when the server was heard last, by ``time.monotonic``."""
        self._asked: float | None = None
        """The time of the question that it has not answered."""
        self._ended = False
        self._listeners: dict[bytes, ref[RedisListener]] = {}
        self._waiting: dict[int, ref[RedisListener]] = {}
        """The listeners that wait, by their id. The first one is the leader."""
        self._watchers: Final = Watchers()
        """The listeners to changes, which are among the others too."""
        self._wanted: dict[bytes, None] = {}
        """The channels of changes that are watched."""
        self._asked_for: dict[bytes, None] = {}
        """Those that this connection has asked for, in order, and that are not given up."""
        self._answered: dict[bytes, exceptions.ResponseError | None] = {}
        """Those of them to which it is subscribed, or was not allowed to subscribe, with the error."""

    def listen(self, number: bytes, retries: int, deadline: float | None) -> RedisListener:
        """Return a new listener, subscribed. Raises what redis-py raises."""
        listener = RedisListener(self, number)
        self._listeners[number] = ref(listener, partial(self._listeners.pop, number))
        if self._connection is None:
            self._await_connection(listener, retries, deadline)
        return listener

    def _await_connection(self, listener: RedisListener, retries: int, deadline: float | None) -> None:
        """Connect, or wait until the leader has."""
        try:
            try:
                self._begin_to_wait(listener)
                while self._connection is None:
                    leader = self._leader()
                    if leader is listener:
                        self._connect_and_retry(listener, retries, deadline)
                    elif leader is not None and leader.thread == listener.thread:
                        raise _interrupts_subscribing(self._where)
                    elif deadline is not None and time.monotonic() >= deadline:
                        raise exceptions.TimeoutError("the deadline is over")
                    else:
                        listener.pause(_until(deadline, _LONGEST_FOLLOW_SECS))
            finally:
                self._stop_waiting(listener)
        except BaseException:
            self.leave(listener)
            raise
        finally:
            self._stop_waiting(listener)

    def _connect_and_retry(self, listener: RedisListener, retries: int, deadline: float | None) -> None:
        for attempt in range(retries + 1):
            pause_before(attempt, deadline)
            try:
                self._connect(listener, _until(deadline, math.inf))
            except _FAILURES as error:
                is_over = deadline is not None and time.monotonic() >= deadline
                if attempt == retries or is_over or not is_transient(error):
                    raise
            else:
                return

    def _connect(self, leader: RedisListener, seconds: float) -> None:
        """Subscribe, and notify the other listeners, which may have missed something before."""
        connection = self._make()
        try:
            if seconds <= 0:
                raise exceptions.TimeoutError("the deadline is over")
            if seconds < (connection.socket_connect_timeout or math.inf):
                connection.socket_connect_timeout = seconds
            if seconds < (connection.socket_timeout or math.inf):
                connection.socket_timeout = seconds
            connection.connect()
            connection.send_command("SUBSCRIBE", self._channel)
            connection.read_response()
            if self._answer_secs != math.inf:
                socket_of(connection).settimeout(self._answer_secs)
        except UnicodeError as error:
            connection.disconnect()
            raise unencodable(error) from None
        except BaseException:
            connection.disconnect()
            raise
        self._is_whole = False
        self._heard, self._asked = time.monotonic(), None
        self._asked_for, self._answered = {}, {}
        self._connection = connection
        self._notify_all(but=leader)
        self._is_whole = True

    def watch(
        self, listener: RedisListener, path: Path, channels: tuple[bytes, ...], publish: Callable[[bytes], object]
    ) -> RedisListener:
        """Let a listener be notified of changes, once the channels are subscribed. Raises what redis-py raises."""
        try:
            listener.channels = channels
            self._watchers.add(listener, path)
            self._wanted.update(dict.fromkeys(channels))
            ends, is_told = time.monotonic() + _LONGEST_SUBSCRIBING_SECS, False
            # They are answered in order, so most looks are at the last one only.
            while not (channels[-1] in self._answered and self._answered.keys() >= set(channels)):
                leader = self._leader()
                if leader is not None and leader.thread == threading.get_ident():
                    raise _interrupts_subscribing(self._where)
                if time.monotonic() >= ends:
                    raise exceptions.TimeoutError("the server does not answer on the connection of the subscription")
                if leader is not None and not is_told:
                    is_told = True
                    with suppress(RedictsError):  # this user may not publish; the leader looks every two seconds
                        publish(self._channel)
                self.wait(listener, _LONGEST_FOLLOW_SECS)
            for channel in channels:
                error = self._answered.get(channel)
                if error is not None:
                    self._answered.pop(channel, None)  # it may be allowed the next time
                    self._asked_for.pop(channel, None)
                    raise error
        except BaseException:
            self.leave(listener)
            raise
        return listener

    def is_subscribed_to(self, channels: tuple[bytes, ...]) -> bool:
        """Tell whether messages of these channels arrive."""
        answered = self._answered
        is_here = self._connection is not None and self._process == os.getpid()
        return is_here and all(channel in answered and answered[channel] is None for channel in channels)

    def _ask_for_channels(self, connection: AbstractConnection) -> None:
        """Subscribe to the channels of changes that are watched, one by one, and to no others.

        The server refuses all channels of a request if the user may not use one of them.
        """
        for channel in list(self._wanted):
            if channel not in self._asked_for:
                connection.send_command(*subscribing(channel))
                self._asked_for[channel] = None
        for channel in list(self._asked_for):
            if channel not in self._wanted and channel in self._answered:
                self._asked_for.pop(channel)
                if self._answered.pop(channel) is None:
                    connection.send_command(*subscribing(channel, begin=False))

    def _refuse(self, error: exceptions.ResponseError) -> None:
        """Take the server's refusal to subscribe to the channel that was asked for next."""
        for channel in list(self._asked_for):
            if channel not in self._answered:
                self._answered[channel] = error
                break
        self._watchers.notify_all()

    def _give_up_channels(self) -> None:
        """Want no channels any more but those of the listeners that are there."""
        wanted = self._wanted
        self._wanted = {}
        # Listeners that come meanwhile add theirs to the new ones.
        for listener in self._watchers.all():
            self._wanted.update(dict.fromkeys(listener.channels))
        if wanted and not self._wanted and self._leader() is None:
            self._disconnect_unread()

    def _disconnect_unread(self) -> None:
        """Close the connection, for nobody reads the messages that go on coming, unless a thread begins to read it."""
        connection, self._connection = self._connection, None
        if connection is not None and self._leader() is not None and self._connection is None:
            # It may have found the connection before. One that begins now finds none.
            self._connection = connection
        elif connection is not None:
            connection.disconnect()
            self._notify_all()

    def wait(self, listener: RedisListener, seconds: float) -> bool:
        """Return true when the listener is notified, or false after this many seconds."""
        if self._process != os.getpid():
            return pause(seconds)
        deadline = time.monotonic() + seconds
        left = max(0.0, seconds)
        try:
            try:
                self._begin_to_wait(listener)
                while not listener.notified:
                    leader = self._leader()
                    if leader is listener:
                        self._lead(listener, left)
                    elif leader is not None and leader.thread == listener.thread:
                        # This signal handler or finalizer has interrupted the leader, so nobody reads.
                        return pause(min(left, _SHORTEST_PAUSE_SECS))
                    else:
                        listener.pause(min(left, _LONGEST_FOLLOW_SECS))
                    left = deadline - time.monotonic()
                    if left <= 0 and not listener.notified:
                        return False
                listener.notified = False
                return True
            finally:
                self._stop_waiting(listener)
        finally:
            self._stop_waiting(listener)

    def _begin_to_wait(self, listener: RedisListener) -> None:
        listener.thread = threading.get_ident()
        me = id(listener)
        self._waiting[me] = ref(listener, partial(self._waiting.pop, me))

    def _leader(self) -> RedisListener | None:
        """Return the first listener that waits."""
        while True:
            try:
                first = next(iter(self._waiting.values()), None)
            except RuntimeError:  # another thread began or stopped waiting
                continue
            return None if first is None else first()

    def _lead(self, leader: RedisListener, seconds: float) -> None:
        """Dispatch messages until the leader is notified or the time is over. Connect first if necessary."""
        connection = self._connection
        if connection is None:
            try:
                self._connect(leader, max(seconds, _SHORTEST_PAUSE_SECS))
            except _FAILURES:
                notifications_interrupted(f"redis at {self._where}")
                pause(seconds)
            self._notify_all()
            return
        if not self._is_whole:
            # An exception ended the last leader within a message, or before all knew of the connection.
            self._disconnect()
            return
        deadline = time.monotonic() + seconds
        self._is_whole = False
        try:
            while not leader.notified and self._has_message(connection, deadline):
                try:
                    message = connection.read_response()
                except exceptions.ResponseError as error:
                    self._refuse(error)
                else:
                    self._dispatch(message)
                self._heard, self._asked = time.monotonic(), None
        except _FAILURES:
            if not self._ended:
                notifications_interrupted(f"redis at {self._where}")
            self._disconnect()
        else:
            self._is_whole = True

    def _has_message(self, connection: AbstractConnection, deadline: float) -> bool:
        """Wait for a message until the deadline. Raises ``TimeoutError`` if the server does not answer a question."""
        while True:
            if self._asked_for.keys() != self._wanted.keys():
                self._ask_for_channels(connection)
            now = time.monotonic()
            left = max(0.0, deadline - now)
            if self._answer_secs != math.inf:
                if self._asked is None and now >= self._heard + _SILENCE_SECS:
                    # Unlike PING, subscribing again needs no other permission, and it is answered.
                    connection.send_command("SUBSCRIBE", self._channel)
                    self._asked = now
                due = self._heard + _SILENCE_SECS if self._asked is None else self._asked + self._answer_secs
            else:
                due = math.inf
            if connection.can_read(max(0.0, min(left, due - now, _LONGEST_READ_SECS))):
                return True
            if self._asked is not None and now >= due:
                raise exceptions.TimeoutError("the server does not answer on the connection of the subscription")
            if now >= deadline:
                return False

    def _dispatch(self, message: object) -> None:
        """Notify the listener that a message names."""
        if not isinstance(message, list):
            return
        if message[0] == b"message" and message[1] == self._channel:
            found = self._listeners.get(message[2])
            listener = None if found is None else found()
            if listener is not None:
                listener.notify()
        elif message[0] in _CHANGED:
            self._watchers.notify((path_in(message[-1]),))
            if message[1] not in self._wanted or not self._watchers.listeners:
                self._give_up_channels()
        elif message[0] in _SUBSCRIBED and message[1] in self._asked_for:
            # What was written before it was subscribed is found by a look.
            self._answered[message[1]] = None
            self._watchers.notify_all()
        elif message[0] == b"sunsubscribe" and message[1] in self._asked_for:
            # The slot was moved to another node, or this one is a replica now.
            self._answered[message[1]] = exceptions.ResponseError("the slot of the channel was moved")
            self._watchers.notify_all()

    def _notify_all(self, but: RedisListener | None = None) -> None:
        for found in list(self._listeners.values()):
            listener = found()
            if listener is not None and listener is not but:
                listener.notify()

    def _stop_waiting(self, listener: RedisListener) -> None:
        """Let a listener wait and lead no longer, and a follower lead if nobody does."""
        self._waiting.pop(id(listener), None)
        # Also if it did not lead: it may be the one whose bell has just rung to make it the leader.
        leader = self._leader()
        if leader is not None:
            leader.wake()

    def leave(self, listener: RedisListener) -> None:
        """Forget a listener."""
        if self._process != os.getpid():
            return
        self._stop_waiting(listener)
        found = self._listeners.get(listener.number)
        if found is not None and found() is listener:
            self._listeners.pop(listener.number, None)
        if listener.channels:
            self._watchers.discard(listener)
            self._give_up_channels()
        self._close_if_over()

    def close_unused(self) -> None:
        """Close the connection if there are no listeners."""
        if not self._listeners and self._process == os.getpid():
            self._disconnect_unread()

    def end(self) -> None:
        """Close the connection as soon as there are no listeners."""
        if self._process == os.getpid():
            self._ended = True
            self._close_if_over()

    def interrupt(self) -> None:
        """Shut the connection down. Only the leader uses and closes it, and it finds that now."""
        connection = self._connection
        if connection is not None and self._process == os.getpid():
            with suppress(*_FAILURES):
                socket.socket.shutdown(socket_of(connection), socket.SHUT_RDWR)  # without a word of TLS

    def _close_if_over(self) -> None:
        if self._ended and not self._listeners:
            self._disconnect()

    def _disconnect(self) -> None:
        """Close the connection, and notify all listeners, for messages to them are lost with it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
        self._notify_all()


def channel_and_number(name: str) -> tuple[bytes, bytes]:
    """Return the client id in the name of a listener, which ends the name of its channel, and its number there.

    Raises ``ValueError`` if the name is not valid.
    """
    encoded = name.encode()
    if len(encoded) > _LONGEST_NAME or not _NAME.fullmatch(encoded):
        raise ValueError(
            f"the name of a listener must be client_id/number, up to {_LONGEST_NAME} ASCII characters; got {name!r}"
        )
    client_id, _, number = encoded.partition(b"/")
    return client_id, number


def path_in(message: bytes) -> Path:
    """Return the path in a message of a change: the root for one that is not of redicts."""
    try:
        return path_of(message)
    except ValueError:
        return ()


def _until(deadline: float | None, most: float) -> float:
    """Return the seconds until a deadline, at most so many."""
    return most if deadline is None else min(most, deadline - time.monotonic())


def _interrupts_subscribing(where: str) -> StoreBusy:
    return StoreBusy(
        f"redis at {where}: this signal handler or finalizer has interrupted the call that subscribes; try again later"
    )


def pause(seconds: float) -> bool:
    """Let a random time pass, at most this many seconds, and return true: the caller is to look."""
    pause = RANDOM.uniform(_SHORTEST_PAUSE_SECS, _LONGEST_PAUSE_SECS)
    time.sleep(max(0.0, min(pause, seconds)))
    return True
