"""PostgreSQL servers of the tests' own: each on a free loopback port, in its own directory, and never left behind.

Servers that are already running are never used; only executables are looked for. PostgreSQL refuses to run as root, so
where the tests do, the server runs as the user ``postgres`` or ``nobody``.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from . import ports, reaper
from .executables import ServerMissing
from .waiting import TIMEOUT, eventually

if TYPE_CHECKING:
    from typing_extensions import Self

VARIABLE: Final = "REDICTS_TEST_POSTGRES"
"""Names the environment variable that holds a directory with PostgreSQL's executables; used alone if it is set."""

REMEDY: Final = (
    "install PostgreSQL's server (Debian: apt-get install postgresql; macOS: brew install postgresql), "
    f"or set {VARIABLE} to the directory of its executables initdb and postgres"
)

_PLACES: Final = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
_ATTEMPTS: Final = 10
_USERS: Final = ("postgres", "nobody")
_LONGEST_SOCKET_DIRECTORY: Final = 80  # bytes; the systems allow 103 to 107 for the socket in it


class PostgresExecutables(NamedTuple):
    """The directory of one version's executables."""

    directory: Path
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"postgresql-{'.'.join(map(str, self.version))}"


class PostgresFailed(Exception):
    """The server did not start, or ended when it should not; the text has the end of its log."""


def find_postgres() -> PostgresExecutables:
    """Return the newest version found. Raises :class:`ServerMissing` if there is none."""
    listed = os.environ.get(VARIABLE)
    found = [identified for place in _candidates(listed) if (identified := _identify(place)) is not None]
    if not found:
        where = "no PostgreSQL server found" if listed is None else f"{listed} holds no PostgreSQL server that runs"
        raise ServerMissing(f"{where}: {REMEDY}")
    return max(found, key=lambda each: each.version)


def _candidates(listed: str | None) -> Iterator[Path]:
    if listed is not None:
        yield Path(listed)
        return
    if on_path := shutil.which("initdb"):
        yield Path(os.path.realpath(on_path)).parent
    for pattern in _PLACES:
        yield from Path("/").glob(pattern[1:])


