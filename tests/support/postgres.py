"""PostgreSQL servers of the tests.

Servers that are already running are never used. PostgreSQL refuses to run as root, so where the tests do, the server
runs as the user ``postgres`` or ``nobody``.
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from .executables import ServerMissing
from .process import ServerFailed, ServerProcess, short_directory

VARIABLE: Final = "REDICTS_TEST_POSTGRES"
"""Names the environment variable with the directory of PostgreSQL's executables. If it is set, no other is used."""

REMEDY: Final = (
    "install PostgreSQL's server (Debian: apt-get install postgresql; macOS: brew install postgresql), "
    f"or set {VARIABLE} to the directory of its executables initdb and postgres"
)

_PLACES: Final = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql*/bin")
_USERS: Final = ("postgres", "nobody")
_FAST: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Options of a server whose data need not survive the machine."""


class PostgresExecutables(NamedTuple):
    """The directory of one version's executables."""

    directory: Path
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"postgresql-{'.'.join(map(str, self.version))}"


def find_postgres() -> PostgresExecutables:
    """Return the newest version found. Raises :class:`ServerMissing` if there is none."""
    listed = os.environ.get(VARIABLE)
    found = [identified for place in _candidates(listed) if (identified := _identify(place)) is not None]
    if not found:
        where = "no PostgreSQL server found" if listed is None else f"no PostgreSQL server in {listed} runs"
        raise ServerMissing(f"{where}: {REMEDY}")
    return max(found, key=lambda each: each.version)


def _candidates(listed: str | None) -> Iterator[Path]:
    if listed is not None:
        yield Path(listed)
        return
    if on_path := shutil.which("initdb"):
        yield Path(os.path.realpath(on_path)).parent
    for pattern in _PLACES:
        yield from Path("/").glob(pattern)


def _identify(directory: Path) -> PostgresExecutables | None:
    if not (directory / "initdb").exists():
        return None
    try:
        text = subprocess.run([directory / "postgres", "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return None
    match = re.search(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?", text)
    return match and PostgresExecutables(directory, tuple(int(part) for part in match.groups() if part))


class PostgresServer(ServerProcess):
    """One PostgreSQL server, with a superuser ``redicts`` and an empty database of that name, until :meth:`close`.

    Raises :class:`ServerMissing` if there are no executables, and :class:`ServerFailed` if it does not start.
    """

    user: Final = "redicts"
    dbname: Final = "redicts"
    orderly = signal.SIGINT
    crash = signal.SIGQUIT

    def __init__(self, executables: PostgresExecutables | None = None) -> None:
        self.executables: Final = find_postgres() if executables is None else executables
        self.password: Final = secrets.token_hex(8)
        self._system_user: Final = _system_user()
        super().__init__(self.executables, short_directory(for_another_user=self._system_user is not None))
        try:
            self._make_cluster()
            self._start()
            self.sql(f"CREATE DATABASE {self.dbname}", dbname="postgres")
        except BaseException:
            self.close()
            raise

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the backend for this server."""
        return {name: getattr(self, name) for name in ("host", "port", "user", "password", "dbname")}

    def sql(self, statement: str, *, dbname: str = dbname) -> str:
        """Run statements with ``psql``, over the Unix socket; return what they print, unaligned.

        Raises :class:`ServerFailed` with the server's answer if one of them fails.
        """
        command = [str(self.executables.directory / "psql"), "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]
        command += ["-h", str(self.directory), "-p", str(self.port), "-U", self.user, "-d", dbname, "-c", statement]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerFailed(done.stderr.strip())
        return done.stdout.strip()

    def _make_cluster(self) -> None:
        password = self.directory / "password"
        password.write_text(self.password, encoding="ascii")
        if self._system_user is not None:
            for path in (self.directory, password):
                os.chown(path, self._system_user.pw_uid, self._system_user.pw_gid)
        initdb, data = str(self.executables.directory / "initdb"), str(self.directory / "data")
        command = [initdb, "-D", data, "-U", self.user, "-E", "UTF8"]
        command += ["--locale=C", "--no-sync", "-A", "scram-sha-256", "--auth-local=trust", f"--pwfile={password}"]
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            check=False,
            **self._popen_options(),
        )
        password.unlink()
        if done.returncode:
            raise ServerFailed(f"initdb failed:\n{done.stdout.decode(errors='replace')[-2000:]}")

    def _command(self) -> Sequence[str | Path]:
        options = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": self.directory,
            "lc_messages": "C",
            **_FAST,
        }
        arguments = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [self.executables.directory / "postgres", "-D", self.directory / "data", *arguments]

    def _popen_options(self) -> dict[str, Any]:
        user = self._system_user
        return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def _answers(self) -> bool:
        with contextlib.suppress(ServerFailed):
            return self.sql("SELECT 1", dbname="postgres") == "1"
        return False


def _system_user() -> pwd.struct_passwd | None:
    """Return the user that the server runs as, or ``None`` for the one that runs the tests."""
    if os.geteuid() != 0:
        return None
    for name in _USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServerMissing(f"PostgreSQL refuses to run as root, and none of the users {', '.join(_USERS)} exists")
