"""Exactly once: a request is applied once and answered correctly, however often its reply is lost, however late."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from redicts import ABSENT, Pool, StoreTimeout, Unreachable, root
from redicts.backends.redis import connections
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Equals,
    Expire,
    Outcome,
    Put,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Status,
    Transaction,
)
from tests.backends.redis_tools import (
    calls,
    changes,
    contents,
    data,
    examine_layout,
    front,
    key,
    opened,
    transactions,
    write,
)
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisServer

Operation = Callable[[], Any]

START: Final = {
    "leaf": 1,
    "text": "x",
    "half": 0.5,
    "dict": {"a": 1, "b": {"c": 2, "d": "three"}},
}


def execute(
    writes: tuple[Any, ...] = (), checks: tuple[Any, ...] = (), reads: tuple[Any, ...] = ()
) -> Callable[[], Outcome]:
    """Return an operation that executes one transaction on the backend of the pool."""
    return lambda: Pool().database().backend.execute(Transaction(checks, reads, writes))


def several_changes() -> None:
    """Make several changes atomically."""
    with root().transaction() as changes:
        changes.expect("leaf", 1)
        changes.set("text", {"now": "a dict"})
        changes.add("leaf", 5)
        changes.add("fresh.counter", 7)
        changes.delete("dict.b")
        changes.expire("expiring", None)


def refused_changes() -> str:
    """Have several changes refused."""
    with pytest.raises(ValueError, match="no 64-bit integer") as refused, root().transaction() as changes:  # noqa: PT012
        changes.add("leaf", 5)
        changes.add("text", 1)
    return str(refused.value)


WRITES: Final[dict[str, Operation]] = {
    "put": execute((Put(key("fresh", "leaf"), b"1"),)),
    "put-of-escaped-bytes": execute((Put(key("leaf"), b"\x02\r\n\x00"),)),
    "put-with-ttl": execute((Put(key("leaf"), b"2", 600_000), Put(key("fresh", "leaf"), b"3", 600_000))),
    "put-that-keeps-ttl": execute((Put(key("expiring"), b"2", keep_ttl=True), Put(key("leaf"), b"3", keep_ttl=True))),
    "delete-node": execute((Delete(key("dict", "a"), Scope.NODE), Delete(key("expiring"), Scope.NODE))),
    "delete-below": execute((Delete(key("dict"), Scope.BELOW),)),
    "delete-subtree": execute((Delete(key("dict", "b"), Scope.SUBTREE),)),
    "delete-nothing": execute((Delete(key("absent", "absent"), Scope.SUBTREE),)),
    "expire-node": execute((Expire(key("leaf"), Scope.NODE, 600_000), Expire(key("expiring"), Scope.NODE, None))),
    "expire-below": execute((Expire(key("dict"), Scope.BELOW, 600_000),)),
    "expire-subtree": execute((Expire(key(), Scope.SUBTREE, 600_000),)),
    "counters": execute((Add(key("leaf"), 41), Add(key("expiring"), -(2**40)), Add(key("c", "d"), 2**63 - 1))),
    "counter-refused": execute((Put(key("fresh"), b"1"), Add(key("text"), 1))),
    "checks-and-reads-and-writes": execute(
        (Delete(key("dict"), Scope.SUBTREE), Put(key("dict", "new"), b"1"), Add(key("leaf"), 1)),
        (StartsWith(key("leaf"), Scope.NODE, b"1"), Equals(key("absent"), Scope.SUBTREE, NOTHING)),
        (Read(key("dict"), Scope.SUBTREE), ReadNames(key()), Read(key("absent"))),
    ),
    "check-fails": execute(
        (Put(key("leaf"), b"2"),), (Equals(key("leaf"), Scope.NODE, {(): b"other"}),), (Read(key("leaf")),)
    ),
    "set": lambda: root().set("fresh.dict", {"a": [1, 2], "b": {}}).key(),
    "set-with-ttl": lambda: root().set("dict", {"a": 1, "n": {"m": 2}}, expire=600).key(),
    "delete": lambda: root().delete("dict.b"),
    "clear": lambda: [root()["dict"].clear()],  # type: ignore[func-returns-value]
    "add-integer": lambda: root()["leaf"].add(41),
    "add-float": lambda: root()["half"].add(0.25),
    "add-to-what-is-absent": lambda: root()["fresh.counter"].add(3),
    "expire": lambda: root()["dict"].expire(600),
    "persist": lambda: root()["expiring"].expire(None),
    "update": lambda: root()["dict"].update({"b": {"c": 3, "e": 4}, "f": 5}).key(),
    "update-with-empty-dict": lambda: root()["dict"].update({"b": {}, "f": {}}).key(),
    "pop": lambda: root().pop("dict"),
    "pop-nothing": lambda: root().pop("absent", "default"),
    "setdefault": lambda: root().setdefault("fresh", {"a": 1}),
    "setdefault-over-something": lambda: root().setdefault("dict", 0),
    "compare-and-set": lambda: root()["leaf"].compare_and_set(1, {"now": "a dict"}),
    "compare-and-set-fails": lambda: root()["leaf"].compare_and_set(2, 3),
    "compare-and-remove": lambda: root()["text"].compare_and_set("x", ABSENT),
    "update-with": lambda: root()["dict"].update_with(lambda value: {**value, "a": value["a"] + 1}),
    "transaction": several_changes,
    "transaction-refused": refused_changes,
}

READS: Final[dict[str, Operation]] = {
    "val": lambda: root().val(),
    "val-of-a-leaf": lambda: [root()["dict.b.d"].val()],
    "val-of-nothing": lambda: root()["absent"].val("default"),
    "exists": lambda: [root()["dict"].exists(), root()["absent"].exists()],
    "time-to-live": lambda: [root()["dict"].time_to_live(), root()["expiring"].time_to_live() > 0],
    "keys": lambda: sorted(root().keys()),
    "leaves": lambda: sorted(proxy.key() for proxy in root().iter_children()),
    "refused-checks": execute((), (Equals(key("dict"), Scope.BELOW, NOTHING),)),
}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat requests without pauses."""
    monkeypatch.setattr(connections, "_FIRST_PAUSE_SECS", 0.0)


