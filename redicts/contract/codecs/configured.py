"""Harnesses made from the settings of a codec."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from redicts.contract.codecs.harness import CodecHarness, json_values
from redicts.contract.provenance import provenance, secrets_in
from redicts.core.codec import Codec, CodecPlugin
from redicts.core.plugin_settings import CodecSettings


@dataclass(frozen=True, slots=True)
class CodecChoice:
    """A codec plugin with its settings."""

    plugin: CodecPlugin
    settings: CodecSettings = field(repr=False)

    def open(self) -> Codec:
        """Make another instance of the codec."""
        return self.plugin.open(self.settings)


class ChosenCodecHarness(CodecHarness):
    """The harness of a codec that only its settings describe; subclass it for other values than those of JSON."""

    def __init__(self, choice: CodecChoice) -> None:
        self.choice: Final = choice
        self.secrets = tuple(secrets_in(choice.settings))

    def open(self) -> Codec:
        """Make the codec."""
        return self.choice.open()

    @property
    def about(self) -> Mapping[str, str]:
        """The distribution of the plugin, its version, and the contract it was written for."""
        return provenance(self.choice.plugin)


class AsJsonHarness(ChosenCodecHarness):
    """The harness of a codec that treats values as JSON does: a tuple comes back as a list."""

    def values(self) -> SearchStrategy[Any]:
        """Return the strategy for values that JSON preserves, and for tuples of them."""
        return json_values() | st.tuples(json_values(), json_values())

    def given_back(self, value: Any) -> Any:
        """Return the value as JSON decodes it."""
        return json.loads(json.dumps(value))


class BuffersAsBytesHarness(ChosenCodecHarness):
    """The harness of a codec that decodes every buffer as ``bytes``."""

    def values(self) -> SearchStrategy[Any]:
        """Return the strategy for values that JSON preserves, and for bytes."""
        return json_values() | st.binary(max_size=8)

    def given_back(self, value: Any) -> Any:
        """Return the value, a buffer as bytes."""
        return bytes(value) if isinstance(value, (bytearray, memoryview)) else value
