"""The backend ``fakeredis``: the Redis backend on a simulated server inside this process, for users' tests."""

from __future__ import annotations

import threading
from _thread import start_new_thread
from collections.abc import Callable
from functools import partial
from math import inf
from queue import Empty, SimpleQueue
from typing import Any, Final

import fakeredis

from redicts.backends.redis.backend import RedisBackend
from redicts.backends.redis.options import RedisOptions
from redicts.backends.redis.settings import RedisSettings
from redicts.core.backend import BackendPlugin
from redicts.core.hooks import hookimpl
from redicts.errors import StoreBusy
from redicts.forks import Bell, ResetInChild, WholeCopyLock

_IDLE_SECS: Final = 1.0
"""How long the thread of a simulated server waits for the next request before it exits."""

_serving: Final = threading.local()
"""In the thread of a simulated server, ``server`` is that server."""


class SimulatedServer(fakeredis.FakeServer, ResetInChild):
    """A simulated server that carries out requests in a thread of its own, as a server in another process does.

    No signal handler interrupts that thread, so each request is carried out whole, and in the order of arrival. A fork
    waits until none is under way.
    """

    def __init__(self) -> None:
        fakeredis.FakeServer.__init__(self)
        ResetInChild.__init__(self)
        self.lock = WholeCopyLock()  # type: ignore[assignment]  # a lock too; FakeServer holds it during each command
        self.reset_in_child()

    def reset_in_child(self) -> None:
        """Start without requests, without a thread, and without the parent's subscribers, whom nobody reads here."""
        self._requests: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._has_thread = threading.Lock()
        self.subscribers.clear()

    def call(self, request: Callable[[], Any]) -> Any:
        """Carry out a request, and return its result or raise its exception.

        Raises :class:`~redicts.errors.StoreBusy` if it interrupts a request, which would wait for this one.
        """
        if getattr(_serving, "server", None) is self or self.lock.is_mine():  # type: ignore[attr-defined]
            raise StoreBusy(
                "the simulated server: called by a signal handler or a finalizer that interrupted another request; do "
                "such work in another thread"
            )
        results: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self.send(partial(_answer, request, results))
        result, error = results.get()
        if error is not None:
            raise error
        return result

    def send(self, request: Callable[[], None]) -> None:
        """Carry out a request that raises nothing, without waiting for it."""
        self._requests.put(request)
        if not self._has_thread.locked():
            try:
                start_new_thread(self._serve, (_IDLE_SECS,))
            except RuntimeError:  # no thread can be started any more, for the interpreter ends
                self._serve(0)

    def _serve(self, idle: float) -> None:
        """Carry out requests until none has come for so many seconds, unless another thread does so."""
        _serving.server = self
        # The last check comes after the lock is free, so a request that found it locked is not left behind.
        while not self._requests.empty() and self._has_thread.acquire(blocking=False):
            try:
                while True:
                    self._requests.get(timeout=idle)()
            except Empty:
                pass
            finally:
                self._has_thread.release()
        _serving.server = None


def _answer(request: Callable[[], Any], results: SimpleQueue[tuple[Any, BaseException | None]]) -> None:
    try:
        results.put((request(), None))
    except BaseException as error:
        results.put((None, error))


class _Ready:
    """An event like that of a socket of fakeredis, without a lock that an exception or a second call may find held."""

    def __init__(self) -> None:
        self._bell: Final = Bell()
        self.set: Final = self._bell.ring

    def clear(self) -> None:
        self._bell.wait(0)

    def wait(self, timeout: float | None) -> bool:
        return self._bell.wait(inf if timeout is None else timeout)


class _Socket:
    """The client's end of a connection: the server uses the other end in its own thread."""

    def __init__(self, server: SimulatedServer, end: Any) -> None:
        self._server = server
        self._end = end
        end.responses, end.response_ready = SimpleQueue(), _Ready()

    def sendall(self, data: bytes) -> None:
        self._server.call(partial(self._end.sendall, data))

    def settimeout(self, seconds: float | None) -> None:
        """Do nothing: the server answers at once."""

    def shutdown(self, how: int) -> None:
        """Do nothing: the server may be using the other end."""

    def close(self) -> None:
        """Close the other end after the request under way."""
        self._server.send(self._close)

    def _close(self) -> None:
        self._end.close()
        # fakeredis keeps each channel of a connection that is closed.
        subscribers = self._server.subscribers
        for channel in [channel for channel, sockets in subscribers.items() if not sockets]:
            del subscribers[channel]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._end, name)


class _Connection(fakeredis.FakeRedisConnection):
    """A connection to a simulated server, which carries out its requests in the server's thread."""

    _server: SimulatedServer

    def _connect(self) -> Any:
        return _Socket(self._server, self._server.call(super()._connect))


class FakeRedisBackend(RedisBackend):
    """The Redis backend on a simulated server."""

    def __init__(self, settings: RedisOptions, database: int) -> None:
        options = {"connection_class": _Connection, "server": SimulatedServer(), "db": database, "protocol": 2}
        super().__init__(options, "the simulated server", settings, simulated=True)
        # A command of the client that blocks must not block the server.
        self._pool.connection_class = fakeredis.FakeRedisConnection


class FakeRedisSettings(RedisSettings):
    """The settings of the backend ``redis``. The server's address has no effect."""


def open_fake(settings: FakeRedisSettings, database: int) -> FakeRedisBackend:
    """Open one database of a new simulated server, which ends with the backend."""
    return FakeRedisBackend(settings.options(), database)


plugin: Final = BackendPlugin(
    "fakeredis", FakeRedisSettings, open_fake, contract=1, summary="a Redis server simulated in this process, for tests"
)


@hookimpl
def redicts_backends() -> list[BackendPlugin]:
    """Offer the backend ``fakeredis``."""
    return [plugin]
