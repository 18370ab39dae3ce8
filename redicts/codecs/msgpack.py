"""The codec ``msgpack``: bytes, tuples, dates and numbers of any size beside what JSON has, in less space.

It is what the MessagePack library reads and writes, with three extension types: 1 is an integer of more than 64 bits, 2
a tuple, 3 a date or a moment as ISO 8601 text.
"""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Final

import msgpack

from redicts.core.codec import Codec, CodecPlugin, CodecSettings, TruncatedContent
from redicts.core.hooks import hookimpl
from redicts.core.minitransaction import Path

_INCOMPLETE: Final = ("incomplete input", "exceeds max_")
"""How the library says that bytes are missing, the latter of more values than the bytes can hold; it has no class for
that."""

_BIG_INTEGER: Final = 1
_TUPLE: Final = 2
_DATE: Final = 3


class MsgpackCodec(Codec):
    """What it takes comes back equal and of the same class; everything else is refused.

    It takes ``None``, truth values, numbers, text with any characters, bytes, lists, tuples, dates, moments with no
    time zone or a fixed distance from UTC, and dicts of these with keys that can be keys. A ``bytearray`` comes back as
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
        except msgpack.StackError as error:
            raise ValueError("it is nested too deep") from error
        except RecursionError:
            raise
        except ValueError as error:
            if any(words in str(error) for words in _INCOMPLETE):
                raise TruncatedContent(str(error)) from error
            raise
        except Exception as error:  # a list as the key of a dict is a TypeError, and there are others
            raise ValueError(f"{type(error).__name__}: {error}") from error


def _packed(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, default=_extended, strict_types=True, unicode_errors="surrogatepass")
    return packed


def _unpacked(data: bytes) -> object:
    return msgpack.unpackb(data, ext_hook=_restored, strict_map_key=False, unicode_errors="surrogatepass")


def _extended(value: object) -> msgpack.ExtType:
    """Return the extension that stands for what MessagePack does not know."""
    kind = type(value)
    if kind is tuple:
        return msgpack.ExtType(_TUPLE, _packed(list(value)))  # type: ignore[call-overload]
    if kind is int:
        assert isinstance(value, int)
        return msgpack.ExtType(_BIG_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    if kind is datetime:
        assert isinstance(value, datetime)
        if value.fold or not (value.tzinfo is None or type(value.tzinfo) is timezone):
            raise TypeError("a moment in a zone with rules would come back in another; use astimezone(timezone.utc)")
        return msgpack.ExtType(_DATE, value.isoformat().encode())
    if kind is date:
        assert isinstance(value, date)
        return msgpack.ExtType(_DATE, value.isoformat().encode())
    raise TypeError(f"Object of type {kind.__name__} is not serializable")


def _restored(code: int, data: bytes) -> object:
    """Return the value that an extension stands for."""
    if code == _BIG_INTEGER:
        return int.from_bytes(data, "big", signed=True)
    if code == _TUPLE:
        items = _unpacked(data)
        if isinstance(items, list):
            return tuple(items)
    if code == _DATE:
        text = data.decode()
        return (datetime if "T" in text else date).fromisoformat(text)
    raise ValueError(f"there is no extension {code} of this form")


@hookimpl
def redicts_codecs() -> list[CodecPlugin]:
    """Offer this codec."""
    summary = "bytes, tuples, dates and big numbers beside what JSON has"
    harness = "redicts.contract.codecs:BuffersAsBytesHarness"
    made = CodecPlugin("msgpack", CodecSettings, lambda _: MsgpackCodec(), contract=1, summary=summary, harness=harness)
    return [made]
