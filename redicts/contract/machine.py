"""State machine: random transactions on the store and on the reference model, whose outcomes must be equal.

The model is a :class:`~redicts.backends.memory.MemoryBackend` with a clock of its own. The clocks need not agree: a TTL
is either longer than the run, or so short that it has ended on both before they are compared.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any, ClassVar, Final

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies import DataObject, SearchStrategy

from redicts.backends.memory import MemoryBackend
from redicts.contract.client import Client
from redicts.contract.clock import ManualClock
from redicts.contract.documented import fetch_at
from redicts.contract.fixture import Fixture
from redicts.contract.requirements import CheckFailed, require, require_equal, shortened
from redicts.contract.walk import many, walk, walk_names
from redicts.core.documents import leaves_in
from redicts.core.minitransaction import (
    Add,
    Answer,
    AnyRead,
    Check,
    Delete,
    Entries,
    Equals,
    Expire,
    Key,
    Notify,
    Outcome,
    Path,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Status,
    Transaction,
    Write,
)

_DAY: Final = 24 * 3600 * 1000
_LONG: Final = (10 * _DAY, 300 * _DAY)
_HOUR: Final = 3600 * 1000
"""Milliseconds by which remaining TTLs may differ: longer than a run, and less than two long TTLs differ."""

_CLOSE: Final = ("a", "ab", "b", "a.b", ".", "*", "a*", "A", "a ", "%", "\x01")
"""Segments that a store may confuse, drawn as often as all others together."""

_MEMBERS: Final[tuple[object, ...]] = (5, -5, 2**63, 0.5, "text", "", "5", None, [1, {"a": 2}], {})
"""Members of documents, with counters among them."""

_AMOUNTS: Final = (1, -1, 0, 2**62, -(2**62), 2**63 - 1, -(2**63))
_DIFFERENCES: Final = ("none", "none", "less", "other", "more")

# A step draws few numbers from Hypothesis, and the rest from a generator with one of them as its seed: a draw takes
# Hypothesis as long as a transaction takes the memory backend. So a difference shrinks to few and small steps.
_CLIENTS: Final = st.integers(0, 1)
_SEEDS: Final = st.integers(0, 2**32 - 1)
_SIZES: Final = st.integers(0, 4)
_LIMITS: Final = st.sampled_from([1, 2, 3, 1000])

_BRIEF: Final = 2
"""A short TTL in milliseconds."""

_BRIEF_SECS: Final = 0.01
"""Seconds in which a short TTL has ended, also by a clock that counts whole milliseconds."""

_WAITS: Final = 2
"""How many short TTLs one example may wait for, if the harness really waits."""


def compare_with_model(fixture: Fixture, *, examples: int, steps: int, seconds: float) -> None:
    """Run the state machine; shrink a difference for at most ``seconds``, then raise it.

    Raises ``CheckFailed`` with the difference and the steps that lead to it.
    """
    finding = _Finding(seconds)

    class Comparison(_Comparison):
        """The machine in this fixture."""

    harness = fixture.harness
    segments = harness.segments()
    if close := [name for name in _CLOSE if name in harness.names]:
        segments = st.one_of(st.sampled_from(close), segments)
    Comparison.fixture = fixture
    Comparison.finding = finding
    Comparison.sampled_segments = st.lists(segments, min_size=1, max_size=5, unique=True)
    Comparison.sampled_values = st.lists(harness.values(), min_size=1, max_size=4, unique=True)
    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=steps,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    try:
        run_state_machine_as_test(hypothesis.seed(fixture.seed)(Comparison), settings=settings)
    except BaseException as error:
        if finding.text is None:
            raise
        raise CheckFailed(finding.text) from error


class _Enough(BaseException):
    """Ends Hypothesis while it shrinks an example."""


class _Finding:
    """The smallest difference found, and the time limit for a smaller one."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline: float | None = None
        self._size = 0
        self.text: str | None = None

    def add(self, error: BaseException, log: list[str]) -> None:
        """Keep this difference if it needs fewer steps than the earlier ones."""
        if self.text is None or len(log) <= self._size:
            self._size = len(log)
            steps = "\n".join(f"  {number}. {step}" for number, step in enumerate(log, 1))
            self.text = (
                f"{type(error).__name__ if not isinstance(error, CheckFailed) else 'differs'}: {error}\nafter\n{steps}"
            )
        if self._deadline is None:
            self._deadline = time.monotonic() + self._seconds

    def check_time(self) -> None:
        """Raise the error that ends the search if its time is over."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise _Enough


class _Comparison(RuleBasedStateMachine):
    """Runs each step on two clients of the store and on the model."""

    fixture: ClassVar[Fixture]
    finding: ClassVar[_Finding]
    sampled_segments: ClassVar[SearchStrategy[list[str]]]
    sampled_values: ClassVar[SearchStrategy[list[bytes]]]

    def __init__(self) -> None:
        super().__init__()
        self.finding.check_time()
        fixture = self.fixture
        self._clients = [fixture.store, fixture.client()]
        self._clock = ManualClock()
        self._model = Client(MemoryBackend(self._clock))
        self._spaces = [fixture.fresh_space(), fixture.fresh_space()]
        self._ttl = fixture.capabilities.ttl
        self._kinds = ["put", "put", "add", "clear", "expire"]
        self._documents = fixture.capabilities.documents
        if self._documents:
            self._kinds += ["document", "document"]
        self._waits = _WAITS if fixture.harness.waits else 1_000_000
        self._segments: list[str] = ["a"]
        self._values: list[bytes] = [b""]
        self._written: list[Path] = []
        self._log: list[str] = []

    @initialize(data=st.data())
    def choose_samples(self, data: DataObject) -> None:
        """Choose few segments and values for this example, so that its steps affect each other."""
        self._segments = data.draw(self.sampled_segments)
        self._values = [*data.draw(self.sampled_values), b"5", b"-5", b"05"]

    @rule(client=_CLIENTS, seed=_SEEDS, size=_SIZES)
    def transact(self, client: int, seed: int, size: int) -> None:
        """Execute a random transaction with so many writes on both."""
        random = Random(seed)  # noqa: S311  (not a secret)
        space = random.choice(self._spaces)
        checks = [self._draw_check(random, space) for _ in range(random.randrange(3))]
        reads = [self._draw_read(random, space) for _ in range(random.randrange(3))]
        writes = self._draw_writes(random, space, size)
        self._execute(client, Transaction(tuple(checks), tuple(reads), tuple(writes)))
        if any(getattr(write, "ttl", None) == _BRIEF for write in writes):
            self._waits -= 1
            self._do("let the short TTLs end", lambda: self._let_time_pass(_BRIEF_SECS))

    @rule(client=_CLIENTS, seed=_SEEDS, limit=_LIMITS)
    def walk(self, client: int, seed: int, limit: int) -> None:
        """Walk over a scope, and compare with the model's complete answer."""
        random = Random(seed)  # noqa: S311  (not a secret)
        key, scope = self._draw_key(random, random.choice(self._spaces), 0), random.choice(list(Scope))
        expected = dict(self._model.read(key, scope))

        def compare() -> None:
            found = walk(self._clients[client], Read(key, scope, limit), many(len(expected)))
            require_equal(sorted(found), sorted(expected.items()), "the walk finds")

        self._do(f"walk client={client} {shortened(Read(key, scope, limit))}", compare)

    @rule(client=_CLIENTS, seed=_SEEDS, limit=_LIMITS)
    def walk_over_names(self, client: int, seed: int, limit: int) -> None:
        """Walk over the names below a key, and compare with the model's complete answer."""
        random = Random(seed)  # noqa: S311  (not a secret)
        key = self._draw_key(random, random.choice(self._spaces), 0)
        expected = self._model.names(key)

        def compare() -> None:
            found = walk_names(self._clients[client], ReadNames(key, limit), many(len(expected)))
            require_equal(sorted(found), sorted(expected), "the walk over names finds")

        self._do(f"walk client={client} {shortened(ReadNames(key, limit))}", compare)

    @precondition(lambda self: self._documents)
    @rule(client=_CLIENTS, seed=_SEEDS)
    def use_the_fast_paths(self, client: int, seed: int) -> None:
        """Fetch and overwrite a document; if that is done, the model puts it."""
        random = Random(seed)  # noqa: S311  (not a secret)
        key = self._draw_key(random, random.choice(self._spaces), 1)
        document = self._draw_document(random) if random.random() < 0.5 else None
        there = dict(self._model.read(key))

        def compare() -> None:
            fetch_at(self._clients[client], key, there)
            if document is not None and self._clients[client].overwrite_document(key, document):
                require(there and () not in there, "overwriting returned true without a document")
                self._model.apply(PutDocument(key, document))

        self._do(f"fetch client={client} {shortened(key)}, overwrite by {shortened(document)}", compare)

    @invariant()
    def both_hold_the_same(self) -> None:
        """After each step, both spaces hold the same."""
        reads = [Read(Key(space, ()), Scope.SUBTREE, ttls=self._ttl) for space in self._spaces]
        transaction = Transaction((), tuple(reads))
        expected = self._model.execute(transaction)
        client = self._clients[len(self._log) % 2]
        self._do(None, lambda: _compare(transaction, client.execute(transaction), expected))

    def teardown(self) -> None:
        """Empty both spaces."""
        for space in self._spaces:
            self._clients[0].run(writes=(Delete(Key(space, ()), Scope.SUBTREE),))
        self._clients[1].backend.close()

    def _execute(self, client: int, transaction: Transaction) -> None:
        failing = [number for number, check in enumerate(transaction.checks) if not self._model.holds(check)]
        expected = self._model.execute(transaction)

        def compare() -> None:
            outcome = self._clients[client].execute(transaction)
            _compare(transaction, outcome, expected, failing)

        self._do(f"client={client} {shortened(transaction, 1500)}", compare)

    def _do(self, step: str | None, action: Callable[[], object]) -> None:
        if step is not None:
            self._log.append(step)
        try:
            action()
        except Exception as error:
            self.finding.add(error, self._log)
            raise

    def _let_time_pass(self, seconds: float) -> None:
        self.fixture.harness.advance(seconds)
        self._clock.advance(seconds)

    def _draw_path(self, random: Random, least: int) -> Path:
        """Draw a path, every third time one that was written or a parent of it, so that steps affect each other."""
        if self._written and not random.randrange(3):
            path = random.choice(self._written)
            return path if least else path[: random.randint(0, len(path))]
        return tuple(random.choices(self._segments, k=min(random.randint(least, 4), random.randint(least, 4))))

    def _draw_key(self, random: Random, space: str, least: int) -> Key:
        return Key(space, self._draw_path(random, least))

    def _draw_value(self, random: Random) -> bytes:
        return random.choice(self._values)

    def _draw_ttl(self, random: Random) -> int | None:
        if not self._ttl:
            return None
        return random.choice((None, *_LONG, _BRIEF) if self._waits > 0 else (None, *_LONG))

    def _draw_document(self, random: Random) -> bytes:
        value = self._draw_dict(random, 3)
        return json.dumps(value, separators=(",", ":")).encode()

    def _draw_dict(self, random: Random, levels: int) -> dict[str, object]:
        """Draw a dict with at most so many levels; only the innermost ones may be empty."""
        names = random.choices(self._segments, k=random.randint(1, 4) if levels == 3 else random.randrange(3))
        nested = levels > 1
        return {
            name: self._draw_dict(random, levels - 1) if nested and random.random() < 0.3 else random.choice(_MEMBERS)
            for name in names
        }

    def _draw_writes(self, random: Random, space: str, size: int) -> list[Write]:
        """Draw so many writes, each after the deletes that keep the space prefix-free."""
        live = set(self._model.read(Key(space, ())))
        writes: list[Write] = []
        for kind in random.choices(self._kinds, k=size):
            if kind == "document":
                key, document = self._draw_key(random, space, 1), self._draw_document(random)
                leaves = [key.path + path for path in leaves_in(document)]
                self._written += leaves
                # A document replaces the values below it, so only values above need a delete.
                writes += [write for write in _clearing(live, key) if write.key != key]
                writes.append(PutDocument(key, document, self._draw_ttl(random)))
                live = {other for other in live if not _related(other, key.path)}.union(leaves)
                continue
            if kind in {"put", "add"}:
                path = self._draw_path(random, 1)
                self._written.append(path)
                key = Key(space, path)
                writes += _clearing(live, key)
                live = {other for other in live if not _related(other, path)} | {path}
                if kind == "add":
                    writes.append(Add(key, random.choice(_AMOUNTS)))
                else:
                    writes.append(Put(key, self._draw_value(random), self._draw_ttl(random), random.random() < 0.5))
                continue
            key, scope = self._draw_key(random, space, 0), random.choice(list(Scope))
            if kind == "clear":
                writes.append(Notify(key, scope) if random.random() < 0.5 else Delete(key, scope))
                size = len(key.path)
                live = {path for path in live if path[:size] != key.path or not scope.covers(path[size:])}
            elif self._ttl:
                writes.append(Expire(key, scope, self._draw_ttl(random)))
        return writes

    def _draw_check(self, random: Random, space: str) -> Check:
        key, scope = self._draw_key(random, space, 0), random.choice(list(Scope))
        if random.random() < 0.5:
            value = self._draw_value(random)
            return StartsWith(key, scope, value[: random.randrange(4)])
        entries = dict(self._model.read(key, scope))
        change = random.choice(_DIFFERENCES)
        if change == "more":
            path = self._draw_path(random, 0)
            if scope.covers(path):
                entries[path] = self._draw_value(random)
        elif entries and change != "none":
            path = random.choice(sorted(entries))
            if change == "less":
                del entries[path]
            else:
                entries[path] = self._draw_value(random)
        return Equals(key, scope, entries)

    def _draw_read(self, random: Random, space: str) -> AnyRead:
        key = self._draw_key(random, space, 0)
        if random.random() < 0.5:
            return ReadNames(key)
        return Read(key, random.choice(list(Scope)), ttls=self._ttl and random.random() < 0.5)


