"""The rules of transactions where SQLite makes them hard: names, types, TTLs, one instant, pages, reclaiming."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path as FilePath

import pytest

from redicts.backends.sqlite import connections
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Entries,
    Equals,
    Expire,
    Path,
    Put,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Status,
)
from tests.backends.sqlite_tools import (
    TIMEOUT,
    Clock,
    count,
    entries,
    key,
    names,
    plain,
    rows,
    run,
    tree,
    value,
)
from tests.support.waiting import eventually

HOSTILE = (
    "a", "ab", "a.b", ".", "*", "?", "%", "_", "'", '"', " ", "\x00", "\x00\x00", "\x01", "\x02", "\x01\x02",
    "\x01\x03", "a\x00", "a\x01", "\xff", "\ud800", "\udfff", "\ud83d\ude00", "\U0001f600", "\U0010ffff", "\uffff",
    "0", "00", "x" * 20_000,
)  # fmt: skip


@pytest.fixture
def clock() -> Clock:
    """Give the clock of ``store``."""
    return Clock()


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, clock: Clock, tmp_path: FilePath) -> Iterator[SqliteBackend]:
    """Open an empty store, in a file and in memory."""
    path = ":memory:" if request.param == "memory" else str(tmp_path / "s.db")
    backend = SqliteBackend(path, clock=clock)
    yield backend
    backend.close()


@pytest.fixture
def file(tmp_path: FilePath) -> FilePath:
    """Name a file that is not there yet."""
    return tmp_path / "s.db"


def test_hostile_segments_are_data(store: SqliteBackend) -> None:
    """Any text can be a segment: it comes back as it was, as a leaf, as a dict, as a name, and touches no other."""
    for first in HOSTILE:
        run(
            store,
            *[Put(key(first, second), f"{first}/{second}".encode("utf-8", "surrogatepass")) for second in HOSTILE],
        )
    assert len(tree(store)) == len(HOSTILE) ** 2
    assert sorted(names(store, ReadNames(key())).names) == sorted(HOSTILE)
    for first in HOSTILE:
        found = {(second,): f"{first}/{second}".encode("utf-8", "surrogatepass") for second in HOSTILE}
        assert tree(store, first) == found
        assert sorted(names(store, ReadNames(key(first))).names) == sorted(HOSTILE)
    for first in HOSTILE:
        run(store, Delete(key(first), Scope.SUBTREE))
        assert tree(store, first) == {}
    assert tree(store) == {}


def test_databases_and_spaces_share_nothing(file: FilePath) -> None:
    """Several databases lie in one file; the same key in two of them, or in two spaces, names two values."""
    stores = [SqliteBackend(str(file), database) for database in (0, 1, 10, 11)]
    for number, store in enumerate(stores):
        run(store, Put(key("a"), b"%d" % number), Put(key("a", space="vx"), b"x%d" % number))
    run(stores[1], Delete(key(), Scope.SUBTREE))
    assert [value(store, "a") for store in stores] == [b"0", None, b"2", b"3"]
    assert [entries(store, Read(key("a", space="vx"))).values.get(()) for store in stores] == [
        b"x0",
        b"x1",
        b"x2",
        b"x3",
    ]
    for store in stores:
        store.close()


@pytest.mark.parametrize("stored", [b"", b"\x00", b"m", b"mine", b"mineral", b"\xff\xfe"])
@pytest.mark.parametrize("prefix", [b"", b"\x00", b"m", b"mine", b"\xff"])
def test_prefixes_are_compared_as_bytes(stored: bytes, prefix: bytes, store: SqliteBackend) -> None:
    """A value starts with a prefix as Python says, be either empty or no text."""
    run(store, Put(key("a", "b"), stored))
    for place in (key("a", "b"), key("a"), key()):
        assert run(store, checks=(StartsWith(place, Scope.SUBTREE, prefix),)).applied == stored.startswith(prefix)


def test_an_empty_value_is_not_absent(store: SqliteBackend) -> None:
    """A value of no bytes is there for reads and checks."""
    run(store, Put(key("a"), b""))
    assert value(store, "a") == b""
    assert not run(store, checks=(Equals(key("a"), Scope.NODE, NOTHING),)).applied
    assert run(store, checks=(Equals(key("a"), Scope.NODE, {(): b""}),)).applied


def test_equals_compares_paths_and_values(store: SqliteBackend) -> None:
    """As many values as expected are not enough: they are at the expected paths."""
    run(store, Put(key("a", "b"), b"1"), Put(key("a", "c", "d"), b"2"))
    there: dict[Path, bytes] = {("b",): b"1", ("c", "d"): b"2"}
    assert run(store, checks=(Equals(key("a"), Scope.SUBTREE, there),)).applied
    others: tuple[dict[Path, bytes], ...] = (
        {("b",): b"1"},
        {("b",): b"1", ("c", "d"): b"3"},
        {("b",): b"1", ("c",): b"2"},
        {**there, ("e",): b"3"},
        {("b",): b"1", ("c\x00d",): b"2"},
    )
    for other in others:
        outcome = run(store, Put(key("z"), b""), checks=(Equals(key("a"), Scope.SUBTREE, other),))
        assert outcome.status is Status.CHECK_FAILED
        assert outcome.failed_index == 0
    assert value(store, "z") is None


def test_a_refused_counter_undoes_all_and_answers(store: SqliteBackend) -> None:
    """If one Add meets no counter, no write of the transaction stays, the reads are answered and the Add is named."""
    run(store, Put(key("text"), b"01"), Put(key("n"), b"5", 1_000))
    outcome = run(
        store,
        Put(key("a"), b"1"),
        Delete(key("n"), Scope.NODE),
        Expire(key("text"), Scope.NODE, 5),
        Add(key("a"), 1),
        Add(key("text"), 1),
        Put(key("b"), b"1"),
        reads=(Read(key("n"), ttls=True), ReadNames(key())),
    )
    assert outcome.status is Status.NOT_A_COUNTER
    assert outcome.failed_index == 4
    assert outcome.counters == ()
    assert outcome.answers[0] == Entries({(): b"5"}, {(): 1_000})
    assert tree(store) == {("text",): b"01", ("n",): b"5"}
    assert entries(store, Read(key(), Scope.SUBTREE, ttls=True)).ttls == {("n",): 1_000}


def test_writes_apply_in_order(store: SqliteBackend) -> None:
    """Each write sees those before it, also where several Puts are handed to SQLite together."""
    run(
        store,
        Put(key("a"), b"1"),
        Put(key("a"), b"2", 50),
        Put(key("a"), b"3", keep_ttl=True),
        Put(key("b"), b"1", 70),
        Put(key("b"), b"2"),
        Put(key("c", "d"), b"1"),
        Delete(key("c"), Scope.SUBTREE),
        Put(key("c"), b"7"),
        Add(key("c"), 1),
        Put(key("e"), b"1"),
        Expire(key("e"), Scope.NODE, 90),
    )
    found = entries(store, Read(key(), Scope.SUBTREE, ttls=True))
    assert found.values == {("a",): b"3", ("b",): b"2", ("c",): b"8", ("e",): b"1"}
    assert found.ttls == {("a",): 50, ("e",): 90}


def test_a_ttl_ends_at_its_millisecond(store: SqliteBackend, clock: Clock) -> None:
    """A value is there until its TTL has passed by the store's clock, and gone from that millisecond on."""
    run(store, Put(key("a"), b"1", 100))
    clock.milliseconds += 99
    assert entries(store, Read(key("a"), ttls=True)) == Entries({(): b"1"}, {(): 1})
    clock.milliseconds += 1
    assert value(store, "a") is None


