"""What the codec takes, and how it becomes CBOR and comes back."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from io import BytesIO
from typing import Final
from uuid import UUID

import cbor2
from pydantic import Field

from redicts.plugin import Codec, CodecSettings, TruncatedContent

_SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes, Decimal, Fraction, UUID, date, datetime})
_MINUTE: Final = timedelta(minutes=1)
_DEEPEST: Final = 300
"""How many containers may be inside of each other; the library reads no more than 400."""


class CborSettings(CodecSettings):
    """The settings of the codec ``cbor``."""

    max_bytes: int = Field(16 * 1024 * 1024, ge=1)
    """Leaves that take more are refused, when written and when read."""


class CborCodec(Codec):
    """What it takes comes back equal and of the same class; everything else is refused.

    It takes ``None``, truth values, integers and floats of any size, text, bytes, finite decimals, fractions, UUIDs,
    dates, moments with a fixed distance from UTC, and lists, sets and dicts of these. Keys and members of sets are
    scalars. Dicts come back with their keys in the order that CBOR calls canonical, so that equal values have equal
    bytes.
    """

    deterministic = True

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes: Final = max_bytes

    @property
    def name(self) -> str:
        """``cbor``."""
        return "cbor"

    def encode(self, value: object, _path: tuple[str, ...] = (), /) -> bytes:
        """Return the CBOR of a value. Raises ``TypeError`` or ``ValueError`` for one that it could not give back."""
        _examine(value, 0)
        try:
            data = cbor2.dumps(value, canonical=True)
        except cbor2.CBORError as error:
            raise ValueError(f"CBOR cannot hold this: {error}") from error
        self._weigh(data)
        return data

    def decode(self, data: bytes, _path: tuple[str, ...] = (), /) -> object:
        """Return the value of these bytes. Raises ``ValueError`` if they are not what this codec writes."""
        self._weigh(data)
        stream = BytesIO(data)
        try:
            value: object = cbor2.CBORDecoder(stream, allow_indefinite=False, allow_duplicate_keys=False).decode()
            # The library knows more types than this codec, and some that refer to themselves.
            _examine(value, 0)
        except cbor2.CBORDecodeEOF as error:
            raise TruncatedContent("the CBOR ends too early") from error
        except Exception as error:  # a tag that does not fit its content raises whatever the type of its content does
            raise ValueError(f"this is no CBOR of this codec ({type(error).__name__})") from error
        if cbor2.dumps(value, canonical=True) != data:
            raise ValueError("this CBOR has something after its value, or is not in the form that this codec writes")
        return value

    def _weigh(self, data: bytes) -> None:
        if len(data) > self._max_bytes:
            raise ValueError(f"{len(data)} bytes are more than max_bytes of the codec allows, {self._max_bytes}")


def _examine(value: object, depth: int) -> None:
    """Raise ``TypeError`` or ``ValueError`` if a value would come back as another one."""
    if depth > _DEEPEST:
        raise ValueError(f"more than {_DEEPEST} containers inside of each other")
    if type(value) is list:
        for item in value:
            _examine(item, depth + 1)
    elif type(value) is dict:
        for key, item in value.items():
            _examine_scalar(key)
            _examine(item, depth + 1)
    elif type(value) is set:
        for member in value:
            _examine_scalar(member)
    else:
        _examine_scalar(value)


def _examine_scalar(value: object) -> None:
    kind = type(value)
    if kind not in _SCALARS:
        remedy = "; store a list" if kind is tuple else ""
        raise TypeError(f"a {kind.__name__} does not come back from CBOR as one{remedy}")
    if isinstance(value, Decimal) and (not value.is_finite() or (value.is_zero() and value.is_signed())):
        raise ValueError("of decimals, CBOR has finite ones only, and one zero")
    if isinstance(value, datetime):
        offset = value.utcoffset()
        if type(value.tzinfo) is not timezone or offset is None or offset % _MINUTE or value.fold:
            raise TypeError("a moment needs a fixed distance from UTC in whole minutes; use astimezone(timezone.utc)")
