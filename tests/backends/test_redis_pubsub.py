"""Notifications reach the listeners that they name, over one subscription per process, and none is lost."""

from __future__ import annotations

import contextlib
import gc
import itertools
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import FrameType, SimpleNamespace
from typing import Any, Final

import pytest
import redis

from redicts.backends.fakeredis import plugin as fakeredis
from redicts.backends.redis import RedisBackend, pubsub
from redicts.backends.redis.backend import ATOMIC_ENTRIES, open_redis
from redicts.backends.redis.pubsub import RedisListener
from redicts.backends.redis.settings import RedisSettings
from redicts.core.backend import Backend
from redicts.core.listener import Listener
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Entries,
    Equals,
    Key,
    Notify,
    Outcome,
    Path,
    Put,
    Read,
    Scope,
    StartsWith,
    Status,
    Transaction,
    Write,
)
from redicts.errors import AccessDenied, CorruptData, StoreBusy, Unreachable
from redicts.forks import Bell
from tests.backends.redis_tools import calls, clients, configuration, contents, data, examine_layout, opened, write
from tests.backends.test_redis_connections import Interrupted, interrupting
from tests.backends.test_redis_forks import Child
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisServer, StartRedis
from tests.support.waiting import TIMEOUT, eventually

NOT_NOTIFIED: Final = 0.05
"""Seconds to wait for a notification that must not come."""

LIST: Final = Key("n", ("list",))

numbers: Final = itertools.count()


def entry(*path: str) -> Key:
    """Return the key of an entry of the list."""
    return Key("n", ("list", *path))


def fresh_names(count: int, client_id: str = "cl1ent") -> list[str]:
    """Return new names of listeners of one client id."""
    return [f"{client_id}/{next(numbers)}" for _ in range(count)]


def notify(backend: Backend, *names: str, more: tuple[Write, ...] = ()) -> Outcome:
    """Notify the listeners of these names."""
    listed = [Put(entry(str(number)), name.encode()) for number, name in enumerate(names)]
    return backend.execute(Transaction(writes=(*listed, *more, Notify(LIST, Scope.BELOW))))


def subscribers(server: RedisServer) -> list[bytes]:
    """Return a line for each connection with a subscription."""
    listed = server.command("CLIENT", "LIST", "TYPE", "PUBSUB")
    assert isinstance(listed, bytes)
    return listed.splitlines()


def is_notified_by(listener: Listener, backend: Backend, name: str) -> bool:
    """Tell whether a notification of this name reaches the listener. Those that it already has do not count."""
    while listener.wait(0):
        pass
    notify(backend, name)
    return listener.wait(TIMEOUT)


