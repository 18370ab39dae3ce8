"""The command group: import a command when it is named, run it, and report every error in one line."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

import click

from redicts.cli import exits, extra
from redicts.cli.output import output, prepare_streams, tell, terminal_width
from redicts.cli.stores import store_options
from redicts.errors import Conflict, InternalError, LockError, RedictsError, StoreError
from redicts.plugins.suggestions import suggestion
from redicts.version import __version__

NAME: Final = "redicts"

COMMANDS: Final[Mapping[str, str]] = {
    "get": "redicts.cli.values:get",
    "set": "redicts.cli.values:set_",
    "add": "redicts.cli.changing:add",
    "merge": "redicts.cli.changing:merge",
    "edit": "redicts.cli.editing:edit",
    "del": "redicts.cli.values:delete",
    "cp": "redicts.cli.moving:copy_",
    "mv": "redicts.cli.moving:move",
    "ttl": "redicts.cli.changing:ttl",
    "expire": "redicts.cli.changing:expire",
    "ls": "redicts.cli.listing:ls",
    "tree": "redicts.cli.tree:tree",
    "stats": "redicts.cli.listing:stats",
    "watch": "redicts.cli.watch:watch",
    "lock": "redicts.cli.locking:lock",
    "locks": "redicts.cli.locks:locks",
    "export": "redicts.cli.exporting:export",
    "import": "redicts.cli.importing:import_",
    "copy": "redicts.cli.copying:copy",
    "shell": "redicts.cli.shell:shell",
    "doctor": "redicts.cli.doctor:doctor",
    "plugins": "redicts.cli.plugins:plugins",
    "schema": "redicts.cli.schema:schema",
    "certify": "redicts.cli.certify:certify",
    "mutants": "redicts.cli.mutants:mutants",
    "completion": "redicts.cli.completion:completion",
}
"""The module and the function of each command, in the order of the help; a module is imported when it is needed. To
add a command, add a module and a line here. :func:`redicts.cli.stores.store_command` gives it an opened store."""

TRACEBACK: Final = "REDICTS_TRACEBACK"
"""The environment variable that turns on the traceback of a bug."""

_COMPLETE: Final = "_REDICTS_COMPLETE"


class _Help(click.HelpFormatter):
    """The text of a help, which leaves room for descriptions in a narrow terminal, and has no trailing blanks."""

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write a list of terms and their descriptions."""
        super().write_dl(list(rows), col_max if self.width > _NARROW else _NARROW // 4, col_spacing)

    def getvalue(self) -> str:
        """Return the text."""
        return "\n".join([line.rstrip() for line in super().getvalue().split("\n")])


class _Context(click.Context):
    formatter_class = _Help


class _Commands(click.Group):
    """The group of all commands, which imports only those that are needed."""

    context_class = _Context

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click calls it so)
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command, or ``None`` for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        command.context_class = _Context
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with their whole summaries, which click would cut to one line."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(limit=200)) for name, each in found if each])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command of a command line. The error for an unknown one suggests a similar name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"there is no command {args[0]!r}; {suggestion(args[0], list(COMMANDS))}", ctx)
        return super().resolve_command(ctx, args)


@click.command(
    NAME,
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@store_options
@click.version_option(__version__, message="%(prog)s %(version)s", help="Show the version.")
@click.pass_context
def program(ctx: click.Context, /, **_: str | None) -> None:
    r"""Show, change, copy and check a redicts store.

    The store is that of --store, else of REDICTS_URL, else of the configuration. A PATH is dotted text, with \. for a
    dot in a name; a lone dot is the root.
    """
    if ctx.invoked_subcommand is None:
        sys.stderr.write(f"{ctx.get_help()}\n")
        ctx.exit(exits.WRONG)


def run(arguments: Sequence[str]) -> int:
    """Run a command line, and return the exit status."""
    prepare_streams()
    # The error of a command says why its request failed; without a handler, the log of it would be a second line.
    logging.getLogger("redicts.store").addHandler(logging.NullHandler())
    if _COMPLETE in os.environ:
        return _complete(arguments)
    return execute(arguments)


def execute(arguments: Sequence[str]) -> int:
    """Run one command, report its error in one line, and return the exit status."""
    try:
        with program.make_context(NAME, list(arguments), **_width_of_help(arguments)) as ctx:
            status: int = program.invoke(ctx)
        with output() as file:
            file.flush()
    except (KeyboardInterrupt, click.Abort):
        status = _fail("interrupted", exits.INTERRUPTED)
    except BrokenPipeError:
        status = exits.PIPE_CLOSED
    except click.exceptions.Exit as done:
        status = done.exit_code
    except Exception as error:
        status = _fail(*_explained(error))
    _flush()
    return status


def _width_of_help(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the width of a help for a terminal that is narrower than what click assumes at least."""
    width = terminal_width() if {"-h", "--help"}.intersection(arguments) else None
    return {} if width is None or width > _NARROW else {"terminal_width": width - 1}


_NARROW: Final = 52


def _complete(arguments: Sequence[str]) -> int:
    """Print completions for a shell. A command line that cannot be completed has none, and the shell shows no error."""
    try:
        program.main(args=list(arguments), prog_name=NAME, complete_var=_COMPLETE)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else exits.WRONG
    except (Exception, KeyboardInterrupt):
        return exits.WRONG
    return exits.DONE


def _explained(error: Exception) -> tuple[str, int]:
    """Return the message for an error, and the exit status."""
    if isinstance(error, click.UsageError):
        about = error.ctx.command_path if error.ctx else NAME
        return f"{error.format_message()} (see: {about} --help)", exits.WRONG
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, RedictsError) and not isinstance(error, InternalError):
        if isinstance(error, StoreError):
            return str(error), exits.FAILED
        from redicts.transfer.lines import IncompleteInput  # noqa: PLC0415  (only the errors of an import need it)

        if isinstance(error, IncompleteInput):
            return str(error), exits.NEGATIVE
        return str(error), exits.LOCKED if isinstance(error, (LockError, Conflict)) else exits.WRONG
    if isinstance(error, ModuleNotFoundError) and (said := extra.said_of(error)) is not None:
        return said, exits.WRONG
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or type(error).__name__
        return (f"{error.filename}: {reason}" if error.filename else reason), exits.FAILED
    if isinstance(error, MemoryError):
        return "this process has no more memory; work on a part of the tree, or export lines", exits.FAILED
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    return f"a bug in redicts, {type(error).__name__}: {error} (set {TRACEBACK}=1 to see the traceback)", exits.FAULT


def _fail(message: str, status: int) -> int:
    """Print a message in one line, whatever it contains, and return the status."""
    tell(message)
    return status


def _flush() -> None:
    """Flush the standard streams, so that the interpreter does not fail at its exit if one cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
