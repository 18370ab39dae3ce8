"""Exit callbacks, where the platform supports them."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from typing import Any

_forked = False
_forked_as: object = None
"""The process object of multiprocessing at the time of the fork."""


def before_exit(do: Callable[[], object]) -> bool:
    """Register a callback for a regular end of this process, and return whether it is certain to be called.

    It is not certain in a forked child, which may end by ``os._exit`` and call no handlers. A child of multiprocessing
    has handlers of its own.
    """
    process = _process()
    if process is not None and process is not _forked_as and _multiprocessing().parent_process() is not None:
        from multiprocessing.util import Finalize  # noqa: PLC0415  (such a process has loaded it)

        Finalize(None, do, exitpriority=0)
        return True
    if _forked:
        return False
    atexit.register(do)
    return True


def _multiprocessing() -> Any:
    return sys.modules.get("multiprocessing.process")


def _process() -> object:
    found = _multiprocessing()
    return None if found is None else found.current_process()


def _record_fork() -> None:
    global _forked, _forked_as
    # multiprocessing replaces this object after the fork, but only in its own children.
    _forked, _forked_as = True, _process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_record_fork)
