"""``completion``: what a shell needs to complete commands and options."""

from __future__ import annotations

import click

from redicts.cli import exits


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print a script that lets SHELL complete commands and options.

    \b
    bash:  eval "$(redicts completion bash)"       in ~/.bashrc
    zsh:   eval "$(redicts completion zsh)"        in ~/.zshrc
    fish:  redicts completion fish | source        in ~/.config/fish/config.fish
    """  # noqa: D301  (the character is meant: click then keeps the lines)
    from click.shell_completion import get_completion_class  # noqa: PLC0415  (only this needs it)

    kind = get_completion_class(shell)
    assert kind is not None  # the choice has no others
    click.echo(kind(ctx.find_root().command, {}, "redicts", "_REDICTS_COMPLETE").source())
    return exits.DONE
