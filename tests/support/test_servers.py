"""Rules of the tests' Redis servers: which executable runs, how servers start and end, and that none is left."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import executables, ports
from tests.support.executables import Executable, ServerMissing, find_executables
from tests.support.process import ServerFailed
from tests.support.resp import request
from tests.support.servers import RedisError, RedisServer, StartRedis, TlsMissing
from tests.support.waiting import eventually


def ask(server: RedisServer, *words: str) -> bytes:
    """Send one request to the port, as an ordinary client, and return the first bytes of the reply."""
    with socket.create_connection((server.host, server.port), 10) as connection:
        connection.sendall(request(*words))
        return connection.recv(4096)


def is_running(pid: int) -> bool:
    """Tell whether a process runs. A zombie, which some containers keep, does not."""
    try:
        os.kill(pid, 0)
        status = Path("/proc", str(pid), "stat").read_text(encoding="utf-8")
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # it just ended, or there is no /proc and no zombie
        return not Path("/proc/self").exists()
    return status.rpartition(")")[2].split()[0] != "Z"


def arguments(pid: int) -> bytes:
    """Return the command line of a process as any user can read it."""
    line = Path("/proc", str(pid), "cmdline")
    if line.exists():
        return line.read_bytes()
    return subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, check=True).stdout


@pytest.fixture
def fresh_search(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Make each search for executables a new one."""
    monkeypatch.setattr(executables, "find_executables", find_executables.__wrapped__)
    return monkeypatch


def test_the_environment_variable_decides_alone(fresh_search: pytest.MonkeyPatch, redis_executable: Executable) -> None:
    """If REDICTS_TEST_REDIS is set, only the executables that it names are used."""
    fresh_search.setenv(executables.VARIABLE, str(redis_executable.path))
    assert executables.find_executables() == (redis_executable,)


def test_two_executables_of_one_version_count_once(
    fresh_search: pytest.MonkeyPatch, redis_executable: Executable, tmp_path: Path
) -> None:
    """The same server found twice runs once."""
    twin = tmp_path / "valkey-server"
    twin.symlink_to(redis_executable.path)
    fresh_search.setenv(executables.VARIABLE, os.pathsep.join([str(redis_executable.path), str(twin)]))
    assert executables.find_executables() == (redis_executable,)


def test_every_directory_of_the_path_is_searched(fresh_search: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server in the first directory of PATH does not hide one of another version in a later directory."""
    for directory, version in (("first", "7.8.1"), ("second", "7.8.2")):
        script = tmp_path / directory / "redis-server"
        script.parent.mkdir()
        script.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0'\n")
        script.chmod(0o755)
    fresh_search.delenv(executables.VARIABLE, raising=False)
    fresh_search.setenv("PATH", os.pathsep.join([str(tmp_path / "first"), str(tmp_path / "second")]))
    assert {(7, 8, 1), (7, 8, 2)} <= {found.version for found in executables.find_executables()}


@pytest.mark.parametrize("listed", ["", "/nowhere/redis-server", sys.executable])
def test_a_missing_server_is_an_error_with_the_remedy(fresh_search: pytest.MonkeyPatch, listed: str) -> None:
    """The error says what to install or set."""
    fresh_search.setenv(executables.VARIABLE, listed)
    with pytest.raises(ServerMissing, match=f"install a Redis server.*{executables.VARIABLE}"):
        executables.find_executables()


def test_a_server_answers_at_its_port_and_its_socket(redis_server: RedisServer) -> None:
    """A new server runs on loopback, in the version of its executable."""
    assert ask(redis_server, "PING") == b"+PONG\r\n"
    assert redis_server.socket_path.is_socket()
    stated = redis_server.info("server")
    assert stated["process_id"] == str(redis_server.pid)
    if redis_server.executable.flavour == "redis":
        assert stated["redis_version"] == ".".join(map(str, redis_server.version))


def test_flush_empties_a_server(redis_server: RedisServer) -> None:
    """It removes the data of all databases and the cached scripts."""
    digest = redis_server.command("SCRIPT", "LOAD", "return 1")
    assert isinstance(digest, bytes)
    redis_server.command("EVAL", "redis.call('SELECT', 3) redis.call('SET', 'a', 1)", "0")
    assert redis_server.info("keyspace")
    redis_server.flush()
    assert not redis_server.info("keyspace")
    assert redis_server.command("SCRIPT", "EXISTS", digest) == [0]


def test_a_port_that_is_taken_is_given_up(
    start_redis: StartRedis, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another process takes the free port first, the server starts on another port."""
    candidates = [redis_server.port, ports.free_port()]
    monkeypatch.setattr(ports, "free_port", lambda: candidates.pop(0))
    server = start_redis()
    assert server.port != redis_server.port
    assert not candidates
    assert server.info("server")["process_id"] == str(server.pid)


def test_a_restart_keeps_the_port_and_forgets_the_data(start_redis: StartRedis) -> None:
    """By default nothing is persisted."""
    server = start_redis()
    port, pid = server.port, server.pid
    server.command("SET", "a", "1")
    server.restart()
    assert (server.port, server.pid != pid) == (port, True)
    assert ask(server, "GET", "a") == b"$-1\r\n"


@pytest.mark.parametrize("crash", [False, True], ids=["stop", "kill"])
def test_an_append_only_file_keeps_the_data(start_redis: StartRedis, crash: bool) -> None:
    """With append_only, acknowledged writes survive a stop and a crash."""
    server = start_redis(append_only=True)
    server.command("SET", "a", "1")
    (server.kill if crash else server.stop)()
    server.restart()
    assert ask(server, "GET", "a") == b"$1\r\n1\r\n"


def test_a_killed_server_is_noticed(start_redis: StartRedis) -> None:
    """After kill(), and after a crash, the server does not count as running."""
    server = start_redis()
    server.kill()
    assert not server.running
    with pytest.raises(ConnectionRefusedError):
        ask(server, "PING")
    server.restart()
    os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: not server.running, "the crash is noticed")


