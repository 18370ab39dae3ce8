"""The Redis protocol (RESP2 and RESP3), as far as tests need it: reads whole messages, and makes requests.

Source: "Redis serialization protocol specification", https://redis.io/docs/latest/develop/reference/protocol-spec/.
Streamed values of RESP3, which no server sends, are not read.
"""

from __future__ import annotations

from typing import BinaryIO, Final, NamedTuple, Union

Value = Union[bytes, int, None, "list[Value]"]
"""The content of a message. Maps are flat lists; doubles, booleans and big numbers stay text."""

_SIZED: Final = b"$=!"
_AGGREGATES: Final = {b"*": 1, b"~": 1, b">": 1, b"%": 2, b"|": 2}
_END: Final = b"\r\n"


class StreamEnded(Exception):
    """The peer closed the connection, between two messages or within one."""


class Malformed(Exception):
    """The bytes are not valid RESP."""


class Message(NamedTuple):
    """One whole message: its bytes as received, the type byte of its value, and the value."""

    raw: bytes
    kind: bytes
    value: Value

    @property
    def is_error(self) -> bool:
        """Whether this is an error reply; its text is the value."""
        return self.kind in {b"-", b"!"}

    @property
    def is_push(self) -> bool:
        """Whether this is a RESP3 push message, which answers no request."""
        return self.kind == b">"


def read_message(stream: BinaryIO) -> Message:
    """Read one message, or one request in either of its forms, from a blocking stream.

    Raises :class:`StreamEnded` if the stream ends first, and :class:`Malformed` if the bytes are not valid RESP.
    """
    raw: list[bytes] = []
    kind, value = _read_value(stream, raw)
    return Message(b"".join(raw), kind, value)


def request(*arguments: str | bytes | int) -> bytes:
    """Return a request as bytes."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in arguments]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def _read_value(stream: BinaryIO, raw: list[bytes]) -> tuple[bytes, Value]:
    line = stream.readline()
    if not line.endswith(_END):
        raise StreamEnded
    raw.append(line)
    kind, rest = line[:1], line[1:-2]
    if kind in b"+-,#(_":
        return kind, rest
    if kind == b":":
        return kind, _number(rest)
    if kind in _SIZED:
        return kind, _read_sized(stream, _number(rest), raw)
    if kind in _AGGREGATES:
        size = _number(rest)
        if size < 0:
            return kind, None
        items = [_read_value(stream, raw)[1] for _ in range(size * _AGGREGATES[kind])]
        # An attribute precedes the value that it describes, and belongs to it.
        return _read_value(stream, raw) if kind == b"|" else (kind, items)
    return b"", list(line.split())  # an inline request


def _read_sized(stream: BinaryIO, size: int, raw: list[bytes]) -> bytes | None:
    if size < 0:
        return None
    body = stream.read(size + len(_END))
    if len(body) < size + len(_END):
        raise StreamEnded
    raw.append(body)
    return body[:size]


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise Malformed(f"expected a length or an integer, got {text[:40]!r}") from error
