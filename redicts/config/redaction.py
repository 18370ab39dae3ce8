"""Runs a plugin's own code on what the user configured, so that neither its faults nor its words let a secret out.

A message of somebody else's code is shown unless it repeats what it was given; what comes with redicts never does.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar, get_args
from urllib.parse import unquote

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError
from pydantic_core.core_schema import ErrorType

from redicts.core.backend import BackendSettings
from redicts.errors import PluginBroken, RedictsError, SettingsError, WrongField
from redicts.plugins.discovery import Source
from redicts.plugins.suggestions import suggestion

_Model = TypeVar("_Model", bound=BaseModel)
_Result = TypeVar("_Result")

_IN_OTHERS_WORDS: Final = frozenset({"value_error", "assertion_error", "union_tag_invalid"})
"""Types of validation errors whose text is not pydantic's alone."""

_WITHHELD: Final = "it is refused, and why is not shown, because the plugin's message repeats what it was given"


def validated(source: Source, model: type[_Model], fields: Mapping[str, Any], elsewhere: Iterable[str]) -> _Model:
    """Return a plugin's settings. ``elsewhere`` are the names that the configuration knows beside them.

    Raises :class:`~redicts.errors.WrongField` for each field that is wrong, and
    :class:`~redicts.errors.PluginBroken` if the model itself fails.
    """
    refusal: SettingsError
    try:
        found = model.model_validate(dict(fields))
        if isinstance(found, model):
            return found
        refusal = _failed(source, f"made {type(found).__name__} of them")
    except ValidationError as error:
        refusal = refused(error, source, known_fields(model), elsewhere, fields)
    except (Exception, SystemExit) as error:
        refusal = _failed(source, f"raised {type(error).__name__}")
    raise refusal  # here, so that no error before it, which may hold what was given, goes along


def fields_of_url(source: Source, model: type[BackendSettings], url: str) -> dict[str, Any]:
    """Return the fields that a URL stands for.

    Raises :class:`~redicts.errors.WrongField` if it stands for none, and :class:`~redicts.errors.PluginBroken` if the
    plugin fails over it.
    """
    refusal: SettingsError
    try:
        return dict(model.fields_of_url(url))
    except ValueError as error:
        refusal = WrongField(f"{label(source)}: {_shown(source, str(error), url)}")
    except (Exception, SystemExit) as error:
        refusal = _failed(source, f"raised {type(error).__name__} over the URL")
    raise refusal


def main_database(source: Source, settings: BackendSettings) -> int:
    """Return the number of the database to use where the settings name none.

    Raises :class:`~redicts.errors.PluginBroken` if the plugin fails over it.
    """
    try:
        number: object = settings.main_database
        if type(number) is int and number >= 0:
            return number
        refusal = _failed(source, "gave no number for the main database")
    except (Exception, SystemExit) as error:
        refusal = _failed(source, f"raised {type(error).__name__} over the main database")
    raise refusal


def opened(source: Source, settings: BaseModel, open_: Callable[[], object], expected: type[_Result]) -> _Result:
    """Return what a plugin opens with its settings, and of the right type.

    Errors of redicts' own that the plugin raises go through. Raises :class:`~redicts.errors.PluginBroken` for others,
    and for those that would tell a secret.
    """
    cause: BaseException | None = None
    try:
        found = open_()
        if isinstance(found, expected):
            return found
        why = f"it returned {type(found).__name__}, not a {expected.__name__}"
    except (Exception, SystemExit) as error:
        why = type(error).__name__
        if not _repeats("".join(traceback.format_exception(error)), _texts(settings, whole=False)):
            if isinstance(error, RedictsError):
                raise
            cause, why = error, f"{why}: {error}" if str(error) else why
    raise PluginBroken(
        f"the {source} cannot be opened: {why}; correct its settings, or upgrade {source.distribution}"
    ) from cause


def refused(
    error: ValidationError, source: Source | None, known: Iterable[str], elsewhere: Iterable[str], given: object
) -> WrongField:
    """Return an error that lists each wrong field with the reason, and the nearest right name of an unknown one."""
    lines = []
    known, elsewhere = list(known), list(elsewhere)
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        where = ".".join(shown_name(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(unknown_field(where, known, elsewhere))
        else:
            message = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
            if source is not None and _in_others_words(problem["type"]):
                message = _shown(source, message, given)
            lines.append(f"{where}: {message}" if where else message)
    return WrongField(f"{'settings' if source is None else label(source)}: {'; '.join(lines)}")


def shown_name(name: object) -> str:
    """Return a name that a user gave as errors show it: not at all if it is a URL, which may hold a password."""
    return "(a URL)" if "://" in str(name) else str(name)


def unknown_field(name: object, known: Iterable[str], elsewhere: Iterable[str] = ()) -> str:
    """Return what an error says of a field that is not known, where those in ``elsewhere`` have another place."""
    name = shown_name(name)
    if name in elsewhere:
        return f"{name!r} goes beside the dict, not into it"
    return f"there is no setting {name!r}; {suggestion(name, [*known, *elsewhere])}"


def known_fields(model: type[BaseModel]) -> list[str]:
    """Return the names by which the fields of a model are given."""
    return [str(field.validation_alias or name) for name, field in model.model_fields.items()]


def label(source: Source) -> str:
    """Return how the errors about the settings of a plugin begin."""
    return f"{source.kind.word} {source.name!r}" + ("" if source.builtin else f" ({source.origin})")


def _failed(source: Source, what: str) -> PluginBroken:
    # Without the message: it may hold what was given.
    return PluginBroken(
        f"the settings of the {source} cannot be checked: its own code {what}; "
        f"upgrade {source.distribution}, or choose another {source.kind.word}"
    )


def _in_others_words(kind: str) -> bool:
    return kind in _IN_OTHERS_WORDS or kind not in get_args(ErrorType)


def _shown(source: Source, message: str, given: object) -> str:
    return _WITHHELD if not source.builtin and _repeats(message, _texts(given, whole=True)) else message


def _repeats(message: str, texts: Iterable[str]) -> bool:
    return any(re.search(rf"(?<!\w){re.escape(text)}(?!\w)", message) for text in texts)


def _texts(value: object, *, whole: bool) -> Iterator[str]:
    """Yield the texts in a value that must not be repeated: what is marked as a secret, and passwords in URLs.

    With ``whole``, every text and number in it.
    """
    if isinstance(value, (SecretStr, SecretBytes)):
        yield from _texts(value.get_secret_value(), whole=True)
    elif isinstance(value, (BaseModel, Mapping, list, tuple, set, frozenset)):
        inner = vars(value) if isinstance(value, BaseModel) else value
        for each in inner.values() if isinstance(inner, Mapping) else inner:
            yield from _texts(each, whole=whole)
    elif value is not None and not isinstance(value, bool):
        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        yield from filter(None, [*_passwords(text), *([text] if whole else [])])


def _passwords(text: str) -> list[str]:
    """Return what stands where URLs and connection strings have names and passwords."""
    user, at, _ = text.partition("://")[2].rpartition("@")
    pieces = [*(user.split(":") if at else []), *re.findall(r"=\s*'?([^&\s']+)", text)]
    return [*pieces, *[unquote(piece) for piece in pieces]]
