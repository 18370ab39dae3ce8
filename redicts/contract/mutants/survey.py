"""Runs the trials of a target: the original first, then each check with probes, then the mutants, a few at a time."""

from __future__ import annotations

import random
import select
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import Any, Final, TypeVar

from redicts.contract.check import ConformanceCheck
from redicts.contract.mutants.equivalents import Equivalents
from redicts.contract.mutants.mutant import Mutant
from redicts.contract.mutants.probes import Probes
from redicts.contract.mutants.target import Target
from redicts.contract.mutants.trial import Ended, How, Trial

_FIRST_LIMIT: Final = 1800.0
"""Seconds that the checks of the original may take."""

_SLOWER: Final = 5
"""How many times as long as those of the original the checks of a mutant may take."""

_SAME: Final = 5
"""How many refusals of other mutants one of the same function counts for, in the order of the checks."""


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
        ended: dict[str, Any] = {}
        if self.ended is not None:
            ended = {"refused_by": self.ended.refused_by, "reason": self.ended.reason}
            ended["checks"] = len(self.ended.examined)
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
        self._refusals_of_function: Final = Counter[tuple[str, str]]()
        self._limit = _FIRST_LIMIT
        self._probes: Final = {target: Probes(target) for target in targets}
        self._executed: Final[dict[tuple[Target, str], frozenset[int]]] = {}
        """The statements of a target that a check executes."""

    def choose(self, only: Sequence[str], sample: int | None, seed: int) -> None:
        """Restrict the survey to mutants whose identifier, function or kind matches, and to a random sample of them."""
        if only:
            self.chosen = [each for each in self.chosen if any(_matches(each[1], pattern) for pattern in only)]
        if sample is not None and sample < len(self.chosen):
            drawn = set(random.Random(seed).sample(range(len(self.chosen)), sample))  # noqa: S311  (no secret)
            self.chosen = [each for index, each in enumerate(self.chosen) if index in drawn]

    def run_original(self, jobs: int) -> None:
        """Run the checks on a copy without a mutation, all of them and then each alone, with probes if there are any.

        Raises :class:`NotCertified` if one fails. Alone, a check executes all that it needs, such as the creation of
        the store.
        """
        trial = Trial(self._how, self.chosen[0][0], _FIRST_LIMIT)
        _wait([trial])
        ended = trial.finish()
        if ended.refused_by:
            raise NotCertified(f"{ended.refused_by}: {ended.reason}")
        self._milliseconds = {each.check: each.milliseconds for each in ended.examined}
        self._limit = 60 + _SLOWER * sum(self._milliseconds.values()) / 1000
        checks = self._how.checks
        # Without a mutant in Python, no probe tells anything.
        targets = dict.fromkeys(target for target, mutant in self.chosen if mutant.file in self._probes[target].files)

        def start(of: tuple[Target, ConformanceCheck]) -> Trial:
            target, check = of
            return Trial(replace(self._how, checks=[check]), target, self._limit, probes=self._probes[target])

        def learn(of: tuple[Target, ConformanceCheck], ended: Ended) -> None:
            target, check = of
            self._executed[target, check.name] = frozenset(ended.executed)

        _run([(target, check) for target in targets for check in checks], jobs, start, learn)

    def run_mutants(self, jobs: int, watch: Callable[[Tried], object], most: float | None = None) -> None:
        """Run the trials, and call ``watch`` with each as soon as it has ended.

        A mutant is examined by the checks that execute its statement. With ``most``, it survives those that take the
        original so many seconds together: the ones that refuse the most mutants for their time, and at least one.
        """
        waiting = []
        for target, mutant in self.chosen:
            if reason := self._equivalents.reason_for(mutant):
                self._add(Tried(mutant, None, reason), watch)
            else:
                waiting.append((target, mutant))
        random.Random(0).shuffle(waiting)  # noqa: S311  (so that an interrupted survey has seen a bit of everything)

        def start(of: tuple[Target, Mutant]) -> Trial:
            target, mutant = of
            how = replace(self._how, checks=self._order(target, mutant, most))
            return Trial(how, target, self._limit, mutant=mutant)

        def learn(of: tuple[Target, Mutant], ended: Ended) -> None:
            _, mutant = of
            self._refusals[ended.refused_by] += 1
            self._refusals_of_function[mutant.at, ended.refused_by] += 1
            self._add(Tried(mutant, ended), watch)

        _run(waiting, jobs, start, learn)

    def _add(self, tried: Tried, watch: Callable[[Tried], object]) -> None:
        self.tried.append(tried)
        watch(tried)

    def _order(self, target: Target, mutant: Mutant, most: float | None) -> list[ConformanceCheck]:
        """Return the checks that execute the statement of a mutant.

        Those that do not run on the original are among them: a mutant may declare other capabilities.

        Those come first that refuse the most mutants for their time, above all mutants of the same function.
        """
        number = self._probes[target].number_of(mutant)

        def cost(check: ConformanceCheck) -> float:
            here = self._refusals_of_function[mutant.at, check.name]
            return (self._milliseconds[check.name] + 1) / (self._refusals[check.name] + _SAME * here + 0.2)

        checks = [
            check
            for check in self._how.checks
            if number is None or number in self._executed.get((target, check.name), {number})
        ]
        checks.sort(key=cost)
        if most is None:
            return checks
        taken = accumulate(self._milliseconds[each.name] / 1000 for each in checks)
        return [each for each, seconds in zip(checks, taken) if seconds <= most] or checks[:1]


_Of = TypeVar("_Of")


def _run(
    waiting: Sequence[_Of], jobs: int, start: Callable[[_Of], Trial], learn: Callable[[_Of, Ended], object]
) -> None:
    """Start a trial for each of these, so many at a time, and call ``learn`` with its end."""
    left = list(reversed(waiting))
    running: dict[Trial, _Of] = {}
    try:
        while left or running:
            while left and len(running) < jobs:
                of = left.pop()
                running[start(of)] = of
            for trial in _wait(running):
                of = running.pop(trial)
                learn(of, trial.finish())
    finally:
        for trial in running:
            trial.kill()


def _matches(mutant: Mutant, pattern: str) -> bool:
    return any(fnmatchcase(text, pattern) for text in (mutant.id, mutant.at, mutant.file, mutant.edit.kind))


def _wait(running: Iterable[Trial]) -> list[Trial]:
    """Wait until a trial has an answer or no time left, and return those trials."""
    trials = list(running)
    left = min(trial.deadline for trial in trials) - time.monotonic()
    ready, _, _ = select.select([trial.answer for trial in trials], [], [], max(0.0, left))
    now = time.monotonic()
    return [trial for trial in trials if trial.answer in ready or trial.deadline <= now]
