"""The acquisitions of the running owner in one database: which there is for a lock, and its release."""

from __future__ import annotations

from contextlib import suppress

from redicts.api.opened import OpenedDatabase, Source
from redicts.errors import SettingsError
from redicts.locks import manager
from redicts.locks.manager import Acquired
from redicts.locks.owner import LockOwner, Paths

Location = tuple[Source, "str | None"]
"""The source of a lock's database, and its name there."""


def database_at(location: Location) -> OpenedDatabase:
    """Return the database at a location, opened if it was not."""
    return location[0].databases[location[1]]


def is_same(one: Location, other: Location) -> bool:
    """Return whether two locations are the same database. A name that the settings lack is not."""
    try:
        return one == other or database_at(one) is database_at(other)
    except SettingsError:
        return False


def current(location: Location, locked: Paths, owner: LockOwner | None = None) -> Acquired | None:
    """Return the latest acquisition of an owner, the running one by default, of a lock in this database."""
    database = location[0].databases.get(location[1])
    if database is None:
        with suppress(SettingsError):
            database = database_at(location)  # under another name it may be open
    return manager.current(location, locked, None if database is None else database.locks, owner)


def release(location: Location, locked: Paths, found: list[Acquired], owner: LockOwner | None = None) -> None:
    """Release the latest acquisition of an owner, the running one by default, in the database where it was acquired.

    The acquisition that it releases is added to ``found``. After any exception, call :func:`give_up`. Raises
    :class:`~redicts.errors.NotHeld` if there is none.
    """
    acquired = latest(location, locked, owner)
    found.append(acquired)
    acquired.manager.run(manager.release(acquired))


def latest(location: Location, locked: Paths, owner: LockOwner | None = None) -> Acquired:
    """Return the latest acquisition of an owner, the running one by default, which a release ends.

    Raises :class:`~redicts.errors.NotHeld` if there is none.
    """
    acquired = manager.current(location, locked, None, owner) or current(location, locked, owner)
    if acquired is None:
        raise manager.not_held(locked, owner)
    return acquired


def log_failed_release() -> None:
    """Log the exception of a release that is under way, where another one must not be replaced by it."""
    manager.log.warning("a lock could not be released; it expires with its lease", exc_info=True)


def give_up(location: Location, locked: Paths, found: list[Acquired], owner: LockOwner | None = None) -> None:
    """Let a background thread release a lock after an exception ended its release, if there was one to release."""
    acquired = found[0] if found else current(location, locked, owner)
    if acquired is not None:
        acquired.manager.abandon(acquired)
