"""A notification reaches those who are named, wherever they are, over one connection per process, and none is lost."""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import pytest
import redis

from redicts.backends.fakeredis import plugin as fakeredis
from redicts.backends.redis import RedisBackend
from redicts.backends.redis.backend import ATOMIC_ENTRIES
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
from redicts.errors import AccessDenied, CorruptData, Unreachable
from tests.backends.redis_tools import calls, clients, contents, data, examine_layout, opened, write
from tests.backends.test_redis_connections import Interrupted, interrupting
from tests.backends.test_redis_forks import Child
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisServer, StartRedis
from tests.support.waiting import TIMEOUT, eventually

NOBODY: Final = 0.05
"""Seconds in which nobody is notified who is not named; a test of a rule that holds never waits for more."""

LIST: Final = Key("n", ("list",))

numbers: Final = itertools.count()


def entry(*path: str) -> Key:
    """Return the key of an entry on the list."""
    return Key("n", ("list", *path))


def fresh_names(count: int, client_id: str = "5tat10n") -> list[str]:
    """Return so many names of one client id that no other listener has."""
    return [f"{client_id}/{next(numbers)}" for _ in range(count)]


def notify(backend: Backend, *names: str, more: tuple[Write, ...] = ()) -> Outcome:
    """Wake the listeners of these names."""
    listed = [Put(entry(str(number)), name.encode()) for number, name in enumerate(names)]
    return backend.execute(Transaction(writes=(*listed, *more, Notify(LIST, Scope.BELOW))))


def subscribers(server: RedisServer) -> list[bytes]:
    """Return a line for each connection that subscribes to something."""
    listed = server.command("CLIENT", "LIST", "TYPE", "PUBSUB")
    assert isinstance(listed, bytes)
    return listed.splitlines()


def is_notified_by(listener: Listener, backend: Backend, name: str) -> bool:
    """Tell whether a notification of this name reaches the listener; one that it has got already does not count."""
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
    """Give a function that returns what was published on the server since then, on whatever channel."""
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
def waker(redis_server: RedisServer) -> Iterator[RedisBackend]:
    """Give another client's backend, that notifies."""
    with opened(redis_server) as backend:
        yield backend


# Who is notified ----------------------------------------------------------------------------------------------------


def test_a_listener_of_another_client_is_notified(backend: RedisBackend, waker: RedisBackend) -> None:
    """The one who is named is notified, once, and nobody else; the list is empty then."""
    named, other = fresh_names(2)
    with listening(backend, [named, other]) as (listener, stranger):
        assert notify(waker, named).applied
        assert listener.wait(TIMEOUT)
        assert not listener.wait(0)
        assert not stranger.wait(NOBODY)
    (answer,) = waker.execute(Transaction(reads=(Read(LIST, Scope.SUBTREE),))).answers
    assert answer == Entries({})


def test_a_listener_of_another_process_is_notified(backend: RedisBackend, redis_server: RedisServer) -> None:
    """It makes no difference in which process the one who notifies is."""
    (name,) = fresh_names(1)

    def notify_from_there() -> bool:
        with opened(redis_server) as waker:
            return notify(waker, name).applied

    with backend.listen(name) as listener:
        assert Child(notify_from_there).result()
        assert listener.wait(TIMEOUT)


