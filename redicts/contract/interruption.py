"""Interrupts a call between two instructions, as a signal handler or a finalizer would.

A tracer counts the instructions that a function executes in the code of one package, in the running thread. Before the
chosen one it acts: it raises an exception, like a signal handler that raises, or it calls the store again, like a
handler or a finalizer that uses it. So each point where a program can be interrupted is a number, and a check can try
it again.
"""

from __future__ import annotations

import dis
import gc
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import cache
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

_SUITE: Final = __name__.rpartition(".")[0]

_LOADS: Final = (("LOAD_CONST", "LOAD_CONST", "LOAD_CONST"), ("LOAD_CONST", "DUP_TOP", "DUP_TOP"))
"""How versions of Python load the three arguments of ``__exit__`` at the end of a ``with`` block."""


class Interrupt(BaseException):
    """The exception of a signal handler, which no code of redicts knows."""


class Points(Enum):
    """The instructions before which a test may act."""

    EVERY = "every instruction"
    """For calls by finalizers, which the garbage collector runs wherever something is allocated."""
    STRICT = "every instruction that is not on the way out of a with block"
    """For exceptions. No code can be right if they come between a ``with`` block and the call of ``__exit__``."""
    REACHED = "those where CPython runs signal handlers: as functions begin, after calls, and on jumps backward"
    """For exceptions, where they come in practice."""


class Traced(NamedTuple):
    """What became of a traced call: how many instructions there were, where it was interrupted, and what it raised."""

    instructions: int
    where: str | None
    error: BaseException | None


def trace(
    function: Callable[[], object],
    points: Points,
    at: int = -1,
    act: Callable[[], object] = int,
    package: str | None = None,
) -> Traced:
    """Run a function, and ``act`` before its instruction number ``at``, if it has as many; then trace no further.

    Instructions count in modules of this package, by default the one whose code is called first, and never in this one.
    """
    count = 0
    where: str | None = None

    def enter(frame: FrameType, _event: str, _: Any) -> Callable[..., Any] | None:
        nonlocal package
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith(_SUITE) or module not in sys.modules:  # like the generated ones of named tuples
            return None
        name = module.partition(".")[0]
        package = package or name
        if name != package:
            return None
        code = frame.f_code
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        reached = _reached(code) if points is Points.REACHED else None
        # An exception before the first instruction of the outermost function comes before the call, and one before the
        # last instruction after it: nothing is left that could undo the call.
        above = frame.f_back
        begun = points is Points.EVERY or (above is not None and _is_in(above, package))
        skipped = _skipped(code, is_outermost=not begun) if points is Points.STRICT else frozenset()
        previous = -1

        def step(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
            nonlocal count, where, previous, begun
            if event == "opcode":
                here = frame.f_lasti
                before, previous = previous, here
                if (here not in skipped) if reached is None else ((before, here) in reached):
                    if not begun:
                        begun = True
                        return step
                    if count == at:
                        sys.settrace(None)
                        where = _named(frame, package)
                        act()
                        return None
                    count += 1
            return step

        return step

    usual = sys.gettrace()
    error: BaseException | None = None
    with _nothing_collected():
        try:
            sys.settrace(enter)
            next(apart(function))
        except BaseException as found:
            error = found
        finally:
            sys.settrace(usual)
    return Traced(count, where, error)


def apart(function: Callable[[], object]) -> Iterator[object]:
    """Call a function with a state of exceptions of its own, as each generator has one.

    If an exception comes at some instructions that end an ``except`` block, CPython keeps the one that was handled
    there, and it would be the context of all later exceptions of the thread.
    """
    yield function()


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Collect no garbage by itself: an exception that comes in the finalizer of other garbage would be lost."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _is_in(frame: FrameType, package: str | None) -> bool:
    module = str(frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] == package and not module.startswith(_SUITE)


class _Reached:
    """The pairs of successive instructions of a function between which the interpreter runs signal handlers.

    It runs them at the end of the first of the two. So an exception between them is the same only if the same handler
    catches it before both.
    """

    def __init__(self, code: CodeType) -> None:
        self._checks = {
            each.offset
            for each in dis.get_instructions(code)
            if each.opname == "RESUME" or each.opname.startswith("CALL") or "JUMP" in each.opname
        }
        self._checks.add(-1)
        self._entries = getattr(dis.Bytecode(code), "exception_entries", ())

    def __contains__(self, pair: tuple[int, int]) -> bool:
        before, here = pair
        if before not in self._checks or (before == -1 and sys.version_info >= (3, 11)):
            return False
        return before == -1 or self._handler(before) == self._handler(here)

    def _handler(self, offset: int) -> int | None:
        return next((each.target for each in self._entries if each.start <= offset < each.end), None)


@cache
def _reached(code: CodeType) -> _Reached:
    return _Reached(code)


def _named(frame: FrameType, package: str | None) -> str:
    """Return where a frame is, with the instruction that is next and the functions that called it."""
    operation = dis.opname[frame.f_code.co_code[frame.f_lasti]]
    names = []
    above: FrameType | None = frame
    while above is not None and _is_in(above, package):
        names.append(f"{above.f_globals['__name__']}:{above.f_lineno} {above.f_code.co_name}")
        above = above.f_back
    return f"before {operation} in {' < '.join(names)}"


def _leaving(code: CodeType) -> frozenset[int]:
    """Return the offsets of the instructions that leave a ``with`` block without an exception."""
    instructions = list(dis.get_instructions(code))
    found: set[int] = set()
    for index in range(len(instructions) - 4):
        loads = instructions[index : index + 3]
        rest = [each for each in instructions[index + 3 : index + 5] if each.opname != "PRECALL"]
        is_exit = tuple(each.opname for each in loads) in _LOADS and all(
            each.argval is None for each in loads if each.opname == "LOAD_CONST"
        )
        if is_exit and rest[0].opname.startswith("CALL"):
            first = index
            while first and instructions[first - 1].opname in ("SWAP", "ROT_TWO", "POP_BLOCK", "NOP"):
                first -= 1
            found.update(each.offset for each in instructions[first : index + 5] if each.offset <= rest[0].offset)
    return frozenset(found)


@cache
def _skipped(code: CodeType, *, is_outermost: bool) -> frozenset[int]:
    """Return the offsets of the instructions that are no points of ``STRICT``."""
    if not is_outermost:
        return _leaving(code)
    returns = [each.offset for each in dis.get_instructions(code) if each.opname.startswith("RETURN_")]
    return _leaving(code).union(returns)


def sample(total: int, most: int, seed: object) -> list[int]:
    """Return so many of the numbers below ``total``, always the same for a seed, in order."""
    return sorted(random.Random(repr(seed)).sample(range(total), min(total, most)))  # noqa: S311  (not a secret)
