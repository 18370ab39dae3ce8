"""A proxy between clients and a PostgreSQL server that loses replies or holds requests back, for the contract suite.

It knows where a request ends (at the message Sync) and where its reply does (at ReadyForQuery), so a fault hits exactly
one request, and a lost reply belongs to one that the server has executed. Only requests that execute a prepared
statement count: others set a connection up. Connections must not be encrypted.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing_extensions import Self

_TIMEOUT_SECS: Final = 20.0


class _Held:
    """A request that waits for its release, and is then waited for until the server has answered it."""

    def __init__(self) -> None:
        self.released: Final = threading.Event()
        self.finished: Final = threading.Event()


class FaultyProxy:
    """Listens on a loopback port and forwards to a server; ``with`` ends it, its threads and its connections."""

    host: Final = "127.0.0.1"

    def __init__(self, host: str, port: int) -> None:
        self._server: Final = (host, port)
        self._lock: Final = threading.Lock()
        self._loses = 0
        self._holds = 0
        self._hit = 0
        self._held: list[_Held] = []
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

    @property
    def pending(self) -> int:
        """How many faults are planned that have hit nothing yet."""
        with self._lock:
            return self._loses + self._holds

    def drop_reply(self) -> None:
        """Let the next request be executed, and break its connection in place of the reply."""
        with self._lock:
            self._loses += 1

    def hold_request(self) -> None:
        """Keep the next request from the server until :meth:`release`."""
        with self._lock:
            self._holds += 1

    def release(self) -> None:
        """Let the held requests reach the server, and return when it has answered them."""
        with self._lock:
            held, self._held = self._held, []
        for each in held:
            each.released.set()
        for each in held:
            if not each.finished.wait(_TIMEOUT_SECS):
                raise TimeoutError("the server did not answer a request that had been held")

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

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
            self._begin(_Session(self, client, server).run)

    def _fault(self) -> tuple[bool, _Held | None]:
        """Decide whether the next request shall lose its reply, or be held."""
        with self._lock:
            if self._holds:
                self._holds -= 1
                self._hit += 1
                held = _Held()
                self._held.append(held)
                return False, held
            if self._loses:
                self._loses -= 1
                self._hit += 1
                return True, None
            return False, None

    def _forget(self, *links: socket.socket) -> None:
        with self._lock:
            self._sockets -= set(links)
        for link in links:
            _end(link)
            link.close()


class _Session:
    """One client's connection: it forwards whole requests, and beside them what the server sends."""

    def __init__(self, proxy: FaultyProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._replies = _Replies()

    def run(self) -> None:
        """Forward until one of the sides ends."""
        answers = threading.Thread(target=self._forward_answers, daemon=True)
        try:
            self._forward_equals(4)  # the startup message has a length and no type
            answers.start()
            request, executes = b"", False
            while True:
                head = _read(self._client, 5)
                request += head + _read(self._client, struct.unpack("!I", head[1:])[0] - 4)
                executes |= head[:1] == b"E"
                if head[:1] in b"SQXp":  # Sync, Query, Terminate and passwords are sent at once
                    self._send(request, executes)
                    request, executes = b"", False
        except (OSError, EOFError):
            pass
        finally:
            self._proxy._forget(self._client, self._server)
            if answers.ident is not None:
                answers.join(_TIMEOUT_SECS)

    def _forward_equals(self, size_of_length: int) -> None:
        length = _read(self._client, size_of_length)
        self._server.sendall(length + _read(self._client, struct.unpack("!I", length)[0] - size_of_length))

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
                head = _read(self._server, 5)
                message = head + _read(self._server, struct.unpack("!I", head[1:])[0] - 4)
                if not self._replies.takes(head[:1]):
                    self._client.sendall(message)
        except (OSError, EOFError):
            self._replies.end()
            _end(self._client)


class _Replies:
    """Whether what the server sends is kept from the client, and until when."""

    def __init__(self) -> None:
        self._swallowing = False
        self._over = threading.Event()

    def swallow(self) -> None:
        """Keep everything from the client from now on."""
        self._swallowing = True

    def takes(self, kind: bytes) -> bool:
        """Tell whether a message is kept from the client; note the end of a reply."""
        if self._swallowing and kind == b"Z":
            self._over.set()
        return self._swallowing

    def end(self) -> None:
        """Note that nothing more will come."""
        self._over.set()

    def wait(self) -> None:
        """Wait for the end of the reply."""
        self._over.wait(_TIMEOUT_SECS)


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
