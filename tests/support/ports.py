"""Loopback ports for tests, outside the range from which the kernel serves outgoing connections.

The kernel may give a port from ``bind(("127.0.0.1", 0))`` to any outgoing connection as soon as it is free, even to a
client that tries to connect to that port, which then talks to itself. A server that returns to its port, and a proxy
that refuses connections for a while, therefore need ports that the kernel does not give away.
"""

from __future__ import annotations

import contextlib
import random
import socket
from typing import Final

LOOPBACK: Final = "127.0.0.1"

_LOWEST: Final = 10_240
_HIGHEST: Final = 32_000
_ATTEMPTS: Final = 200
_SYSTEM_RANDOM: Final = random.SystemRandom()


def bound_socket(port: int | None = None) -> socket.socket:
    """Return a TCP socket bound to a loopback port (a free one by default), not yet listening.

    Until it listens, connections to its port are refused.

    Raises :class:`OSError` if the port is in use, or no free one was found.
    """
    if port is not None:
        return _bind(port)
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(OSError):
            return _bind(_SYSTEM_RANDOM.randint(_LOWEST, _HIGHEST))
    return _bind(_SYSTEM_RANDOM.randint(_LOWEST, _HIGHEST))


def free_port() -> int:
    """Return a port that was just free; another process may take it first."""
    with bound_socket() as probe:
        port: int = probe.getsockname()[1]
        return port


def _bind(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # A server can return while connections of its previous process are still in TIME_WAIT.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((LOOPBACK, port))
    except BaseException:
        bound.close()
        raise
    return bound
