"""Listening on a SQLite file: who is notified, by which thread or process, and what waiting leaves alone."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from redicts.backends.sqlite import files, notification_log, notifications, poller
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.notifications import Listeners, SqliteListener, shared_listeners
from redicts.backends.sqlite.poller import DataVersionPoller, News
from redicts.core.listener import Listener
from redicts.core.minitransaction import NOTHING, Add, Equals, Notify, Put, Scope, Status
from redicts.errors import StoreError, Unreachable
from tests.backends.sqlite_tools import TIMEOUT, Child, Clock, key, plain, run, tree, value
from tests.support.waiting import eventually

LIST = key("waiting", space="w")
NAME = "station/1"
NAME_CALL = ("0", NAME.encode())
LONGER_THAN_A_LOOK = 0.2
"""Seconds within which a listener that does not wait for anything else looks at the file several times."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Name a file that is not there yet."""
    return tmp_path / "s.db"


@pytest.fixture(params=["file", "memory"])
def path(request: pytest.FixtureRequest, file: Path) -> str:
    """Name a store in a file, and one in memory."""
    return ":memory:" if request.param == "memory" else str(file)


@pytest.fixture
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody look at the file, so that nothing notifies but what is done in this process."""
    monkeypatch.setattr(DataVersionPoller, "hasten", lambda self: setattr(self, "due", float("inf")))


def call(store: SqliteBackend, *names: str | bytes) -> None:
    """List these names, then wake those who are listed."""
    listed = [each.encode() if isinstance(each, str) else each for each in names]
    run(store, *[Put(key("waiting", str(number), space="w"), each) for number, each in enumerate(listed)])
    assert run(store, Notify(LIST, Scope.BELOW)).applied


def settle(*listeners: Listener) -> None:
    """Let the first look be made, which notifies everybody, and wait until nothing is left that would wake."""
    while listeners[0].wait(LONGER_THAN_A_LOOK):
        pass
    for listener in listeners:
        listener.wait(0)


def settled(path: Path | str) -> DataVersionPoller:
    """Return a lookout that has looked for the first time."""
    found = DataVersionPoller(str(path))
    found.delivered(found.look())
    return found


def news(found: DataVersionPoller) -> News:
    """Return what another look shows."""
    shown = found.look()
    found.delivered(shown)
    return shown


@contextmanager
def waiting(listener: Listener, seconds: float = TIMEOUT) -> Iterator[Callable[[], bool]]:
    """Wait in a thread of its own, until the block ends; what is given returns whether that was notified."""
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(listener.wait(seconds)), daemon=True)
    thread.start()

    def answer() -> bool:
        thread.join(2 * TIMEOUT)
        assert answers, "a wait does not end"
        return answers[0]

    yield answer
    answer()


def of(listener: Listener) -> Listeners:
    """Return those to whom a listener belongs."""
    assert isinstance(listener, SqliteListener)
    return listener._listeners


def is_notified(listener: Listener) -> bool:
    """Tell whether the next wait ends at once, without a look at the file."""
    assert isinstance(listener, SqliteListener)
    return listener.notified


def keeper(listener: Listener) -> Listener | None:
    """Return the listener whose thread keeps the lookout for this one."""
    return of(listener)._keeper.get("keeper")


@pytest.mark.usefixtures("no_looks")
def test_a_thread_notifies_another_at_once(path: str) -> None:
    """Who waits is notified by the transaction of another thread itself, without a look at the file."""
    store = SqliteBackend(path)
    with store.listen(NAME) as listener, waiting(listener) as notified:
        call(store, NAME)
        assert notified()
    store.close()


@pytest.mark.usefixtures("no_looks")
def test_instances_of_one_file_notify_each_other_at_once(file: Path, tmp_path: Path) -> None:
    """Instances belong together if they use one file, by whatever path, and were it closed and opened again."""
    (tmp_path / "link.db").symlink_to(file)
    one, two = SqliteBackend(str(file)), SqliteBackend(str(tmp_path / "link.db"))
    with one.listen(NAME) as first, two.listen("station/2") as second:
        call(two, NAME)
        call(one, "station/2")
        assert first.wait(0)
        assert second.wait(0)
        one.close()
        call(two, NAME)
        assert first.wait(0)
        call(one, "station/2")
        assert second.wait(0)
    one.close()
    two.close()


@pytest.mark.usefixtures("no_looks")
def test_a_notify_before_the_wait_counts_once(path: str) -> None:
    """What notifies after listening has begun ends the next wait, and only that one."""
    store = SqliteBackend(path)
    with store.listen(NAME) as listener:
        call(store, NAME)
        call(store, NAME)
        assert listener.wait(0)
        assert not listener.wait(0)
        assert not listener.wait(-1)
    store.close()


@pytest.mark.usefixtures("no_looks")
def test_only_who_is_listed_is_notified(path: str) -> None:
    """A Wake notifies those whose names are in its scope and alive, clears that scope, and leaves all others alone."""
    clock = Clock()
    store = SqliteBackend(path, clock=clock)
    here, beside, expired = (store.listen(f"station/{number}") for number in range(3))
    below, other = key("waiting", "a", "b", space="w"), key("waiting else", space="w")
    run(store, Put(other, b"station/1"), Put(key("waiting", "c", space="w"), b"station/2", ttl=5))
    clock.milliseconds += 5
    # Listed by the same transaction: each write sees those before it. (The next one finds nothing expired any more.)
    assert run(store, Put(below, b"station/0"), Notify(LIST, Scope.BELOW), Notify(other, Scope.BELOW)).applied
    assert [listener.wait(0) for listener in (here, beside, expired)] == [True, False, False]
    assert run(store, Notify(LIST, Scope.SUBTREE), Notify(other, Scope.BELOW)).applied
    assert [listener.wait(0) for listener in (here, beside, expired)] == [False, False, False]
    checks = (Equals(LIST, Scope.SUBTREE, NOTHING), Equals(other, Scope.NODE, {(): b"station/1"}))
    assert run(store, checks=checks).applied
    for listener in (here, beside, expired):
        listener.close()
    store.close()


def test_what_is_no_name_is_passed_over(path: str) -> None:
    """Any bytes may be listed; a Wake removes them, and others who are listed are notified all the same."""
    store = SqliteBackend(path)
    with store.listen(NAME) as listener:
        call(store, b"", b"\xff/1", b"a/1\nb/1", b"x" * 101, b"nobody/1", NAME, bytes(range(256)))
        assert listener.wait(0)
    assert run(store, checks=(Equals(LIST, Scope.SUBTREE, NOTHING),)).applied
    store.close()


def test_other_processes_are_told_names_only(file: Path) -> None:
    """What can be no listener's name is not written down for others, however it reads."""
    store = SqliteBackend(str(file))
    elsewhere = settled(file)
    longest = b"x" * 98 + b"/1"
    call(store, b"", b"\xff/1", b"a/1\n0 b/1", b"x" + longest, longest, b"a b/1", bytes(range(256)))
    assert news(elsewhere).calls == (("0", longest), ("0", b"a b/1"))
    elsewhere.close()
    store.close()


