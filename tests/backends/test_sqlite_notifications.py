"""Notifications on SQLite: which listeners are notified, by which thread or process, and how a file is polled."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from redicts.backends.sqlite import notification_log, poller, statements
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.notifications import Listeners, SqliteListener, listeners_at, shared_listeners
from redicts.backends.sqlite.poller import DataVersionPoller, News
from redicts.core.listener import Listener
from redicts.core.minitransaction import NOTHING, Add, Equals, Notify, Put, Scope, Status
from redicts.errors import StoreError, Unreachable
from tests.backends.sqlite_tools import TIMEOUT, Child, Opened, key, plain, run, sql, tree, value
from tests.support.waiting import eventually

LIST = key("waiting", space="w")
NAME = "listener/1"
NAME_CALL = ("0", NAME.encode())
SEVERAL_POLLS = 0.2
"""Seconds within which a waiting listener looks at the file several times."""


@pytest.fixture
def no_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no thread look at the file, so that only this process notifies."""
    monkeypatch.setattr(DataVersionPoller, "hasten", lambda self: setattr(self, "due", float("inf")))


def call(store: SqliteBackend, *names: str | bytes) -> None:
    """List these names, then notify them."""
    listed = [each.encode() if isinstance(each, str) else each for each in names]
    run(store, *[Put(key("waiting", str(number), space="w"), each) for number, each in enumerate(listed)])
    assert run(store, Notify(LIST, Scope.BELOW)).applied


def settle(*listeners: Listener) -> None:
    """Let the first look happen, which notifies every listener, and wait until no notification is left."""
    while listeners[0].wait(SEVERAL_POLLS):
        pass
    for listener in listeners:
        listener.wait(0)


def settled(path: Path | str) -> DataVersionPoller:
    """Return a poller that has looked once."""
    found = DataVersionPoller(str(path))
    found.delivered(found.look())
    return found


def news(found: DataVersionPoller) -> News:
    """Return the news of another look."""
    latest = found.look()
    found.delivered(latest)
    return latest


@contextmanager
def waiting(listener: Listener, seconds: float = TIMEOUT) -> Iterator[Callable[[], bool]]:
    """Wait in a thread of its own while the block runs; the given function returns whether it was notified."""
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
    """Return the listeners that a listener belongs to."""
    assert isinstance(listener, SqliteListener)
    return listener._listeners


def is_notified(listener: Listener) -> bool:
    """Tell whether the next wait returns at once, without a look at the file."""
    assert isinstance(listener, SqliteListener)
    return listener.notified


def polling(listener: Listener) -> Listener | None:
    """Return the listener whose thread polls for this one."""
    return of(listener)._polling.get("polling")


@pytest.mark.usefixtures("no_polls")
def test_a_thread_notifies_another_at_once(path: str) -> None:
    """The transaction of another thread notifies a waiting thread, without a look at the file."""
    store = SqliteBackend(path)
    with store.listen(NAME) as listener, waiting(listener) as notified:
        call(store, NAME)
        assert notified()
    store.close()


@pytest.mark.usefixtures("no_polls")
def test_instances_of_one_file_notify_each_other_at_once(file: Path, tmp_path: Path) -> None:
    """Instances that use one file notify each other, whatever their paths, even if they were closed in between."""
    (tmp_path / "link.db").symlink_to(file)
    one, two = SqliteBackend(str(file)), SqliteBackend(str(tmp_path / "link.db"))
    with one.listen(NAME) as first, two.listen("listener/2") as second:
        call(two, NAME)
        call(one, "listener/2")
        assert first.wait(0)
        assert second.wait(0)
        one.close()
        call(two, NAME)
        assert first.wait(0)
        call(one, "listener/2")
        assert second.wait(0)
    one.close()
    two.close()


def test_only_valid_names_are_logged(file: Path) -> None:
    """Bytes that cannot name a listener are not written to the notification log."""
    store = SqliteBackend(str(file))
    elsewhere = settled(file)
    longest = b"x" * 98 + b"/1"
    call(store, b"", b"\xff/1", b"a/1\n0 b/1", b"x" + longest, longest, b"a b/1", bytes(range(256)))
    assert news(elsewhere).calls == (("0", longest), ("0", b"a b/1"))
    elsewhere.close()
    store.close()


