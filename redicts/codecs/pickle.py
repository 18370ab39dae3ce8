"""The codec ``pickle``: stores any Python object, signed so that only holders of a key can have code run by readers.

Unpickling runs code that the bytes choose. Therefore this codec is inert until the settings name it, and requires keys:
it refuses bytes that no key has signed for the path at which they are stored, before pickle reads them.
"""

from __future__ import annotations

import hashlib
import hmac
import pickle
import pickletools
import re
from typing import Final

from pydantic import Field, SecretStr, StrictBool, field_validator, model_validator

from redicts.core.codec import BadSignatureContent, Codec, CodecPlugin, CorruptContent, TruncatedContent
from redicts.core.foreign import Redacted, is_interrupt
from redicts.core.hooks import hookimpl
from redicts.core.minitransaction import Path
from redicts.core.plugin_settings import CodecSettings

_SIGNED: Final = b"S"
_UNSIGNED: Final = b"U"
_DIGEST: Final = hashlib.sha256
_DIGEST_SIZE: Final = 32
_PURPOSE: Final = b"redicts pickle signed 1\n"
_SHORTEST_KEY: Final = 16
_NO_PICKLE: Final = re.compile(r"cannot pickle '[\w.]+' objects?")
_NO_ATTRIBUTE: Final = re.compile(r"^Can't get attribute '([\w.<>]+)' on <module '([\w.]+)'")
_MISSING_BYTES: Final = re.compile(r"exhausted|remain|not enough|no newline|no string")
_PROTOCOL: Final = 5
"""The newest that all supported versions of Python have, so that an older one reads what a newer one wrote."""


class PickleSettings(CodecSettings):
    """Settings of the codec ``pickle``: signing keys, or the explicit statement that values are not signed."""

    keys: tuple[SecretStr, ...] = Field(
        default=(), description="Secrets: the first signs, and all are accepted when reading."
    )
    unsigned: StrictBool = Field(
        default=False, description="Neither sign nor check: every writer of the store can run code in its readers."
    )

    @field_validator("keys")
    @classmethod
    def _long_enough(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(_bytes(key)) < _SHORTEST_KEY for key in keys):
            raise ValueError(f"each key needs at least {_SHORTEST_KEY} bytes; make one with secrets.token_urlsafe(32)")
        return keys

    @model_validator(mode="after")
    def _keys_or_unsigned(self) -> PickleSettings:
        if not self.keys and not self.unsigned:
            raise ValueError(
                "the codec pickle needs 'keys' to sign what it writes; with 'unsigned': true, every writer of the "
                "store can run code in its readers"
            )
        if self.keys and self.unsigned:
            raise ValueError("'keys' and 'unsigned' exclude each other; with keys, unsigned values are never read")
        return self


class PickleCodec(Codec):
    """Writes an HMAC-SHA256 over path and payload, and the payload. Equal values may have different bytes.

    Args:
        keys: The first signs; what any of them signed is read. Without keys nothing is signed or checked.

    """

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self._keys = keys
        self.binds_path = self.safe = bool(keys)

    @property
    def name(self) -> str:
        """``pickle``."""
        return "pickle"

    def encode(self, value: object, path: Path, /) -> bytes:
        """Return a signed pickle of a value. Raises ``ValueError`` for what pickle refuses."""
        try:
            payload = pickle.dumps(value, _PROTOCOL)
        except RecursionError:
            raise
        except Exception as error:  # methods of a value may raise anything
            if is_interrupt(error):
                raise
            raise ValueError(_why_not_pickled(error)) from Redacted.of(error)
        if not self._keys:
            return _UNSIGNED + payload
        return _SIGNED + _signature(self._keys[0], path, payload) + payload

    def decode(self, data: bytes, path: Path, /) -> object:
        """Return the value of a signed pickle, without unpickling one that is not signed for this path."""
        kind = data[:1]
        if kind not in (_SIGNED, _UNSIGNED):
            raise (CorruptContent if data else TruncatedContent)("it is not a pickle of redicts")
        if self._keys:
            return _unpickled(self._verified(data, path), is_signed=True)
        if kind == _SIGNED:
            raise ValueError("it is signed; give its keys in the setting 'codec.keys', instead of 'codec.unsigned'")
        return _unpickled(data[1:], is_signed=False)

    def _verified(self, data: bytes, path: Path) -> bytes:
        """Return the pickle in signed bytes after checking the signature."""
        if data[:1] != _SIGNED:
            raise BadSignatureContent("it is not signed, and the setting 'codec.keys' requires a signature")
        if len(data) < 1 + _DIGEST_SIZE:
            raise TruncatedContent("its signature is cut short; store it again")
        signature, payload = data[1 : 1 + _DIGEST_SIZE], data[1 + _DIGEST_SIZE :]
        # All keys are tried even after a match, so that the time reveals nothing.
        matches = [hmac.compare_digest(signature, _signature(key, path, payload)) for key in self._keys]
        if not any(matches):
            raise BadSignatureContent(
                "no key of the setting 'codec.keys' has signed it for this path; if you wrote it, add the key that "
                "signed it"
            )
        return payload


