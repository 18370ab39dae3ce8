"""The reference has every public name."""

from __future__ import annotations

import inspect
import re
from typing import Final

import pytest

import redicts
import redicts.contract
import redicts.contract.codecs
import redicts.migration
import redicts.plugin
import redicts.transfer
from tests.pages.parsing import DOCS


def mentioned() -> set[str]:
    """Return the names that the reference describes one by one, and the members of modules that it describes whole."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    names = set(re.findall(r"^\.\. (?:autoclass|autofunction|data|autodata):: (\w+)$", text, flags=re.MULTILINE))
    for module in re.findall(r"^\.\. automodule:: ([\w.]+)\n   :members:", text, flags=re.MULTILINE):
        members = inspect.getmembers(__import__(module, fromlist=["*"]))
        names |= {name for name, _ in members if not name.startswith("_")} | {module.rpartition(".")[2]}
    return names


MODULES: Final = (
    redicts,
    redicts.contract,
    redicts.contract.codecs,
    redicts.migration,
    redicts.plugin,
    redicts.transfer,
)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_name_is_in_the_reference(module: object) -> None:
    """One of the pages describes each name that a package exports."""
    exported: list[str] = getattr(module, "__all__")  # noqa: B009  (the type of a module does not say it)
    assert set(exported) - mentioned() == set()
