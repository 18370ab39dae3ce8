"""Tells whether a pickle is made for a process that multiprocessing starts: only there may it contain secrets.

Such a pickle goes through a pipe to the new process and nowhere else. The standard library treats the key that
authenticates its processes in the same way.
"""

from __future__ import annotations

import sys
from typing import Any


def is_starting() -> bool:
    """Return whether this thread pickles for a process that multiprocessing starts by ``spawn`` or ``forkserver``."""
    context: Any = sys.modules.get("multiprocessing.context")
    return context is not None and context.get_spawning_popen() is not None
