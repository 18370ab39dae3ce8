"""The version of redicts has one source."""

from __future__ import annotations

from pathlib import Path

from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

import redicts
from redicts.plugins.listing import installed

PROJECT = Path(__file__).parents[2]


def test_the_version_is_that_of_the_distribution() -> None:
    """``redicts.__version__`` is the version of a wheel that is built from these files, and of the built-in plugins."""
    assert ProjectMetadata(str(PROJECT), PluginManager()).version == redicts.__version__
    assert {plugin.version for plugin in installed() if plugin.builtin} == {redicts.__version__}
