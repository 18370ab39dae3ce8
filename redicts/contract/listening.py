"""Listening on the bench: names as core gives them to listeners, and how long to wait for what should come at once."""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections.abc import Callable
from typing import Final

from redicts.contract.client import Client
from redicts.contract.requirements import require
from redicts.core.listener import Listener
from redicts.core.minitransaction import Key, Put

LONGEST_NAME: Final = 100
"""Characters that the name of a listener has at most."""

SOON: Final = 0.2
"""Seconds that a listener sleeps if nobody calls it, and that the fastest of several notifications does not take."""

_LONGEST_WAIT: Final = 10.0
"""Seconds to wait for a notification, if the timeout of a bench does not end before."""

_numbers: Final = itertools.count(1)
_stations: Final[dict[int, str]] = {}


def fresh_name(length: int = 0) -> str:
    """Return the name of a listener that nobody has used: the client id is the same for all of this process.

    A number that would make the name shorter than ``length`` is filled up with zeros.
    """
    client_id = _stations.setdefault(os.getpid(), f"contract-{uuid.uuid4().hex}")
    number = str(next(_numbers))
    return f"{client_id}/{number.rjust(length - len(client_id) - 1, '0')}"


def list_at(client: Client, key: Key, name: str) -> None:
    """List the name of a listener at exactly this key, for a Wake to find."""
    client.apply(Put(key, name.encode()))


def require_notified(listener: Listener, timeout: float, what: str = "a listener that was called") -> None:
    """Insist that one wait is ended by a notification."""
    seconds = min(timeout, _LONGEST_WAIT)
    notified = listener.wait(seconds)
    require(isinstance(notified, bool), f"wait returned {notified!r}, not True or False")
    require(notified, f"{what} was not notified within {seconds:g} seconds")


def wait_until_cleared(listener: Listener, client: Client, key: Key, timeout: float) -> None:
    """Wait as whoever listed the listener at this key does: when notified, look; if it was for no reason, wait on."""
    deadline = time.monotonic() + timeout
    while True:
        require_notified(listener, timeout)
        if client.value(key) is None:
            return
        require(time.monotonic() < deadline, f"within {timeout:g} seconds, nobody cleared the list")


def await_listing(client: Client, *keys: Key, in_time: Callable[[], None]) -> None:
    """Return when something is listed at each of these keys; ``in_time`` raises if that takes too long."""
    while any(client.value(key) is None for key in keys):
        in_time()