@contextlib.contextmanager
def listening(backend: Backend, names: list[str]) -> Iterator[list[Listener]]:
    """Listen under each of these names."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(backend.listen(name)) for name in names]


@contextlib.contextmanager
def all_messages(server: RedisServer) -> Iterator[Any]:
    """Give a function that returns what was published since then, with its channel."""
    with redis.Redis(unix_socket_path=str(server.socket_path)) as client, client.pubsub() as pubsub:
        pubsub.psubscribe("*")
        assert pubsub.get_message(timeout=TIMEOUT)["type"] == "psubscribe"

        def published() -> list[tuple[bytes, bytes]]:
            client.publish("the end", "")
            found: list[tuple[bytes, bytes]] = []
            while True:
                message = pubsub.get_message(timeout=TIMEOUT)
                if message["channel"] == b"the end":
                    return found
                found.append((message["channel"], message["data"]))

        yield published


@pytest.fixture
def backend(redis_server: RedisServer) -> Iterator[RedisBackend]:
    """Give a backend that listens."""
    with opened(redis_server) as backend:
        yield backend


@pytest.fixture
def notifier(redis_server: RedisServer) -> Iterator[RedisBackend]:
    """Give the backend of another client, which notifies."""
    with opened(redis_server) as backend:
        yield backend


# Notified listeners ----------------------------------------------------------------------------------------------


def test_a_listener_of_another_client_is_notified(backend: RedisBackend, notifier: RedisBackend) -> None:
    """The named listener is notified once, no other one is, and the list is empty then."""
    named, other = fresh_names(2)
    with listening(backend, [named, other]) as (listener, stranger):
        assert notify(notifier, named).applied
        assert listener.wait(TIMEOUT)
        assert not listener.wait(0)
        assert not stranger.wait(NOT_NOTIFIED)
    (answer,) = notifier.execute(Transaction(reads=(Read(LIST, Scope.SUBTREE),))).answers
    assert answer == Entries({})


def test_a_listener_of_another_process_is_notified(backend: RedisBackend, redis_server: RedisServer) -> None:
    """Another process can notify."""
    (name,) = fresh_names(1)

    def notify_from_there() -> bool:
        with opened(redis_server) as notifier:
            return notify(notifier, name).applied

    with backend.listen(name) as listener:
        assert Child(notify_from_there).result()
        assert listener.wait(TIMEOUT)


@pytest.mark.parametrize("scope", Scope)
def test_a_notify_notifies_its_scope(backend: RedisBackend, redis_server: RedisServer, scope: Scope) -> None:
    """Names in the scope are notified and removed, at any depth, and no others.

    The name at the key itself and those below it are put in two transactions, as a space is free of prefixes.
    """
    at, below, deep = fresh_names(3)
    lists: list[dict[Path, str]] = [{(): at}, {("a",): below, ("b", "c"): deep}]
    for listed in lists:
        write(backend, *[Put(entry("x", *path), name.encode()) for path, name in listed.items()])
        write(backend, Put(entry("y"), b"stays"))
        with listening(backend, list(listed.values())) as listeners:
            assert write(backend, Notify(entry("x"), scope)).applied
            for path, listener in zip(listed, listeners):
                assert listener.wait(TIMEOUT if scope.covers(path) else NOT_NOTIFIED) is scope.covers(path)
        (answer,) = backend.execute(Transaction(reads=(Read(LIST, Scope.BELOW),))).answers
        left = {("x", *path): name.encode() for path, name in listed.items() if not scope.covers(path)}
        assert answer == Entries({("y",): b"stays", **left})
        examine_layout(contents(redis_server))
        write(backend, Delete(LIST, Scope.SUBTREE))


def test_a_notify_sees_the_writes_before_it(backend: RedisBackend) -> None:
    """Names that were put before it in the same transaction are notified, those that were deleted are not."""
    put, deleted, later = fresh_names(3)
    write(backend, Put(entry("b"), deleted.encode()))
    with listening(backend, [put, deleted, later]) as (one, two, three):
        writes = Put(entry("a"), put.encode()), Delete(entry("b"), Scope.NODE), Notify(LIST, Scope.BELOW)
        assert write(backend, *writes, Put(entry("c"), later.encode()), Add(Key("f", ("n",)), 1)).counters == (1,)
        assert one.wait(TIMEOUT)
        assert not two.wait(NOT_NOTIFIED)
        assert not three.wait(0)


def test_a_counter_after_a_notify_starts_at_zero(backend: RedisBackend) -> None:
    """Values that a notify has removed are absent for later writes of the transaction."""
    for scope, path in ((Scope.NODE, ()), (Scope.SUBTREE, ()), (Scope.BELOW, ("n",)), (Scope.SUBTREE, ("n",))):
        write(backend, Put(entry(*path), b"7"))
        assert write(backend, Notify(LIST, scope), Add(entry(*path), 1)).counters == (1,), scope
        write(backend, Delete(LIST, Scope.SUBTREE))


def test_an_expired_name_is_not_notified(backend: RedisBackend, redis_server: RedisServer) -> None:
    """An expired name is not notified, though its bytes may be there. A live one with a TTL is."""
    over, alive = fresh_names(2)
    with listening(backend, [over, alive]) as (expired, live):
        write(backend, Put(entry("a"), over.encode(), 1), Put(entry("b"), alive.encode(), 600_000))
        read = Transaction(reads=(Read(entry("a")),))
        eventually(lambda: backend.execute(read).answers == (Entries({}),), "its TTL is over")
        write(backend, Notify(LIST, Scope.BELOW))
        assert live.wait(TIMEOUT)
        assert not expired.wait(NOT_NOTIFIED)
    assert contents(redis_server).data().keys() == set()


ODD: Final = [b"", b"/", b"x", b"x/", b"/1", b"\x00/\x00", b"a b/1", b"x/1\n", b"\x01", b"\x02/1", b"\x03/2", b"\xff/1"]


def test_invalid_names_are_skipped(backend: RedisBackend, redis_server: RedisServer) -> None:
    """Values that are not names, also for their length, are not published, and the others are notified."""
    (name,) = fresh_names(1)
    odd = [*ODD, b"x/" + b"1" * 99, b"x" * 2_000_000]
    with backend.listen(name) as listener, all_messages(redis_server) as published:
        listed = [Put(entry(str(number)), value) for number, value in enumerate(odd)]
        assert write(backend, *listed, Put(entry("name"), name.encode()), Notify(LIST, Scope.BELOW)).applied
        assert listener.wait(TIMEOUT)
        client_id, _, number = name.encode().partition(b"/")
        assert [sent for sent in published() if sent[1]] == [(b"s:0:" + client_id, number)]
    assert data(redis_server) == {}


def test_the_longest_name(backend: RedisBackend) -> None:
    """A name of a hundred characters is valid."""
    name = f"{'client_id-' * 8}/".ljust(100, "7")
    with backend.listen(name) as listener:
        assert is_notified_by(listener, backend, name)


@pytest.mark.parametrize("name", ["", "x", "/1", "x/", "a b/1", "x/\n", "\u00e9/1", "x/".ljust(101, "1")])
def test_listening_under_an_invalid_name_is_refused(backend: RedisBackend, name: str) -> None:
    """A name that the script would skip is a ``ValueError``."""
    with pytest.raises(ValueError, match="name of a listener"):
        backend.listen(name)


def test_thousands_are_notified_at_once(backend: RedisBackend, redis_server: RedisServer) -> None:
    """One notify reaches as many listeners as a transaction may touch. With one more it reaches none."""
    client_id, each = "cl1ent", 1_000
    with all_messages(redis_server) as published:
        for first in range(0, ATOMIC_ENTRIES, each):
            write(
                backend, *[Put(entry(str(n)), b"%b/%d" % (client_id.encode(), n)) for n in range(first, first + each)]
            )
        write(backend, Put(entry("one", "more"), b"x/1"))
        assert write(backend, Notify(LIST, Scope.BELOW)).status is Status.TOO_LARGE
        assert published() == []
        write(backend, Delete(entry("one", "more"), Scope.NODE))
        assert write(backend, Notify(LIST, Scope.BELOW)).applied
        sent = [message for channel, message in published() if message]
        assert sorted(map(int, sent)) == list(range(ATOMIC_ENTRIES))
    assert data(redis_server) == {}


# No notification -------------------------------------------------------------------------------------------------


def test_nothing_is_published_unless_the_transaction_is_applied(
    backend: RedisBackend, redis_server: RedisServer
) -> None:
    """If a check fails, a value is not a counter or a key is foreign, no message is sent and the list stays."""
    write(backend, Put(entry("a"), b"x/1"), Put(Key("v", ("text",)), b"no number"))
    redis_server.command("SET", "v:.foreign", "theirs")
    before = data(redis_server)
    refused = Transaction((Equals(Key("v", ("text",)), Scope.NODE, NOTHING),), writes=(Notify(LIST, Scope.BELOW),))
    with all_messages(redis_server) as published:
        assert backend.execute(refused).status is Status.CHECK_FAILED
        assert write(backend, Notify(LIST, Scope.BELOW), Add(Key("v", ("text",)), 1)).status is Status.NOT_A_COUNTER
        with pytest.raises(CorruptData):
            write(backend, Notify(LIST, Scope.BELOW), Put(Key("v", ("foreign", "x")), b"1"))
        assert [message for _, message in published() if message] == []
    assert data(redis_server) == before


@pytest.mark.parametrize("scope", Scope)
def test_a_foreign_key_stops_a_notify(backend: RedisBackend, redis_server: RedisServer, scope: Scope) -> None:
    """A key of another type in place of the space of a list is an error before the first change."""
    redis_server.command("SET", "n:", "theirs")
    before = data(redis_server)
    with pytest.raises(CorruptData):
        write(backend, Put(Key("v", ("a",)), b"1"), Notify(LIST, scope))
    assert data(redis_server) == before


def test_an_empty_list_costs_one_look(backend: RedisBackend, redis_server: RedisServer) -> None:
    """A notify on an empty list, which every release of a lock has, is one command and sends nothing."""
    used = []
    for writes in ((), (Notify(LIST, Scope.BELOW),)):
        for _ in range(3):  # one request in four of a session sweeps: the counted ones are four apart
            write(backend, Put(Key("v", ("a",)), b"1"), Put(Key("v", ("b",)), b"1"))
        redis_server.command("CONFIG", "RESETSTAT")
        write(backend, Delete(Key("v", ("b",)), Scope.NODE), *writes)
        used.append(calls(redis_server))
    more = {name: count - used[0].get(name, 0) for name, count in used[1].items() if count != used[0].get(name, 0)}
    assert more == {"zrangebylex": 1}


def test_prefix_and_database_keep_clients_apart(redis_server: RedisServer) -> None:
    """Each prefix and each database of a server has channels of its own."""
    (name,) = fresh_names(1)
    with (
        opened(redis_server, prefix="app:", database=3) as backend,
        opened(redis_server, prefix="app:", database=4) as elsewhere,
        opened(redis_server, prefix="b", database=3) as other,
        backend.listen(name) as listener,
        all_messages(redis_server) as published,
    ):
        notify(elsewhere, name)
        notify(other, name)
        notify(backend, name)
        assert listener.wait(TIMEOUT)
        assert not listener.wait(NOT_NOTIFIED)
        sent = [channel for channel, message in published() if message]
        assert sent == [prefix + name.partition("/")[0].encode() for prefix in (b"app:s:4:", b"bs:3:", b"app:s:3:")]


# Waiting ---------------------------------------------------------------------------------------------------------


def test_a_notification_before_the_wait_counts(backend: RedisBackend, notifier: RedisBackend) -> None:
    """A notification after listen() returned is not lost, whichever thread reads it: the next wait returns at once."""
    names = fresh_names(5)
    with listening(backend, names) as listeners:
        for name in names:
            notify(notifier, name)
        for listener in random.sample(listeners, len(listeners)):
            assert listener.wait(TIMEOUT)
        for listener in listeners:
            assert not listener.wait(0)


def test_many_notifications_before_the_wait_end(backend: RedisBackend, notifier: RedisBackend) -> None:
    """After many notifications, wait() returns true at least once, and then waits again."""
    (name,) = fresh_names(1)
    with backend.listen(name) as listener:
        for _ in range(10):
            notify(notifier, name)
        assert listener.wait(TIMEOUT)
        eventually(lambda: not listener.wait(0), "the notifications end")
        assert is_notified_by(listener, notifier, name)


def test_messages_to_closed_listeners_are_dropped(backend: RedisBackend, notifier: RedisBackend) -> None:
    """A closed listener does not affect others, and closing it twice is harmless."""
    gone, stays = fresh_names(2)
    with listening(backend, [gone, stays]) as (one, two):
        one.close()
        one.close()
        notify(notifier, gone)
        notify(notifier, gone, stays)
        assert two.wait(TIMEOUT)
        assert not two.wait(NOT_NOTIFIED)


@pytest.mark.parametrize("seconds", [-1, 0, 0.01])
def test_waiting_ends_with_its_time(backend: RedisBackend, seconds: float) -> None:
    """Without a notification, wait() returns false after its time, also if that is over already."""
    with listening(backend, fresh_names(2)) as listeners:
        for listener in listeners:
            assert not listener.wait(seconds)


@pytest.mark.parametrize("seconds", [1e10, float("inf")])
def test_waiting_without_end(backend: RedisBackend, notifier: RedisBackend, seconds: float) -> None:
    """The leader and a follower can wait for any time, also without end."""
    names = fresh_names(2)
    with listening(backend, names) as listeners, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(listener.wait, seconds) for listener in listeners]
        for name in names:
            notify(notifier, name)
        assert all(one.result(TIMEOUT) for one in waiting)


def test_each_of_many_threads_is_notified_alone(
    backend: RedisBackend, notifier: RedisBackend, redis_server: RedisServer
) -> None:
    """Threads that wait at once share one connection, and each is notified by its own name only."""
    names = fresh_names(12)
    threads_before = threading.active_count()
    with listening(backend, names) as listeners:
        assert threading.active_count() == threads_before, "listening starts no thread"
        assert len(subscribers(redis_server)) == 1
        with ThreadPoolExecutor(len(names)) as pool:
            waiting = {name: pool.submit(each.wait, TIMEOUT) for name, each in zip(names, listeners)}
            # The first one leads from the beginning, so another one must take over at once.
            for name in [names[0], *random.sample(names[1:], len(names) - 1)]:
                notify(notifier, name)
                assert waiting.pop(name).result(TIMEOUT)
                assert not any(one.done() for one in waiting.values())
            assert threading.active_count() == threads_before + len(names)
        assert len(subscribers(redis_server)) == 1


def is_within(listener: Listener, function: Any) -> bool:
    """Tell whether the thread that waits with this listener is within a call of this function."""
    for frame in sys._current_frames().values():
        codes = []
        at: FrameType | None = frame
        while at is not None:
            codes.append(at.f_code)
            if at.f_code is RedisListener.wait.__code__ and at.f_locals["self"] is listener:
                return function.__code__ in codes
            at = at.f_back
    return False


def leads(listener: Listener) -> bool:
    """Tell whether the thread of this listener reads messages."""
    return is_within(listener, redis.Connection.can_read)


def follows(listener: Listener) -> bool:
    """Tell whether the thread of this listener waits while another one reads."""
    return is_within(listener, Bell.wait)


@contextlib.contextmanager
def leader_and_followers(listeners: list[Listener], pool: ThreadPoolExecutor) -> Iterator[list[Future[bool]]]:
    """Have the first listener lead, and the others follow it."""
    waiting = [pool.submit(listeners[0].wait, TIMEOUT)]
    eventually(lambda: leads(listeners[0]), "the first one leads")
    waiting += [pool.submit(listener.wait, TIMEOUT) for listener in listeners[1:]]
    eventually(lambda: all(follows(each) for each in listeners[1:]), "the others follow")
    yield waiting


def test_a_follower_leads_when_the_leaders_time_is_over(backend: RedisBackend, notifier: RedisBackend) -> None:
    """When the leader stops waiting, a follower becomes the leader."""
    short, long = fresh_names(2)
    with listening(backend, [short, long]) as (leader, follower), ThreadPoolExecutor(2) as pool:
        leading = pool.submit(leader.wait, 0.3)
        eventually(lambda: leads(leader), "it leads")
        waiting = pool.submit(follower.wait, TIMEOUT)
        assert leading.result(TIMEOUT) is False
        eventually(lambda: leads(follower), "the other one leads")
        notify(notifier, long)
        assert waiting.result(TIMEOUT)


def test_the_leader_wakes_the_follower_that_a_message_names(
    backend: RedisBackend, notifier: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follower is notified when its message is read, not when it looks again whether it leads."""
    monkeypatch.setattr(pubsub, "_LONGEST_FOLLOW_SECS", TIMEOUT)
    names = fresh_names(2)
    with (
        listening(backend, names) as listeners,
        ThreadPoolExecutor(2) as pool,
        leader_and_followers(listeners, pool) as (leading, following),
    ):
        notify(notifier, names[1])
        assert following.result(TIMEOUT / 2)
        notify(notifier, names[0])
        assert leading.result(TIMEOUT)


