"""Server processes of the tests: each on a free loopback port, in a directory of its own, and never left behind."""

from __future__ import annotations

import abc
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from . import ports, reaper
from .waiting import TIMEOUT, eventually

if TYPE_CHECKING:
    from typing_extensions import Self

_ATTEMPTS: Final = 10
_POLL_SECONDS: Final = 0.005
_LONGEST_DIRECTORY: Final = 80  # bytes; the systems allow 103 to 107 for a Unix socket in it


class ServerFailed(Exception):
    """The server did not start, or did not end; the text has the end of its log."""


class ServerProcess(abc.ABC):
    """One server process; ``with`` ends it. A subclass knows the command, and when the server answers."""

    host: Final = ports.LOOPBACK
    orderly: signal.Signals = signal.SIGTERM
    crash: signal.Signals = signal.SIGKILL

    def __init__(self, name: object, directory: Path) -> None:
        self.directory: Final = directory
        self.port = 0
        """The TCP port, the same over restarts."""
        self._name: Final = name
        self._process: subprocess.Popen[bytes] | None = None
        self._owner: Final = os.getpid()

    @abc.abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """Return the command that runs the server in the foreground on :attr:`port`."""

    @abc.abstractmethod
    def _answers(self) -> bool:
        """Tell whether this server, and not another one on the same port, answers."""

    def _popen_options(self) -> dict[str, Any]:
        return {}

    def _failure(self, status: int, log: str) -> ServerFailed:
        return ServerFailed(f"{self._name} ended with status {status}:\n{log[-2000:].strip()}")

    @property
    def pid(self) -> int:
        """The id of the process, the last one if it has ended."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process runs; a paused one does."""
        if self._process is None:
            return False
        if self._process.poll() is None:
            return True
        reaper.forget(self._process.pid)
        return False

    def pause(self) -> None:
        """Stop the process (SIGSTOP): the kernel still accepts connections and bytes, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def resume(self) -> None:
        """Continue a paused process."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End the server in an orderly way, without waiting for clients. No effect if it has ended."""
        if self.running:
            self.resume()
            self._end(self.orderly)

    def kill(self) -> None:
        """End the server immediately, as a crash does. No effect if it has ended."""
        if self.running:
            self._end(self.crash)

    def restart(self) -> None:
        """Stop the server if it runs, and start it again with the same port, directory and options.

        Raises :class:`ServerFailed` if it does not start.
        """
        self.stop()
        deadline = time.monotonic() + TIMEOUT
        while not self._launch():
            if time.monotonic() >= deadline:
                raise ServerFailed(f"{self._name}: port {self.port} is taken by another process")
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """End the process and remove its directory. No effect if that is done, or in a forked child."""
        if os.getpid() == self._owner:
            self.kill()
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self._name} at {self.host}:{self.port}>"

    def _start(self) -> None:
        """Start on a free port. Another process may take the port first, so try again with another one."""
        for _ in range(_ATTEMPTS):
            self.port = ports.free_port()
            if self._launch():
                return
        raise ServerFailed(f"{self._name}: other processes took {_ATTEMPTS} ports before it could bind them")

    def _launch(self) -> bool:
        """Start the process and wait until it answers; return false if its port is taken."""
        log = self.directory / "log"
        with log.open("wb") as output:
            self._process = process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,  # Ctrl-C in the terminal is for the tests only
                **self._popen_options(),
            )
        reaper.watch(process.pid, self.directory)
        eventually(
            lambda: self._answers() or not self.running,
            f"{self._name} answers",
            within=3 * TIMEOUT,
            every=_POLL_SECONDS,
        )
        if self.running:
            return True
        text = log.read_text(encoding="utf-8", errors="replace")
        if "Address already in use" in text:
            return False
        raise self._failure(process.returncode, text)

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        assert process is not None
        reaper.forget(process.pid)
        process.send_signal(number)
        try:
            process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ServerFailed(f"{self._name} did not end within {TIMEOUT:g} seconds of {number.name}") from None


def short_directory(*, for_another_user: bool = False) -> Path:
    """Make a directory whose path leaves room for that of a Unix socket, which some systems keep very short."""
    directory = Path(tempfile.mkdtemp(prefix="redicts-"))
    if for_another_user or len(os.fsencode(directory)) > _LONGEST_DIRECTORY:
        # Another user may have no access to the directory that TMPDIR names.
        directory.rmdir()
        directory = Path(tempfile.mkdtemp(prefix="redicts-", dir="/tmp"))
    return directory