@pytest.mark.parametrize("scope", Scope)
def test_the_scope_says_who_is_notified(backend: RedisBackend, redis_server: RedisServer, scope: Scope) -> None:
    """Those named in the scope are notified and gone from the list, at any depth, and no others.

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
                assert listener.wait(TIMEOUT if scope.covers(path) else NOBODY) is scope.covers(path)
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
        assert not two.wait(NOBODY)
        assert not three.wait(0)


def test_a_counter_after_a_notify_starts_at_nothing(backend: RedisBackend) -> None:
    """What a Wake has cleared counts as absent for what follows in the transaction."""
    for scope, place in ((Scope.NODE, ()), (Scope.SUBTREE, ()), (Scope.BELOW, ("n",)), (Scope.SUBTREE, ("n",))):
        write(backend, Put(entry(*place), b"7"))
        assert write(backend, Notify(LIST, scope), Add(entry(*place), 1)).counters == (1,), scope
        write(backend, Delete(LIST, Scope.SUBTREE))


def test_whose_ttl_is_over_is_not_notified(backend: RedisBackend, redis_server: RedisServer) -> None:
    """A name whose TTL has run out is gone, though its bytes may be there; one that still lives is notified."""
    over, alive = fresh_names(2)
    with listening(backend, [over, alive]) as (dead, living):
        write(backend, Put(entry("a"), over.encode(), 1), Put(entry("b"), alive.encode(), 600_000))
        read = Transaction(reads=(Read(entry("a")),))
        eventually(lambda: backend.execute(read).answers == (Entries({}),), "its TTL is over")
        write(backend, Notify(LIST, Scope.BELOW))
        assert living.wait(TIMEOUT)
        assert not dead.wait(NOBODY)
    assert contents(redis_server).data().keys() == set()


ODD: Final = [b"", b"/", b"x", b"x/", b"/1", b"\x00/\x00", b"a b/1", b"x/1\n", b"\x01", b"\x02/1", b"\x03/2", b"\xff/1"]


def test_odd_values_are_passed_over(backend: RedisBackend, redis_server: RedisServer) -> None:
    """What is no name, also for its length, is sent to nobody, and is no reason not to wake the others."""
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
    """A name of a hundred characters is one."""
    name = f"{'client_id-' * 8}/".ljust(100, "7")
    with backend.listen(name) as listener:
        assert is_notified_by(listener, backend, name)


@pytest.mark.parametrize("name", ["", "x", "/1", "x/", "a b/1", "x/\n", "\u00e9/1", "x/".ljust(101, "1")])
def test_what_is_no_name_is_refused(backend: RedisBackend, name: str) -> None:
    """Nobody listens in vain."""
    with pytest.raises(ValueError, match="name of a listener"):
        backend.listen(name)


def test_thousands_are_notified_at_once(backend: RedisBackend, redis_server: RedisServer) -> None:
    """All that one transaction may touch; one more is too large, and notifies nobody."""
    client_id, each = "5tat10n", 1_000
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


# When nobody is notified --------------------------------------------------------------------------------------------


def test_nothing_is_published_unless_it_is_applied(backend: RedisBackend, redis_server: RedisServer) -> None:
    """Where a check fails, a value is no counter or a key is foreign, nobody is sent anything, and the list stays."""
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
    """A key of another type in the way of a list is met before the first change."""
    redis_server.command("SET", "n:" if scope is Scope.NODE else "n:.list", "theirs")
    before = data(redis_server)
    with pytest.raises(CorruptData):
        write(backend, Put(Key("v", ("a",)), b"1"), Notify(LIST, scope))
    assert data(redis_server) == before


def test_an_empty_list_costs_one_look(backend: RedisBackend, redis_server: RedisServer) -> None:
    """A Wake on nothing, which every release of a lock carries, looks at the list once and sends nothing."""
    used = []
    for writes in ((), (Notify(LIST, Scope.BELOW),)):
        write(backend, Put(Key("v", ("a",)), b"1"), Put(Key("v", ("b",)), b"1"))
        redis_server.command("CONFIG", "RESETSTAT")
        write(backend, Delete(Key("v", ("b",)), Scope.NODE), *writes)
        used.append(calls(redis_server))
    more = {name: count - used[0].get(name, 0) for name, count in used[1].items() if count != used[0].get(name, 0)}
    assert more == {"hlen": 1}


def test_prefix_and_database_keep_clients_apart(redis_server: RedisServer) -> None:
    """Clients with another prefix, or of another database of the same server, are not even sent anything."""
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
        assert not listener.wait(NOBODY)
        sent = [channel for channel, message in published() if message]
        assert sent == [prefix + name.partition("/")[0].encode() for prefix in (b"app:s:4:", b"bs:3:", b"app:s:3:")]


# Waiting ---------------------------------------------------------------------------------------------------------


def test_a_notify_up_before_the_wait_counts(backend: RedisBackend, waker: RedisBackend) -> None:
    """What comes after listen() has returned is not lost, whoever reads it: the next wait returns at once."""
    names = fresh_names(5)
    with listening(backend, names) as listeners:
        for name in names:
            notify(waker, name)
        for listener in random.sample(listeners, len(listeners)):
            assert listener.wait(TIMEOUT)
        for listener in listeners:
            assert not listener.wait(0)


def test_many_notify_ups_before_the_wait_are_one(backend: RedisBackend, waker: RedisBackend) -> None:
    """However often somebody is notified before he looks, he is notified once or more, and then waits again."""
    (name,) = fresh_names(1)
    with backend.listen(name) as listener:
        for _ in range(10):
            notify(waker, name)
        assert listener.wait(TIMEOUT)
        eventually(lambda: not listener.wait(0), "the notifications end")
        assert is_notified_by(listener, waker, name)


def test_messages_for_those_who_have_gone_are_dropped(backend: RedisBackend, waker: RedisBackend) -> None:
    """A listener that is closed is in nobody's way, and closing it twice is harmless."""
    gone, stays = fresh_names(2)
    with listening(backend, [gone, stays]) as (one, two):
        one.close()
        one.close()
        notify(waker, gone)
        notify(waker, gone, stays)
        assert two.wait(TIMEOUT)
        assert not two.wait(NOBODY)


