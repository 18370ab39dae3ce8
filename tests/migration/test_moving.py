"""Moving the data of redicts 1.0 from real servers to every kind of target."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from math import ceil
from typing import Any, cast

import fakeredis
import pytest
import redis
from redis.client import Pipeline

from redicts import Pool, SettingsError, StoreError, Unreachable, root
from redicts.backends.memory import MemoryBackend
from redicts.backends.redis import RedisBackend
from redicts.codecs.json import JsonCodec
from redicts.core.backend import Capabilities
from redicts.core.minitransaction import Put, Transaction
from redicts.migration import Migration, Reason, from_1_0
from redicts.migration.old_data import OldData
from tests.migration.conftest import (
    SMALL,
    TARGETS,
    around,
    generated,
    once_before,
    same,
    skips,
    stores_leaves,
    strings,
    write_as_1_0,
)
from tests.support.ports import free_port
from tests.support.servers import RedisServer
from tests.support.waiting import eventually

Use = Callable[[str], None]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_value_is_moved(source: redis.Redis, use: Use, target: str, seed: int) -> None:
    """Every value that 1.0 can store is in the new tree, and with ``delete`` its keys are removed."""
    tree = generated(seed)
    written = write_as_1_0(source, tree)
    source.set("l:.a", "a lock")
    use(target)
    report = from_1_0(source, root(), batch=7, delete=True)
    assert same(root().val(), tree)
    assert report.complete
    assert (report.read, report.stored, report.removed) == (len(written),) * 3
    assert strings(source) == {}
    assert source.get("l:.a") == b"a lock"


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "in place"])
def test_without_delete_the_source_is_unchanged(source: redis.Redis, use: Use, target: str) -> None:
    """A second run finds that everything is there."""
    tree = generated(4)
    written = write_as_1_0(source, tree)
    use(target)
    first = from_1_0(source, batch=50)
    second = from_1_0(source, batch=50)
    assert same(root().val(), tree)
    assert strings(source) == written
    assert (first.stored, first.already_there) == (len(written), 0)
    assert (second.stored, second.already_there, second.complete) == (0, len(written), True)


def test_a_database_without_old_keys_has_an_empty_report(source: redis.Redis) -> None:
    """Other keys are ignored."""
    source.set("vx", "1")
    source.set("other", "1")
    assert from_1_0(source) == Migration()
    assert root().val() is None


def test_a_json_object_in_a_leaf_stays_one_leaf(source: redis.Redis) -> None:
    """An object that somebody wrote by hand is one value in 1.0, and one value in the new tree."""
    source.set("v:.a", '{"x.y": {"": 1}}')
    assert from_1_0(source).complete
    assert root().val() == {"a": {"x.y": {"": 1}}}
    assert [leaf.key() for leaf in root().iter_children()] == ["a"]


@pytest.mark.parametrize("target", ["memory", "in place"])
def test_requests_have_at_most_a_batch_of_keys(source: redis.Redis, use: Use, target: str) -> None:
    """However many keys there are, each request has at most a batch of them, and requests are few."""
    batch = 200
    tree = {f"section{i}": {f"name{j}": i * j for j in range(100)} for i in range(50)}
    write_as_1_0(source, tree)
    use(target)
    reads: list[int] = []
    stores: list[int] = []
    seen: list[int] = []
    with (
        around(OldData, "read", before=lambda keys, _: reads.append(len(keys))),
        around(
            MemoryBackend if target == "memory" else RedisBackend,
            "execute",
            before=lambda transaction: stores.append(len(transaction.writes)),
        ),
    ):
        report = from_1_0(source, batch=batch, delete=True, progress=lambda so_far: seen.append(so_far.stored))
    assert report.complete
    assert report.stored == 5_000
    assert max(reads) <= batch
    assert max(stores) <= batch
    assert len(reads) == len(seen)
    assert len(stores) <= len(reads) + 1
    assert seen == sorted(seen)
    assert seen[-1] == 5_000
    # In place SCAN returns the hashes of the new tree too.
    assert len(reads) <= ceil(20_000 / batch) + (2 if target == "in place" else 0)
    assert root().val() == tree


# Interruption


class Interruption(BaseException):
    """Raised by tests to end a run: nothing catches it by accident."""


@contextmanager
def interrupted_at(step: int) -> Iterator[None]:
    """Raise at the given step: before or after a request to the source or to the target."""
    left = [step]

    def take_step(*_: object) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise Interruption

    with (
        around(redis.Redis, "execute_command", before=take_step, after=take_step),
        around(Pipeline, "execute", before=take_step, after=take_step),
        around(RedisBackend, "execute", before=take_step, after=take_step),
        around(MemoryBackend, "execute", before=take_step, after=take_step),
    ):
        yield


@pytest.mark.parametrize(
    ("target", "delete"),
    [("memory", True), ("memory", False), ("prefix", True), ("prefix", False), ("in place", True)],
)
def test_an_interrupted_run_is_completed_by_the_next(
    redis_server: RedisServer, source: redis.Redis, use: Use, target: str, delete: bool
) -> None:
    """Wherever a run ends, each value is at its old or its new path, and the next run completes the migration."""
    ends = 0
    for step in count():
        redis_server.flush()
        written = write_as_1_0(source, SMALL)
        use(target)
        try:
            with interrupted_at(step):
                from_1_0(source, batch=2, delete=delete)
        except Interruption:
            ends += 1
        else:
            break
        left = strings(source)
        for key, value in written.items():
            path = key.decode().removeprefix("v:.").split(".")
            assert left.get(key) == value or same(root().get(path).val(), json.loads(value))
        report = from_1_0(source, batch=2, delete=delete)
        assert report.complete
        assert same(root().val(), SMALL)
        assert strings(source) == ({} if delete else written)
        assert report.read == report.stored + report.already_there + report.gone
    assert ends > 20


@pytest.mark.parametrize("delete", [True, False])
def test_a_change_between_two_runs_is_not_overwritten(
    redis_server: RedisServer, source: redis.Redis, use: Use, delete: bool
) -> None:
    """A leaf of the first run that was changed in the new tree keeps the new value in the second run."""
    changed = 0
    for step in count():
        redis_server.flush()
        write_as_1_0(source, SMALL)
        use("memory")
        try:
            with interrupted_at(step):
                from_1_0(source, batch=2, delete=delete)
        except Interruption:
            pass
        else:
            break
        moved = [leaf.key() for leaf in root().iter_children()]
        for path in moved:
            root().set(path, "changed since")
        from_1_0(source, batch=2, delete=delete)
        assert all(root().get(path).val() == "changed since" for path in moved)
        changed += len(moved)
    assert changed > 0


def test_an_error_of_the_source_is_passed_on(source: redis.Redis) -> None:
    """The caller gets the error of redis-py, and another run completes the migration."""
    write_as_1_0(source, SMALL)

    def fail() -> None:
        raise redis.exceptions.ConnectionError("gone")

    with once_before(OldData, "remove", fail), pytest.raises(redis.exceptions.ConnectionError):
        from_1_0(source, delete=True)
    report = from_1_0(source, delete=True)
    assert (report.stored, report.already_there, report.removed) == (0, 7, 7)
    assert same(root().val(), SMALL)


def test_an_error_of_the_target_is_passed_on(source: redis.Redis) -> None:
    """The old keys stay."""
    written = write_as_1_0(source, SMALL)

    def fail() -> None:
        raise StoreError("no")

    with once_before(MemoryBackend, "execute", fail, when=stores_leaves), pytest.raises(StoreError, match="no"):
        from_1_0(source, delete=True)
    assert strings(source) == written


def test_an_error_of_the_progress_ends_the_run(source: redis.Redis) -> None:
    """A caller can stop a run between two batches, and continue later."""
    write_as_1_0(source, SMALL)

    def stop(_: Migration) -> None:
        raise Interruption

    with pytest.raises(Interruption):
        from_1_0(source, batch=2, progress=stop)
    assert len(list(root().iter_children())) == 2
    from_1_0(source)
    assert same(root().val(), SMALL)


# Concurrent changes


def test_a_concurrent_write_to_the_new_tree_is_not_overwritten(source: redis.Redis) -> None:
    """A leaf at, above or below the path that appears between reading and storing stays."""
    kept = write_as_1_0(source, {"at": 1, "above": {"x": 1, "y": {"z": 1}}, "below": 1})
    write_as_1_0(source, {"same": 1, "free": 1})

    def write() -> None:
        root().update({"at": 2, "above": 2, "below": {"x": 2}, "same": 1})

    with once_before(MemoryBackend, "execute", write, when=stores_leaves):
        report = from_1_0(source, delete=True)
    assert root().val() == {"at": 2, "above": 2, "below": {"x": 2}, "same": 1, "free": 1}
    assert skips(report) == {
        "v:.at": Reason.DIFFERS,
        "v:.above.x": Reason.OCCUPIED,
        "v:.above.y.z": Reason.OCCUPIED,
        "v:.below": Reason.OCCUPIED,
    }
    assert (report.read, report.stored, report.already_there, report.removed) == (6, 1, 1, 2)
    assert strings(source) == kept


def test_a_large_dict_in_the_new_tree_blocks_its_path_only(source: redis.Redis, use: Use) -> None:
    """A dict of more values than one transaction may touch is reported like a small one."""
    write_as_1_0(source, {"large": 1, "b": 1, "c": 1, "d": {"e": 1}})
    use("database")
    large = {str(number): number for number in range(10_500)}
    root().set("large", large)
    report = from_1_0(source)
    assert skips(report) == {"v:.large": Reason.OCCUPIED}
    assert root().val() == {"large": large, "b": 1, "c": 1, "d": {"e": 1}}


def test_a_foreign_key_in_the_target_blocks_its_path_only(
    redis_server: RedisServer, source: redis.Redis, use: Use
) -> None:
    """Where the target has a key of another type under a name of the tree, only that path is skipped."""
    write_as_1_0(source, {"a": {"b": 1}, "c": {"d": 1}, "e": 1})
    with redis.Redis(host=redis_server.host, port=redis_server.port, db=1) as other:
        other.set("v:.a", "foreign")
    use("database")
    report = from_1_0(source)
    assert skips(report) == {"v:.a.b": Reason.IN_THE_WAY}
    assert (root().get("c").val(), root().get("e").val()) == ({"d": 1}, 1)


def test_an_old_key_that_changed_is_not_removed(source: redis.Redis) -> None:
    """A value that 1.0 writes during the migration is kept and reported."""
    write_as_1_0(source, {"a": 1, "b": 1})
    with once_before(OldData, "remove", lambda: source.set("v:.a", "2")):
        report = from_1_0(source, delete=True)
    assert root().val() == {"a": 1, "b": 1}
    assert strings(source) == {b"v:.a": b"2"}
    assert skips(report) == {"v:.a": Reason.CHANGED}
    assert (report.stored, report.removed) == (2, 1)


def test_an_old_key_that_vanishes_after_it_was_stored_is_not_reported(source: redis.Redis) -> None:
    """It counts as stored, and not as removed."""
    write_as_1_0(source, {"a": 1, "b": 1})
    with once_before(OldData, "remove", lambda: source.delete("v:.a")):
        report = from_1_0(source, delete=True)
    assert (report.stored, report.removed, report.complete) == (2, 1, True)


def test_an_old_key_that_vanishes_before_it_is_read_is_gone(source: redis.Redis) -> None:
    """It is not stored."""
    write_as_1_0(source, {"a": 1, "b": 1})
    with once_before(OldData, "read", lambda: source.delete("v:.a")):
        report = from_1_0(source)
    assert root().val() == {"b": 1}
    assert (report.read, report.stored, report.gone) == (2, 1, 1)


# TTLs


@pytest.mark.parametrize("target", TARGETS)
def test_ttls_are_preserved(source: redis.Redis, use: Use, target: str) -> None:
    """A leaf has the TTL of its key, no longer and hardly shorter, or no expiry."""
    source.set("v:.a.mortal", "1", px=1_000_000)
    source.set("v:.a.lasting", "2")
    use(target)
    from_1_0(source, delete=True)
    assert 900 < root().get("a.mortal").time_to_live() <= 1_000
    assert root().get("a.lasting").time_to_live() == -1


def test_ttls_are_preserved_to_the_millisecond(source: redis.Redis, use: Use) -> None:
    """A TTL that is not a whole number of seconds is not rounded up."""
    source.set("v:.a", "1", px=1_000_999)
    use("in place")
    writes: list[Any] = []
    with around(RedisBackend, "execute", before=lambda transaction: writes.extend(transaction.writes)):
        from_1_0(source, delete=True)
    (put,) = [write for write in writes if isinstance(write, Put)]
    assert put.ttl is not None
    assert 900_000 < put.ttl <= 1_000_999


def test_a_value_and_its_ttl_are_read_atomically(source: redis.Redis, redis_server: RedisServer) -> None:
    """Each batch is read in one transaction of the server; else a TTL that is set in between would be lost."""
    write_as_1_0(source, SMALL)
    redis_server.command("CONFIG", "RESETSTAT")
    from_1_0(source, batch=2)
    calls = {name: stats.split(",")[0] for name, stats in redis_server.info("commandstats").items()}
    assert (calls["cmdstat_exec"], calls["cmdstat_get"]) == ("calls=4", "calls=7")


def test_a_leaf_that_expires_before_it_is_stored_is_gone(source: redis.Redis) -> None:
    """The rest of its batch is stored, and a batch without a rest is not sent."""
    source.set("v:.a", "1", px=50)
    sent: list[Transaction] = []

    def wait() -> None:
        eventually(lambda: not source.exists("v:.a"), "the key expires")

    with around(OldData, "read", after=wait), around(MemoryBackend, "execute", before=sent.append):
        report = from_1_0(source)
    assert (report.read, report.gone) == (1, 1)
    assert sent == [Transaction()]
    assert root().val() is None
    source.set("v:.a", "1", px=50)
    source.set("v:.b", "2")
    with around(OldData, "read", after=wait):
        report = from_1_0(source, delete=True)
    assert root().val() == {"b": 2}
    assert (report.read, report.stored, report.gone, report.removed) == (2, 1, 1, 1)


def test_a_store_without_ttls_refuses_leaves_with_one(source: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The leaf is reported; stored without its TTL it would never expire."""
    source.set("v:.a", "1", ex=1000)
    source.set("v:.b", "2")
    no_ttls = Capabilities(ttl=False, processes=False, durable=False, atomic_entries=None)
    monkeypatch.setattr(MemoryBackend, "capabilities", no_ttls)
    report = from_1_0(source, delete=True)
    assert skips(report) == {"v:.a": Reason.REFUSED}
    assert root().val() == {"b": 2}
    assert strings(source) == {b"v:.a": b"1"}


