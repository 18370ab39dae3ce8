"""The suite refuses what is broken: a backend that is wrong in one way fails the laws that speak of it."""

from __future__ import annotations

from typing import Final

import pytest

from redicts.contract import LAWS, Examination, Status, certify
from tests.contract.broken import BROKEN, Broken
from tests.contract.dicts import DictBackend, LifelessBackend, LimitedBackend
from tests.contract.harnesses import InstanceHarness, NetworkHarness

_PATIENCE: Final = 2.0
"""Seconds after which a broken backend counts as hanging. Those that are whole have the usual time."""

_LAWS: Final = {law.name: law for law in LAWS}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_broken_backend_is_refused(broken: Broken) -> None:
    """Each law that speaks of what is broken fails, and for that reason: it does not just run out of time."""
    for name in broken.refused_by:
        result = Examination(broken.harness(), patience=_PATIENCE).examine(_LAWS[name])
        assert result.status is Status.FAILED, f"{name} accepts a backend of which this is true: {broken.says}"
        assert not result.reason.startswith("did not end")


def test_what_they_are_derived_from_is_certified() -> None:
    """What the broken ones are derived from, store and network, is certified, so a refusal is due to the fault."""
    report = certify(NetworkHarness(DictBackend))
    assert report.certified, str(report)


@pytest.mark.parametrize("store", [LifelessBackend, LimitedBackend])
def test_its_variants_keep_the_laws(store: type[DictBackend]) -> None:
    """So are its variants with other claims, as far as they differ: they walk and answer as it does."""
    laws = [law for law in LAWS if not law.name.startswith(("model.", "pages."))]
    report = certify(InstanceHarness(store), laws=laws)
    assert report.certified, str(report)


def test_every_law_refuses_something() -> None:
    """For each law there is a broken backend that it refuses: none of them only ever passes."""
    used = {name for broken in BROKEN for name in broken.refused_by}
    assert set(_LAWS) - used == set(), "laws that refuse nothing"


def test_every_broken_backend_has_a_name_of_its_own() -> None:
    """No broken backend hides another one of the same name."""
    assert len({broken.name for broken in BROKEN}) == len(BROKEN) >= 22
