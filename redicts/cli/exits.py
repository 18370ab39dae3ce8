"""The exit statuses of ``redicts``, on which scripts may rely."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
"""Success, or the answer yes."""
NEGATIVE: Final = 1
"""The answer no: not found, not equal, damaged."""
WRONG: Final = 2
"""Wrong use: an unknown option, an invalid path, value or configuration, a missing package."""
FAILED: Final = 3
"""The store failed, or a file could not be read or written."""
LOCKED: Final = 4
"""Refused because of another owner's lock or change."""
FAULT: Final = 70
"""A bug in redicts."""
INTERRUPTED: Final = 130
"""Interrupted by Ctrl-C."""
PIPE_CLOSED: Final = 141
"""The reader of the output has exited, as ``head`` does."""
