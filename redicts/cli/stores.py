"""The store of a command: its options, the opened database, and what may be shown about it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from contextlib import closing
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from redicts.api.database import Database
from redicts.api.opened import open_databases
from redicts.cli.output import tell
from redicts.config import sources
from redicts.config.choosing import ChosenSettings, PlainSettings, choose
from redicts.core import paths
from redicts.core.minitransaction import Path
from redicts.errors import ReadOnly, RedictsError, Unreachable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_COMPLETION_SECS: Final = 1.0
"""How long a shell waits for the names with which it completes a path."""

_SHOWN: Final = ("path", "host", "port", "unix_socket", "nodes", "sentinels", "service", "prefix")
"""The only fields of a backend's settings that are shown: any other one might be a secret."""


MISSING: Final = "does not exist or is empty; the first value that is stored makes it a store"
"""What is said about the file of a store that a command only reads."""

_NOT_CONFIGURED: Final = (
    f"No store is configured; choose one by {sources.URL} or --store, for instance sqlite:///state.db"
)

_IN_MEMORY: Final = ":memory:"

_DIGITS: Final = 18
"""The longest number of a database; longer digits can only be a name."""


class Store(NamedTuple):
    """The opened database that a command works on, and what may be shown about it."""

    database: Database
    settings: ChosenSettings
    missing: str | None = None
    """The path of a file that does not exist or is empty, for a command that reads only, which gets an empty store."""
    copied: str | None = None
    """The directory with a copy of a file that cannot be written: SQLite needs that even to read."""

    def require_writable(self) -> None:
        """Raise :class:`~redicts.errors.ReadOnly` if a command would write to a copy."""
        if self.copied is not None:
            raise ReadOnly(
                f"the file {self.location['path']}, or its directory, cannot be written; change its permissions"
            )

    def close(self) -> None:
        """Close the database, and remove the copy."""
        try:
            self.database.close()
        finally:
            if self.copied is not None:
                import shutil  # noqa: PLC0415  (few stores are copied)

                shutil.rmtree(self.copied, ignore_errors=True)

    @property
    def location(self) -> dict[str, Any]:
        """Where the database is, without secrets."""
        settings = self.settings
        options = settings.options
        fields = {name: getattr(options, name) for name in _SHOWN if getattr(options, name, None) not in (None, "", ())}
        if "path" in fields and fields["path"] != _IN_MEMORY:
            fields["path"] = os.path.realpath(fields["path"])
        if {"unix_socket", "nodes", "sentinels"} & fields.keys():
            fields.pop("host", None)
            fields.pop("port", None)
        return {"backend": settings.backend, **fields, "database": settings.default}

    def __str__(self) -> str:
        at = self.location
        host = f"{at['host']}:{at.get('port', '')}" if "host" in at else ""
        where = at.get("path") or at.get("unix_socket") or host
        if "nodes" in at:
            where = f"the cluster of {', '.join(at['nodes'])}"
        if "sentinels" in at:
            where = f"{at['service']} of the Sentinels {', '.join(at['sentinels'])}"
        prefix = f"prefix {at['prefix']!r}" if "prefix" in at else ""
        return " ".join([part for part in (at["backend"], where, f"database {at['database']}", prefix) if part])

    @property
    def identity(self) -> str:
        """A text that is the same for the same database, and most likely for no other."""
        from hashlib import sha256  # noqa: PLC0415  (it loads OpenSSL, and few commands need it)

        return sha256(json.dumps(self.location, sort_keys=True).encode()).hexdigest()[:16]


