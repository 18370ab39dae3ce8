"""Runs the command ``redicts`` in a process of its own, to its end or while the test goes on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

from tests.support.waiting import TIMEOUT

if TYPE_CHECKING:
    from typing_extensions import Self

_LONG: Final = 6 * TIMEOUT
"""Seconds: a command on a busy machine is much slower than what else is waited for."""


class Done(NamedTuple):
    """What came of a command."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON that it printed."""
        return json.loads(self.out)


def words(*arguments: object) -> list[str]:
    """Return the command line."""
    return [sys.executable, "-m", "redicts", *map(str, arguments)]


def variables(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment: nothing that names a store, a wide terminal, warnings that are errors."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REDICTS_", "_REDICTS"))}
    return {**kept, "COLUMNS": "200", "PYTHONWARNINGS": "error", **(more or {})}


def redicts(
    *arguments: object, stdin: str | bytes = b"", env: Mapping[str, str] | None = None, cwd: object = None
) -> Done:
    """Run a command to its end. Whatever it does, it shows no traceback."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        words(*arguments),
        input=given,
        capture_output=True,
        env=variables(env),
        cwd=None if cwd is None else str(cwd),
        check=False,
        timeout=_LONG,
    )
    found = Done(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in found.err, found.err
    return found


class Running:
    """A command that runs while the test goes on; it is killed at the end of the block if it still does."""

    def __init__(self, *arguments: object) -> None:
        self.process: Final = subprocess.Popen(
            words(*arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=variables(),
        )

    @property
    def stdin(self) -> IO[bytes]:
        """What it reads."""
        assert self.process.stdin is not None
        return self.process.stdin

    def interrupt(self) -> Done:
        """Send it what Ctrl-C sends, and wait for its end."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.process.kill()
        self.end()

    def end(self) -> Done:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=_LONG)
        return Done(self.process.returncode, out.decode(), err.decode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
