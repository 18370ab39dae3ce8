"""``lock``: run a command while a lock is held, which is renewed as long as the command runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import click

from redicts.api.lock import Lock
from redicts.cli import exits
from redicts.cli.numbers import Seconds
from redicts.cli.output import tell
from redicts.cli.stores import PATH, Store, open_store, store_options
from redicts.cli.stores import chosen as chosen_store
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render
from redicts.errors import RedictsError

TOKEN: Final = "REDICTS_LOCK_TOKEN"  # noqa: S105  (a name)
"""The variable in which the command gets the fencing token of its lock."""

LOCKED_PATH: Final = "REDICTS_LOCK_PATH"
"""The variable in which the command gets the locked path."""

_NOT_EXECUTABLE: Final = 126
_NOT_FOUND: Final = 127
_FROM_TERMINAL: Final = ("SIGINT", "SIGQUIT")
"""Signals that a terminal sends to the command too."""
_LOOK_SECS: Final = 0.05
_PASSED_ON: Final = (*_FROM_TERMINAL, "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")


@click.command("lock", short_help="Run a command while a lock is held.")
@click.argument("path", type=PATH)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option("--also", type=PATH, multiple=True, metavar="PATH", help="Lock this path too, all or none; repeatable.")
@click.option("--timeout", type=Seconds(0), metavar="SECONDS", help="Wait no longer for the lock. Default: no limit.")
@click.option(
    "--lease",
    type=Seconds(1),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="The TTL of the lock, renewed meanwhile.",
)
@click.option("--shared", is_flag=True, help="Allow other shared locks.")
@click.option(
    "--on-loss",
    type=click.Choice(["kill", "warn"]),
    default="kill",
    show_default=True,
    help="What to do if the lock is lost while the command runs.",
)
@click.option(
    "--grace",
    type=Seconds(0),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long after SIGTERM a command that lost its lock is killed.",
)
@store_options
@click.pass_context
def lock(
    ctx: click.Context,
    path: Path,
    command: tuple[str, ...],
    also: tuple[Path, ...],
    timeout: float | None,
    lease: float,
    shared: bool,
    on_loss: str,
    grace: float,
    store: str | None,
    database: str | None,
) -> int:
    """Run COMMAND while the lock on PATH is held, as flock does.

    The command waits for the lock, and the lock is renewed while it runs. The status is that of COMMAND, 128 and the
    number of the signal that ended it, or 4 if the lock was not free in time, or was lost and COMMAND ended for that.
    COMMAND gets the fencing token in REDICTS_LOCK_TOKEN and PATH in REDICTS_LOCK_PATH. Signals are passed on to it, and
    to the processes that it started unless they share a terminal with this one.
    """
    found: Store = open_store(*chosen_store(ctx, store, database))
    running = _Running(described(path), grace if on_loss == "kill" else None)
    with found.database as opened:
        held = opened.lock(
            path,
            *also,
            expire_timeout=lease,
            acquire_timeout=timeout,
            shared=shared,
            renew=True,
            on_loss=running.lost,
        )
        held.acquire()
        try:
            status = running.run(command, {**os.environ, TOKEN: str(held.token), LOCKED_PATH: render(path)})
        finally:
            try:
                held.release()
            except RedictsError as error:  # the status of the command is worth more, and the lock expires
                tell(f"the lock on {described(path)} could not be released: {error}")
    return exits.LOCKED if running.is_ended else status


class _Running:
    """The command, and what happens to it while it runs: signals, and the loss of its lock.

    It is in a session of its own, so that its whole process group gets signals: a shell does not pass them on to what
    it runs. In the foreground of a terminal it stays in the group of this program, to which the terminal belongs, and
    perhaps the other programs of a pipe. There the terminal signals all of them, and this program only its own child.
    """

    def __init__(self, path: str, grace: float | None) -> None:
        self._path = path
        self._grace = grace
        self._process: subprocess.Popen[bytes] | None = None
        self._has_started = threading.Event()
        self._has_ended = threading.Event()
        self._has_group = not _has_terminal()
        self.is_ended = False
        """Whether the command was told to end because its lock was lost."""

    def run(self, command: tuple[str, ...], variables: dict[str, str]) -> int:
        """Run the command to its end, and return its status as a shell does."""
        with self._passing_signals():
            try:
                self._process = subprocess.Popen(  # noqa: S603  (what the user asks for)
                    command, env=variables, start_new_session=self._has_group
                )
            except OSError as error:
                tell(f"{command[0]}: {error.strerror or error}")
                return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
            self._has_started.set()
            status = self._process.wait()
            if self.is_ended and self._has_group:
                self._has_ended.wait()  # what it started may still run
        return status if status >= 0 else 128 - status

    @contextmanager
    def _passing_signals(self) -> Iterator[None]:
        """Pass signals on to the command. What comes before it has started ends this program as usual."""
        numbers = [getattr(signal, name) for name in _PASSED_ON if hasattr(signal, name)]
        numbers += [signal.SIGTSTP] if self._has_group else []
        before = {number: signal.getsignal(number) for number in numbers}
        try:
            for number in numbers:
                if before[number] is not signal.SIG_IGN:
                    signal.signal(number, self._pass_on)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _pass_on(self, number: int, _: object) -> None:
        if self._process is None:
            raise KeyboardInterrupt
        if number == signal.SIGTSTP:  # while this program stands still, nothing renews the lock
            self._send(signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
            self._send(signal.SIGCONT)
        elif self._has_group or signal.Signals(number).name not in _FROM_TERMINAL or not _has_terminal():
            self._send(number)

    def lost(self, _: Lock) -> None:
        """Say that the lock is lost, and end the command if that is asked for. Called in a thread of its own."""
        if self._grace is None:
            tell(f"the lock on {self._path} is lost, and the command goes on")
            return
        if self._process is not None and self._process.poll() is not None:
            return
        self.is_ended = True
        try:
            self._end()
        finally:
            self._has_ended.set()

    def _end(self) -> None:
        """End the command, and what it started, at last by SIGKILL."""
        tell(f"the lock on {self._path} is lost; the command is told to end")
        assert self._grace is not None
        self._has_started.wait(self._grace + 1)
        self._send(signal.SIGTERM)
        deadline = time.monotonic() + self._grace
        while self._is_running() and time.monotonic() < deadline:
            time.sleep(_LOOK_SECS)
        self._send(signal.SIGKILL)

    def _is_running(self) -> bool:
        """Return whether the command, or a process of its group, has not ended."""
        if self._process is None:
            return False
        is_running = self._process.poll() is None  # which also lets the group end
        if not self._has_group:
            return is_running
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # of a process that runs as somebody else
            pass
        return True

    def _send(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                if self._has_group:
                    os.killpg(self._process.pid, number)
                else:
                    self._process.send_signal(number)


def _has_terminal() -> bool:
    """Tell whether this program and its command are what a terminal sends its signals to."""
    try:
        return os.tcgetpgrp(sys.__stdin__.fileno() if sys.__stdin__ is not None else 0) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False