class PathType(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in later versions only
    """A path as dotted text; a lone dot, or nothing, is the root."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ARG002
        """Return the segments. Raises :class:`~redicts.errors.PathError`, as the rest of redicts does."""
        if isinstance(value, tuple):
            return value
        return paths.ROOT if value in ("", ".") else paths.parse(utf8(value, "a PATH"))

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002  (click calls it so)
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the paths in the store that begin with a text, up to the next dot. One read of names."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415  (a shell asks, and no command)

        try:
            above, _, _ = incomplete.rpartition(".")
            path = paths.parse(above) if above else paths.ROOT
            found = open_existing(*chosen(ctx, ctx.params.get("store"), ctx.params.get("database")), quiet=True)
            with closing(found):
                names = found.database.run(found.database.store.names(path), _COMPLETION_SECS)
        except RedictsError:  # of a store that does not answer, or is not configured; the user is typing
            return []
        texts = [paths.render((*path, name)) for name in sorted(names)]
        return [CompletionItem(text) for text in texts if text.startswith(incomplete)]


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
    @click.pass_context
    @wraps(function)
    def command(ctx: click.Context, /, *, store: str | None, database: str | None, **others: Any) -> int:
        store, database = chosen(ctx, store, database)
        found = opened(store, database)
        try:
            with closing(found):
                return function(store=found, **others)
        except Unreachable as error:
            if store or sources.default() is not None:
                raise
            raise Unreachable(f"{error}. {_NOT_CONFIGURED}") from error

    return store_options(json_option(command))


def store_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --store and --database, which the program takes before the name of a command too."""
    store = click.option(
        "-s",
        "--store",
        metavar="STORE",
        help="A URL, settings as JSON, a TOML file, or a backend's name. Default: REDICTS_URL.",
    )
    return store(click.option("-d", "--database", metavar="NAME|NUMBER", help="The database to use.")(function))


def chosen(ctx: click.Context, store: str | None, database: str | None) -> tuple[str | None, str | None]:
    """Return the options of a command for its store, by default those before its name."""
    before = ctx.find_root().params
    return store or before.get("store"), database or before.get("database")


def open_store(store: str | None, database: str | None) -> Store:
    """Open a database. Connects to nothing yet. Raises :class:`~redicts.errors.SettingsError`."""
    settings = settings_of(store, database)
    return Store(_opened(settings), settings)


def open_existing(store: str | None, database: str | None, *, quiet: bool = False) -> Store:
    """Open a database to read it. If its file does not exist, nothing creates it, and an empty one is opened."""
    settings = settings_of(store, database)
    missing = _missing_file(settings)
    if missing is None:
        return _readable(settings, quiet=quiet)
    if not quiet:
        tell(f"the file {missing} {MISSING}")
    return Store(_opened(_at(_IN_MEMORY, settings)), settings, missing)


def _readable(settings: ChosenSettings, *, quiet: bool) -> Store:
    """Open a database to read it. If its file, or the directory of that, cannot be written, a copy is opened."""
    path = getattr(settings.options, "path", None)
    if settings.backend != "sqlite" or path == _IN_MEMORY or not isinstance(path, str):
        return Store(_opened(settings), settings)
    directory = os.path.dirname(path) or "."
    if not os.access(path, os.R_OK) or (os.access(path, os.W_OK) and os.access(directory, os.W_OK)):
        return Store(_opened(settings), settings)
    import shutil  # noqa: PLC0415  (few stores are copied)
    import tempfile  # noqa: PLC0415

    if not quiet:
        tell(f"the file {path} cannot be written, so a copy of it is read")
    copied = tempfile.mkdtemp(prefix="redicts-")
    try:
        copy = os.path.join(copied, os.path.basename(path))
        for suffix in ("", "-wal"):
            if os.path.exists(path + suffix):
                shutil.copyfile(path + suffix, copy + suffix)
        return Store(_opened(_at(copy, settings)), settings, copied=copied)
    except BaseException:
        shutil.rmtree(copied, ignore_errors=True)
        raise


def _missing_file(settings: ChosenSettings) -> str | None:
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


def settings_of(store: str | None, database: str | None) -> ChosenSettings:
    """Return the settings that the options stand for, with the chosen database as the default one."""
    settings = choose(sources.written(store) if store else None)
    if database is None:
        return settings
    is_number = database.isdecimal() and len(database) <= _DIGITS
    number = int(database) if is_number else settings.database(database)
    if isinstance(settings, PlainSettings):
        return settings._replace(default=number)
    return settings.model_copy(update={"default": number})


def _opened(settings: ChosenSettings) -> Database:
    return open_databases(settings, False, Database)[None]


def _at(path: str, settings: ChosenSettings) -> ChosenSettings:
    """Return the settings of the same store in another file."""
    if isinstance(settings, PlainSettings):
        return settings._replace(options=settings.options._replace(path=path))
    return settings.model_copy(update={"options": settings.options.model_copy(update={"path": path})})
