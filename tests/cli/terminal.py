"""Run a program on a pseudo-terminal, and see what a person would see there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Iterator

from tests.cli.running import environment


class Terminal:
    """A program on a terminal; see :func:`terminal`."""

    def __init__(self, command: list[str], columns: int, **variables: str) -> None:
        self.shown = b""
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        env = {name: value for name, value in environment(**variables).items() if name != "COLUMNS"}
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
        os.close(theirs)

    def read_until(self, prompt: bytes, times: int = 1) -> None:
        """Read until a prompt has been shown so many times."""
        while self.shown.count(prompt) < times:
            self.shown += os.read(self._ours, 65536)

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._ours, text.encode() + b"\n")

    def end(self) -> int:
        """Read the rest, wait until the program ends, and return its exit status."""
        with contextlib.suppress(OSError):  # the other side is closed
            while read := os.read(self._ours, 65536):
                self.shown += read
        return self.process.wait()

    def close(self) -> None:
        """End the program if it still runs."""
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@contextlib.contextmanager
def terminal(command: list[str], columns: int = 200, **variables: str) -> Iterator[Terminal]:
    """Run a program during the block on a terminal so wide."""
    with contextlib.closing(Terminal(command, columns, **variables)) as made:
        yield made
