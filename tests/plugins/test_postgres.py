"""The backend on PostgreSQL, as a third-party distribution."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from redicts.contract import CHECKS, Need
from tests.plugins.fresh import FreshEnvironment
from tests.support.postgres import PostgresServer

ISOLATIONS = ["locks", "serializable"] if os.environ.get("REDICTS_TESTS") == "long" else ["locks"]
"""The short tests certify only the default."""

NO_DEADLINES = {"failures.a_deadline_ends_a_call", "failures.a_deadline_ends_the_wait_for_others"}
"""The checks that do not run, because the backend has no deadlines of calls."""

NOT_CLAIMED = frozenset(
    {Need.NO_TTL, Need.NO_PROCESSES, Need.LIMIT, Need.DOCUMENTS, Need.RAW, Need.FORGETTING, Need.LOCAL}
    | {Need.SIZE, Need.WALL_CLOCK, Need.ASYNCIO, Need.FAILING_COMMITS, Need.SHARDED}
    | {Need.SILENCE, Need.FULL, Need.DAMAGE, Need.LASTING, Need.PATHS}
)


def url_of(server: PostgresServer) -> str:
    """Return the URL of a server's database."""
    return f"postgres://{server.user}:{server.password}@{server.host}:{server.port}/{server.dbname}"


def test_nothing_of_the_checkout_is_in_the_environment(fresh: FreshEnvironment) -> None:
    """Redicts and the distribution come from wheels, which include the SQL and the markers of typed packages."""
    found = fresh.run(
        "-c",
        "import json, redicts, redicts_postgres, pathlib as p;"
        "print(json.dumps([redicts.__file__, redicts_postgres.__file__,"
        "sorted(each.name for each in p.Path(redicts_postgres.__file__).parent.iterdir())]))",
    )
    redicts, backend, files = json.loads(found.stdout)
    assert "site-packages" in redicts
    assert "site-packages" in backend
    assert {"layout.sql", "py.typed"} <= set(files)


def test_its_own_tests_pass(fresh: FreshEnvironment, postgres_server: PostgresServer) -> None:
    """The tests of the distribution pass on the installed wheel."""
    url = url_of(postgres_server)
    assert " passed" in fresh.run_tests("redicts-postgres", "tests/test_postgres_store.py", REDICTS_POSTGRES_URL=url)


def test_the_pool_finds_it_by_name(fresh: FreshEnvironment, postgres_server: PostgresServer, tmp_path: Path) -> None:
    """A dict and a URL choose the installed backend, and its locks exclude other processes."""
    script = tmp_path / "use_postgres.py"
    script.write_text(POOL, encoding="utf-8")
    done = fresh.run(script, variables={"SETTINGS": json.dumps(postgres_server.settings)})
    assert done.stdout.split() == ["42", "42", "locked", "free"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_the_command_certifies_it(
    fresh: FreshEnvironment, postgres_server: PostgresServer, isolation: str, tmp_path: Path
) -> None:
    """From wheels alone, the command certifies all that it claims, and does not print the password."""
    file = tmp_path / "report.json"
    names = {"schema": "redicts_certified", "prefix": f"{isolation}_"}
    configuration = {"backend": "postgres", "url": url_of(postgres_server), "isolation": isolation, **names}
    done = fresh.run("-m", "redicts", "certify", json.dumps(configuration), "--report", str(file))
    assert "CERTIFIED" in done.stdout
    assert postgres_server.password not in done.stdout + done.stderr + file.read_text(encoding="utf-8")
    report = json.loads(file.read_text(encoding="utf-8"))
    assert report["certified"]
    assert report["harness"] == "PostgresHarness"
    assert all(report["capabilities"][name] for name in ("ttl", "processes", "durable", "push"))
    passed = {check["check"] for check in report["checks"] if check["status"] == "passed"}
    claimed = {str(check) for check in CHECKS if not NOT_CLAIMED.intersection(check.needs)}
    assert passed == claimed - NO_DEADLINES


def test_calls_survive_a_crash_of_the_server(fresh: FreshEnvironment) -> None:
    """While the server is down, calls and listeners raise Unreachable; after a restart they work again."""
    with PostgresServer() as server:
        settings = {"SETTINGS": json.dumps(server.settings)}
        done = fresh.run("-c", CRASH, str(server.pid), variables=settings)
        assert done.stdout.split() == ["1", "Unreachable", "Unreachable"]
        assert not server.running
        server.restart()
        fresh.run("-c", CRASH, "0", variables=settings)


POOL = """
import json, os, subprocess, sys
from redicts import Lock, Pool, root

given = json.loads(os.environ["SETTINGS"])
Pool().reload(cfg={"backend": "postgres", **given})
if sys.argv[1:] == ["other"]:
    print("free" if Lock(Pool(), "a").acquire(blocking=False) else "locked")
    sys.exit()

def other():
    return subprocess.run([sys.executable, sys.argv[0], "other"], text=True, capture_output=True).stdout.strip()

root().set("a", {"b": {"c": 42}})
print(root().get("a.b.c").val())
Pool().reload(cfg="postgres://{user}:{password}@{host}:{port}/{dbname}".format(**given))
print(root().get("a.b.c").val())
with Lock(Pool(), "a"):
    print(other())
print(other())
"""

CRASH = """
import json, os, signal, socket, sys, time
from redicts import errors
from redicts.core.minitransaction import *
from redicts_postgres import PostgresBackend, PostgresSettings

settings = PostgresSettings.model_validate({**json.loads(os.environ["SETTINGS"]), "retries": 1})
backend = PostgresBackend(settings, 0)
add = Transaction(writes=(Add(Key("t", ("n",)), 1),))
print(*backend.execute(add).counters)
if int(sys.argv[1]):
    os.kill(int(sys.argv[1]), signal.SIGQUIT)
    while True:  # until the server is down; the test times out first
        try:
            socket.create_connection((settings.host, settings.port)).close()
        except ConnectionRefusedError:
            break
        time.sleep(0.01)
    for call in (lambda: backend.execute(add), lambda: backend.listen("client_id/1")):
        try:
            call()
        except errors.Unreachable as error:
            print(type(error).__name__)
"""
