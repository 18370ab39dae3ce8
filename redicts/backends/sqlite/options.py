"""The settings of a plain URL, which are valid without the model of :mod:`redicts.backends.sqlite.settings`."""

from __future__ import annotations

from typing import Final, NamedTuple

from redicts.backends.sqlite.files import MEMORY, Durability
from redicts.file_paths import absolute

SCHEME: Final = "sqlite://"


class SqliteOptions(NamedTuple):
    """What opens a store: the fields of the settings, with their defaults."""

    path: str
    busy_timeout_secs: float = 10.0
    durability: Durability = Durability.PROCESS


DEFAULTS: Final = SqliteOptions("")


def plain(url: str) -> SqliteOptions | None:
    """Return what a URL gives if it has a path and nothing else: no escapes, parameters, or other than ASCII.

    Raises ``ValueError`` if the current directory cannot be found, or the path is a URL.

    >>> plain("sqlite:////var/lib/state.db").path
    '/var/lib/state.db'
    """
    path = url.removeprefix(f"{SCHEME}/")
    if not path or path == url or "?" in path or "%" in path or not (path.isascii() and path.isprintable()):
        return None
    return SqliteOptions(path if path == MEMORY else absolute(path))