def _related(one: Path, other: Path) -> bool:
    """Tell whether one of two paths is a prefix of the other."""
    size = min(len(one), len(other))
    return one[:size] == other[:size]


def _clearing(live: Iterable[Path], key: Key) -> list[Write]:
    """Return the deletes that keep the space prefix-free when a value is written at this key."""
    above = [path for path in live if len(path) < len(key.path) and _related(path, key.path)]
    writes: list[Write] = [Delete(Key(key.space, path), Scope.NODE) for path in above]
    if any(len(path) > len(key.path) and _related(path, key.path) for path in live):
        writes.append(Delete(key, Scope.BELOW))
    return writes


def _compare(transaction: Transaction, outcome: Outcome, expected: Outcome, failing: list[int] | None = None) -> None:
    """Require the model's outcome; any of several failing conditions may be the failed index."""
    require_equal(outcome.status, expected.status, "the status")
    if outcome.status is Status.CHECK_FAILED:
        require(
            outcome.failed_index in (failing or ()),
            f"the failed index is {outcome.failed_index}, but the failing conditions are {failing}",
        )
    else:
        require_equal(outcome.failed_index, expected.failed_index, "the failed index")
    require_equal(outcome.counters, expected.counters, "the counters")
    for number, (answer, wanted) in enumerate(zip(outcome.answers, expected.answers)):
        require_equal(_canonical(answer), _canonical(wanted), f"answer {number}, to {transaction.reads[number]!r},")
        if isinstance(answer, Entries) and isinstance(wanted, Entries):
            _compare_ttls(answer.ttls, wanted.ttls)


def _compare_ttls(ttls: Mapping[Path, int], expected: Mapping[Path, int]) -> None:
    require_equal(set(ttls), set(expected), "the paths with a TTL")
    for path, ttl in expected.items():
        near = abs(ttls[path] - ttl) <= _HOUR
        require(near and ttls[path] <= max(_LONG), f"the TTL of {path!r}: {ttls[path]} ms, expected {ttl}")


def _canonical(answer: Answer) -> Any:
    """Return an answer as a value without order."""
    return dict(answer.values) if isinstance(answer, Entries) else set(answer.names)
