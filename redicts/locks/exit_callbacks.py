"""What is to be done before this process ends, where that can be had at all."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from typing import Any

_forked = False
_forked_as: object = None
"""What multiprocessing called the process that forked this one."""


def before_exit(do: Callable[[], object]) -> bool:
    """Let something be done once this process ends in order, and tell whether that can be promised.

    It cannot be in a forked child, which may end by ``os._exit`` and call no handler, unless multiprocessing made it,
    which has handlers of its own.
    """
    process = _process()
    if process is not None and process is not _forked_as and _multiprocessing().parent_process() is not None:
        from multiprocessing.util import Finalize  # noqa: PLC0415  (loaded already, in such a process)

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


def _begin_anew() -> None:
    global _forked, _forked_as
    # multiprocessing puts another object in its place afterwards, and only if it is what forks.
    _forked, _forked_as = True, _process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
