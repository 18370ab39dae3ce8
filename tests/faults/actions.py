"""What processes do with locks, one call after the other."""

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
"""Times that make a test short: how long a dead waiter is in the way, and how often a living one looks."""

NEVER: Final = Timing(waiter_ttl=600.0, heartbeat=200.0, first_heartbeat=200.0)
"""Times that make a waiter depend on being notified: whatever it waits for, it does not look by itself."""

LONG: Final = os.environ.get("REDICTS_TESTS") == "long"


def begin(cfg: Mapping[str, Any], timing: Timing, *, deaf: bool) -> None:
    """Prepare this process: its store, its times, and whether it hears notifications."""
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


def release(path: str) -> None:
    """Release a lock."""
    Lock(Pool(), path).release()


def release_and_tell_when(path: str) -> float:
    """Release a lock, and return when that was begun, by the clock that all processes of a host share."""
    begun = time.monotonic()
    release(path)
    return begun


def acquire_and_tell_when(path: str, **options: Any) -> float:
    """Acquire a lock, and return when that was done, by the clock that all processes of a host share."""
    acquire(path, **options)
    return time.monotonic()


def token(path: str) -> int:
    """Return the token of a lock that is held."""
    found = Lock(Pool(), path).token
    assert found is not None
    return found


def is_held(path: str) -> bool:
    """Tell whether this process believes to hold a lock."""
    return Lock(Pool(), path).held


def take_turn(path: str, name: str, **options: Any) -> None:
    """Acquire a lock, write a name behind those that had their turn before, and release."""
    with Lock(Pool(), path, **options):
        Proxy(path)["turns"].update_with(lambda turns: [*turns, name], default=[])


def turns(path: str) -> list[str]:
    """Return the names of those that had their turn."""
    found: list[str] = Proxy(path)["turns"].val([])
    return found


def read(path: str) -> int:
    """Return a number."""
    found: int = Proxy(path).val(0)
    return found


def write(path: str, name: str, value: int) -> None:
    """Store a number below a place; guarded, if a lock on the place is held."""
    Proxy(path).set(name, value)


def write_unguarded(path: str, name: str, value: int) -> None:
    """Store a number below a place without a guard, as a client would that knows nothing of locks."""
    tree = Pool().database()
    tree.run(tree.store.write((*path.split("."), name), value, None))


def count(path: str, times: int, lease: float = 30.0, *, over_failures: bool = False) -> int:
    """Count so many times under a lock, by reading and writing, and return how often the lock was lost meanwhile.

    With ``over_failures`` it tries again when the store fails; it may then have counted once more. The total and a
    tally of this process are written atomically, so they agree unless an update was lost: no matter what becomes of
    the process, and of the replies to it.
    """
    place, losses, done = Proxy(path, lock_acquire_timeout=60, lock_expire_timeout=lease), 0, 0
    while done < times:
        try:
            with place:
                total = place["total"].val(0)
                with place.transaction() as changes:
                    changes.set("total", total + 1)
                    changes.add(["tally", str(os.getpid())], 1)
            done += 1
        except LockLost:
            losses += 1
        except StoreError:
            if not over_failures:
                raise
    return losses


def counted(place: Proxy) -> int:
    """Return what was counted, and insist that no update was lost."""
    total = place["total"].val(0)
    tallies = place["tally"].val({})
    assert total == sum(tallies.values()), f"updates were lost: the total is {total}, the tallies are {tallies}"
    assert isinstance(total, int)
    return total
