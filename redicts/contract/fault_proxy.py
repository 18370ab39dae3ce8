"""A TCP proxy that loses a reply or delays a request, for any protocol of requests and replies.

An *exchange* begins when the client sends and ends when the server answers. A request that needs several answers, such
as the statements of an SQL transaction, is several exchanges.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Final

from redicts.contract.acceptor import TIMEOUT, Acceptor, connected, shut

_LOOPBACK: Final = "127.0.0.1"
_CHUNK: Final = 1 << 16
_CONNECT_SECONDS: Final = 10.0


class _Held:
    """A request that the proxy holds back until it is released, and its answer."""

    def __init__(self) -> None:
        self.released: Final = threading.Event()
        self.finished: Final = threading.Event()
        self.abandoned = False


class FaultProxy:
    """Forwards between clients and one server, and injects one planned fault at a time into any connection.

    :meth:`close` ends it and its threads.
    """

    host: Final = _LOOPBACK

    def __init__(self, host: str, port: int) -> None:
        self._target: Final = (host, port)
        self._lock: Final = threading.Lock()
        self._links: Final[set[_Link]] = set()
        self._until_lost = 0
        self._holds = False
        self.loses_every = False
        """Whether the client's connection is closed instead of sending any reply."""
        self.mutes = False
        """Whether connections that are opened now carry nothing."""
        self._held: list[_Held] = []
        self.exchanges = 0
        """The number of exchanges that clients began."""
        self.connections = 0
        """The number of connections that clients opened."""
        self.hits = 0
        """The number of exchanges that a fault hit."""
        self._socket = _bound()
        self.port: Final[int] = self._socket.getsockname()[1]
        """The port to which clients connect."""
        self._acceptor: Acceptor | None = None
        self.refuse(False)

    def refuse(self, every: bool) -> None:
        """Refuse new connections, as a host without a server does, or accept them again."""
        if every and self._acceptor is not None:
            reserved = _bound(self.port)  # before the other one is closed, so that nobody else gets the port
            self._acceptor.close()
            self._socket, self._acceptor = reserved, None
        elif not every and self._acceptor is None:
            self._socket.listen()
            self._acceptor = Acceptor(self._socket, self._connect)

    def lose_reply(self, number: int = 1) -> None:
        """Close the client's connection instead of sending the reply of this exchange, counted from now."""
        with self._lock:
            self._until_lost = number

    def hold_request(self) -> None:
        """Hold the next request back until :meth:`deliver`."""
        with self._lock:
            self._holds = True

    def deliver(self) -> None:
        """Send held requests to the server and return when they are answered; the clients may have left.

        Raises :class:`AssertionError` if the server does not answer.
        """
        for held in self._let_go():
            held.released.set()
            assert held.finished.wait(TIMEOUT), "the server did not answer a request that was held back"

    def calm(self) -> None:
        """Cancel a planned fault that has not hit anything."""
        with self._lock:
            self._until_lost = 0
            self._holds = self.loses_every = self.mutes = False

    def mute(self, every: bool) -> None:
        """Let all present connections, and those to come until the end of it, carry nothing and stay open.

        The present ones stay so at the end.
        """
        with self._lock:
            self.mutes = every
            for link in self._links if every else ():
                link.is_silent = True
                self.hits += 1

    def break_all(self) -> None:
        """Close all connections, idle ones too; each counts as a hit."""
        with self._lock:
            links = list(self._links)
            self.hits += len(links)
        for link in links:
            link.end()

    def close(self) -> None:
        """Close all connections; a request that is held back is never executed."""
        if self._acceptor is None:
            self._socket.close()
        else:
            self._acceptor.close()
        for held in self._let_go():
            held.abandoned = True
            held.released.set()
        with self._lock:
            links = list(self._links)
        for link in links:
            link.end()

    def begin(self) -> tuple[bool, _Held | None]:
        """Count an exchange; return whether to lose its reply, and its hold if its request is held back."""
        with self._lock:
            self.exchanges += 1
            held = None
            if self._holds:
                self._holds = False
                held = _Held()
                self._held.append(held)
            loses = self.loses_every or self._until_lost == 1
            self._until_lost -= self._until_lost > 0
            self.hits += loses or held is not None
            return loses, held

    def forget(self, link: _Link) -> None:
        """Remove a connection that has ended."""
        with self._lock:
            self._links.discard(link)

    def _let_go(self) -> list[_Held]:
        with self._lock:
            held, self._held = self._held, []
            return held

    def _connect(self, client: socket.socket) -> None:
        server = connected(client, self._target, _CONNECT_SECONDS)
        if server is None:
            return
        link = _Link(self, client, server)
        with self._lock:
            self.connections += 1
            link.is_silent = self.mutes
            self._links.add(link)
        link.start()


def _bound(port: int = 0) -> socket.socket:
    """Return a socket with this port, or a free one, which several of this process may have. It does not listen yet."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_REUSEPORT", socket.SO_REUSEADDR), 1)
    found.bind((_LOOPBACK, port))
    return found


class _Link:
    """A connection between a client and the server, with a thread for each direction."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy: Final = proxy
        self._client: Final = client
        self._server: Final = server
        self._lock: Final = threading.Lock()
        self._asked = False
        """Whether the client sent last."""
        self._loses = False
        self.is_silent = False
        """Whether it carries nothing, as behind a firewall that has forgotten it."""
        self._held: _Held | None = None
        self._requester: Final = threading.Thread(target=self._forward_requests, name="proxy-requests", daemon=True)
        self._replier: Final = threading.Thread(target=self._forward_replies, name="proxy-replies", daemon=True)

    def start(self) -> None:
        """Start forwarding."""
        self._requester.start()
        self._replier.start()

    def end(self) -> None:
        """Close both sides and wait for the threads."""
        shut(self._client, socket.SHUT_RDWR)
        shut(self._server, socket.SHUT_RDWR)
        self._replier.join(TIMEOUT)
        assert not self._replier.is_alive(), "a forwarding thread ends"

    def _forward_requests(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._client.recv(_CHUNK):
                if self.is_silent:
                    continue
                if not self._let_through():
                    break
                self._server.sendall(data)
        # The server reads what was sent before it sees the end, so everything that was forwarded is executed.
        shut(self._server, socket.SHUT_WR)

    def _let_through(self) -> bool:
        """Begin an exchange if the client sends first, wait if it is held back, and tell whether to forward it."""
        with self._lock:
            if self._asked:
                return True
            self._asked = True
            self._loses, held = self._proxy.begin()
        if held is None:
            return True
        held.released.wait()
        with self._lock:
            self._held = held
        return not held.abandoned

    def _forward_replies(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._server.recv(_CHUNK):
                if self.is_silent:
                    continue
                with self._lock:
                    self._asked = False
                    loses, held = self._loses, self._held
                    self._held = None
                if loses:
                    shut(self._client, socket.SHUT_RDWR)  # and read on, so that the server executes the request
                    continue
                with contextlib.suppress(OSError):
                    self._client.sendall(data)
                if held is not None:
                    held.finished.set()
        shut(self._client, socket.SHUT_RDWR)
        self._requester.join()
        if self._held is not None:
            self._held.finished.set()
        self._server.close()
        self._client.close()
        self._proxy.forget(self)
