"""Moving the data of redicts 1.0 within its own database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import redis

import redicts
from redicts import CorruptData, Pool, SettingsError, root
from redicts.backends.redis import RedisBackend
from redicts.migration import Reason, from_1_0
from redicts.migration.old_data import OldData
from tests.migration.conftest import SMALL, once_before, same, skips, stores_leaves, strings, write_as_1_0
from tests.support.servers import RedisServer

Use = Callable[[str], None]


@pytest.fixture(autouse=True)
def _in_place(use: Use) -> None:
    use("in place")


def test_delete_is_required(source: redis.Redis, redis_server: RedisServer) -> None:
    """Without it a run is refused before anything changes, however the server is addressed."""
    written = write_as_1_0(source, SMALL)
    addresses: list[dict[str, Any]] = [
        {"host": "localhost", "port": redis_server.port},
        {"unix_socket": str(redis_server.socket_path)},
    ]
    for address in addresses:
        Pool().reload(cfg={"backend": {"name": "redis", **address}})
        with pytest.raises(SettingsError, match="delete=True"):
            from_1_0(source)
    assert strings(source) == written
    assert set(cast("list[bytes]", source.keys("*"))) == set(written)


def test_the_tree_is_usable_afterwards(source: redis.Redis) -> None:
    """Values can be read, replaced by dicts and leaves, and removed."""
    write_as_1_0(source, SMALL)
    from_1_0(source, delete=True)
    root().set("f", {"x": {"y": 1}})
    root().set("a", 5)
    root().get("g.h").clear()
    assert root().val() == {"f": {"x": {"y": 1}}, "a": 5, "a%b": SMALL["a%b"], "a%25b": SMALL["a%25b"]}
    root().clear()
    assert source.keys("v:*") == []


def test_a_leaf_waits_for_the_name_of_its_hash(source: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leaf whose hash has the name of another leaf's key is moved after that one, in as many passes as needed."""
    # The hash of the dict "a%b" is v:.a%25b, that of "a%b.c" is v:.a%25b.c, and that of "a%25b" is v:.a%2525b.
    source.mset({"v:.a%b.c.d": "1", "v:.a%25b.c": "2", "v:.a%2525b": "3", "v:.z": "4"})
    orders: list[list[bytes]] = []
    original = OldData.batches

    def worst_first(self: OldData) -> Iterator[list[bytes]]:
        keys = sorted(key for batch in original(self) for key in batch if source.type(key) == b"string")
        orders.append(keys[::-1])
        return iter([[key] for key in keys[::-1]])

    monkeypatch.setattr(OldData, "batches", worst_first)
    report = from_1_0(source, batch=1, delete=True)
    assert orders == [
        [b"v:.z", b"v:.a%b.c.d", b"v:.a%25b.c", b"v:.a%2525b"],
        [b"v:.a%b.c.d", b"v:.a%25b.c"],
        [b"v:.a%b.c.d"],
    ]
    assert root().val() == {"a%b": {"c": {"d": 1}}, "a%25b": {"c": 2}, "a%2525b": 3, "z": 4}
    assert (report.read, report.stored, report.complete) == (4, 4, True)


@pytest.mark.parametrize("stuck", ["not JSON", "a list"])
def test_a_key_that_stays_blocks_the_hash_of_its_name(source: redis.Redis, stuck: str) -> None:
    """The leaves of that hash are reported, and the rest is moved."""
    if stuck == "a list":
        source.rpush("v:.a%25b", "1")
    else:
        source.set("v:.a%25b", stuck)
    source.mset({"v:.a%b.c": "1", "v:.e": "2"})
    report = from_1_0(source, delete=True)
    assert root().val() == {"e": 2}
    reason = Reason.FOREIGN if stuck == "a list" else Reason.NO_JSON
    assert skips(report) == {"v:.a%25b": reason, "v:.a%b.c": Reason.IN_THE_WAY}
    assert report.read == 3


