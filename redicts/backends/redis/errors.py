"""Error mapping: each error of redis-py becomes one of redicts that says what happened, where, and what to do.

The text of a server may repeat the arguments of a command, and a password is one of them. So such texts are filtered,
in the error of redis-py too, because a traceback shows it as the cause.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Mapping
from typing import Any, Final

from redis import exceptions

from redicts.core.error_mapping import ErrorMapping, Meaning, chain
from redicts.errors import (
    AccessDenied,
    CorruptData,
    NotReplicated,
    ReadOnly,
    RedictsError,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreTimeout,
    Unreachable,
    Unsupported,
)

_CHANNELS: Final[Meaning] = (
    AccessDenied,
    "this user may not use these channels; with prefix app: allow +publish +subscribe +psubscribe &app:s:* &app:s:0:/*",
)

_CLUSTER: Final[Meaning] = (
    StoreError,
    "the server is a node of a cluster; connect to that as redis+cluster://host:port/0, or with cluster=True and nodes",
)

_TOO_LONG: Final[Meaning] = (
    Unsupported,
    "a value or path is longer than the server's proto-max-bulk-len, by default 512 MB; raise it. Nothing was written",
)

_MEANINGS: Final[dict[str, Meaning]] = {
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
    "DENIED": (
        AccessDenied,
        "the server is in protected mode and answers its own host only; give it a password, or set its protected-mode",
    ),
    "MOVED": _CLUSTER,
    "ASK": _CLUSTER,
    "TRYAGAIN": _CLUSTER,
    "CROSSSLOT": _CLUSTER,
    "CLUSTERDOWN": _CLUSTER,
}
"""What the codes mean that begin the server's errors."""

_OF_NO_PRIMARY: Final = [_MEANINGS[code] for code in ("READONLY", "NOREPLICAS", "LOADING", "MASTERDOWN")]
"""The answers of a server that is not the primary, not yet, or no longer. A new connection may lead to another one."""

_CODE: Final = re.compile(rf"(?:^|-|: )({'|'.join(_MEANINGS)})\b")

_BY_CLASS: Final[tuple[tuple[type[exceptions.RedisError], str], ...]] = (
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.NoPermissionError, "NOPERM"),
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.AskError, "ASK"),
    (exceptions.TryAgainError, "TRYAGAIN"),
    (exceptions.ClusterCrossSlotError, "CROSSSLOT"),
    (exceptions.ClusterDownError, "CLUSTERDOWN"),
)
"""The codes that redis-py removes from the text and makes a class of."""

_LACKS_A_COMMAND: Final[Meaning] = (
    StoreError,
    "the server lacks a command; redicts needs Redis 6.2 or newer, or Valkey, with scripts allowed, and no Sentinel",
)

_NO_PASSWORDS: Final[Meaning] = (AccessDenied, "the server has no password; remove it from the settings")

_BY_TEXT: Final[tuple[tuple[str, Meaning], ...]] = (
    ("Authentication required", _MEANINGS["NOAUTH"]),
    ("unauthenticated", _MEANINGS["NOAUTH"]),
    ("without any password configured", _NO_PASSWORDS),
    ("but no password is set", _NO_PASSWORDS),
    ("unknown command 'AUTH'", _NO_PASSWORDS),
    ("unknown command `AUTH`", _NO_PASSWORDS),
    ("unknown command", _LACKS_A_COMMAND),
    ("access one of the channels", _CHANNELS),
    ("publish to the channel", _CHANNELS),
    ("can't run this command", _MEANINGS["NOPERM"]),
    ("can't access at least one of the keys", _MEANINGS["NOPERM"]),
    ("max number of clients reached", (StoreBusy, "the server accepts no more connections; raise its maxclients")),
    (
        "DB index is out of range",
        (Unreachable, "the server has no database of that number; correct database in the settings"),
    ),
    ("SELECT is not allowed in cluster mode", _CLUSTER),
    ("non local key in a cluster node", _CLUSTER),
    ("do not hash to the same slot", _CLUSTER),
    ("while the cluster is down", _CLUSTER),
    ("invalid bulk length", _TOO_LONG),
)
"""Answers without a code. They are searched for in answers only, because other errors name hosts and files."""

_NOT_REDIS: Final = "what answers there does not speak the protocol of Redis; correct host, port and tls"
_REFUSED: Final = "no server accepts connections there; start it or correct host and port"
_UNRESOLVED: Final = "the name of the host cannot be resolved; correct host, or look at the name service"
_REFUSED_AFTER_SENTINELS: Final = (
    "the server that a Sentinel names as the primary accepts no connections; a failover takes a while, try again later"
)
_MANY_FILES: Final = (
    "this process has too many open files; close some, lower max_connections, or raise its limit (ulimit -n)"
)

_ARGUMENTS: Final = re.compile(r",? with args beginning with.*", re.DOTALL)
_COMMAND: Final = re.compile(r"unknown command ['`][A-Za-z|]{1,20}['`]")
_QUOTED: Final = re.compile(r"'[^']*'|`[^`]*`|\"[^\"]*\"")
_LONGEST_TEXT: Final = 200


class NoPrimary(exceptions.ConnectionError):
    """No Sentinel names a primary. The text says why, without secrets. ``passes`` tells whether another may soon."""

    def __init__(self, text: str, kind: type[RedictsError] = Unreachable, *, passes: bool = True) -> None:
        super().__init__(text)
        self.kind: Final = kind
        self.passes: Final = passes


