"""The examination of a codec: one law at a time, each in a thread of its own that is not waited for for ever."""

from __future__ import annotations

from typing import Final

from redicts.contract.codecs.harness import CodecHarness
from redicts.contract.codecs.law import CodecBench, CodecClaims, CodecLaw, CodecNeed
from redicts.contract.examination import Examiner
from redicts.contract.law import NotRun


class CodecExamination(Examiner[CodecLaw]):
    """Examines laws on one codec, one after the other.

    Args:
        harness: The codec under examination.
        thorough: Try twenty times as many examples.
        seed: Where random examples start; the same seed makes the same examples.
        patience: Seconds that something may take that should take milliseconds. A law that waits longer is failed.

    """

    def __init__(self, harness: CodecHarness, *, thorough: bool = False, seed: int = 0, patience: float = 30.0) -> None:
        super().__init__(thorough=thorough, seed=seed, patience=patience)
        self.harness: Final = harness
        self.claims: CodecClaims | None = None
        """What the codec claims, known after the first law for which it could be made."""
        self.codec: str | None = None
        """The name of the codec's class, known as the claims are."""

    def _run(self, law: CodecLaw) -> None:
        bench = CodecBench(self.harness, thorough=self.thorough, seed=self.seed, patience=self.patience)
        self.codec = type(bench.codec).__name__
        self.claims = bench.claims
        for need in law.needs:
            _meet(need, self.claims)
        law.examine(bench)


def _meet(need: CodecNeed, claims: CodecClaims) -> None:
    """Raise ``NotRun`` if the claims are not such that a law with this need is examined."""
    claim = need.name.removeprefix("NO_").lower()
    wanted = not need.name.startswith("NO_")
    if getattr(claims, claim) is not wanted:
        raise NotRun(f"the codec {'does not claim' if wanted else 'claims'} {claim}", demanded=False)
