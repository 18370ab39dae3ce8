"""The rules of moving the data of redicts 1.0, on real servers as sources and on every kind of target."""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from itertools import count
from math import ceil
from pathlib import Path
from typing import Any, Final, cast

import fakeredis
import pytest
import redis
from redis.client import Pipeline

from redicts import CorruptData, Pool, SettingsError, StoreError, Unreachable, root
from redicts.backends.memory import MemoryBackend
from redicts.backends.redis import RedisBackend
from redicts.core.backend import Capabilities
from redicts.core.minitransaction import Outcome, Put, Transaction
from redicts.migration import Migration, Reason, from_1_0
from redicts.migration.old_data import Batch, OldData
from tests.support.ports import free_port
from tests.support.servers import RedisServer
from tests.support.waiting import eventually

NAMES: Final = ["a", "b", "job", "a%b", "%2E", "x:y", "{tag}", "*", "[q]?", "with blank", "back\\slash", "nul\0", "ü✓"]
VALUES: Final[list[Any]] = [0, -1, 2**70, 1.5, -0.0, True, None, "", "text", "ü\ud800\0", [], [1, {"deep": {}}]]


@pytest.fixture(autouse=True)
def pool() -> Iterator[Pool]:
    """Leave no connections and no settings behind."""
    yield Pool()
    Pool().reload(cfg={"backend": "memory"})


@pytest.fixture
def source(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """Give a client on the database in which 1.0 wrote."""
    with redis.Redis(host=redis_server.host, port=redis_server.port) as client:
        yield client


def configuration(target: str, server: RedisServer, directory: Path) -> dict[str, Any]:
    """Return the settings of a target."""
    here: dict[str, Any] = {"host": server.host, "port": server.port}
    forms = {
        "memory": {"backend": "memory"},
        "sqlite": {"backend": "sqlite", "path": str(directory / "state.db")},
        "fakeredis": {"backend": "fakeredis"},
        "database": here | {"database": 1},
        "prefix": here | {"prefix": "new:"},
        "in place": here,
    }
    return forms[target]


TARGETS: Final = ["memory", "sqlite", "fakeredis", "database", "prefix", "in place"]


def generated(seed: int, depth: int = 3) -> dict[str, Any]:
    """Return a nested dict such as 1.0 could store: no empty dicts, no dots in names."""
    chosen = random.Random(seed)

    def made(depth: int) -> Any:
        if depth == 0 or chosen.random() < 0.4:
            return chosen.choice(VALUES)
        return {name: made(depth - 1) for name in chosen.sample(NAMES, chosen.randint(1, 5))}

    return {name: made(depth) for name in NAMES}


def old_keys(tree: Mapping[str, Any], above: str = "v:") -> dict[bytes, bytes]:
    """Return the keys and values that 1.0 wrote for a tree."""
    found: dict[bytes, bytes] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= old_keys(value, f"{above}.{name}")
        else:
            found[f"{above}.{name}".encode()] = json.dumps(value).encode()
    return found


def write_as_1_0(client: redis.Redis, tree: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Write a tree as 1.0 did, and return what was written."""
    keys = old_keys(tree)
    client.mset(cast("Any", keys))
    return keys


def strings(client: redis.Redis) -> dict[bytes, bytes]:
    """Return the string keys of a database that 1.0 may have written."""
    names = cast("list[bytes]", list(client.scan_iter(match="v:.*", _type="STRING")))
    return dict(zip(names, cast("list[bytes]", client.mget(names)))) if names else {}


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same to the sign of a zero and the kind of a number."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def skips(report: Migration) -> dict[str, Reason]:
    """Return what was skipped, without the details."""
    return {skipped.key: skipped.reason for skipped in report.skipped}


@contextmanager
def replaced(owner: type, name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Put a wrapper around a method for a while."""
    original = getattr(owner, name)
    setattr(owner, name, wraps(original)(wrapper(original)))
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextmanager
def before(owner: type, name: str, action: Callable[[Any], object], *, when: Callable[[Any], bool]) -> Iterator[None]:
    """Do something before the first call of a method whose first argument is such a one."""
    done: list[bool] = []

    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *arguments: Any, **options: Any) -> Any:
            if not done and when(arguments[0] if arguments else None):
                done.append(True)
                action(self)
            return original(self, *arguments, **options)

        return call

    with replaced(owner, name, wrapper):
        yield
    assert done, f"{name} was not called as expected"


def writes_something(transaction: Transaction) -> bool:
    """Tell whether a transaction stores leaves of the migration: it reads and writes at once."""
    return bool(transaction.writes and transaction.reads)


# All of it


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_everything_arrives_as_its_json_says(
    source: redis.Redis, redis_server: RedisServer, tmp_path: Path, target: str, seed: int
) -> None:
    """Whatever 1.0 could store is in the new tree afterwards, and its keys are gone if that was wanted."""
    tree = generated(seed)
    written = write_as_1_0(source, tree)
    source.set("l:.a", "a lock")
    Pool().reload(cfg=configuration(target, redis_server, tmp_path))
    report = from_1_0(source, root(), batch=7, delete=True)
    assert same(root().val(), tree)
    assert report.complete
    assert (report.read, report.stored, report.removed) == (len(written),) * 3
    assert strings(source) == {}
    assert source.get("l:.a") == b"a lock"


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "in place"])
def test_without_delete_the_old_keys_stay_and_a_second_run_finds_all_there(
    source: redis.Redis, redis_server: RedisServer, tmp_path: Path, target: str
) -> None:
    """Copying changes nothing in the source, and doing it again changes nothing at all."""
    tree = generated(4)
    written = write_as_1_0(source, tree)
    Pool().reload(cfg=configuration(target, redis_server, tmp_path))
    first = from_1_0(source, batch=50)
    again = from_1_0(source, batch=50)
    assert same(root().val(), tree)
    assert strings(source) == written
    assert (first.stored, first.already_there) == (len(written), 0)
    assert (again.stored, again.already_there, again.complete) == (0, len(written), True)


