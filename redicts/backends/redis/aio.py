"""The Redis backend for asyncio: the same wire protocol and sessions, on connections that tasks share.

Requests of many tasks are under way on one connection at once, and are answered in their order. So a thousand tasks
need few connections, and none waits for a free one. A further connection, up to ``max_connections``, is opened for long
requests, and when the server takes long to answer on the others.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from redis import exceptions

from redicts.backends.redis.aio_connection import Pipe, connect
from redicts.backends.redis.aio_pubsub import Subscription
from redicts.backends.redis.attempts import Attempts, Failed, Next
from redicts.backends.redis.connections import Session, pause_secs
from redicts.backends.redis.documents import in_fields
from redicts.backends.redis.errors import Errors, is_answer, is_lost
from redicts.backends.redis.functions import LOAD, Functions
from redicts.backends.redis.options import RedisOptions
from redicts.backends.redis.plain_reads import PlainReads
from redicts.backends.redis.wire import UNFINISHED, Encoder, decode
from redicts.core.async_backend import AsyncBackend, AsyncListener
from redicts.core.minitransaction import Key, Outcome, Path, PutDocument, Status, Transaction
from redicts.errors import RedictsError, StoreError

_BUSY_SECS: Final = 0.25
"""A connection whose first request has had no reply for so long is busy."""

_LONG: Final = 1 << 16
"""From so many bytes on, a request is sent where it holds up no other one."""

_SLACK_SECS: Final = 0.2
"""How much later than its deadline a request may end. It saves a timer for most of them."""

_LARGE: Final = 1 << 20
"""From so many bytes on, a request that breaks its connection is refused for its size, most likely."""


class Connections:
    """The connections of one event loop to one database of a server."""

    def __init__(self, make: Any, errors: Errors, settings: RedisOptions, socket_timeout: float | None) -> None:
        self._make = make
        self._errors = errors
        self._most = settings.max_connections
        self._retries = settings.retries
        self._timeout = socket_timeout
        self._loop = asyncio.get_running_loop()
        self._pipes: list[Pipe] = []
        self._opening: asyncio.Task[Pipe] | None = None
        self._is_closed = False
        self._functions = Functions()
        self._has_ended = False
        """Whether the loop ends: a request that fails then must not open a connection again."""

    async def call(self, command: bytes, writes: bool, deadline: float | None, count: int = 1) -> Any:
        """Send an encoded command and return its reply. Send it again if the connection is lost meanwhile.

        A packet of ``count`` commands has a list of so many replies. Raises an error below
        :class:`~redicts.errors.StoreError`, whose ``maybe_applied`` is true for a command that writes only. Cost: one
        round trip.
        """
        attempts = Attempts(self._retries, self._errors)
        while True:
            try:
                reply = await self._exchange(self._functions.form(command, attempts.with_source), deadline, count)
            except Failed as failed:
                following = attempts.after(failed, self._functions)
                if following is Next.SEND:
                    continue
                if following is Next.LOAD:
                    await self._load_functions(deadline)
                    continue
                error = failed.error
                is_late = deadline is not None and time.monotonic() >= deadline
                if following is Next.GIVE_UP or is_late:
                    maybe_applied = writes and attempts.maybe_applied
                    raise self._errors.mapped(error, maybe_applied=maybe_applied) from error
                await asyncio.sleep(pause_secs(attempts.count, deadline))
            else:
                attempts.succeeded()
                return reply

    async def _load_functions(self, deadline: float | None) -> None:
        """Load the library of functions, or find out that this server or user has none from now on."""
        try:
            await self._exchange(LOAD, deadline, 1)
        except Failed as failed:
            self._functions.load_failed(failed.error)  # if it is no answer, the request finds out what is wrong

    async def _exchange(self, command: bytes, deadline: float | None, count: int) -> Any:
        """Send a command or packet once and return its reply or replies. Raises :class:`Failed`."""
        sent = False
        pipe = timer = None
        try:
            left = math.inf if deadline is None else deadline - time.monotonic()
            if self._has_ended:
                raise exceptions.ConnectionError("the event loop has ended")
            if left <= 0:
                raise exceptions.TimeoutError("the deadline is over")
            pipe = self._free(command)
            if pipe is None:
                pipe = await self._first(left)
            future = pipe.send(command, count)
            sent = True
            if left < (math.inf if self._timeout is None else self._timeout - _SLACK_SECS):
                timer = self._loop.call_later(left, _time_out, future)
            return await future
        except (exceptions.RedisError, OSError) as error:
            if pipe is not None and is_answer(error) and is_lost(error):
                pipe.end(exceptions.ConnectionError("the server ended the connection after an error"))
            refused = sent and len(command) >= _LARGE
            raise Failed(error, sent=sent, is_worth_repeating=not refused) from error
        finally:
            if timer is not None:
                timer.cancel()

    def _free(self, command: bytes) -> Pipe | None:
        """Return the connection for a request: the first one, so that requests stay in order, unless that is busy.

        If all are busy, it is the one with the fewest requests, and another one is opened.
        """
        pipes = self._pipes
        if not pipes:
            return None
        if len(command) < _LONG:
            since = self._loop.time() - _BUSY_SECS
            for pipe in pipes:
                if pipe.waits_since > since:
                    return pipe
        best = min(reversed(pipes), key=Pipe.count)
        if best.count() and len(pipes) < self._most and self._opening is None:
            self._open()
        return best

    async def _first(self, left: float) -> Pipe:
        """Return a connection when there is one, or raise what prevents it."""
        opening = self._opening or self._open()
        done, _ = await asyncio.wait([opening], timeout=None if left == math.inf else left)
        if not done:
            raise exceptions.TimeoutError("Timeout connecting to server")
        return opening.result()

    def _open(self) -> asyncio.Task[Pipe]:
        self._opening = task = self._loop.create_task(self._connect())
        task.add_done_callback(self._opened)
        return task

    def _opened(self, task: asyncio.Task[Pipe]) -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()  # each task that waits for the connection gets it

    async def _connect(self) -> Pipe:
        pipe = self._new_pipe()
        await connect(self._make, pipe)
        self._pipes.append(pipe)
        if self._is_closed:
            self._loop.call_soon(pipe.finish, False)
        return pipe

    def _new_pipe(self) -> Pipe:
        return Pipe(self._timeout, self._forget)

    def _forget(self, pipe: Pipe) -> None:
        with suppress(ValueError):
            self._pipes.remove(pipe)

    def close(self, at_once: bool) -> None:
        """Close each connection when its requests have their replies, or at once."""
        self._is_closed = True
        self._has_ended |= at_once
        if at_once and self._opening is not None:
            self._opening.cancel()
        for pipe in list(self._pipes):
            pipe.finish(at_once)


class AsyncRedisBackend(AsyncBackend):
    """One database of a server, for the tasks of one event loop."""

    def __init__(
        self,
        make: Any,
        encoder: Encoder,
        plain_reads: PlainReads,
        channels: bytes,
        errors: Errors,
        settings: RedisOptions,
        timeouts: tuple[float | None, float],
        address: Mapping[str, str | int],
        writing: type[Connections] | None = None,
    ) -> None:
        socket_timeout, answer_secs = timeouts
        self._address = address
        self._encoder = encoder
        self._plain_reads = plain_reads
        self._errors = errors
        self._connections = self._writing = Connections(make, errors, settings, socket_timeout)
        if writing is not None:
            self._writing = writing(make, errors, settings, socket_timeout)
        self._subscription = Subscription(make, channels, errors, settings.retries, answer_secs)
        self._idle: list[Session] = []
        self._doubtful: list[Session] = []
        """The sessions with a request that has no reply, because its connection was lost or its task cancelled."""
        self._settling: asyncio.Task[None] | None = None

    @property
    def address(self) -> Mapping[str, str | int]:
        """That of the blocking backend."""
        return self._address

    async def execute(self, transaction: Transaction, deadline: float | None = None, /) -> Outcome:
        """Decide and apply one minitransaction in one call of the script, or give up at the deadline."""
        writes = transaction.writes
        if self._encoder.is_too_large(transaction):
            return Outcome(Status.TOO_LARGE)
        if not writes:
            packet = self._plain_reads.packet(transaction)
            if packet is not None:
                found = await self._connections.call(packet.encoded, False, deadline, packet.amount)
                told = self._plain_reads.outcome(transaction, packet, found)
                if told is not None:
                    return told
            outcome = decode(await self._call(transaction, b"", 0, deadline), transaction)
            self._plain_reads.learn(transaction, outcome)
            return outcome
        if self._doubtful:
            await self._settle(deadline)
        session = self._idle.pop() if self._idle else Session()
        session.number += 1
        keep = self._doubtful
        try:
            prepared, origins = in_fields(transaction) if PutDocument in map(type, writes) else (transaction, ())
            reply = await self._call(prepared, session.name, session.number, deadline)
            keep = self._idle
        except RedictsError as error:
            if not (isinstance(error, StoreError) and error.maybe_applied):
                keep = self._idle
            raise
        finally:
            keep.append(session)
        return decode(reply, prepared, origins)

    async def fetch(self, key: Key, document: bool, /) -> bytes | None:  # noqa: ARG002  (a document is no leaf)
        """Return a leaf as the blocking backend does."""
        command = self._plain_reads.leaf(key)
        if command is None:
            return None
        return self._plain_reads.found(key, await self._connections.call(command, False, None))

    async def _call(self, transaction: Transaction, session: bytes, number: int, deadline: float | None) -> Any:
        """Call the script until it has carried out a transaction, and do in between what it says is to be done."""
        command = self._encoder.encode(transaction, session, number)
        connections = self._writing if session else self._connections
        reply = await connections.call(command, bool(session), deadline)
        while reply[0] in UNFINISHED:
            before = self._encoder.encode_before(reply, transaction)
            if before is not None:
                await connections.call(before, False, deadline)
            reply = await connections.call(command, bool(session), deadline)
        return reply

    async def _settle(self, deadline: float | None) -> None:
        """Overtake the late requests, so that the server refuses those that it has not carried out yet.

        Otherwise one of them could be applied after the write that is to follow.
        """
        settling = self._settling
        if settling is None or settling.done():
            settling = self._settling = asyncio.get_running_loop().create_task(self._overtake())
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        done, _ = await asyncio.wait([settling], timeout=left)
        if not done:
            raise self._errors.mapped(exceptions.TimeoutError("the deadline is over"))
        settling.result()

    async def _overtake(self) -> None:
        doubtful = list(self._doubtful)
        await asyncio.gather(*map(self._overtake_one, doubtful))

    async def _overtake_one(self, session: Session) -> None:
        session.number += 1
        command = self._encoder.encode(Transaction(), session.name, session.number)
        await self._connections.call(command, False, None)
        self._doubtful.remove(session)
        self._idle.append(session)

    async def listen(self, name: str, deadline: float | None = None, /) -> AsyncListener:
        """Listen over the one connection that this loop subscribes with, or give up at the deadline."""
        return await self._subscription.listen(name, deadline)

    async def listen_to_changes(self, name: str, path: Path, /) -> AsyncListener:
        """Listen over the one connection that this loop subscribes with."""
        return await self._subscription.listen_to_changes(name, path, None)

    def close(self, at_once: bool, /) -> None:
        """Close connections when their requests are over, and the subscription when the last listener is closed."""
        self._connections.close(at_once)
        if self._writing is not self._connections:
            self._writing.close(at_once)
        self._subscription.close(at_once)


def _time_out(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(exceptions.TimeoutError("Timeout reading from server"))
