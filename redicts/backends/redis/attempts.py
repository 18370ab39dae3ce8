"""What follows a request that failed: one set of rules for both fronts, each of which sends and waits by itself."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from redis import exceptions

from redicts.backends.redis.errors import Errors, is_answer, is_transient
from redicts.backends.redis.functions import Functions, is_unknown, is_without_functions
from redicts.reports import answered_again, given_up, sent_again

_FOLLOWED: Final = (exceptions.AskError, exceptions.TryAgainError, exceptions.ClusterDownError)
"""Answers of the nodes of a cluster that say where or when to ask again, which is no trouble to report."""


class Failed(Exception):
    """One attempt to exchange a request failed. ``sent`` says whether all of the request was sent."""

    def __init__(self, error: Exception, *, sent: bool, is_worth_repeating: bool = True) -> None:
        self.error: Final = error
        self.maybe_applied: Final = sent and not is_answer(error)
        self.is_worth_repeating: Final = is_worth_repeating and is_transient(error)


class Next(Enum):
    """What to do after an attempt."""

    SEND = auto()
    """Send the request again at once."""
    LOAD = auto()
    """Load the functions, and send the request again."""
    PAUSE = auto()
    """Send the request again after a pause, unless its deadline is over."""
    GIVE_UP = auto()
    """Raise the error."""


class Attempts:
    """The attempts at one request, of which at most ``retries`` follow a pause."""

    __slots__ = ("_errors", "_has_loaded", "_retries", "count", "maybe_applied", "with_source")

    def __init__(self, retries: int, errors: Errors) -> None:
        self._retries = retries
        self._errors = errors
        self._has_loaded = False
        self.count = 0
        """How many of them failed, other than for what the server does not know or have."""
        self.maybe_applied = False
        """Whether the server may have carried out one of them."""
        self.with_source = False
        """Whether the next one is to bring the source of the script."""

    def after(self, failed: Failed, functions: Functions) -> Next:
        """Return what to do after an attempt that failed."""
        self.maybe_applied |= failed.maybe_applied
        if is_without_functions(failed.error):
            functions.are_there = False
            return Next.SEND
        # A server that has restarted meanwhile knows nothing, so each attempt finds out again.
        if not self.with_source and is_unknown(failed.error):
            if functions.are_there and not self._has_loaded:
                self._has_loaded = True
                return Next.LOAD
            self.with_source = True
            return Next.SEND
        self._has_loaded = self.with_source = False
        self.count += 1
        is_repeated = self.count <= self._retries and failed.is_worth_repeating
        if not isinstance(failed.error, _FOLLOWED):
            (sent_again if is_repeated else given_up)(self._errors.mapped(failed.error))
        return Next.PAUSE if is_repeated else Next.GIVE_UP

    def succeeded(self) -> None:
        """Report that the server answers again, if an attempt failed."""
        if self.count:
            answered_again(f"redis at {self._errors.where}", self.count)
