"""Error mapping: the kind, the doubt and the secrets of what a store raises."""

from __future__ import annotations

import errno
import os

import pytest

from redicts.core.error_mapping import ErrorMapping
from redicts.errors import (
    AccessDenied,
    ReadOnly,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreTimeout,
    Unreachable,
    Unsupported,
)

ERRORS = ErrorMapping("table at localhost:1234", ["s3cret", None, "", "anna"])


@pytest.mark.parametrize("maybe_applied", [False, True])
def test_the_doubt_is_told_twice(maybe_applied: bool) -> None:
    """``maybe_applied`` is an attribute of the error, and its text says so."""
    error = ERRORS.error(Unreachable, "the connection broke; start the server", maybe_applied=maybe_applied)
    assert isinstance(error, Unreachable)
    assert error.maybe_applied is maybe_applied
    assert str(error).startswith("table at localhost:1234: the connection broke; start the server")
    assert ("may have been carried out" in str(error)) is maybe_applied


def test_what_is_not_supported_is_beyond_doubt() -> None:
    """An error that is not one of the store's failures means that nothing was written."""
    error = ERRORS.error(Unsupported, "the value is too large", maybe_applied=True)
    assert str(error) == "table at localhost:1234: the value is too large"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EACCES, AccessDenied),
        (errno.EROFS, ReadOnly),
        (errno.EAGAIN, StoreBusy),
        (errno.ENOENT, Unreachable),
        (errno.EMFILE, Unreachable),
        (errno.ECONNREFUSED, Unreachable),
        (errno.ETIMEDOUT, StoreTimeout),
        (errno.EIO, Unreachable),
    ],
)
def test_an_error_of_the_system_has_a_kind_and_a_remedy(number: int, kind: type[StoreError]) -> None:
    """A caller tells by the kind whether to try again; the text tells an operator what to do."""
    error = ERRORS.of_system(OSError(number, os.strerror(number)))
    assert type(error) is kind
    assert "; " in str(error)


def test_errors_without_a_number_are_mapped() -> None:
    """Libraries raise them with a text only."""
    assert type(ERRORS.of_system(TimeoutError("timed out"))) is StoreTimeout
    assert "OSError" in str(ERRORS.of_system(OSError("no answer for s3cret")))


def test_no_secret_stays_in_the_chain() -> None:
    """Secrets are crossed out in all errors that a traceback shows, whole words only."""
    first, last = KeyError("s3cret", 5), ValueError("s3cret of anna, but annals and s3crets stay")
    first.__context__, last.__cause__ = last, first  # as a cycle, which must end
    ERRORS.cross_out(last)
    assert first.args == ("...", 5)
    assert str(last) == "... of ..., but annals and s3crets stay"
