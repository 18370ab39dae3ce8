"""The exit statuses of ``redicts``, which scripts may rely on."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
"""It was done, or the answer is yes."""
NEGATIVE: Final = 1
"""It was done, and the answer is no: not found, not equal, something is damaged."""
WRONG: Final = 2
"""Wrong use: an unknown option, a path or value that cannot be, a wrong configuration, a missing package."""
FAILED: Final = 3
"""The store failed, or a file could not be read or written."""
LOCKED: Final = 4
"""Somebody else's lock, or somebody else's change, forbids it."""
FAULT: Final = 70
"""A fault of redicts itself."""
INTERRUPTED: Final = 130
"""Ctrl-C."""
PIPE_CLOSED: Final = 141
"""Whoever reads the output has gone, as ``head`` does."""