def test_nothing_there_is_nothing_moved(source: redis.Redis) -> None:
    """A database in which 1.0 wrote nothing gives an empty report."""
    source.set("vx", "1")
    source.set("other", "1")
    Pool().reload(cfg={"backend": "memory"})
    assert from_1_0(source) == Migration()
    assert root().val() is None


def test_a_json_object_in_a_leaf_stays_one_leaf(source: redis.Redis) -> None:
    """What somebody wrote by hand as an object is one value in 1.0, and one value afterwards."""
    source.set("v:.a", '{"x.y": {"": 1}}')
    Pool().reload(cfg={"backend": "memory"})
    assert from_1_0(source).complete
    assert root().val() == {"a": {"x.y": {"": 1}}}
    assert [leaf.key() for leaf in root().iter_children()] == ["a"]


@pytest.mark.parametrize("target", ["memory", "in place"])
def test_large_databases_are_moved_in_bounded_batches(
    source: redis.Redis, redis_server: RedisServer, tmp_path: Path, target: str
) -> None:
    """However many keys there are, no request speaks of more than a batch of them, and requests are few."""
    batch = 500
    tree = {f"section{i}": {f"name{j}": i * j for j in range(100)} for i in range(200)}
    write_as_1_0(source, tree)
    Pool().reload(cfg=configuration(target, redis_server, tmp_path))
    sizes: list[int] = []
    stores: list[int] = []

    def reading(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: OldData, keys: list[bytes], names: list[bytes]) -> Any:
            sizes.append(len(keys))
            return original(self, keys, names)

        return call

    def storing(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, transaction: Transaction) -> Any:
            stores.append(len(transaction.writes))
            return original(self, transaction)

        return call

    backend = MemoryBackend if target == "memory" else RedisBackend
    seen: list[int] = []
    with replaced(OldData, "read", reading), replaced(backend, "execute", storing):
        report = from_1_0(source, batch=batch, delete=True, progress=lambda so_far: seen.append(so_far.stored))
    assert report.complete
    assert report.stored == 20_000
    assert max(sizes) <= batch
    assert max(stores) <= batch
    assert len(sizes) == len(seen)
    assert len(stores) <= len(sizes) + 1
    assert seen == sorted(seen)
    assert seen[-1] == 20_000
    # In place the hashes of the new tree turn up in the walk too.
    assert len(sizes) <= ceil(20_000 / batch) + (2 if target == "in place" else 0)
    assert root().val() == tree


# Interruption


class Interruption(BaseException):
    """What a test ends a run with: nothing catches it by accident."""


