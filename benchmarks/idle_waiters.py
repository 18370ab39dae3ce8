"""Processor time of a hundred threads that wait for locks in a SQLite file while nothing happens.

Run it from the project's folder with ``python -m benchmarks.idle_waiters``: the waiters are threads of one process, of
ten and of a hundred processes. They wait for a lock each, below one that is held, or all for that one; then they form
a queue, and each searches for deadlocks every two seconds. One per cent is one hundredth of one processor, for all
waiters together.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import threading
import time
from multiprocessing.synchronize import Barrier, Event
from typing import Final

from redicts import LockTimeout, Pool, Proxy

WAITERS: Final = 100
SETTLING_SECS: Final = 4
BOUND_PERCENT: Final = 10.0
"""The most for waiters for a lock each, in one process or ten."""


def cpu_secs() -> float:
    """Return the processor time that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def wait(
    file: str, paths: list[str], secs: float, ready: Barrier, over: Event, spent: multiprocessing.Queue[float]
) -> None:
    """Let a thread wait for each path, and send the processor time of some seconds of waiting."""
    Pool().reload(cfg={"backend": "sqlite", "path": file, "busy_timeout_secs": 60})

    def want(path: str) -> None:
        try:
            with Proxy(path, lock_acquire_timeout=10 * secs + 120):
                pass
        except LockTimeout:
            pass

    for path in paths:
        threading.Thread(target=want, args=(path,), daemon=True).start()
    ready.wait()
    time.sleep(SETTLING_SECS)
    before = cpu_secs()
    time.sleep(secs)
    spent.put(cpu_secs() - before)
    over.wait()
    os._exit(0)


def measure(paths: list[str], processes: int, secs: float) -> float:
    """Return the share of a processor, in per cent, that all waiters take together."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory:
        file = os.path.join(directory, "state.db")
        Pool().reload(cfg={"backend": "sqlite", "path": file})
        ready, over, spent = context.Barrier(processes + 1), context.Event(), context.Queue()
        with Proxy("wanted", lock_expire_timeout=600):
            children = [
                context.Process(
                    target=wait, args=(file, paths[number::processes], secs, ready, over, spent), daemon=True
                )
                for number in range(processes)
            ]
            for child in children:
                child.start()
            ready.wait()
            total = sum([float(spent.get()) for _ in children])
            over.set()
            for child in children:
                child.join()
        Pool().reload(cfg={"backend": "memory"})
    return 100 * total / secs


def main() -> int:
    """Measure and print; return the exit status: 0 if the bound is kept, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secs", type=float, default=20.0, help="how long to measure (default %(default)s)")
    asked = parser.parse_args()
    kept = True
    ways = {"a lock each": [f"wanted.{number}" for number in range(WAITERS)], "one lock": ["wanted"] * WAITERS}
    for what, paths in ways.items():
        for processes in (1, 10, 100):
            share = measure(paths, processes, asked.secs)
            kept = kept and (what == "one lock" or processes > 10 or share <= BOUND_PERCENT)
            print(f"{WAITERS} waiters for {what:11} in {processes:3} processes: {share:5.1f} % of one processor")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
