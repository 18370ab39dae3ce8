"""What a configuration on the command line leads to: the one place of the command that knows a pool's settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from redicts.certify.wrong_use import WrongUse
from redicts.contract import Store
from redicts.errors import SettingsError
from redicts.front.builtins import backend_plugin
from redicts.front.settings import parse


def store_of(text: str) -> Store:
    """Return the store that a URL, a dict as JSON, or the name of a plugin leads to; it is not opened.

    Raises :class:`~redicts.certify.wrong_use.WrongUse`, which never repeats the text: it may hold a password.
    """
    try:
        settings = parse(_configuration(text))
        return Store(backend_plugin(settings.backend), settings.options, settings.default)
    except SettingsError as error:
        raise WrongUse(" ".join(str(error).split())) from None


def _configuration(text: str) -> Mapping[str, Any] | str:
    stripped = text.strip()
    if not stripped:
        raise WrongUse("the configuration is empty; give a URL, a dict as JSON, or the name of a backend")
    if stripped.startswith("{"):
        try:
            found: Mapping[str, Any] = json.loads(stripped)
        except ValueError as error:
            place = f"line {error.lineno} column {error.colno}" if isinstance(error, json.JSONDecodeError) else "it"
            raise WrongUse(f"the configuration is no JSON, see {place}; quote it for the shell: '{{...}}'") from None
        return found
    return stripped if "://" in stripped else {"backend": stripped}
