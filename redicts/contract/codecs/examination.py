"""Examination of codecs: runs the checks one by one, each in a thread with a time limit."""

from __future__ import annotations

from typing import Final

from redicts.contract.codecs.check import CodecCheck, CodecFixture
from redicts.contract.codecs.harness import CodecHarness
from redicts.contract.examination import Examiner
from redicts.contract.report import CodecCapabilities
from redicts.contract.requirements import NotRun


class CodecExamination(Examiner[CodecCheck]):
    """Examines checks on one codec, one after the other.

    Args:
        harness: The codec under examination.
        thorough: Try twenty times as many examples.
        seed: The seed of random examples; the same seed makes the same examples.
        timeout: Seconds that an operation may take that should take milliseconds.

    """

    def __init__(self, harness: CodecHarness, *, thorough: bool = False, seed: int = 0, timeout: float = 30.0) -> None:
        super().__init__(thorough=thorough, seed=seed, timeout=timeout)
        self.harness: Final = harness
        self.capabilities: CodecCapabilities | None = None
        """The capabilities that the codec declares, known once it could be made."""
        self.codec: str | None = None
        """The name of the codec's class, known once it could be made."""

    def _run(self, check: CodecCheck) -> None:
        fixture = CodecFixture(self.harness, thorough=self.thorough, seed=self.seed, timeout=self.timeout)
        self.codec = type(fixture.codec).__name__
        self.capabilities = fixture.capabilities
        for need in check.needs:
            name, wanted = need.name.removeprefix("NO_").lower(), not need.name.startswith("NO_")
            if getattr(fixture.capabilities, name) is not wanted:
                reason = f"the codec {'does not declare' if wanted else 'declares'} {name}"
                raise NotRun(reason, required=False)
        check.examine(fixture)
