"""The checks of a codec: what core relies on when it gives leaves to a codec and reads what anybody has stored.

Subclass :class:`CodecHarness`, say in it how to make the codec, and call :func:`certify_codec`::

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
"""All checks of codecs, in the order of their subjects."""


def certify_codec(
    harness: CodecHarness,
    *,
    thorough: bool = False,
    seed: int = 0,
    timeout: float = 30.0,
    checks: Iterable[CodecCheck] = CODEC_CHECKS,
    watch: Callable[[Result], object] | None = None,
) -> Report:
    """Examine all checks on a codec and return the report. It raises nothing that the codec raises. Cost: seconds.

    Args:
        harness: The codec.
        thorough: Try many more random examples.
        seed: Where random examples start; the same seed makes the same examples. The report names it.
        timeout: Seconds that something may take that should take milliseconds, before it counts as hanging.
        checks: Others than all, for a first look: the report then is no certificate, see :attr:`Report.kept`.
        watch: Called with each result when it is there.

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
        capabilities=examination.claims,
        results=tuple(results),
        seed=seed,
        thorough=thorough,
        left_out=tuple(check.name for check in CODEC_CHECKS if check not in chosen),
        told={what: crossed_out(value, secrets) for what, value in harness.about.items()},
    )
