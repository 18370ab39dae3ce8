"""Validates a plugin's settings with its own model, whose errors become errors that repeat no secret.

A message of a third-party plugin is shown unless it repeats a value that it was given. Errors are raised outside of the
``except`` clause: otherwise they would carry the plugin's error, which may hold such a value, as their context.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core.core_schema import ErrorType

from redicts.config.redaction import repeats_value, shown_name
from redicts.core.plugin_settings import BackendSettings
from redicts.errors import PluginBroken, SettingsError, WrongField
from redicts.file_paths import absolute
from redicts.plugins.discovery import Source
from redicts.plugins.suggestions import suggestion

_Model = TypeVar("_Model", bound=BaseModel)

_CUSTOM: Final = frozenset({"value_error", "assertion_error", "union_tag_invalid"})
"""Types of validation errors whose message may come from a plugin, and not from pydantic."""

_WITHHELD: Final = "it is refused; the plugin's message is withheld because it repeats a configured value"


def validated(source: Source, model: type[_Model], fields: Mapping[str, Any], elsewhere: Iterable[str]) -> _Model:
    """Return a plugin's settings. ``elsewhere`` are the names of settings that belong outside of the plugin's dict.

    Raises :class:`~redicts.errors.WrongField`, which names each wrong field, and
    :class:`~redicts.errors.PluginBroken` if the model itself fails.
    """
    refusal: SettingsError
    try:
        found = model.model_validate(dict(fields))
        if isinstance(found, model):
            return _with_absolute_paths(found)
        refusal = _failed(source, f"returned a {type(found).__name__}")
    except ValidationError as error:
        refusal = wrong_fields(error, source, field_names(model), elsewhere, fields)
    except (Exception, SystemExit) as error:
        refusal = _failed(source, f"raised {type(error).__name__}")
    raise refusal


def _with_absolute_paths(settings: _Model) -> _Model:
    """Return settings in which no path object depends on the current directory of a later moment or another process.

    Plugins declare paths that are text as :data:`redicts.plugin.FilePath`.
    """
    relative = {name: value for name, value in vars(settings).items() if isinstance(value, PurePath)}
    changed = {name: Path(absolute(str(value))) for name, value in relative.items() if not value.is_absolute()}
    return settings.model_copy(update=changed) if changed else settings


def fields_of_url(source: Source, model: type[BackendSettings], url: str) -> dict[str, Any]:
    """Return the fields that a URL stands for.

    Raises :class:`~redicts.errors.WrongField` if the plugin refuses the URL, and
    :class:`~redicts.errors.PluginBroken` if the plugin fails.
    """
    refusal: SettingsError
    try:
        return dict(model.fields_of_url(url))
    except ValueError as error:
        refusal = WrongField(f"{_label(source)}: {_shown(source, str(error), url)}")
    except (Exception, SystemExit) as error:
        refusal = _failed(source, f"raised {type(error).__name__} for the URL")
    raise refusal


def main_database(source: Source, settings: BackendSettings) -> int:
    """Return the number of the database to use if the configuration gives none.

    Raises :class:`~redicts.errors.PluginBroken` if the plugin fails.
    """
    try:
        number: object = settings.main_database
        if type(number) is int and number >= 0:
            return number
        refusal = _failed(source, "gave no number for the main database")
    except (Exception, SystemExit) as error:
        refusal = _failed(source, f"raised {type(error).__name__} for the main database")
    raise refusal


def wrong_fields(
    error: ValidationError, source: Source | None, known: Iterable[str], elsewhere: Iterable[str], given: object
) -> WrongField:
    """Return an error that lists each wrong field with the reason; ``source`` is ``None`` for general settings."""
    lines = []
    known, elsewhere = list(known), list(elsewhere)
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        where = ".".join(map(shown_name, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            lines.append(unknown_field(where, known, elsewhere))
        else:
            message = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
            if source is not None and (problem["type"] in _CUSTOM or problem["type"] not in get_args(ErrorType)):
                message = _shown(source, message, given)
            lines.append(f"{where}: {message}" if where else message)
    return WrongField(f"{'settings' if source is None else _label(source)}: {'; '.join(lines)}")


def unknown_field(name: object, known: Iterable[str], elsewhere: Iterable[str] = ()) -> str:
    """Return the message about a field that is not known, or that belongs outside of the plugin's dict."""
    name = shown_name(name)
    if name in elsewhere:
        return f"{name!r} is a general setting; put it outside of the dict"
    return f"there is no setting {name!r}; {suggestion(name, [*known, *elsewhere])}"


def field_names(model: type[BaseModel]) -> list[str]:
    """Return the names by which a configuration gives the fields of a model."""
    return [str(field.validation_alias or name) for name, field in model.model_fields.items()]


def _label(source: Source) -> str:
    """Return the beginning of an error about the settings of a plugin."""
    return f"{source.kind.noun} {source.name!r}" + ("" if source.builtin else f" ({source.origin})")


def _failed(source: Source, what: str) -> PluginBroken:
    """Return the error about code of a plugin that failed, without its message, which may hold a configured value."""
    return PluginBroken(
        f"the settings of the {source} cannot be checked: its own code {what}; "
        f"upgrade {source.distribution}, or choose another {source.kind.noun}"
    )


def _shown(source: Source, message: str, given: object) -> str:
    return _WITHHELD if not source.builtin and repeats_value(message, given) else message