def _signature(key: bytes, path: Path, payload: bytes) -> bytes:
    """Return the signature of a payload at a path, whose segments have lengths so that no two paths are the same."""
    signed = hmac.new(key, _PURPOSE, _DIGEST)
    signed.update(len(path).to_bytes(4, "big"))
    for segment in path:
        name = segment.encode("utf-8", "surrogatepass")
        signed.update(len(name).to_bytes(8, "big") + name)
    signed.update(payload)
    return signed.digest()


def _unpickled(payload: bytes, *, is_signed: bool) -> object:
    """Return the value of a pickle. A valid signature proves that the pickle is not corrupt."""
    try:
        return pickle.loads(payload)  # noqa: S301  (see the module's docstring)
    except RecursionError:
        raise
    except Exception as error:  # methods of a value may raise anything
        if is_interrupt(error):
            raise
        if not is_signed:
            _check_structure(payload)
        raise ValueError(_why_not_unpickled(error)) from Redacted.of(error)


def _check_structure(payload: bytes) -> None:
    """Raise ``CorruptContent`` for bytes that are not a sequence of pickle's instructions. Runs none of them."""
    try:
        for _ in pickletools.genops(payload):
            pass
    except ValueError as error:
        if _MISSING_BYTES.search(str(error)):
            raise TruncatedContent("the pickle is cut short; store it again") from None
        raise CorruptContent("it has bytes that are not a pickle") from None


def _why_not_pickled(error: Exception) -> str:
    """Return why pickle refused a value, without the value."""
    if isinstance(error, TypeError) and _NO_PICKLE.fullmatch(str(error)):
        return str(error)
    if isinstance(error, (pickle.PicklingError, AttributeError)):
        return f"{type(error).__name__}: pickle needs classes and functions that can be imported by their name"
    return f"{type(error).__name__} while it was pickled"


def _why_not_unpickled(error: Exception) -> str:
    """Return what pickle lacks to restore a value, without the value."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"it needs the module {error.name!r}, which is not installed here"
    found = _NO_ATTRIBUTE.search(str(error)) if isinstance(error, AttributeError) else None
    if found:
        return f"it needs {f'{found[2]}.{found[1]}'!r}, which is not there in this program"
    return f"{type(error).__name__} while it was unpickled"


def _bytes(key: SecretStr) -> bytes:
    return key.get_secret_value().encode("utf-8", "surrogatepass")


def open_codec(settings: PickleSettings) -> PickleCodec:
    """Return the codec with these settings."""
    return PickleCodec(tuple(_bytes(key) for key in settings.keys))


@hookimpl
def redicts_codecs() -> list[CodecPlugin]:
    """Offer this codec."""
    summary = "any Python object, signed; inert until named"
    return [CodecPlugin("pickle", PickleSettings, open_codec, contract=1, summary=summary)]