@pytest.mark.parametrize("seconds", [-1, 0, 0.01])
def test_a_time_that_is_over(backend: RedisBackend, seconds: float) -> None:
    """Nobody waits longer than he says, though nobody notifies him."""
    with listening(backend, fresh_names(2)) as listeners:
        for listener in listeners:
            assert not listener.wait(seconds)


@pytest.mark.parametrize("seconds", [1e10, float("inf")])
def test_a_time_without_end(backend: RedisBackend, waker: RedisBackend, seconds: float) -> None:
    """The longest times are waited for, by the one who reads and by others."""
    names = fresh_names(2)
    with listening(backend, names) as listeners, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(listener.wait, seconds) for listener in listeners]
        for name in names:
            notify(waker, name)
        assert all(one.result(TIMEOUT) for one in waiting)


def test_each_of_many_threads_is_notified_alone(
    backend: RedisBackend, waker: RedisBackend, redis_server: RedisServer
) -> None:
    """Threads that wait at once share one connection; each is notified by its own name, whoever reads, and no other."""
    names = fresh_names(12)
    threads_before = threading.active_count()
    with listening(backend, names) as listeners:
        assert threading.active_count() == threads_before, "listening starts no thread"
        assert len(subscribers(redis_server)) == 1
        with ThreadPoolExecutor(len(names)) as pool:
            waiting = {name: pool.submit(each.wait, TIMEOUT) for name, each in zip(names, listeners)}
            # The first one reads for all from the beginning, so that the lead is handed over at once.
            for name in [names[0], *random.sample(names[1:], len(names) - 1)]:
                notify(waker, name)
                assert waiting.pop(name).result(TIMEOUT)
                assert not any(one.done() for one in waiting.values())
            assert threading.active_count() == threads_before + len(names)
        assert len(subscribers(redis_server)) == 1


def test_one_notify_notifies_several(backend: RedisBackend, waker: RedisBackend) -> None:
    """All that one transaction names are notified by it, and only they."""
    names = fresh_names(8)
    with listening(backend, names) as listeners, ThreadPoolExecutor(len(names)) as pool:
        waiting = [pool.submit(listener.wait, TIMEOUT) for listener in listeners]
        notify(waker, *names[::2])
        assert all(one.result(TIMEOUT) for one in waiting[::2])
        assert not any(one.done() for one in waiting[1::2])
        notify(waker, *names[1::2])
        assert all(one.result(TIMEOUT) for one in waiting[1::2])


def leads(backend: RedisBackend, listener: Listener) -> bool:
    """Tell whether this listener's thread is the one that reads."""
    return any(client_id._leader is listener for client_id in backend._listening._stations.values())


def follows(backend: RedisBackend, listener: Listener) -> bool:
    """Tell whether this listener's thread waits while another one reads."""
    return any(listener in client_id._followers for client_id in backend._listening._stations.values())


