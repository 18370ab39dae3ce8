"""What a check of codecs is, what it may need, and the bench on which it examines one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.strategies import SearchStrategy

from redicts.contract.check import CheckFailed, require, shortened
from redicts.contract.codecs.harness import CodecHarness
from redicts.core.codec import Codec
from redicts.core.minitransaction import Path

HERE: Final[Path] = ("some", "where")
"""The path at which checks store that are about no path."""

REFUSALS: Final = (TypeError, ValueError, RecursionError)
"""What encoding may raise; the last where a value is nested too deep for Python."""

NO_VALUE: Final = (ValueError, RecursionError)
"""What decoding may raise."""


class CodecNeed(Enum):
    """What a codec must claim, or not, for a check to be examined."""

    DETERMINISTIC = "claim deterministic"
    BINDS_PATH = "claim binds_path"
    NO_BINDS_PATH = "a codec that does not claim binds_path"
    SAFE = "claim safe"


@dataclass(frozen=True, slots=True)
class CodecClaims:
    """What a codec says of itself."""

    name: str
    deterministic: bool
    binds_path: bool
    safe: bool


class CodecFixture:
    """One codec, and what checks do with it."""

    def __init__(self, harness: CodecHarness, *, thorough: bool, seed: int, timeout: float) -> None:
        self.harness: Final = harness
        self.codec: Final[Codec] = harness.open()
        self.timeout: Final = timeout
        self._examples = 2_000 if thorough else 100
        self._seed = seed

    @property
    def claims(self) -> CodecClaims:
        """What the codec says of itself."""
        codec = self.codec
        return CodecClaims(codec.name, codec.deterministic, codec.binds_path, codec.safe)

    def each(self, strategy: SearchStrategy[Any], check: Callable[[Any], None]) -> None:
        """Check random examples. The first that fails is made small and raised."""
        profile = settings(
            max_examples=self._examples,
            deadline=None,
            database=None,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )
        seeded(self._seed)(profile(given(strategy)(check)))()

    def taken(self, values: Iterable[Any]) -> list[tuple[Any, bytes]]:
        """Return those of some values that the codec takes, each with its bytes."""
        found = []
        for value in values:
            data = self.encoded(value)
            if data is not None:
                found.append((value, data))
        require(found, "the codec takes none of the values that the check has for it")
        return found

    def encoded(self, value: Any, path: Path = HERE) -> bytes | None:
        """Return the bytes of a value, ``None`` if it is refused as values may be."""
        try:
            return self.codec.encode(value, path)
        except REFUSALS:
            return None
        except Exception as error:
            raise CheckFailed(
                f"encoding {shortened(value)} raises {type(error).__name__}: {error}; a refusal is a TypeError or "
                "ValueError"
            ) from error

    def come_back(self, value: Any, data: bytes, path: Path = HERE) -> None:
        """Demand that these bytes of a value are the value again."""
        back = self.codec.decode(data, path)
        expected = self.harness.given_back(value)
        require(same(back, expected), f"{shortened(value)} comes back as {shortened(back)}, not {shortened(expected)}")

    def survives(self, data: bytes, what: str, path: Path = HERE) -> bool:
        """Demand that decoding any bytes gives a value, or is refused as it may be; tell which."""
        try:
            self.codec.decode(data, path)
        except NO_VALUE:
            return False
        except Exception as error:
            raise CheckFailed(
                f"decoding {what}, {shortened(data)}, raises {type(error).__name__}: {error}; it is a ValueError"
            ) from error
        return True


@dataclass(frozen=True, slots=True)
class CodecCheck:
    """One check: ``examine`` raises, preferably ``CheckFailed``, if the codec on the bench breaks it."""

    name: str
    """``subject.rule``, for example ``damage.truncated_bytes_are_a_value_error``."""
    says: str
    """The check in one sentence."""
    needs: tuple[CodecNeed, ...]
    examine: Callable[[CodecFixture], None]

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The claims that this check is about, or ``every codec``."""
        claims = (need.name.removeprefix("NO_").lower() for need in self.needs)
        return tuple(dict.fromkeys(claims)) or ("every codec",)

    def __str__(self) -> str:
        return self.name


_register: Final[dict[str, CodecCheck]] = {}


def codec_check(*needs: CodecNeed) -> Callable[[Callable[[CodecFixture], None]], Callable[[CodecFixture], None]]:
    """Register a function as a check. Its module names the subject, its name the rule, its docstring says the check."""

    def register(examine: Callable[[CodecFixture], None]) -> Callable[[CodecFixture], None]:
        says = inspect.getdoc(examine)
        if not says:
            raise TypeError(f"the check {examine.__name__} has no docstring that states it")
        name = f"{examine.__module__.rpartition('.')[2]}.{examine.__name__}"
        _register[name] = CodecCheck(name, says.splitlines()[0], needs, examine)
        return examine

    return register


def registered() -> tuple[CodecCheck, ...]:
    """Return the checks registered so far, in the order of their definition."""
    return tuple(_register.values())


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
