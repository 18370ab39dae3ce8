"""What a codec is: how one leaf becomes bytes and comes back."""

from __future__ import annotations

from abc import ABC, abstractmethod


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


def counts_as_text(codec: Codec) -> bool:
    """Tell whether a codec writes integers as decimal text, so that a store can count with them."""
    return codec.encode(17) == b"17"
