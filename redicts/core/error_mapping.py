"""Error mapping: what the errors of a store say, whatever client library or system call failed.

A program decides by an error whether to try again. So each one is a :class:`~redicts.errors.StoreError` of the right
kind, says where the store is and what to do, repeats no secret, and has ``maybe_applied`` only if writes may be there.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator
from typing import Final

from redicts.errors import (
    AccessDenied,
    ReadOnly,
    RedictsError,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreTimeout,
    Unreachable,
)

Meaning = tuple[type[RedictsError], str]
"""The kind of an error, and what happened and what to do."""

_FULL: Final[Meaning] = (StoreFull, "no space is left there; free some, or raise the quota")
_DENIED: Final[Meaning] = (AccessDenied, "this user may not read and write there; allow it")
_LOCKED: Final[Meaning] = (StoreBusy, "another program holds a lock there; try again later")
_MISSING: Final[Meaning] = (Unreachable, "there is no such file or directory; create it, or correct the path")
_MANY_FILES: Final[Meaning] = (Unreachable, "too many files are open; close some, or raise the limit (ulimit -n)")

_SYSTEM: Final[dict[int, Meaning]] = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: (ReadOnly, "its file system is read-only; mount it for writing, or choose another path"),
    errno.EAGAIN: _LOCKED,
    errno.EDEADLK: _LOCKED,
    errno.ENOENT: _MISSING,
    errno.ENOTDIR: _MISSING,
    errno.EISDIR: (Unreachable, "this is a directory, not a file; correct the path"),
    errno.EMFILE: _MANY_FILES,
    errno.ENFILE: _MANY_FILES,
    errno.ECONNREFUSED: (Unreachable, "no server accepts connections there; start it, or correct host and port"),
    errno.ETIMEDOUT: (StoreTimeout, "no answer came in time; try again later"),
}
"""What the errors of system calls mean to a caller."""


class ErrorMapping:
    """The errors of one store: ``where`` names it, and no text repeats one of the ``secrets``.

    >>> from redicts.errors import StoreFull
    >>> errors = ErrorMapping("table at localhost:1234", ["s3cret"])
    >>> errors.error(StoreFull, "its disk is full; free some space", maybe_applied=True)
    StoreFull('table at localhost:1234: its disk is full; free some space; the request may have been carried out')
    >>> errors.crossed_out("no user anna with s3cret")
    'no user anna with ...'
    >>> errors.of_system(PermissionError(13, "Permission denied"))
    AccessDenied('table at localhost:1234: this user may not read and write there; allow it')
    """

    __slots__ = ("_secrets", "where")

    def __init__(self, where: str, secrets: Iterable[str | None] = ()) -> None:
        self.where = where
        self._secrets = [re.compile(rf"(?<!\w){re.escape(secret)}(?!\w)") for secret in secrets if secret]

    def error(self, kind: type[RedictsError], text: str, *, maybe_applied: bool = False) -> RedictsError:
        """Return an error that says where, what happened and what to do.

        ``maybe_applied`` is true if a request that writes was sent, and no answer came. The text says so then. A kind
        that is no :class:`~redicts.errors.StoreError`, such as ``Unsupported``, means that nothing was written.
        """
        if not issubclass(kind, StoreError):
            return kind(f"{self.where}: {text}")
        doubt = "; the request may have been carried out" if maybe_applied else ""
        return kind(f"{self.where}: {text}{doubt}", maybe_applied=maybe_applied)

    def of_system(self, error: OSError, *, maybe_applied: bool = False) -> RedictsError:
        """Return the error for one of a system call. One without a meaning of its own is ``Unreachable``."""
        unknown = (Unreachable, f"{self.crossed_out(error.strerror or type(error).__name__)}; check that it works")
        number = errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno or 0
        return self.error(*_SYSTEM.get(number, unknown), maybe_applied=maybe_applied)

    def crossed_out(self, text: str) -> str:
        """Return a text with dots in place of each secret."""
        for secret in self._secrets:
            text = secret.sub("...", text)
        return text

    def cross_out(self, error: BaseException) -> None:
        """Cross out the secrets in the texts of an error, and of those that led to it: a traceback shows them all."""
        for each in chain(error):
            each.args = tuple([self.crossed_out(part) if isinstance(part, str) else part for part in each.args])


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and those that led to it."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or at.__context__