def test_a_follower_that_stops_waiting_passes_the_lead_on(backend: RedisBackend, notifier: RedisBackend) -> None:
    """A follower whose time ends while it is to become the leader lets another one lead.

    The times of all but the last end at nearly the same time, repeatedly.
    """
    names = fresh_names(6)
    with listening(backend, names) as listeners, ThreadPoolExecutor(len(names)) as pool:
        for _ in range(10):
            last = pool.submit(listeners[-1].wait, TIMEOUT)
            going = [pool.submit(listener.wait, 0.01) for listener in listeners[:-1]]
            assert not any(one.result(TIMEOUT) for one in going)
            notify(notifier, names[-1])
            assert last.result(TIMEOUT)


def test_no_notification_is_lost_under_load(backend: RedisBackend, notifier: RedisBackend) -> None:
    """Threads that listen, are notified and close repeatedly get every notification."""
    threads, each = 6, 40

    def listen_again_and_again(client: RedisBackend) -> int:
        notified = 0
        for name in fresh_names(each):
            with backend.listen(name) as listener:
                notify(client, name)
                notified += listener.wait(TIMEOUT)
        return notified

    with ThreadPoolExecutor(threads) as pool:
        going = [pool.submit(listen_again_and_again, notifier) for _ in range(threads)]
        assert [one.result(2 * TIMEOUT) for one in going] == [each] * threads


