"""The codec ``models``: JSON text in which registered pydantic models and dataclasses keep their type.

Such a value is written as ``{"$type":"invoice","value":{...}}``, at any depth of lists and dicts. A leaf without one is
the same plain text that the codec ``json`` writes.

ISO 8601 text has the offset of a datetime and not its time zone. So a value with time zones has a third entry, which
lists their positions within ``value``: ``"zones":{"Europe/Berlin":[["at"],["stops",0,"at"]]}``.
"""

from __future__ import annotations

import json
from datetime import datetime, time, timezone
from typing import Any, Final, get_args
from zoneinfo import ZoneInfo

from pydantic import ValidationError
from pydantic_core import TzInfo, core_schema

from redicts import types
from redicts.core.codec import (
    Codec,
    CodecPlugin,
    CorruptContent,
    JsonText,
    TruncatedContent,
    UnknownType,
    ValidationFailedContent,
    refuse_equal_names,
)
from redicts.core.foreign import Redacted, is_interrupt
from redicts.core.hooks import hookimpl
from redicts.core.minitransaction import Path

_TYPE: Final = "$type"
_VALUE: Final = "value"
_ZONES: Final = "zones"
_KEY: Final = f'"{_TYPE}":'
"""The key as it is in compact JSON text. Within a string its quotes would be escaped."""


_SAFE: Final = frozenset(get_args(core_schema.ErrorType)) - {
    "value_error", "assertion_error", "union_tag_invalid", "json_invalid", "no_such_attribute", "get_attribute_error",
    "iteration_error", "mapping_type", "bytes_invalid_encoding", "date_parsing", "date_from_datetime_parsing",
    "time_parsing", "datetime_parsing", "datetime_object_invalid", "datetime_from_date_parsing", "time_delta_parsing",
    "url_parsing", "url_syntax_violation", "uuid_parsing",
}  # fmt: skip
"""Pydantic's types of problems whose messages repeat no part of the value."""

_Zones = dict[str, list[list[Any]]] | None
"""Positions of datetimes by the name of their time zone; ``None`` where there must not be any."""


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
        refuse_equal_names(value, text)
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
    kind = type(value)
    known = types.of(value)
    if known is None:
        advice = " and its type not registered; call redicts.types.register" if types.can_register(kind) else ""
        raise TypeError(f"Object of type {kind.__qualname__} is not JSON serializable{advice}")
    try:
        tagged, same = _converted(known, value)
        is_equal = type(same) is kind and bool(same == value)
    except (RecursionError, _UnstorableTime):
        raise
    except Exception as error:  # of its validators, __post_init__, serializers, or __eq__
        if is_interrupt(error):
            raise
        raise ValueError(f"this {known.name!r} is not valid for its type: {_reason(error)}") from Redacted.of(error)
    if not is_equal:
        raise ValueError(
            f"this {known.name!r} would come back as another value: its type does not read an equal one from its JSON"
        )
    return tagged


def _converted(known: types.Registered, value: object) -> tuple[dict[str, Any], object]:
    """Return the dict that represents a value, and the value that is read from it."""
    text = known.adapter.dump_json(value, by_alias=True, round_trip=True, warnings="error")
    tagged: dict[str, Any] = {_TYPE: known.name, _VALUE: json.loads(text)}
    if known.has_times:
        zones: dict[str, list[list[Any]]] = {}
        plain = known.adapter.dump_python(value, by_alias=True, round_trip=True, warnings="none")
        _find_zones(plain, tagged[_VALUE], [], zones)
        if zones:
            tagged[_ZONES] = zones
            return tagged, known.adapter.validate_python(_with_zones({**tagged, _VALUE: json.loads(text)}))
    return tagged, known.adapter.validate_json(text)


