"""A proxy between clients and a Redis server that loses replies, cuts them short, or holds requests back.

It knows where a request and a reply end, so a fault hits exactly one of them: a lost reply belongs to a request that
the server has executed, and a held request is executed when it is released, even if its client has long given up.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Final

from redicts.contract.acceptor import Acceptor, connected, shut

from . import ports
from .faults import PASS, SETUP_COMMANDS, Expected, Fault, Plan, Step
from .resp import Malformed, Message, StreamEnded, Value, read_message
from .waiting import TIMEOUT, eventually

if TYPE_CHECKING:
    from typing_extensions import Self

_STREAMING: Final = frozenset(
    {"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "MONITOR", "SYNC", "PSYNC"}
)
"""Answered by any number of messages, which the proxy forwards and takes for the reply of no request."""

_CONNECT_SECONDS: Final = 10.0


class FaultyProxy:
    """Forwards between clients and one server; ``with FaultyProxy(port) as proxy`` ends it and all its threads.

    Faults are a plan: each call adds to its end, and each *data* request, on whatever connection, takes the next
    entry. Commands that only set a connection up, and those that subscribe, are neither hit nor counted.

    ``port`` and ``host`` are the server's; ``setup`` names the commands that the faults pass by, in capitals:
    ``"PING"``, ``"SCRIPT LOAD"``.
    """

    host: Final = ports.LOOPBACK

    def __init__(self, port: int, host: str = ports.LOOPBACK, *, setup: frozenset[str] = SETUP_COMMANDS) -> None:
        self._target: Final = (host, port)
        self._plan: Final = Plan(setup)
        self._lock: Final = threading.Lock()
        self._links: Final[set[_Link]] = set()
        self._connections = 0
        self._socket = ports.bound_socket()
        self.port: Final[int] = self._socket.getsockname()[1]
        """The port that clients shall connect to."""
        self._door: Acceptor | None = None
        self.accept()

    @property
    def requests(self) -> int:
        """How many data requests clients have sent."""
        return self._plan.requests

    @property
    def connections(self) -> int:
        """How many connections clients have opened."""
        with self._lock:
            return self._connections

    @property
    def held(self) -> int:
        """How many requests are held back now."""
        return self._plan.held

    @property
    def pending(self) -> int:
        """How many planned faults (and passes) no request has taken yet."""
        return self._plan.pending

    def pass_requests(self, count: int = 1) -> None:
        """Let the next ``count`` data requests go by unharmed: what is planned afterwards hits those that follow."""
        self._plan.add(PASS, count)

    def drop_replies(self, count: int = 1) -> None:
        """Have the next ``count`` data requests executed, and close the client's connection instead of replying.

        A reply that says NOSCRIPT is passed on and the fault waits for the next request, because nothing was executed.
        """
        self._plan.add(Step(Fault.LOSE_REPLY), count)

    def cut_replies(self, count: int = 1, *, after: int) -> None:
        """As :meth:`drop_replies`, but the first ``after`` bytes of each reply reach the client before the end."""
        self._plan.add(Step(Fault.LOSE_REPLY, after), count)

    def hold_requests(self, count: int = 1) -> None:
        """Keep the next ``count`` data requests from the server until :meth:`release_held`.

        Further requests on the same connection wait behind them. The client may close its connection meanwhile.
        """
        self._plan.add(Step(Fault.HOLD), count)

    def wait_until_held(self, count: int = 1) -> None:
        """Wait until at least ``count`` requests are held back.

        Raises :class:`AssertionError` if that does not happen within :data:`TIMEOUT` seconds.
        """
        eventually(lambda: self.held >= count, f"{count} requests are held back")

    def release_held(self) -> None:
        """Send the held requests to the server, one after the other as they came; return when each is answered.

        A request of which the server had already closed the connection counts as answered.

        Raises :class:`AssertionError` if the server does not answer one within :data:`TIMEOUT` seconds.
        """
        for held in self._plan.let_go():
            held.released.set()
            assert held.finished.wait(TIMEOUT), "the server answers a released request"

    def clear(self) -> None:
        """Forget what is planned and no request has taken yet."""
        self._plan.clear()

    def refuse(self) -> None:
        """Refuse new connections, as a host without a server does; those that exist live on."""
        if self._door is not None:
            self._door.close()
            self._door = None
            # Bound but not listening: connections are refused, and nobody else can take the port.
            self._socket = ports.bound_socket(self.port)

    def accept(self) -> None:
        """Accept new connections again."""
        if self._door is None:
            self._socket.listen()
            self._door = Acceptor(self._socket, self._connect)

    def cut_all(self) -> None:
        """Close all connections of clients now; requests that were forwarded are executed, their replies are lost."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.cut()

    def close(self) -> None:
        """End everything; requests that are still held back are never executed."""
        if self._door is not None:
            self._door.close()
            self._door = None
        self._socket.close()
        with self._lock:
            links = list(self._links)
        for held in self._plan.let_go():
            held.abandoned = True
            held.released.set()
        for link in links:
            link.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FaultyProxy at {self.host}:{self.port} to {self._target[0]}:{self._target[1]}>"

    def _connect(self, client: socket.socket) -> None:
        with self._lock:
            self._connections += 1
        server = connected(client, self._target, _CONNECT_SECONDS)
        if server is None:
            return
        link = _Link(self._plan, client, server, self._forget)
        with self._lock:
            self._links.add(link)
        link.start()

    def _forget(self, link: _Link) -> None:
        with self._lock:
            self._links.discard(link)


