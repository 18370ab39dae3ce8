"""The codec ``msgpack``: also stores bytes, tuples, dates and integers of any size, in less space than JSON.

It uses plain MessagePack with three extension types: 1 is an integer of more than 64 bits, 2 a tuple, 3 a date or
datetime as ISO 8601 text.
"""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Final

import msgpack

from redicts.core.codec import Codec, CodecPlugin, CorruptContent, TruncatedContent
from redicts.core.hooks import hookimpl
from redicts.core.minitransaction import Path
from redicts.core.names import Name

_INCOMPLETE: Final = ("incomplete input", "exceeds max_")
"""What the library's messages contain if bytes are missing, since it has no exception class for that. The latter stands
for a length that exceeds the bytes."""

_BINARY: Final = (b"\xc4", b"\xc5", b"\xc6")
"""The first bytes of binary data, as which a memoryview is written."""

_SCALARS: Final = frozenset({str, int, float, bool, bytes, type(None)})

_BIG_INTEGER: Final = 1
_TUPLE: Final = 2
_DATE: Final = 3


class MsgpackCodec(Codec):
    """Accepts values that come back equal and of the same class, and refuses all others.

    It accepts ``None``, booleans, numbers, text with any characters, bytes, lists, tuples, dates, datetimes without a
    time zone or with a fixed offset from UTC, and dicts of these with hashable keys. A ``bytearray`` and a
    ``memoryview`` of bytes come back as bytes, and a fixed offset loses its name.
    """

    deterministic = True

    @property
    def name(self) -> str:
        """``msgpack``."""
        return "msgpack"

    def encode(self, value: object, _path: Path, /) -> bytes:
        """Return the bytes of a value."""
        try:
            data = _packed(value)
        except (OverflowError, BufferError) as error:
            raise ValueError(str(error)) from error
        if any(mark in data for mark in _BINARY):
            _refuse_arrays(value)
        return data

    def decode(self, data: bytes, _path: Path, /) -> object:
        """Return the value of these bytes."""
        try:
            return _unpacked(data)
        except (msgpack.FormatError, msgpack.ExtraData, UnicodeDecodeError) as error:
            raise CorruptContent(str(error) or "it is not MessagePack") from error
        except msgpack.StackError as error:
            raise ValueError("it is nested deeper than the library reads") from error
        except ValueError as error:
            if any(part in str(error) for part in _INCOMPLETE):
                raise TruncatedContent(str(error)) from error
            raise
        except TypeError as error:
            raise ValueError("a key of a dict cannot be a key in Python") from error


def _refuse_arrays(value: object) -> None:
    """Raise ``TypeError`` for a memoryview of anything but bytes, at any depth: its items would come back as bytes."""
    if isinstance(value, memoryview):
        if value.format != "B" or value.ndim != 1:
            raise TypeError("a memoryview must be one of bytes; use its tolist(), or cast('B')")
    elif isinstance(value, dict):
        for key, inner in value.items():
            _refuse_arrays(key)
            _refuse_arrays(inner)
    elif isinstance(value, (list, tuple)) and not _SCALARS.issuperset(map(type, value)):
        for each in value:
            _refuse_arrays(each)


def _packed(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, default=_extended, strict_types=True, unicode_errors="surrogatepass")
    return packed


def _unpacked(data: bytes) -> object:
    return msgpack.unpackb(data, ext_hook=_restored, strict_map_key=False, unicode_errors="surrogatepass")


def _extended(value: object) -> msgpack.ExtType | str:
    """Return the extension for a value of a type that MessagePack does not have, or the text of a name."""
    kind = type(value)
    if kind is Name:
        return str(value)
    if kind is tuple:
        return msgpack.ExtType(_TUPLE, _packed(list(value)))  # type: ignore[call-overload]
    if kind is int:
        assert isinstance(value, int)
        return msgpack.ExtType(_BIG_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    if kind is datetime:
        assert isinstance(value, datetime)
        if value.fold or not (value.tzinfo is None or type(value.tzinfo) is timezone):
            raise TypeError(
                "a datetime must have no time zone or a fixed offset, and no fold; use "
                "astimezone(timezone.utc).replace(fold=0)"
            )
        return msgpack.ExtType(_DATE, value.isoformat().encode())
    if kind is date:
        assert isinstance(value, date)
        return msgpack.ExtType(_DATE, value.isoformat().encode())
    raise TypeError(f"Object of type {kind.__name__} is not serializable")


def _restored(code: int, data: bytes) -> object:
    """Return the value of an extension."""
    if code == _BIG_INTEGER:
        return int.from_bytes(data, "big", signed=True)
    if code == _TUPLE:
        items = _unpacked(data)
        if isinstance(items, list):
            return tuple(items)
        raise CorruptContent("a tuple has invalid content")
    if code == _DATE:
        text = data.decode()
        try:
            return (datetime if "T" in text else date).fromisoformat(text)
        except ValueError:
            raise CorruptContent("a date has invalid content") from None
    raise ValueError(f"it has the MessagePack extension {code}, which this codec does not read")


@hookimpl
def redicts_codecs() -> list[CodecPlugin]:
    """Offer this codec."""
    summary = "JSON's types and bytes, tuples, dates and big numbers"
    harness = "redicts.contract.codecs:BuffersAsBytesHarness"
    made = CodecPlugin("msgpack", None, lambda _: MsgpackCodec(), contract=1, summary=summary, harness=harness)
    return [made]
