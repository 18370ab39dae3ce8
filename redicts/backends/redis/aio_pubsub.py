"""Notifications by publish and subscribe for asyncio: all listeners of an event loop share one connection.

Messages may be lost with the connection. So each time it is lost or made again, every listener is notified, and looks.
A connection whose other end has vanished reports nothing. So while tasks listen, the server is asked for an answer when
nothing was heard for a while, and a connection without one is replaced.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any, Final
from weakref import WeakValueDictionary

from redis import exceptions

from redicts.backends.redis.aio_connection import Channel, connect
from redicts.backends.redis.connections import pause_secs
from redicts.backends.redis.errors import Errors, is_transient
from redicts.backends.redis.layout import Pattern, channels_of_changes, subscribing
from redicts.backends.redis.pubsub import channel_and_number, path_in
from redicts.backends.redis.wire import bulk_string
from redicts.core.async_backend import CallbackListener
from redicts.core.minitransaction import Path
from redicts.core.watchers import Watchers
from redicts.randomness import RANDOM
from redicts.reports import notifications_interrupted

_SILENCE_SECS: Final = 2.0
"""When nothing was heard for so long, the server is asked for an answer."""

_SHORTEST_PAUSE_SECS: Final = 0.2
_LONGEST_PAUSE_SECS: Final = 1.0


class AsyncRedisListener(CallbackListener):
    """A listener of one subscription."""

    __slots__ = ("_number", "_subscription", "channels")

    def __init__(self, subscription: Subscription, number: bytes) -> None:
        super().__init__(asyncio.get_running_loop())
        self._subscription = subscription
        self._number = number
        self.channels: tuple[bytes, ...] = ()
        """The channels of the changes that it listens to."""
        subscription.listeners[number] = self

    async def wait(self, seconds: float, /) -> bool:
        """Return true when notified, or false after this many seconds."""
        if not self._subscription.is_subscribed:
            await self._subscription.subscribe_again(seconds)
            return True
        return await super().wait(seconds)

    def close(self) -> None:
        """Stop listening."""
        self._subscription.leave(self._number)


class Subscription:
    """The channel of one event loop, and the connection that subscribes to it.

    ``make`` makes a connection of redis-py, ``channels`` begins the names of channels, and subscribing is tried again
    up to ``retries`` times. A connection that does not answer within ``answer_secs`` is replaced.
    """

    def __init__(self, make: Any, channels: bytes, errors: Errors, retries: int, answer_secs: float) -> None:
        self._make = make
        self._channels = channels
        self._errors = errors
        self._retries = retries
        self._answer_secs = answer_secs
        self._loop = asyncio.get_running_loop()
        self._channel = b""
        self._reader: _Messages | None = None
        self._subscribing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._has_ended = False
        """Whether the loop ends: a task that waits then must not subscribe again."""
        self.listeners: WeakValueDictionary[bytes, AsyncRedisListener] = WeakValueDictionary()
        self.watchers: Final = Watchers()
        """The listeners to changes, which are among the others too."""

    @property
    def is_subscribed(self) -> bool:
        """Whether messages arrive."""
        return self._reader is not None

    async def listen(self, name: str, deadline: float | None) -> AsyncRedisListener:
        """Return a new listener of this name, subscribed."""
        client_id, number = channel_and_number(name)
        self._channel = self._channels + client_id
        listener = AsyncRedisListener(self, number)
        try:
            await self._subscribe(math.inf if deadline is None else deadline - time.monotonic())
        except (exceptions.RedisError, OSError) as error:
            listener.close()
            raise self._errors.mapped(error) from error
        except BaseException:
            listener.close()
            raise
        self._watch()
        return listener

    async def listen_to_changes(self, name: str, path: Path, deadline: float | None) -> AsyncRedisListener:
        """Return a new listener to the changes at, above and below a path, subscribed."""
        listener = await self.listen(name, deadline)
        listener.channels = channels_of_changes(self._channels, path)
        self.watchers.add(listener, path)
        try:
            while not (self._reader is not None and await self._reader.subscribe_to(listener.channels)):
                await self._subscribe(math.inf if deadline is None else deadline - time.monotonic())
        except (exceptions.RedisError, OSError) as error:
            listener.close()
            raise self._errors.mapped(error) from error
        except BaseException:
            listener.close()
            raise
        return listener

    async def _subscribe(self, seconds: float) -> None:
        """Return when subscribed, or raise what prevents it. All tasks wait for one attempt."""
        while not self.is_subscribed:
            if self._has_ended:
                raise exceptions.ConnectionError("the event loop has ended")
            if self._subscribing is None:
                self._subscribing = self._loop.create_task(self._connect_and_retry())
                self._subscribing.add_done_callback(self._has_tried)
            task = self._subscribing
            done, _ = await asyncio.wait([task], timeout=None if seconds == math.inf else max(0.0, seconds))
            if not done:
                raise exceptions.TimeoutError("the deadline is over")
            task.result()

    def _has_tried(self, task: asyncio.Task[None]) -> None:
        self._subscribing = None
        if not task.cancelled():
            task.exception()  # each task that waits for it gets it

    async def subscribe_again(self, seconds: float) -> None:
        """Subscribe after the connection was lost, or let a random time pass, at most this many seconds."""
        try:
            await self._subscribe(max(seconds, _SHORTEST_PAUSE_SECS))
        except (exceptions.RedisError, OSError):
            pause = RANDOM.uniform(_SHORTEST_PAUSE_SECS, _LONGEST_PAUSE_SECS)
            await asyncio.sleep(max(0.0, min(pause, seconds)))

    async def _connect_and_retry(self) -> None:
        for attempt in range(self._retries + 1):
            await asyncio.sleep(pause_secs(attempt))
            try:
                await self._connect()
            except (exceptions.RedisError, OSError) as error:
                if attempt == self._retries or not is_transient(error):
                    raise
            else:
                return

    async def _connect(self) -> None:
        reader = _Messages(self)
        await connect(self._make, reader)
        try:
            await reader.subscribe(self._channel, None if self._answer_secs == math.inf else self._answer_secs)
        except BaseException:
            reader.close()
            raise
        if not reader.is_open:
            # It was lost after the answer, before this task went on, so nobody will be told.
            raise exceptions.ConnectionError("Connection closed by server.")
        self._reader = reader
        self._notify_all()
        self._watch()
        for listener in self.watchers.all():
            reader.ask_for(listener.channels)

    def _watch(self) -> None:
        """Ask for an answer when the server is silent, while tasks listen."""
        if self._timer is None and self.listeners and self._answer_secs != math.inf:
            self._timer = self._loop.call_later(_SILENCE_SECS, self._look)

    def _look(self) -> None:
        self._timer = None
        reader = self._reader
        if reader is None:
            return
        now = self._loop.time()
        if reader.asked_at is not None:
            if now >= reader.asked_at + self._answer_secs:
                reader.end(exceptions.TimeoutError("the server does not answer on the connection of the subscription"))
                return
        elif now >= reader.heard_at + _SILENCE_SECS:
            # Unlike PING, subscribing again needs no other permission, and it is answered.
            reader.ask(self._channel)
        self._watch()

    def dispatch(self, channel: bytes, message: bytes) -> bool:
        """Notify the listeners whom a message concerns, and return whether anyone listens on its channel."""
        if channel != self._channel:
            self.watchers.notify((path_in(message),))
            return any(channel in listener.channels for listener in self.watchers.all())
        listener = self.listeners.get(message)
        if listener is not None:
            listener.notify()
        return True

    def lost(self, reader: Channel) -> None:
        """Notify all listeners, because messages to them are lost with the connection."""
        if self._reader is reader:
            self._reader = None
            notifications_interrupted(f"redis at {self._errors.where}")
            self._notify_all()

    def _notify_all(self) -> None:
        for listener in list(self.listeners.values()):
            listener.notify()

    def leave(self, number: bytes) -> None:
        """Forget a listener."""
        listener = self.listeners.pop(number, None)
        if listener is not None:
            self.watchers.discard(listener)
        self._close_if_over()

    def close(self, at_once: bool) -> None:
        """Close the connection as soon as there are no listeners, or at once."""
        self._is_closed = True
        self._has_ended |= at_once
        if at_once and self._subscribing is not None:
            self._subscribing.cancel()
        self._close_if_over(at_once)

    def _close_if_over(self, at_once: bool = False) -> None:
        if at_once or (self._is_closed and not self.listeners):
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            reader, self._reader = self._reader, None
            if reader is not None:
                reader.close()


class _Messages(Channel):
    """The connection of a subscription."""

    def __init__(self, subscription: Subscription) -> None:
        super().__init__()
        self._subscription = subscription
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[None] = self._loop.create_future()
        self._channels: dict[bytes, asyncio.Future[None]] = {}
        """The channels of changes that were asked for, in order, with the answers."""
        self.heard_at = self._loop.time()
        self.asked_at: float | None = None

    async def subscribe_to(self, channels: tuple[bytes, ...]) -> bool:
        """Subscribe to channels of changes, and return true, or false if the connection is lost.

        Raises ``ResponseError`` if the server refuses one of them.
        """
        self.ask_for(channels)
        answers = [self._channels[channel] for channel in channels]
        await asyncio.wait(answers)
        for channel, answer in zip(channels, answers):
            if isinstance(answer.exception(), exceptions.ResponseError):
                self._channels.pop(channel, None)  # it may be allowed the next time
                answer.result()
        return all(answer.exception() is None for answer in answers)

    def ask_for(self, channels: tuple[bytes, ...]) -> None:
        """Send the requests to subscribe to channels, one by one, because the server refuses a request as a whole."""
        for channel in channels:
            if channel not in self._channels:
                self._channels[channel] = self._loop.create_future()
                self._send(*subscribing(channel))

    def _send(self, command: bytes, channel: bytes) -> None:
        self.write(b"*2\r\n" + bulk_string(command) + bulk_string(channel))

    def _settle(self, channel: bytes | None, error: Exception | None) -> None:
        """Take the answer to the request for a channel, or for the first one that has none."""
        for name, answer in self._channels.items():
            if not answer.done() and channel in (name, None):
                if error is None:
                    answer.set_result(None)
                else:
                    answer.set_exception(error)
                    answer.exception()  # it is raised where it is awaited
                return

    async def subscribe(self, channel: bytes, timeout: float | None) -> None:
        """Subscribe, and return when the server has answered."""
        self.ask(channel)
        done, _ = await asyncio.wait([self._answer], timeout=timeout)
        if not done:
            raise exceptions.TimeoutError("Timeout reading from server")
        self._answer.result()

    def ask(self, channel: bytes) -> None:
        """Send the request to subscribe, which is answered also if it was sent before."""
        self.asked_at = self._loop.time()
        self._send(*subscribing(channel))

    def received(self, reply: Any) -> None:
        """Take a message, or the answer to a subscription."""
        self.heard_at, self.asked_at = self._loop.time(), None
        if isinstance(reply, exceptions.ResponseError) and self._answer.done() and self._has_open_requests():
            self._settle(None, reply)
        elif isinstance(reply, Exception):
            self.end(reply)
        elif reply[0] in (b"message", b"pmessage"):
            if not self._subscription.dispatch(reply[1], reply[-1]):
                self._channels.pop(reply[1], None)
                channel = Pattern(reply[1]) if reply[0] == b"pmessage" else reply[1]
                self._send(*subscribing(channel, begin=False))
        elif reply[1] in self._channels and reply[0] in (b"subscribe", b"psubscribe"):
            self._settle(reply[1], None)
            # What was written before it was subscribed is found by a look.
            self._subscription.watchers.notify_all()
        elif not self._answer.done():
            self._answer.set_result(None)

    def _has_open_requests(self) -> bool:
        return not all(answer.done() for answer in self._channels.values())

    def lost(self, error: Exception) -> None:
        """Tell the subscription."""
        while self._has_open_requests():
            self._settle(None, exceptions.ConnectionError(str(error)))
        if not self._answer.done():
            self._answer.set_exception(error)
            self._answer.exception()  # it is raised where it is awaited
        self._subscription.lost(self)
