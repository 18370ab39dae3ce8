"""A fault proxy between clients and a Redis server: it loses replies, cuts them short, or holds requests.

It knows where a request and a reply end, so a fault hits exactly one of them. A lost reply belongs to a request that
the server has executed, and a held request is executed when it is released, even if its client has given up.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Final

from redicts.contract.acceptor import Acceptor, connected, shut

from . import ports
from .faults import SETUP_COMMANDS, Expected, Fault, Plan
from .resp import Malformed, Message, StreamEnded, Value, read_message
from .waiting import TIMEOUT

if TYPE_CHECKING:
    from typing_extensions import Self

_STREAMING: Final = frozenset(
    {"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "MONITOR", "SYNC", "PSYNC"}
)
"""Any number of messages answers these. The proxy forwards them, and none of them counts as a reply."""

_NOT_EXECUTED: Final = re.compile(rb"-NOSCRIPT|-ERR (Function not found|unknown command)")
"""The beginnings of errors which say that a request was not executed, because the server does not know it yet."""

_CONNECT_SECONDS: Final = 10.0


class FaultyProxy(Plan):
    """Forwards between clients and one server, and carries out a plan of faults; ``with`` ends it and its threads.

    ``port`` and ``host`` are the server's; ``setup`` names the commands that faults ignore.
    """

    host: Final = ports.LOOPBACK

    def __init__(self, port: int, host: str = ports.LOOPBACK, *, setup: frozenset[str] = SETUP_COMMANDS) -> None:
        super().__init__(setup)
        self._target: Final = (host, port)
        self._lock: Final = threading.Lock()
        self._links: Final[set[_Link]] = set()
        self._connections = 0
        self._socket = ports.bound_socket()
        self.port: Final[int] = self._socket.getsockname()[1]
        """The port that clients connect to."""
        self._acceptor: Acceptor | None = None
        self.accept()

    @property
    def connections(self) -> int:
        """How many connections clients have opened."""
        with self._lock:
            return self._connections

    def refuse(self) -> None:
        """Refuse new connections, as a host without a server does. Existing connections stay."""
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
            # Bound but not listening: connections are refused, and no other process can take the port.
            self._socket = ports.bound_socket(self.port)

    def accept(self) -> None:
        """Accept new connections again."""
        if self._acceptor is None:
            self._socket.listen()
            self._acceptor = Acceptor(self._socket, self._connect)

    def cut_all(self) -> None:
        """Close all connections of clients. Forwarded requests are executed, their replies are lost."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.cut()

    def close(self) -> None:
        """End all connections and threads. Requests that are still held are never executed."""
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
        self._socket.close()
        with self._lock:
            links = list(self._links)
        self.abandon_held()
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
        link = _Link(self, client, server, self._forget)
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
        # The server reads the forwarded requests before it sees the end, so it executes all of them.
        shut(self._server, socket.SHUT_WR)

    def _forward_request(self, stream: BinaryIO) -> bool:
        """Forward one request; return false at the end."""
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
        """Forward one reply, or carry out the fault that is planned for it."""
        if reply.is_push or not self._expected:
            self._send(reply.raw)
            return
        step, held = self._expected.popleft()
        executed = not (reply.is_error and _NOT_EXECUTED.match(reply.raw))
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
        """Send to the client. If it is gone, later replies must still be read."""
        with contextlib.suppress(OSError):
            self._client.sendall(data)


def _first_words(value: Value) -> list[str]:
    """Return the first two words of a request, in capitals."""
    words = value if isinstance(value, list) else [value]
    return [word.decode(errors="replace").upper() for word in words[:2] if isinstance(word, bytes)] or [""]
