"""Keeps a benchmark and its servers on different cores, so that no figure depends on how the scheduler moves them.

A server on the core of its client answers in another time than one on another core, and the scheduler decides
that in each run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cores_apart(*servers: int) -> Iterator[None]:
    """Keep this process on its first core and the servers, by their process ids, on the last one, within a block."""
    cores = sorted(os.sched_getaffinity(0))
    try:
        _move(os.getpid(), {cores[0]})
        for server in servers:
            _move(server, {cores[-1]})
        yield
    finally:
        for process in (os.getpid(), *servers):
            _move(process, set(cores))


def _move(process: int, cores: set[int]) -> None:
    for thread in os.listdir(f"/proc/{process}/task"):
        os.sched_setaffinity(int(thread), cores)
