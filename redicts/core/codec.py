"""What a codec is: how one leaf becomes bytes and comes back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from redicts.core.entry_points import CONTRACT
from redicts.core.minitransaction import Path


class Codec(ABC):
    """Turns a leaf into bytes and back. All threads share one instance, so it keeps nothing of one call for the next.

    A codec need not know its own bytes from those of others: each leaf is stored in an envelope that names its codec
    (see :mod:`redicts.core.envelope`). Small integers and empty dicts never get to it.
    """

    deterministic: bool = False
    """Whether the same value at the same path has the same bytes in every call and every process."""

    binds_path: bool = False
    """Whether bytes are bound to their path by a key: those that were encoded for another one, or altered since, are
    refused."""

    safe: bool = True
    """Whether decoding runs nothing that the bytes name, whoever wrote them."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name by which settings choose it, and which its envelope bears."""

    @abstractmethod
    def encode(self, value: object, path: Path, /) -> bytes:
        """Return the bytes of a value that is stored at this path.

        Raises ``TypeError`` or ``ValueError`` for a value that it cannot give back, ``RecursionError`` if that is for
        its depth, and changes none.
        """

    def document(self, value: dict[Any, Any], levels: int, /) -> bytes | None:  # noqa: ARG002  (for those that write JSON)
        """Return the document that a dict comes to (see :mod:`redicts.core.documents`), or ``None``, which is no error.

        Only a codec whose own bytes are JSON can return one: each leaf has the very bytes in it that :meth:`encode`
        gives that leaf by itself, wherever it is stored, and :meth:`decode` makes of the whole what it makes of the
        leaves. A dict with a name that is no text or empty has none, nor has one with more than so many levels of
        dicts. It is asked for only where a store can keep one.
        """
        return None

    @abstractmethod
    def decode(self, data: bytes, path: Path, /) -> object:
        """Return the value that these bytes, found at this path, stand for: a new one in each call.

        Raises ``ValueError`` if they stand for none, whoever has written them, ``RecursionError`` if that is for their
        depth. Where it is one of these it says so by :class:`TruncatedContent`, :class:`BadSignatureContent`,
        :class:`UnknownType` or :class:`ValidationFailedContent`.
        """


class TruncatedContent(ValueError):
    """Bytes that end too early."""


class BadSignatureContent(ValueError):
    """Bytes that nobody who knows a key of ours has written for this path."""


class UnknownType(ValueError):
    """A value of a type that is not registered here."""


class ValidationFailedContent(ValueError):
    """A value that its registered type does not take."""


class JsonText(bytes):
    """Bytes that are plain JSON of the whole value, which the codec ``json`` gives back as this codec would.

    A codec that returns one from ``encode`` has it stored without an envelope, so that readers of JSON need no more.
    """

    __slots__ = ()


class CodecSettings(BaseModel):
    """Base of every codec's own settings: frozen, unknown fields refused, input never echoed in an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class CodecPlugin:
    """What a codec's module offers: returned by its hook ``redicts_codecs`` (see :mod:`redicts.core.hooks`)."""

    name: str
    """The name by which settings choose it, and by which its envelope tells it from others."""
    settings: type[CodecSettings]
    """The model that validates its part of the settings."""
    open: Callable[[Any], Codec]
    """Makes the codec: called with an instance of ``settings``."""
    contract: int = CONTRACT
    """The version of the contract that it was written for, as a number: name it literally."""
    summary: str = ""
    """What it is for, in one line."""
    harness: str = ""
    """Where the harness is with which ``redicts certify --codec`` examines it, as ``package.module:Class``; imported
    only then. Without one, it is examined with values that JSON gives back unchanged."""