def _find_zones(value: object, written: object, position: list[Any], zones: _Zones) -> None:
    """Collect the time zones in a value of plain containers, at the positions of its JSON in ``written``."""
    if isinstance(value, (datetime, time)):
        zone = value.tzinfo
        if isinstance(zone, ZoneInfo) and zone.key and isinstance(value, datetime) and zones is not None:
            zones.setdefault(zone.key, []).append(position)
        elif value.fold or not (zone is None or isinstance(zone, (timezone, TzInfo))):
            raise _UnstorableTime
    elif isinstance(value, dict):
        assert isinstance(written, dict)
        for (name, inner), key in zip(written.items(), value):
            _find_zones(key, None, [], None)
            _find_zones(value[key], inner, [*position, name], zones)
    elif isinstance(value, (list, tuple)):
        assert isinstance(written, list)
        for index, (inner, each) in enumerate(zip(written, value)):
            _find_zones(each, inner, [*position, index], zones)
    elif isinstance(value, (set, frozenset)):  # which have no order
        for each in value:
            _find_zones(each, None, [], None)


def _with_zones(tagged: dict[str, Any]) -> object:
    """Replace texts in the value of a dict by datetimes with the time zones of the dict, and return the value."""
    for name, positions in tagged[_ZONES].items():
        try:
            zone = ZoneInfo(name)
        except KeyError:
            raise ValueError(f"it needs the time zone {name[:100]!r}, of which this system has no data") from None
        for position in positions:
            steps: list[Any] = [_VALUE, *position]
            last = steps.pop()
            node: Any = tagged
            for step in steps:
                node = node[step]
            try:
                node[last] = datetime.fromisoformat(node[last].replace("Z", "+00:00")).astimezone(zone)
            except (ValueError, OverflowError):
                raise CorruptContent("a datetime with a time zone is not ISO 8601 text") from None
    return tagged[_VALUE]


def _restored(found: dict[str, Any]) -> object:
    """Return the value of a registered type that a dict in the text represents, or the dict itself."""
    if _TYPE not in found:
        return found
    name = found[_TYPE]
    if not isinstance(name, str) or found.keys() - {_ZONES} != {_TYPE, _VALUE}:
        raise CorruptContent(
            f"a dict with the key {_TYPE!r} must have a name there, and {_VALUE!r} as its only other key"
        )
    known = types.named(name)
    if known is None:
        advice = f"; call redicts.types.register({name!r}, ...) with its class before you read it"
        raise UnknownType(f"{name[:200]!r}{advice if types.is_name(name) else ''}")
    value = found[_VALUE]
    if _ZONES in found:
        try:
            value = _with_zones(found)
        except (AttributeError, LookupError, TypeError) as error:
            raise CorruptContent(f"the time zones of this {name!r} do not fit its value") from error
    try:
        if _ZONES in found:
            return known.adapter.validate_python(value)
        return known.adapter.validate_json(json.dumps(value))
    except RecursionError:
        raise
    except Exception as error:  # validators and __post_init__ may raise anything
        if is_interrupt(error):
            raise
        raise ValidationFailedContent(f"{name!r}: {_reason(error)}") from Redacted.of(error)


def _reason(error: Exception) -> str:
    """Return the reason field by field, without the values, which messages of validators may repeat."""
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__} was raised by it"
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg'] if problem['type'] in _SAFE else problem['type']}"
        for problem in problems
    )


class _UnstorableTime(ValueError):
    """Raised for a datetime or time that its JSON text does not represent."""

    def __init__(self) -> None:
        super().__init__(
            "a datetime must have no time zone, a fixed offset, or a zoneinfo.ZoneInfo with a key, and a ZoneInfo must "
            "not be in a time, a set or a key of a dict; use astimezone(timezone.utc).replace(fold=0)"
        )


@hookimpl
def redicts_codecs() -> list[CodecPlugin]:
    """Offer this codec."""
    summary = "JSON text with pydantic models and dataclasses of registered types"
    harness = "redicts.contract.codecs:AsJsonHarness"
    return [CodecPlugin("models", None, lambda _: ModelsCodec(), contract=1, summary=summary, harness=harness)]
