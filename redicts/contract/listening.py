"""Listening on the bench: names as core gives them to listeners, and how long to wait for what should come at once."""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections.abc import Callable
from typing import Final

from redicts.contract.client import Client
from redicts.contract.law import require
from redicts.core.listener import Listener
from redicts.core.transaction import Key, Put

LONGEST_NAME: Final = 100
"""Characters that the name of a listener has at most."""

SOON: Final = 0.2
"""Seconds that a listener sleeps if nobody calls it, and that the fastest of several wake-ups does not take."""

_LONGEST_WAIT: Final = 10.0
"""Seconds to wait for a wake-up, if the patience of a bench does not end before."""

_numbers: Final = itertools.count(1)
_stations: Final[dict[int, str]] = {}


def fresh_name(length: int = 0) -> str:
    """Return the name of a listener that nobody has used: the station is the same for all of this process.

    A number that would make the name shorter than ``length`` is filled up with zeros.
    """
    station = _stations.setdefault(os.getpid(), f"contract-{uuid.uuid4().hex}")
    number = str(next(_numbers))
    return f"{station}/{number.rjust(length - len(station) - 1, '0')}"


def list_at(client: Client, key: Key, name: str) -> None:
    """List the name of a listener at exactly this key, for a Wake to find."""
    client.apply(Put(key, name.encode()))


def require_woken(listener: Listener, patience: float, what: str = "a listener that was called") -> None:
    """Insist that one wait is ended by a wake-up."""
    seconds = min(patience, _LONGEST_WAIT)
    woken = listener.wait(seconds)
    require(isinstance(woken, bool), f"wait returned {woken!r}, not True or False")
    require(woken, f"{what} was not woken within {seconds:g} seconds")


def wait_until_cleared(listener: Listener, client: Client, key: Key, patience: float) -> None:
    """Wait as whoever listed the listener at this key does: when woken, look; if it was for no reason, wait on."""
    deadline = time.monotonic() + patience
    while True:
        require_woken(listener, patience)
        if client.value(key) is None:
            return
        require(time.monotonic() < deadline, f"within {patience:g} seconds, nobody cleared the list")


def await_listing(client: Client, *keys: Key, in_time: Callable[[], None]) -> None:
    """Return when something is listed at each of these keys; ``in_time`` raises if that takes too long."""
    while any(client.value(key) is None for key in keys):
        in_time()
