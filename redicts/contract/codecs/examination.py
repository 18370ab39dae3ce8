"""The examination of a codec: one check at a time, each in a thread of its own that is not waited for for ever."""

from __future__ import annotations

from typing import Final

from redicts.contract.check import NotRun
from redicts.contract.codecs.check import CodecCheck, CodecClaims, CodecFixture, CodecNeed
from redicts.contract.codecs.harness import CodecHarness
from redicts.contract.examination import Examiner


class CodecExamination(Examiner[CodecCheck]):
    """Examines checks on one codec, one after the other.

    Args:
        harness: The codec under examination.
        thorough: Try twenty times as many examples.
        seed: Where random examples start; the same seed makes the same examples.
        timeout: Seconds that something may take that should take milliseconds. A check that waits longer is failed.

    """

    def __init__(self, harness: CodecHarness, *, thorough: bool = False, seed: int = 0, timeout: float = 30.0) -> None:
        super().__init__(thorough=thorough, seed=seed, timeout=timeout)
        self.harness: Final = harness
        self.claims: CodecClaims | None = None
        """What the codec claims, known after the first check for which it could be made."""
        self.codec: str | None = None
        """The name of the codec's class, known as the claims are."""

    def _run(self, check: CodecCheck) -> None:
        fixture = CodecFixture(self.harness, thorough=self.thorough, seed=self.seed, timeout=self.timeout)
        self.codec = type(fixture.codec).__name__
        self.claims = fixture.claims
        for need in check.needs:
            _meet(need, self.claims)
        check.examine(fixture)


def _meet(need: CodecNeed, claims: CodecClaims) -> None:
    """Raise ``NotRun`` if the claims are not such that a check with this need is examined."""
    claim = need.name.removeprefix("NO_").lower()
    wanted = not need.name.startswith("NO_")
    if getattr(claims, claim) is not wanted:
        raise NotRun(f"the codec {'does not claim' if wanted else 'claims'} {claim}", demanded=False)
