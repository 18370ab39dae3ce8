"""Conformance checks of codecs: their definition, their needs, their registry, and the fixture in which they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.strategies import SearchStrategy

from redicts.contract.check import stated
from redicts.contract.codecs.harness import CodecHarness
from redicts.contract.report import CodecCapabilities
from redicts.contract.requirements import CheckFailed, require, shortened
from redicts.contract.subjects import CODEC_SUBJECTS, Subject, subject_of
from redicts.core.codec import Codec
from redicts.core.minitransaction import Path

HERE: Final[Path] = ("some", "where")
"""The path for checks that are about no path."""

REFUSALS: Final = (TypeError, ValueError, RecursionError)
"""The errors that encoding may raise; the last one for values that are nested too deep for Python."""

NO_VALUE: Final = (ValueError, RecursionError)
"""The errors that decoding may raise."""


class CodecNeed(Enum):
    """A capability that a codec must declare, or must not, for a check to run."""

    DETERMINISTIC = "capability deterministic"
    BINDS_PATH = "capability binds_path"
    NO_BINDS_PATH = "a codec that does not declare binds_path"
    SAFE = "capability safe"


class CodecFixture:
    """One codec under examination, with the operations that several checks need."""

    def __init__(self, harness: CodecHarness, *, thorough: bool, seed: int, timeout: float) -> None:
        self.harness: Final = harness
        self.codec: Final[Codec] = harness.open()
        self.timeout: Final = timeout
        self._examples = 2_000 if thorough else 100
        self._seed = seed

    @property
    def capabilities(self) -> CodecCapabilities:
        """The capabilities that the codec declares."""
        codec = self.codec
        return CodecCapabilities(codec.name, codec.deterministic, codec.binds_path, codec.safe)

    def each(self, strategy: SearchStrategy[Any], check: Callable[[Any], object]) -> None:
        """Run a check on random examples; the first that fails is shrunk and raised."""
        profile = settings(
            max_examples=self._examples,
            deadline=None,
            database=None,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )

        def run(example: Any) -> None:
            check(example)

        seeded(self._seed)(profile(given(strategy)(run)))()

    def taken(self, values: Iterable[Any]) -> list[tuple[Any, bytes]]:
        """Return those of some values that the codec encodes, each with its bytes."""
        encoded = [(value, self.encoded(value)) for value in values]
        found = [(value, data) for value, data in encoded if data is not None]
        require(found, "the codec refuses all of the values that the check tries")
        return found

    def encoded(self, value: Any, path: Path = HERE) -> bytes | None:
        """Return the bytes of a value, or ``None`` if the codec refuses it; raise ``CheckFailed`` for other errors."""
        try:
            data = self.codec.encode(value, path)
        except REFUSALS:
            return None
        except Exception as error:
            raise CheckFailed(
                f"encoding {shortened(value)} raises {type(error).__name__}: {error}; a refusal must be a TypeError or "
                "ValueError"
            ) from error
        require(isinstance(data, bytes), f"{shortened(value)} is encoded as {type(data).__name__}, not as bytes")
        return data

    def come_back(self, value: Any, data: bytes, path: Path = HERE) -> None:
        """Require that these bytes of a value are decoded to the value."""
        back = self.codec.decode(data, path)
        expected = self.harness.given_back(value)
        require(same(back, expected), f"{shortened(value)} comes back as {shortened(back)}, not {shortened(expected)}")

    def survives(self, data: bytes, what: str, path: Path = HERE) -> bool:
        """Require that decoding these bytes returns a value or refuses them properly; tell which."""
        try:
            self.codec.decode(data, path)
        except NO_VALUE:
            return False
        except Exception as error:
            raise CheckFailed(
                f"decoding {what}, {shortened(data)}, raises {type(error).__name__}: {error}; it must be a ValueError"
            ) from error
        return True


@dataclass(frozen=True, slots=True)
class CodecCheck:
    """One check: ``examine`` raises, preferably ``CheckFailed``, if it fails."""

    name: str
    """``subject.rule``, for example ``damage.decoding_runs_nothing``."""
    says: str
    """The rule in one sentence."""
    needs: tuple[CodecNeed, ...]
    examine: Callable[[CodecFixture], None]
    does: str = ""
    """How the rule is examined."""

    @property
    def subject(self) -> Subject:
        """The subject of the check: what users lose if the rule does not hold, and the page that explains it."""
        return subject_of(self.name, CODEC_SUBJECTS)

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The capabilities that this check is about, or ``every codec``."""
        return tuple(dict.fromkeys(need.name.removeprefix("NO_").lower() for need in self.needs)) or ("every codec",)

    def __str__(self) -> str:
        return self.name


_registry: Final[dict[str, CodecCheck]] = {}


def codec_check(*needs: CodecNeed) -> Callable[[Callable[[CodecFixture], None]], Callable[[CodecFixture], None]]:
    """Register a function as a check: its module is the subject, its name the rule.

    The first line of its docstring states the rule, and the rest says how the check examines it.
    """

    def register(examine: Callable[[CodecFixture], None]) -> Callable[[CodecFixture], None]:
        says, does = stated(examine)
        name = f"{examine.__module__.rpartition('.')[2]}.{examine.__name__}"
        _registry[name] = CodecCheck(name, says, needs, examine, does)
        return examine

    return register


def registered() -> tuple[CodecCheck, ...]:
    """Return the checks registered so far, in the order of their definition."""
    return tuple(_registry.values())


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal and of the same classes, at every depth; NaN is the same as NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return repr(one) == repr(other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(mine, theirs) for mine, theirs in zip(one, other))
    if isinstance(one, dict):
        keys = {key: key for key in other}
        return one.keys() == other.keys() and all(
            same(key, keys[key]) and same(value, other[key]) for key, value in one.items()
        )
    return bool(one == other)
