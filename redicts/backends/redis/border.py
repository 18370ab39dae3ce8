"""The border: what the client library raises, as errors of ours that say what happened, where, and what to do."""

from __future__ import annotations

from typing import Final

from redis import exceptions

from redicts.errors import (
    AccessDenied,
    Damaged,
    ReadOnly,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreTimeout,
    Unreachable,
)

_BY_TEXT: Final[tuple[tuple[str, type[StoreError], str], ...]] = (
    ("WRONGTYPE", Damaged, "a key with our prefix holds another type; set another prefix or remove the foreign key"),
    ("OOM", StoreFull, "the server's maxmemory is reached; free memory there or raise the limit"),
    ("READONLY", ReadOnly, "this is a read-only replica; connect to the primary"),
    ("NOREPLICAS", ReadOnly, "the server wants more replicas than it has before it writes"),
    ("MISCONF", ReadOnly, "the server cannot save to its disk and refuses writes; look into its log"),
    ("LOADING", StoreBusy, "the server is loading its data; try again later"),
    ("BUSY", StoreBusy, "the server runs a script that does not end; try again later"),
    ("MASTERDOWN", StoreBusy, "this replica has lost its primary; try again later"),
    ("max number of clients", StoreBusy, "the server has no connection left; raise its maxclients"),
    ("WRONGPASS", AccessDenied, "user name or password is wrong; correct username and password in the settings"),
    ("NOAUTH", AccessDenied, "the server wants a password; set password in the settings"),
    ("invalid password", AccessDenied, "the password is wrong; correct password in the settings"),
    ("without any password configured", AccessDenied, "the server knows no password; take it out of the settings"),
    ("NOPERM", AccessDenied, "this user may not do that; allow eval, evalsha and the commands on keys with our prefix"),
    ("DB index is out of range", Unreachable, "the server has no database of that number"),
)


def mapped(error: Exception, where: str, *, maybe_applied: bool = False) -> StoreError:
    """Return the error of ours that stands for one of the client library, at the server described by ``where``."""
    text = str(error)
    for fragment, kind, meaning in _BY_TEXT:
        if fragment in text:
            return kind(f"redis at {where}: {meaning}")
    if isinstance(error, exceptions.AuthenticationError):
        return AccessDenied(f"redis at {where}: user name or password is wrong")
    doubt = "; the request may have been carried out" if maybe_applied else ""
    if isinstance(error, exceptions.TimeoutError):
        return StoreTimeout(f"redis at {where}: no answer in time{doubt}", maybe_applied=maybe_applied)
    if isinstance(error, (exceptions.ConnectionError, OSError)):
        return Unreachable(f"redis at {where}: {_reason(error)}{doubt}", maybe_applied=maybe_applied)
    return StoreError(f"redis at {where}: {text}", maybe_applied=maybe_applied)


def is_final(error: Exception) -> bool:
    """Tell whether sending the request again on a new connection would meet the same error."""
    return isinstance(error, (exceptions.AuthenticationError, exceptions.BusyLoadingError)) or any(
        fragment in str(error) for fragment, _, _ in _BY_TEXT
    )


def _reason(error: Exception) -> str:
    text = str(error)
    return (
        "no server answers there; start it or correct host and port" if "refused" in text else f"no connection ({text})"
    )