@contextlib.contextmanager
def leader_and_followers(
    backend: RedisBackend, listeners: list[Listener], pool: ThreadPoolExecutor
) -> Iterator[list[Future[bool]]]:
    """Have the first of the listeners wait and read, and the others wait."""
    waiting = [pool.submit(listeners[0].wait, TIMEOUT)]
    eventually(lambda: leads(backend, listeners[0]), "the first one reads")
    waiting += [pool.submit(listener.wait, TIMEOUT) for listener in listeners[1:]]
    eventually(lambda: all(follows(backend, each) for each in listeners[1:]), "the others wait")
    yield waiting


def test_the_lead_is_handed_over_when_the_leaders_time_is_over(backend: RedisBackend, waker: RedisBackend) -> None:
    """Whoever reads and gives up leaves the others somebody who reads."""
    short, long = fresh_names(2)
    with listening(backend, [short, long]) as (leader, follower), ThreadPoolExecutor(2) as pool:
        leading = pool.submit(leader.wait, 0.3)
        eventually(lambda: leads(backend, leader), "it reads")
        waiting = pool.submit(follower.wait, TIMEOUT)
        assert leading.result(TIMEOUT) is False
        eventually(lambda: leads(backend, follower), "the other one reads")
        notify(waker, long)
        assert waiting.result(TIMEOUT)


def test_the_lead_is_not_handed_to_one_who_goes(backend: RedisBackend, waker: RedisBackend) -> None:
    """One who is called to read at the moment at which his time is over calls another one.

    The times of all but the last end at nearly the same moment, again and again.
    """
    names = fresh_names(6)
    with listening(backend, names) as listeners, ThreadPoolExecutor(len(names)) as pool:
        for _ in range(10):
            last = pool.submit(listeners[-1].wait, TIMEOUT)
            going = [pool.submit(listener.wait, 0.01) for listener in listeners[:-1]]
            assert not any(one.result(TIMEOUT) for one in going)
            notify(waker, names[-1])
            assert last.result(TIMEOUT)


def test_under_load_no_notify_up_is_lost(backend: RedisBackend, waker: RedisBackend) -> None:
    """Threads that listen, are notified and go, over and over: each notification arrives long before the timeout."""
    threads, each = 6, 40

    def listen_again_and_again(client: RedisBackend) -> int:
        notified = 0
        for name in fresh_names(each):
            with backend.listen(name) as listener:
                notify(client, name)
                notified += listener.wait(TIMEOUT)
        return notified

    with ThreadPoolExecutor(threads) as pool:
        going = [pool.submit(listen_again_and_again, waker) for _ in range(threads)]
        assert [one.result(2 * TIMEOUT) for one in going] == [each] * threads


def test_listening_again_costs_no_round_trip(faulty_proxy: FaultyProxy) -> None:
    """The first listener connects and subscribes, those that follow find that done."""
    with opened(faulty_proxy) as backend:
        for _ in range(3):
            with listening(backend, fresh_names(3)):
                assert faulty_proxy.connections == 1


def test_listening_takes_no_connection_from_requests(redis_server: RedisServer) -> None:
    """With one connection for requests, they go on while somebody waits."""
    (name,) = fresh_names(1)
    with opened(redis_server, max_connections=1, timeout_secs=1) as backend, backend.listen(name) as listener:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(listener.wait, TIMEOUT)
            eventually(lambda: leads(backend, listener), "it reads")
            notify(backend, name)
            assert waiting.result(TIMEOUT)
        assert clients(redis_server) == 1


def test_listeners_of_several_stations(backend: RedisBackend, redis_server: RedisServer) -> None:
    """A process has one client id; were there another, all would be notified, and what is used no more is let go of."""
    (one,), (two,) = fresh_names(1, "one"), fresh_names(1, "two")
    with backend.listen(one) as first:
        with backend.listen(two) as second:
            assert is_notified_by(first, backend, one)
            assert is_notified_by(second, backend, two)
        assert is_notified_by(first, backend, one)
    eventually(lambda: len(subscribers(redis_server)) == 1, "the client id that was left has no connection")


# Failures --------------------------------------------------------------------------------------------------------


