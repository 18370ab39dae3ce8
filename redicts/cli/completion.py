"""``completion``: print the script that completes commands and options in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from redicts.cli import exits
from redicts.cli.output import echo


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print the completion script for SHELL.

    \b
    ~/.bashrc:
      eval "$(redicts completion bash)"
    ~/.zshrc:
      eval "$(redicts completion zsh)"
    ~/.config/fish/config.fish:
      redicts completion fish | source
    """  # noqa: D301  (click keeps the lines after this character)
    kind = get_completion_class(shell)
    assert kind is not None  # click knows each shell of the choice
    echo(kind(ctx.find_root().command, {}, "redicts", "_REDICTS_COMPLETE").source())
    return exits.DONE