# Keys that cannot be moved


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("batch", [1, 100])
def test_a_leaf_hides_those_below_it(source: redis.Redis, use: Use, target: str, batch: int) -> None:
    """The leaf above is moved, as 1.0 showed it; those below are reported and keep their keys, in every later run."""
    below = {b"v:.a.b": b"2", b"v:.a.b.c": b"3", b"v:.a.d.e": b"4"}
    source.mset(cast("Any", {b"v:.a": b"1", b"v:.z": b"5", **below}))
    use(target)
    for _ in range(2):
        report = from_1_0(source, batch=batch, delete=True)
        assert root().val() == {"a": 1, "z": 5}
        assert set(skips(report)) == {key.decode() for key in below}
        assert set(skips(report).values()) <= {Reason.LEAF_ABOVE, Reason.OCCUPIED}
        assert strings(source) == below


@pytest.mark.parametrize("target", TARGETS)
def test_a_key_that_is_not_a_leaf_of_1_0_is_reported(source: redis.Redis, use: Use, target: str) -> None:
    """Values that are not JSON, invalid paths, and keys of other types are left, and the rest is moved."""
    bad: dict[bytes, bytes] = {
        b"v:.bad.json": b"{secret",
        b"v:.bad.empty": b"",
        b"v:.bad.bytes": b"\xff",
        b"v:.bad.utf16": "1".encode("utf-16"),
        b"v:.bad.rest": b"1 2",
        b"v:.bad.deep": b"[" * 100_000,
        b"v:.a..b": b"1",
        b"v:.": b"1",
        b"v:.a.": b"1",
        b"v:..a": b"1",
        b"v:.\xff": b"1",
        b"v:." + b".".join([b"n"] * 129): b"1",
    }
    source.mset(cast("Any", bad))
    source.rpush("v:.list", "1")
    source.sadd("v:.set", "1")
    source.set("v:.good", "1")
    use(target)
    report = from_1_0(source, batch=4, delete=True)
    assert root().val() == {"good": 1}
    assert strings(source) == bad
    expected = {key.decode("utf-8", "backslashreplace"): Reason.NO_PATH for key in bad}
    expected |= {key.decode(): Reason.NO_JSON for key in bad if key.startswith(b"v:.bad.")}
    assert skips(report) == expected | {"v:.list": Reason.FOREIGN, "v:.set": Reason.FOREIGN}
    assert report.read == 1 + len(report.skipped)
    assert "secret" not in str(report)
    assert not report.complete


