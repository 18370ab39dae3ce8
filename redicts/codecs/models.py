"""The codec ``models``: JSON text in which registered pydantic models and dataclasses keep their type.

Such a value is written as ``{"$type":"invoice","value":{...}}``, at any depth of lists and dicts. A leaf without one is
the same plain text that the codec ``json`` writes.
"""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import ValidationError

from redicts import types
from redicts.core.codec import (
    Codec,
    CodecPlugin,
    CodecSettings,
    CorruptContent,
    JsonText,
    TruncatedContent,
    UnknownType,
    ValidationFailedContent,
)
from redicts.core.hooks import hookimpl
from redicts.core.minitransaction import Path

_TYPE: Final = "$type"
_VALUE: Final = "value"
_KEY: Final = f'"{_TYPE}":'
"""The key as it is in compact JSON text. Within a string its quotes would be escaped."""


class ModelsCodec(Codec):
    """Accepts what JSON accepts, and values of the types that are registered in :mod:`redicts.types`.

    A value of a registered type is refused unless its type reads it back as an equal value. Tuples come back as lists
    as in JSON, except within a registered type.
    """

    deterministic = True

    @property
    def name(self) -> str:
        """``models``."""
        return "models"

    def encode(self, value: object, _path: Path, /) -> bytes:
        """Return the JSON text of a value."""
        found = 0

        def tagged(inner: object) -> dict[str, object]:
            nonlocal found
            found += 1
            return _tagged(inner)

        text = json.dumps(value, default=tagged, ensure_ascii=False, separators=(",", ":"))
        if text.count(_KEY) != found:
            raise ValueError(f"a dict has the key {_TYPE!r}, which is reserved for registered types; use another one")
        try:
            data = text.encode()
        except UnicodeEncodeError:
            data = json.dumps(json.loads(text), separators=(",", ":")).encode()
        return data if found else JsonText(data)

    def decode(self, data: bytes, _path: Path, /) -> object:
        """Return the value of a JSON text."""
        try:
            text = data.decode()
            return json.loads(text, object_hook=_restored)
        except UnicodeDecodeError as error:
            raise CorruptContent(str(error)) from error
        except json.JSONDecodeError as error:
            kind = TruncatedContent if error.pos >= len(text.rstrip()) else CorruptContent
            raise kind(str(error)) from error


def _tagged(value: object) -> dict[str, object]:
    """Return the dict that represents a value of a registered type."""
    known = types.of(value)
    if known is None:
        raise TypeError(
            f"Object of type {type(value).__qualname__} is not JSON serializable and its type not registered; "
            "call redicts.types.register"
        )
    try:
        text = known.adapter.dump_json(value, by_alias=True, round_trip=True, warnings="error")
        same = known.adapter.validate_json(text)
    except ValueError as error:
        raise ValueError(f"this {known.name!r} is not valid for its type: {_reason(error)}") from error
    if type(same) is not type(value) or same != value:
        raise ValueError(
            f"this {known.name!r} would come back as another value: its type does not read an equal one from its JSON"
        )
    return {_TYPE: known.name, _VALUE: json.loads(text)}


def _restored(found: dict[str, Any]) -> object:
    """Return the value of a registered type that a dict in the text represents, or the dict itself."""
    if _TYPE not in found:
        return found
    name = found[_TYPE]
    if not isinstance(name, str) or found.keys() != {_TYPE, _VALUE}:
        raise CorruptContent(
            f"a dict with the key {_TYPE!r} must have a name there, and {_VALUE!r} as its only other key"
        )
    known = types.named(name)
    if known is None:
        raise UnknownType(
            f"{name[:200]!r}; call redicts.types.register({name[:200]!r}, ...) with its class before you read it"
        )
    try:
        return known.adapter.validate_json(json.dumps(found[_VALUE]))
    except RecursionError:
        raise
    except ValueError as error:
        raise ValidationFailedContent(f"{name!r}: {_reason(error)}") from error
    except Exception as error:  # validators and __post_init__ may raise anything
        raise ValidationFailedContent(f"{name!r}: {type(error).__name__}: {error}") from error


def _reason(error: ValueError) -> str:
    """Return the reason field by field, without the values."""
    if not isinstance(error, ValidationError):
        return str(error)
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)


@hookimpl
def redicts_codecs() -> list[CodecPlugin]:
    """Offer this codec."""
    summary = "JSON text with pydantic models and dataclasses of registered types"
    harness = "redicts.contract.codecs:AsJsonHarness"
    return [CodecPlugin("models", CodecSettings, lambda _: ModelsCodec(), contract=1, summary=summary, harness=harness)]
