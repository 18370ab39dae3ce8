"""The cache: what it promises, and what it costs, on every store."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import pytest

import redicts
from redicts import ABSENT, Database, aio
from redicts.api.cache import Cache
from redicts.api.caching import Caching
from redicts.config.settings import parse
from redicts.core.backend import Backend
from redicts.core.minitransaction import Outcome, Transaction
from redicts.errors import SettingsError, Unreachable
from tests.support.stores import CLUSTER, SENTINELS, Store, Use, Wrapped
from tests.support.waiting import eventually

ALSO_ON: Final = (CLUSTER, SENTINELS)

TEXT: Final = "x" * 1000


@pytest.fixture
def db(any_store: Store) -> Iterator[Database]:
    """Open the store with a cache."""
    with redicts.open({**any_store.configuration, "cache": True}, fake_redis=any_store.fake) as database:
        yield database


def cache_of(db: Database) -> Cache:
    """Return the cache of a database, which has one."""
    assert db.cache is not None
    return db.cache


def is_kept(db: Database, key: str) -> bool:
    """Read a value, and tell whether the cache answered."""
    hits = cache_of(db).info().hits
    db.proxy(key).val()
    return cache_of(db).info().hits > hits


def keep(db: Database, *keys: str) -> None:
    """Read values until the cache answers: it keeps none before it listens to the changes of their section."""
    for key in keys:
        eventually(partial(is_kept, db, key), f"{key} is kept")


def test_a_value_that_was_read_is_kept(db: Database) -> None:
    """Leaves, dicts, lists and the absence of a value are read from memory the next time."""
    values = {"leaf": 1, "text": "\ud800", "list": [1, [2]], "dict": {"x": {"y": [1]}, "z": None}, "float": 0.1}
    db.proxy("a").put(values)
    for key, value in values.items():
        keep(db, f"a.{key}")
        assert db.proxy(f"a.{key}").val() == value
    keep(db, "a", "a.absent", "")
    assert db.proxy("a").val() == values
    assert db.proxy("a.absent").val(7) == 7


def test_own_writes_are_seen_at_once(db: Database) -> None:
    """A thread that has written sees it, whichever method it used, and so does every other thread afterwards."""
    car = db.proxy("garage.car").put({"wheels": 4})
    keep(db, "garage.car.wheels", "garage.car", "garage", "")
    for number in range(50):
        car.set("wheels", number)
        assert car["wheels"].val() == number
        with db.proxy("garage").transaction() as changes:
            changes.set("car.wheels", -number)
        assert db.root().val()["garage"]["car"]["wheels"] == -number
        car["wheels"].add(1)
        seen: list[Any] = []
        thread = threading.Thread(target=lambda seen=seen: seen.append(car.val()))
        thread.start()
        thread.join()
        assert seen == [{"wheels": 1 - number}]
    car.mapping()["wheels"] = 9
    assert car.val() == {"wheels": 9}
    with car.edit() as edited:
        edited["wheels"] = 10
    assert car.val() == {"wheels": 10}
    db.root().clear()
    assert car["wheels"].val(ABSENT) is ABSENT


def test_a_write_of_another_client_is_seen(any_store: Store, db: Database) -> None:
    """A write through another connection is seen as soon as its notification arrives."""
    if any_store.name in ("memory", "fakeredis"):
        return  # no other client opens the same store
    db.proxy("a").put({"b": 1})
    keep(db, "a.b", "a", "")
    with redicts.open(any_store.configuration) as other:
        other.proxy("a").set("b", 2)
        eventually(lambda: db.proxy("a.b").val() == 2, "the write is seen")
        assert db.proxy("a").val() == {"b": 2}
        keep(db, "a.b")
        other.root().clear()
        eventually(lambda: db.proxy("a.b").val() is None, "the removal is seen")


def test_a_kept_value_ends_with_its_ttl(db: Database) -> None:
    """A value with a TTL is not returned after its end, alone or in a dict."""
    db.proxy("a").put({"b": 1, "c": 2})
    db.proxy("a.b").expire(0.5)
    keep(db, "a.b", "a")
    eventually(lambda: db.proxy("a.b").val() is None, "it ends")
    assert db.proxy("a").val() == {"c": 2}


def test_nobody_changes_what_is_kept(db: Database) -> None:
    """Each read gives a copy of its own."""
    db.proxy("a").put({"list": [1, {"x": 2}], "dict": {"y": 1}})
    keep(db, "a")
    value = db.proxy("a").val()
    value["list"][1]["x"] = value["dict"]["y"] = "changed"
    value["more"] = 1
    assert db.proxy("a").val() == {"list": [1, {"x": 2}], "dict": {"y": 1}}
    flat = db.proxy("a.dict")
    flat.val()["first"] = 1  # what the store gave
    keep(db, "a.dict")
    flat.val()["second"] = 2
    assert flat.val() == {"y": 1}


def test_fresh_reads_and_owners_of_locks_ask_the_store(db: Database) -> None:
    """``fresh``, a held lock, a transaction and methods other than val are answered by the store."""
    proxy = db.proxy("a").put(1)
    keep(db, "a")
    hits = cache_of(db).info().hits
    assert proxy.val(fresh=True) == 1
    with db.proxy("other"):
        assert proxy.val() == 1
    assert proxy.exists()
    assert proxy.transaction() is not None
    assert cache_of(db).info().hits == hits
    keep(db, "a")


def test_tasks_share_the_cache(db: Database) -> None:
    """Tasks read what threads have kept, and the reverse, and each sees the writes of the others at once."""
    db.proxy("a").put({"b": 1})
    keep(db, "a.b")

    async def main() -> None:
        proxy = aio.Database(db).proxy("a.b")
        hits = cache_of(db).info().hits
        assert await proxy.val(fresh=True) == 1
        assert cache_of(db).info().hits == hits
        while cache_of(db).info().hits == hits:  # a notification of the write may come late, and drop it once more
            assert await proxy.val() == 1
        for number in range(20):
            await proxy.put(number)
            assert db.proxy("a.b").val() == await proxy.val() == number
            db.proxy("a.b").put(-number)
            assert await proxy.val() == -number

    asyncio.run(main())


def test_the_size_is_bounded_and_the_least_used_go_first() -> None:
    """Values beyond the size are dropped, the least recently used first, and larger ones are never kept."""
    with redicts.open({"backend": "memory", "cache": 10_000}) as db:
        db.proxy("a").put({f"n{number}": TEXT for number in range(20)})
        db.proxy("a").set("large", TEXT * 20)
        keep(db, *[f"a.n{number}" for number in range(5)])
        for number in range(5, 12):
            keep(db, "a.n0", f"a.n{number}")
        info = cache_of(db).info()
        assert info.bytes <= 10_000
        assert info.entries == 7
        assert is_kept(db, "a.n0")
        assert not is_kept(db, "a.n1")
        db.proxy("a.large").val()
        assert not is_kept(db, "a.large")


def test_counters() -> None:
    """Hits, misses and invalidations are counted."""
    with redicts.open({"backend": "memory", "cache": True}) as db:
        proxy = db.proxy("a").put(1)
        keep(db, "a")
        before = cache_of(db).info()
        proxy.val()
        proxy.val()
        proxy.put(2)
        proxy.val()
        after = cache_of(db).info()
        assert after.hits == before.hits + 2
        assert after.misses == before.misses + 1
        assert after.invalidations > before.invalidations
        assert (after.entries, after.bytes > 0) == (1, True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this platform")
def test_a_child_begins_without_the_values_of_its_parent(db: Database) -> None:
    """A forked child keeps what it has read itself, and listens for itself."""
    db.proxy("a").put(1)
    keep(db, "a")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert cache_of(db).info().entries == 0
            db.proxy("a").put(2)
            keep(db, "a")
            db.proxy("a").put(3)
            code = 0 if db.proxy("a").val() == 3 else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_read_during_a_write_is_not_kept() -> None:
    """A value that was read before a write and arrives after it is not kept."""
    with redicts.open({"backend": "memory", "cache": True}) as db:
        proxy = db.proxy("a").put(1)
        keep(db, "a")
        proxy.put(2)
        steps = cache_of(db).read(("a",))
        old = db.backend.execute(next(steps))  # type: ignore[arg-type]
        proxy.put(3)
        with pytest.raises(StopIteration):
            steps.send(old)
        assert proxy.val() == 3


def test_reads_of_one_path_do_not_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two reads at once with different results, neither stays, whichever ends first."""
    with redicts.open({"backend": "memory", "cache": True}) as db:
        inner = db.backend._inner  # type: ignore[attr-defined]
        proxy = db.proxy("a").put(1)
        keep(db, "a")
        for first in (True, False):
            proxy.put(1)
            reads = [cache_of(db).read(("a",)) for _ in range(2)]
            old = inner.execute(next(reads[0]))
            with monkeypatch.context() as patch:
                patch.setattr(cache_of(db), "_drop", lambda _: None)  # the notification is on the way
                proxy.put(2)
            new = inner.execute(next(reads[1]))
            order = [(reads[0], old), (reads[1], new)]
            for steps, outcome in order if first else order[::-1]:
                with pytest.raises(StopIteration):
                    steps.send(outcome)
            assert proxy.val() == 2
            assert proxy.val(fresh=True) == 2


