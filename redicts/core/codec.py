"""The codec contract: encodes one leaf as bytes, and decodes it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from redicts.core.entry_points import CONTRACT, imported
from redicts.core.minitransaction import Path

if TYPE_CHECKING:
    from redicts.core.plugin_settings import CodecSettings


class Codec(ABC):
    """Base class of codecs, which encode leaves as bytes and decode them. All threads share one stateless instance.

    A codec need not recognise its own bytes: each leaf is stored in an envelope that names its codec (see
    :mod:`redicts.core.envelope`). 64-bit integers and empty dicts are stored without the codec.
    """

    deterministic: bool = False
    """Whether a value at a path is encoded as the same bytes in every call and every process."""

    binds_path: bool = False
    """Whether a secret key binds bytes to their path: bytes that were encoded for another path, or were altered, are
    refused."""

    safe: bool = True
    """Whether decoding untrusted bytes never runs code that they name."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in the settings and in the envelope."""

    @abstractmethod
    def encode(self, value: object, path: Path, /) -> bytes:
        """Return the bytes for a value that is stored at this path. The value is not changed.

        Raises ``TypeError`` or ``ValueError`` for a value that :meth:`decode` could not return unchanged, and
        ``RecursionError`` for one that is nested too deep. The message must not repeat the value.
        """

    def document(self, value: dict[Any, Any], levels: int, /) -> bytes | None:  # noqa: ARG002  (for codecs that override it)
        """Encode a dict as a document (see :mod:`redicts.core.documents`), or return ``None`` to store its leaves.

        Only a codec whose bytes are JSON can override this. Each leaf in the document has the bytes that :meth:`encode`
        returns for it, at any path, and decoding the document equals decoding its leaves. Return ``None`` for a dict
        with a key that is not text or is empty, and for one with more than ``levels`` levels of dicts. It is called
        only if the store declares ``Capabilities.documents``.
        """
        return None

    @abstractmethod
    def decode(self, data: bytes, path: Path, /) -> object:
        """Return a new value, decoded from bytes that are stored at this path.

        Raises ``ValueError`` for bytes of which it cannot make a value, also if they come from an attacker, and
        ``RecursionError`` for a value that is nested too deep. The message must not repeat the value.

        Users get :class:`~redicts.errors.UnreadableHere` for these and for any other exception: another program may
        read the value. Raise :class:`CorruptContent` or :class:`TruncatedContent` only if the bytes themselves prove
        that no program can. :class:`BadSignatureContent`, :class:`UnknownType` and :class:`ValidationFailedContent` are
        reported as errors of their own, too.
        """

    def decode_all(self, data: Sequence[bytes], /) -> list[object] | None:  # noqa: ARG002  (as with document)
        """Return what :meth:`decode` returns for each of these, or ``None`` to have it called for each.

        Only a codec whose values do not depend on their path can override this. ``None`` is also the answer if one of
        them is not valid: :meth:`decode` then raises the error.
        """
        return None


class CorruptContent(ValueError):
    """Raised by :meth:`Codec.decode` for bytes whose structure or checksum proves that this codec did not write them.

    Tools offer to remove such values. A limit of the interpreter, a missing class or a missing key proves nothing.
    """


class TruncatedContent(CorruptContent):
    """Raised by :meth:`Codec.decode` for bytes that end too early."""


class BadSignatureContent(ValueError):
    """Raised by :meth:`Codec.decode` for bytes without a valid signature for this path."""


class UnknownType(ValueError):
    """Raised by :meth:`Codec.decode` for a value of a type that is not registered."""


class ValidationFailedContent(ValueError):
    """Raised by :meth:`Codec.decode` for a value that its registered type refuses."""


class JsonText(bytes):
    """Bytes from :meth:`Codec.encode` that are plain JSON and need no envelope.

    The codec ``json`` must decode them to the same value as the codec that returned them.
    """

    __slots__ = ()


def refuse_equal_names(value: object, text: str) -> None:
    """Raise ``ValueError`` if two keys of a dict, at any depth, have become the same name in the JSON text of a value.

    JSON has text as names only, so ``{1: "a", "1": "b"}`` becomes ``{"1":"a","1":"b"}``, of which one entry is read.
    """
    if '{"' in text and _has_other_names(value):
        _names_decoder.decode(text)


def _has_other_names(value: object) -> bool:
    """Return whether a dict in a value has a key that is not exactly ``str``."""
    if isinstance(value, dict):
        if not _TEXT.issuperset(map(type, value)):
            return True
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return False
    return not _SCALARS.issuperset(map(type, value)) and any(map(_has_other_names, value))


def _refuse_equal(pairs: list[tuple[str, object]]) -> None:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a dict has two keys that are the same text in JSON; use keys that are text")


_TEXT: Final = frozenset({str})
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_names_decoder: Final = json.JSONDecoder(object_pairs_hook=_refuse_equal)


@dataclass(frozen=True, slots=True)
class CodecPlugin:
    """The registration of a codec, as the hook ``redicts_codecs`` returns it (see :mod:`redicts.plugin`)."""

    name: str
    """The name in the settings and in the envelope."""
    settings: type[CodecSettings] | str | None
    """The model that validates its settings, as that of a :class:`~redicts.core.backend.BackendPlugin`."""
    open: Callable[[Any], Codec]
    """Makes the codec, given validated settings, or ``None`` if it has no model."""
    contract: int = CONTRACT
    """The contract version that it was written for, as a literal number."""
    summary: str = ""
    """A description of one line."""
    harness: str = ""
    """The harness for ``redicts certify --codec``, as ``package.module:Class``; imported only by that command.
    Without it, the checks use values that JSON preserves."""

    @property
    def model(self) -> type[CodecSettings]:
        """The model that validates its settings."""
        if self.settings is None or isinstance(self.settings, str):
            found: type[CodecSettings] = imported(self.settings or "redicts.core.plugin_settings:CodecSettings")
            return found
        return self.settings
