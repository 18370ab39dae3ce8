"""The contract: the pydantic models from which those of a plugin's settings are derived.

The other modules of the contract do not import pydantic: that takes as long as all the rest of a short command, and
most stores are opened by settings that need no validation.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from redicts.file_paths import absolute, as_text

FilePath = Annotated[str, BeforeValidator(as_text), Field(min_length=1), AfterValidator(absolute)]
"""The type of a field of settings that is the path of a file: text or a path object, made absolute at validation."""


class BackendSettings(BaseModel):
    """Base class of a backend's settings: frozen, refuses unknown fields, and never shows input in an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @property
    def main_database(self) -> int:
        """The number of the default database, if ``names`` and ``database`` of the settings do not choose one."""
        return 0

    @classmethod
    def fields_of_url(cls, url: str) -> dict[str, object]:  # noqa: ARG003  (for backends that override it)
        """Parse a URL into fields. Raises ``ValueError``, with a message that does not contain the URL."""
        raise ValueError("this backend is not chosen by a URL; give its settings as a dict")


class NoSettings(BackendSettings):
    """The settings of a backend that has none."""

    @classmethod
    def fields_of_url(cls, url: str) -> dict[str, object]:
        """Accept only the scheme."""
        scheme, _, rest = url.partition("://")
        if rest:
            raise ValueError(f"the URL of this backend is {scheme}:// and nothing more")
        return {}


class CodecSettings(BaseModel):
    """Base class of a codec's settings: frozen, refuses unknown fields, and never shows input in an error.

    It is the model of a codec that has none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
