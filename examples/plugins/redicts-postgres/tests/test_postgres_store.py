"""Rules of this backend alone: its tables, sessions, errors and settings."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from direct import connection_to
from pydantic import ValidationError
from redicts_postgres import PostgresBackend, PostgresSettings
from redicts_postgres.schema import SESSION_TTL_MS, Schema
from redicts_postgres.wire import changed_by, path_told

import redicts
from redicts import aio, errors
from redicts.plugin import NOTHING, VALUES, Add, Delete, Equals, Key, Path, Put, Read, ReadNames, Scope, Transaction

SECRET = "a-secret-that-must-not-be-shown"


def key(*path: str) -> Key:
    """Return a key in the space of these tests."""
    return Key("t", path)


@pytest.fixture(autouse=True)
def _empty(backend: PostgresBackend) -> None:
    backend.execute(Transaction(writes=(Delete(key(), Scope.SUBTREE),)))


def stored(backend: PostgresBackend) -> dict[Path, bytes]:
    """Return all values."""
    [answer] = backend.execute(Transaction(reads=(Read(key(), Scope.SUBTREE),))).answers
    return dict(answer.values)  # type: ignore[union-attr]


def test_keys_longer_than_an_index_entry_are_distinct(backend: PostgresBackend) -> None:
    """Long paths work like others in every scope, in names and in pages."""
    noise = random.Random(1)
    long = "".join(chr(noise.randrange(0x4E00, 0x9FFF)) for _ in range(3000))  # nine kilobytes that do not compress
    tree = {(long, "a"): b"1", (long, "b"): b"2", (long, "b2", long): b"3", (long + "x",): b"4", ("z",): b"5"}
    outcome = backend.execute(Transaction(writes=tuple(Put(key(*path), value) for path, value in tree.items())))
    assert outcome.applied
    assert stored(backend) == tree
    within = {path[1:]: value for path, value in tree.items() if path[0] == long}
    assert backend.execute(Transaction(checks=(Equals(key(long), Scope.BELOW, within),))).applied
    names, below = backend.execute(Transaction(reads=(ReadNames(key()), ReadNames(key(long))))).answers
    assert (set(names[0]), set(below[0])) == ({long, long + "x", "z"}, {"a", "b", "b2"})
    walked: dict[Path, bytes] = {}
    cursor = None
    while True:
        [page] = backend.execute(Transaction(reads=(Read(key(), Scope.SUBTREE, 1, cursor),))).answers
        walked |= page.values  # type: ignore[union-attr]
        cursor = page.cursor
        if cursor is None:
            break
    assert walked == tree
    backend.execute(Transaction(writes=(Put(key(long, "a"), b"6"), Delete(key(long, "b2"), Scope.SUBTREE))))
    assert stored(backend)[long, "a"] == b"6"
    assert (long, "b2", long) not in stored(backend)


def test_writes_remove_expired_rows(backend: PostgresBackend, settings: PostgresSettings) -> None:
    """Each write removes more expired rows than it can add, so short TTLs keep the table small."""
    for number in range(300):
        backend.execute(Transaction(writes=(Put(key(f"n{number}"), b"x", 1),)))
    with connection_to(settings) as connection:
        row = connection.execute(f"SELECT count(*) FROM {Schema('redicts_test', '').entries}").fetchone()
    assert row is not None
    assert row[0] in range(50)


def test_sessions_expire(backend: PostgresBackend, settings: PostgresSettings) -> None:
    """A session without requests for the session TTL is removed; others stay."""
    sessions = Schema("redicts_test", "").sessions
    backend.execute(Transaction(writes=(Put(key("a"), b"1"),)))
    with connection_to(settings) as connection:
        connection.execute(f"UPDATE {sessions} SET touched = touched - {SESSION_TTL_MS + 1000}")
        old = connection.execute(f"SELECT count(*) FROM {sessions}").fetchone()
        other = PostgresBackend(settings, 0)
        for _ in range(20):
            other.execute(Transaction(writes=(Put(key("a"), b"2"),)))
        other.close()
        new = connection.execute(f"SELECT count(*) FROM {sessions}").fetchone()
    assert old is not None
    assert new == (1,), f"of {old[0]} old sessions, some are left"


def test_calls_survive_the_end_of_all_connections(backend: PostgresBackend, settings: PostgresSettings) -> None:
    """After the server ended all connections, calls work and a listener is notified."""
    add = Transaction(writes=(Add(key("n"), 1),))
    with backend.listen("client/1") as listener:
        assert backend.execute(add).counters == (1,)
        with connection_to(settings) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name='redicts'"
            )
        assert backend.execute(add).counters == (2,)
        assert listener.wait(10)


def test_changes_are_told_in_few_words() -> None:
    """A write tells its path. Many paths become their sections, or the root, and a long one becomes its section."""

    def told(*paths: Path) -> set[Path]:
        return {path_told(text) for text in changed_by([Put(Key(VALUES, path), b"1") for path in paths])}

    assert told() == set()
    assert told(("a", "b\x00"), ("a", "b\x00")) == {("a", "b\x00")}
    assert told(*[("a", str(number)) for number in range(16)]) == {("a", str(number)) for number in range(16)}
    assert told(*[("a", str(number)) for number in range(17)]) == {("a",)}
    assert told(*[(str(number), "a") for number in range(17)]) == {()}
    assert told(("a", "b" * 9000)) == {("a",)}
    assert told(("a" * 9000, "b")) == {()}
    assert changed_by([Put(key("a"), b"1")]) == []  # not among the values


def test_a_store_may_tell_of_no_change(backend: PostgresBackend, settings: PostgresSettings) -> None:
    """Without ``changes``, the capability is not declared, nothing is sent, and a listener looks at intervals."""
    silent = PostgresBackend(settings.model_copy(update={"changes": False}), 0)
    write = Transaction(writes=(Put(Key(VALUES, ("a",)), b"1"),))
    with backend.listen_to_changes("client/1", ("a",)) as listener, silent.listen_to_changes("client/2", ()) as other:
        assert (backend.capabilities.changes, silent.capabilities.changes) == (True, False)
        silent.execute(write)
        assert other.wait(10)
        assert not listener.wait(0.1)
        backend.execute(write)
        assert listener.wait(10)
    silent.close()


def test_watches_and_caches_use_it(settings: PostgresSettings) -> None:
    """A watch of a thread and one of a task are told, and a cache keeps a value until it is."""
    url = settings.model_dump(include={"host", "port", "user", "dbname"}, exclude_none=True)
    secret = settings.password.get_secret_value() if settings.password else None
    cfg = {"backend": "postgres", **url, "password": secret, "schema": "redicts_test", "cache": True}

    async def task(db: redicts.Database) -> None:
        async with aio.Database(db).proxy("a.b").watch() as watch:
            assert await anext(watch) == 2
            await asyncio.to_thread(db.proxy("a").put, {"b": 3})
            assert await asyncio.wait_for(anext(watch), 8) == 3

    with redicts.open({**cfg, "cache": False}) as db, redicts.open(cfg) as cached:
        db.root().clear()
        with db.proxy("a.b").watch(timeout=8) as watch:
            assert next(watch) is redicts.ABSENT
            cached.proxy("a").put({"b": 2})
            assert next(watch) == 2
        asyncio.run(task(db))
        assert cached.cache is not None
        until = time.monotonic() + 10
        while not cached.cache.info().hits and time.monotonic() < until:
            assert cached.proxy("a.b").val() == 3
        assert cached.cache.info().hits
        db.proxy("a.b").put(4)
        while cached.proxy("a.b").val() != 4 and time.monotonic() < until:
            pass
        assert cached.proxy("a.b").val() == 4
        db.root().clear()


def test_databases_prefixes_and_schemas_are_separate_stores(
    backend: PostgresBackend, settings: PostgresSettings
) -> None:
    """Stores with different database numbers, prefixes or schemas share nothing."""
    backend.execute(Transaction(writes=(Put(key("a"), b"1"),)))
    others = [
        PostgresBackend(settings, 1),
        PostgresBackend(settings.model_copy(update={"prefix": "other_"}), 0),
        PostgresBackend(settings.model_copy(update={"schema_name": "redicts_test_other"}), 0),
    ]
    try:
        for number, other in enumerate(others):
            assert stored(other) == {}
            other.execute(Transaction(writes=(Put(key("a"), b"other %d" % number),)))
        assert stored(backend) == {("a",): b"1"}
    finally:
        for other in others:
            other.execute(Transaction(writes=(Delete(key(), Scope.SUBTREE),)))
            other.close()
        with connection_to(settings) as connection:
            connection.execute("DROP SCHEMA redicts_test_other CASCADE")


def test_concurrent_clients_create_the_tables(settings: PostgresSettings) -> None:
    """Clients that use an empty database at the same time get no error."""
    fresh = settings.model_copy(update={"schema_name": "redicts_test_fresh"})
    clients = [PostgresBackend(fresh, 0) for _ in range(6)]
    add = Transaction(writes=(Add(key("n"), 1),))
    try:
        with ThreadPoolExecutor(len(clients)) as threads:
            list(threads.map(lambda client: client.execute(add), clients))
        assert stored(clients[0]) == {("n",): b"6"}
    finally:
        for client in clients:
            client.close()
        with connection_to(settings) as connection:
            connection.execute("DROP SCHEMA redicts_test_fresh CASCADE")


def test_the_printed_sql_creates_the_tables(settings: PostgresSettings) -> None:
    """A user without the right to create schemas can use what an administrator created with the printed SQL."""
    printed = subprocess.run(
        [sys.executable, "-m", "redicts_postgres", "redicts_test_printed"], capture_output=True, text=True, check=True
    ).stdout
    with connection_to(settings) as connection:
        connection.execute("DROP SCHEMA IF EXISTS redicts_test_printed CASCADE")
        connection.execute("DROP ROLE IF EXISTS redicts_test_user")
        connection.execute(f"CREATE ROLE redicts_test_user LOGIN PASSWORD '{SECRET}'")
        poor = settings.model_copy(
            update={
                "user": "redicts_test_user",
                "password": PostgresSettings.model_validate({"password": SECRET}).password,
                "schema_name": "redicts_test_printed",
            }
        )
        backend = PostgresBackend(poor, 0)
        take = Transaction(checks=(Equals(key(), Scope.SUBTREE, NOTHING),), writes=(Put(key("a"), b"1"),))
        try:
            with pytest.raises(errors.AccessDenied, match="python -m redicts_postgres") as refused:
                backend.execute(take)
            assert SECRET not in str(refused.value)
            connection.execute(printed.encode())
            connection.execute("GRANT USAGE ON SCHEMA redicts_test_printed TO redicts_test_user")
            connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA redicts_test_printed TO redicts_test_user")
            assert backend.execute(take).applied
            connection.execute("ALTER ROLE redicts_test_user SET default_transaction_read_only = on")
            backend.close()
            with pytest.raises(errors.ReadOnly):
                backend.execute(Transaction(writes=(Put(key("a"), b"2"),)))
        finally:
            backend.close()
            connection.execute("DROP SCHEMA redicts_test_printed CASCADE")
            connection.execute("DROP ROLE redicts_test_user")


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"password": SECRET}, errors.AccessDenied, "password"),
        ({"user": "redicts_nobody", "password": SECRET}, errors.AccessDenied, "user"),
        ({"dbname": "redicts_no_database"}, errors.Unreachable, "dbname"),
        ({"port": 1, "password": SECRET}, errors.Unreachable, "port"),
        ({"host": "redicts.invalid", "password": SECRET}, errors.Unreachable, "host"),
    ],
    ids=["password", "user", "dbname", "port", "host"],
)
def test_errors_say_what_to_do(
    settings: PostgresSettings, changes: dict[str, object], kind: type[Exception], says: str
) -> None:
    """A failure is an error of redicts that names the setting to correct, and no secret."""
    secret = settings.password.get_secret_value() if settings.password else SECRET
    if "password" in changes:
        changes = {**changes, "password": PostgresSettings.model_validate({"password": SECRET}).password}
    backend = PostgresBackend(settings.model_copy(update={**changes, "retries": 0}), 0)
    for call in (lambda: backend.execute(Transaction()), lambda: backend.listen("client/1")):
        with pytest.raises(kind, match=says) as raised:
            call()
        shown = f"{raised.value!r} {raised.value} {raised.value.__cause__}"
        assert SECRET not in shown
        assert secret not in shown
    backend.close()


def test_a_url_sets_fields() -> None:
    """A URL of either scheme sets the fields that it contains."""
    for scheme in ("postgres", "postgresql"):
        url = f"{scheme}://anna:p%40ss@db.example:5433/things?database=2&schema=own&sslmode=require"
        settings = PostgresSettings.model_validate(PostgresSettings.fields_of_url(url))
        assert (settings.host, settings.port, settings.user) == ("db.example", 5433, "anna")
        assert settings.password is not None
        assert settings.password.get_secret_value() == "p@ss"
        assert (settings.dbname, settings.main_database) == ("things", 2)
        assert (settings.schema_name, settings.sslmode) == ("own", "require")


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": f"mysql://anna:{SECRET}@host/db"},
        {"url": f"postgres://anna:{SECRET}@host:port/db"},
        {"url": f"postgres://anna:{SECRET}@host/db?colour=red"},
        {"url": f"postgres://anna:{SECRET}@host/db?database=x"},
        {"url": f"postgres://anna:{SECRET}@host/db", "host": "other"},
        {"url": f"postgres://anna:{SECRET}#1@host/db"},
        {"url": f"postgres://anna:1?{SECRET}@host/db"},
        {"url": f"postgres://anna:1/{SECRET}@host/db"},
        {"url": f"postgres://anna:{SECRET}@/db"},
        {"url": f"postgres://anna:{SECRET}@host/db?host=other"},
        {"url": f"postgres://anna:{SECRET}@host/db?database=1&database=2"},
        {"socket_timeout_secs": float("inf")},
        {"timeout_secs": 1e12},
        {"schema": "no; DROP TABLE"},
        {"prefix": 'a"b'},
        {"isolation": "none"},
        {"colour": "red"},
    ],
    ids=str,
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    """Invalid settings raise ValidationError, which does not show the password."""
    with pytest.raises(ValidationError) as refused:
        PostgresSettings.model_validate(wrong)
    assert SECRET not in str(refused.value)


def test_a_secret_is_never_shown() -> None:
    """Neither repr nor str of settings shows the password."""
    settings = PostgresSettings.model_validate({"url": f"postgres://anna:{SECRET}@host/db"})
    assert SECRET not in f"{settings!r} {settings}"
