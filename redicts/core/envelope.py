r"""The format of stored leaves: plain JSON as it is, all other codecs in an envelope with the name of the codec.

================================  ======================================================================
bytes                             meaning
================================  ======================================================================
``42``, ``"text"``, ``[1,2]``     plain JSON text of the codec ``json``
``\4msgpack 7\n.......``          a header, then 7 bytes of the codec ``msgpack``
================================  ======================================================================

No JSON text begins with byte 4. With every codec, 64-bit integers and empty dicts are plain text, because stores add to
the former and ``merge`` must recognise the latter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NoReturn

from redicts.core.codec import (
    BadSignatureContent,
    Codec,
    CorruptContent,
    JsonText,
    TruncatedContent,
    UnknownType,
    ValidationFailedContent,
)
from redicts.core.foreign import Redacted, has_safe_message, is_interrupt
from redicts.core.minitransaction import Path, canonical_counter, fits_counter
from redicts.core.paths import described
from redicts.errors import (
    BadSignature,
    CodecRefused,
    CodecUnknown,
    CorruptData,
    LeafError,
    RedictsError,
    Truncated,
    TypeUnknown,
    UnreadableHere,
    ValidationFailed,
)

PLAIN: Final = "json"
"""The name of the codec whose text needs no envelope."""

EMPTY_DICT: Final = b"{}"
"""The stored bytes of an empty dict with every codec."""

ENVELOPE: Final = b"\x04"
"""The first byte of a leaf in an envelope."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
_HEADER: Final = re.compile(rb"\x04([A-Za-z0-9][A-Za-z0-9_.+-]{0,63}) (0|[1-9][0-9]{0,11})\n")
_CUT_HEADER: Final = re.compile(rb"\x04(?:[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}(?: (?:0|[1-9][0-9]{0,11})?)?)?")
_COUNTER: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")

_ERRORS: Final = (
    (TruncatedContent, Truncated, "with the codec {} ends too early"),
    (CorruptContent, CorruptData, "is not valid {}"),
    (BadSignatureContent, BadSignature, "with the codec {} has no valid signature"),
    (UnknownType, TypeUnknown, "with the codec {} has a type that is not registered"),
    (ValidationFailedContent, ValidationFailed, "with the codec {} does not fit its type"),
    (Exception, UnreadableHere, "with the codec {} cannot be read here"),
)
"""What users get for what a codec raises when it decodes a value."""


