"""Run the command ``redicts`` to its end, or in a process of its own while the test goes on."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import IO, Any, Final, NamedTuple

import pytest

from redicts.cli import exits, main
from tests.support.proxy import FaultyProxy
from tests.support.waiting import TIMEOUT

_LONG: Final = 6 * TIMEOUT
"""Seconds: on a busy machine a command is much slower than what other tests wait for."""


class Done(NamedTuple):
    """The result of a command."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON that it printed."""
        return json.loads(self.out)


def command_line(*arguments: object) -> list[str]:
    """Return the arguments of a process that runs the command."""
    return [sys.executable, "-m", "redicts", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    """Return environment variables: none that names a store, a wide terminal, and warnings that are errors."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REDICTS_", "_REDICTS"))}
    return {**kept, "COLUMNS": "200", "PYTHONWARNINGS": "error", **more}


def redicts(*arguments: object, stdin: str = "", **variables: str) -> Done:
    """Run a command to its end. It never prints a traceback.

    Without environment variables of its own it runs in this process, because to start another one takes longer.
    """
    if variables:
        done = run(command_line(*arguments), stdin, **variables)
    else:
        streams = [io.TextIOWrapper(io.BytesIO(text), encoding="utf-8") for text in (stdin.encode(), b"", b"")]
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("error")
            patch.setattr(os, "environ", environment())
            for name, stream in zip(("stdin", "stdout", "stderr"), streams):
                patch.setattr(sys, name, stream)
            status = main([str(each) for each in arguments])
        done = Done(status, *[_written(stream) for stream in streams[1:]])
    assert "Traceback" not in done.err, done.err
    return done


def _written(stream: io.TextIOWrapper) -> str:
    """Return what was written to a stream."""
    stream.flush()
    written: bytes = stream.buffer.getvalue()  # type: ignore[attr-defined]  # it is a BytesIO
    return written.decode()


def run(command: list[str], stdin: str = "", **variables: str) -> Done:
    """Run a process to its end."""
    env = environment(**variables)
    done = subprocess.run(command, input=stdin.encode(), capture_output=True, env=env, check=False, timeout=_LONG)
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


class Running:
    """A command that runs while the test goes on; see :func:`running`."""

    def __init__(self, *arguments: object) -> None:
        # A child inherits an ignored SIGINT, as below nohup, and then ignores Ctrl-C; it does not inherit a handler.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        pipe = subprocess.PIPE
        self.process: Final = subprocess.Popen(
            command_line(*arguments), stdin=pipe, stdout=pipe, stderr=pipe, env=environment()
        )
        signal.signal(signal.SIGINT, before)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin: Final[IO[bytes]] = self.process.stdin
        self.stdout: Final[IO[bytes]] = self.process.stdout

    def interrupt(self) -> None:
        """Press Ctrl-C: the command ends with its status and one line."""
        self.process.send_signal(signal.SIGINT)
        done = self.end()
        assert (done.status, done.err) == (exits.INTERRUPTED, "redicts: interrupted\n")

    def kill(self) -> None:
        """End the command as a crash does."""
        self.process.kill()
        self.end()

    def end(self) -> Done:
        """Wait until the command ends."""
        out, err = self.process.communicate(timeout=_LONG)
        return Done(self.process.returncode, out.decode(), err.decode())


@contextlib.contextmanager
def running(*arguments: object) -> Iterator[Running]:
    """Run a command during the block, and kill it at the end if it still runs."""
    command = Running(*arguments)
    try:
        yield command
    finally:
        if command.process.poll() is None:
            command.process.kill()
        command.process.wait()
        for stream in (command.process.stdin, command.process.stdout, command.process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def stop_after(requests: int, proxy: FaultyProxy, end: str, *arguments: object) -> None:
    """Run a command, and end it ("kill" or "interrupt") while its next request after so many is held back."""
    proxy.pass_requests(requests)
    proxy.hold_requests()
    with running(*arguments) as command:
        proxy.wait_until_held()
        getattr(command, end)()
    proxy.release_held()
    proxy.clear()
