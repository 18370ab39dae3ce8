"""What the suite must be told about a codec: how to make it, what it takes, and what comes back."""

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
    """Texts that must not be in the report: keys. Where a codec's errors tell them, they are crossed out."""

    @property
    def about(self) -> Mapping[str, str]:
        """What the report shall say beside the versions that it finds itself."""
        return {}

    @abstractmethod
    def open(self) -> Codec:
        """Make the codec, and in another call a second one with the same settings, which reads what the first wrote."""

    def values(self) -> SearchStrategy[Any]:
        """Return the Hypothesis strategy for values that the codec takes: by default, what JSON gives back unchanged.

        A codec that takes more should override it, or the suite will not try that; one that takes less must.
        """
        return json_values()

    def given_back(self, value: Any) -> Any:
        """Return what comes back for a value: by default the value itself, an equal one of the same class.

        Override it for a codec that takes some values for others, as JSON takes tuples for lists, and say so in its
        documentation.
        """
        return value


def json_values() -> SearchStrategy[Any]:
    """Return a strategy for what JSON gives back unchanged: no tuples, and text for keys."""
    text = st.text(st.characters(), max_size=8)
    scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.integers(-(2**70), 2**300), st.floats(), text)
    return scalars | st.recursive(  # which alone would seldom be a plain scalar
        scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=12
    )
