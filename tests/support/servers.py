"""Redis servers of the tests' own: each on a free loopback port, in its own directory, and never left behind."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, TypedDict

from . import ports, reaper
from .certificate import Certificate, make_certificate
from .executables import Executable, find_executables
from .resp import Message, StreamEnded, Value, read_message, request
from .waiting import TIMEOUT, eventually

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

_ATTEMPTS: Final = 10
_POLL_SECONDS: Final = 0.005
_LONGEST_SOCKET_PATH: Final = 100  # bytes; the systems allow 103 to 107
_HARNESS_USER: Final = "harness"


class ServerFailed(Exception):
    """The server did not start, or ended when it should not; the text has the end of its log."""


class TlsMissing(ServerFailed):
    """The executable was built without TLS."""


class RedisError(Exception):
    """The server answered a command of the tests' own with an error."""


class ServerOptions(TypedDict, total=False):
    """How a server shall differ from a plain one: no password, no persistence, no TLS, no limit of memory."""

    password: str
    """The password of the default user (``requirepass``)."""
    acl: Sequence[str]
    """Users, each as in a ``user`` line of redis.conf: ``"reader on >secret ~* +@read"``."""
    append_only: bool
    """Persist with an append-only file, synced at every write, so that a restart finds the data."""
    max_memory: int
    """Bytes; what happens then is the option ``maxmemory-policy``."""
    replica_of: RedisServer
    """The server to follow; the replica counts as started when its link is up."""
    tls: bool
    """Speak TLS on :attr:`RedisServer.port`, with the certificate :attr:`RedisServer.certificate`."""
    options: Mapping[str, str]
    """Anything else, as in redis.conf: ``{"cluster-enabled": "yes"}``."""


