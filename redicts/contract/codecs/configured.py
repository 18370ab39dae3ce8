"""A harness of a codec made from its settings alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from redicts.contract.codecs.harness import CodecHarness, json_values
from redicts.contract.provenance import provenance, secrets_in
from redicts.core.codec import Codec, CodecPlugin, CodecSettings


@dataclass(frozen=True, slots=True)
class CodecChoice:
    """One codec: its plugin, and its settings."""

    plugin: CodecPlugin
    settings: CodecSettings = field(repr=False)

    def open(self) -> Codec:
        """Make it once more."""
        return self.plugin.open(self.settings)


class ChosenCodecHarness(CodecHarness):
    """The harness of a codec that is known by its settings; subclass it for one that takes other values than JSON."""

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
    """The harness of a codec that takes what JSON takes, and gives it back as JSON does: a tuple as a list."""

    def values(self) -> SearchStrategy[Any]:
        """Return what JSON gives back unchanged, and tuples of that."""
        return json_values() | st.tuples(json_values(), json_values())

    def given_back(self, value: Any) -> Any:
        """Return the value as it comes out of JSON."""
        return json.loads(json.dumps(value))


class BuffersAsBytesHarness(ChosenCodecHarness):
    """The harness of a codec that gives every buffer back as ``bytes``."""

    def values(self) -> SearchStrategy[Any]:
        """Return what JSON gives back unchanged, and bytes."""
        return json_values() | st.binary(max_size=8)

    def given_back(self, value: Any) -> Any:
        """Return the value, a buffer as bytes."""
        return bytes(value) if isinstance(value, (bytearray, memoryview)) else value