def test_a_value_is_read_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept value is never older than ten seconds, whatever is told."""
    now = [1000.0]
    monkeypatch.setattr("redicts.api.cache.monotonic", lambda: now[0])
    with redicts.open({"backend": "memory", "cache": True}) as db:
        db.proxy("a").put(1)
        keep(db, "a")
        now[0] += 9.9
        assert is_kept(db, "a")
        now[0] += 0.2
        assert not is_kept(db, "a")
        assert is_kept(db, "a")


class Failing(Wrapped):
    """Applies a transaction, and says that it does not know."""

    fails = False

    def execute(self, transaction: Transaction, /) -> Outcome:
        outcome = super().execute(transaction)
        if transaction.writes and self.fails:
            raise Unreachable("the connection was lost")
        return outcome


def test_a_write_in_doubt_is_seen() -> None:
    """A write that raised, and may have been applied, drops what was kept too."""
    with redicts.open({"backend": "memory", "cache": True}) as db:
        inner = db.backend._inner  # type: ignore[attr-defined]
        failing = Failing(inner)
        db.backend._inner = failing  # type: ignore[attr-defined]
        proxy = db.proxy("a").put(1)
        keep(db, "a")
        failing.fails = True
        with pytest.raises(Unreachable):
            proxy.put(2)
        assert proxy.val() == 2


def test_it_is_off_unless_chosen(use: Use) -> None:
    """Without the setting nothing is kept: each read asks the store."""
    store = Wrapped()
    use(store)
    redicts.Proxy("a").put(1)
    store.transactions.clear()
    assert [redicts.Proxy("a").val() for _ in range(3)] == [1, 1, 1]
    assert len(store.transactions) == 3


def test_the_setting() -> None:
    """It is true, false or a number of bytes, and shown only if it is on."""
    assert parse({"backend": "memory"}).cache_bytes == 0
    assert parse({"backend": "memory", "cache": False}).cache_bytes == 0
    assert parse({"backend": "memory", "cache": True}).cache_bytes == 64 * 2**20
    assert parse({"backend": "memory", "cache": 1000}).cache_bytes == 1000
    assert "cache" not in repr(parse({"backend": "memory"}))
    assert "cache=1000" in repr(parse({"backend": "memory", "cache": 1000}))
    for wrong in (0, -1, 1.5, "yes", None, [1]):
        with pytest.raises(SettingsError, match="cache"):
            parse({"backend": "memory", "cache": wrong})


def test_a_cache_passes_on_the_whole_contract() -> None:
    """A method that the backend inherits would hide that of the store."""
    assert {name for name in vars(Backend) if not name.startswith("_")} <= {*vars(Caching), "may_wait"}