@contextmanager
def interrupted_at(step: int) -> Iterator[None]:
    """Raise at the given step: before or after a request to the source or to the target."""
    left = [step]

    def take_step() -> None:
        if left[0] == 0:
            left[0] -= 1
            raise Interruption
        left[0] -= 1

    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *arguments: Any, **options: Any) -> Any:
            take_step()
            result = original(self, *arguments, **options)
            take_step()
            return result

        return call

    with (
        replaced(redis.Redis, "execute_command", wrapper),
        replaced(Pipeline, "execute", wrapper),
        replaced(RedisBackend, "execute", wrapper),
        replaced(MemoryBackend, "execute", wrapper),
    ):
        yield


SMALL: Final[dict[str, Any]] = {
    "a": {"b": {"c": 1, "d": [2]}, "e": None},
    "a%b": {"c": "under a name that is written otherwise"},
    "a%25b": "the key of that hash",
    "f": 3,
    "g": {"h": "four"},
}


@pytest.mark.parametrize(
    ("target", "delete"),
    [("memory", True), ("memory", False), ("prefix", True), ("prefix", False), ("in place", True)],
)
def test_a_run_may_end_anywhere_and_the_next_one_completes_it(
    redis_server: RedisServer, source: redis.Redis, tmp_path: Path, target: str, delete: bool
) -> None:
    """Wherever a run ends, each value is at its old or its new place, and another run ends as one without a break."""
    ends = 0
    for step in count():
        redis_server.flush()
        written = write_as_1_0(source, SMALL)
        Pool().reload(cfg=configuration(target, redis_server, tmp_path))
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
def test_what_was_changed_between_two_runs_is_not_overwritten(
    redis_server: RedisServer, source: redis.Redis, delete: bool
) -> None:
    """A leaf of the first run that was changed in the new tree since keeps the new value in the second run."""
    changed = 0
    for step in count():
        redis_server.flush()
        write_as_1_0(source, SMALL)
        Pool().reload(cfg={"backend": "memory"})
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
    """What redis-py raises reaches the caller as it is, and another run completes the work."""
    write_as_1_0(source, SMALL)
    Pool().reload(cfg={"backend": "memory"})

    def fail(_: object) -> None:
        raise redis.exceptions.ConnectionError("gone")

    with before(OldData, "remove", fail, when=lambda _: True), pytest.raises(redis.exceptions.ConnectionError):
        from_1_0(source, delete=True)
    report = from_1_0(source, delete=True)
    assert (report.stored, report.already_there, report.removed) == (0, 7, 7)
    assert same(root().val(), SMALL)


def test_what_the_progress_raises_ends_the_run(source: redis.Redis) -> None:
    """A caller can stop a run between two batches, and go on later."""
    write_as_1_0(source, SMALL)
    Pool().reload(cfg={"backend": "memory"})

    def stop(so_far: Migration) -> None:
        raise Interruption

    with pytest.raises(Interruption):
        from_1_0(source, batch=2, progress=stop)
    assert len(list(root().iter_children())) == 2
    from_1_0(source)
    assert same(root().val(), SMALL)


# Others at work


def test_a_writer_of_the_new_tree_is_not_overwritten(source: redis.Redis) -> None:
    """What appears in the new tree between reading and storing stays: at the path, above it, and below it."""
    kept = write_as_1_0(source, {"at": 1, "above": {"x": 1, "y": {"z": 1}}, "below": 1})
    write_as_1_0(source, {"same": 1, "free": 1})
    Pool().reload(cfg={"backend": "memory"})

    def write(_: object) -> None:
        root().update({"at": 2, "above": 2, "below": {"x": 2}, "same": 1})

    with before(MemoryBackend, "execute", write, when=writes_something):
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


def test_a_large_dict_in_the_new_tree_is_in_the_way_of_its_path_only(
    redis_server: RedisServer, source: redis.Redis, tmp_path: Path
) -> None:
    """A dict of more values than one transaction may touch is reported like a small one."""
    write_as_1_0(source, {"large": 1, "b": 1, "c": 1, "d": {"e": 1}})
    Pool().reload(cfg=configuration("database", redis_server, tmp_path))
    large = {str(number): number for number in range(10_500)}
    root().set("large", large)
    report = from_1_0(source)
    assert skips(report) == {"v:.large": Reason.OCCUPIED}
    assert root().val() == {"large": large, "b": 1, "c": 1, "d": {"e": 1}}


