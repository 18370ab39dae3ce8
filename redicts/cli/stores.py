"""The store of a command: its options, the opened database, and what may be shown about it."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from contextlib import closing
from functools import wraps
from typing import Any, Final, NamedTuple

import click

from redicts.api.database import Database
from redicts.api.database import open as open_database
from redicts.cli.output import tell
from redicts.config import sources
from redicts.config.settings import Settings, parse
from redicts.core import paths
from redicts.core.minitransaction import Path

_SHOWN: Final = ("path", "host", "port", "unix_socket", "sentinels", "service", "prefix")
"""The only fields of a backend's settings that are shown: any other one might be a secret."""


MISSING: Final = "does not exist or is empty; the first value that is stored makes it a store"
"""What is said about the file of a store that a command only reads."""

_IN_MEMORY: Final = ":memory:"

_DIGITS: Final = 18
"""The longest number of a database; longer digits can only be a name."""


class Store(NamedTuple):
    """The opened database that a command works on, and what may be shown about it."""

    database: Database
    settings: Settings
    missing: str | None = None
    """The path of a file that does not exist or is empty, for a command that reads only, which gets an empty store."""

    @property
    def location(self) -> dict[str, Any]:
        """Where the database is, without secrets."""
        settings = self.settings
        options = settings.options
        fields = {name: getattr(options, name) for name in _SHOWN if getattr(options, name, None) not in (None, "", ())}
        if "path" in fields and fields["path"] != _IN_MEMORY:
            fields["path"] = os.path.realpath(fields["path"])
        if "unix_socket" in fields or "sentinels" in fields:
            fields.pop("host", None)
            fields.pop("port", None)
        return {"backend": settings.backend, **fields, "database": settings.default}

    def __str__(self) -> str:
        at = self.location
        host = f"{at['host']}:{at.get('port', '')}" if "host" in at else ""
        where = at.get("path") or at.get("unix_socket") or host
        if "sentinels" in at:
            where = f"{at['service']} of the Sentinels {', '.join(at['sentinels'])}"
        prefix = f"prefix {at['prefix']!r}" if "prefix" in at else ""
        return " ".join([part for part in (at["backend"], where, f"database {at['database']}", prefix) if part])

    @property
    def identity(self) -> str:
        """A text that is the same for the same database, and most likely for no other."""
        return hashlib.sha256(json.dumps(self.location, sort_keys=True).encode()).hexdigest()[:16]


class PathType(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in later versions only
    """A path as dotted text; a lone dot, or nothing, is the root."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ARG002
        """Return the segments. Raises :class:`~redicts.errors.PathError`, as the rest of redicts does."""
        if isinstance(value, tuple):
            return value
        return paths.ROOT if value in ("", ".") else paths.parse(utf8(value, "a PATH"))


PATH: Final = PathType()

json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def utf8(argument: str, what: str) -> str:
    """Return the text of an argument, whose bytes are UTF-8 whatever the locale.

    Raises ``click.UsageError`` for other bytes, which would become other text.
    """
    try:
        argument.encode()
    except UnicodeEncodeError:
        try:
            return os.fsencode(argument).decode()
        except UnicodeError:
            raise click.UsageError(f"{what} must be text in UTF-8, and has other bytes") from None
    return argument


def store_command(function: Callable[..., int]) -> Callable[..., int]:
    """Add --store, --database and --json to a command, and call it with the opened ``store`` and with ``as_json``."""
    return _with_store(function, open_store)


def reading_command(function: Callable[..., int]) -> Callable[..., int]:
    """Do the same for a command that stores nothing, and so must not create a store."""
    return _with_store(function, open_existing)


def _with_store(function: Callable[..., int], opened: Callable[[str | None, str | None], Store]) -> Callable[..., int]:
    @click.option(
        "-s",
        "--store",
        metavar="STORE",
        help="A URL, settings as JSON, a TOML file, or a backend's name. Default: REDICTS_URL.",
    )
    @click.option("-d", "--database", metavar="NAME|NUMBER", help="The database to use.")
    @json_option
    @wraps(function)
    def command(*, store: str | None, database: str | None, **others: Any) -> int:
        found = opened(store, database)
        with closing(found.database):
            return function(store=found, **others)

    return command


def open_store(store: str | None, database: str | None) -> Store:
    """Open a database. Connects to nothing yet. Raises :class:`~redicts.errors.SettingsError`."""
    settings = settings_of(store, database)
    return Store(open_database(settings), settings)


def open_existing(store: str | None, database: str | None) -> Store:
    """Open a database to read it. If its file does not exist, nothing creates it, and an empty one is opened."""
    settings = settings_of(store, database)
    missing = _missing_file(settings)
    if missing is None:
        return Store(open_database(settings), settings)
    tell(f"the file {missing} {MISSING}")
    empty = settings.options.model_copy(update={"path": _IN_MEMORY})
    return Store(open_database(settings.model_copy(update={"options": empty})), settings, missing)


def _missing_file(settings: Settings) -> str | None:
    """Return the path of the file of a store, if it has one that certainly does not exist or is empty."""
    path = getattr(settings.options, "path", None)
    if settings.backend != "sqlite" or path == _IN_MEMORY:
        return None
    assert isinstance(path, str)  # SQLite has a path
    try:
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode) and not found.st_size and not os.path.exists(f"{path}-wal"):
            return path
    except (FileNotFoundError, NotADirectoryError):
        return path
    except OSError:
        pass
    return None


def settings_of(store: str | None, database: str | None) -> Settings:
    """Return the settings that the options stand for, with the chosen database as the default one."""
    settings = parse(sources.written(store) if store else None)
    if database is None:
        return settings
    is_number = database.isdecimal() and len(database) <= _DIGITS
    number = int(database) if is_number else settings.database(database)
    return settings.model_copy(update={"default": number})
