"""Redis servers of the tests, with passwords, users, TLS, persistence and replicas."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypedDict

from .certificate import Certificate, make_certificate
from .executables import Executable, find_executables
from .process import ServerFailed, ServerProcess, short_directory
from .resp import StreamEnded, Value, read_message, request
from .waiting import TIMEOUT, eventually

if TYPE_CHECKING:
    from typing_extensions import Unpack

_ADMIN: Final = "harness"


class TlsMissing(ServerFailed):
    """The executable was built without TLS."""


class RedisError(Exception):
    """The server answered a command of the tests with an error."""


class ServerOptions(TypedDict, total=False):
    """How a server differs from a plain one, which has no password, persistence, TLS or limit of memory."""

    password: str
    """The password of the default user (``requirepass``)."""
    acl: Sequence[str]
    """Users, each as in a ``user`` line of redis.conf: ``"reader on >secret ~* +@read"``."""
    append_only: bool
    """Persist with an append-only file, synced at every write, so that a restart finds the data."""
    max_memory: int
    """Bytes. The option ``maxmemory-policy`` says what happens when they are used up."""
    replica_of: RedisServer
    """The server to follow; the replica counts as started when its link is up."""
    tls: bool
    """Speak TLS on :attr:`RedisServer.port`, with the certificate :attr:`RedisServer.certificate`."""
    options: Mapping[str, str]
    """Further options of redis.conf: ``{"cluster-enabled": "yes"}``."""


class RedisServer(ServerProcess):
    """One Redis server, which runs until :meth:`close`.

    The tests talk to it through a Unix socket of its own, so they cannot reach another server by mistake, and a
    password, TLS or a fault proxy cannot lock them out.

    ``executable`` is what to run, by default the newest that :func:`find_executables` finds. Raises
    :class:`ServerMissing` if there is none, :class:`TlsMissing` if TLS is wanted and the executable was built without
    it, and :class:`ServerFailed` if the server does not start.
    """

    def __init__(self, executable: Executable | None = None, **options: Unpack[ServerOptions]) -> None:
        self.executable: Final = find_executables()[-1] if executable is None else executable
        super().__init__(self.executable, short_directory())
        self._options: Final = options
        self._admin_password: Final = secrets.token_hex(16)
        self._certificate: Certificate | None = None
        try:
            if options.get("tls"):
                self._certificate = make_certificate(self.directory)
            self._start()
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
    def certificate(self) -> Path | None:
        """The PEM file that clients of a server with TLS trust."""
        return self._certificate and self._certificate.certificate

    @property
    def socket_path(self) -> Path:
        """The Unix socket on which it listens in addition to the port."""
        return self.directory / "socket"

    def command(self, *arguments: str | bytes | int) -> Value:
        """Run one command on a connection of its own, as a user with all rights.

        Raises :class:`RedisError` if the server answers with an error, and :class:`OSError` or :class:`StreamEnded` if
        it does not run.
        """
        return run_command(self.socket_path, (_ADMIN, self._admin_password), arguments)

    def info(self, section: str) -> dict[str, str]:
        """Return one section of INFO."""
        text = self.command("INFO", section)
        assert isinstance(text, bytes)
        pairs = (line.partition(":") for line in text.decode().splitlines() if ":" in line)
        return {name: value for name, _, value in pairs}

    def flush(self) -> None:
        """Remove all data of all databases, and all that :meth:`forget` does, and end what is subscribed.

        The last command of a subscription that an earlier test has closed may not be carried out yet.
        """
        self.command("CLIENT", "KILL", "TYPE", "pubsub")
        self.command("FLUSHALL")
        self.forget()

    def forget(self) -> None:
        """Remove all cached scripts, and the libraries of functions where there are any."""
        self.command("SCRIPT", "FLUSH")
        with contextlib.suppress(RedisError):  # before 7.0
            self.command("FUNCTION", "FLUSH")

    def _command(self) -> Sequence[str | Path]:
        # Secrets stand in this file only, never in the process list.
        file = self.directory / "redis.conf"
        file.touch(0o600)
        file.write_text("".join(f"{line}\n" for line in self._configuration()), encoding="utf-8")
        return [self.executable.path, file]

    def _configuration(self) -> list[str]:
        options = self._options
        lines = [
            f"bind {self.host}",
            f"unixsocket {_quoted(str(self.socket_path))}",
            f"dir {_quoted(str(self.directory))}",
            "daemonize no",
            'save ""',
            "repl-diskless-sync-delay 0",
            f"user {_ADMIN} on >{self._admin_password} allkeys allchannels allcommands",
        ]
        if self._certificate is None:
            lines += [f"port {self.port}"]
        else:
            certificate, key = (_quoted(str(file)) for file in self._certificate)
            lines += ["port 0", f"tls-port {self.port}", "tls-auth-clients no"]
            lines += [f"tls-cert-file {certificate}", f"tls-key-file {key}", f"tls-ca-cert-file {certificate}"]
        if self.version >= (7, 0, 0):
            lines += ["enable-debug-command local"]
        if password := options.get("password"):
            lines += [f"requirepass {_quoted(password)}"]
        lines += [f"user {user}" for user in options.get("acl", ())]
        if options.get("append_only"):
            lines += ["appendonly yes", "appendfsync always"]
        if "max_memory" in options:
            lines += [f"maxmemory {options['max_memory']}"]
        if (primary := options.get("replica_of")) is not None:
            lines += [f"replicaof {primary.host} {primary.port}"]
            lines += [f"masteruser {_ADMIN}", f"masterauth {primary._admin_password}"]
            lines += ["tls-replication yes"] if primary.certificate else []
        return lines + [f"{name} {value}" for name, value in options.get("options", {}).items()]

    def _failure(self, status: int, log: str) -> ServerFailed:
        return TlsMissing(f"{self._name} was built without TLS") if "tls-port" in log else super()._failure(status, log)

    def _answers(self) -> bool:
        # The socket is bound after the port, so an answer there says that the port is this server's.
        try:
            return self.command("PING") == b"PONG"
        except (OSError, StreamEnded, RedisError):
            return False


def run_command(socket_path: Path, credentials: Sequence[str], arguments: Sequence[str | bytes | int]) -> Value:
    """Run one command on a new connection to a Unix socket; raises as :meth:`RedisServer.command` does."""
    with contextlib.ExitStack() as resources:
        link = resources.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        link.settimeout(TIMEOUT)
        link.connect(str(socket_path))
        stream = resources.enter_context(link.makefile("rb"))
        commands = [["AUTH", *credentials], arguments] if credentials else [arguments]
        link.sendall(b"".join(request(*command) for command in commands))
        for _ in commands:
            reply = read_message(stream)
            if reply.is_error:
                assert isinstance(reply.value, bytes)
                raise RedisError(reply.value.decode())
        return reply.value


class StartRedis(Protocol):
    """The fixture ``start_redis``: starts one more server of the version under test, which ends with the test."""

    def __call__(self, **options: Unpack[ServerOptions]) -> RedisServer: ...


def _quoted(text: str) -> str:
    """Quote a value for redis.conf."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'
