"""Keeps secrets out of error messages: tells whether a text repeats values that a user configured."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote

from pydantic import BaseModel, SecretBytes, SecretStr

from redicts.core.urls import Secret


def repeats_value(text: str, given: object) -> bool:
    """Tell whether a text contains any text or number that is in ``given``."""
    return _contains(text, _texts(given, secrets_only=False))


def repeats_secret(text: str, given: object) -> bool:
    """Tell whether a text contains the value of a secret field in ``given``, or a name or password of a URL there."""
    return _contains(text, _texts(given, secrets_only=True))


def shown_name(name: object) -> str:
    """Return the name of a field as errors show it: not at all if it is a URL, which may hold a password."""
    return "(a URL)" if "://" in str(name) else str(name)


def _contains(text: str, parts: Iterable[str]) -> bool:
    return any(re.search(rf"(?<!\w){re.escape(part)}(?!\w)", text) for part in parts)


def _texts(value: object, *, secrets_only: bool) -> Iterator[str]:
    if isinstance(value, (SecretStr, SecretBytes)):
        yield from _texts(value.get_secret_value(), secrets_only=False)
    elif isinstance(value, Secret):
        yield from _texts(str(value), secrets_only=False)
    elif isinstance(value, (BaseModel, Mapping, list, tuple, set, frozenset)):
        inner = vars(value) if isinstance(value, BaseModel) else value
        for each in inner.values() if isinstance(inner, Mapping) else inner:
            yield from _texts(each, secrets_only=secrets_only)
    elif value is not None and not isinstance(value, bool):
        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        yield from filter(None, [*_credentials(text), *([] if secrets_only else [text])])


def _credentials(text: str) -> list[str]:
    """Return what is in a URL or connection string where names and passwords are."""
    user, at, _ = text.partition("://")[2].rpartition("@")
    found = [*(user.split(":") if at else []), *re.findall(r"=\s*'?([^&\s']+)", text)]
    return [*found, *map(unquote, found)]