def test_foreign_keys_in_the_target_are_in_the_way_of_their_path_only(
    redis_server: RedisServer, source: redis.Redis, tmp_path: Path
) -> None:
    """Where the target's database has a key of another type under a name of the tree, only that path is skipped."""
    write_as_1_0(source, {"a": {"b": 1}, "c": {"d": 1}, "e": 1})
    with redis.Redis(host=redis_server.host, port=redis_server.port, db=1) as other:
        other.set("v:.a", "foreign")
    Pool().reload(cfg=configuration("database", redis_server, tmp_path))
    report = from_1_0(source)
    assert skips(report) == {"v:.a.b": Reason.IN_THE_WAY}
    assert (root().get("c").val(), root().get("e").val()) == ({"d": 1}, 1)


def test_an_old_key_that_changed_meanwhile_is_not_removed(source: redis.Redis) -> None:
    """If a program of 1.0 writes while its data is moved, what it wrote is kept and reported."""
    write_as_1_0(source, {"a": 1, "b": 1})
    Pool().reload(cfg={"backend": "memory"})
    with before(OldData, "remove", lambda _: source.set("v:.a", "2"), when=lambda _: True):
        report = from_1_0(source, delete=True)
    assert root().val() == {"a": 1, "b": 1}
    assert strings(source) == {b"v:.a": b"2"}
    assert skips(report) == {"v:.a": Reason.CHANGED}
    assert (report.stored, report.removed) == (2, 1)


def test_an_old_key_that_vanishes_after_it_was_stored_is_no_concern(source: redis.Redis) -> None:
    """What is no longer there when it should be removed was not removed by the run, and is not reported."""
    write_as_1_0(source, {"a": 1, "b": 1})
    Pool().reload(cfg={"backend": "memory"})
    with before(OldData, "remove", lambda _: source.delete("v:.a"), when=lambda _: True):
        report = from_1_0(source, delete=True)
    assert (report.stored, report.removed, report.complete) == (2, 1, True)


def test_an_old_key_that_vanishes_meanwhile_is_gone(source: redis.Redis) -> None:
    """What 1.0 deletes between being found and being read is not stored."""
    write_as_1_0(source, {"a": 1, "b": 1})
    Pool().reload(cfg={"backend": "memory"})
    with before(OldData, "read", lambda _: source.delete("v:.a"), when=lambda _: True):
        report = from_1_0(source)
    assert root().val() == {"b": 1}
    assert (report.read, report.stored, report.gone) == (2, 1, 1)


# Lives


@pytest.mark.parametrize("target", TARGETS)
def test_ttls_are_kept(source: redis.Redis, redis_server: RedisServer, tmp_path: Path, target: str) -> None:
    """A leaf has the TTL that its key had, no longer and hardly shorter; what had none has none."""
    source.set("v:.a.mortal", "1", px=1_000_000)
    source.set("v:.a.lasting", "2")
    Pool().reload(cfg=configuration(target, redis_server, tmp_path))
    from_1_0(source, delete=True)
    assert 900 < root().get("a.mortal").time_to_live() <= 1_000
    assert root().get("a.lasting").time_to_live() == -1


def test_ttls_are_kept_to_the_millisecond(source: redis.Redis, redis_server: RedisServer, tmp_path: Path) -> None:
    """A TTL that is no whole number of seconds is not rounded up."""
    source.set("v:.a", "1", px=1_000_999)
    Pool().reload(cfg=configuration("in place", redis_server, tmp_path))
    puts: list[Put] = []

    def spy(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, transaction: Transaction) -> Any:
            puts.extend(write for write in transaction.writes if isinstance(write, Put))
            return original(self, transaction)

        return call

    with replaced(RedisBackend, "execute", spy):
        from_1_0(source, delete=True)
    (put,) = puts
    assert put.ttl is not None
    assert 900_000 < put.ttl <= 1_000_999


def test_a_value_and_its_ttl_are_read_at_one_instant(source: redis.Redis, redis_server: RedisServer) -> None:
    """A batch is read in one transaction of the server: else a TTL set in between would be lost."""
    write_as_1_0(source, SMALL)
    Pool().reload(cfg={"backend": "memory"})
    redis_server.command("CONFIG", "RESETSTAT")
    from_1_0(source, batch=2)
    calls = {name: told.split(",")[0] for name, told in redis_server.info("commandstats").items()}
    assert (calls["cmdstat_exec"], calls["cmdstat_get"]) == ("calls=4", "calls=7")


