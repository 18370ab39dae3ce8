"""Error mapping: each error of redis-py becomes one of redicts that says what happened, where, and what to do."""

from __future__ import annotations

import re
from typing import Final

from redis import exceptions

from redicts.errors import (
    AccessDenied,
    CorruptData,
    ReadOnly,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreTimeout,
    Unreachable,
)

_Meaning = tuple[type[StoreError], str]

_CHANNELS: Final[_Meaning] = (
    AccessDenied,
    "this user may not use the channels of redicts; with the prefix app: allow +publish +subscribe &app:s:*",
)

_MEANINGS: Final[dict[str, _Meaning]] = {
    "WRONGTYPE": (
        CorruptData,
        "a key with this prefix holds another type; set another prefix or remove the foreign key",
    ),
    "OOM": (StoreFull, "the server's maxmemory is reached; free memory there or raise the limit"),
    "READONLY": (ReadOnly, "this is a read-only replica; connect to the primary"),
    "NOREPLICAS": (
        ReadOnly,
        "the server has fewer replicas than it requires for writes; start more or lower min-replicas-to-write",
    ),
    "MISCONF": (ReadOnly, "the server cannot save to its disk and refuses writes; see its log"),
    "LOADING": (StoreBusy, "the server is loading its data; try again later"),
    "BUSY": (StoreBusy, "the server is running a script that does not end; try again later"),
    "MASTERDOWN": (StoreBusy, "this replica has lost its primary; try again later"),
    "WRONGPASS": (AccessDenied, "the user name or password is wrong; correct username and password in the settings"),
    "NOAUTH": (AccessDenied, "the server requires a password; set password in the settings"),
    "NOPERM": (
        AccessDenied,
        "this user may not do that; allow it what the documentation lists under Production, on keys with this prefix",
    ),
}
"""What the codes mean that begin the server's errors."""

_CODE: Final = re.compile(rf"(?:^|-|: )({'|'.join(_MEANINGS)})\b")

_BY_CLASS: Final[tuple[tuple[type[exceptions.RedisError], str], ...]] = (
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.NoPermissionError, "NOPERM"),
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.MasterDownError, "MASTERDOWN"),
)
"""The codes that redis-py removes from the text and makes a class of."""

_BY_TEXT: Final[tuple[tuple[str, _Meaning], ...]] = (
    ("Authentication required", _MEANINGS["NOAUTH"]),
    ("unauthenticated", _MEANINGS["NOAUTH"]),
    ("without any password configured", (AccessDenied, "the server has no password; remove it from the settings")),
    ("access one of the channels", _CHANNELS),
    ("publish to the channel", _CHANNELS),
    ("can't run this command", _MEANINGS["NOPERM"]),
    ("can't access at least one of the keys", _MEANINGS["NOPERM"]),
    ("max number of clients reached", (StoreBusy, "the server accepts no more connections; raise its maxclients")),
    (
        "DB index is out of range",
        (Unreachable, "the server has no database of that number; correct database in the settings"),
    ),
)
"""Answers without a code. They are searched for in answers only, because other errors name hosts and files."""


def mapped(error: Exception, where: str, *, maybe_applied: bool = False) -> StoreError:
    """Return the error of redicts for one of redis-py, with the server described as ``where``."""
    meaning = _meaning(error)
    if meaning is not None:
        return meaning[0](f"redis at {where}: {meaning[1]}", maybe_applied=maybe_applied)
    doubt = "; the request may have been carried out" if maybe_applied else ""
    if isinstance(error, exceptions.TimeoutError):
        return StoreTimeout(f"redis at {where}: no answer within the timeout{doubt}", maybe_applied=maybe_applied)
    if isinstance(error, (exceptions.ConnectionError, OSError)):
        return Unreachable(f"redis at {where}: {_reason(error)}{doubt}", maybe_applied=maybe_applied)
    return StoreError(f"redis at {where}: {error}", maybe_applied=maybe_applied)


def is_answer(error: Exception) -> bool:
    """Tell whether the server answered, so that the request was certainly not carried out."""
    return _meaning(error) is not None


def is_lost(error: Exception) -> bool:
    """Tell whether the connection that raised this error is of no more use."""
    return isinstance(error, (exceptions.ConnectionError, exceptions.TimeoutError, OSError))


def is_transient(error: Exception) -> bool:
    """Tell whether the same request may soon succeed: the connection was lost, or the server is not ready yet."""
    meaning = _meaning(error)
    return is_lost(error) if meaning is None else meaning in (_MEANINGS["LOADING"], _MEANINGS["MASTERDOWN"])


def _meaning(error: Exception) -> _Meaning | None:
    text = str(error)
    answered = isinstance(error, (exceptions.ResponseError, exceptions.AuthenticationError))
    if answered or text == "max number of clients reached":
        for fragment, meaning in _BY_TEXT:
            if fragment in text:
                return meaning
    if isinstance(error, exceptions.AuthenticationError):
        return _MEANINGS["WRONGPASS"]
    for kind, code in _BY_CLASS:
        if isinstance(error, kind):
            return _MEANINGS[code]
    found = _CODE.search(text) if answered else None
    return None if found is None else _MEANINGS[found[1]]


def _reason(error: Exception) -> str:
    text = str(error)
    return (
        "no server accepts connections there; start it or correct host and port"
        if "refused" in text
        else f"no connection ({text})"
    )
