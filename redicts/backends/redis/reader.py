"""Readers of RESP, the protocol of Redis: hiredis's, or one in Python if that is not installed."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Final

from redis import exceptions
from redis.connection import DefaultParser

INCOMPLETE: Final = object()
"""What a reader returns until the next reply is complete."""

try:
    import hiredis
except ImportError:
    hiredis = None  # type: ignore[assignment]


def new_reader() -> Any:
    """Return a reader with the methods ``feed`` and ``gets``. Errors of the server are results, as exceptions."""
    if hiredis is None:
        return Reader()
    return hiredis.Reader(protocolError=exceptions.InvalidResponse, replyError=error_of, notEnoughData=INCOMPLETE)


def error_of(text: str) -> Exception:
    """Return the exception of redis-py for an error of the server."""
    error: Exception = DefaultParser.parse_error(text)  # type: ignore[no-untyped-call]
    return error


class Reader:
    """Reads replies of RESP 2 from bytes that arrive in pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0
        self._replies = self._read()

    def feed(self, data: bytes) -> None:
        """Append bytes."""
        self._buffer += data

    def gets(self) -> Any:
        """Return the next reply, or :data:`INCOMPLETE`."""
        return next(self._replies)

    def _read(self) -> Iterator[Any]:
        while True:
            reply = yield from self._one()
            del self._buffer[: self._at]
            self._at = 0
            yield reply

    def _one(self) -> Generator[Any, None, Any]:
        """Return the next reply, after one ``INCOMPLETE`` for each time that bytes are missing."""
        while (end := self._buffer.find(b"\r\n", self._at)) < 0:
            yield INCOMPLETE
        kind, line = bytes(self._buffer[self._at : self._at + 1]), bytes(self._buffer[self._at + 1 : end])
        self._at = end + 2
        if kind == b"+":
            return line
        if kind == b"-":
            return error_of(line.decode("utf-8", "replace"))
        if kind not in (b":", b"$", b"*"):
            raise exceptions.InvalidResponse("Protocol Error")
        size = int(line)
        if kind == b":":
            return size
        if kind == b"$" and size >= 0:
            begin, self._at = self._at, self._at + size + 2
            while len(self._buffer) < self._at:
                yield INCOMPLETE
            return bytes(self._buffer[begin : begin + size])
        if kind == b"*" and size >= 0:
            items = []
            for _ in range(size):
                items.append((yield from self._one()))  # noqa: PERF401  (a comprehension cannot yield)
            return items
        return None