@pytest.fixture
def proxied(faulty_proxy: FaultyProxy) -> Iterator[FaultyProxy]:
    """Have the pool use the server through a proxy without faults. The server knows the script."""
    with front(faulty_proxy):
        root().exists()
        yield faulty_proxy


def fill(server: RedisServer) -> None:
    """Write the initial tree without the proxy, and reset the statistics of commands."""
    server.command("FLUSHALL")
    with opened(server) as backend:
        puts = [Put(key(*path), value) for path, value in _leaves()]
        write(backend, *puts, Put(key("expiring"), b"5", 900_000))
    server.command("CONFIG", "RESETSTAT")


def _leaves() -> Iterator[tuple[tuple[str, ...], bytes]]:
    yield ("leaf",), b"1"
    yield ("text",), b'"x"'
    yield ("half",), b"0.5"
    yield ("dict", "a"), b"1"
    yield ("dict", "b", "c"), b"2"
    yield ("dict", "b", "d"), b'"three"'


def undisturbed(proxied: FaultyProxy, server: RedisServer, operation: Operation) -> tuple[tuple[Any, ...], int]:
    """Return the result of an operation, its effect and its commands, and how many requests it takes.

    It has run before, so the client knows which plain command answers which read, and sends the same ones each time.
    """
    fill(server)
    operation()
    fill(server)
    before = proxied.requests
    result = operation()
    requests = proxied.requests - before
    return (result, contents(server).timeless(), changes(server)), requests


@pytest.mark.parametrize("name", [*WRITES, *READS])
def test_a_lost_reply_changes_nothing(name: str, proxied: FaultyProxy, redis_server: RedisServer) -> None:
    """Whichever reply is lost, up to three times in a row, the request is applied once and answered correctly.

    The commands that change the tree run as often as without the fault.
    """
    operation = (WRITES | READS)[name]
    expected, requests = undisturbed(proxied, redis_server, operation)
    assert requests >= 1
    for hit in range(requests):
        for losses in (1, 2, 3):
            fill(redis_server)
            proxied.pass_requests(hit)
            proxied.drop_replies(losses)
            got = operation()
            assert proxied.pending == 0
            assert (got, contents(redis_server).timeless(), changes(redis_server)) == expected, (hit, losses)
    examine_layout(contents(redis_server))


@pytest.mark.parametrize("name", [*WRITES, *READS])
def test_a_reply_that_ends_midway_changes_nothing(name: str, proxied: FaultyProxy, redis_server: RedisServer) -> None:
    """After a part of a reply, the request is sent again and applied once."""
    operation = (WRITES | READS)[name]
    expected, requests = undisturbed(proxied, redis_server, operation)
    for hit in range(requests):
        for length in (1, 9):
            fill(redis_server)
            proxied.pass_requests(hit)
            proxied.cut_replies(after=length)
            got = operation()
            assert (got, contents(redis_server).timeless(), changes(redis_server)) == expected, (hit, length)


@pytest.mark.parametrize("name", WRITES)
def test_a_late_first_attempt_changes_nothing(
    name: str, proxied: FaultyProxy, redis_server: RedisServer, faulty_proxy: FaultyProxy
) -> None:
    """A request that arrives after its repetition, and after writes of others, is not applied."""
    expected, requests = undisturbed(proxied, redis_server, WRITES[name])
    with front(faulty_proxy, socket_timeout_secs=0.1, retries=20):
        fill(redis_server)
        faulty_proxy.pass_requests(requests - 1)
        faulty_proxy.hold_requests()
        got = WRITES[name]()
        faulty_proxy.wait_until_held()
        assert (got, contents(redis_server).timeless(), changes(redis_server)) == expected
        with opened(redis_server) as other:
            write(other, Delete(key(), Scope.SUBTREE), Put(key("leaf"), b"1"), Put(key("dict", "a"), b"7", 900_000))
        before = data(redis_server)
        faulty_proxy.release_held()
        assert data(redis_server) == before


