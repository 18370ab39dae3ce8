"""What the extra ``cli`` brings, and what is said where it is missing."""

from __future__ import annotations

from typing import Final

_BROUGHT: Final = ("click", "rich", "tomli")


def said_of(error: ModuleNotFoundError) -> str | None:
    """Return what to say of a module that is missing, or ``None`` if the extra would not bring it."""
    name = (error.name or "").partition(".")[0]
    if name not in _BROUGHT:
        return None
    return f"the command line needs {name}; install it with: pip install 'redicts[cli]'"
