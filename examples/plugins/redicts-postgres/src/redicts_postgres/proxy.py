"""A fault proxy between clients and a PostgreSQL server: it loses replies or holds requests, for the contract suite.

A request ends with the message Sync, and its reply with ReadyForQuery. So a fault hits exactly one request, and a lost
reply belongs to a request that the server has executed. Faults hit only requests that execute a prepared statement, and
none that set up a connection. Connections must not be encrypted.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Final

_TIMEOUT_SECS: Final = 20.0


class _HeldRequest:
    """A request that waits for its release, and then for the server's reply."""

    def __init__(self) -> None:
        self.released: Final = threading.Event()
        self.finished: Final = threading.Event()


class FaultyProxy:
    """Forwards from a loopback port to a server; :meth:`close` ends its threads and connections."""

    host: Final = "127.0.0.1"

    def __init__(self, host: str, port: int) -> None:
        self._server: Final = (host, port)
        self._lock: Final = threading.Lock()
        self._loses = 0
        self._holds = 0
        self._hit = 0
        self.loses_every = False
        """Whether the connection of each request is closed instead of replying."""
        self._held: list[_HeldRequest] = []
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._listening: Final = socket.create_server((self.host, 0))
        self.port: Final[int] = self._listening.getsockname()[1]
        self._begin(self._accept)

    @property
    def hit(self) -> int:
        """How many requests a fault has hit."""
        with self._lock:
            return self._hit

    def drop_reply(self) -> None:
        """Have the next request executed, and close its connection instead of replying."""
        with self._lock:
            self._loses += 1

    def hold_request(self) -> None:
        """Keep the next request from the server until :meth:`release`."""
        with self._lock:
            self._holds += 1

    def break_all(self) -> None:
        """Close all connections, which counts as one hit."""
        with self._lock:
            self._hit += 1
            sockets = list(self._sockets)
        for link in sockets:
            _end(link)

    def release(self) -> None:
        """Send the held requests to the server; return when it has answered them."""
        with self._lock:
            held, self._held = self._held, []
        for each in held:
            each.released.set()
        for each in held:
            if not each.finished.wait(_TIMEOUT_SECS):
                raise TimeoutError("the server did not answer a released request")

    def close(self) -> None:
        """End all connections and threads."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        with self._lock:
            held, self._held = self._held, []
            sockets = list(self._sockets)
        for each in held:
            each.released.set()
        for link in sockets:
            _end(link)
        for thread in self._threads:
            thread.join(_TIMEOUT_SECS)

    def _begin(self, work: object, *details: object) -> None:
        thread = threading.Thread(target=work, args=details, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._server)
            except OSError:
                if self._closed:
                    return
                client.close()
                continue
            for link in (client, server):
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets |= {client, server}
            self._begin(_Link(self, client, server).run)

    def _fault(self) -> tuple[bool, _HeldRequest | None]:
        """Decide whether the next request loses its reply, or is held."""
        with self._lock:
            if self._holds:
                self._holds -= 1
                self._hit += 1
                held = _HeldRequest()
                self._held.append(held)
                return False, held
            if self._loses or self.loses_every:
                self._loses = max(0, self._loses - 1)
                self._hit += 1
                return True, None
            return False, None

    def _forget(self, *links: socket.socket) -> None:
        with self._lock:
            self._sockets -= set(links)
        for link in links:
            _end(link)
            link.close()


class _Link:
    """One client's connection: one thread forwards whole requests, and another what the server sends."""

    def __init__(self, proxy: FaultyProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._replies = _Replies()

    def run(self) -> None:
        """Forward until one side ends."""
        answers = threading.Thread(target=self._forward_answers, daemon=True)
        try:
            self._forward_startup()
            answers.start()
            request, executes = b"", False
            while True:
                message = _read_message(self._client)
                request += message
                executes |= message[:1] == b"E"
                if message[:1] in b"SQXp":  # Sync, Query, Terminate and passwords end a request
                    self._send(request, executes)
                    request, executes = b"", False
        except (OSError, EOFError):
            pass
        finally:
            self._proxy._forget(self._client, self._server)
            if answers.ident is not None:
                answers.join(_TIMEOUT_SECS)

    def _forward_startup(self) -> None:
        length = _read(self._client, 4)  # this message has no type
        self._server.sendall(length + _read(self._client, struct.unpack("!I", length)[0] - 4))

    def _send(self, request: bytes, executes: bool) -> None:
        loses, held = self._proxy._fault() if executes else (False, None)
        if held is not None:
            held.released.wait()
        if loses or held is not None:
            self._replies.swallow()
        try:
            self._server.sendall(request)
            if loses or held is not None:
                self._replies.wait()
                raise EOFError
        finally:
            if held is not None:
                held.finished.set()

    def _forward_answers(self) -> None:
        try:
            while True:
                message = _read_message(self._server)
                if not self._replies.takes(message[:1]):
                    self._client.sendall(message)
        except (OSError, EOFError):
            self._replies.end()
            _end(self._client)


class _Replies:
    """Whether the server's messages are kept from the client, and when the reply has ended."""

    def __init__(self) -> None:
        self._swallowing = False
        self._over = threading.Event()

    def swallow(self) -> None:
        """Keep all further messages from the client."""
        self._swallowing = True

    def takes(self, kind: bytes) -> bool:
        """Tell whether a message is kept from the client, and record the end of a reply."""
        if self._swallowing and kind == b"Z":
            self._over.set()
        return self._swallowing

    def end(self) -> None:
        """Record that the connection has ended."""
        self._over.set()

    def wait(self) -> None:
        """Wait for the end of the reply."""
        self._over.wait(_TIMEOUT_SECS)


def _read_message(link: socket.socket) -> bytes:
    head = _read(link, 5)
    return head + _read(link, struct.unpack("!I", head[1:])[0] - 4)


def _read(link: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = link.recv(min(size - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def _end(link: socket.socket) -> None:
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
