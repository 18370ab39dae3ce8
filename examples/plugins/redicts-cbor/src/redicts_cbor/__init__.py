"""The codec ``cbor``: leaves as CBOR (RFC 8949), with exact decimals, fractions, UUIDs, sets and datetimes."""

from __future__ import annotations

from redicts.plugin import CodecPlugin, hookimpl
from redicts_cbor.codec import CborCodec, CborSettings

__all__ = ["CborCodec", "CborSettings", "redicts_codecs"]


def _open(settings: CborSettings) -> CborCodec:
    return CborCodec(settings.max_bytes)


@hookimpl
def redicts_codecs() -> list[CodecPlugin]:
    """Offer the codec ``cbor``."""
    return [
        CodecPlugin(
            "cbor", CborSettings, _open, contract=1, summary="CBOR: decimals, fractions, UUIDs, sets, bytes, dates"
        )
    ]