def test_the_expired_is_gone_for_everything(store: SqliteBackend, clock: Clock) -> None:
    """No read, name, page or check sees a value whose TTL has ended, and it blocks nothing, before it is reclaimed."""
    run(store, Put(key("d", "dead"), b"other", 5), Put(key("d", "alive"), b"mine"), Put(key("gone", "x"), b"1", 5))
    clock.milliseconds += 5
    assert tree(store) == {("d", "alive"): b"mine"}
    assert tree(store, "d", "dead") == {}
    assert entries(store, Read(key("d"), Scope.BELOW, limit=1)) == Entries({("alive",): b"mine"})
    assert names(store, ReadNames(key())).names == ("d",)
    assert names(store, ReadNames(key(), limit=1)) == (("d",), None)
    outcome = run(
        store,
        checks=(
            Equals(key("d", "dead"), Scope.NODE, NOTHING),
            Equals(key("gone"), Scope.SUBTREE, NOTHING),
            Equals(key(), Scope.BELOW, {("d", "alive"): b"mine"}),
            StartsWith(key(), Scope.SUBTREE, b"mine"),
        ),
    )
    assert outcome.applied
    run(store, Expire(key(), Scope.SUBTREE, None))
    assert tree(store) == {("d", "alive"): b"mine"}


def test_keep_ttl_keeps_that_of_the_living(store: SqliteBackend, clock: Clock) -> None:
    """A Put that keeps the TTL keeps what is left of it, none where there is none, and nothing of an expired one."""
    run(store, Put(key("mortal"), b"1", 100), Put(key("lasting"), b"1"), Put(key("dead"), b"1", 10))
    clock.milliseconds += 10
    run(store, *[Put(key(name), b"2", 3, keep_ttl=True) for name in ("mortal", "lasting", "dead", "new")])
    found = entries(store, Read(key(), Scope.SUBTREE, ttls=True))
    assert found.values == {("mortal",): b"2", ("lasting",): b"2", ("dead",): b"2", ("new",): b"2"}
    assert found.ttls == {("mortal",): 90}


