"""Numbers in arguments."""

from __future__ import annotations

import math
from typing import Any, Final

import click

_MOST: Final = 1e8
"""Three years: the calls of an operating system that wait have limits too."""


class Seconds(click.FloatRange):
    """A duration in seconds, which a process can wait for: at least ``least``, and neither NaN nor infinite."""

    def __init__(self, least: float) -> None:
        super().__init__(min=least, max=_MOST)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Raises ``click.BadParameter``."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number of seconds", param, ctx)
        return number
