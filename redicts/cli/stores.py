"""Which store a command works on: the options that say so, and the opened database."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from redicts.core import paths
from redicts.core.minitransaction import Path

if TYPE_CHECKING:
    from redicts.api.opened import OpenedDatabase
    from redicts.config.settings import Settings

_Function = TypeVar("_Function", bound=Callable[..., Any])

_SHOWN: Final = ("path", "host", "port", "unix_socket", "prefix")
"""The fields of a backend's settings that may be shown: nothing else, for it might be a secret."""


class Store(NamedTuple):
    """An opened database, and what may be said about it."""

    tree: OpenedDatabase
    settings: Settings
    database: int

    @property
    def place(self) -> dict[str, Any]:
        """Where it is, without secrets."""
        options = self.settings.options
        fields = {name: getattr(options, name) for name in _SHOWN if getattr(options, name, None) not in (None, "")}
        if "path" in fields and fields["path"] != ":memory:":
            fields["path"] = os.path.realpath(fields["path"])
        if "unix_socket" in fields:
            fields.pop("host", None)
            fields.pop("port", None)
        return {"backend": self.settings.backend, **fields, "database": self.database}

    def __str__(self) -> str:
        place = self.place
        where = place.get("path") or place.get("unix_socket") or f"{place.get('host', '')}:{place.get('port', '')}"
        prefix = f" prefix {place['prefix']!r}" if "prefix" in place else ""
        return f"{place['backend']} {where if where != ':' else ''} database {self.database}{prefix}".replace("  ", " ")

    @property
    def identity(self) -> str:
        """A text that is the same for the same database, and most likely for no other."""
        return hashlib.sha256(json.dumps(self.place, sort_keys=True).encode()).hexdigest()[:16]


class PathType(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in later versions only
    """A path in the tree as dotted text; a lone dot, or nothing, is the root."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ARG002
        """Return the segments. What is no path is told by the error that the rest of redicts has for it."""
        if isinstance(value, tuple):
            return value
        return paths.ROOT if value in ("", ".") else paths.parse(value)


PATH: Final = PathType()

store_option: Final = click.option(
    "-s",
    "--store",
    metavar="STORE",
    help="A URL, settings as JSON, a TOML file, or a backend's name. Default: REDICTS_URL.",
)
database_option: Final = click.option("-d", "--database", metavar="NAME|NUMBER", help="The database to use.")
json_option: Final = click.option("--json", "json_", is_flag=True, help="Print one JSON document.")


def common_options(function: _Function) -> _Function:
    """Give a command the options that nearly all have: the store, the database, and JSON."""
    return store_option(database_option(json_option(function)))


def opened(store: str | None, database: str | None) -> Store:
    """Open a database. Connects to nothing yet. Raises :class:`~redicts.errors.SettingsError`."""
    from redicts.api.database import open as open_database  # noqa: PLC0415  (help needs none of it)

    settings = settings_of(store, database)
    return Store(open_database(settings), settings, settings.default)


def settings_of(store: str | None, database: str | None) -> Settings:
    """Return the settings that the options stand for, with the database as the default one."""
    from redicts.config import sources  # noqa: PLC0415  (help needs none of it)
    from redicts.config.settings import parse  # noqa: PLC0415

    settings = parse(sources.written(store) if store else None)
    if database is None:
        return settings
    number = int(database) if database.isdecimal() else settings.database(database)
    return settings.model_copy(update={"default": number})
