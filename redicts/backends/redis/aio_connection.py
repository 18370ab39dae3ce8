"""One connection of an event loop to the server: requests of several tasks, answered in their order.

redis-py connects and authenticates. Then its streams are not used, because they take longer than the server does. The
reply to a task that was cancelled is read when it comes, and dropped.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import redis
import redis.asyncio
from redis import exceptions
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from redicts.backends.redis.errors import unencodable
from redicts.backends.redis.reader import INCOMPLETE, new_reader

_CLASSES: Final = (
    (redis.SSLConnection, redis.asyncio.SSLConnection),
    (redis.UnixDomainSocketConnection, redis.asyncio.UnixDomainSocketConnection),
    (redis.Connection, redis.asyncio.Connection),
)
"""The blocking connections of redis-py, and those for asyncio."""


def connection_maker(options: dict[str, Any]) -> Callable[[], AbstractConnection] | None:
    """Return what makes connections of redis-py for asyncio by the options of blocking ones; ``None`` if none can."""
    blocking = options["connection_class"]
    classes: Sequence[tuple[type, type[AbstractConnection]]] = _CLASSES
    if "connection_pool" in options:
        from redicts.backends.redis import sentinel_aio  # noqa: PLC0415  (it is seldom used)

        classes = sentinel_aio.CLASSES
    kind = next((other for each, other in classes if blocking is each), None)
    if kind is None:
        return None
    arguments = {name: value for name, value in options.items() if name != "connection_class"}
    known = {name for base in kind.__mro__[:-1] for name in inspect.signature(base).parameters}
    if not arguments.keys() <= known:
        return None
    arguments["retry"] = Retry(NoBackoff(), 0)

    def make() -> AbstractConnection:  # not a partial, whose repr shows the password
        return kind(**arguments)

    return make


async def connect(make: Callable[[], AbstractConnection], protocol: Channel) -> None:
    """Connect, authenticate and choose the database, and let a protocol read the replies from then on."""
    connection: Any = make()
    try:
        await connection.connect()
    except UnicodeError as error:
        _discard(connection)
        raise unencodable(error) from None
    except BaseException:
        _discard(connection)
        raise
    transport = connection._writer.transport
    if transport.is_closing() or connection._reader.at_eof():
        # The protocol of the streams has been told already, and nobody else will be.
        _discard(connection)
        raise exceptions.ConnectionError("Connection closed by server.")
    protocol.begin(transport, connection)
    transport.set_protocol(protocol)


def _discard(connection: Any) -> None:
    """Close a connection of redis-py that is not used, at once."""
    writer = connection._writer
    # redis-py must not complain that it is not closed.
    connection._writer = connection._reader = None
    if writer is not None:
        with suppress(RuntimeError):  # the loop is closed
            writer.transport.abort()


class Channel(asyncio.Protocol):
    """A connection that is used through a protocol of ours. ``received`` is called for each reply."""

    def __init__(self) -> None:
        self._reader: Any = new_reader()
        self._transport: Any = None
        self._connection: Any = None
        self.is_open = False

    def begin(self, transport: asyncio.BaseTransport, connection: Any) -> None:
        """Use a transport, which the connection of redis-py has made."""
        self._transport, self._connection = transport, connection
        self.is_open = True

    def received(self, reply: Any) -> None:
        """Take a reply."""
        raise NotImplementedError

    def lost(self, error: Exception) -> None:
        """Take the end of the connection."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Take the replies that are complete."""
        reader = self._reader
        try:
            reader.feed(data)
            while True:
                reply = reader.gets()
                if reply is INCOMPLETE:
                    return
                self.received(reply)
        except Exception as error:  # what answers does not speak the protocol of Redis
            self.end(error if isinstance(error, exceptions.RedisError) else exceptions.InvalidResponse(str(error)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection."""
        self.end(exceptions.ConnectionError("Connection closed by server." if exc is None else str(exc)))

    def end(self, error: Exception) -> None:
        """Close the connection, because of an error."""
        if self.is_open:
            self.is_open = False
            self.close()
            self.lost(error)

    def close(self) -> None:
        """Close the transport."""
        self.is_open = False
        _discard(self._connection)


class Packet:
    """Several commands in one request, whose replies are one result. It waits as often as it has commands."""

    __slots__ = ("count", "future", "replies")

    def __init__(self, future: asyncio.Future[Any], count: int) -> None:
        self.future: Final = future
        self.count: Final = count
        self.replies: Final[list[Any]] = []

    def received(self, reply: Any) -> None:
        """Take the reply to one command."""
        replies = self.replies
        replies.append(reply)
        if len(replies) == self.count:
            settle(self.future, next((each for each in replies if isinstance(each, Exception)), replies))


class Pipe(Channel):
    """A connection for requests.

    ``timeout`` is how many seconds the server has to answer one. ``on_end`` is called when the connection ends.
    """

    def __init__(self, timeout: float | None, on_end: Callable[[Pipe], object]) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._on_end = on_end
        self._pending: deque[asyncio.Future[Any] | Packet] = deque()
        self._sent_at: deque[float] = deque()
        self._unsent: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_ending = False

    def count(self) -> int:
        """Return how many commands have no reply yet."""
        return len(self._pending)

    @property
    def waits_since(self) -> float:
        """The time of the loop when the first request was sent that has no reply; the end of time if there is none."""
        return self._sent_at[0] if self._sent_at else math.inf

    def send(self, command: bytes, count: int = 1, packet: Packet | None = None) -> asyncio.Future[Any]:
        """Send a request, and return the future of its reply. Requests of one turn of the loop are sent together.

        A packet of ``count`` commands has a list of their replies, or the first error among them. ``packet`` may take
        them in another way. Raises ``ConnectionError`` if the connection has ended.
        """
        if not self.is_open:
            raise exceptions.ConnectionError("Connection closed by server.")
        future = self._loop.create_future()
        pending = self._pending
        is_first = not pending
        now = self._loop.time()
        if count == 1:
            pending.append(future)
            self._sent_at.append(now)
        else:
            pending.extend([packet or Packet(future, count)] * count)
            self._sent_at.extend([now] * count)
        if self._timer is None and self._timeout is not None:
            self._timer = self._loop.call_at(now + self._timeout, self._look)
        if self._unsent:
            self._unsent.append(command)
        elif is_first:
            self._transport.write(command)
        else:
            self._unsent.append(command)
            self._loop.call_soon(self._flush)
        return future

    def received(self, reply: Any) -> None:
        """Give a reply to the first request that has none."""
        if not self._pending:
            self.end(exceptions.InvalidResponse("a reply to no request"))
            return
        waiting = self._pending.popleft()
        self._sent_at.popleft()
        if isinstance(waiting, Packet):
            waiting.received(reply)
        else:
            settle(waiting, reply)
        if self._is_ending and not self._pending:
            self.end(exceptions.ConnectionError("closed"))

    def lost(self, error: Exception) -> None:
        """Let the requests fail that have no reply."""
        if self._timer is not None:
            self._timer.cancel()
        pending = list(self._pending)
        self._pending.clear()
        for waiting in pending:
            settle(waiting.future if isinstance(waiting, Packet) else waiting, _copied(error))
        self._on_end(self)

    def finish(self, at_once: bool) -> None:
        """Close the connection when the requests under way have their replies, or at once."""
        self._is_ending = True
        if at_once or not self._pending:
            self.end(exceptions.ConnectionError("closed"))

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self.is_open:
            self._transport.write(b"".join(unsent))

    def _look(self) -> None:
        """Close the connection if the server has not answered the first request in time."""
        self._timer = None
        assert self._timeout is not None
        if self._sent_at:
            due = self._sent_at[0] + self._timeout
            if due <= self._loop.time():
                self.end(exceptions.TimeoutError("Timeout reading from server"))
            else:
                self._timer = self._loop.call_at(due, self._look)


def settle(future: asyncio.Future[Any], reply: Any) -> None:
    """Give a request its reply, unless its task was cancelled."""
    if future.done():
        return
    if isinstance(reply, Exception):
        future.set_exception(reply)
    else:
        future.set_result(reply)


def _copied(error: Exception) -> Exception:
    """Return an error of its own for one request: a raised error collects a traceback."""
    return type(error)(*error.args)