class RedisServer:
    """One server process. Made, it runs; ``with RedisServer() as server`` ends it at the end of the block.

    The harness talks to it through a Unix socket of its own, so it can neither be mistaken for another server nor be
    locked out by a password, TLS or a full proxy.

    ``executable`` is what to run, by default the newest that :func:`find_executables` finds; for the options see
    :class:`ServerOptions`. Raises :class:`ServerMissing` if no executable is given and none is found,
    :class:`TlsMissing` if TLS is asked for and the executable was built without it, and :class:`ServerFailed` if the
    server does not start.
    """

    host: Final = ports.LOOPBACK

    def __init__(self, executable: Executable | None = None, **options: Unpack[ServerOptions]) -> None:
        self.executable: Final = find_executables()[-1] if executable is None else executable
        self._options: Final = options
        self._admin_password: Final = secrets.token_hex(16)
        self.directory: Final = _short_directory()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner: Final = os.getpid()
        self.certificate: Path | None = None
        """The PEM file that clients of a server with TLS shall trust."""
        self.port = 0
        """The TCP port, the same over restarts."""
        try:
            made = make_certificate(self.directory) if options.get("tls") else None
            self.certificate = made and made.certificate
            self._start_somewhere(made)
            if options.get("replica_of") is not None:
                eventually(lambda: self.info("replication")["master_link_status"] == "up", "the replica's link is up")
        except BaseException:
            self.close()
            raise

    @property
    def version(self) -> tuple[int, int, int]:
        """The version, to compare: ``server.version >= (7, 0, 0)``."""
        return self.executable.version

    @property
    def socket_path(self) -> Path:
        """The Unix socket at which it listens beside the port."""
        return self.directory / "socket"

    @property
    def pid(self) -> int:
        """The id of the server's process, the last one if it has ended."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives; a paused one does."""
        if self._process is None:
            return False
        if self._process.poll() is None:
            return True
        reaper.forget(self._process.pid)
        return False

    def command(self, *words: str | bytes | int) -> Value:
        """Run one command on a connection of its own, as a user who may do everything.

        Raises :class:`RedisError` if the server answers with an error, and :class:`OSError` or :class:`StreamEnded` if
        it does not run.
        """
        reply = self._exchange(words)
        if reply.is_error:
            assert isinstance(reply.value, bytes)
            raise RedisError(reply.value.decode())
        return reply.value

    def info(self, section: str) -> dict[str, str]:
        """Return one section of INFO."""
        text = self.command("INFO", section)
        assert isinstance(text, bytes)
        pairs = (line.partition(":") for line in text.decode().splitlines() if ":" in line)
        return {name: value for name, _, value in pairs}

    def flush(self) -> None:
        """Remove all data of all databases, and all cached scripts."""
        self.command("FLUSHALL")
        self.command("SCRIPT", "FLUSH")

    def pause(self) -> None:
        """Stop it in its tracks (SIGSTOP): the kernel still accepts connections and bytes, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def resume(self) -> None:
        """Let a paused server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it in an orderly way (SIGTERM): what an append-only file keeps is kept. No effect if it has ended."""
        if not self.running:
            return
        os.kill(self.pid, signal.SIGCONT)
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash does. No effect if it has ended."""
        if self.running:
            self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it if it runs, and start it again: the same port, directory and options.

        Raises :class:`ServerFailed` if it does not start.
        """
        self.stop()
        deadline = time.monotonic() + TIMEOUT
        while not self._launch():
            if time.monotonic() >= deadline:
                raise ServerFailed(f"{self.executable}: port {self.port} is taken by another process")
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """End it for good and remove its directory. No effect if that is done, or in a forked child."""
        if os.getpid() == self._owner:
            self.kill()
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.executable} at {self.host}:{self.port}>"

    def _start_somewhere(self, certificate: Certificate | None) -> None:
        """Start on a free port; another process may take the port first, so try again with another one."""
        for _ in range(_ATTEMPTS):
            self.port = ports.free_port()
            self._write_configuration(certificate)
            if self._launch():
                return
        raise ServerFailed(f"{self.executable}: {_ATTEMPTS} ports were taken by others before it could bind them")

    def _write_configuration(self, certificate: Certificate | None) -> None:
        path = self.directory / "redis.conf"
        path.write_text("".join(f"{line}\n" for line in self._configuration(certificate)), encoding="utf-8")
        path.chmod(0o600)

    def _configuration(self, certificate: Certificate | None) -> list[str]:
        """Return the lines of redis.conf. Secrets stand in this file only, never in the process list."""
        options = self._options
        lines = [
            f"bind {self.host}",
            f"unixsocket {_quoted(str(self.socket_path))}",
            f"dir {_quoted(str(self.directory))}",
            "daemonize no",
            'save ""',
            "repl-diskless-sync-delay 0",
            f"user {_HARNESS_USER} on >{self._admin_password} allkeys allchannels allcommands",
        ]
        if certificate is None:
            lines += [f"port {self.port}"]
        else:
            lines += ["port 0", f"tls-port {self.port}", "tls-auth-clients no"]
            lines += [f"tls-cert-file {_quoted(str(certificate.certificate))}"]
            lines += [f"tls-key-file {_quoted(str(certificate.key))}"]
            lines += [f"tls-ca-cert-file {_quoted(str(certificate.certificate))}"]
        if self.version >= (7, 0, 0):
            lines += ["enable-debug-command local"]
        if password := options.get("password"):
            lines += [f"requirepass {_quoted(password)}"]
        lines += [f"user {user}" for user in options.get("acl", ())]
        if options.get("append_only"):
            lines += ["appendonly yes", "appendfsync always"]
        if "max_memory" in options:
            lines += [f"maxmemory {options['max_memory']}"]
        if (master := options.get("replica_of")) is not None:
            lines += [f"replicaof {master.host} {master.port}"]
            lines += [f"masteruser {_HARNESS_USER}", f"masterauth {master._admin_password}"]
            lines += ["tls-replication yes"] if master.certificate else []
        return lines + [f"{name} {value}" for name, value in options.get("options", {}).items()]

    def _launch(self) -> bool:
        """Start the process and wait until it answers; return false if its port is taken."""
        log = self.directory / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [self.executable.path, self.directory / "redis.conf"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,  # so that Ctrl-C in the terminal reaches the tests only
            )
        self._process = process
        reaper.watch(process.pid, self.directory)
        # The socket is bound after the port, so an answer there says that the port is this server's.
        eventually(lambda: self._answers() or not self.running, f"{self.executable} answers", every=_POLL_SECONDS)
        if self.running:
            return True
        reaper.forget(process.pid)
        said = log.read_text(encoding="utf-8", errors="replace")
        if "Address already in use" in said:
            return False
        tail = said[-2000:].strip()
        if "tls-port" in said:
            raise TlsMissing(f"{self.executable} was built without TLS")
        raise ServerFailed(f"{self.executable} ended with status {process.returncode}:\n{tail}")

    def _answers(self) -> bool:
        try:
            return self._exchange(["PING"]).value == b"PONG"
        except (OSError, StreamEnded):
            return False

    def _exchange(self, words: Sequence[str | bytes | int]) -> Message:
        with contextlib.ExitStack() as resources:
            link = resources.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            link.settimeout(TIMEOUT)
            link.connect(str(self.socket_path))
            stream = resources.enter_context(link.makefile("rb"))
            link.sendall(request("AUTH", _HARNESS_USER, self._admin_password) + request(*words))
            admitted = read_message(stream)
            return admitted if admitted.is_error else read_message(stream)

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
            raise ServerFailed(f"{self.executable} did not end within {TIMEOUT:g} seconds of {number.name}") from None


class StartRedis(Protocol):
    """What the fixture ``start_redis`` is: starts one more server of the version under test, which ends with it."""

    def __call__(self, **options: Unpack[ServerOptions]) -> RedisServer: ...


def _short_directory() -> Path:
    """Make a directory whose path leaves room for that of a Unix socket, which some systems keep very short."""
    directory = tempfile.mkdtemp(prefix="redicts-")
    if len(os.fsencode(directory)) > _LONGEST_SOCKET_PATH - len("/socket"):
        os.rmdir(directory)
        directory = tempfile.mkdtemp(prefix="redicts-", dir="/tmp")
    return Path(directory)


def _quoted(text: str) -> str:
    """Quote a value for redis.conf."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'
