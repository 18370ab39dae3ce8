"""The lowest versions that are tested are the lowest that the distribution allows."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.version import Version

FILES: Final = Path(__file__).parents[2]


def pinned(file: str) -> dict[str, Version]:
    """Return the exact versions in a file of requirements."""
    lines = (FILES / file).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {each.name: Version(str(each.specifier).removeprefix("==")) for each in found}


def test_the_lowest_versions_are_the_bounds_of_the_distribution() -> None:
    """``requirements-lowest.txt`` pins each dependency to its lower bound, and the tools as for the other tests."""
    required = [Requirement(line) for line in metadata.requires("redicts") or []]
    bounds = {each.name: Version(str(each.specifier).removeprefix(">=")) for each in required}
    lowest = pinned("requirements-lowest.txt")
    assert {name: lowest[name] for name in bounds} == bounds
    tools = pinned("requirements-test.txt")
    assert {name: version for name, version in lowest.items() if name not in bounds}.items() <= tools.items()
