"""Actions on locks and values that a test has its processes run."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any, Final

from redicts import Lock, LockLost, Pool, Proxy, StoreError
from redicts.backends.redis.pubsub import RedisListener
from redicts.core.locks.acquisition import Timing

SOON: Final = Timing(waiter_ttl=2.0, heartbeat=0.3, first_heartbeat=0.15)
"""Keeps tests short: a dead waiter blocks the queue for two seconds, and a live one looks several times a second."""

NEVER: Final = Timing(waiter_ttl=600.0, heartbeat=200.0, first_heartbeat=200.0)
"""Makes a waiter depend on notifications: it does not look by itself during a test."""

RETRIES: Final = 1_000
"""Enough for a request to outlast a restart of the server."""

LONG: Final = os.environ.get("REDICTS_TESTS") == "long"


def begin(cfg: Mapping[str, Any], timing: Timing, *, deaf: bool) -> None:
    """Configure this process: its store, its timing, and (``deaf``) whether notifications reach its waiters."""
    logging.getLogger("redicts.locks").addHandler(logging.NullHandler())
    Pool().reload(cfg=cfg)
    Pool().database().store.timing = timing
    if deaf:
        RedisListener.wait = _sleep_on  # type: ignore[method-assign]


def _sleep_on(_listener: RedisListener, seconds: float, /) -> bool:
    time.sleep(seconds)
    return False


def acquire(path: str, blocking: bool = True, **options: Any) -> bool:
    """Acquire a lock."""
    return Lock(Pool(), path, **options).acquire(blocking)


def release(path: str) -> float:
    """Release a lock; return when that began, by the clock that all processes of a host share."""
    begun = time.monotonic()
    Lock(Pool(), path).release()
    return begun


def time_of_grant(path: str, **options: Any) -> float:
    """Acquire a lock, and return when that was done, by the clock that all processes of a host share."""
    acquire(path, **options)
    return time.monotonic()


def token(path: str) -> int:
    """Return the token of a held lock."""
    found = Lock(Pool(), path).token
    assert found is not None
    return found


def is_held(path: str) -> bool:
    """Tell whether a lock is held, as far as this process knows."""
    return Lock(Pool(), path).held


def sign(path: str, name: str, **options: Any) -> None:
    """Acquire a lock, append a name to the list of those that held it, and release."""
    with Lock(Pool(), path, **options):
        Proxy(path)["names"].update_with(lambda names: [*names, name], default=[])


def signed(path: str) -> list[str]:
    """Return the names that :func:`sign` wrote, in order."""
    names: list[str] = Proxy(path)["names"].val([])
    return names


def read(path: str) -> int:
    """Return a number."""
    found: int = Proxy(path).val(0)
    return found


def write(path: str, name: str, value: int) -> None:
    """Store a number below a path; guarded, if a lock on the path is held."""
    Proxy(path).set(name, value)


def write_unguarded(path: str, name: str, value: int) -> None:
    """Store a number below a path without a guard, like a client that ignores locks."""
    database = Pool().database()
    database.run(database.store.write((*path.split("."), name), value, None))


def count(path: str, times: int, lease: float = 30.0, *, over_failures: bool = False) -> int:
    """Count under a lock, by reading and writing; return how often the lock was lost.

    With ``over_failures`` it repeats what the store failed, and may then count once more. The total and a tally of this
    process are written atomically, so they agree unless an update is lost, even if the process dies or a reply is lost.
    """
    node, losses, done = Proxy(path, lock_acquire_timeout=60, lock_expire_timeout=lease), 0, 0
    while done < times:
        try:
            with node:
                total = node["total"].val(0)
                with node.transaction() as changes:
                    changes.set("total", total + 1)
                    changes.add(["tally", str(os.getpid())], 1)
            done += 1
        except LockLost:
            losses += 1
        except StoreError:
            if not over_failures:
                raise
    return losses


def counted(path: str) -> int:
    """Return the total of :func:`count`, after checking that no update was lost."""
    found = Proxy(path).val({})
    total, tallies = found.get("total", 0), found.get("tally", {})
    assert total == sum(tallies.values()), f"updates were lost: the total is {total}, the tallies are {tallies}"
    assert isinstance(total, int)
    return total
