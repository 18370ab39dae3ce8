"""Interrupts a call of redicts between two instructions, as a signal handler or a finalizer would.

A tracer counts the instructions that a function executes in the code of redicts, in the running thread. Before the
chosen one it acts: it raises an exception, like a signal handler that raises, or it calls redicts again, like a handler
or a finalizer that uses it. So each place where a program can be interrupted is a number, and a test can try it again.
"""

from __future__ import annotations

import dis
import random
import sys
import threading
from collections.abc import Callable, Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from traceback import format_stack
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

import redicts

_PACKAGE: Final = str(Path(redicts.__file__).parent)

_LOADS: Final = (("LOAD_CONST", "LOAD_CONST", "LOAD_CONST"), ("LOAD_CONST", "DUP_TOP", "DUP_TOP"))
"""How versions of Python load the three arguments of ``__exit__`` at the end of a ``with`` block."""


class Interrupt(BaseException):
    """The exception of a signal handler, which no code of redicts knows."""


class Hung(AssertionError):
    """A call did not end in time: it waits for something that will never come."""


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


def trace(function: Callable[[], object], points: Points, at: int = -1, act: Callable[[], object] = int) -> Traced:
    """Run a function, and ``act`` before its instruction number ``at``, if it has as many; then trace no further."""
    count = 0
    where: str | None = None

    def enter(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        code = frame.f_code
        if not code.co_filename.startswith(_PACKAGE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        skipped = _leaving(code) if points is Points.STRICT else frozenset()
        reached = _reached(code) if points is Points.REACHED else None
        above = frame.f_back
        # An exception before the first instruction of the outermost function comes before the call.
        begun = points is Points.EVERY or (above is not None and above.f_code.co_filename.startswith(_PACKAGE))
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
                        where = _named(frame)
                        act()
                        return None
                    count += 1
            return step

        return step

    error: BaseException | None = None
    try:
        sys.settrace(enter)
        function()
    except BaseException as found:
        error = found
    finally:
        sys.settrace(None)
    return Traced(count, where, error)


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


def _named(frame: FrameType) -> str:
    """Return where a frame is, with the instruction that is next and the functions that called it."""
    operation = dis.opname[frame.f_code.co_code[frame.f_lasti]]
    names = []
    above: FrameType | None = frame
    while above is not None and above.f_code.co_filename.startswith(_PACKAGE):
        file = Path(above.f_code.co_filename).relative_to(_PACKAGE)
        names.append(f"{file}:{above.f_lineno} {above.f_code.co_name}")
        above = above.f_back
    return f"before {operation} in {' < '.join(names)}"


@cache
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


class Worker:
    """A thread that runs functions one after the other, for a test that must go on if one of them never ends."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    def __call__(self, function: Callable[[], Any], what: str, timeout: float) -> Any:
        """Return what a function returns in this thread, or raise what it raises.

        Raises :class:`Hung`, with the stack of the thread, if it does not end in time.
        """
        results: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

        def call() -> None:
            try:
                results.put((function(), None))
            except BaseException as error:
                results.put((None, error))

        self._calls.put(call)
        try:
            result, error = results.get(timeout=timeout)
        except Empty:
            stack = sys._current_frames().get(self._thread.ident or 0)
            lines = "".join(format_stack(stack)[-6:]) if stack else ""
            raise Hung(f"{what} did not end within {timeout:g} seconds:\n{lines}") from None
        if error is not None:
            raise error
        return result

    def end(self) -> None:
        """End the thread after the calls under way."""
        self._calls.put(None)


def sample(total: int, points: int, seed: str) -> Iterator[int]:
    """Yield so many of the numbers below ``total``, always the same for a seed, in order."""
    yield from sorted(random.Random(seed).sample(range(total), min(total, points)))
