"""Listeners in checks: their names, their lists, and time limits for notifications."""

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
"""The greatest length of the name of a listener."""

SOON: Final = 0.2
"""Seconds for a wait without a notification, and for the fastest of several notifications."""

_LONGEST_WAIT: Final = 10.0
"""Seconds to wait for a notification, if the timeout of the fixture is not shorter."""

_MOST_NOTIFICATIONS: Final = 5

_numbers: Final = itertools.count(1)
_client_ids: Final[dict[int, str]] = {}


def fresh_name(length: int = 0) -> str:
    """Return an unused name of a listener, with zeros before its number if it is shorter than ``length``."""
    client_id = _client_ids.setdefault(os.getpid(), f"contract-{uuid.uuid4().hex}")
    number = str(next(_numbers))
    return f"{client_id}/{number.rjust(length - len(client_id) - 1, '0')}"


def list_at(client: Client, key: Key, name: str) -> None:
    """Write the name of a listener at exactly this key, for a Notify."""
    client.apply(Put(key, name.encode()))


def require_notified(listener: Listener, timeout: float, what: str = "a listener that was called") -> None:
    """Require that a notification ends one wait."""
    seconds = min(timeout, _LONGEST_WAIT)
    notified = listener.wait(seconds)
    require(isinstance(notified, bool), f"wait returned {notified!r}, not True or False")
    require(notified, f"{what} was not notified within {seconds:g} seconds")


def quieten(*listeners: Listener, seconds: float) -> None:
    """Take the notifications that come within so many seconds. A store may notify for nothing without end."""
    for _ in range(_MOST_NOTIFICATIONS):
        told = [listener.wait(0.0 if number else seconds) for number, listener in enumerate(listeners)]
        if not any(told):
            break


def wait_until_cleared(listener: Listener, client: Client, key: Key, timeout: float) -> None:
    """Wait until the list at this key is cleared; wait again after a notification for no reason."""
    deadline = time.monotonic() + timeout
    while True:
        require_notified(listener, timeout)
        if client.value(key) is None:
            return
        require(time.monotonic() < deadline, f"the list was not cleared within {timeout:g} seconds")


def await_listing(client: Client, *keys: Key, in_time: Callable[[], None]) -> None:
    """Return when each of these keys has a value; ``in_time`` raises if that takes too long."""
    while any(client.value(key) is None for key in keys):
        in_time()
