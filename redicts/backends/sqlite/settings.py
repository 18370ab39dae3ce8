"""Settings of the backend ``sqlite``, as fields or as a URL."""

from __future__ import annotations

import os
from urllib.parse import parse_qsl, unquote

from pydantic import Field, field_validator

from redicts.backends.sqlite.files import Durability
from redicts.core.backend import BackendSettings

_SCHEME = "sqlite://"


class SqliteSettings(BackendSettings):
    """The path of the file, how long to wait for other writers, and what a commit survives."""

    path: str = Field(min_length=1)
    """The file, created when first used; its directory must exist. ``":memory:"`` is a store in this process only."""

    busy_timeout_secs: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """How many seconds a call waits for the locks of others on the file before it raises ``StoreBusy``."""

    durability: Durability = Durability.PROCESS
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
        location, _, query = url.removeprefix(_SCHEME).partition("?")
        if not location.startswith("/"):
            raise ValueError(
                "the URL has three slashes before a relative path (sqlite:///state.db), and four before an absolute one"
            )
        return {"path": unquote(location[1:]), **dict(parse_qsl(query, keep_blank_values=True))}

    @field_validator("path", mode="before")
    @classmethod
    def _as_text(cls, path: object) -> object:
        return os.fspath(path) if isinstance(path, os.PathLike) else path

    @field_validator("path")
    @classmethod
    def _without_nul(cls, path: str) -> str:
        if "\x00" in path:
            raise ValueError("a path must not contain a NUL character; remove it")
        return path
