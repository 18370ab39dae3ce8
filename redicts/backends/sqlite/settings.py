"""Settings of the backend ``sqlite``, as fields or as a URL."""

from __future__ import annotations

from pydantic import Field, field_validator

from redicts.backends.sqlite.files import MEMORY, Durability
from redicts.backends.sqlite.options import DEFAULTS, SCHEME
from redicts.core.plugin_settings import BackendSettings
from redicts.core.urls import decoded, parameters
from redicts.file_paths import absolute, as_text


class SqliteSettings(BackendSettings):
    """The path of the file, how long to wait for other writers, and what a commit survives."""

    path: str = Field(min_length=1)
    """The file, created when first used; its directory must exist. A relative path becomes absolute at once.
    ``":memory:"`` is a store in this process only."""

    busy_timeout_secs: float = Field(default=DEFAULTS.busy_timeout_secs, gt=0, le=1_000_000, allow_inf_nan=False)
    """How many seconds a call waits for the locks of others on the file before it raises ``StoreBusy``; at most a
    million."""

    durability: Durability = DEFAULTS.durability
    """What a commit survives: ``"process"`` the death of any process, ``"machine"`` also that of the machine.

    With ``"machine"`` each commit waits for the disk. With ``"process"`` a power cut may undo the last commits, each as
    a whole. With ``"none"`` a power cut may damage the file; use it for data that can be regenerated."""

    @classmethod
    def fields_of_url(cls, url: str) -> dict[str, object]:
        """Return the path and the fields that parameters name.

        >>> SqliteSettings.fields_of_url("sqlite:///state.db")
        {'path': 'state.db'}
        >>> SqliteSettings.fields_of_url("sqlite:////var/lib/state.db?busy_timeout_secs=2.5")
        {'path': '/var/lib/state.db', 'busy_timeout_secs': '2.5'}
        >>> SqliteSettings.fields_of_url("sqlite:///:memory:")
        {'path': ':memory:'}
        """
        location, _, query = url.removeprefix(SCHEME).partition("?")
        if not location.startswith("/"):
            raise ValueError(
                "the URL has three slashes before a relative path (sqlite:///state.db), and four before an absolute one"
            )
        fields = parameters(query)
        if "path" in fields:
            raise ValueError("the URL has a path and a parameter 'path'; remove one")
        return {"path": decoded(location[1:]), **fields}

    @field_validator("path", mode="before")
    @classmethod
    def _as_text(cls, path: object) -> object:
        return as_text(path)

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        return path if path == MEMORY else absolute(path)
