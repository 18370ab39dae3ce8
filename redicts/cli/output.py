"""Output of commands: JSON documents, text and messages, and progress on a terminal."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

from redicts.errors import LeafError, RedictsError

Document = dict[str, Any]


class OutputFailed(OSError):
    """The standard output cannot be written, for instance because the disk is full."""


def prepare_streams() -> None:
    """Make the standard streams usable whatever the environment gives.

    A character that the encoding of a stream lacks is written as an escape. Python has no object for a stream that was
    closed before it started: reading or writing such a stream is an ``OSError``, and its errors are dropped.
    """
    if sys.stdin is None:
        sys.stdin = open(os.open(os.devnull, os.O_WRONLY), encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = _unusable_output()
    if sys.stderr is None:
        sys.stderr = open(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _unusable_output() -> IO[str]:
    # Writing to it fails. Like the streams of Python it is never closed.
    return open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8", closefd=False)


def echo(text: str | bytes) -> None:
    """Print text, or bytes as they are, and a line end on the standard output. Raises :class:`OutputFailed`."""
    with output() as file:
        if isinstance(text, bytes):
            file.flush()
            file.buffer.write(text + b"\n")
        else:
            file.write(f"{text}\n")
        file.flush()


@contextmanager
def output() -> Iterator[Any]:
    """Give the standard output, and raise :class:`OutputFailed` instead of an ``OSError`` of the block.

    A reader of a pipe that has exited stays a ``BrokenPipeError``, and a store that fails stays a ``StoreError``.
    """
    try:
        yield sys.stdout
    except (BrokenPipeError, RedictsError):
        raise
    except OSError as error:
        raise OutputFailed(f"the standard output cannot be written: {error.strerror or error}") from error


def print_json(document: object) -> None:
    """Print one JSON document."""
    echo(json_text(document, indent=2))


def json_text(value: object, indent: int | None = None) -> str:
    """Return JSON text that the standard output can encode: what it cannot is written as escapes.

    Raises :class:`~redicts.errors.LeafError` for a value that is nested too deep for this interpreter.
    """
    try:
        text = _dumps(value, indent, ascii_only=False)
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return _dumps(value, indent, ascii_only=True)
    return text


def _dumps(value: object, indent: int | None, *, ascii_only: bool) -> str:
    # Without indentation the encoder in C is used, which takes deeper values.
    for each in dict.fromkeys([indent, None]):
        try:
            return json.dumps(value, ensure_ascii=ascii_only, indent=each, separators=None if each else (",", ":"))
        except RecursionError:
            continue
    raise LeafError("the value is nested too deep to be printed as JSON; export it as lines")


def fitted(text: str, stream: IO[str]) -> str:
    """Return lines broken between words so that they fit the terminal, and as they are for any other stream."""
    width = terminal_width(stream)
    if width is None or len(text) <= width:
        return text
    import textwrap  # noqa: PLC0415  (for a terminal only)

    broken = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    return "\n".join([broken.fill(line) if len(line) > width else line for line in text.split("\n")])


def terminal_width(stream: IO[str] | None = None) -> int | None:
    """Return the number of columns of the terminal, or ``None`` if the stream is not one: nothing is cut there.

    The stream is the standard output by default.
    """
    import shutil  # noqa: PLC0415  (for a terminal only)

    return max(10, shutil.get_terminal_size().columns) if (stream or sys.stdout).isatty() else None


def tell(message: str) -> None:
    """Print one message on the standard error, if that can be written: it is never worth the work it is about."""
    try:
        sys.stderr.write(fitted(f"redicts: {' '.join(message.split())}", sys.stderr) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def printable(text: str) -> str:
    """Return text in which the characters that control a terminal, or that it cannot show, are escaped."""
    return "".join([each if each.isprintable() or each in _JOINERS else repr(each)[1:-1] for each in text])


_JOINERS: Final = "\u200c\u200d"
"""Invisible parts of words in several scripts, and of emoji. A name without them is another one."""


def size(count: float) -> str:
    """Return a number of bytes with its unit."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def duration(seconds: float) -> str:
    """Return a time with the unit in which it is easily read."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


@contextmanager
def progress_bar(title: str, count: Callable[[], int | None]) -> Iterator[Callable[[int], None]]:
    """Show progress in one line of the standard error during the block, if that is a terminal.

    Yields a function that takes how much is done. ``count`` returns the total, or ``None`` if it is unknown; it is
    called only for a terminal.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    total, shown_at, begun = count(), 0.0, time.monotonic()
    of = f" of {total:,}" if total else ""

    def advance(done: int) -> None:
        nonlocal shown_at
        now = time.monotonic()
        if now - shown_at >= _BETWEEN_SECS:
            shown_at = now
            part = f" ({min(done / total, 1):.0%})" if total else ""
            sys.stderr.write(f"\r\x1b[K{title}: {done:,}{of}{part}, {now - begun:.0f} s")
            sys.stderr.flush()

    try:
        yield advance
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


_BETWEEN_SECS: Final = 0.1
"""The time between two updates of a progress line."""
