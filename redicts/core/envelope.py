r"""How a leaf says which codec wrote it: plain JSON as it is, everything else in an envelope that names the codec.

================================  ======================================================================
bytes                             what they are
================================  ======================================================================
``42``, ``"text"``, ``[1,2]``     plain JSON text, which is the codec ``json``
``\4msgpack 7\n.......``          7 bytes of the codec ``msgpack``, after a header that says so
================================  ======================================================================

No JSON text begins with the byte 4, and no store has a meaning for it. Whatever the codec, 64-bit integers and empty
dicts are plain text: stores count with the former, and merging knows the latter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from redicts.core.codec import (
    BadSignatureContent,
    Codec,
    JsonText,
    TruncatedContent,
    UnknownType,
    ValidationFailedContent,
)
from redicts.core.minitransaction import Path, fits_counter
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
    ValidationFailed,
)

PLAIN: Final = "json"
"""The codec whose text needs no envelope."""

EMPTY_DICT: Final = b"{}"
"""How an empty dict is stored, whatever the codec."""

_MARK: Final = b"\x04"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
_HEADER: Final = re.compile(rb"\x04([A-Za-z0-9][A-Za-z0-9_.+-]{0,63}) (0|[1-9][0-9]{0,11})\n")
_CUT_HEADER: Final = re.compile(rb"\x04(?:[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}(?: (?:0|[1-9][0-9]{0,11})?)?)?")
_COUNTER: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")

_NO_VALUE: Final = (ValueError, RecursionError)
"""What a codec raises for bytes that are no value; the latter where they are nested too deep."""


class LeafFormat:
    """How the leaves of one tree are written, and which codecs may be read.

    Args:
        writer: The codec that writes. It is read as well.
        readers: Further codecs that are read; whatever else is found is refused.
        is_installed: Tells whether there is a codec of a name that is not among them, for the error that refuses it.

    Raises ``ValueError`` for a codec whose name no envelope can bear, and for two of one name.

    """

    __slots__ = (
        "_is_installed",
        "_readers",
        "_writer",
        "deterministic",
        "document",
        "encode",
        "read",
        "reads_documents",
    )

    encode: Callable[[object, Path], bytes]
    """Returns what is stored for a leaf, and raises what the codec raises: see :meth:`refusal`."""

    read: Callable[[bytes, Path], object]
    """Returns the value of what is stored; if it raises ``ValueError`` or ``RecursionError``, :meth:`recover` goes on.

    It is the codec ``json`` itself where that writes: most leaves are its own, and a look at each would cost time."""

    deterministic: bool
    """Whether equal values, at the same path, are stored as the same bytes."""

    document: Callable[[dict[Any, Any], int], bytes | None]
    """Returns the document that a dict comes to, given how many levels it may have, or ``None``."""

    reads_documents: bool
    """Whether :attr:`read` makes of a document what it makes of its leaves, one by one."""

    def __init__(
        self, writer: Codec, readers: Iterable[Codec] = (), is_installed: Callable[[str], bool] | None = None
    ) -> None:
        self._writer = writer
        self._is_installed = is_installed
        self._readers: dict[str, Codec] = {}
        for codec in (writer, *readers):
            if not _NAME.fullmatch(codec.name):
                raise ValueError(
                    f"the codec {codec.name!r} has no usable name: at most 64 ASCII letters, digits and _ . + -, a "
                    "letter or digit first"
                )
            if self._readers.setdefault(codec.name, codec) is not codec:
                raise ValueError(f"there are two codecs of the name {codec.name!r}")
        self.deterministic = writer.deterministic
        is_plain = writer.name == PLAIN
        self.encode = writer.encode if is_plain else self._encode
        self.read = writer.decode if is_plain else self._decode
        # Another codec might read more into the text of a dict than into what is in it.
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
        return b"%b%b %d\n%b" % (_MARK, self._writer.name.encode(), len(data), data)

    def _decode(self, data: bytes, path: Path) -> object:
        if data[:1] == _MARK:
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
                    f"what is stored at {described(path)} ends within the envelope that should name its codec; "
                    "store it again"
                )
            raise CorruptData(
                f"what is stored at {described(path)} begins like an envelope that names a codec, and is none; "
                "redicts did not write it"
            )
        name, length = header[1].decode(), int(header[2])
        codec = self._readers.get(name)
        if codec is None:
            raise self._not_accepted(name, path)
        payload = data[header.end() :]
        if len(payload) < length:
            raise Truncated(
                f"of what is stored at {described(path)} with the codec {name}, {len(payload)} of {length} bytes are "
                "left; store it again"
            )
        if len(payload) > length:
            raise CorruptData(
                f"what is stored at {described(path)} with the codec {name} has {len(payload)} bytes, and its envelope "
                f"says {length}; redicts did not write it"
            )
        return self._decoded(codec, payload, path)

    def _decoded(self, codec: Codec, data: bytes, path: Path) -> object:
        try:
            return codec.decode(data, path)
        except _NO_VALUE as error:
            raise _unreadable(error, codec, path) from error

    def recover(self, error: Exception, data: bytes, path: Path) -> object:
        """Return the value of what :attr:`read` refused with this error, if another codec wrote it.

        Raises the error that the caller should see, which names path, codec and setting.
        """
        if isinstance(error, RedictsError):
            raise error
        if data[:1] == _MARK:
            return self._opened(data, path)
        raise _unreadable(error, self._writer, path) from error

    def refusal(self, error: Exception, path: Path) -> LeafError:
        """Return what the caller should see when :attr:`encode` has raised this error."""
        if isinstance(error, RecursionError):
            return LeafError(f"the value for {described(path)} is nested too deep, or contains itself")
        return LeafError(f"the value for {described(path)} cannot be stored with the codec {self.writes}: {error}")

    @property
    def writes(self) -> str:
        """The name of the codec that writes."""
        return self._writer.name

    def are_reproducible(self, leaves: Iterable[bytes]) -> bool:
        """Tell whether equal values are sure to have these very bytes."""
        return self.deterministic or not any(data[:1] == _MARK for data in leaves)

    def _not_accepted(self, name: str, path: Path) -> LeafError:
        accepted = ", ".join(self._readers)
        written = f"what is stored at {described(path)} was written with the codec {name!r}"
        advice = "to the setting 'accept' if you trust everybody who can write to this store"
        if self._is_installed is not None and not self._is_installed(name):
            return CodecUnknown(
                f"{written}, which is not installed here; accepted are: {accepted}. Install the distribution that "
                f"provides it, and add it {advice}"
            )
        return CodecRefused(f"{written}, which is not accepted here; accepted are: {accepted}. Add it {advice}")


def _no_document(_value: dict[Any, Any], _levels: int) -> None:
    return None


def _unreadable(error: Exception, codec: Codec, path: Path) -> RedictsError:
    """Return the error that tells of bytes which a codec does not take for a value."""
    where = f"what is stored at {described(path)}"
    if isinstance(error, TruncatedContent):
        return Truncated(f"{where} is not {codec.name}, for it ends too early: {error}")
    if isinstance(error, BadSignatureContent):
        return BadSignature(f"{where} with the codec {codec.name} is not to be trusted: {error}")
    if isinstance(error, UnknownType):
        return TypeUnknown(f"{where} with the codec {codec.name} is of a type that is not known here: {error}")
    if isinstance(error, ValidationFailedContent):
        return ValidationFailed(f"{where} with the codec {codec.name} does not fit its type: {error}")
    return CorruptData(f"{where} is not {codec.name}: {error}")
