"""Which store a command works on: the options that say so, and the opened database."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from redicts.core import paths
from redicts.core.transaction import Path
from redicts.errors import SettingsError

if TYPE_CHECKING:
    from redicts.front.settings import Settings
    from redicts.front.tree import Tree

_Function = TypeVar("_Function", bound=Callable[..., Any])

VARIABLE: Final = "REDICTS_URL"

_SHOWN: Final = ("path", "host", "port", "unix_socket", "prefix")
"""The fields of a backend's settings that may be shown: nothing else, for it might be a secret."""


class Store(NamedTuple):
    """An opened database, and what may be said about it."""

    tree: Tree
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
    "-s", "--store", metavar="STORE", help=f"A URL, a JSON object or a TOML file with settings. Default: {VARIABLE}."
)
database_option: Final = click.option("-d", "--database", metavar="NAME|NUMBER", help="The database to use.")
json_option: Final = click.option("--json", "json_", is_flag=True, help="Print one JSON document.")


def common_options(function: _Function) -> _Function:
    """Give a command the options that nearly all have: the store, the database, and JSON."""
    return store_option(database_option(json_option(function)))


def opened(store: str | None, database: str | None) -> Store:
    """Open a database. Connects to nothing yet. Raises :class:`~redicts.errors.SettingsError`."""
    from redicts.front.pool import Opened  # noqa: PLC0415  (help needs none of it)

    settings = settings_of(store, database)
    return Store(Opened(settings).tree(None), settings, settings.default)


def settings_of(store: str | None, database: str | None) -> Settings:
    """Return the settings that the options stand for, with the database as the default one."""
    from redicts.front.settings import parse  # noqa: PLC0415  (help needs none of it)

    settings = parse(_configuration(store or os.environ.get(VARIABLE) or None))
    if database is None:
        return settings
    number = int(database) if database.isdecimal() else settings.database(database)
    return settings.model_copy(update={"default": number})


def _configuration(text: str | None) -> Mapping[str, Any] | str | None:
    if text is None or "://" in text.partition("{")[0]:
        return text
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except ValueError as error:
            # Without its text, which may hold a password.
            reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
            raise SettingsError(f"--store begins like a JSON object and is none: {reason}") from None
        assert isinstance(found, dict)
        return found
    if text.endswith(".toml"):
        return _toml(text)
    raise SettingsError(
        "--store is a URL such as sqlite:///state.db, a JSON object with settings, or the name of a .toml file"
    )


def _toml(name: str) -> Mapping[str, Any]:
    """Return the settings in a file: the table ``redicts``, or the whole if there is none."""
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        with open(name, "rb") as file:
            found = toml.load(file)
    except OSError as error:
        raise SettingsError(f"the file {name!r} cannot be read: {error.strerror}") from None
    except ValueError:
        raise SettingsError(f"the file {name!r} is no TOML") from None
    table = found.get("redicts", found)
    if not isinstance(table, dict):
        raise SettingsError(f"the file {name!r} has no table named redicts")
    return table