def test_a_foreign_root_blocks_everything(source: redis.Redis) -> None:
    """If the name of the tree's root is taken, nothing is moved or lost, and the report names it."""
    written = write_as_1_0(source, SMALL)
    source.set("v:", "1")
    report = from_1_0(source, delete=True)
    assert set(skips(report).values()) == {Reason.IN_THE_WAY}
    assert strings(source) == written


def test_an_existing_tree_is_kept(source: redis.Redis) -> None:
    """A new tree in the same database keeps its values at, above and below those of 1.0."""
    root().set([], {"n": {"x": 1}, "a": 2, "d": {"e": {"f": 3}}})
    source.mset({"v:.n.y": "10", "v:.a.b": "11", "v:.d.e.g": "12", "v:.n.x": "13"})
    report = from_1_0(source, delete=True)
    assert root().val() == {"n": {"x": 1, "y": 10}, "a": 2, "d": {"e": {"f": 3, "g": 12}}}
    assert skips(report) == {"v:.a.b": Reason.OCCUPIED, "v:.n.x": Reason.DIFFERS}


def test_a_concurrent_write_fails_or_is_kept(source: redis.Redis) -> None:
    """A write below the path of an old key raises an error; one at it or above it is kept."""
    write_as_1_0(source, {"a": {"b": 1}, "c": 1, "d": 1})

    def write() -> None:
        with pytest.raises(CorruptData):
            root().set("d.e", 2)
        root().set("c", 2)
        root().set("a", 2)

    with once_before(RedisBackend, "execute", write, when=stores_leaves):
        report = from_1_0(source, delete=True)
    assert root().val() == {"a": 2, "c": 2, "d": 1}
    assert skips(report) == {"v:.a.b": Reason.OCCUPIED, "v:.c": Reason.DIFFERS}
    assert strings(source) == {b"v:.a.b": b"1", b"v:.c": b"1"}


def test_a_prefix_among_the_old_keys_is_refused(source: redis.Redis, redis_server: RedisServer) -> None:
    """Later runs could not tell the new keys from old ones; in another database such a prefix is accepted."""
    source.set("v:.a", "1")
    here = {"host": redis_server.host, "port": redis_server.port, "prefix": "v:.new:"}
    Pool().reload(cfg=here)
    with pytest.raises(SettingsError, match="prefix"):
        from_1_0(source, delete=True)
    assert source.keys("*") == [b"v:.a"]
    Pool().reload(cfg=here | {"database": 1})
    from_1_0(source)
    assert root().val() == {"a": 1}


def test_the_database_of_the_target_counts(source: redis.Redis, redis_server: RedisServer) -> None:
    """A named database of the same server is another database; the default one is in place."""
    source.set("v:.a", "1")
    Pool().reload(cfg={"host": redis_server.host, "port": redis_server.port, "names": {"new": 1}})
    from_1_0(source, root(db_name="new"))
    assert root(db_name="new").val() == {"a": 1}
    with pytest.raises(SettingsError, match="delete=True"):
        from_1_0(source, root())


def test_the_client_of_the_pool_can_be_the_source() -> None:
    """So it is for a simulated server, which no other client reaches."""
    Pool().reload(fake_redis=True)
    client = Pool().get_connection()
    write_as_1_0(client, SMALL)
    with pytest.raises(SettingsError):
        from_1_0(client)
    assert from_1_0(client, delete=True).complete
    assert same(root().val(), SMALL)


def test_an_opened_database_can_be_the_target(source: redis.Redis, redis_server: RedisServer) -> None:
    """Its own settings count, and not those of the pool."""
    source.set("v:.a", "1")
    Pool().reload(cfg={"backend": "memory"})
    with redicts.open({"host": redis_server.host, "port": redis_server.port}) as database:
        with pytest.raises(SettingsError, match="delete=True"):
            from_1_0(source, database.root())
        assert from_1_0(source, database.root(), delete=True).complete
        assert database.root().val() == {"a": 1}