def test_a_killed_connection_notifies_all(
    backend: RedisBackend, waker: RedisBackend, redis_server: RedisServer
) -> None:
    """Who waits on a connection that ends looks for himself; later notifications reach all again."""
    names = fresh_names(4)
    with listening(backend, names) as listeners, ThreadPoolExecutor(len(names)) as pool:
        with leader_and_followers(backend, listeners, pool) as waiting:
            redis_server.command("CLIENT", "KILL", "TYPE", "PUBSUB")
            assert all(one.result(TIMEOUT) for one in waiting)
        assert listeners[0].wait(TIMEOUT), "something may have been missed until the new connection subscribed"
        for listener in listeners[1:]:
            assert listener.wait(0), "each one is told"
        for name, listener in zip(names, listeners):
            assert is_notified_by(listener, waker, name)
        assert len(subscribers(redis_server)) == 1


def test_a_connection_that_ends_while_nobody_waits(backend: RedisBackend, redis_server: RedisServer) -> None:
    """It is noticed at the next wait; who begins to listen meanwhile is notified as well."""
    old, new = fresh_names(2)
    with backend.listen(old) as first:
        redis_server.command("CLIENT", "KILL", "TYPE", "PUBSUB")
        with backend.listen(new) as second:
            assert first.wait(TIMEOUT)
            assert second.wait(0)
            assert is_notified_by(second, backend, new)
            assert is_notified_by(first, backend, old)


def test_a_new_connection_notifies_those_who_have_looked_already(
    backend: RedisBackend, redis_server: RedisServer
) -> None:
    """Who was told of the loss and looked, may have missed what came until another one connected: he is told again."""
    old, new = fresh_names(2)
    with backend.listen(old) as first:
        redis_server.command("CLIENT", "KILL", "TYPE", "PUBSUB")
        assert first.wait(TIMEOUT)
        with backend.listen(new) as second:
            assert first.wait(0)
            assert not second.wait(0), "there was nothing that it could miss"


def test_a_restart_of_the_server(start_redis: StartRedis) -> None:
    """While the server is away, waiting raises nothing and returns soon; when it is back, notifications arrive."""
    server = start_redis()
    names = fresh_names(3)
    with opened(server) as backend, listening(backend, names) as listeners:
        with ThreadPoolExecutor(len(names)) as pool:
            with leader_and_followers(backend, listeners, pool) as waiting:
                server.stop()
                assert all(one.result(TIMEOUT) for one in waiting)
            began = time.monotonic()
            assert all(one.result(TIMEOUT) for one in [pool.submit(each.wait, TIMEOUT) for each in listeners])
            assert time.monotonic() - began < TIMEOUT / 2, "it is time to look"
            assert listeners[0].wait(0.01)
        server.restart()
        for name, listener in zip(names, listeners):
            assert is_notified_by(listener, backend, name)


def test_nobody_can_listen_without_a_server(faulty_proxy: FaultyProxy) -> None:
    """The error says where, as for a request; nothing is left of the attempt, and the next one may succeed."""
    (name,) = fresh_names(1)
    with opened(faulty_proxy, retries=1) as backend:
        faulty_proxy.refuse()
        with pytest.raises(Unreachable, match=str(faulty_proxy.port)):
            backend.listen(name)
        faulty_proxy.accept()
        with backend.listen(name) as listener:
            assert is_notified_by(listener, backend, name)