def test_a_paused_server_answers_when_it_is_resumed(start_redis: StartRedis) -> None:
    """While paused it accepts bytes and answers nothing; it can be stopped."""
    server = start_redis()
    server.pause()
    with socket.create_connection((server.host, server.port), 10) as connection:
        connection.sendall(request("PING"))
        connection.settimeout(0.05)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        server.resume()
        connection.settimeout(10)
        assert connection.recv(100) == b"+PONG\r\n"
    server.pause()
    server.stop()
    assert not server.running


def test_a_password_is_required_and_not_shown(start_redis: StartRedis) -> None:
    """The password appears neither in the process list nor in the repr."""
    server = start_redis(password='correct "horse')
    assert ask(server, "GET", "a").startswith(b"-NOAUTH")
    with socket.create_connection((server.host, server.port), 10) as connection:
        connection.sendall(request("AUTH", 'correct "horse'))
        assert connection.recv(100) == b"+OK\r\n"
    assert "horse" not in repr(server)
    listed = arguments(server.pid)
    assert b"server" in listed
    assert b"horse" not in listed


def test_acl_limits_users(start_redis: StartRedis) -> None:
    """A user has the rights of its acl line, and the tests have all rights."""
    server = start_redis(acl=["default off", "reader on >secret ~* +get"])
    with socket.create_connection((server.host, server.port), 10) as connection:
        connection.sendall(request("AUTH", "reader", "secret") + request("SET", "a", "1"))
        eventually(lambda: b"NOPERM" in connection.recv(4096), "the user may not write")
    server.command("SET", "a", "1")


def test_max_memory_limits_memory(start_redis: StartRedis) -> None:
    """With the default policy, a write that needs more is refused."""
    server = start_redis(max_memory=100_000)
    with pytest.raises(RedisError, match="OOM"):
        server.command("SET", "a", "x" * 1_000_000)


def test_a_replica_follows(start_redis: StartRedis) -> None:
    """replica_of starts a replica whose link is up, also of a server with a password."""
    primary = start_redis(password="secret")
    replica = start_redis(replica_of=primary)
    primary.command("SET", "a", "1")
    eventually(lambda: replica.command("GET", "a") == b"1", "the write reaches the replica")


def test_other_options_go_to_redis_conf(start_redis: StartRedis) -> None:
    """``options`` takes any option of the server."""
    assert start_redis(options={"cluster-enabled": "yes"}).info("cluster")["cluster_enabled"] == "1"


def test_tls_uses_a_certificate_that_clients_can_trust(start_redis: StartRedis) -> None:
    """A client that trusts the certificate gets answers; an executable without TLS raises TlsMissing."""
    try:
        server = start_redis(tls=True)
    except TlsMissing as missing:
        assert "built without TLS" in str(missing)  # noqa: PT017
        return
    context = ssl.create_default_context(cafile=server.certificate)
    with (
        socket.create_connection((server.host, server.port), 10) as connection,
        context.wrap_socket(connection, server_hostname="localhost") as secured,
    ):
        secured.sendall(request("PING"))
        assert secured.recv(100) == b"+PONG\r\n"


def test_a_server_that_cannot_start_says_why(redis_executable: Executable) -> None:
    """The error has the server's output."""
    with pytest.raises(ServerFailed, match="no-such-option"):
        RedisServer(redis_executable, options={"no-such-option": "1"})


def test_close_ends_the_process_and_removes_its_directory(redis_executable: Executable) -> None:
    """The block closes the server; closing again has no effect."""
    with RedisServer(redis_executable) as server:
        assert server.directory.exists()
    server.close()
    assert not is_running(server.pid)
    assert not server.directory.exists()


_PARENT = """
import os, signal, sys
from pathlib import Path
from tests.support.executables import identify
from tests.support.servers import RedisServer

server = RedisServer(identify(Path(sys.argv[1])))
print(server.pid, server.directory, flush=True)
end = sys.argv[2]
if end == "a forked child ends first":
    if os.fork() == 0:
        server.close()
        sys.exit()
    os.wait()
    assert server.command("PING") == b"PONG", "the server outlives the child"
if end == "killed, outlived by a forked child" and os.fork() == 0:
    sys.stdin.read()
    sys.exit()
if end.startswith("killed"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    "end", ["left running", "killed", "a forked child ends first", "killed, outlived by a forked child"]
)
def test_servers_end_with_the_test_process(redis_executable: Executable, end: str) -> None:
    """However the test process ends, its servers end, and their directories are removed."""
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(redis_executable.path), end],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid, directory = parent.stdout.readline().split()
        assert parent.wait(60) == (-signal.SIGKILL if end.startswith("killed") else 0)
        eventually(lambda: not is_running(int(pid)), "the server ends")
        eventually(lambda: not Path(directory).exists(), "its directory is removed")
