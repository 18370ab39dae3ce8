"""What a check is, what it may need, and the register of all checks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from redicts.contract.fixture import Fixture


class Need(Enum):
    """What a check needs in order to be examined."""

    TTL = "capability life"
    NO_TTL = "a store that does not claim life"
    PROCESSES = "capability processes"
    NO_PROCESSES = "a store that does not claim processes"
    DURABLE = "capability durable"
    NO_DURABLE = "a store that does not claim durable"
    PUSH = "capability push"
    DOCUMENTS = "capability documents"
    NO_DOCUMENTS = "a store that does not claim documents"
    LIMIT = "capability atomic_entries set"
    NO_LIMIT = "capability atomic_entries None"
    FORK = "a platform with os.fork"
    OPENER = "the harness's opener"
    LOST_REPLIES = "the harness's drop_reply"
    LATE_REQUESTS = "the harness's hold_request"
    RAW = "the harness's raw access"


CAPABILITIES: Final[dict[Need, str]] = {
    Need.TTL: "ttl",
    Need.NO_TTL: "ttl",
    Need.PROCESSES: "processes",
    Need.NO_PROCESSES: "processes",
    Need.DURABLE: "durable",
    Need.NO_DURABLE: "durable",
    Need.PUSH: "push",
    Need.DOCUMENTS: "documents",
    Need.NO_DOCUMENTS: "documents",
    Need.LIMIT: "atomic_entries",
    Need.NO_LIMIT: "atomic_entries",
    Need.LOST_REPLIES: "lost replies",
    Need.LATE_REQUESTS: "lost replies",
}
"""What a check with this need speaks of, as the report counts it."""

BASE: Final = "every store"
"""What a check speaks of that has none of these needs."""


class CheckFailed(AssertionError):
    """The store did not do what a check says."""


class NotRun(Exception):
    """A check cannot be examined here. ``demanded`` tells whether a certificate needs it all the same."""

    def __init__(self, reason: str, *, demanded: bool) -> None:
        super().__init__(reason)
        self.demanded = demanded


@dataclass(frozen=True, slots=True)
class ConformanceCheck:
    """One check: ``examine`` raises, preferably :class:`CheckFailed`, if the store on the bench breaks it."""

    name: str
    """``subject.rule``, for example ``writes.put_replaces_what_was_there``."""
    says: str
    """The check in one sentence."""
    needs: tuple[Need, ...]
    examine: Callable[[Fixture], None]

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The capabilities that this check is about, or :data:`BASE`."""
        return tuple(dict.fromkeys(CAPABILITIES[need] for need in self.needs if need in CAPABILITIES)) or (BASE,)

    def __str__(self) -> str:
        return self.name


_register: Final[dict[str, ConformanceCheck]] = {}


def conformance_check(needs: Iterable[Need] = ()) -> Callable[[Callable[[Fixture], None]], Callable[[Fixture], None]]:
    """Register a function as a check. Its module names the subject, its name the rule, its docstring says the check."""

    def register(examine: Callable[[Fixture], None]) -> Callable[[Fixture], None]:
        subject = examine.__module__.rpartition(".")[2]
        says = inspect.getdoc(examine)
        if not says:
            raise TypeError(f"the check {examine.__name__} has no docstring that states it")
        name = f"{subject}.{examine.__name__}"
        if name in _register:
            raise TypeError(f"there are two checks of the name {name}")
        _register[name] = ConformanceCheck(name, says.splitlines()[0], tuple(needs), examine)
        return examine

    return register


def registered() -> tuple[ConformanceCheck, ...]:
    """Return the checks registered so far, in the order of their definition."""
    return tuple(_register.values())


def require(condition: object, what: str) -> None:
    """Raise :class:`CheckFailed` with these words unless the condition is true."""
    if not condition:
        raise CheckFailed(what)


def require_equal(actual: object, expected: object, what: str) -> None:
    """Raise :class:`CheckFailed` unless both are equal; ``what`` says what was looked at."""
    if actual != expected:
        raise CheckFailed(f"{what}: {shortened(actual)}, expected {shortened(expected)}")


def shortened(value: object, most: int = 300) -> str:
    """Return a repr that is short enough for one line of a report."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"