def test_add_keeps_the_ttl_of_the_living(store: SqliteBackend, clock: Clock) -> None:
    """A counter keeps its TTL; an expired one, whatever it held, counts from nothing and lives for ever."""
    run(store, Put(key("mortal"), b"1", 100), Put(key("dead"), b"9", 10), Put(key("text"), b"no number", 10))
    clock.milliseconds += 10
    assert run(store, *[Add(key(name), 2) for name in ("mortal", "dead", "text")]).counters == (3, 2, 2)
    assert entries(store, Read(key(), Scope.SUBTREE, ttls=True)).ttls == {("mortal",): 90}


def test_a_ttl_beyond_the_largest_integer_is_long(store: SqliteBackend) -> None:
    """A TTL may be any number, also one that SQLite cannot add up."""
    run(store, Put(key("a"), b"1", 10**30), Put(key("b"), b"1"), Expire(key("b"), Scope.NODE, 2**63 - 1))
    ttls = entries(store, Read(key(), Scope.SUBTREE, ttls=True)).ttls
    assert set(ttls) == {("a",), ("b",)}
    assert min(ttls.values()) > 10**18


def test_a_waiting_write_goes_by_the_time_when_its_turn_comes(
    file: FilePath, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What expires while a write waits for the file's lock is gone for it."""
    waiting = threading.Event()
    monkeypatch.setattr(connections, "sleep", lambda secs: waiting.set())
    store = SqliteBackend(str(file), busy_timeout_secs=TIMEOUT, clock=clock)
    run(store, Put(key("a"), b"old", 50))
    other = plain(file)
    other.execute("BEGIN IMMEDIATE")
    outcomes: list[bool] = []
    thread = threading.Thread(
        target=lambda: outcomes.append(
            run(store, Put(key("a"), b"new"), checks=(Equals(key("a"), Scope.NODE, NOTHING),)).applied
        )
    )
    thread.start()
    assert waiting.wait(TIMEOUT)
    clock.milliseconds += 50
    other.execute("ROLLBACK")
    other.close()
    thread.join(TIMEOUT)
    assert outcomes == [True]
    store.close()


@pytest.mark.parametrize("scope", [Scope.NODE, Scope.SUBTREE])
def test_a_read_sees_one_instant(scope: Scope, file: FilePath) -> None:
    """A TTL that is renewed in time does not look ended to a reader that is slow between the file and the clock."""
    clock = Clock()
    renewing = SqliteBackend(str(file), clock=clock)
    run(renewing, Put(key("a"), b"1", 100))
    clock.milliseconds += 99
    looks = 0

    def slow_clock() -> float:
        nonlocal looks
        looks += 1
        if looks == 2:  # after the snapshot was taken
            run(renewing, Expire(key("a"), Scope.NODE, 1_000))
            clock.milliseconds += 2
        return clock()

    reading = SqliteBackend(str(file), clock=slow_clock)
    assert entries(reading, Read(key("a"), scope)).values == {(): b"1"}
    assert looks >= 4
    reading.close()
    renewing.close()


def test_a_read_of_several_sees_one_state(file: FilePath) -> None:
    """What others write after the time of a read is known belongs to none of its answers."""
    clock = Clock()
    writing = SqliteBackend(str(file), clock=clock)
    run(writing, Put(key("a"), b"old", 100))
    looks = 0

    def clock_beside_a_writer() -> float:
        nonlocal looks
        looks += 1
        now = clock()
        if looks == 2:
            clock.milliseconds += 100
            assert run(writing, Put(key("b"), b"new"), checks=(Equals(key(), Scope.SUBTREE, NOTHING),)).applied
        return now

    reading = SqliteBackend(str(file), clock=clock_beside_a_writer)
    first, second = run(reading, reads=(Read(key("a")), Read(key("b")))).answers
    assert (first, second) == (Entries({(): b"old"}), Entries({}))
    assert looks == 2
    reading.close()
    writing.close()


@pytest.mark.parametrize("scope", [Scope.NODE, Scope.SUBTREE])
def test_a_clock_that_never_stands_still_ends_no_read(scope: Scope, file: FilePath) -> None:
    """Where each look at the file takes longer than a millisecond, a read is answered all the same."""
    clock = Clock()
    writing = SqliteBackend(str(file), clock=clock)
    run(writing, Put(key("a"), b"1", 10_000))

    def running_clock() -> float:
        clock.milliseconds += 1
        return clock()

    reading = SqliteBackend(str(file), clock=running_clock)
    assert entries(reading, Read(key("a"), scope)).values == {(): b"1"}
    reading.close()
    writing.close()


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
def test_pages_hold_each_value_once(limit: int, store: SqliteBackend) -> None:
    """The pages of a walk are at most as large as asked, and hold each value, and each name, once."""
    paths = [(first, second, "x") for first in HOSTILE[:9] for second in HOSTILE[:3]] + [("leaf",)]
    run(store, *[Put(key("top", *path), repr(path).encode()) for path in paths])
    for scope in (Scope.BELOW, Scope.SUBTREE):
        found: list[Path] = []
        read = Read(key("top"), scope, limit)
        while True:
            page = entries(store, read)
            assert len(page.values) <= limit
            found.extend(page.values)
            if page.cursor is None:
                break
            read = read._replace(cursor=page.cursor)
        assert sorted(found) == sorted(paths)
    listed: list[str] = []
    asked = ReadNames(key("top"), limit)
    while True:
        part = names(store, asked)
        assert len(part.names) <= limit
        listed.extend(part.names)
        if part.cursor is None:
            break
        asked = asked._replace(cursor=part.cursor)
    assert sorted(listed) == sorted([*HOSTILE[:9], "leaf"])


def test_a_page_that_ends_the_scope_has_no_cursor(store: SqliteBackend) -> None:
    """A cursor promises that more may follow; the last page has none, also if it is full."""
    run(store, *[Put(key("a", str(each)), b"") for each in range(4)])
    assert entries(store, Read(key("a"), Scope.BELOW, 4)).cursor is None
    assert entries(store, Read(key("a"), Scope.BELOW, 3)).cursor is not None
    assert names(store, ReadNames(key("a"), 4)).cursor is None
    assert entries(store, Read(key("a", "1"), Scope.SUBTREE, 1)) == Entries({(): b""})


def test_a_walk_goes_on_where_its_last_value_was_deleted(store: SqliteBackend) -> None:
    """What stays during a walk is found, whatever is deleted and added around it between two pages."""
    stays = [("d", f"{each:02}b") for each in range(20)]
    run(store, *[Put(key(*path), b"stays") for path in stays])
    run(store, *[Put(key("d", f"{each:02}a"), b"goes") for each in range(20)])
    found: list[Path] = []
    read = Read(key("d"), Scope.BELOW, 3)
    while True:
        page = entries(store, read)
        found.extend(page.values)
        if page.cursor is None:
            break
        read = read._replace(cursor=page.cursor)
        run(store, *[Delete(key("d", *path), Scope.NODE) for path, held in page.values.items() if held == b"goes"])
        run(store, *[Put(key("d", path[0] + "!"), b"new") for path in page.values])
    assert [path for path in found if path[0].endswith("b")] == [path[1:] for path in stays]


def test_short_lived_values_keep_the_file_bounded(file: FilePath, clock: Clock) -> None:
    """A stream of values that nobody reads and that soon expire takes no more room, however long it goes on."""
    store = SqliteBackend(str(file), clock=clock)
    sizes = []
    for part in range(4):
        for each in range(100):
            run(store, *[Put(key("s", f"{part}", f"{each}", f"{leaf}"), b"x" * 100, 20) for leaf in range(100)])
            clock.milliseconds += 10
        assert rows(file) <= 500
        connection = plain(file)
        sizes.append(connection.execute("PRAGMA page_count").fetchone()[0])
        connection.close()
    assert sizes[-1] == sizes[0]
    store.close()


def test_a_backlog_of_expired_values_goes_away(file: FilePath, clock: Clock) -> None:
    """Many values that expire at once are reclaimed bit by bit by the writes that follow, in any database."""
    store, other = SqliteBackend(str(file), clock=clock), SqliteBackend(str(file), 7, clock=clock)
    run(store, *[Put(key("s", str(each)), b"x", 10) for each in range(2_000)], Put(key("a"), b"1", 100))
    clock.milliseconds += 10
    before = rows(file)
    assert value(other, "a") is None
    assert rows(file) == before
    run(other, Put(key("a"), b"1"))
    assert before - 200 < rows(file) < before
    for _ in range(50):
        run(other, Put(key("a"), b"1"))
    assert rows(file) == 2
    assert value(store, "a") == b"1"
    store.close()
    other.close()


def test_readers_do_not_wait_for_a_writer(file: FilePath) -> None:
    """While another program is in the midst of a write, reads are answered at once, from the state before it."""
    store = SqliteBackend(str(file), busy_timeout_secs=TIMEOUT)
    run(store, Put(key("a"), b"1"))
    other = plain(file)
    other.execute("BEGIN IMMEDIATE")
    other.execute("DELETE FROM entries")
    assert value(store, "a") == b"1"
    assert tree(store) == {("a",): b"1"}
    other.execute("COMMIT")
    other.close()
    assert value(store, "a") is None
    store.close()


def test_a_memory_store_is_one_for_all_threads() -> None:
    """All threads of the process see one store in memory, and two instances have two."""
    store, other = SqliteBackend(":memory:"), SqliteBackend(":memory:")
    threads = [
        threading.Thread(target=lambda: [run(store, Add(key("n"), 1)) for _ in range(200)], daemon=True)
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    eventually(lambda: count(store, "n") == 1_600, "all have counted")
    assert tree(other) == {}
    store.close()
    other.close()
