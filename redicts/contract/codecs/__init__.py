"""The contract suite for codecs: certifies a codec by conformance checks.

Subclass :class:`CodecHarness` with a method that makes the codec, and call :func:`certify_codec`::

    from redicts.contract.codecs import CodecHarness, certify_codec

    class MineHarness(CodecHarness):
        def open(self):
            return MineCodec()

    report = certify_codec(MineHarness())
    print(report)
    assert report.certified
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from redicts.contract.codecs import capabilities, conduct, damage, documents, values  # noqa: F401  (registers the checks)
from redicts.contract.codecs.check import CodecCheck, registered
from redicts.contract.codecs.configured import AsJsonHarness, BuffersAsBytesHarness, ChosenCodecHarness, CodecChoice
from redicts.contract.codecs.examination import CodecExamination
from redicts.contract.codecs.harness import CodecHarness
from redicts.contract.report import Report, Result, crossed_out

__all__ = [
    "CODEC_CHECKS",
    "AsJsonHarness",
    "BuffersAsBytesHarness",
    "ChosenCodecHarness",
    "CodecCheck",
    "CodecChoice",
    "CodecExamination",
    "CodecHarness",
    "certify_codec",
]

CODEC_CHECKS: Final[tuple[CodecCheck, ...]] = registered()
"""All checks of codecs, ordered by subject."""


def certify_codec(
    harness: CodecHarness,
    *,
    thorough: bool = False,
    seed: int = 0,
    timeout: float = 30.0,
    checks: Iterable[CodecCheck] = CODEC_CHECKS,
    watch: Callable[[Result], object] | None = None,
) -> Report:
    """Run the checks on a codec and return the report, in seconds. Errors of the codec are results, not raised.

    Args:
        harness: The codec.
        thorough: Try many more random examples.
        seed: The seed of random examples; the same seed makes the same examples.
        timeout: Seconds that an operation may take that should take milliseconds, before it counts as hanging.
        checks: The checks to run. With fewer than all, the report is not a certificate, see :attr:`Report.passed`.
        watch: Called with each result as soon as it is known.

    """
    examination = CodecExamination(harness, thorough=thorough, seed=seed, timeout=timeout)
    chosen, secrets = tuple(checks), tuple(harness.secrets)
    results: list[Result] = []
    for check in chosen:
        results.append(examination.examine(check).without(secrets))
        if watch is not None:
            watch(results[-1])
    return Report(
        harness=type(harness).__name__,
        kind="codec",
        backend=examination.codec,
        capabilities=examination.capabilities,
        results=tuple(results),
        seed=seed,
        thorough=thorough,
        left_out=tuple(check.name for check in CODEC_CHECKS if check not in chosen),
        subject={what: crossed_out(value, secrets) for what, value in harness.about.items()},
    )
