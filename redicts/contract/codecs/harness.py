"""Harness of a codec: how to make it, which values it encodes, and how they are decoded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from redicts.core.codec import Codec


class CodecHarness(ABC):
    """One codec under examination. Subclass it, implement :meth:`open`, and pass an instance to ``certify_codec``."""

    secrets: Sequence[str] = ()
    """Texts that the report must not contain, such as keys. They are crossed out in errors of the codec."""

    @property
    def about(self) -> Mapping[str, str]:
        """Additional lines for the report, for instance the author of the codec."""
        return {}

    @abstractmethod
    def open(self) -> Codec:
        """Make an instance of the codec; all instances have the same settings and read each other's bytes."""

    def values(self) -> SearchStrategy[Any]:
        """Return the Hypothesis strategy for values that the codec encodes: by default, values that JSON preserves.

        Override it for a codec that encodes more values, so that the suite tries them, or fewer.
        """
        return json_values()

    def given_back(self, value: Any) -> Any:
        """Return the value that the codec must decode for an encoded one: by default an equal value of the same class.

        Override it for a codec that converts values, as JSON converts tuples to lists, and document the conversion.
        """
        return value


def json_values() -> SearchStrategy[Any]:
    """Return a strategy for values that JSON preserves: without tuples, and with text for keys."""
    text = st.text(st.characters(), max_size=8)
    scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.integers(-(2**70), 2**300), st.floats(), text)
    return scalars | st.recursive(  # which alone would seldom be a plain scalar
        scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=12
    )