def test_a_first_attempt_that_fails_is_followed_by_others(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Subscribing is tried again as often as requests are, also by another thread that waited for it."""
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


@pytest.mark.parametrize("moment", ["before a message is read", "after it is read"])
def test_an_interruption_in_the_midst_of_a_message(
    backend: RedisBackend, waker: RedisBackend, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Ctrl-C while the one who leads reads: the others are notified, and nothing is taken for something else later."""
    names = fresh_names(3)
    read: Any = redis.Connection.read_response
    armed = [True]

    def interrupted(self: Any, *arguments: Any, **named: Any) -> Any:
        response = read(self, *arguments, **named) if moment == "after it is read" else None
        if threading.current_thread() is leading and armed:
            armed.clear()
            raise KeyboardInterrupt
        return response if moment == "after it is read" else read(self, *arguments, **named)

    leading = threading.current_thread()
    with listening(backend, names) as listeners, ThreadPoolExecutor(2) as pool:
        # The connection is there; what the main thread reads next is a message.
        notify(waker, names[2])
        monkeypatch.setattr(redis.Connection, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            listeners[0].wait(TIMEOUT)
        waiting = [pool.submit(listener.wait, TIMEOUT) for listener in listeners[1:]]
        assert all(one.result(TIMEOUT) for one in waiting), "they may have missed something"
        for name, listener in zip(names, listeners):
            assert is_notified_by(listener, waker, name)


def test_a_signal_while_waiting(backend: RedisBackend, waker: RedisBackend) -> None:
    """Ctrl-C ends a wait, of the one who reads and of another; those who remain are reached."""
    names = fresh_names(2)
    with listening(backend, names) as (mine, others), ThreadPoolExecutor(1) as pool, interrupting():
        for i_lead in (True, False):
            waiting = None if i_lead else pool.submit(others.wait, TIMEOUT)
            watch = threading.Thread(target=interrupt_when, args=(backend, mine, i_lead))
            if not i_lead:
                eventually(lambda: leads(backend, others), "the other one reads")
            watch.start()
            with pytest.raises(Interrupted):
                mine.wait(TIMEOUT)
            watch.join(TIMEOUT)
            if waiting is not None:
                assert not waiting.done()
                notify(waker, names[1])
                assert waiting.result(TIMEOUT)
            for name, listener in zip(names, (mine, others)):
                assert is_notified_by(listener, waker, name)


def interrupt_when(backend: RedisBackend, listener: Listener, leading: bool) -> None:
    """Interrupt the main thread as soon as it waits."""
    eventually(lambda: (leads if leading else follows)(backend, listener), "it waits")
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


# Processes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_id", ["child", "5tat10n"])
def test_a_forked_child_listens_on_its_own(backend: RedisBackend, redis_server: RedisServer, client_id: str) -> None:
    """A child subscribes again, whatever its client id is, and leaves its parent's connection and listeners alone."""
    (name,), (childs,) = fresh_names(1), fresh_names(1, client_id)

    def listen_there() -> list[bool]:
        with backend.listen(childs) as listener:
            reached = is_notified_by(listener, backend, childs)
            notify(backend, name)
            return [reached, listener.wait(NOBODY), len(subscribers(redis_server)) == 2]

    with backend.listen(name) as listener:
        (connected,) = subscribers(redis_server)
        assert Child(listen_there).result() == [True, False, True]
        assert listener.wait(TIMEOUT)
        Child(backend.close).result()
        assert is_notified_by(listener, backend, name)
        eventually(lambda: len(subscribers(redis_server)) == 1, "the child's connection ends with it")
        assert subscribers(redis_server)[0].split()[0] == connected.split()[0], "the parent's is the same"


def test_a_listener_of_the_parent_in_a_child(backend: RedisBackend) -> None:
    """A child that goes on with a listener of its parent's is not kept waiting, and takes no message from it."""
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
    """Whatever the parent's threads are doing at the fork, the child can listen, and so can they."""
    names = fresh_names(3)
    with (
        listening(backend, names) as listeners,
        ThreadPoolExecutor(len(names)) as pool,
        leader_and_followers(backend, listeners, pool) as waiting,
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
    """It is said what to allow, before anything is changed; with that, everything works."""
    server = start_redis(acl=[f"nobody {EVERYTHING}", f"worker {EVERYTHING} &app:s:*"])
    credentials: dict[str, Any] = {"username": "nobody", "password": SECRET, "prefix": "app:"}
    (name,) = fresh_names(1)
    with opened(server, **credentials) as backend:
        write(backend, Put(entry("a"), b"x/1"))
        write(backend, Notify(Key("n", ("nothing",)), Scope.SUBTREE))  # as when nobody waits for a lock
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
            assert "+publish +subscribe &app:s:*" in str(denied.value)
            assert SECRET not in str(denied.value)
            assert not denied.value.maybe_applied
            assert data_of(server) == before
    with opened(server, **(credentials | {"username": "worker"})) as backend, backend.listen(name) as listener:
        assert is_notified_by(listener, backend, name)


def test_a_user_who_loses_the_right_while_he_listens(start_redis: StartRedis) -> None:
    """Waiting raises nothing then either: it sends one to look, at intervals."""
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
    """Return all that lies in a database, under the prefix of the tests of permissions."""
    return contents(server).data(b"app:")


# Closing ---------------------------------------------------------------------------------------------------------


def test_close_leaves_no_connection(backend: RedisBackend, redis_server: RedisServer) -> None:
    """The connection is kept from one listener to the next, and is gone after close(); twice is harmless."""
    for name in fresh_names(2):
        backend.listen(name).close()
        assert len(subscribers(redis_server)) == 1
    backend.close()
    backend.close()
    eventually(lambda: not subscribers(redis_server), "no connection is left")


def test_close_breaks_no_wait_off(backend: RedisBackend, waker: RedisBackend, redis_server: RedisServer) -> None:
    """Who listens when the backend is closed, or begins later, is reached; the last one ends the connection."""
    names = fresh_names(2)
    with listening(backend, names) as listeners, ThreadPoolExecutor(2) as pool:
        with leader_and_followers(backend, listeners, pool) as waiting:
            backend.close()
            notify(waker, *names)
            assert all(one.result(TIMEOUT) for one in waiting)
        assert len(subscribers(redis_server)) == 1
    eventually(lambda: not subscribers(redis_server), "no connection is left")
    for name in names:
        with backend.listen(name) as listener:
            assert is_notified_by(listener, waker, name)
        eventually(lambda: not subscribers(redis_server), "a late listener leaves none either")
    waker.close()
    waker.listen(names[0]).close()
    eventually(lambda: not subscribers(redis_server), "nor does one who is the first")


def test_a_backend_that_is_forgotten_leaves_no_connection(redis_server: RedisServer) -> None:
    """A backend that nobody closed is closed with the last reference to it."""
    with contextlib.ExitStack() as stack:
        backend: RedisBackend | None = stack.enter_context(opened(redis_server))
        assert backend is not None
        backend._listening.listen(fresh_names(1)[0]).close()
        backend._listening = None  # type: ignore[assignment]
        eventually(lambda: not subscribers(redis_server), "no connection is left")
        backend._listening = _Silent()  # type: ignore[assignment]


class _Silent:
    def close(self) -> None:
        pass


# What the lists of waiting locks are checked with ----------------------------------------------------------------


@pytest.mark.parametrize("scope", [Scope.BELOW, Scope.SUBTREE])
def test_a_large_scope_is_refused_only_if_nothing_settles_the_check(backend: RedisBackend, scope: Scope) -> None:
    """Whether each of very many values starts so is answered if one does not; if all do, there are too many to tell."""
    wide = Key("v", ("wide",))
    for first in range(0, 6_000, 1_000):
        write(backend, *[Put(Key("v", ("wide", str(n))), b"mine") for n in range(first, first + 1_000)])
    check = Transaction((StartsWith(Key("v", ("b",)), scope, b"x"), StartsWith(wide, scope, b"mine")))
    assert backend.execute(check).status is Status.TOO_LARGE
    for place in (("wide", "deep", "below", "here"), ("wide", "first")):
        write(backend, Put(Key("v", place), b"theirs"))
    outcome = backend.execute(Transaction((StartsWith(wide, scope, b"x"), StartsWith(Key("v", ("b",)), scope, b"x"))))
    assert (outcome.status, outcome.failed_index) == (Status.CHECK_FAILED, 0)
    small = Key("v", ("wide", "deep"))
    outcome = backend.execute(Transaction((StartsWith(small, scope, b"th"), StartsWith(small, scope, b"m"))))
    assert (outcome.status, outcome.failed_index) == (Status.CHECK_FAILED, 1)


# The simulated server --------------------------------------------------------------------------------------------


def test_the_simulated_server_notifies(backend: RedisBackend) -> None:
    """Threads that wait on the simulated server are notified alone, by its script, and a fork is in nobody's way."""
    simulated = fakeredis.open(fakeredis.settings(), 0)
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
