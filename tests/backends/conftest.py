"""What several tests of the SQLite backend open."""

from __future__ import annotations

import pytest

from redicts.backends.sqlite import files
from tests.backends.sqlite_tools import Meter


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Meter:
    """Watch every connection that is opened."""
    found = Meter()
    connect = files._connect
    monkeypatch.setattr(files, "_connect", lambda *given, **named: found.watch(connect(*given, **named)))
    return found