def test_what_expires_on_the_way_does_not_come_back(source: redis.Redis) -> None:
    """A key whose TTL ends after it was read, and before it is stored, is gone; one without a TTL is not."""
    source.set("v:.a", "1", px=50)
    source.set("v:.b", "2")
    Pool().reload(cfg={"backend": "memory"})

    def slow(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: OldData, keys: list[bytes], names: list[bytes]) -> Batch:
            batch: Batch = original(self, keys, names)
            eventually(lambda: not source.exists("v:.a"), "the key expires")
            return batch

        return call

    with replaced(OldData, "read", slow):
        report = from_1_0(source, delete=True)
    assert root().val() == {"b": 2}
    assert (report.read, report.stored, report.gone, report.removed) == (2, 1, 1, 1)


def test_a_batch_that_expires_as_a_whole_is_gone(source: redis.Redis) -> None:
    """If nothing of a batch is left to be stored, nothing is stored, and the run goes on."""
    source.set("v:.a", "1", px=50)
    Pool().reload(cfg={"backend": "memory"})
    sent: list[Transaction] = []

    def slow(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: OldData, keys: list[bytes], names: list[bytes]) -> Batch:
            batch: Batch = original(self, keys, names)
            eventually(lambda: not source.exists("v:.a"), "the key expires")
            return batch

        return call

    def spy(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, transaction: Transaction) -> Any:
            sent.append(transaction)
            return original(self, transaction)

        return call

    with replaced(OldData, "read", slow), replaced(MemoryBackend, "execute", spy):
        report = from_1_0(source)
    assert (report.read, report.gone) == (1, 1)
    assert sent == [Transaction()]
    assert root().val() is None


