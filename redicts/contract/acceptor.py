"""Acceptors: threads that accept connections for a proxy between clients and a server."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from typing import Final

TIMEOUT: Final = 20.0
"""Seconds after which a thread that should end at once counts as hanging."""


class Acceptor:
    """A thread that accepts connections on a listening socket and passes them to ``admit``, until it is closed."""

    def __init__(self, listener: socket.socket, admit: Callable[[socket.socket], None]) -> None:
        self._listener: Final = listener
        self._admit: Final = admit
        self._waker, self._sleeper = socket.socketpair()
        self._thread: Final = threading.Thread(target=self._run, name="proxy-accepts", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the listening socket and end the thread."""
        shut(self._waker, socket.SHUT_RDWR)
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), "the accepting thread ends"
        for each in (self._waker, self._sleeper, self._listener):
            each.close()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._sleeper], [], [])
            if self._sleeper in ready:
                return
            with contextlib.suppress(ConnectionError):  # the client left before it was accepted
                client, _ = self._listener.accept()
                self._admit(client)


def connected(client: socket.socket, target: tuple[str, int], seconds: float) -> socket.socket | None:
    """Return a connection to the server for an accepted client, or ``None`` after closing the client's."""
    try:
        server = socket.create_connection(target, seconds)
    except OSError:
        client.close()
        return None
    for each in (client, server):
        each.settimeout(None)
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server


def shut(connection: socket.socket, how: int) -> None:
    """Shut a connection down, which ends it in forked processes too; no effect if it has ended."""
    with contextlib.suppress(OSError):
        connection.shutdown(how)