def test_listening_again_costs_no_round_trip(faulty_proxy: FaultyProxy) -> None:
    """The first listener connects and subscribes for all."""
    with opened(faulty_proxy) as backend:
        for _ in range(3):
            with listening(backend, fresh_names(3)):
                assert faulty_proxy.connections == 1


def test_listening_takes_no_connection_from_requests(redis_server: RedisServer) -> None:
    """With ``max_connections=1``, requests succeed while a listener waits."""
    (name,) = fresh_names(1)
    with opened(redis_server, max_connections=1, timeout_secs=1) as backend, backend.listen(name) as listener:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(listener.wait, TIMEOUT)
            eventually(lambda: leads(listener), "it leads")
            notify(backend, name)
            assert waiting.result(TIMEOUT)
        assert clients(redis_server) == 1


def test_listeners_of_several_client_ids(backend: RedisBackend, redis_server: RedisServer) -> None:
    """If a process changes its client id, all its listeners are notified, and the unused connection is closed."""
    (one,), (two,) = fresh_names(1, "one"), fresh_names(1, "two")
    with backend.listen(one) as first:
        with backend.listen(two) as second:
            assert is_notified_by(first, backend, one)
            assert is_notified_by(second, backend, two)
        assert is_notified_by(first, backend, one)
    eventually(lambda: len(subscribers(redis_server)) == 1, "the former client id has no connection")