def test_a_store_without_ttls_is_given_no_mortal_leaf(source: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a TTL cannot be kept, the leaf is reported: stored without one it would stay for ever."""
    source.set("v:.a", "1", ex=1000)
    source.set("v:.b", "2")
    Pool().reload(cfg={"backend": "memory"})
    no_ttls = Capabilities(ttl=False, processes=False, durable=False, atomic_entries=None)
    monkeypatch.setattr(MemoryBackend, "capabilities", no_ttls)
    report = from_1_0(source, delete=True)
    assert skips(report) == {"v:.a": Reason.REFUSED}
    assert root().val() == {"b": 2}
    assert strings(source) == {b"v:.a": b"1"}


# What cannot be moved


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("batch", [1, 100])
def test_a_leaf_hides_those_below_it(
    source: redis.Redis, redis_server: RedisServer, tmp_path: Path, target: str, batch: int
) -> None:
    """The leaf above is moved, as 1.0 showed it; those below are reported and keep their keys, in every later run."""
    below = {b"v:.a.b": b"2", b"v:.a.b.c": b"3", b"v:.a.d.e": b"4"}
    source.mset(cast("Any", {"v:.a": "1", "v:.z": "5", **{key.decode(): value for key, value in below.items()}}))
    Pool().reload(cfg=configuration(target, redis_server, tmp_path))
    report = from_1_0(source, batch=batch, delete=True)
    assert root().val() == {"a": 1, "z": 5}
    assert set(skips(report)) == {key.decode() for key in below}
    assert set(skips(report).values()) <= {Reason.LEAF_ABOVE, Reason.OCCUPIED}
    assert strings(source) == below
    again = from_1_0(source, batch=batch, delete=True)
    assert root().val() == {"a": 1, "z": 5}
    assert strings(source) == below
    assert set(skips(again)) == set(skips(report))


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_no_leaf_of_1_0_is_reported_and_stops_nothing(
    source: redis.Redis, redis_server: RedisServer, tmp_path: Path, target: str
) -> None:
    """Values that are no JSON, names that are no path and keys of other types are named with the reason, and left."""
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
    Pool().reload(cfg=configuration(target, redis_server, tmp_path))
    report = from_1_0(source, batch=4, delete=True)
    assert root().val() == {"good": 1}
    assert strings(source) == bad
    expected = {key.decode("utf-8", "backslashreplace"): Reason.NO_PATH for key in bad}
    expected |= {key.decode(): Reason.NO_JSON for key in bad if key.startswith(b"v:.bad.")}
    assert skips(report) == expected | {"v:.list": Reason.FOREIGN, "v:.set": Reason.FOREIGN}
    assert report.read == 1 + len(report.skipped)
    assert "secret" not in str(report)
    assert not report.complete


def test_what_the_codec_refuses_is_reported(source: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that the new tree's codec cannot store is left, and the others are moved."""
    write_as_1_0(source, {"a": 1, "b": 2})
    Pool().reload(cfg={"backend": "memory"})
    form = Pool().database().store._format
    original = form.encode

    def encode(value: object, path: tuple[str, ...]) -> bytes:
        if value == 1:
            raise ValueError("no ones")
        return original(value, path)

    monkeypatch.setattr(form, "encode", encode)
    report = from_1_0(source)
    assert skips(report) == {"v:.a": Reason.REFUSED}
    assert root().val() == {"b": 2}


def test_a_hash_elsewhere_is_foreign(source: redis.Redis) -> None:
    """Only in place are hashes those of the new tree."""
    source.hset("v:.a", "b", "1")
    Pool().reload(cfg={"backend": "memory"})
    assert skips(from_1_0(source)) == {"v:.a": Reason.FOREIGN}


# In place


def test_in_place_the_old_keys_must_go(source: redis.Redis, redis_server: RedisServer, tmp_path: Path) -> None:
    """Without delete a run in place is refused before anything is changed, however the server is addressed."""
    written = write_as_1_0(source, SMALL)
    ways: list[dict[str, Any]] = [
        {"host": "localhost", "port": redis_server.port},
        {"unix_socket": str(redis_server.socket_path)},
    ]
    for way in ways:
        Pool().reload(cfg={"backend": {"name": "redis", **way}})
        with pytest.raises(SettingsError, match="delete=True"):
            from_1_0(source)
    assert strings(source) == written
    assert set(cast("list[bytes]", source.keys("*"))) == set(written)


def test_in_place_the_tree_can_be_used_afterwards(
    source: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    """What was moved can be read, replaced by dicts and leaves, and removed."""
    write_as_1_0(source, SMALL)
    Pool().reload(cfg=configuration("in place", redis_server, tmp_path))
    from_1_0(source, delete=True)
    root().set("f", {"x": {"y": 1}})
    root().set("a", 5)
    root().get("g.h").clear()
    assert root().val() == {"f": {"x": {"y": 1}}, "a": 5, "a%b": SMALL["a%b"], "a%25b": SMALL["a%25b"]}
    root().clear()
    assert source.keys("v:*") == []


def test_in_place_a_leaf_waits_until_its_hash_can_be(
    source: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    """A leaf whose hash has the name of another leaf's key is moved after that, in as many passes as needed."""
    # The hash of the dict "a%b" is v:.a%25b, that of "a%b.c" is v:.a%25b.c, and that of "a%25b" is v:.a%2525b.
    source.mset({"v:.a%b.c.d": "1", "v:.a%25b.c": "2", "v:.a%2525b": "3", "v:.z": "4"})
    Pool().reload(cfg=configuration("in place", redis_server, tmp_path))
    orders: list[list[bytes]] = []

    def worst_first(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: OldData) -> Iterator[list[bytes]]:
            keys = sorted(key for batch in original(self) for key in batch if source.type(key) == b"string")
            orders.append(keys[::-1])
            return iter([[key] for key in keys[::-1]])

        return call

    with replaced(OldData, "batches", worst_first):
        report = from_1_0(source, batch=1, delete=True)
    assert orders == [
        [b"v:.z", b"v:.a%b.c.d", b"v:.a%25b.c", b"v:.a%2525b"],
        [b"v:.a%b.c.d", b"v:.a%25b.c"],
        [b"v:.a%b.c.d"],
    ]
    assert root().val() == {"a%b": {"c": {"d": 1}}, "a%25b": {"c": 2}, "a%2525b": 3, "z": 4}
    assert (report.read, report.stored, report.complete) == (4, 4, True)


@pytest.mark.parametrize("stuck", ["no JSON", "a list"])
def test_in_place_what_stays_under_a_name_is_in_the_way(
    source: redis.Redis, redis_server: RedisServer, tmp_path: Path, stuck: str
) -> None:
    """If a key that stays has the name of a hash, what belongs into that hash is reported, and the rest is moved."""
    if stuck == "a list":
        source.rpush("v:.a%25b", "1")
    else:
        source.set("v:.a%25b", stuck)
    source.mset({"v:.a%b.c": "1", "v:.e": "2"})
    Pool().reload(cfg=configuration("in place", redis_server, tmp_path))
    report = from_1_0(source, delete=True)
    assert root().val() == {"e": 2}
    assert skips(report) == {
        "v:.a%25b": Reason.FOREIGN if stuck == "a list" else Reason.NO_JSON,
        "v:.a%b.c": Reason.IN_THE_WAY,
    }
    assert report.read == 3


def test_in_place_a_foreign_root_is_in_the_way_of_all(
    source: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    """If the name of the tree's root is taken, nothing is moved, nothing is lost, and the report names it."""
    written = write_as_1_0(source, SMALL)
    source.set("v:", "1")
    Pool().reload(cfg=configuration("in place", redis_server, tmp_path))
    report = from_1_0(source, delete=True)
    assert set(skips(report).values()) == {Reason.IN_THE_WAY}
    assert strings(source) == written


def test_in_place_a_tree_that_is_there_is_kept(source: redis.Redis, redis_server: RedisServer, tmp_path: Path) -> None:
    """A new tree in the same database keeps what it has, beside, above and below what 1.0 has."""
    Pool().reload(cfg=configuration("in place", redis_server, tmp_path))
    new = {"n": {"x": 1}, "a": 2, "d": {"e": {"f": 3}}}
    root().set([], new)
    old = {b"v:.n.y": b"10", b"v:.a.b": b"11", b"v:.d.e.g": b"12", b"v:.n.x": b"13"}
    source.mset(cast("Any", old))
    report = from_1_0(source, delete=True)
    assert root().val() == {"n": {"x": 1, "y": 10}, "a": 2, "d": {"e": {"f": 3, "g": 12}}}
    assert skips(report) == {"v:.a.b": Reason.OCCUPIED, "v:.n.x": Reason.DIFFERS}


def test_in_place_a_writer_gets_an_error_and_loses_nothing(
    source: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> None:
    """While an old key is there, writing at its path fails loudly; one that makes its parent a leaf is kept."""
    write_as_1_0(source, {"a": {"b": 1}, "c": 1})
    Pool().reload(cfg=configuration("in place", redis_server, tmp_path))

    def write(_: object) -> None:
        with pytest.raises(CorruptData):
            root().set("c", 2)
        root().set("a", 2)

    with before(RedisBackend, "execute", write, when=writes_something):
        report = from_1_0(source, delete=True)
    assert root().val() == {"a": 2, "c": 1}
    assert skips(report) == {"v:.a.b": Reason.OCCUPIED}
    assert strings(source) == {b"v:.a.b": b"1"}


def test_in_place_works_on_a_simulated_server() -> None:
    """The pool's own client can be the source, also where the server is simulated."""
    Pool().reload(fake_redis=True)
    client = Pool().get_connection()
    write_as_1_0(client, SMALL)
    with pytest.raises(SettingsError):
        from_1_0(client)
    assert from_1_0(client, delete=True).complete
    assert same(root().val(), SMALL)


# Arguments and failures


@pytest.mark.parametrize("batch", [0, -1, 10_001, 1.5, True, "7"])
def test_a_batch_is_a_number_of_keys(batch: Any) -> None:
    """A batch of another size is refused before anything is read."""
    Pool().reload(cfg={"backend": "memory"})
    with pytest.raises(SettingsError, match="batch"):
        from_1_0(fakeredis.FakeRedis(), batch=batch)


def test_the_target_is_a_root() -> None:
    """Another place in a tree is refused."""
    Pool().reload(cfg={"backend": "memory"})
    with pytest.raises(SettingsError, match="root"):
        from_1_0(fakeredis.FakeRedis(), root().get("a"))


def test_the_source_gives_bytes() -> None:
    """A client that decodes is refused: not every name and value is text."""
    Pool().reload(cfg={"backend": "memory"})
    with pytest.raises(SettingsError, match="decode_responses"):
        from_1_0(fakeredis.FakeRedis(decode_responses=True))


def test_a_prefix_among_the_old_keys_is_refused(source: redis.Redis, redis_server: RedisServer) -> None:
    """A new tree whose keys look like old ones cannot be told from them in later runs; elsewhere it does no harm."""
    source.set("v:.a", "1")
    here = {"host": redis_server.host, "port": redis_server.port, "prefix": "v:.new:"}
    Pool().reload(cfg=here)
    with pytest.raises(SettingsError, match="prefix"):
        from_1_0(source, delete=True)
    assert source.keys("*") == [b"v:.a"]
    Pool().reload(cfg=here | {"database": 1})
    from_1_0(source)
    assert root().val() == {"a": 1}


def test_another_database_by_name_can_be_the_target(source: redis.Redis, redis_server: RedisServer) -> None:
    """The target's database counts, not the default one."""
    source.set("v:.a", "1")
    Pool().reload(cfg={"host": redis_server.host, "port": redis_server.port, "names": {"new": 1}})
    from_1_0(source, root(db_name="new"))
    assert root(db_name="new").val() == {"a": 1}
    with pytest.raises(SettingsError, match="delete=True"):
        from_1_0(source, root())


def test_an_unreachable_target_is_an_error_of_ours(source: redis.Redis) -> None:
    """Nothing is read if the target does not answer."""
    Pool().reload(cfg={"host": "127.0.0.1", "port": free_port(), "retries": 0})
    with pytest.raises(Unreachable):
        from_1_0(source)


def test_a_target_that_fails_ends_the_run(source: redis.Redis) -> None:
    """A failure of the target is passed on, and old keys stay."""
    written = write_as_1_0(source, SMALL)
    Pool().reload(cfg={"backend": "memory"})

    def fail(_: object) -> Outcome:
        raise StoreError("no")

    with before(MemoryBackend, "execute", fail, when=writes_something), pytest.raises(StoreError, match="no"):
        from_1_0(source, delete=True)
    assert strings(source) == written


def test_a_report_can_be_read() -> None:
    """The text of a report has the counts, and each skipped key with its reason."""
    report = Migration(read=3, stored=2)
    report.skip(b"v:.\xff", Reason.NO_PATH, "the name is no UTF-8")
    assert str(report).splitlines()[0].startswith("3 read, 2 stored")
    assert f"v:.\\xff: {Reason.NO_PATH.value} (the name is no UTF-8)" in str(report)


# The example


@pytest.fixture
def example() -> Callable[[list[str]], int]:
    """Give the main function of the example, which is a script and belongs to no package."""
    path = Path(__file__).parent.parent / "examples" / "migrate_from_1_0.py"
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return cast("Callable[[list[str]], int]", module.main)


@pytest.mark.parametrize("target", ["sqlite", "in place", "prefix"])
def test_the_example_moves_everything(
    example: Callable[[list[str]], int],
    source: redis.Redis,
    redis_server: RedisServer,
    tmp_path: Path,
    target: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command line moves all, prints the report, and says by its status whether anything was skipped."""
    write_as_1_0(source, SMALL)
    here = f"redis://{redis_server.host}:{redis_server.port}/0"
    arguments = {
        "sqlite": ["--to", f"sqlite:///{tmp_path}/state.db"],
        "in place": ["--to", here, "--delete"],
        "prefix": ["--to", here, "--prefix", "new:"],
    }
    assert example(["--from", here, *arguments[target]]) == 0
    assert same(root().val(), SMALL)
    assert "7 read, 7 stored" in capsys.readouterr().out
    source.set("v:.bad", "no JSON")
    assert example(["--from", here, *arguments[target]]) == 1
    assert "v:.bad" in capsys.readouterr().out


def test_the_example_says_what_is_wrong(
    example: Callable[[list[str]], int], redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong arguments and failing stores end it with one line and status 2, without a password."""
    here = f"redis://:secret@{redis_server.host}:{free_port()}/0"
    assert example(["--from", here, "--to", "memory://"]) == 2
    there = f"redis://{redis_server.host}:{redis_server.port}/0"
    assert example(["--from", there, "--to", there]) == 2
    assert example(["--from", "nonsense", "--to", "memory://"]) == 2
    assert example(["--from", "redis://:secret/half@host", "--to", "memory://"]) == 2
    told = capsys.readouterr().err
    assert "delete" in told
    assert "secret" not in told
