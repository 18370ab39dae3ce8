"""Watching on Redis: one connection, cut connections, and users who may not publish."""

from __future__ import annotations

import threading
from typing import Any, Final

import pytest
import redis

import redicts
from redicts import ABSENT, AccessDenied, Database
from redicts.core.minitransaction import Add, Delete, Expire, Key, Put, Scope, Write
from tests.backends.redis_tools import key, opened, write
from tests.support.servers import RedisServer, StartRedis
from tests.support.waiting import eventually

SOON: Final = 8.0


def configuration(server: RedisServer, **more: Any) -> dict[str, Any]:
    """Return the settings of a client."""
    return {"backend": "redis", "host": server.host, "port": server.port, **more}


def subscribers(server: RedisServer) -> list[str]:
    """Return the connections that are subscribed, as the server lists them."""
    listed = server.command("CLIENT", "LIST", "TYPE", "pubsub")
    text = listed.decode() if isinstance(listed, bytes) else str(listed)
    return [line for line in text.splitlines() if line]


def is_kept(db: Database, key: str) -> bool:
    """Read a value, and tell whether the cache answered."""
    assert db.cache is not None
    hits = db.cache.info().hits
    db.proxy(key).val()
    return db.cache.info().hits > hits


def test_a_thousand_watches_have_one_connection(redis_server: RedisServer) -> None:
    """Watches in many sections share one connection and have no thread, and give it up when they are closed."""
    with redicts.open(configuration(redis_server)) as db:
        threads = threading.active_count()
        watches = [db.proxy(f"s{number % 100}.n{number}").watch(timeout=0) for number in range(1000)]
        assert [next(watch) for watch in watches] == [ABSENT] * 1000
        assert len(subscribers(redis_server)) == 1
        assert threading.active_count() == threads
        db.root().put({f"s{number}": {f"n{number}": number} for number in range(100)})
        assert [list(watch) for watch in watches] == [[number] for number in range(100)] + [[]] * 900
        for watch in watches:
            watch.close()
        eventually(lambda: not subscribers(redis_server), "nothing is subscribed")


@pytest.mark.parametrize(
    ("writes", "told"),
    [
        ([Put(key("a", "x", "y"), b"1")], {b".a": b".a.x.y"}),
        ([Add(key("a", "n"), 1)], {b".a": b".a.n"}),
        ([Put(key("a", "x"), b"1"), Put(key("a", "x"), b"2")], {b".a": b".a.x"}),
        ([Put(key("a", "x"), b"1"), Put(key("a", "y"), b"2"), Put(key("a", "x"), b"3")], {b".a": b".a"}),
        ([Delete(key("a", "x"), Scope.BELOW), Put(key("a", "x"), b"1")], {b".a": b".a.x"}),
        ([Delete(key("a", "b"), Scope.SUBTREE), Put(key("a", "b", "x"), b"1")], {b".a": b".a"}),
        ([Put(key("a", "x", "y"), b"1"), Delete(key("a", "z"), Scope.SUBTREE)], {b".a": b".a"}),
        ([Put(key("a", "x"), b"1"), Put(key("b", "y.z"), b"2")], {b".a": b".a.x", b".b": b".b.y%2Ez"}),
        ([Expire(key(), Scope.SUBTREE, 1000)], {b"": b""}),
        ([Put(Key("w", ("x",)), b"1"), Put(Key("own", ("x",)), b"1")], {}),
    ],
)
def test_a_change_is_told_by_its_path(redis_server: RedisServer, writes: list[Write], told: dict[bytes, bytes]) -> None:
    """A section is told the one path that a transaction changes there, the dict of several names, or itself."""
    client = redis.Redis(port=redis_server.port)
    with opened(redis_server) as backend, client, client.pubsub(ignore_subscribe_messages=True) as listening:
        listening.psubscribe("*")
        listening.get_message(timeout=SOON)
        write(backend, *writes)
        write(backend, Put(key("end"), b""))
        found: dict[bytes, bytes] = {}
        while b".end" not in found:
            message = listening.get_message(timeout=SOON)
            if message:
                found[message["channel"].partition(b"/")[2]] = message["data"]
    del found[b".end"]
    assert found == told


