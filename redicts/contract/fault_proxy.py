"""A proxy in front of any server on TCP that loses a reply, or holds a request back, without knowing the protocol.

All it goes by is who speaks: a client that sends something begins an *exchange*, and the server that answers ends it.
So it fits every protocol in which a client waits for its answer; a request for which a client needs several answers, as
for the parts of an SQL transaction, is several exchanges.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Final

from redicts.contract.acceptor import TIMEOUT, Door, connected, shut

_LOOPBACK: Final = "127.0.0.1"
_CHUNK: Final = 1 << 16
_CONNECT_SECONDS: Final = 10.0


class HeldLocks:
    """A request that waits to be let go, and is then waited for until the server has answered it."""

    def __init__(self) -> None:
        self.released: Final = threading.Event()
        self.finished: Final = threading.Event()
        self.abandoned = False


class ExchangeProxy:
    """Forwards between clients and one server; :meth:`close` ends it and all its threads.

    One fault at a time can be planned. It hits one of the next exchanges, on whatever connection.
    """

    host: Final = _LOOPBACK

    def __init__(self, host: str, port: int) -> None:
        self._target: Final = (host, port)
        self._lock: Final = threading.Lock()
        self._links: Final[set[_Link]] = set()
        self._until_lost = 0
        self._holds = False
        self._held: list[HeldLocks] = []
        self.exchanges = 0
        """How many exchanges clients have begun."""
        self.connections = 0
        """How many connections clients have opened."""
        self.hits = 0
        """How many exchanges a fault has hit."""
        listener = socket.create_server((_LOOPBACK, 0))
        self.port: Final[int] = listener.getsockname()[1]
        """The port that clients shall connect to."""
        self._door: Final = Door(listener, self._connect)

    def lose_reply(self, number: int = 1) -> None:
        """Close the client's connection in place of the reply of the exchange with this number, counted from now."""
        with self._lock:
            self._until_lost = number

    def hold_request(self) -> None:
        """Keep the next request from the server until :meth:`deliver`."""
        with self._lock:
            self._holds = True

    def deliver(self) -> None:
        """Send what is held to the server, and return when it is answered; the client may have closed by now.

        Raises :class:`AssertionError` if the server does not answer.
        """
        for held in self._let_go():
            held.released.set()
            assert held.finished.wait(TIMEOUT), "the server answers a request that was held back"

    def calm(self) -> None:
        """Forget a fault that has hit nothing yet."""
        with self._lock:
            self._until_lost = 0
            self._holds = False

    def close(self) -> None:
        """End everything; a request that is held back is never executed."""
        self._door.close()
        for held in self._let_go():
            held.abandoned = True
            held.released.set()
        with self._lock:
            links = list(self._links)
        for link in links:
            link.end()

    def begin(self) -> tuple[bool, HeldLocks | None]:
        """Note that an exchange begins; return whether its reply shall be lost, and what holds its request back."""
        with self._lock:
            self.exchanges += 1
            held = None
            if self._holds:
                self._holds = False
                held = HeldLocks()
                self._held.append(held)
            loses = self._until_lost == 1
            self._until_lost -= self._until_lost > 0
            self.hits += loses or held is not None
            return loses, held

    def forget(self, link: _Link) -> None:
        """Note that a connection has ended."""
        with self._lock:
            self._links.discard(link)

    def _let_go(self) -> list[HeldLocks]:
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
            self._links.add(link)
        link.start()


class _Link:
    """One client's connection, with its own connection to the server: a thread for each direction."""

    def __init__(self, proxy: ExchangeProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy: Final = proxy
        self._client: Final = client
        self._server: Final = server
        self._lock: Final = threading.Lock()
        self._asked = False
        """Whether the client has spoken last."""
        self._loses = False
        self._held: HeldLocks | None = None
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
                if not self._let_through():
                    break
                self._server.sendall(data)
        # The server reads what was sent before it sees the end, so everything that was forwarded is executed.
        shut(self._server, socket.SHUT_WR)

    def _let_through(self) -> bool:
        """Note that the client speaks, wait if its request is held back, and tell whether it shall go on."""
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
                with self._lock:
                    self._asked = False
                    loses, held = self._loses, self._held
                    self._held = None
                if loses:
                    shut(self._client, socket.SHUT_RDWR)  # and read on: what was asked is executed to its end
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
