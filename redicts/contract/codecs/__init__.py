"""The laws of a codec: what core relies on when it gives leaves to a codec and reads what anybody has stored.

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

from collections.abc import Iterable
from typing import Final

from redicts.contract.codecs import claims, conduct, damage, values  # noqa: F401  (registers the laws)
from redicts.contract.codecs.examination import CodecExamination
from redicts.contract.codecs.harness import CodecHarness
from redicts.contract.codecs.law import CodecLaw, registered
from redicts.contract.report import Report

__all__ = ["CODEC_LAWS", "CodecExamination", "CodecHarness", "CodecLaw", "certify_codec"]

CODEC_LAWS: Final[tuple[CodecLaw, ...]] = registered()
"""All laws of codecs, in the order of their subjects."""


def certify_codec(
    harness: CodecHarness,
    *,
    thorough: bool = False,
    seed: int = 0,
    patience: float = 30.0,
    laws: Iterable[CodecLaw] = CODEC_LAWS,
) -> Report:
    """Examine all laws on a codec and return the report. It raises nothing that the codec raises. Cost: seconds.

    Args:
        harness: The codec.
        thorough: Try many more random examples.
        seed: Where random examples start; the same seed makes the same examples. The report names it.
        patience: Seconds that something may take that should take milliseconds, before it counts as hanging.
        laws: Others than all, for a first look. The verdict is then about these laws alone.

    """
    examination = CodecExamination(harness, thorough=thorough, seed=seed, patience=patience)
    results = tuple([examination.examine(law) for law in laws])
    return Report(
        harness=type(harness).__name__,
        kind="codec",
        backend=examination.codec,
        capabilities=examination.claims,
        results=results,
        seed=seed,
        thorough=thorough,
    )
