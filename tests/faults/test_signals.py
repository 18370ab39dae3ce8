"""Real signals: a handler that raises, hundreds of times, while the main thread of a process writes under a lock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.servers import RedisServer

INTERRUPTS: Final = 150

PROGRAM: Final = """
import faulthandler, json, random, signal, sys, threading
import redicts

class Interrupt(Exception):
    pass

def interrupt(*_):
    raise Interrupt

faulthandler.dump_traceback_later(100, exit=True)
cfg, most = json.loads(sys.argv[1]), int(sys.argv[2])
db = redicts.open(cfg, fake_redis=cfg is None)
signal.signal(signal.SIGALRM, interrupt)
done = interrupts = 0

def work(number):
    # Python may drop the end of a block before its first instruction; then the lease frees the lock.
    with db.lock("a", expire_timeout=3, acquire_timeout=30):
        db.proxy("a").set("tree", {f"leaf{leaf}": number for leaf in range(20)})

work(0)
while interrupts < most:
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.004))
        work(done)
        signal.setitimer(signal.ITIMER_REAL, 0)
        done += 1
    except Interrupt:
        interrupts += 1

assert len(set(db.proxy("a.tree").val().values())) == 1
thread = threading.Thread(target=work, args=(-1,))
thread.start()
thread.join()
assert db.proxy("a.tree.leaf0").val() == -1
print("whole")
"""


@pytest.mark.parametrize("backend", ["memory", "fakeredis", "sqlite", "redis"])
def test_a_store_outlasts_a_handler_that_raises(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """After hundreds of exceptions by a handler, the value is whole, and another thread gets the lock."""
    cfg: dict[str, Any] | None = None if backend == "fakeredis" else {"backend": backend}
    if backend == "sqlite":
        cfg = {"backend": backend, "path": str(tmp_path / "tree.db")}
    elif backend == "redis":
        server: RedisServer = request.getfixturevalue("server")
        cfg = {"backend": backend, "host": server.host, "port": server.port, "max_connections": 2}
    command = [sys.executable, "-c", PROGRAM, json.dumps(cfg), str(INTERRUPTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr[-3000:]
