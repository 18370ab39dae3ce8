"""Ask before a command removes much: on a terminal a person answers, elsewhere an option does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

import click

from redicts.cli.output import fitted

MUCH: Final = 20
"""A command that would remove or replace more leaves than this asks first."""

yes_option: Final = click.option("--yes", is_flag=True, help=f"Remove or replace more than {MUCH} leaves unasked.")


def require(allowed: bool, option: str, what: str) -> None:
    """Return if an option allows what a command would do, or if a person at the terminal does.

    Raises ``click.UsageError``, which names the option, if nobody can be asked or the answer is no.
    """
    if allowed:
        return
    if can_ask():
        if answer(f"this {what}; go on? [y/N]") in ("y", "yes"):
            return
        raise click.UsageError("nothing more was changed")
    raise click.UsageError(f"this {what}; pass {option} if that is meant")


def can_ask() -> bool:
    """Return whether a person at a terminal can read a question and answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def answer(question: str) -> str:
    """Return the answer of a person at the terminal, in small letters."""
    sys.stderr.write(fitted(f"redicts: {question}", sys.stderr) + " ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower()


def guard(yes: bool) -> Callable[[int], None]:
    """Return a function that takes how many leaves are lost so far, and asks once when they are many."""
    asked = yes

    def confirm(lost: int) -> None:
        nonlocal asked
        if lost > MUCH:
            require(asked, "--yes", f"replaces or removes more than {MUCH} leaves that are stored")
            asked = True

    return confirm
