"""What a configuration on the command line leads to: the one place of the command that knows a pool's settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from redicts.certify.wrong_use import WrongUse
from redicts.contract import Store
from redicts.contract.codecs import CodecChoice
from redicts.errors import SettingsError
from redicts.front.builtins import backend_plugin, codec_plugin
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


def codec_of(text: str) -> CodecChoice:
    """Return the codec that a name, or a dict with a name and settings as JSON, stands for; it is not made.

    Raises :class:`~redicts.certify.wrong_use.WrongUse`, which never repeats a value: it may be a key.
    """
    options = dict(_dict(text)) if text.strip().startswith("{") else {"name": text.strip()}
    name = options.pop("name", None)
    if not isinstance(name, str) or not name:
        raise WrongUse('--codec wants a name, or a dict with a name as JSON: {"name": ...}')
    try:
        plugin = codec_plugin(name)
        return CodecChoice(plugin, plugin.settings.model_validate(options))
    except SettingsError as error:
        raise WrongUse(" ".join(str(error).split())) from None
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False, include_context=False)
        told = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in wrong)
        raise WrongUse(f"codec {name!r}: {told}") from None


def _configuration(text: str) -> Mapping[str, Any] | str:
    stripped = text.strip()
    if not stripped:
        raise WrongUse("the configuration is empty; give a URL, a dict as JSON, or the name of a backend")
    if stripped.startswith("{"):
        return _dict(stripped)
    return stripped if "://" in stripped else {"backend": stripped}


def _dict(text: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(text)
    except ValueError as error:
        place = f"line {error.lineno} column {error.colno}" if isinstance(error, json.JSONDecodeError) else "it"
        raise WrongUse(f"the configuration is no JSON, see {place}; quote it for the shell: '{{...}}'") from None
    return found
