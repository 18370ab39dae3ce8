"""What commands print: one JSON document, or something drawn for people."""

from __future__ import annotations

import base64
import json
import sys
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN: Final = (str, int, float, bool, type(None))


def print_json(document: object) -> None:
    """Print one JSON document."""
    click.echo(as_json(document, indent=2))


def as_json(value: object, indent: int | None = None) -> str:
    """Return JSON text that any terminal and any file can take: lone surrogates are written as escapes."""
    separators = None if indent else (",", ":")
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent, separators=separators)
    return text


def is_plain(value: object) -> bool:
    """Tell whether JSON gives back exactly this value, types included."""
    if type(value) is dict:
        return all(type(name) is str and is_plain(inner) for name, inner in value.items())
    if type(value) is list:
        return all(map(is_plain, value))
    return type(value) in _PLAIN


def encoded(data: bytes) -> dict[str, str]:
    """Return how a leaf is shown that is no JSON: the bytes as they are stored."""
    return {"base64": base64.b64encode(data).decode()}


def console(*, stderr: bool = False) -> Console:
    """Return what draws on the terminal. Texts of the store are never taken for markup."""
    from rich.console import Console  # noqa: PLC0415  (takes a while, and JSON needs none of it)

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=not sys.stdout.isatty())


def size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def printable(text: str) -> str:
    """Return a text from the store without characters that would steer the terminal, or that it cannot show."""
    if text.isprintable() and text.isascii():
        return text
    return "".join([each if each.isprintable() else repr(each)[1:-1] for each in text])


Document = dict[str, Any]
