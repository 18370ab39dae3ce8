"""The wall clock of this process, as the code of one package sees it, set forwards or back."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final

_seconds: Final = [0.0]
_time: Final = time.time
_time_ns: Final = time.time_ns


def _shifted() -> float:
    return _time() + _seconds[0]


def _shifted_ns() -> int:
    return _time_ns() + round(_seconds[0] * 1_000_000_000)


_SHIFTED: Final[tuple[tuple[Callable[[], Any], Callable[[], Any]], ...]] = ((_time, _shifted), (_time_ns, _shifted_ns))


def set_wall_clock(seconds: float, package: str) -> None:
    """Set ``time.time`` and ``time.time_ns`` so many seconds before the true time, or with 0 to the true time again.

    That holds for all that asks the module ``time``, and for the modules of a package that have imported its functions.
    Code that keeps one of the functions meanwhile is told the true time by it after the end.
    """
    _seconds[0] = seconds
    modules = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] == package]
    for module in (time, *modules):
        if module.__name__ == __name__:
            continue
        for name, value in list(vars(module).items()):
            for true, shifted in _SHIFTED:
                if value is (true if seconds else shifted):
                    setattr(module, name, shifted if seconds else true)