def test_an_attempt_that_arrives_after_later_requests_changes_nothing(
    faulty_proxy: FaultyProxy, redis_server: RedisServer
) -> None:
    """A request that its client gave up is not applied after the next request of that client."""
    with opened(faulty_proxy, socket_timeout_secs=0.1, retries=1) as client:
        write(client, Put(key("a"), b"0"))
        faulty_proxy.hold_requests(2)
        with pytest.raises(StoreTimeout) as failed:
            write(client, Put(key("a"), b"1"))
        assert failed.value.maybe_applied
        faulty_proxy.wait_until_held(2)
        write(client, Put(key("a"), b"2"))
        before = data(redis_server)
        faulty_proxy.release_held()
        assert data(redis_server) == before == {b"v:": {b"a": b"2"}}


def test_the_error_says_that_a_request_may_be_applied(proxied: FaultyProxy, redis_server: RedisServer) -> None:
    """When every reply is lost, the error says that the request may have been applied, and it was, once."""
    fill(redis_server)
    proxied.drop_replies(4)
    with pytest.raises(Unreachable, match="may have been carried out") as failed:
        root()["leaf"].add(1)
    assert failed.value.maybe_applied
    assert root()["leaf"].val() == 2
    assert root()["leaf"].add(1) == 3


def test_a_refused_connection_leaves_no_doubt(faulty_proxy: FaultyProxy) -> None:
    """When no attempt reached the server, the error says that nothing was applied."""
    faulty_proxy.refuse()
    with opened(faulty_proxy) as client:
        with pytest.raises(Unreachable) as failed:
            write(client, Add(key("n"), 1))
        assert not failed.value.maybe_applied
        assert "carried out" not in str(failed.value)
        faulty_proxy.accept()
        assert write(client, Add(key("n"), 1)).counters == (1,)


def test_without_retries_a_lost_reply_is_an_error(faulty_proxy: FaultyProxy, redis_server: RedisServer) -> None:
    """With ``retries=0`` a request is sent once."""
    with opened(faulty_proxy, retries=0) as client:
        write(client, Add(key("n"), 1))
        sent = faulty_proxy.requests
        faulty_proxy.drop_replies()
        with pytest.raises(Unreachable) as failed:
            write(client, Add(key("n"), 1))
        assert failed.value.maybe_applied
        assert faulty_proxy.requests == sent + 1
        assert write(client, Add(key("n"), 1)).counters == (3,)


def test_pauses_between_attempts_stay_short(faulty_proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any number of retries, no pause is longer than some seconds."""
    monkeypatch.undo()
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    faulty_proxy.refuse()
    with opened(faulty_proxy, retries=1_100) as client, pytest.raises(Unreachable):
        write(client, Add(key("n"), 1))
    assert len(pauses) >= 1_000
    assert max(pauses) <= 10


def test_the_source_is_sent_only_to_a_server_that_does_not_know_it(
    faulty_proxy: FaultyProxy, redis_server: RedisServer
) -> None:
    """A call is by name first, and the source is sent only if the server does not know it. It may be repeated too."""
    with opened(faulty_proxy) as client:
        redis_server.forget()
        redis_server.command("CONFIG", "RESETSTAT")
        faulty_proxy.pass_requests()
        faulty_proxy.drop_replies()
        assert write(client, Add(key("n"), 1)).counters == (1,)
        assert write(client, Add(key("n"), 1)).counters == (2,)
        ran = calls(redis_server)
        # Refused, applied with the reply lost, repeated, and the other one. Without functions the source is a call.
        assert (ran.get("function|load", 0), ran.get("eval", 0)) in {(1, 0), (0, 1)}
        assert transactions(redis_server) == 4 + ("eval" in ran and "fcall" in ran)


def test_a_repeated_reply_is_the_first_one_in_full(faulty_proxy: FaultyProxy, redis_server: RedisServer) -> None:
    """The reply to a repetition has every answer and counter, byte for byte, however large."""
    names = [f"n{number}" for number in range(1_000)]
    with opened(faulty_proxy) as client:
        write(
            client,
            *[Put(key("wide", name), bytes([number % 256]) * (number % 90)) for number, name in enumerate(names)],
        )
        write(client, Put(key("deep", "a.b", "\x00:%"), b"l3:s1:", 900_000), Put(key("n"), b"1"))
        transaction = Transaction(
            (),
            (Read(key(), Scope.SUBTREE), ReadNames(key("wide")), Read(key("n")), Read(key("absent"))),
            (Add(key("n"), 1), Delete(key("wide"), Scope.SUBTREE), Add(key("m"), -(2**63))),
        )
        plain = client.execute(transaction._replace(writes=()))
        faulty_proxy.drop_replies(2)
        repeated = client.execute(transaction)
        assert repeated.status is Status.APPLIED
        assert repeated.answers == plain.answers
        assert repeated.counters == (2, -(2**63))
