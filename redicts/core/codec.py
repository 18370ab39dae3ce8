"""What a codec is: how one leaf becomes bytes and comes back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from redicts.core.hooks import CONTRACT


class Codec(ABC):
    """Turns a leaf into bytes and back. Stateless, so all threads share one."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name by which settings choose it."""

    @abstractmethod
    def encode(self, value: object, /) -> bytes:
        """Return the bytes of a value.

        Raises ``TypeError`` or ``ValueError`` for a value that it cannot give back.
        """

    @abstractmethod
    def decode(self, data: bytes, /) -> object:
        """Return the value that these bytes stand for. Raises ``ValueError`` if they stand for none."""


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


def counts_as_text(codec: Codec) -> bool:
    """Tell whether a codec writes integers as decimal text, so that a store can count with them."""
    return codec.encode(17) == b"17"
