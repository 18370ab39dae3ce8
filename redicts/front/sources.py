"""Where the configuration comes from when a program gives none: the environment, or a TOML file.

The first that is there is taken, whole: the URL in ``REDICTS_URL``; the file named by ``REDICTS_CONFIG``; the table
``[tool.redicts]`` of the nearest ``pyproject.toml``, in the current directory or above.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from redicts.errors import SettingsError

URL: Final = "REDICTS_URL"
FILE: Final = "REDICTS_CONFIG"
PROJECT_FILE: Final = "pyproject.toml"


class Found(NamedTuple):
    """A configuration, and what errors about it begin with."""

    where: str
    configuration: Mapping[str, Any] | str


def default() -> Found | None:
    """Return the configuration of the environment or of a file, or ``None`` if there is none.

    Raises :class:`~redicts.errors.SettingsError` if a file cannot be read. Nothing is kept: the next call looks again.
    """
    url = os.environ.get(URL)
    if url:
        return Found(URL, url)
    named = os.environ.get(FILE)
    if named:
        where = f"{named} (named by {FILE})"
        content = _content(where, Path(named))
        table = _tool_table(content)
        return Found(where, content if table is None else _a_table(where, table))
    project = _project_file()
    # Most projects say nothing of redicts: no parser is imported for them.
    if project is not None and b"redicts" in _bytes(str(project), project):
        table = _tool_table(_content(str(project), project))
        if table is not None:
            where = f"{project}, [tool.redicts]"
            return Found(where, _a_table(where, table))
    return None


def _project_file() -> Path | None:
    try:
        here = Path.cwd()
    except FileNotFoundError:  # somebody removed the directory
        return None
    return next((path for each in (here, *here.parents) if (path := each / PROJECT_FILE).is_file()), None)


def _content(where: str, path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415  (for those who have a file)
    else:
        import tomli as tomllib  # noqa: PLC0415

    try:
        content: dict[str, Any] = tomllib.loads(_bytes(where, path).decode())
    except UnicodeDecodeError:
        refusal = "it is no text in UTF-8"
    except tomllib.TOMLDecodeError as error:
        refusal = f"it is no TOML: {error}"
    else:
        return content
    raise SettingsError(f"{where} cannot be read: {refusal}")  # here: the error before has the whole text with it


def _bytes(where: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{where} cannot be read: {error.strerror or type(error).__name__}") from None


def _tool_table(content: Mapping[str, Any]) -> Any:
    tools = content.get("tool")
    return tools.get("redicts") if isinstance(tools, Mapping) else None


def _a_table(where: str, table: Any) -> Mapping[str, Any]:
    if not isinstance(table, Mapping):
        raise SettingsError(f"{where}: it is a table of settings, not {type(table).__name__}")
    return table