def test_a_number_that_this_interpreter_does_not_read_is_moved_as_it_is(source: redis.Redis) -> None:
    """1.0 may have run with a higher limit of digits. A target without the codec ``json`` refuses it."""
    long = b"1" + b"0" * 5000
    source.set("v:.a.long", long, ex=600)
    Pool().reload(cfg={"backend": "memory", "codec": "msgpack", "accept": []})
    assert skips(from_1_0(source)) == {"v:.a.long": Reason.REFUSED}
    source.set("v:.cut", long[:-1] + b" 2")
    Pool().reload(cfg={"backend": "memory"})
    assert skips(from_1_0(source)) == {"v:.cut": Reason.NO_JSON}
    database = Pool().database()
    assert database.run(database.store.leaves(())) == {("a", "long"): long}
    assert database.run(database.store.ttl(("a",))) is not None


def test_a_value_that_the_codec_refuses_is_reported(source: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are moved."""
    write_as_1_0(source, {"a": 1, "b": 2})
    original = JsonCodec.encode

    def encode(value: object, *path: tuple[str, ...]) -> bytes:
        if value == 1:
            raise ValueError("no ones")
        return original(value, *path)

    monkeypatch.setattr(JsonCodec, "encode", staticmethod(encode))
    Pool().reload(cfg={"backend": "memory"})
    assert skips(from_1_0(source)) == {"v:.a": Reason.REFUSED}
    assert root().val() == {"b": 2}


def test_a_hash_in_another_database_is_foreign(source: redis.Redis) -> None:
    """Only in place are hashes those of the new tree."""
    source.hset("v:.a", "b", "1")
    assert skips(from_1_0(source)) == {"v:.a": Reason.FOREIGN}


# Arguments


@pytest.mark.parametrize("batch", [0, -1, 10_001, 1.5, True, "7"])
def test_a_wrong_batch_is_refused(batch: Any) -> None:
    """Nothing is read."""
    with pytest.raises(SettingsError, match="batch"):
        from_1_0(fakeredis.FakeRedis(), batch=batch)


def test_a_target_below_the_root_is_refused() -> None:
    """Nothing is read."""
    with pytest.raises(SettingsError, match="root"):
        from_1_0(fakeredis.FakeRedis(), root().get("a"))


@pytest.mark.parametrize(
    "source",
    ["redis://:m4rker@localhost", fakeredis.FakeRedis().pipeline(), fakeredis.FakeAsyncRedis(), None],
    ids=lambda source: type(source).__name__,
)
def test_a_source_that_is_not_a_blocking_client_is_refused(source: Any) -> None:
    """The error names the class of the source, and shows no more of it."""
    with pytest.raises(SettingsError, match=rf"redis\.Redis; got .*{type(source).__name__}") as refused:
        from_1_0(source)
    assert "m4rker" not in str(refused.value)


def test_a_source_that_decodes_is_refused() -> None:
    """Not every name and value is text."""
    with pytest.raises(SettingsError, match="decode_responses"):
        from_1_0(fakeredis.FakeRedis(decode_responses=True))


def test_an_unreachable_target_is_refused() -> None:
    """It is reported before anything is read."""
    Pool().reload(cfg={"host": "127.0.0.1", "port": free_port(), "retries": 0})
    with pytest.raises(Unreachable):
        from_1_0(fakeredis.FakeRedis())


def test_a_report_has_counts_and_reasons() -> None:
    """Its text has the counts, and each skipped key with its reason."""
    report = Migration(read=3, stored=2)
    report.skip(b"v:.\xff", Reason.NO_PATH, "the name is not UTF-8")
    assert str(report).splitlines()[0].startswith("3 read, 2 stored")
    assert f"v:.\\xff: {Reason.NO_PATH.value} (the name is not UTF-8)" in str(report)