# Failures --------------------------------------------------------------------------------------------------------


def test_a_killed_connection_notifies_all(
    backend: RedisBackend, notifier: RedisBackend, redis_server: RedisServer
) -> None:
    """When a connection ends, all listeners are notified. Later notifications reach all again."""
    names = fresh_names(4)
    with listening(backend, names) as listeners, ThreadPoolExecutor(len(names)) as pool:
        with leader_and_followers(listeners, pool) as waiting:
            redis_server.command("CLIENT", "KILL", "TYPE", "PUBSUB")
            assert all(one.result(TIMEOUT) for one in waiting)
        assert listeners[0].wait(TIMEOUT), "something may have been missed until the new connection subscribed"
        for listener in listeners[1:]:
            assert listener.wait(0), "each one is notified"
        for name, listener in zip(names, listeners):
            assert is_notified_by(listener, notifier, name)
        assert len(subscribers(redis_server)) == 1


def test_a_connection_that_ends_while_nobody_waits(backend: RedisBackend, redis_server: RedisServer) -> None:
    """The next wait notices it, and listeners that were opened in between are notified too."""
    old, new = fresh_names(2)
    with backend.listen(old) as first:
        redis_server.command("CLIENT", "KILL", "TYPE", "PUBSUB")
        with backend.listen(new) as second:
            assert first.wait(TIMEOUT)
            assert second.wait(0)
            assert is_notified_by(second, backend, new)
            assert is_notified_by(first, backend, old)


def test_a_new_connection_notifies_again(backend: RedisBackend, redis_server: RedisServer) -> None:
    """A listener that was notified of the loss is notified of the new connection, for it may have missed a message."""
    old, new = fresh_names(2)
    with backend.listen(old) as first:
        redis_server.command("CLIENT", "KILL", "TYPE", "PUBSUB")
        assert first.wait(TIMEOUT)
        with backend.listen(new) as second:
            assert first.wait(0)
            assert not second.wait(0), "there was nothing that it could miss"


