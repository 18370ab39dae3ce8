"""The codec ``msgpack``: also stores bytes, tuples, dates and integers of any size, in less space than JSON.

It uses plain MessagePack with three extension types: 1 is an integer of more than 64 bits, 2 a tuple, 3 a date or
datetime as ISO 8601 text.
"""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Final

import msgpack

from redicts.core.codec import Codec, CodecPlugin, CodecSettings, CorruptContent, TruncatedContent
from redicts.core.hooks import hookimpl
from redicts.core.minitransaction import Path

_INCOMPLETE: Final = ("incomplete input", "exceeds max_")
"""What the library's messages contain if bytes are missing, since it has no exception class for that. The latter stands
for a length that exceeds the bytes."""

_BIG_INTEGER: Final = 1
_TUPLE: Final = 2
_DATE: Final = 3


class MsgpackCodec(Codec):
    """Accepts values that come back equal and of the same class, and refuses all others.

    It accepts ``None``, booleans, numbers, text with any characters, bytes, lists, tuples, dates, datetimes without a
    time zone or with a fixed offset from UTC, and dicts of these with hashable keys. A ``bytearray`` comes back as
    bytes.
    """

    deterministic = True

    @property
    def name(self) -> str:
        """``msgpack``."""
        return "msgpack"

    def encode(self, value: object, _path: Path, /) -> bytes:
        """Return the bytes of a value."""
        try:
            return _packed(value)
        except OverflowError as error:
            raise ValueError(str(error)) from error

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


def _packed(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, default=_extended, strict_types=True, unicode_errors="surrogatepass")
    return packed


def _unpacked(data: bytes) -> object:
    return msgpack.unpackb(data, ext_hook=_restored, strict_map_key=False, unicode_errors="surrogatepass")


def _extended(value: object) -> msgpack.ExtType:
    """Return the extension for a value of a type that MessagePack does not have."""
    kind = type(value)
    if kind is tuple:
        return msgpack.ExtType(_TUPLE, _packed(list(value)))  # type: ignore[call-overload]
    if kind is int:
        assert isinstance(value, int)
        return msgpack.ExtType(_BIG_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    if kind is datetime:
        assert isinstance(value, datetime)
        if value.fold or not (value.tzinfo is None or type(value.tzinfo) is timezone):
            raise TypeError("a datetime must have no time zone or a fixed offset; use astimezone(timezone.utc)")
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
    made = CodecPlugin("msgpack", CodecSettings, lambda _: MsgpackCodec(), contract=1, summary=summary, harness=harness)
    return [made]
