"""Exceptions from the code of users' values: which are interrupts, and which messages may be shown.

Encoding and decoding run code that redicts does not know: ``__eq__``, ``__reduce__``, validators. Its exceptions become
errors with the path. Their messages may repeat the value, so such an error names their class only.
"""

from __future__ import annotations

import inspect
import re
from types import FrameType
from typing import Final

_TRUSTED: Final = re.compile(r"(redicts|json)\..+|copyreg|msgpack")
"""Modules whose messages name types and positions, and never a value."""


class Redacted(Exception):
    """Stands for an exception whose message may repeat a value: it has its class name and its traceback.

    It is chained as the cause of the error that is raised instead, and is itself never raised.
    """

    @classmethod
    def of(cls, error: BaseException) -> Redacted:
        """Return what may be shown of an exception."""
        made = cls(f"{type(error).__name__}; its message is not shown, because it may repeat the value")
        return made.with_traceback(error.__traceback__)


def is_interrupt(error: BaseException) -> bool:
    """Tell whether a signal handler or a trace function raised an exception, which must then reach its caller.

    Such a function has a frame, the one that it interrupts, as an argument.
    """
    return any(map(_takes_a_frame, _frames(error)[1:]))


def has_safe_message(error: BaseException, module: str) -> bool:
    """Tell whether a trusted module, or this one, raised an exception, directly or in compiled code."""
    frames = _frames(error)
    name = str(frames[-1].f_globals.get("__name__")) if frames else ""
    return not frames or name == module or _TRUSTED.fullmatch(name) is not None


def _frames(error: BaseException) -> list[FrameType]:
    """Return the frames that an exception passed, from the one that caught it to the one that raised it."""
    found = []
    trace = error.__traceback__
    while trace is not None:
        found.append(trace.tb_frame)
        trace = trace.tb_next
    return found


def _takes_a_frame(frame: FrameType) -> bool:
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + bool(code.co_flags & inspect.CO_VARARGS)]
    given = [frame.f_locals.get(name) for name in names]
    given += [each for inner in given if type(inner) is tuple for each in inner]
    return any(type(each) is FrameType for each in given)