def _identify(directory: Path) -> PostgresExecutables | None:
    if not (directory / "initdb").exists():
        return None
    try:
        said = subprocess.run([directory / "postgres", "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return None
    match = re.search(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?", said)
    return match and PostgresExecutables(directory, tuple(int(part) for part in match.groups() if part))


class PostgresServer:
    """One server process, with a superuser ``redicts`` and an empty database of that name.

    Made, it runs; ``with PostgresServer() as server`` ends it at the end of the block. What it writes is not forced to
    the disk, which the tests have no use for. Raises :class:`ServerMissing` if there are no executables, and
    :class:`PostgresFailed` if it does not start.
    """

    host: Final = ports.LOOPBACK
    user: Final = "redicts"
    dbname: Final = "redicts"

    def __init__(self, executables: PostgresExecutables | None = None) -> None:
        self.executables: Final = find_postgres() if executables is None else executables
        self.password: Final = secrets.token_hex(8)
        self.directory: Final = _directory_of(_user())
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._owner: Final = os.getpid()
        try:
            self._make_cluster()
            self._start_somewhere()
            self.sql(f"CREATE DATABASE {self.dbname}", dbname="postgres")
        except BaseException:
            self.close()
            raise

    @property
    def settings(self) -> dict[str, Any]:
        """What the backend needs to know."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.dbname,
        }

    @property
    def pid(self) -> int:
        """The id of the server's process, the last one if it has ended."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process TTLs."""
        return self._process is not None and self._process.poll() is None

    def sql(self, statement: str, *, dbname: str = dbname) -> str:
        """Execute statements with ``psql``, over the Unix socket; return what they print, unaligned.

        Raises :class:`PostgresFailed` with what the server answers if one of them fails.
        """
        command = [str(self.executables.directory / "psql"), "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]
        command += ["-h", str(self.directory), "-p", str(self.port), "-U", self.user, "-d", dbname, "-c", statement]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PostgresFailed(done.stderr.strip())
        printed: str = done.stdout
        return printed.strip()

    def kill(self) -> None:
        """End it at once, as a crash does. No effect if it has ended."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """End it in an orderly way, without waiting for clients. No effect if it has ended."""
        self._end(signal.SIGINT)

    def restart(self) -> None:
        """Stop it if it runs, and start it again on the same port and data."""
        self.stop()
        if not self._launch():
            raise PostgresFailed(f"{self.executables}: port {self.port} is taken by another process")

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
        return f"<{self.executables} at {self.host}:{self.port}>"

    def _make_cluster(self) -> None:
        password = self.directory / "password"
        password.write_text(self.password, encoding="ascii")
        _give(password, _user())
        command = [
            str(self.executables.directory / "initdb"),
            "-D",
            str(self.directory / "data"),
            "-U",
            self.user,
            "-E",
            "UTF8",
        ]
        command += ["--locale=C", "--no-sync", "-A", "scram-sha-256", "--auth-local=trust", f"--pwfile={password}"]
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            check=False,
            **_as_user(),
        )
        password.unlink()
        if done.returncode:
            raise PostgresFailed(f"initdb failed:\n{done.stdout.decode(errors='replace')[-2000:]}")

    def _start_somewhere(self) -> None:
        """Start on a free port; another process may take the port first, so try again with another one."""
        for _ in range(_ATTEMPTS):
            self.port = ports.free_port()
            if self._launch():
                return
        raise PostgresFailed(f"{self.executables}: {_ATTEMPTS} ports were taken by others before it could bind them")

    def _options(self) -> Sequence[str]:
        chosen = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": self.directory,
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "lc_messages": "C",
        }
        return [word for name, value in chosen.items() for word in ("-c", f"{name}={value}")]

    def _launch(self) -> bool:
        """Start the process and wait until it answers; return false if its port is taken."""
        log = self.directory / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [self.executables.directory / "postgres", "-D", self.directory / "data", *self._options()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,  # so that Ctrl-C in the terminal reaches the tests only
                **_as_user(),
            )
        self._process = process
        reaper.watch(process.pid, self.directory)
        eventually(lambda: self._answers() or not self.running, f"{self.executables} answers", within=3 * TIMEOUT)
        if self.running:
            return True
        reaper.forget(process.pid)
        said = log.read_text(encoding="utf-8", errors="replace")
        if "Address already in use" in said:
            return False
        raise PostgresFailed(f"{self.executables} ended with status {process.returncode}:\n{said[-2000:].strip()}")

    def _answers(self) -> bool:
        with contextlib.suppress(PostgresFailed):
            return self.sql("SELECT 1", dbname="postgres") == "1"
        return False

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        reaper.forget(process.pid)
        process.send_signal(number)
        try:
            process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise PostgresFailed(f"{self.executables} did not end within {TIMEOUT:g} seconds") from None


def _user() -> pwd.struct_passwd | None:
    """Return the user as whom the server is to run, or ``None`` for the one who runs the tests."""
    if os.geteuid() != 0:
        return None
    for name in _USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServerMissing(f"PostgreSQL refuses to run as root, and there is none of the users {', '.join(_USERS)}")


def _as_user() -> dict[str, Any]:
    user = _user()
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _give(path: Path, user: pwd.struct_passwd | None) -> None:
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid)


def _directory_of(user: pwd.struct_passwd | None) -> Path:
    """Make a directory that the server's user can use, with a path short enough for a Unix socket in it."""
    directory = Path(tempfile.mkdtemp(prefix="redicts-"))
    if user is not None or len(os.fsencode(directory)) > _LONGEST_SOCKET_DIRECTORY:
        # Another user may not be let into the place that TMPDIR names.
        directory.rmdir()
        directory = Path(tempfile.mkdtemp(prefix="redicts-", dir="/tmp"))
    _give(directory, user)
    return directory