class _Link:
    """One client's connection, with its own connection to the server: a thread for requests and one for replies."""

    def __init__(
        self, plan: Plan, client: socket.socket, server: socket.socket, ended: Callable[[_Link], None]
    ) -> None:
        self._plan: Final = plan
        self._client: Final = client
        self._server: Final = server
        self._ended: Final = ended
        self._expected: Final[deque[Expected]] = deque()  # filled by one thread, emptied by the other
        self._requester: Final = threading.Thread(target=self._forward_requests, name="proxy-requests", daemon=True)
        self._replier: Final = threading.Thread(target=self._forward_replies, name="proxy-replies", daemon=True)

    def start(self) -> None:
        """Start forwarding."""
        self._requester.start()
        self._replier.start()

    def cut(self) -> None:
        """Close the client's side."""
        shut(self._client, socket.SHUT_RDWR)

    def end(self) -> None:
        """Close both sides and wait for the threads."""
        self.cut()
        shut(self._server, socket.SHUT_RDWR)
        self._replier.join(TIMEOUT)
        assert not self._replier.is_alive(), "a forwarding thread ends"

    def _forward_requests(self) -> None:
        with self._client.makefile("rb") as stream, contextlib.suppress(OSError, StreamEnded, Malformed):
            while self._forward_request(stream):
                pass
        # The server reads what was sent before it sees the end, so everything that was forwarded is executed.
        shut(self._server, socket.SHUT_WR)

    def _forward_request(self, stream: BinaryIO) -> bool:
        """Forward one request; return false when no more shall follow."""
        message = read_message(stream)
        words = _first_words(message.value)
        if words[0] not in _STREAMING:
            expected = self._plan.take(words)
            if expected.held is not None:
                expected.held.released.wait()
                if expected.held.abandoned:
                    return False
            self._expected.append(expected)
        self._server.sendall(message.raw)
        return True

    def _forward_replies(self) -> None:
        with self._server.makefile("rb") as stream, contextlib.suppress(OSError, StreamEnded, Malformed):
            while True:
                self._forward_reply(read_message(stream))
        self.cut()
        self._requester.join()
        for expected in self._expected:
            if expected.held is not None:
                expected.held.finished.set()
        self._server.close()
        self._client.close()
        self._ended(self)

    def _forward_reply(self, reply: Message) -> None:
        """Forward one reply, or do to it what is planned."""
        if reply.is_push or not self._expected:
            self._send(reply.raw)
            return
        step, held = self._expected.popleft()
        executed = not (reply.is_error and reply.raw[1:].startswith(b"NOSCRIPT"))
        if step.fault is Fault.LOSE_REPLY and executed:
            self._send(reply.raw[: step.after])
            self.cut()
            return
        if step.fault is Fault.LOSE_REPLY:
            self._plan.give_back(step)
        self._send(reply.raw)
        if held is not None:
            held.finished.set()

    def _send(self, data: bytes) -> None:
        """Send to the client; if it is gone, later replies must be read all the same."""
        with contextlib.suppress(OSError):
            self._client.sendall(data)


def _first_words(value: Value) -> list[str]:
    """Return the first two words of a request, in capitals."""
    words = value if isinstance(value, list) else [value]
    return [word.decode(errors="replace").upper() for word in words[:2] if isinstance(word, bytes)] or [""]
