"""The entry-point groups of plugins, the version of the contract that plugins are written for, and imports by name."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

PROJECT: Final = "redicts"
"""The name under which pluggy marks hooks."""

BACKENDS: Final = "redicts.backends"
CODECS: Final = "redicts.codecs"

CONTRACT: Final = 1
"""The version of the contract with backends and codecs that this redicts supports."""


def imported(reference: str) -> Any:
    """Return the object of ``package.module:attribute``, after importing the module."""
    module, _, attribute = reference.partition(":")
    return getattr(import_module(module), attribute)