class LeafFormat:
    """Encodes and decodes the leaves of a tree: one codec that writes, and an allow-list of codecs that are read.

    Args:
        writer: The codec that writes. Its values are also read.
        readers: Further codecs whose values are read. All others are refused.
        is_installed: Returns whether another codec is installed, for the error that refuses its values.

    Raises ``ValueError`` for a codec name that is not valid, and for two codecs of the same name.

    """

    __slots__ = (
        "_is_installed",
        "_readers",
        "_writer",
        "deterministic",
        "document",
        "encode",
        "read",
        "read_all",
        "reads_documents",
    )

    encode: Callable[[object, Path], bytes]
    """Encodes a leaf for the store. If it raises an ``Exception``, call :meth:`refuse`."""

    read: Callable[[bytes, Path], object]
    """Decodes a stored leaf. If it raises an ``Exception``, call :meth:`recover`.

    If the codec ``json`` writes, this is its ``decode``: looking for an envelope in each leaf would cost time."""

    read_all: Callable[[Sequence[bytes]], list[object] | None]
    """Decodes several stored leaves at once, or returns ``None``: then use :attr:`read` for each."""

    deterministic: bool
    """Whether equal values at the same path are stored as the same bytes."""

    document: Callable[[dict[Any, Any], int], bytes | None]
    """Encodes a dict of at most so many levels as a document, or returns ``None``."""

    reads_documents: bool
    """Whether decoding a document with :attr:`read` equals decoding its leaves."""

    def __init__(
        self, writer: Codec, readers: Iterable[Codec] = (), is_installed: Callable[[str], bool] | None = None
    ) -> None:
        self._writer = writer
        self._is_installed = is_installed
        self._readers: dict[str, Codec] = {}
        for codec in (writer, *readers):
            if not _NAME.fullmatch(codec.name):
                raise ValueError(
                    "the name of a codec must be at most 64 ASCII letters, digits and _ . + -, with a letter or digit "
                    f"first; got {codec.name!r}"
                )
            if self._readers.setdefault(codec.name, codec) is not codec:
                raise ValueError(f"the names of codecs must differ; got two named {codec.name!r}")
        self.deterministic = writer.deterministic
        is_plain = writer.name == PLAIN
        self.encode = writer.encode if is_plain else self._encode
        self.read = writer.decode if is_plain else self._decode
        self.read_all = writer.decode_all if is_plain else _none_at_once
        # Another codec might decode the text of a dict differently from its leaves.
        self.reads_documents = is_plain
        self.document = writer.document if is_plain else _no_document

    def _encode(self, value: object, path: Path) -> bytes:
        if type(value) is int and fits_counter(value):
            return b"%d" % value
        if isinstance(value, dict) and not value:
            return EMPTY_DICT
        data = self._writer.encode(value, path)
        if isinstance(data, JsonText) and PLAIN in self._readers:
            return bytes(data)
        return b"%b%b %d\n%b" % (ENVELOPE, self._writer.name.encode(), len(data), data)

    def _decode(self, data: bytes, path: Path) -> object:
        if data[:1] == ENVELOPE:
            return self._opened(data, path)
        if PLAIN in self._readers:
            return self._decoded(self._readers[PLAIN], data, path)
        if data == EMPTY_DICT:
            return {}
        if _COUNTER.fullmatch(data) and fits_counter(int(data)):
            return int(data)
        raise self._not_accepted(PLAIN, path)

    def _opened(self, data: bytes, path: Path) -> object:
        header = _HEADER.match(data)
        if header is None:
            if _CUT_HEADER.fullmatch(data):
                raise Truncated(
                    f"the value stored at {described(path)} ends within the envelope that names its codec; store it "
                    "again"
                )
            raise CorruptData(
                f"the value stored at {described(path)} begins like an envelope that names a codec, but is not one; "
                "redicts did not write it"
            )
        name, length = header[1].decode(), int(header[2])
        codec = self._readers.get(name)
        if codec is None:
            raise self._not_accepted(name, path)
        payload = data[header.end() :]
        if len(payload) < length:
            raise Truncated(
                f"of the value stored at {described(path)} with the codec {name}, only {len(payload)} of {length} "
                "bytes are left; store it again"
            )
        if len(payload) > length:
            raise CorruptData(
                f"the value stored at {described(path)} with the codec {name} has {len(payload)} bytes, and its "
                f"envelope says {length}; redicts did not write it"
            )
        return self._decoded(codec, payload, path)

    def _decoded(self, codec: Codec, data: bytes, path: Path) -> object:
        try:
            return codec.decode(data, path)
        except Exception as error:
            _refuse_read(error, codec, path)

    def recover(self, error: Exception, data: bytes, path: Path) -> object:
        """Decode bytes that :attr:`read` refused with this error, if they are in an envelope.

        Otherwise raises the error for the user, which names path, codec and setting.
        """
        if isinstance(error, RedictsError):
            raise error
        if data[:1] != ENVELOPE or is_interrupt(error):
            _refuse_read(error, self._writer, path)
        return self._opened(data, path)

    def refuse(self, error: Exception, path: Path) -> NoReturn:
        """Raise the error for the user after :attr:`encode`, or the code of a value, raised this one."""
        if is_interrupt(error):
            raise error
        where = f"the value for {described(path)}"
        reason, cause = _reason(error, self._writer)
        if isinstance(error, RecursionError):
            raise LeafError(f"{where} is nested too deep, or contains itself") from cause
        raise LeafError(f"{where} cannot be stored with the codec {self.writes}: {reason}") from cause

    def codec_of(self, data: bytes) -> tuple[str, Codec | None]:
        """Return the name of the codec that wrote a leaf, and the codec that reads it, if any. It is not decoded."""
        header = _HEADER.match(data)
        name = PLAIN if header is None else header[1].decode()
        reader = self._readers.get(name)
        if reader is None and (data == EMPTY_DICT or canonical_counter(data) is not None):
            reader = self._writer
        return name, reader

    @property
    def writes(self) -> str:
        """The name of the codec that writes."""
        return self._writer.name

    def are_reproducible(self, leaves: Iterable[bytes]) -> bool:
        """Return whether every equal value is encoded as exactly these bytes."""
        return self.deterministic or not any(data[:1] == ENVELOPE for data in leaves)

    def _not_accepted(self, name: str, path: Path) -> LeafError:
        accepted = ", ".join(self._readers)
        written = f"the value stored at {described(path)} was written with the codec {name!r}"
        advice = "to the setting 'accept' if you trust everyone who can write to this store"
        if self._is_installed is not None and not self._is_installed(name):
            return CodecUnknown(
                f"{written}, which is not installed here; accepted are: {accepted}. Install the distribution that "
                f"provides it, and add it {advice}"
            )
        return CodecRefused(f"{written}, which is not accepted here; accepted are: {accepted}. Add it {advice}")


def _no_document(_value: dict[Any, Any], _levels: int) -> None:
    return None


def _none_at_once(_leaves: Sequence[bytes]) -> None:
    return None


def _refuse_read(error: Exception, codec: Codec, path: Path) -> NoReturn:
    """Raise the error for the user about bytes that a codec refused."""
    if is_interrupt(error):
        raise error
    reason, cause = _reason(error, codec)
    if isinstance(error, RecursionError):
        reason = "it is nested deeper than this interpreter reads, see sys.setrecursionlimit"
    kind, problem = next((kind, problem) for raised, kind, problem in _ERRORS if isinstance(error, raised))
    raise kind(f"the value stored at {described(path)} {problem.format(codec.name)}: {reason}") from cause


def _reason(error: Exception, codec: Codec) -> tuple[str, Exception]:
    """Return what may be shown of an error of a codec: its message, or only its class, and the cause to chain."""
    if has_safe_message(error, type(codec).__module__):
        plain = isinstance(error, (TypeError, ValueError))
        return str(error) if plain else f"{type(error).__name__}: {error}", error
    return type(error).__name__, Redacted.of(error)
