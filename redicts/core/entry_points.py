"""The entry-point groups of plugins, and the version of the contract that plugins are written for."""

from __future__ import annotations

from typing import Final

PROJECT: Final = "redicts"
"""The name under which pluggy marks hooks."""

BACKENDS: Final = "redicts.backends"
CODECS: Final = "redicts.codecs"

CONTRACT: Final = 1
"""The version of the contract with backends and codecs that this redicts supports."""
