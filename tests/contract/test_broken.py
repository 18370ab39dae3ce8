"""The command refuses what is broken: a backend that is wrong in one way fails the checks that speak of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from redicts.certify import certify_command
from redicts.contract import CHECKS, certify
from tests.contract.broken import BROKEN, Broken
from tests.contract.harnesses import InstanceHarness, NetworkHarness
from tests.contract.reference_model import DictBackend, KeepingBackend, LifelessBackend, LimitedBackend

_TIMEOUT: Final = 2.0
"""Seconds after which a broken backend counts as hanging. Those that are whole have the usual time."""

_TIMEOUT_WITH: Final = {
    "notifies": 0.6,
    "listeners": 0.6,
    "locks_waking": 0.6,
    "locks_threads": 1.0,
    "locks_processes": 4.0,
    "model": 3.0,
}
"""The same in checks of some subjects: most that break those on calls just never call, and a search takes its time."""

_SEARCHING: Final = {"model", "locks_threads"}
"""Subjects whose checks search at random, or among the races that happen to be run."""

_SEEDS: Final = 8
"""How often such a check may search: with one seed in four or so it misses the rarer faults."""

_CHECKS: Final = {check.name: check for check in CHECKS}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_broken_backend_is_refused(broken: Broken, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command exits with 1 and names each check that speaks of what is broken; none just runs out of time."""
    for name in broken.refused_by:
        subject = name.partition(".")[0]
        for seed in range(_SEEDS if subject in _SEARCHING else 1):
            status, told = _certified(broken, name, _TIMEOUT_WITH.get(subject, _TIMEOUT), seed, tmp_path)
            if status:
                break
        assert status == 1, f"{name} accepts a backend of which this is true: {broken.says}"
        [result] = told["checks"]
        assert (result["check"], result["status"], told["certified"]) == (name, "failed", False)
        assert not result["reason"].startswith("did not end")
        assert f"failed: {name}" in capsys.readouterr().out


def test_what_they_are_derived_from_is_certified() -> None:
    """What the broken ones are derived from, store and network, is certified, so a refusal is due to the fault."""
    report = certify(NetworkHarness(DictBackend))
    assert report.certified, str(report)


@pytest.mark.parametrize("store", [LifelessBackend, LimitedBackend, KeepingBackend])
def test_its_variants_keep_the_checks(store: type[DictBackend]) -> None:
    """So are its variants, with other claims and with documents kept whole, as far as they differ from it."""
    checks = [check for check in CHECKS if not check.name.startswith(("model.", "pages."))]
    report = certify(InstanceHarness(store), checks=checks)
    assert report.kept, str(report)


def _certified(broken: Broken, check: str, timeout: float, seed: int, directory: Path) -> tuple[int, dict[str, Any]]:
    """Run the command on a broken backend; return its exit status and its report."""
    report = directory / "report.json"
    harness = f"tests.contract.broken:{broken.name}"
    options = ["--check", check, "--timeout", str(timeout), "--seed", str(seed), "--report", str(report)]
    status = certify_command(["--harness", harness, *options])
    return status, json.loads(report.read_text(encoding="utf-8"))


def test_every_check_refuses_something() -> None:
    """For each check there is a broken backend that it refuses: none of them only ever passes."""
    used = {name for broken in BROKEN for name in broken.refused_by}
    assert set(_CHECKS) - used == set(), "checks that refuse nothing"


def test_every_broken_backend_has_a_name_of_its_own() -> None:
    """No broken backend hides another one of the same name."""
    assert len({broken.name for broken in BROKEN}) == len(BROKEN) >= 200
