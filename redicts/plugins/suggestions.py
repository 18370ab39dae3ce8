"""Suggestions for a name that is not known."""

from __future__ import annotations

from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the nearest known name as a question, or all that are known.

    >>> suggestion("prot", ["host", "port"])
    "did you mean 'port'?"
    >>> suggestion("zzz", ["port", "host"])
    'known are host, port'
    """
    from difflib import get_close_matches  # noqa: PLC0415  (only for an error)

    names = sorted(set(known))
    nearest = get_close_matches(name, names, n=1)
    if not names:
        return "there are none"
    return f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(names)}"