@pytest.mark.usefixtures("no_looks")
def test_what_is_not_applied_notifies_nobody(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that is not applied notifies nobody, in this process or in another."""
    store = SqliteBackend(str(file))
    elsewhere = settled(file)
    listed = (Put(key("waiting", "a", space="w"), NAME.encode()), Put(key("waiting", "b", space="w"), b"elsewhere/1"))
    run(store, *listed, Put(key("text"), b"text"))
    notify = Notify(LIST, Scope.BELOW)
    with store.listen(NAME) as listener:
        assert run(store, notify, checks=(Equals(LIST, Scope.BELOW, NOTHING),)).status is Status.CHECK_FAILED
        assert run(store, notify, Add(key("text"), 1)).status is Status.NOT_A_COUNTER

        def fail(*_: object) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        with monkeypatch.context() as patch:
            patch.setattr(SqliteBackend, "_commit", fail)
            with pytest.raises(StoreError):
                run(store, notify)
        assert not listener.wait(0)
        assert news(elsewhere).calls == ()
        # The same transaction notifies both when it is applied.
        assert run(store, notify).applied
        assert listener.wait(0)
        assert news(elsewhere).calls == (("0", b"elsewhere/1"),)
    elsewhere.close()
    store.close()


def test_another_process_notifies_who_waits(file: Path) -> None:
    """A Wake in one process reaches who waits in another, in both directions, again and again."""
    parent, spawned = SqliteBackend(str(file)), multiprocessing.get_context("spawn")
    process = spawned.Process(target=answer_calls, args=(str(file), 10), daemon=True)
    process.start()
    with parent.listen("parent/1") as listener:
        for number in range(10):
            eventually(lambda number=number: value(parent, "ready") == b"%d" % number, "the other process listens")  # type: ignore[misc]
            run(parent, Put(key("parent", space="w"), b"parent/1"), Notify(key("child", space="w"), Scope.NODE))
            wait_until_cleared(parent, listener, "parent")
    process.join(TIMEOUT)
    assert process.exitcode == 0
    process.close()
    parent.close()


def answer_calls(path: str, times: int) -> None:
    """Wait in a process of its own to be called, and call back."""
    store = SqliteBackend(path)
    with store.listen("child/1") as listener:
        for number in range(times):
            run(store, Put(key("child", space="w"), b"child/1"), Put(key("ready"), b"%d" % number))
            wait_until_cleared(store, listener, "child")
            run(store, Notify(key("parent", space="w"), Scope.NODE))
    store.close()


def wait_until_cleared(store: SqliteBackend, listener: Listener, name: str) -> None:
    """Wait to be notified, and look whether that was meant."""
    here = Equals(key(name, space="w"), Scope.NODE, NOTHING)
    while True:
        assert listener.wait(TIMEOUT), "not notified"
        if run(store, checks=(here,)).applied:
            return


def test_only_who_is_meant_is_notified_by_other_processes(file: Path) -> None:
    """What others commit, and whom else they wake, notifies nobody here once the first look has been made."""
    store = SqliteBackend(str(file))
    with store.listen(NAME) as listener, store.listen("station/2") as other:
        settle(listener, other)
        with waiting(listener, 2 * LONGER_THAN_A_LOOK) as notified:
            Child(lambda: call(SqliteBackend(str(file)), "nobody/1", "station/2", "station/11")).result()
            # A fork closes the file, and the first look after it notifies everybody.
            notified()
        settle(listener, other)
        stranger = plain(file)
        stranger.execute("INSERT INTO entries VALUES (x'3000', x'', NULL)")
        stranger.execute("DELETE FROM entries WHERE key = x'3000'")
        stranger.close()
        assert not listener.wait(LONGER_THAN_A_LOOK)
        notification_log_call(file, ("0", b"station/2"))
        assert not listener.wait(LONGER_THAN_A_LOOK)
        assert other.wait(TIMEOUT)
        notification_log_call(file, ("0", b"station/1"))
        assert listener.wait(TIMEOUT)
    store.close()


def notification_log_call(file: Path, *calls: notification_log.Call) -> None:
    """Call somebody as another process does."""
    connection = plain(file)
    cursor = connection.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    notification_log.post(cursor, list(calls))
    cursor.execute("COMMIT")
    cursor.close()
    connection.close()


def test_who_missed_calls_takes_them_for_his_own(file: Path) -> None:
    """A look shows the calls since the last one, in order; if there were more than the bulletin keeps, anybody's."""
    store = SqliteBackend(str(file))
    run(store, Put(key("a"), b"1"))
    found = settled(file)
    assert news(found).calls == ()
    for size in (1, 5, 32):
        calls = tuple([("0", b"station/%d" % number) for number in range(size)])
        notification_log_call(file, *calls)
        assert news(found).calls == calls
        assert news(found).calls == ()
    for calls in ((("0", b"a/1"),) * 33, (("0", b"a/1"),) * 100):
        notification_log_call(file, *calls)
        assert news(found).calls is None
        assert news(found).calls == ()
    assert len(tree(store)) == 1
    found.close()
    store.close()


@pytest.mark.parametrize("row", [b"", b"x", b"-1\n0 a/1", "1\n\u00e9 a/1".encode(), b"9" * 5000, b"3\n\n\n"])
def test_a_notification_log_that_somebody_else_wrote_harms_nobody(file: Path, row: bytes) -> None:
    """Whatever the row of the bulletin says, looking and calling go on, and a later call notifies who is meant."""
    store = SqliteBackend(str(file))
    with store.listen(NAME) as listener:
        settle(listener)
        connection = sqlite3.connect(file)
        with connection:
            connection.execute(
                "INSERT OR REPLACE INTO entries (key, value) VALUES (?, ?)", (notification_log._KEY, row)
            )
        connection.close()
        notification_log_call(file, NAME_CALL)
        assert listener.wait(TIMEOUT)
    store.close()


def test_one_look_serves_all_who_listen(file: Path) -> None:
    """A look that finds somebody else called, or perhaps everybody, counts for those too who do not wait just then."""
    store = SqliteBackend(str(file))
    with store.listen(NAME) as listener, store.listen("station/2") as other:
        settle(listener, other)
        notification_log_call(file, ("0", b"station/2"), NAME_CALL)
        assert listener.wait(TIMEOUT)
        assert is_notified(other)
        settle(listener, other)
        notification_log_call(file, *[("0", b"nobody/1")] * 33)
        assert listener.wait(TIMEOUT)
        assert is_notified(other)
    store.close()


def test_a_look_that_was_cut_off_is_made_again(file: Path) -> None:
    """News that were not delivered, since a signal handler raised, come again as news for everybody."""
    found = settled(file)
    notification_log_call(file, ("0", b"a/1"))
    assert found.look().calls == (("0", b"a/1"),)
    assert news(found).calls is None
    assert news(found).calls == ()
    found.close()


def test_a_file_that_was_closed_may_have_changed(file: Path) -> None:
    """After a fork, and after it was let go of, a look finds that everybody may have been called."""
    found = settled(file)
    Child(lambda: None).result()
    assert news(found).calls is None
    assert news(found).calls == ()
    found.close()
    assert news(found).calls is None
    found.close()


def test_intervals_grow_and_begin_anew(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time between two looks doubles up to 50 milliseconds, and is short again after a call or for a newcomer.

    What is committed without calling anybody leaves it long.
    """
    monkeypatch.setattr(poller, "monotonic", lambda: 1000.0)
    found = settled(file)
    intervals = []
    for _ in range(8):
        news(found)
        intervals.append(found.due - 1000.0)
    whole = (0.002, 0.004, 0.008, 0.016, 0.032, 0.05, 0.05, 0.05)
    assert all(0.7 * most - 1e-9 <= each <= most + 1e-9 for each, most in zip(intervals, whole))
    assert len(set(intervals[5:])) == 3, "processes look in step"
    stranger = plain(file)
    stranger.execute("INSERT INTO entries VALUES (x'3000', x'', NULL)")
    stranger.close()
    news(found)
    assert found.due - 1000.0 > 0.001
    notification_log_call(file, ("0", b"anybody/1"))
    news(found)
    assert found.due - 1000.0 <= 0.001 + 1e-9
    for _ in range(8):
        news(found)
    found.hasten()
    assert found.due - 1000.0 <= 0.001 + 1e-9
    found.close()


def test_one_thread_looks_for_all(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many threads wait, one of them looks; another takes over when it leaves, and none is started."""
    lookers: list[threading.Thread] = []
    look = DataVersionPoller.look

    def noted(self: DataVersionPoller) -> News:
        lookers.append(threading.current_thread())
        return look(self)

    monkeypatch.setattr(DataVersionPoller, "look", noted)
    before = set(threading.enumerate())
    store = SqliteBackend(str(file))
    listeners = [store.listen(f"station/{number}") for number in range(6)]
    settle(*listeners)
    with ExitStack() as stack:
        answers = []
        for number, listener in enumerate(listeners):
            answers.append(stack.enter_context(waiting(listener)))
            eventually(lambda many=number + 1: len(of(listeners[0])._waiting) == many, "it waits")  # type: ignore[misc]
        assert len(set(threading.enumerate()) - before) == len(listeners)
        for number, answer in enumerate(answers):
            eventually(lambda heir=listeners[number]: keeper(heir) is heir, "the next one keeps the lookout")  # type: ignore[misc]
            lookers.clear()
            eventually(lambda: len(lookers) >= 3, "somebody looks")
            assert len(set(lookers)) == 1
            listeners[number].notify()
            assert answer()
    assert keeper(listeners[0]) is None
    for listener in listeners:
        listener.close()
    store.close()


def test_another_process_notifies_many_threads(file: Path) -> None:
    """All who wait in a process are notified by one transaction of another, whoever of them looks and leaves."""
    store = SqliteBackend(str(file))
    names = [f"station/{number}" for number in range(40)]
    with ExitStack() as stack:
        listeners = [stack.enter_context(store.listen(name)) for name in names]
        settle(*listeners)
        answers = [stack.enter_context(waiting(listener)) for listener in listeners]
        eventually(lambda: len(of(listeners[0])._waiting) == 40, "all wait")
        for number, answer in enumerate(answers):
            if number % 4 < 2:
                notification_log_call(file, ("0", names[number].encode()))
                assert answer()
        assert [listener for listener in listeners if listener in of(listener)._waiting] == [
            listener for number, listener in enumerate(listeners) if number % 4 >= 2
        ]
        notification_log_call(file, *[("0", name.encode()) for name in names])
        assert all(answer() for answer in answers)
    store.close()


def test_many_come_and_go(file: Path) -> None:
    """While threads come, wait a moment and leave all the time, somebody looks, and who is called is notified."""
    store = SqliteBackend(str(file))
    over = threading.Event()

    def come_and_go(number: int) -> None:
        with store.listen(f"restless/{number}") as listener:
            while not over.is_set():
                listener.wait(0.0001 * (number + 1))

    threads = [threading.Thread(target=come_and_go, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    with store.listen(NAME) as listener:
        settle(listener)
        for _ in range(50):
            notification_log_call(file, ("0", NAME.encode()))
            assert listener.wait(TIMEOUT)
        over.set()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert of(listener)._waiting == {}
    store.close()


def test_databases_of_one_file_are_separate(file: Path) -> None:
    """The same name in two databases belongs to two listeners; each is notified from its own database only."""
    stores = [SqliteBackend(str(file), database) for database in (0, 1)]
    with stores[0].listen(NAME) as zero, stores[1].listen(NAME) as one:
        settle(zero, one)
        for caller, notified, other in ((stores[0], zero, one), (stores[1], one, zero)):
            call(caller, NAME)
            assert notified.wait(0)
            assert not other.wait(LONGER_THAN_A_LOOK)
        for database, notified, other in (("0", zero, one), ("1", one, zero)):
            notification_log_call(file, (database, NAME.encode()))
            assert notified.wait(TIMEOUT)
            assert not other.wait(LONGER_THAN_A_LOOK)
    for store in stores:
        store.close()


def test_stores_in_memory_are_separate() -> None:
    """A store in memory is one instance: what another one notifies is not its own."""
    one, two = SqliteBackend(":memory:"), SqliteBackend(":memory:")
    assert one.capabilities.push
    with one.listen(NAME) as listener:
        call(two, NAME)
        assert not listener.wait(0)
    one.close()
    two.close()


def test_a_file_cannot_push(file: Path) -> None:
    """Between processes there is no push, so none is claimed."""
    assert not SqliteBackend(str(file)).capabilities.push


def test_a_child_calls_its_parent_as_others_do(file: Path) -> None:
    """The parent's listeners are not the child's: what the child notifies reaches the parent, and so the other way."""
    store = SqliteBackend(str(file))
    child_waits = multiprocessing.get_context("fork").Event()

    def in_child() -> bool:
        assert NAME_CALL not in shared_listeners(str(file))
        call(store, NAME)
        with store.listen("child/1") as mine:
            run(store, Put(key("child", space="w"), b"child/1"))
            child_waits.set()
            wait_until_cleared(store, mine, "child")
        return True

    with store.listen(NAME) as listener:
        settle(listener)
        assert NAME_CALL in shared_listeners(str(file))
        child = Child(in_child)
        assert child_waits.wait(TIMEOUT)
        assert listener.wait(TIMEOUT)
        assert run(store, Notify(key("child", space="w"), Scope.NODE)).applied
        assert child.result()
        assert NAME_CALL in shared_listeners(str(file))
        call(store, NAME)
        assert listener.wait(TIMEOUT)
    store.close()


def test_a_child_may_use_and_close_a_listener_that_it_inherits(path: str) -> None:
    """A listener that a child inherits is nobody's: it waits, ends in time, and closing it harms no one."""
    store = SqliteBackend(path)
    with store.listen(NAME) as listener, store.listen("station/2") as other, waiting(other) as notified:
        eventually(lambda: other in of(listener)._waiting, "it waits")

        def in_child() -> bool:
            listener.wait(0.001)
            listener.close()
            return listener not in of(listener)._waiting

        assert Child(in_child).result()
        call(store, NAME)
        assert listener.wait(0)
        call(store, "station/2")
        assert notified()
    store.close()


def test_forks_while_threads_wait(file: Path) -> None:
    """Fork again and again while threads wait: no fork waits for them, none of them is lost, no child hangs."""
    store = SqliteBackend(str(file))
    with ExitStack() as stack:
        listeners = [stack.enter_context(store.listen(f"station/{number}")) for number in range(3)]
        over = threading.Event()

        def wait_on(listener: SqliteListener) -> None:
            while not over.is_set():
                listener.wait(TIMEOUT)

        threads = [threading.Thread(target=wait_on, args=(listener,), daemon=True) for listener in listeners]
        for thread in threads:
            thread.start()
        for number in range(12):

            def in_child(number: int = number) -> bool:
                with store.listen(f"child/{number}") as mine:
                    call(store, f"child/{number}")
                    return mine.wait(0)

            assert Child(in_child).result()
        over.set()
        Child(lambda: call(store, *[f"station/{number}" for number in range(3)])).result()
        for thread in threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()
    store.close()


def test_a_failure_of_the_file_is_a_notify_up(file: Path, tmp_path: Path) -> None:
    """Waiting raises nothing where the file cannot be opened: it ends after the interval, and the next call tells."""
    store = SqliteBackend(str(tmp_path / "not there" / "s.db"))
    with store.listen(NAME) as listener:
        for _ in range(10):
            assert listener.wait(TIMEOUT)
        kept = of(listener)._poller
        assert kept is not None
        assert kept._interval == 0.05
        with pytest.raises(Unreachable):
            value(store, "a")
    store.close()
    keeper_of_lock = SqliteBackend(str(file))
    run(keeper_of_lock, Put(key("a"), b"1"))
    keeper_of_lock.close()
    stranger = plain(file)
    stranger.execute("PRAGMA locking_mode = EXCLUSIVE")
    stranger.execute("BEGIN EXCLUSIVE")
    store = SqliteBackend(str(file))
    with store.listen(NAME) as listener:
        assert listener.wait(TIMEOUT)
        assert listener.wait(TIMEOUT)
        stranger.close()
        settle(listener)
    store.close()


def test_close_ends_listening(path: str) -> None:
    """Who has closed his listener is not notified, may do it twice, and leaves others alone."""
    store = SqliteBackend(path)
    listener, other = store.listen(NAME), store.listen("station/2")
    listener.close()
    listener.close()
    call(store, NAME, "station/2")
    assert not listener.notified
    assert other.wait(0)
    assert list(of(other)._by_name) == [("0", b"station/2")]
    other.close()
    assert of(other)._by_name == {}
    store.close()


def test_the_file_is_let_go_of_when_nobody_needs_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking keeps the file open while a listener or an instance that listened is, and not longer."""
    opened: list[sqlite3.Connection] = []
    connect = files._connect

    def noted(*given: str, uri: bool = False) -> sqlite3.Connection:
        opened.append(connect(*given, uri=uri))
        return opened[-1]

    monkeypatch.setattr(files, "_connect", noted)
    store = SqliteBackend(str(file))
    for _ in range(3):
        with store.listen(NAME) as listener:
            settle(listener)
    assert len(opened) == 1
    late = store.listen(NAME)
    store.close()
    notification_log_call(file, NAME_CALL)
    assert late.wait(TIMEOUT)
    assert len(opened) == 1
    late.close()
    del late, listener
    assert str(os.path.realpath(file)) not in notifications._at_files
    with pytest.raises(sqlite3.ProgrammingError):
        opened[0].total_changes  # noqa: B018  (it raises if the connection is closed)
    # A closed instance may still be asked to listen, as when settings are replaced.
    with store.listen(NAME) as again:
        assert again.wait(TIMEOUT)
    assert store._listeners is None
    del again
    assert str(os.path.realpath(file)) not in notifications._at_files
