"""``redicts.observe`` reports each operation, and requests that are sent again are logged to ``redicts.store``."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import redicts
import redicts.aio
from redicts import Observation
from redicts.core.observing import OBSERVERS
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisServer
from tests.support.waiting import TIMEOUT, eventually


@pytest.fixture
def seen() -> Iterator[list[Observation]]:
    """Give the list of what is observed during the test."""
    found: list[Observation] = []
    with redicts.observe(found.append):
        yield found
    assert OBSERVERS == []


@pytest.fixture(params=["memory", "sqlite", "redis"])
def db(request: pytest.FixtureRequest, tmp_path: object) -> Iterator[redicts.Database]:
    """Give an empty database on each kind of store."""
    url = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/state.db"}.get(request.param)
    if url is None:
        server: RedisServer = request.getfixturevalue("server")
        url = f"redis://{server.host}:{server.port}/0"
    with redicts.open(url) as opened:
        opened.root().val()  # connects, and creates the file
        yield opened


def brief(found: list[Observation]) -> list[tuple[str, str, str]]:
    """Return the kinds, paths and outcomes."""
    return [(each.kind, each.path, each.outcome) for each in found]


def test_each_operation_is_reported(db: redicts.Database, seen: list[Observation]) -> None:
    """Kind, path, backend, round trips and times; a failed operation has its error."""
    car = db.proxy(["garage", "www.x"])
    car.set("wheels", 4)
    assert car.val() == {"wheels": 4}
    car["wheels"].add(1)
    with car.transaction() as changes:
        changes.set("a", 1)
        changes.delete("b")
    with pytest.raises(redicts.LeafError):
        car["a.b"].add("x")  # type: ignore[call-overload]
    path = r"garage.www\.x"
    assert brief(seen) == [
        ("set", f"{path}.wheels", "ok"),
        ("val", path, "ok"),
        ("add", f"{path}.wheels", "ok"),
        ("transaction", f"{path}.a", "ok"),
        ("add", f"{path}.a.b", "LeafError"),
    ]
    assert {each.backend for each in seen} == {db.settings.backend}
    if db.settings.backend != "sqlite":  # which asks its fast path first
        assert [each.round_trips for each in seen] == [1, 1, 1, 1, 0]
    assert isinstance(seen[-1].error, redicts.LeafError)
    assert all(each.seconds >= each.waited == 0 and each.began > 0 and each.retries == 0 for each in seen)
    assert all(each.opened is db.backend for each in seen)


def test_locks_are_reported_with_their_waits(db: redicts.Database, seen: list[Observation]) -> None:
    """An acquisition that waits says for how long, a release for how long the lock was held."""
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with db.lock("a"):
            held.set()
            assert go_on.wait(TIMEOUT)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(TIMEOUT)
    assert not db.lock("a.b").acquire(blocking=False)
    waiter = threading.Thread(target=lambda: db.lock("a.b").acquire())
    waiter.start()
    eventually(lambda: bool(db.lock("a").waiters()), "a thread waits")
    go_on.set()
    holder.join()
    waiter.join()
    found = {(each.kind, each.outcome): each for each in seen if each.kind in ("acquire", "release")}
    assert found["acquire", "not_free"].path == "a.b"
    waited = next(each for each in seen if each.kind == "acquire" and each.path == "a.b" and each.outcome == "ok")
    assert 0 < waited.waited <= waited.seconds
    assert (found["release", "ok"].held or 0) > 0


def test_edits_and_several_paths_are_reported(db: redicts.Database, seen: list[Observation]) -> None:
    """An edit is an acquisition and a release, and a lock on several paths has all of them."""
    with db.section("a").edit() as value:
        value["x"] = 1
    with db.lock("a", "b"):
        pass
    acquired = [each.segments for each in seen if each.kind == "acquire"]
    assert acquired == [(("a",),), (("a",), ("b",))]
    assert {each.kind for each in seen} == {"acquire", "edit", "release"}


def test_tasks_are_reported(db: redicts.Database, seen: list[Observation]) -> None:
    """Operations of redicts.aio are the same, with the same name of the backend."""
    settings = db.settings

    async def program() -> None:
        async with redicts.aio.open(settings) as other:
            await other.root().set("a", 1)
            async with other.lock("a"):
                assert await other.proxy("a").val() in (1, None)  # memory is another tree

    asyncio.run(program())
    assert [each.kind for each in seen] == ["set", "acquire", "val", "release"]
    assert {each.backend for each in seen} == {settings.backend}


def test_a_cancelled_operation_is_reported(tmp_path: object, seen: list[Observation]) -> None:
    """Its outcome is the cancellation, and its wait counts."""
    url = f"sqlite:///{tmp_path}/state.db"

    async def program() -> None:
        async with redicts.aio.open(url) as other:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(other.lock("a").acquire(), 0.2)

    with redicts.open(url) as db, db.lock("a"):
        asyncio.run(program())
    (cancelled,) = [each for each in seen if each.kind == "acquire" and each.outcome != "ok"]
    assert cancelled.outcome == "CancelledError"
    assert isinstance(cancelled.error, asyncio.CancelledError)
    assert 0 < cancelled.waited <= cancelled.seconds


def test_an_observer_that_fails_ends_no_operation(seen: list[Observation], caplog: pytest.LogCaptureFixture) -> None:
    """Its exception is logged, and other observers are called."""

    def fail(_: Observation) -> None:
        raise RuntimeError("of the observer")

    with redicts.open("memory://") as db, redicts.observe(fail):
        db.root().set("a", 1)
        assert db.root()["a"].val() == 1
        eventually(lambda: "of the observer" in caplog.text, "the error is logged")
    assert [each.kind for each in seen] == ["set", "val"]


def test_a_closed_observer_is_not_called() -> None:
    """Closing again is no error, and a database without observers reports nothing."""
    found: list[Observation] = []
    observing = redicts.observe(found.append)
    observing.close()
    observing.close()
    with redicts.open("memory://") as db:
        db.root().set("a", 1)
    assert found == []


def test_background_work_is_reported_in_another_thread(seen: list[Observation], server: RedisServer) -> None:
    """A renewal never runs the code of an observer."""
    threads: list[str] = []
    with (
        redicts.open(f"redis://{server.host}:{server.port}/0") as db,
        redicts.observe(lambda _: threads.append(threading.current_thread().name)),
        db.lock("a", expire_timeout=0.3, renew=True),
    ):
        eventually(lambda: any(each.kind == "renew" for each in seen), "the lock is renewed")
        eventually(lambda: len(threads) > 1, "the renewal is reported")
    assert set(threads) == {"MainThread", "redicts-reports"}


def test_a_request_that_is_sent_again_is_counted_and_logged(
    faulty_proxy: FaultyProxy, seen: list[Observation], caplog: pytest.LogCaptureFixture
) -> None:
    """The log says where and why, once for many, and again when the store answers; the password is in no log."""
    caplog.set_level(logging.INFO, "redicts.store")
    url = {"backend": "redis", "host": faulty_proxy.host, "port": faulty_proxy.port, "timeout_secs": 5}
    with redicts.open(url) as db:
        db.root().set("a", 1)
        seen.clear()
        faulty_proxy.drop_replies(1)
        db.root().set("a", 2)
        eventually(lambda: "answers again" in caplog.text, "the logs are written")
    assert [(each.kind, each.retries, each.outcome) for each in seen] == [("set", 1, "ok")]
    again = [each for each in caplog.records if "sent again" in each.message]
    assert len(again) == 1
    assert (again[0].name, again[0].levelname) == ("redicts.store", "WARNING")
    assert f"{faulty_proxy.host}:{faulty_proxy.port}" in again[0].message


def test_interrupted_notifications_are_logged(faulty_proxy: FaultyProxy, caplog: pytest.LogCaptureFixture) -> None:
    """The log says whose connection for notifications is lost; the waiter gets its lock all the same."""
    caplog.set_level(logging.INFO, "redicts.store")
    cfg = {"backend": "redis", "host": faulty_proxy.host, "port": faulty_proxy.port, "retries": 100}

    def interrupted() -> bool:
        faulty_proxy.cut_all()
        return "notifications are interrupted" in caplog.text

    def wait() -> bool:
        with opened.lock("a", acquire_timeout=TIMEOUT):
            return True

    with redicts.open(cfg) as opened, ThreadPoolExecutor(1) as threads:
        with opened.lock("a"):
            waiting = threads.submit(wait)
            eventually(interrupted, "the log says so")
        assert waiting.result(TIMEOUT)
    (record, *_) = [each for each in caplog.records if "interrupted" in each.message]
    assert (record.name, record.levelname) == ("redicts.store", "WARNING")
    assert f"redis at {faulty_proxy.host}:{faulty_proxy.port}" in record.message