def test_a_watch_goes_on_after_its_connection_was_cut(redis_server: RedisServer) -> None:
    """What is written while the connection is away, and later, is told."""
    with redicts.open(configuration(redis_server)) as db:
        watch = db.proxy("a").watch(timeout=SOON)
        assert next(watch) is ABSENT
        for number in range(20):
            redis_server.command("CLIENT", "KILL", "TYPE", "pubsub")
            db.proxy("a").put(number)
            assert next(watch) == number
            db.proxy("a").put(-number - 1)
            assert next(watch) == -number - 1


def test_threads_watch_further_sections_while_one_waits(redis_server: RedisServer) -> None:
    """A thread that begins to watch does not wait for the one that reads the connection."""
    with redicts.open(configuration(redis_server)) as db:
        first = db.proxy("first").watch(initial=False, timeout=SOON)
        waiting = threading.Thread(target=lambda: list(first), daemon=True)
        waiting.start()
        for number in range(20):
            with db.proxy(f"s{number}").watch(timeout=SOON) as watch:
                assert next(watch) is ABSENT
                db.proxy(f"s{number}.x").put(number)
                assert next(watch) == {"x": number}
        first.close()
        waiting.join(SOON)
        assert not waiting.is_alive()


def test_a_cut_subscription_empties_the_cache(redis_server: RedisServer) -> None:
    """When the connection of the notifications is cut, what was kept is dropped, and is kept again once it is back."""
    with redicts.open(configuration(redis_server, cache=True)) as db:
        assert db.cache is not None
        db.proxy("a").put(1)
        eventually(lambda: is_kept(db, "a"), "the value is kept")
        before = db.cache.info().invalidations
        redis_server.command("CLIENT", "KILL", "TYPE", "pubsub")
        eventually(lambda: db.cache and db.cache.info().invalidations > before, "the section is dropped")
        redis_server.command("CLIENT", "KILL", "TYPE", "pubsub")
        eventually(lambda: is_kept(db, "a"), "the value is kept again")
        with redicts.open(configuration(redis_server)) as other:
            other.proxy("a").put(2)
        eventually(lambda: db.proxy("a").val() == 2, "the write of another client is seen", within=SOON)


def test_users_without_the_channels(start_redis: StartRedis) -> None:
    """A user who may not publish writes all the same, and one who may not subscribe is told what to allow."""
    server = start_redis()
    server.command("ACL", "SETUSER", "mute", "on", ">secret", "~*", "+@all", "resetchannels")
    with redicts.open(configuration(server, username="mute", password="secret")) as db:
        db.proxy("a.b").put({"c": 1, "d": 2})
        assert db.proxy("a").val() == {"b": {"c": 1, "d": 2}}
        with pytest.raises(AccessDenied, match="&"):
            next(db.proxy("a").watch())


@pytest.mark.parametrize("prefix", ["", "app[1]*?:"])
def test_the_root_is_watched_by_a_pattern(redis_server: RedisServer, prefix: str) -> None:
    """Whatever the prefix, a watch of the root is told of changes in each section, and of the root."""
    settings = {**configuration(redis_server), "prefix": prefix}
    with redicts.open(settings) as db, redicts.open(settings) as other, db.root().watch(timeout=SOON) as values:
        assert next(values) is ABSENT
        other.proxy("a.b").put(1)
        assert next(values) == {"a": {"b": 1}}
        other.proxy("/*").put(2)
        assert next(values) == {"a": {"b": 1}, "/*": 2}
        other.root().clear()
        assert next(values) is ABSENT


def test_who_watches_the_root_needs_the_pattern(start_redis: StartRedis) -> None:
    """A user who may subscribe to the channels only watches sections, and is told what the root needs."""
    server = start_redis()
    rules = ["on", ">secret", "~*", "+@all", "resetchannels", "&s:*"]
    server.command("ACL", "SETUSER", "one", *rules)
    server.command("ACL", "SETUSER", "all", *rules, "&s:0:/*")
    with redicts.open(configuration(server, username="one", password="secret")) as db:
        assert next(db.proxy("a").watch()) is ABSENT
        with pytest.raises(AccessDenied, match=r"\+psubscribe"):
            next(db.root().watch())
    with redicts.open(configuration(server, username="all", password="secret")) as db:
        assert next(db.root().watch()) is ABSENT
