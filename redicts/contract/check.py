"""Conformance checks of backends: their definition, their needs, and their registry."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from redicts.contract.fixture import Fixture
from redicts.contract.subjects import SUBJECTS, Subject, subject_of


class Need(Enum):
    """A condition under which a check runs."""

    TTL = "capability ttl"
    NO_TTL = "a store that does not declare ttl"
    PROCESSES = "capability processes"
    NO_PROCESSES = "a store that does not declare processes"
    DURABLE = "capability durable"
    NO_DURABLE = "a store that does not declare durable"
    PUSH = "capability push"
    CHANGES = "capability changes"
    DOCUMENTS = "capability documents"
    NO_DOCUMENTS = "a store that does not declare documents"
    SHARDED = "capability sharded"
    LIMIT = "capability atomic_entries set"
    NO_LIMIT = "capability atomic_entries None"
    FORK = "a platform with os.fork"
    OPENER = "the harness's opener"
    LOST_REPLIES = "the harness's drop_reply"
    LATE_REQUESTS = "the harness's hold_request"
    SILENCE = "the harness's mute"
    RAW = "the harness's raw access"
    DATABASES = "the harness's databases"
    SIZE = "the harness's size"
    WALL_CLOCK = "the harness's set_clock"
    FORGETTING = "the harness's forget"
    UNUSABLE = "the harness's unusable clients"
    ASYNCIO = "a backend with a part for asyncio"
    FAILING_COMMITS = "the harness's fail_commit"
    FULL = "the harness's fill"
    DAMAGE = "the harness's damage"
    LASTING = "the harness's lasting"
    PATHS = "the harness's open_at"
    LOCAL = "a store that is not networked"


CAPABILITIES: Final[dict[Need, str]] = {
    Need.TTL: "ttl",
    Need.NO_TTL: "ttl",
    Need.PROCESSES: "processes",
    Need.NO_PROCESSES: "processes",
    Need.DURABLE: "durable",
    Need.NO_DURABLE: "durable",
    Need.PUSH: "push",
    Need.CHANGES: "changes",
    Need.DOCUMENTS: "documents",
    Need.NO_DOCUMENTS: "documents",
    Need.SHARDED: "sharded",
    Need.LIMIT: "atomic_entries",
    Need.NO_LIMIT: "atomic_entries",
    Need.LOST_REPLIES: "lost replies",
    Need.LATE_REQUESTS: "lost replies",
}
"""The capability that a check with this need is about, as the report counts it."""

BASE: Final = "every store"
"""The heading in the report for checks that are about no capability."""


@dataclass(frozen=True, slots=True)
class ConformanceCheck:
    """One check: ``examine`` raises, preferably :class:`~redicts.contract.requirements.CheckFailed`, if it fails."""

    name: str
    """``subject.rule``, for example ``writes.put_replaces_what_was_there``."""
    says: str
    """The rule in one sentence."""
    needs: tuple[Need, ...]
    examine: Callable[[Fixture], None]
    does: str = ""
    """How the rule is examined."""

    @property
    def subject(self) -> Subject:
        """The subject of the check: what users lose if the rule does not hold, and the page that explains it."""
        return subject_of(self.name, SUBJECTS)

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The capabilities that this check is about, or :data:`BASE`."""
        return tuple(dict.fromkeys(CAPABILITIES[need] for need in self.needs if need in CAPABILITIES)) or (BASE,)

    def __str__(self) -> str:
        return self.name


_registry: Final[dict[str, ConformanceCheck]] = {}


def conformance_check(needs: Iterable[Need] = ()) -> Callable[[Callable[[Fixture], None]], Callable[[Fixture], None]]:
    """Register a function as a check: its module is the subject, its name the rule.

    The first line of its docstring states the rule, and the rest says how the check examines it.
    """

    def register(examine: Callable[[Fixture], None]) -> Callable[[Fixture], None]:
        subject = examine.__module__.rpartition(".")[2]
        says, does = stated(examine)
        name = f"{subject}.{examine.__name__}"
        if name in _registry:
            raise TypeError(f"the name of a check must be unique; there are two checks named {name}")
        _registry[name] = ConformanceCheck(name, says, tuple(needs), examine, does)
        return examine

    return register


def stated(examine: Callable[..., None]) -> tuple[str, str]:
    """Return the rule that the docstring of a check states in its first line, and how the check examines it."""
    says, _, does = (inspect.getdoc(examine) or "").partition("\n")
    if not says:
        raise TypeError(f"the check {examine.__name__} must have a docstring that states its rule")
    return says, " ".join(does.split())


def registered() -> tuple[ConformanceCheck, ...]:
    """Return the checks registered so far, in the order of their definition."""
    return tuple(_registry.values())
