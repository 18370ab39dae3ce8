"""Numbers in arguments, negative ones among them."""

from __future__ import annotations

import math
import re
from typing import Any, Final

import click

_MOST: Final = 1e8
"""Three years: the calls of an operating system that wait have limits too."""


def _float(value: Any) -> float:
    """Return the number that an argument is, or NaN."""
    try:
        return float(value)
    except ValueError:
        return math.nan


class Seconds(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in later versions only
    """A duration in seconds, which a process can wait for: at least ``least``, and neither NaN nor infinite."""

    name = "seconds"

    def __init__(self, least: float) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Raises ``click.BadParameter``."""
        number = _float(value)
        if not self._least <= number <= _MOST:
            self.fail(f"{value} must be a number from {self._least:g} to {_MOST:,.0f}", param, ctx)
        return number


class Ttl(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in later versions only
    """A TTL in seconds, a positive finite number."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Raises ``click.BadParameter``."""
        number = _float(value)
        if not 0 < number < math.inf:
            self.fail(f"{value} must be a positive number (use redicts del to remove a value)", param, ctx)
        return number


class Amount(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in later versions only
    """A finite number: an ``int`` if it is written as one."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Raises ``click.BadParameter``."""
        if not isinstance(value, str):
            return value
        try:
            return int(value)
        except ValueError:
            number = _float(value)
        if not math.isfinite(number):
            self.fail("it must be a finite number, for instance 1 or -0.5", param, ctx)
        return number


_NEGATIVE: Final = re.compile(r"-(\d|\.\d|Infinity|NaN)\S*")


class TakesNumbers(click.Command):
    """A command whose arguments may be negative numbers, which click would take for options."""

    def make_parser(self, ctx: click.Context) -> Any:
        """Return the parser, which takes an unknown option for an argument if the command line has such a number."""
        parser = super().make_parser(ctx)
        parser.ignore_unknown_options |= any(map(_NEGATIVE.fullmatch, ctx.meta.get(_ARGUMENTS, ())))
        return parser

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse a command line."""
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)


_ARGUMENTS: Final = "redicts.cli.arguments"
