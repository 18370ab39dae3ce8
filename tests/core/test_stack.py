"""The stack of another thread is read without a garbage collection in the midst, which could deadlock."""

from __future__ import annotations

import gc
import sys
import threading
from types import FrameType

import pytest

from redicts.forks import stack


@pytest.mark.parametrize("collects", [True, False])
def test_nothing_is_collected_while_the_stack_of_another_thread_is_read(
    collects: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Collections are off during the call of an interpreter that may collect there, and afterwards as they were."""
    during = list[bool]()
    read = sys._current_frames

    def watched() -> dict[int, FrameType]:
        during.append(gc.isenabled())
        return read()

    monkeypatch.setattr(sys, "_current_frames", watched)
    (gc.enable if collects else gc.disable)()
    try:
        [*frames] = stack(threading.get_ident())
        assert (during, gc.isenabled()) == ([collects and sys.version_info >= (3, 12)], collects)
    finally:
        gc.enable()
    assert sys._getframe() in frames
