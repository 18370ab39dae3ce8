"""Reads the configuration of a program that gives none from the environment or a TOML file, or one on a command line.

The first source that exists is used as a whole: the URL in ``REDICTS_URL``; the file named by ``REDICTS_CONFIG``; the
table ``[tool.redicts]`` of the nearest ``pyproject.toml``, in the current directory or above.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from redicts.errors import SettingsError

URL: Final = "REDICTS_URL"
FILE: Final = "REDICTS_CONFIG"
PROJECT_FILE: Final = "pyproject.toml"

_DATABASE_FILE: Final = re.compile(r"[\w./+-]+\.(db|db3|sqlite|sqlite3)|[\w./+-]*/[\w./+-]*")
"""A text that is the name of a file, and of no backend."""


class Found(NamedTuple):
    """A configuration, and the beginning of errors about it."""

    where: str
    configuration: Mapping[str, Any] | str


def default() -> Found | None:
    """Return the configuration of the environment or of a file, or ``None`` if there is none.

    Nothing is cached. Raises :class:`~redicts.errors.SettingsError` if a file cannot be read.
    """
    url = os.environ.get(URL)
    if url:
        return Found(URL, url)
    named = os.environ.get(FILE)
    if named:
        where = f"{named} (named by {FILE})"
        return Found(where, _settings_in(where, Path(named)))
    project = _project_file()
    # No parser is imported for the files of projects that do not mention redicts.
    if project is not None and b"redicts" in _bytes(str(project), project):
        table = _tool_table(_content(str(project), project))
        if table is not None:
            where = f"{project}, [tool.redicts]"
            return Found(where, _checked_table(where, table))
    return None


def written(text: str) -> Mapping[str, Any] | str:
    """Return the configuration in an argument of a command: a URL, a dict as JSON, a TOML file, or a backend's name.

    Raises :class:`~redicts.errors.SettingsError`, which does not repeat the text, since that may hold a password.

    >>> written("memory")
    {'backend': 'memory'}
    """
    text = text.strip()
    if not text:
        raise SettingsError(
            "settings: the configuration is empty; give a URL, a dict as JSON, a TOML file, or a backend's name"
        )
    if text.startswith("{"):
        try:
            found: Mapping[str, Any] = json.loads(text)
        except ValueError as error:
            where = f"line {error.lineno} column {error.colno}" if isinstance(error, json.JSONDecodeError) else "it"
            refusal = f"settings: this is not valid JSON, see {where}; quote it for the shell: '{{...}}'"
        else:
            return found
        raise SettingsError(refusal)  # not above: the JSON error has the whole text, and would be its context
    if "://" in text:
        return text
    if text.endswith(".toml"):
        return _settings_in(text, Path(text))
    if _DATABASE_FILE.fullmatch(text):
        url = f"sqlite:///{text}"
        raise SettingsError(f"settings: the file {text} must be given as a URL; write {url}")
    if re.fullmatch(r"[\w.-]+:[0-9]+(/[0-9]*)?", text):
        raise SettingsError("settings: a server must be given as a URL; write redis:// before its host and port")
    return {"backend": text}


def _settings_in(where: str, path: Path) -> Mapping[str, Any]:
    """Return the table ``[tool.redicts]`` of a file, or its whole content if it has no such table."""
    content = _content(where, path)
    table = _tool_table(content)
    return content if table is None else _checked_table(where, table)


def _project_file() -> Path | None:
    try:
        here = Path.cwd()
    except FileNotFoundError:  # the directory was removed
        return None
    except OSError as error:
        raise SettingsError(
            f"{PROJECT_FILE} cannot be looked for in the current directory: {error.strerror}; give a configuration, or "
            f"set {URL}"
        ) from None
    for each in (here, *here.parents):
        path = each / PROJECT_FILE
        try:
            if path.is_file():
                return path
        except OSError as error:
            # Not skipped: the file may choose a store, and another one would be used instead.
            raise SettingsError(
                f"{path} cannot be looked for: {error.strerror}; give a configuration, or set {URL}"
            ) from None
    return None


def _content(where: str, path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415  (only where there is a file)
    else:
        import tomli as tomllib  # noqa: PLC0415

    try:
        content: dict[str, Any] = tomllib.loads(_bytes(where, path).decode())
    except UnicodeDecodeError:
        refusal = "it is not text in UTF-8"
    except tomllib.TOMLDecodeError as error:
        refusal = f"it is not valid TOML: {error}"
    else:
        return content
    raise SettingsError(f"{where} cannot be read: {refusal}")  # not above: the parser's error has the whole text


def _bytes(where: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{where} cannot be read: {error.strerror or type(error).__name__}") from None


def _tool_table(content: Mapping[str, Any]) -> Any:
    tools = content.get("tool")
    return tools.get("redicts") if isinstance(tools, Mapping) else None


def _checked_table(where: str, table: Any) -> Mapping[str, Any]:
    if not isinstance(table, Mapping):
        raise SettingsError(f"{where}: it must be a table of settings, not {type(table).__name__}")
    return table
