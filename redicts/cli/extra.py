"""The packages of the extra ``cli``, and the message for a missing one."""

from __future__ import annotations

from typing import Final

_PACKAGES: Final = ("click", "tomli")


def said_of(error: ModuleNotFoundError) -> str | None:
    """Return the message for a missing module, or ``None`` if the extra does not install it."""
    name = (error.name or "").partition(".")[0]
    if name not in _PACKAGES:
        return None
    return f"the command line needs {name}; install it with: pip install 'redicts[cli]'"