def test_a_restart_of_the_server(start_redis: StartRedis) -> None:
    """Without a server, waiting raises nothing and returns soon. After the restart, notifications arrive."""
    server = start_redis()
    names = fresh_names(3)
    with opened(server) as backend, listening(backend, names) as listeners:
        with ThreadPoolExecutor(len(names)) as pool:
            with leader_and_followers(listeners, pool) as waiting:
                server.stop()
                assert all(one.result(TIMEOUT) for one in waiting)
            began = time.monotonic()
            assert all(one.result(TIMEOUT) for one in [pool.submit(each.wait, TIMEOUT) for each in listeners])
            assert time.monotonic() - began < TIMEOUT / 2, "the listeners are to look"
            assert listeners[0].wait(0.01)
        server.restart()
        for name, listener in zip(names, listeners):
            assert is_notified_by(listener, backend, name)


def test_listening_without_a_server_fails(faulty_proxy: FaultyProxy) -> None:
    """The error names the server, and a later attempt succeeds."""
    (name,) = fresh_names(1)
    with opened(faulty_proxy, retries=1) as backend:
        faulty_proxy.refuse()
        with pytest.raises(Unreachable, match=str(faulty_proxy.port)):
            backend.listen(name)
        faulty_proxy.accept()
        with backend.listen(name) as listener:
            assert is_notified_by(listener, backend, name)


def test_a_wait_without_a_connection_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two attempts to connect, a wait sleeps for a time, and not beyond its own."""
    slept: list[float] = []
    monkeypatch.setattr(pubsub, "time", SimpleNamespace(sleep=slept.append))
    for seconds in (10.0, 0.01, -1.0):
        assert pubsub.pause(seconds), "it is to look then"
    assert slept[0] >= 0.1
    assert slept[1:] == [0.01, 0.0]


def test_subscribing_is_tried_again(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Subscribing is tried again as often as a request, also by a thread that waited for another one to do it."""
    (name, other) = fresh_names(2)
    failures = iter([True, True])
    subscribe: Any = redis.Connection.send_command

    def send(self: Any, *words: Any, **named: Any) -> None:
        if words[0] == "SUBSCRIBE" and next(failures, False):
            raise redis.ConnectionError("lost")
        subscribe(self, *words, **named)

    monkeypatch.setattr(redis.Connection, "send_command", send)
    with opened(redis_server, retries=2) as backend, ThreadPoolExecutor(2) as pool:
        opening = [pool.submit(backend.listen, each) for each in (name, other)]
        with opening[0].result(TIMEOUT) as one, opening[1].result(TIMEOUT) as two:
            assert is_notified_by(one, backend, name)
            assert is_notified_by(two, backend, other)
        assert len(subscribers(redis_server)) == 1


