"""Runs the trials of a target: the original first, then its mutants, a few at a time."""

from __future__ import annotations

import random
import select
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import Any, Final

from redicts.contract.check import ConformanceCheck
from redicts.contract.mutants.equivalents import Equivalents
from redicts.contract.mutants.mutant import Mutant
from redicts.contract.mutants.target import Target
from redicts.contract.mutants.trial import Ended, How, Trial

_FIRST_LIMIT: Final = 1800.0
"""Seconds that the checks of the original may take."""

_SLOWER: Final = 5
"""How many times as long as those of the original the checks of a mutant may take."""


class NotCertified(Exception):
    """The original is not certified, so no refusal of a mutant would mean anything."""


@dataclass(frozen=True)
class Tried:
    """A mutant and the end of its trial, or the reason why it is equivalent."""

    mutant: Mutant
    ended: Ended | None
    equivalent: str = ""

    @property
    def outcome(self) -> str:
        """One of ``refused``, ``hung``, ``equivalent`` and ``surviving``."""
        if self.ended is None:
            return "equivalent"
        return "surviving" if not self.ended.refused_by else "hung" if self.ended.hung else "refused"

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as JSON values."""
        mutant = self.mutant
        ended = {} if self.ended is None else {"refused_by": self.ended.refused_by, "reason": self.ended.reason}
        return {
            "id": mutant.id,
            "at": mutant.at,
            "line": mutant.line,
            "kind": mutant.edit.kind,
            "before": mutant.before,
            "after": mutant.after,
            "source": mutant.source,
            "outcome": self.outcome,
            **ended,
            **({"equivalent": self.equivalent} if self.equivalent else {}),
        }


class Survey:
    """The trials of the mutants of some targets."""

    def __init__(self, targets: Sequence[Target], how: How, equivalents: Equivalents) -> None:
        self.made: Final = [(target, mutant) for target in targets for mutant in target.mutants()]
        self.chosen = self.made
        self.tried: Final[list[Tried]] = []
        self._how: Final = how
        self._equivalents: Final = equivalents
        self._milliseconds: dict[str, float] = {}
        self._refusals: Final = Counter[str]()
        self._limit = _FIRST_LIMIT

    def choose(self, only: Sequence[str], sample: int | None, seed: int) -> None:
        """Restrict the survey to mutants whose identifier, function or kind matches, and to a random sample of them."""
        if only:
            self.chosen = [each for each in self.chosen if any(_matches(each[1], pattern) for pattern in only)]
        if sample is not None and sample < len(self.chosen):
            drawn = set(random.Random(seed).sample(range(len(self.chosen)), sample))  # noqa: S311  (no secret)
            self.chosen = [each for index, each in enumerate(self.chosen) if index in drawn]

    def run_original(self) -> None:
        """Run the checks on a copy without a mutation. Raises :class:`NotCertified` if one fails."""
        trial = Trial(self._how, self.chosen[0][0], None, _FIRST_LIMIT)
        _wait([trial])
        ended = trial.finish()
        if ended.refused_by:
            raise NotCertified(f"{ended.refused_by}: {ended.reason}")
        self._milliseconds = {each.check: each.milliseconds for each in ended.examined if each.passed}
        self._limit = 60 + _SLOWER * sum(self._milliseconds.values()) / 1000

    def run_mutants(self, jobs: int, watch: Callable[[Tried], object], most: float | None = None) -> None:
        """Run the trials, and call ``watch`` with each as soon as it has ended.

        With ``most``, a mutant survives the checks that take the original so many seconds together. These are the ones
        that refuse the most mutants for their time.
        """
        waiting = []
        for target, mutant in self.chosen:
            if reason := self._equivalents.reason_for(mutant):
                self._add(Tried(mutant, None, reason), watch)
            else:
                waiting.append((target, mutant))
        random.Random(0).shuffle(waiting)  # noqa: S311  (so that an interrupted survey has seen a bit of everything)
        running: list[Trial] = []
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    target, mutant = waiting.pop()
                    running.append(Trial(replace(self._how, checks=self._order(most)), target, mutant, self._limit))
                for trial in _wait(running):
                    running.remove(trial)
                    assert trial.mutant is not None
                    ended = trial.finish()
                    self._refusals[ended.refused_by] += 1
                    self._add(Tried(trial.mutant, ended), watch)
        finally:
            for trial in running:
                trial.kill()

    def _add(self, tried: Tried, watch: Callable[[Tried], object]) -> None:
        self.tried.append(tried)
        watch(tried)

    def _order(self, most: float | None) -> list[ConformanceCheck]:
        """Return the checks that the original passed, those first that refuse the most mutants for their time."""

        def cost(check: ConformanceCheck) -> float:
            return (self._milliseconds[check.name] + 1) / (self._refusals[check.name] + 0.2)

        checks = sorted((each for each in self._how.checks if each.name in self._milliseconds), key=cost)
        if most is None:
            return checks
        taken = accumulate(self._milliseconds[each.name] / 1000 for each in checks)
        return [each for each, seconds in zip(checks, taken) if seconds <= most]


def _matches(mutant: Mutant, pattern: str) -> bool:
    return any(fnmatchcase(text, pattern) for text in (mutant.id, mutant.at, mutant.file, mutant.edit.kind))


def _wait(running: Iterable[Trial]) -> list[Trial]:
    """Wait until a trial has an answer or no time left, and return those trials."""
    trials = list(running)
    left = min(trial.deadline for trial in trials) - time.monotonic()
    ready, _, _ = select.select([trial.answer for trial in trials], [], [], max(0.0, left))
    now = time.monotonic()
    return [trial for trial in trials if trial.answer in ready or trial.deadline <= now]
