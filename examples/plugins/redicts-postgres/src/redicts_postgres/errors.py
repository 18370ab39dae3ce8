"""What psycopg's errors mean: the kinds of errors of redicts, what happened, and what to do."""

from __future__ import annotations

from typing import Final

import psycopg

from redicts.errors import (
    AccessDenied,
    CorruptData,
    ReadOnly,
    RedictsError,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreTimeout,
    Unreachable,
)
from redicts.plugin import ErrorMapping

_Meaning = tuple[type[StoreError], str]

_BY_STATE: Final[dict[str, _Meaning]] = {
    "28": (AccessDenied, "user name or password is wrong; correct user and password in the settings"),
    "42501": (
        AccessDenied,
        "this user lacks a privilege; let an administrator run the SQL that python -m redicts_postgres prints",
    ),
    "25006": (ReadOnly, "this server takes no writes, as replicas do; connect to the primary"),
    "53100": (StoreFull, "the server's disk is full; free space there"),
    "53200": (StoreFull, "the server has no memory left, or no room for locks; raise max_locks_per_transaction"),
    "53300": (StoreBusy, "the server has no connection left; raise its max_connections or lower that of the settings"),
    "54": (StoreFull, "a limit of the server is reached"),
    "55P03": (StoreBusy, "a lock was not free in time; try again later"),
    "57P03": (StoreBusy, "the server is starting up or shutting down; try again later"),
    "40001": (StoreBusy, "others changed the same values again and again; try again later"),
    "40P01": (StoreBusy, "the server ended a deadlock of transactions; try again later"),
    "57014": (StoreTimeout, "the server ended the request after its statement_timeout; raise that"),
    "42804": (
        CorruptData,
        "a table or function of the store is not as redicts created it; set another schema or prefix",
    ),
    "42703": (CorruptData, "a table of the store is not as redicts created it; set another schema or prefix"),
    "42809": (
        CorruptData,
        "a table or function of the store is not as redicts created it; set another schema or prefix",
    ),
    "3D000": (Unreachable, "the server has no database of that name; create it or correct dbname"),
}
"""The meaning of SQLSTATE codes, whole or by class."""

_BY_TEXT: Final[tuple[tuple[str, _Meaning], ...]] = (
    ("password authentication failed", _BY_STATE["28"]),
    ("no password supplied", (AccessDenied, "the server requires a password; set password in the settings")),
    (
        "no pg_hba.conf entry",
        (AccessDenied, "the server does not admit this user from this host; check its pg_hba.conf"),
    ),
    ("peer authentication failed", _BY_STATE["28"]),
    ("is not permitted to log in", _BY_STATE["28"]),
    ("the database system is", _BY_STATE["57P03"]),
    ("too many clients", _BY_STATE["53300"]),
    ("remaining connection slots", _BY_STATE["53300"]),
    ("refused", (Unreachable, "no server answers there; start it or correct host and port")),
    ("No such file", (Unreachable, "no server answers there; start it or correct host and port")),
    ("could not translate host name", (Unreachable, "the host is unknown; correct host")),
    ("resolve host", (Unreachable, "the host is unknown; correct host")),
    ("not known", (Unreachable, "the host is unknown; correct host")),
)
"""The meaning of texts, for errors while connecting, which have no code."""

_AFTER_ROLE_OR_DATABASE: Final[tuple[tuple[str, str, _Meaning], ...]] = (
    ("role", "does not exist", _BY_STATE["28"]),
    ("database", "does not exist", _BY_STATE["3D000"]),
)

_LOST_STATES: Final = ("08", "57P01", "57P02", "57P05", "40003")
_TEMPORARY_STATES: Final = ("57P03", "53300")
REPEATABLE_STATES: Final = ("40001", "40P01")
"""Conflicts of transactions: nothing is written, and the same transaction may succeed when retried."""

MISSING_STATES: Final = ("42883", "42P01", "3F000")
"""A function, a table or the schema is missing."""


class NoAnswer(Exception):
    """The server did not answer in time."""


def state_of(error: BaseException) -> str:
    """Return the SQLSTATE code of an error, or the empty text."""
    return getattr(error, "sqlstate", None) or ""


def is_lost(error: BaseException) -> bool:
    """Tell whether the connection broke, so that the request may or may not have been executed."""
    if isinstance(error, (NoAnswer, OSError)):
        return True
    state = state_of(error)
    if state:
        return state.startswith(_LOST_STATES)
    return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))


def is_temporary(error: BaseException) -> bool:
    """Tell whether the server is not ready yet, so that the same request may soon succeed."""
    if state_of(error):
        return state_of(error) in _TEMPORARY_STATES
    return _meaning_of_text(error) in (_BY_STATE["57P03"], _BY_STATE["53300"])


def is_refused(error: BaseException) -> bool:
    """Tell whether the server denies access, so that a retry cannot succeed."""
    meaning = _meaning(error)
    return meaning is not None and meaning[0] is AccessDenied


class Errors(ErrorMapping):
    """Error mapping for one server."""

    __slots__ = ()

    def mapped(self, error: BaseException, *, maybe_applied: bool = False) -> RedictsError:
        """Return the error of redicts for one of psycopg, in which secrets are crossed out too."""
        self.cross_out(error)
        return self.error(*_meaning_or_unknown(error), maybe_applied=maybe_applied)


def _meaning_or_unknown(error: BaseException) -> _Meaning:
    if isinstance(error, (NoAnswer, psycopg.errors.ConnectionTimeout)):
        return StoreTimeout, "no answer in time"
    meaning = _meaning(error)
    if meaning is not None:
        return meaning
    if is_lost(error):
        return Unreachable, "the connection failed or broke; check the server's log"
    # The server's text could contain values, so the message has only the code.
    code = state_of(error) or "unknown"
    return StoreError, f"the server answered with {type(error).__name__}, code {code}; check its log"


def _meaning(error: BaseException) -> _Meaning | None:
    state = state_of(error)
    if state:
        return _BY_STATE.get(state) or _BY_STATE.get(state[:2])
    return _meaning_of_text(error)


def _meaning_of_text(error: BaseException) -> _Meaning | None:
    if not isinstance(error, psycopg.OperationalError):
        return None
    text = str(error)
    for fragment, meaning in _BY_TEXT:
        if fragment in text:
            return meaning
    for subject, fragment, meaning in _AFTER_ROLE_OR_DATABASE:
        if f'{subject} "' in text and fragment in text:
            return meaning
    return None
