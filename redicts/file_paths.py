"""Makes the path of a file in settings absolute when it is chosen, so that no later change of directory moves it."""

from __future__ import annotations

import os


def as_text(path: object) -> object:
    """Return the text of a path object, and any other object unchanged."""
    return os.fspath(path) if isinstance(path, os.PathLike) else path


def absolute(path: str) -> str:
    """Return a path as an absolute one, relative to the current directory. Symbolic links and ``..`` stay.

    Raises ``ValueError`` for a URL, for a NUL character, and for a relative path if the current directory was removed.
    """
    if "\x00" in path:
        raise ValueError("a path must not contain a NUL character; remove it")
    if "://" in path:
        raise ValueError("this must be a path, not a URL; give a URL as the whole configuration")
    if os.path.isabs(path):
        return path
    try:
        return os.path.join(os.getcwd(), path)
    except OSError:
        raise ValueError("the current directory does not exist or is not readable; give an absolute path") from None
