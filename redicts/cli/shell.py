"""``shell``: a prompt that runs the other commands on one store, with completion."""

from __future__ import annotations

import contextlib
import shlex
import sys
from typing import Final

import click

from redicts.cli import exits
from redicts.cli.output import echo, tell
from redicts.cli.stores import chosen, settings_of, store_options

_PROMPT: Final = "redicts> "
_ENDS: Final = ("exit", "quit")


@click.command("shell")
@store_options
@click.pass_context
def shell(ctx: click.Context, store: str | None, database: str | None) -> int:
    """Read commands from a prompt, and run them on one store.

    Each line is a command line without "redicts". Tab completes commands, options and paths. Ends with "exit" or
    Ctrl-D. Without a terminal, it runs the lines of the standard input, and its status is that of the first that fails.
    """
    named = zip(("--store", "--database"), chosen(ctx, store, database))
    options = [f"{option}={value}" for option, value in named if value is not None]
    settings_of(*chosen(ctx, store, database))  # raises at once what each command would
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if is_terminal:
        _complete_with(ctx, options)
        echo('type "help" for the commands, and "exit" to end')
    failed = exits.DONE
    while (line := _line(prompts=is_terminal)) is not None:
        status = _run(line, options)
        if status is None:
            break
        failed = failed or (exits.DONE if is_terminal else status)
    return failed


def _line(*, prompts: bool) -> str | None:
    """Return the next line, or ``None`` at the end."""
    while True:
        try:
            if not prompts:
                return sys.stdin.readline() or None
            return input(_PROMPT)
        except EOFError:
            echo("")
            return None
        except KeyboardInterrupt:  # of a line, not of the shell
            echo("")


def _run(line: str, options: list[str]) -> int | None:
    """Run one line, and return its status, or ``None`` if it ends the shell."""
    from redicts.cli import program  # noqa: PLC0415  (it imports the commands)

    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        tell(f"the line cannot be split into words: {error}")
        return exits.WRONG
    if words[:1] == ["redicts"]:
        words = words[1:]
    if not words:
        return exits.DONE
    if words[0] in _ENDS:
        return None
    if words[0] == "shell":
        tell("this is the shell already")
        return exits.WRONG
    return program.execute(["--help"] if words == ["help"] else [*options, *words])


def _complete_with(ctx: click.Context, options: list[str]) -> None:
    """Let the Tab key complete the words of a line, where Python has readline."""
    try:
        import readline  # noqa: PLC0415  (not on every platform)
    except ImportError:
        return
    from click.shell_completion import ShellComplete  # noqa: PLC0415

    completer = ShellComplete(ctx.find_root().command, {}, "redicts", "")
    found: list[str] = []

    def complete(text: str, state: int) -> str | None:
        if state == 0:
            before = readline.get_line_buffer()[: readline.get_begidx()].split()
            found.clear()
            with contextlib.suppress(Exception):  # an error must not end the line that is being typed
                found.extend(item.value for item in completer.get_completions([*options, *before], text))
        return found[state] if state < len(found) else None

    readline.set_completer(complete)
    readline.set_completer_delims(" \t\n")
    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