class Errors:
    """Error mapping for one server: ``where`` describes it.

    ``options`` are redis-py's arguments for a connection. They tell the secrets that no text may repeat, and the files
    that TLS needs.
    """

    __slots__ = ("_files", "_has_sentinels", "_mapping", "where")

    def __init__(self, where: str, options: Mapping[str, Any]) -> None:
        self.where = where
        self._has_sentinels = "connection_pool" in options
        secrets = (
            options.get("password"),
            options.get("username"),
            *getattr(options.get("connection_pool"), "secrets", ()),
        )
        self._mapping = ErrorMapping(f"redis at {where}", secrets)
        names = {"ssl_ca_certs": "tls_ca_file", "ssl_certfile": "tls_cert_file", "ssl_keyfile": "tls_key_file"}
        self._files = [(name, options[option]) for option, name in names.items() if options.get(option)]

    def mapped(self, error: Exception, *, maybe_applied: bool = False) -> RedictsError:
        """Return the error of redicts for one of redis-py, whose text is filtered."""
        meaning = _meaning(error)
        reason = self._reason(error)
        self._filter(error)
        if meaning is not None:
            kind, text = meaning
        elif isinstance(error, exceptions.TimeoutError):
            kind, text = StoreTimeout, "no answer within the timeout"
        elif isinstance(error, (exceptions.ConnectionError, exceptions.InvalidResponse, OSError)):
            kind, text = Unreachable, reason
        else:
            kind, text = StoreError, str(error)
        return self._mapping.error(kind, text, maybe_applied=maybe_applied)

    def not_replicated(self, text: str) -> RedictsError:
        """Return the error for a write that is on the server, and not on enough replicas."""
        return self._mapping.error(NotReplicated, text, maybe_applied=True)

    def _reason(self, error: Exception) -> str:
        """Return why there is no connection, and what to do."""
        if isinstance(error, exceptions.InvalidResponse):
            return _NOT_REDIS
        numbers = {each.errno for each in chain(error) if isinstance(each, OSError)}
        unresolved = any(isinstance(each, (socket.gaierror, UnicodeError)) for each in chain(error))
        if numbers & {errno.EMFILE, errno.ENFILE} or (unresolved and _has_no_file_left()):
            return _MANY_FILES
        for name, path in self._files:
            try:
                with open(path, "rb"):
                    pass
            except OSError as unreadable:
                return f"{name} {path} cannot be read ({unreadable.strerror}); correct it in the settings"
        text = str(error)
        # redis-py writes the number into its text; asyncio's error beneath it does not say "refused".
        if errno.ECONNREFUSED in numbers or "refused" in text or f"Error {errno.ECONNREFUSED} connecting" in text:
            return _REFUSED_AFTER_SENTINELS if self._has_sentinels else _REFUSED
        if unresolved or text == _UNRESOLVED:
            return _UNRESOLVED
        return f"no connection ({self._filtered(str(error)) if is_answer(error) else error})"

    def _filter(self, error: BaseException) -> None:
        """Filter the server's texts in an error and its causes."""
        for each in chain(error):
            if isinstance(each, exceptions.InvalidResponse):
                each.args = ("the answer is not one of Redis",)
            elif isinstance(each, (exceptions.ResponseError, exceptions.AuthenticationError)):
                each.args = (self._filtered(str(each)),)

    def _filtered(self, text: str) -> str:
        """Return the text of a server without what may be an argument of a command."""
        text = self._mapping.crossed_out(_ARGUMENTS.sub("", text))
        kept = _COMMAND.match(text)
        begin = kept.end() if kept else 0
        return (text[:begin] + _QUOTED.sub("'...'", text[begin:]))[:_LONGEST_TEXT]


def unencodable(error: UnicodeError) -> exceptions.RedisError:
    """Return the error of redis-py for a host, user name or password that has no encoding, without that text."""
    if isinstance(error, UnicodeEncodeError) and error.encoding == "utf-8":
        return exceptions.AuthenticationError("the user name or password has characters that UTF-8 has not")
    return exceptions.ConnectionError(_UNRESOLVED)


def is_answer(error: Exception) -> bool:
    """Tell whether the server answered, so that the request was certainly not carried out."""
    return _meaning(error) is not None or isinstance(error, exceptions.ResponseError)


def is_lost(error: Exception) -> bool:
    """Tell whether the connection that raised this error is of no more use."""
    if not isinstance(error, exceptions.ResponseError) or "Protocol error" in str(error):
        return True
    return _meaning(error) in _OF_NO_PRIMARY


def is_transient(error: Exception) -> bool:
    """Tell whether the same request may soon succeed: the connection was lost, or the server is not ready yet."""
    meaning = _meaning(error)
    if isinstance(error, NoPrimary):
        return error.passes
    if meaning is not None:
        return meaning in _OF_NO_PRIMARY
    return isinstance(error, (exceptions.ConnectionError, exceptions.TimeoutError, OSError))


def _meaning(error: Exception) -> Meaning | None:
    text = str(error)
    if isinstance(error, NoPrimary):
        return error.kind, text
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


def _has_no_file_left() -> bool:
    """Tell whether this process cannot open another file: then host names cannot be looked up either."""
    try:
        os.close(os.dup(0))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False
