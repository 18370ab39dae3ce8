"""Notifications by publish and subscribe for asyncio: all listeners of an event loop share one connection.

Messages may be lost with the connection. So each time it is lost or made again, every listener is notified, and looks.
A connection whose other end has vanished reports nothing. So while tasks listen, the server is asked for an answer when
nothing was heard for a while, and a connection without one is replaced.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import Any, Final
from weakref import WeakValueDictionary

from redis import exceptions

from redicts.backends.redis.aio_connection import Channel, connect
from redicts.backends.redis.connections import pause_secs
from redicts.backends.redis.errors import Errors, is_transient
from redicts.backends.redis.pubsub import channel_and_number
from redicts.backends.redis.wire import bulk_string
from redicts.core.async_backend import CallbackListener

_SILENCE_SECS: Final = 2.0
"""When nothing was heard for so long, the server is asked for an answer."""

_SHORTEST_PAUSE_SECS: Final = 0.2
_LONGEST_PAUSE_SECS: Final = 1.0


class AsyncRedisListener(CallbackListener):
    """A listener of one subscription."""

    __slots__ = ("_number", "_subscription")

    def __init__(self, subscription: Subscription, number: bytes) -> None:
        super().__init__(asyncio.get_running_loop())
        self._subscription = subscription
        self._number = number
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
            pause = random.uniform(_SHORTEST_PAUSE_SECS, _LONGEST_PAUSE_SECS)  # noqa: S311  (it keeps rivals apart)
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
        self._reader = reader
        self._notify_all()
        self._watch()

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

    def dispatch(self, number: bytes) -> None:
        """Notify the listener that a message names."""
        listener = self.listeners.get(number)
        if listener is not None:
            listener.notify()

    def lost(self, reader: Channel) -> None:
        """Notify all listeners, because messages to them are lost with the connection."""
        if self._reader is reader:
            self._reader = None
            self._notify_all()

    def _notify_all(self) -> None:
        for listener in list(self.listeners.values()):
            listener.notify()

    def leave(self, number: bytes) -> None:
        """Forget a listener."""
        self.listeners.pop(number, None)
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
        self.heard_at = self._loop.time()
        self.asked_at: float | None = None

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
        self.write(b"*2\r\n" + bulk_string(b"SUBSCRIBE") + bulk_string(channel))

    def received(self, reply: Any) -> None:
        """Take a message, or the answer to a subscription."""
        self.heard_at, self.asked_at = self._loop.time(), None
        if isinstance(reply, Exception):
            self.end(reply)
        elif reply[0] == b"message":
            self._subscription.dispatch(reply[2])
        elif not self._answer.done():
            self._answer.set_result(None)

    def lost(self, error: Exception) -> None:
        """Tell the subscription."""
        if not self._answer.done():
            self._answer.set_exception(error)
            self._answer.exception()  # it is raised where it is awaited
        self._subscription.lost(self)