def test_a_call_within_the_one_that_subscribes_is_refused(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler or finalizer does not wait for the connection that its own thread is about to make."""
    (name, other) = fresh_names(2)
    subscribe: Any = redis.Connection.send_command
    refused: list[str] = []
    with opened(redis_server) as interrupted:

        def send(self: Any, *words: Any, **named: Any) -> None:
            if words[0] == "SUBSCRIBE" and not refused:
                with pytest.raises(StoreBusy) as failed:
                    interrupted.listen(other)
                refused.append(str(failed.value))
            subscribe(self, *words, **named)

        monkeypatch.setattr(redis.Connection, "send_command", send)
        with interrupted.listen(name) as listener:
            assert "has interrupted the call that subscribes" in refused[0]
            assert is_notified_by(listener, interrupted, name)


@pytest.mark.parametrize("when", ["before a message is read", "after it is read"])
def test_an_interruption_within_a_message(
    backend: RedisBackend, notifier: RedisBackend, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """After Ctrl-C in the leader, the others are notified, and later messages are read from their beginning."""
    names = fresh_names(3)
    read: Any = redis.Connection.read_response
    armed = [True]

    def interrupted(self: Any, *arguments: Any, **named: Any) -> Any:
        response = read(self, *arguments, **named) if when == "after it is read" else None
        if threading.current_thread() is leading and armed:
            armed.clear()
            raise KeyboardInterrupt
        return response if when == "after it is read" else read(self, *arguments, **named)

    leading = threading.current_thread()
    with listening(backend, names) as listeners, ThreadPoolExecutor(2) as pool:
        # The connection is there; what the main thread reads next is a message.
        notify(notifier, names[2])
        monkeypatch.setattr(redis.Connection, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            listeners[0].wait(TIMEOUT)
        waiting = [pool.submit(listener.wait, TIMEOUT) for listener in listeners[1:]]
        assert all(one.result(TIMEOUT) for one in waiting), "they may have missed something"
        for name, listener in zip(names, listeners):
            assert is_notified_by(listener, notifier, name)


def test_a_signal_while_waiting(backend: RedisBackend, notifier: RedisBackend) -> None:
    """Ctrl-C ends the wait of the leader or of a follower. The others are still notified."""
    names = fresh_names(2)
    with listening(backend, names) as (mine, others), ThreadPoolExecutor(1) as pool, interrupting():
        for i_lead in (True, False):
            waiting = None if i_lead else pool.submit(others.wait, TIMEOUT)
            watch = threading.Thread(target=interrupt_when, args=(mine, i_lead))
            if not i_lead:
                eventually(lambda: leads(others), "the other one leads")
            watch.start()
            with pytest.raises(Interrupted):
                mine.wait(TIMEOUT)
            watch.join(TIMEOUT)
            if waiting is not None:
                assert not waiting.done()
                notify(notifier, names[1])
                assert waiting.result(TIMEOUT)
            for name, listener in zip(names, (mine, others)):
                assert is_notified_by(listener, notifier, name)


def interrupt_when(listener: Listener, leading: bool) -> None:
    """Interrupt the main thread as soon as it waits."""
    eventually(lambda: (leads if leading else follows)(listener), "it waits")
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


# Processes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_id", ["child", "cl1ent"])
def test_a_forked_child_listens_on_its_own(backend: RedisBackend, redis_server: RedisServer, client_id: str) -> None:
    """A child subscribes on its own, also with its parent's client id, and does not affect its parent's listeners."""
    (name,), (childs,) = fresh_names(1), fresh_names(1, client_id)

    def listen_there() -> list[bool]:
        with backend.listen(childs) as listener:
            reached = is_notified_by(listener, backend, childs)
            notify(backend, name)
            return [reached, listener.wait(NOT_NOTIFIED), len(subscribers(redis_server)) == 2]

    with backend.listen(name) as listener:
        (connected,) = subscribers(redis_server)
        assert Child(listen_there).result() == [True, False, True]
        assert listener.wait(TIMEOUT)
        Child(backend.close).result()
        assert is_notified_by(listener, backend, name)
        eventually(lambda: len(subscribers(redis_server)) == 1, "the child's connection ends with it")
        assert subscribers(redis_server)[0].split()[0] == connected.split()[0], "the parent's connection is the same"


def test_a_listener_of_the_parent_in_a_child(backend: RedisBackend) -> None:
    """In a child, a listener of the parent returns true soon, and takes no message from the parent."""
    (name,) = fresh_names(1)
    with backend.listen(name) as listener:
        notify(backend, name)

        def wait_there() -> list[bool]:
            notified = [listener.wait(0.01), listener.wait(0)]
            listener.close()
            return notified

        assert Child(wait_there).result() == [True, True]
        assert listener.wait(TIMEOUT)
        assert is_notified_by(listener, backend, name)


def test_a_fork_while_threads_wait(backend: RedisBackend) -> None:
    """Whatever the parent's threads do during a fork, they and the child are notified."""
    names = fresh_names(3)
    with (
        listening(backend, names) as listeners,
        ThreadPoolExecutor(len(names)) as pool,
        leader_and_followers(listeners, pool) as waiting,
    ):
        for number in range(3):
            (childs,) = fresh_names(1, f"child{number}")

            def listen_there(name: str = childs) -> bool:
                with backend.listen(name) as listener:
                    return is_notified_by(listener, backend, name)

            assert Child(listen_there).result()
        assert not any(one.done() for one in waiting)
        notify(backend, *names)
        assert all(one.result(TIMEOUT) for one in waiting)


# Permissions -----------------------------------------------------------------------------------------------------

SECRET: Final = "s3cr3t-Marker"
EVERYTHING: Final = f"on >{SECRET} ~app:* resetchannels +@all"


def test_a_user_who_may_not_use_the_channels(start_redis: StartRedis) -> None:
    """The error says what to allow and nothing is changed. With that permission everything works."""
    server = start_redis(acl=[f"nobody {EVERYTHING}", f"worker {EVERYTHING} &app:s:*"])
    credentials: dict[str, Any] = {"username": "nobody", "password": SECRET, "prefix": "app:"}
    (name,) = fresh_names(1)
    with opened(server, **credentials) as backend:
        write(backend, Put(entry("a"), b"x/1"))
        write(backend, Notify(Key("n", ("nothing",)), Scope.SUBTREE))  # as when no lock is waited for
        before = data_of(server)
        calls_: list[Any] = [
            lambda: backend.listen(name),
            lambda: write(backend, Put(Key("v", ("a",)), b"1"), Notify(LIST, Scope.BELOW)),
            lambda: write(backend, Put(Key("v", ("a",)), b"1"), Notify(entry("a"), Scope.NODE)),
            lambda: write(backend, Put(Key("n", ("b", "c")), b"x/1"), Notify(Key("n", ("b",)), Scope.SUBTREE)),
        ]
        for call in calls_:
            with pytest.raises(AccessDenied) as denied:
                call()
            assert "+publish +subscribe +psubscribe &app:s:*" in str(denied.value)
            assert SECRET not in str(denied.value)
            assert not denied.value.maybe_applied
            assert data_of(server) == before
    with opened(server, **(credentials | {"username": "worker"})) as backend, backend.listen(name) as listener:
        assert is_notified_by(listener, backend, name)


def test_a_user_who_loses_the_permission_while_listening(start_redis: StartRedis) -> None:
    """Waiting raises nothing and returns true at intervals."""
    server = start_redis(acl=[f"worker {EVERYTHING} &app:s:*"])
    (name,) = fresh_names(1)
    with (
        opened(server, username="worker", password=SECRET, prefix="app:") as backend,
        backend.listen(name) as listener,
    ):
        server.command("ACL", "SETUSER", "worker", "resetchannels")
        server.command("CLIENT", "KILL", "TYPE", "PUBSUB")
        assert listener.wait(TIMEOUT)
        for seconds in (0.01, 0):
            assert listener.wait(seconds)
        with pytest.raises(AccessDenied):
            backend.listen(fresh_names(1)[0])
        server.command("ACL", "SETUSER", "worker", "&app:s:*")
        assert is_notified_by(listener, backend, name)


def data_of(server: RedisServer) -> dict[bytes, Any]:
    """Return everything in a database under the prefix of the tests of permissions."""
    return contents(server).data(b"app:")


# Closing ---------------------------------------------------------------------------------------------------------


def test_close_leaves_no_connection(backend: RedisBackend, redis_server: RedisServer) -> None:
    """The connection is kept between listeners and closed by close(). Calling it twice is harmless."""
    for name in fresh_names(2):
        backend.listen(name).close()
        assert len(subscribers(redis_server)) == 1
    backend.close()
    backend.close()
    eventually(lambda: not subscribers(redis_server), "no connection is left")


def test_close_lets_listeners_wait(backend: RedisBackend, notifier: RedisBackend, redis_server: RedisServer) -> None:
    """Listeners of a closed backend are notified, also new ones. The last one closes the connection."""
    names = fresh_names(2)
    with listening(backend, names) as listeners, ThreadPoolExecutor(2) as pool:
        with leader_and_followers(listeners, pool) as waiting:
            backend.close()
            notify(notifier, *names)
            assert all(one.result(TIMEOUT) for one in waiting)
        assert len(subscribers(redis_server)) == 1
    eventually(lambda: not subscribers(redis_server), "no connection is left")
    for name in names:
        with backend.listen(name) as listener:
            assert is_notified_by(listener, notifier, name)
        eventually(lambda: not subscribers(redis_server), "a new listener of a closed backend leaves none")
    notifier.close()
    notifier.listen(names[0]).close()
    eventually(lambda: not subscribers(redis_server), "nor does its first listener")


def test_a_backend_without_references_leaves_no_connection(redis_server: RedisServer) -> None:
    """Deleting the last reference to a backend closes its subscription."""
    backend = open_redis(RedisSettings.model_validate(configuration(redis_server)).options(), 0)
    backend.listen(fresh_names(1)[0]).close()
    assert len(subscribers(redis_server)) == 1
    del backend
    gc.collect()
    eventually(lambda: not subscribers(redis_server), "no connection is left")


# Checks of large scopes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", [Scope.BELOW, Scope.SUBTREE])
def test_a_large_scope_is_refused_only_if_no_value_decides_the_check(backend: RedisBackend, scope: Scope) -> None:
    """A ``StartsWith`` over too many values fails if one of them does not match, and is too large if all do."""
    wide = Key("v", ("wide",))
    for first in range(0, 6_000, 1_000):
        write(backend, *[Put(Key("v", ("wide", str(n))), b"mine") for n in range(first, first + 1_000)])
    check = Transaction((StartsWith(Key("v", ("b",)), scope, b"x"), StartsWith(wide, scope, b"mine")))
    assert backend.execute(check).status is Status.TOO_LARGE
    for path in (("wide", "deep", "below", "here"), ("wide", "first")):
        write(backend, Put(Key("v", path), b"theirs"))
    outcome = backend.execute(Transaction((StartsWith(wide, scope, b"x"), StartsWith(Key("v", ("b",)), scope, b"x"))))
    assert (outcome.status, outcome.failed_index) == (Status.CHECK_FAILED, 0)
    small = Key("v", ("wide", "deep"))
    outcome = backend.execute(Transaction((StartsWith(small, scope, b"th"), StartsWith(small, scope, b"m"))))
    assert (outcome.status, outcome.failed_index) == (Status.CHECK_FAILED, 1)


# The simulated server --------------------------------------------------------------------------------------------


def test_the_simulated_server_notifies(backend: RedisBackend) -> None:
    """Threads that wait on the simulated server are notified one by one, also after a fork."""
    simulated = fakeredis.open(fakeredis.model(), 0)
    assert simulated.capabilities.push
    assert backend.capabilities.push
    names = fresh_names(3)
    try:
        with listening(simulated, names) as listeners, ThreadPoolExecutor(3) as pool:
            notify(simulated, names[2])
            assert listeners[2].wait(TIMEOUT)
            waiting = {name: pool.submit(each.wait, TIMEOUT) for name, each in zip(names, listeners)}
            (childs,) = fresh_names(1, "child")

            def listen_there() -> bool:
                with simulated.listen(childs) as listener:
                    return is_notified_by(listener, simulated, childs)

            assert Child(listen_there).result()
            for name in names:
                notify(simulated, name)
                assert waiting.pop(name).result(TIMEOUT)
                assert not any(one.done() for one in waiting.values())
    finally:
        simulated.close()
