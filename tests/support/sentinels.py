"""A primary with replicas, and three Sentinels that watch them, for tests of failovers."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

from .executables import Executable, find_executables
from .process import ServerProcess, short_directory
from .resp import StreamEnded
from .servers import RedisError, RedisServer, run_command
from .waiting import TIMEOUT, eventually

if TYPE_CHECKING:
    from typing_extensions import Self

SERVICE: Final = "mymaster"
_REPLICATOR: Final = "replicator"
_DOWN_AFTER_MS: Final = 400
_OPTIONS: Final = {"repl-backlog-size": "16mb", "repl-timeout": "5", "min-replicas-max-lag": "2"}
_HASTE: Final = (
    *("info-period", 100, "ping-period", 100, "ask-period", 100, "publish-period", 200),
    *("tilt-period", 1000),
)
"""Makes Sentinels of Redis 7 look often, so that a failover takes less time.

A machine that halts all processes for two seconds makes each Sentinel start no failover for the ``tilt-period``, of
which the default is 30 seconds.
"""


class SentinelProcess(ServerProcess):
    """One Sentinel. It knows the others from the beginning, because they would take seconds to find each other.

    With ``tls``, it speaks TLS to clients and servers, with the certificate and key in that directory.
    """

    def __init__(self, executable: Executable, password: str | None = None, tls: Path | None = None) -> None:
        self.executable: Final = executable
        super().__init__(f"Sentinel of {executable}", short_directory())
        self._tls: Final = tls
        self._password: Final = password
        self.id: Final = secrets.token_hex(20)
        self._configuration: list[str] | None = None

    @property
    def address(self) -> str:
        """Where it listens, as settings have it."""
        return f"{self.host}:{self.port}"

    def configure(self, lines: Sequence[str]) -> None:
        """Start on a free port; ``lines`` say what to watch."""
        self._configuration = list(lines)
        self._start()

    def command(self, *arguments: str | bytes | int) -> object:
        """Run one command; raises as :meth:`RedisServer.command` does."""
        credentials = () if self._password is None else ("default", self._password)
        return run_command(self.directory / "socket", credentials, arguments)

    def primary(self) -> int:
        """Return the port of the server that this Sentinel names as the primary."""
        found = self.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        assert isinstance(found, list)
        return int(found[1])

    def state(self) -> dict[bytes, bytes]:
        """Return what it knows about the service."""
        found = self.command("SENTINEL", "MASTER", SERVICE)
        assert isinstance(found, list)
        return dict(zip(found[::2], found[1::2]))

    def _command(self) -> Sequence[str | Path]:
        file = self.directory / "sentinel.conf"
        if not file.exists():  # a Sentinel keeps there what it learns
            file.touch(0o600)
            lines = [
                f"bind {self.host}",
                f"unixsocket {self.directory / 'socket'}",
                f"dir {self.directory}",
                f"sentinel myid {self.id}",
                *([] if self._password is None else [f"requirepass {self._password}"]),
                *([] if self._password is None else [f"sentinel sentinel-pass {self._password}"]),
                *(self._configuration or []),
            ]
            file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        if self._tls is None:
            return [self.executable.path, file, "--sentinel", "--port", str(self.port)]
        own = {"cert-file": "certificate.pem", "key-file": "key.pem", "ca-cert-file": "certificate.pem"}
        options = [part for name, each in own.items() for part in (f"--tls-{name}", self._tls / each)]
        options += ["--tls-replication", "yes", "--tls-auth-clients", "no", "--tls-port", str(self.port)]
        return [self.executable.path, file, "--sentinel", "--port", "0", *options]

    def _answers(self) -> bool:
        try:
            return self.command("PING") == b"PONG"
        except (OSError, StreamEnded, RedisError):
            return False


class SentinelTrio:
    """One primary, two replicas and three Sentinels; ``with`` ends all of them.

    ``options`` are further lines of redis.conf for each server. A password is that of the Sentinels.
    """

    def __init__(
        self,
        executable: Executable | None = None,
        *,
        password: str | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        self.executable: Final = find_executables()[-1] if executable is None else executable
        self._stack = contextlib.ExitStack()
        secret = secrets.token_hex(16)
        same = {
            "acl": [f"{_REPLICATOR} on >{secret} ~* &* +@all"],
            "options": {"masteruser": _REPLICATOR, "masterauth": secret, **_OPTIONS, **(options or {})},
        }
        try:
            primary = self._stack.enter_context(RedisServer(self.executable, **same))  # type: ignore[arg-type]
            replicas = [
                self._stack.enter_context(RedisServer(self.executable, replica_of=primary, **same))  # type: ignore[arg-type]
                for _ in range(2)
            ]
            self.servers: Final = [primary, *replicas]
            self.sentinels: Final = [
                self._stack.enter_context(SentinelProcess(self.executable, password)) for _ in range(3)
            ]
            watch = [
                f"sentinel monitor {SERVICE} {primary.host} {primary.port} 2",
                f"sentinel auth-user {SERVICE} {_REPLICATOR}",
                f"sentinel auth-pass {SERVICE} {secret}",
                f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER_MS}",
                f"sentinel failover-timeout {SERVICE} 3000",
                f"sentinel parallel-syncs {SERVICE} 2",
                *[f"sentinel known-replica {SERVICE} {each.host} {each.port}" for each in replicas],
            ]
            for number, sentinel in enumerate(self.sentinels):
                known = [
                    f"sentinel known-sentinel {SERVICE} {other.host} {other.port} {other.id}"
                    for other in self.sentinels[:number]
                ]
                sentinel.configure([*watch, *known])
                with contextlib.suppress(RedisError):  # before 7.0
                    sentinel.command("SENTINEL", "DEBUG", *_HASTE)
            eventually(self._is_complete, "each Sentinel knows the others and the replicas")
        except BaseException:
            self.close()
            raise

    def _is_complete(self) -> bool:
        states = [sentinel.state() for sentinel in self.sentinels]
        return all(
            (state[b"num-other-sentinels"], state[b"num-slaves"], state[b"flags"]) == (b"2", b"2", b"master")
            for state in states
        )

    @property
    def configuration(self) -> dict[str, object]:
        """The settings of a client."""
        return {"backend": "redis", "sentinels": [each.address for each in self.sentinels], "service": SERVICE}

    @property
    def primary(self) -> RedisServer:
        """The server that the first running Sentinel names as the primary."""
        port = next(each for each in self.sentinels if each.running).primary()
        return next(each for each in self.servers if each.port == port)

    @property
    def replicas(self) -> list[RedisServer]:
        """The other servers."""
        primary = self.primary
        return [each for each in self.servers if each is not primary]

    def wait_until_agreed(self, other_than: RedisServer | None = None) -> float:
        """Wait until all running Sentinels name the same running primary; return when, by ``time.monotonic``.

        With ``other_than``, it is another server than this one.
        """

        def agreed() -> bool:
            ports = {each.primary() for each in self.sentinels if each.running}
            found = [each for each in self.servers if each.port in ports and each.running]
            if len(ports) != 1 or not found or found[0] is other_than:
                return False
            return _replication(found[0]).get("role") == "master"

        eventually(agreed, "the Sentinels agree on a primary", within=3 * TIMEOUT, every=0.02)
        return time.monotonic()

    def wait_until_whole(self) -> None:
        """Wait until both replicas follow the primary, and each Sentinel knows that."""

        def whole() -> bool:
            primary = self.primary
            replicas = [_replication(each) for each in self.servers if each is not primary]
            links = [(each.get("master_link_status"), each.get("master_port")) for each in replicas]
            return links == [("up", str(primary.port))] * 2 and self._is_complete()

        eventually(whole, "both replicas follow the primary", within=3 * TIMEOUT, every=0.05)

    def restore(self) -> None:
        """Start what has ended, resume what is paused, and wait until the trio is whole."""
        for each in (*self.servers, *self.sentinels):
            if each.running:
                each.resume()
            else:
                each.restart()
        self.wait_until_agreed()
        self.wait_until_whole()

    def fail_over(self) -> RedisServer:
        """Have the Sentinels promote a replica, and return it."""
        before = self.primary

        def moved() -> bool:
            # One may be under way, no replica may be good enough yet, and a failover may be given up.
            with contextlib.suppress(RedisError):
                if self.primary is before:
                    self.sentinels[0].command("SENTINEL", "FAILOVER", SERVICE)
            return self.primary is not before

        eventually(moved, "the Sentinels promote a replica", within=3 * TIMEOUT, every=0.1)
        self.wait_until_agreed(other_than=before)
        return self.primary

    def close(self) -> None:
        """End all processes."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _replication(server: RedisServer) -> dict[str, str]:
    """Return that section of INFO; nothing if a Sentinel has just closed all connections of the server."""
    with contextlib.suppress(OSError, StreamEnded):
        return server.info("replication")
    return {}
