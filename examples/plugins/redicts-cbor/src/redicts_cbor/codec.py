"""The codec ``cbor``: which values it accepts, and how they are encoded and decoded."""

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
"""How deep containers may be nested; the library reads no more than 400 levels."""


class CborSettings(CodecSettings):
    """The settings of the codec ``cbor``."""

    max_bytes: int = Field(16 * 1024 * 1024, ge=1)
    """Larger leaves are refused, when written and when read."""


class CborCodec(Codec):
    """Accepts values that come back equal and of the same class, and refuses all others.

    It accepts ``None``, booleans, integers of any size, floats, text, bytes, finite decimals, fractions, UUIDs, dates,
    datetimes with a fixed offset from UTC, and lists, sets and dicts of these. Keys and members of sets must be
    scalars. Dicts come back with their keys in canonical CBOR order, so that equal values have equal bytes.
    """

    deterministic = True

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes: Final = max_bytes

    @property
    def name(self) -> str:
        """``cbor``."""
        return "cbor"

    def encode(self, value: object, _path: tuple[str, ...] = (), /) -> bytes:
        """Return the CBOR of a value. Raises ``TypeError`` or ``ValueError`` if it would come back differently."""
        _check(value, 0)
        try:
            data = cbor2.dumps(value, canonical=True)
        except cbor2.CBORError as error:
            raise ValueError(f"CBOR cannot hold this: {error}") from error
        self._check_size(data)
        return data

    def decode(self, data: bytes, _path: tuple[str, ...] = (), /) -> object:
        """Return the value of these bytes. Raises ``ValueError`` if they are not what this codec writes."""
        self._check_size(data)
        stream = BytesIO(data)
        try:
            value: object = cbor2.CBORDecoder(stream, allow_indefinite=False, allow_duplicate_keys=False).decode()
            # The library decodes more types than this codec accepts, and values that contain themselves.
            _check(value, 0)
        except cbor2.CBORDecodeEOF as error:
            raise TruncatedContent("the CBOR ends too early") from error
        except Exception as error:  # an invalid tag may raise anything
            raise ValueError(f"this is not CBOR of this codec ({type(error).__name__})") from error
        if cbor2.dumps(value, canonical=True) != data:
            raise ValueError("this CBOR has bytes after its value, or is not in canonical form")
        return value

    def _check_size(self, data: bytes) -> None:
        if len(data) > self._max_bytes:
            raise ValueError(f"a leaf must not exceed max_bytes, {self._max_bytes}; this one has {len(data)} bytes")


def _check(value: object, depth: int) -> None:
    """Raise ``TypeError`` or ``ValueError`` if a value would come back differently."""
    if depth > _DEEPEST:
        raise ValueError(f"containers must not be nested deeper than {_DEEPEST} levels")
    if type(value) is list:
        for item in value:
            _check(item, depth + 1)
    elif type(value) is dict:
        for key, item in value.items():
            _check_scalar(key)
            _check(item, depth + 1)
    elif type(value) is set:
        for member in value:
            _check_scalar(member)
    else:
        _check_scalar(value)


def _check_scalar(value: object) -> None:
    kind = type(value)
    if kind not in _SCALARS:
        remedy = "; store a list" if kind is tuple else ""
        raise TypeError(f"CBOR does not give back a {kind.__name__} as one{remedy}")
    if isinstance(value, Decimal) and (not value.is_finite() or (value.is_zero() and value.is_signed())):
        raise ValueError("a decimal must be finite, and not a negative zero")
    if isinstance(value, datetime):
        offset = value.utcoffset()
        if type(value.tzinfo) is not timezone or offset is None or offset % _MINUTE or value.fold:
            raise TypeError("a datetime needs a fixed offset from UTC in whole minutes; use astimezone(timezone.utc)")