@pytest.mark.usefixtures("no_polls")
def test_a_transaction_that_is_not_applied_notifies_nobody(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that is refused or fails to commit notifies nobody, in this process or in another."""
    store = SqliteBackend(str(file))
    elsewhere = settled(file)
    listed = (Put(key("waiting", "a", space="w"), NAME.encode()), Put(key("waiting", "b", space="w"), b"elsewhere/1"))
    run(store, *listed, Put(key("text"), b"text"))
    notify = Notify(LIST, Scope.BELOW)
    with store.listen(NAME) as listener:
        assert run(store, notify, checks=(Equals(LIST, Scope.BELOW, NOTHING),)).status is Status.CHECK_FAILED
        assert run(store, notify, Add(key("text"), 1)).status is Status.NOT_A_COUNTER

        with monkeypatch.context() as patch:
            # A commit that fails.
            patch.setattr(statements, "COMMIT", "COMMIT AND FAIL")
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


def wait_until_cleared(store: SqliteBackend, listener: Listener, name: str) -> None:
    """Wait until the list of this name is cleared."""
    here = Equals(key(name, space="w"), Scope.NODE, NOTHING)
    while True:
        assert listener.wait(TIMEOUT), "not notified"
        if run(store, checks=(here,)).applied:
            return


def test_commits_of_other_processes_notify_only_named_listeners(file: Path) -> None:
    """After the first look, other commits and notifications for other listeners notify nobody here."""
    store = SqliteBackend(str(file))
    with store.listen(NAME) as listener, store.listen("listener/2") as other:
        settle(listener, other)
        with waiting(listener, 2 * SEVERAL_POLLS) as notified:
            Child(lambda: call(SqliteBackend(str(file)), "nobody/1", "listener/2", "listener/11")).result()
            # A fork closes the file, and the first look after it notifies every listener.
            notified()
        settle(listener, other)
        sql(file, "INSERT INTO entries VALUES (x'3000', x'', NULL)", "DELETE FROM entries WHERE key = x'3000'")
        assert not listener.wait(SEVERAL_POLLS)
        notify_from_outside(file, ("0", b"listener/2"))
        assert not listener.wait(SEVERAL_POLLS)
        assert other.wait(TIMEOUT)
        notify_from_outside(file, ("0", b"listener/1"))
        assert listener.wait(TIMEOUT)
    store.close()


def notify_from_outside(file: Path, *calls: notification_log.Call) -> None:
    """Notify listeners as another process does."""
    connection = plain(file)
    cursor = connection.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    notification_log.append(cursor, list(calls))
    cursor.execute("COMMIT")
    cursor.close()
    connection.close()


def test_missed_notifications_count_for_every_listener(file: Path) -> None:
    """A look returns the notifications since the last one in order, or ``None`` if the log no longer has all."""
    store = SqliteBackend(str(file))
    run(store, Put(key("a"), b"1"))
    found = settled(file)
    assert news(found).calls == ()
    for size in (1, 5, 32):
        calls = tuple([("0", b"listener/%d" % number) for number in range(size)])
        notify_from_outside(file, *calls)
        assert news(found).calls == calls
        assert news(found).calls == ()
    for calls in ((("0", b"a/1"),) * 33, (("0", b"a/1"),) * 100):
        notify_from_outside(file, *calls)
        assert news(found).calls is None
        assert news(found).calls == ()
    assert len(tree(store)) == 1
    found.close()
    store.close()


@pytest.mark.parametrize("row", [b"", b"x", b"-1\n0 a/1", "1\n\u00e9 a/1".encode(), b"9" * 5000, b"3\n\n\n"])
def test_an_altered_notification_log_is_repaired(file: Path, row: bytes) -> None:
    """Whatever another program writes to the log, polling continues and the next notification arrives."""
    store = SqliteBackend(str(file))
    with store.listen(NAME) as listener:
        settle(listener)
        sql(file, f"INSERT OR REPLACE INTO notification_log (id, log) VALUES (1, x'{row.hex()}')")
        settle(listener)
        notify_from_outside(file, NAME_CALL)
        assert listener.wait(TIMEOUT)
    store.close()


def test_one_look_serves_all_who_listen(file: Path) -> None:
    """A look by one thread also notifies listeners whose threads do not wait at that time."""
    store = SqliteBackend(str(file))
    with store.listen(NAME) as listener, store.listen("listener/2") as other:
        settle(listener, other)
        notify_from_outside(file, ("0", b"listener/2"), NAME_CALL)
        assert listener.wait(TIMEOUT)
        assert is_notified(other)
        settle(listener, other)
        notify_from_outside(file, *[("0", b"nobody/1")] * 33)
        assert listener.wait(TIMEOUT)
        assert is_notified(other)
    store.close()


def test_an_interrupted_look_loses_nothing(file: Path) -> None:
    """News that were not delivered, because a signal handler raised, come again as news for every listener."""
    found = settled(file)
    notify_from_outside(file, ("0", b"a/1"))
    assert found.look().calls == (("0", b"a/1"),)
    assert news(found).calls is None
    assert news(found).calls == ()
    found.close()


def test_a_reopened_file_notifies_every_listener(file: Path) -> None:
    """After a fork or a close, every listener may have been notified."""
    found = settled(file)
    Child(lambda: None).result()
    assert news(found).calls is None
    assert news(found).calls == ()
    found.close()
    assert news(found).calls is None
    found.close()


def test_intervals_grow_and_start_over(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals double up to 50 milliseconds, and start over after a notification or for a new listener.

    Commits without a notification leave them long.
    """
    monkeypatch.setattr(poller, "monotonic", lambda: 1000.0)
    found = settled(file)
    intervals = []
    for _ in range(8):
        news(found)
        intervals.append(found.due - 1000.0)
    whole = (0.002, 0.004, 0.008, 0.016, 0.032, 0.05, 0.05, 0.05)
    assert all(0.7 * most - 1e-9 <= each <= most + 1e-9 for each, most in zip(intervals, whole))
    assert len(set(intervals[5:])) == 3, "the intervals are not random"
    sql(file, "INSERT INTO entries VALUES (x'3000', x'', NULL)")
    news(found)
    assert found.due - 1000.0 > 0.001
    notify_from_outside(file, ("0", b"anybody/1"))
    news(found)
    assert found.due - 1000.0 <= 0.001 + 1e-9
    for _ in range(8):
        news(found)
    found.hasten()
    assert found.due - 1000.0 <= 0.001 + 1e-9
    found.close()


def test_one_thread_polls_for_all(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the waiting threads polls; another takes over when it leaves, and no thread is started."""
    pollers: list[threading.Thread] = []
    look = DataVersionPoller.look

    def recorded(self: DataVersionPoller) -> News:
        pollers.append(threading.current_thread())
        return look(self)

    monkeypatch.setattr(DataVersionPoller, "look", recorded)
    before = set(threading.enumerate())
    store = SqliteBackend(str(file))
    listeners = [store.listen(f"listener/{number}") for number in range(6)]
    settle(*listeners)
    with ExitStack() as stack:
        answers = []
        for number, listener in enumerate(listeners):
            answers.append(stack.enter_context(waiting(listener)))
            eventually(lambda many=number + 1: len(of(listeners[0])._waiting) == many, "it waits")  # type: ignore[misc]
        assert len(set(threading.enumerate()) - before) == len(listeners)
        for number, answer in enumerate(answers):
            eventually(lambda heir=listeners[number]: polling(heir) is heir, "the next one polls")  # type: ignore[misc]
            pollers.clear()
            eventually(lambda: len(pollers) >= 3, "a thread polls")
            assert len(set(pollers)) == 1
            listeners[number].notify()
            assert answer()
    assert polling(listeners[0]) is None
    for listener in listeners:
        listener.close()
    store.close()


def test_another_process_notifies_many_threads(file: Path) -> None:
    """One transaction of another process notifies all waiting threads, whichever of them polls and leaves."""
    store = SqliteBackend(str(file))
    names = [f"listener/{number}" for number in range(40)]
    with ExitStack() as stack:
        listeners = [stack.enter_context(store.listen(name)) for name in names]
        settle(*listeners)
        answers = [stack.enter_context(waiting(listener)) for listener in listeners]
        eventually(lambda: len(of(listeners[0])._waiting) == 40, "all wait")
        for number, answer in enumerate(answers):
            if number % 4 < 2:
                notify_from_outside(file, ("0", names[number].encode()))
                assert answer()
        assert [listener for listener in listeners if listener in of(listener)._waiting] == [
            listener for number, listener in enumerate(listeners) if number % 4 >= 2
        ]
        notify_from_outside(file, *[("0", name.encode()) for name in names])
        assert all(answer() for answer in answers)
    store.close()


def test_waiting_threads_may_come_and_go(file: Path) -> None:
    """While other threads start and stop waiting all the time, some thread polls and notifications arrive."""
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
            notify_from_outside(file, ("0", NAME.encode()))
            assert listener.wait(TIMEOUT)
        over.set()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert of(listener)._waiting == {}
    store.close()


def test_databases_of_one_file_are_separate(file: Path) -> None:
    """The same name in two databases names two listeners, each notified from its own database only."""
    stores = [SqliteBackend(str(file), database) for database in (0, 1)]
    with stores[0].listen(NAME) as zero, stores[1].listen(NAME) as one:
        settle(zero, one)
        for caller, notified, other in ((stores[0], zero, one), (stores[1], one, zero)):
            call(caller, NAME)
            assert notified.wait(0)
            assert not other.wait(SEVERAL_POLLS)
        for database, notified, other in (("0", zero, one), ("1", one, zero)):
            notify_from_outside(file, (database, NAME.encode()))
            assert notified.wait(TIMEOUT)
            assert not other.wait(SEVERAL_POLLS)
    for store in stores:
        store.close()


def test_stores_in_memory_are_separate() -> None:
    """Notifications in one store in memory do not reach another one."""
    one, two = SqliteBackend(":memory:"), SqliteBackend(":memory:")
    assert one.capabilities.push
    with one.listen(NAME) as listener:
        call(two, NAME)
        assert not listener.wait(0)
    one.close()
    two.close()


def test_a_file_cannot_push(file: Path) -> None:
    """A file does not declare ``push``, because processes cannot push to each other."""
    assert not SqliteBackend(str(file)).capabilities.push


def test_parent_and_child_notify_each_other(file: Path) -> None:
    """A child does not inherit listeners; parent and child notify each other as any processes do."""
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


def test_a_child_may_close_an_inherited_listener(path: str) -> None:
    """In a child an inherited listener times out, and closing it does not affect the parent."""
    store = SqliteBackend(path)
    with store.listen(NAME) as listener, store.listen("listener/2") as other, waiting(other) as notified:
        eventually(lambda: other in of(listener)._waiting, "it waits")

        def in_child() -> bool:
            listener.wait(0.001)
            listener.close()
            return listener not in of(listener)._waiting

        assert Child(in_child).result()
        call(store, NAME)
        assert listener.wait(0)
        call(store, "listener/2")
        assert notified()
    store.close()


def test_a_failure_of_the_file_ends_a_wait(file: Path, tmp_path: Path) -> None:
    """If the file cannot be opened, waiting raises nothing: it ends after the interval, and the next call raises."""
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


def test_the_file_is_closed_when_no_listener_needs_it(file: Path, opened: Opened) -> None:
    """The poller keeps the file open while a listener or an instance that listened is open, and not longer."""
    store = SqliteBackend(str(file))
    for _ in range(3):
        with store.listen(NAME) as listener:
            settle(listener)
    assert len(opened.connections) == 1
    late = store.listen(NAME)
    store.close()
    notify_from_outside(file, NAME_CALL)
    assert late.wait(TIMEOUT)
    assert len(opened.connections) == 1
    late.close()
    del late, listener
    assert listeners_at(str(file)) is None
    assert opened.not_closed == 0
    # A closed instance may still be asked to listen, as when settings are replaced.
    with store.listen(NAME) as again:
        assert again.wait(TIMEOUT)
    del again
    assert listeners_at(str(file)) is None
