"""The checks refuse every broken backend, and none of them is redundant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from redicts.cli import main
from redicts.contract import CHECKS, certify
from tests.contract.broken import BROKEN, Broken
from tests.contract.broken.commits import InAFile
from tests.contract.harnesses import FileHarness, InstanceHarness, NetworkHarness
from tests.contract.reference_model import DictBackend, KeepingBackend, LimitedBackend, NoTTLBackend, PlainBackend
from tests.contract.refusals import SEARCH, SEEDS, refusals, timeout_of
from tests.contract.sharded import ShardedBackend, ShardedHarness

_ALONE: Final = [broken for broken in BROKEN if broken.alone]
_SAMPLE: Final = [broken for broken in _ALONE if not broken.refused_by[0].startswith(SEARCH)][::20]

_ATTEMPTS: Final = 4
"""How often a check may try to refuse a broken backend. Most faults are of a moment, and a busy machine can miss it: a
pause that is to take 4 ms takes 40. A fault that a check mostly misses is still missed."""

_QUICK: Final = ("capabilities.", "conditions.", "counters.", "names.", "notifications.", "reads.", "writes.")
"""Subjects whose checks take milliseconds."""


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_broken_backend_is_refused(broken: Broken, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``redicts certify`` exits with 1 and names the failed check; no check fails by its time limit alone."""
    file = tmp_path / "report.json"
    command = ["certify", "--harness", f"tests.contract.broken:{broken.name}", "--report", str(file)]
    for name in broken.refused_by:
        timeout = timeout_of(name)
        for seed in range(SEEDS if name.startswith(SEARCH) else _ATTEMPTS):
            status = main([*command, "--check", name, "--timeout", str(timeout), "--seed", str(seed)])
            report = json.loads(file.read_text(encoding="utf-8"))
            [result] = report["checks"]
            reason = result["reason"] or ""
            if status == 1 and not reason.startswith("did not end"):
                break
            timeout *= 4 if status == 1 else 1
        assert status == 1, f"{name} accepts a backend of which this is true: {broken.says}"
        assert (result["check"], result["status"], report["certified"]) == (name, "failed", False)
        assert not reason.startswith("did not end")
        assert f"failed: {name}" in capsys.readouterr().out


def test_what_they_are_derived_from_is_certified() -> None:
    """The correct store and network behind the broken backends are certified, so each refusal is due to its fault."""
    report = certify(NetworkHarness(DictBackend))
    assert report.certified, str(report)


@pytest.mark.parametrize("store", [NoTTLBackend, LimitedBackend, KeepingBackend, PlainBackend])
def test_its_variants_pass(store: type[DictBackend]) -> None:
    """Its variants with other declared capabilities pass the checks in which they differ."""
    checks = [check for check in CHECKS if check.name.startswith((*_QUICK, "documents", "expired.", "sizes.", "ttl."))]
    report = certify(InstanceHarness(store), checks=checks)
    assert report.passed, str(report)


def test_a_sharded_store_passes() -> None:
    """The correct sharded store behind some of them passes some checks, within one section and over several."""
    checks = [check for check in CHECKS if check.name.startswith(("conditions.", "sections.", "writes."))]
    report = certify(ShardedHarness(ShardedBackend), checks=checks)
    assert report.passed, str(report)


def test_a_store_in_a_file_passes() -> None:
    """The correct store in one file behind some of them passes the checks on what they are wrong about."""
    checks = [check for check in CHECKS if check.name.startswith(("failures.", "space.", "writes."))]
    harness = FileHarness(InAFile)
    report = certify(harness, checks=checks)
    harness.close()
    assert report.passed, str(report)


def test_no_check_is_redundant() -> None:
    """Each check refuses a broken backend that no other check refuses, as ``tests.contract.refusals`` verifies."""
    needed = {broken.refused_by for broken in _ALONE}
    assert {(check.name,) for check in CHECKS} == needed


@pytest.mark.parametrize("broken", _SAMPLE, ids=lambda broken: broken.name)
def test_what_is_refused_by_one_check_passes_the_others(broken: Broken) -> None:
    """A sample of the backends that one check alone refuses passes the other quick checks."""
    checks = [check for check in CHECKS if check.name.startswith(_QUICK) and check.name not in broken.refused_by]
    assert {result.check for result in refusals(broken, checks)} == set()


def test_every_broken_backend_has_a_name_of_its_own() -> None:
    """No two broken backends share a name."""
    assert len({broken.name for broken in BROKEN}) == len(BROKEN) >= 200
