"""A server that restarts, with or without its data, while locks are held and waited for."""

from __future__ import annotations

import pytest

from redicts import LockLost, Proxy, StoreError
from tests.faults.actions import RETRIES, acquire, count, counted, is_held, read, release, sign, signed, token, write
from tests.faults.conftest import StartSite
from tests.faults.processes import results
from tests.support.servers import RedisError, RedisServer
from tests.support.waiting import eventually


@pytest.mark.parametrize("crash", [False, True], ids=["stop", "kill"])
def test_locks_survive_with_the_data(start_site: StartSite, crash: bool) -> None:
    """The holder still holds the lock and writes, and the waiters go on waiting and get the lock in order."""
    site = start_site(append_only=True)
    current_owner, first, second = site.start(3, retries=RETRIES)
    current_owner.call(acquire, "a")
    before = current_owner.call(token, "a")
    site.queue(first, sign, "a", "first", acquire_timeout=60)
    site.queue(second, sign, "a", "second", acquire_timeout=60)
    requests = [record.request for record in site.waiters()]
    (site.server.kill if crash else site.server.stop)()
    site.server.restart()
    assert [record.request for record in site.waiters()] == requests
    current_owner.call(write, "a", "n", 1)
    assert current_owner.call(is_held, "a")
    assert not first.is_done
    assert not second.is_done
    current_owner.call(release, "a")
    results([first, second])
    assert signed("a") == ["first", "second"]
    assert read("a.n") == 1
    current_owner.call(acquire, "a")
    assert current_owner.call(token, "a") == before + 3
    current_owner.call(release, "a")
    site.nothing_is_left()


def test_locks_are_forgotten_with_the_data(start_site: StartSite) -> None:
    """The holder's guarded writes are refused, the waiters get the lock one by one, and tokens increase."""
    site = start_site()
    current_owner, first, second = site.start(3, retries=RETRIES)
    current_owner.call(acquire, "a")
    current_owner.call(write, "a", "n", 1)
    before = current_owner.call(token, "a")
    for waiter in (first, second):
        site.queue(waiter, acquire, "a", acquire_timeout=60)
    site.server.kill()
    site.server.restart()
    eventually(lambda: first.is_done or second.is_done, "one of them gets the lock")
    next_, last = (first, second) if first.is_done else (second, first)
    assert next_.result()
    between = next_.call(token, "a")
    with pytest.raises(LockLost):
        current_owner.call(write, "a", "n", 2)
    next_.call(write, "a", "m", 3)
    current_owner.call(release, "a")
    assert not last.is_done, "the former holder's release does not free the lock of another owner"
    next_.call(release, "a")
    assert last.result()
    assert before < between < last.call(token, "a")
    assert Proxy("a").val() == {"m": 3}
    last.call(release, "a")
    site.nothing_is_left()


def test_counting_over_crashes(start_site: StartSite) -> None:
    """Processes count under a lock while the server crashes repeatedly: the count is exact, and all end."""
    site = start_site(append_only=True)
    counting = site.start(3, retries=RETRIES)
    for process in counting:
        # A server that loads its data refuses requests, which is not retried.
        process.begin(count, "a", 40, over_failures=True)
    for crash in range(3):
        eventually(lambda enough=25 * (crash + 1): read("a.total") >= enough, "counting goes on")  # type: ignore[misc]
        site.server.kill()
        site.server.restart()
    results(counting, within=60)
    assert counted("a") >= 120
    site.nothing_is_left()


def test_waiting_while_the_server_loads(start_site: StartSite) -> None:
    """A waiter goes on waiting while a restarted server still loads its data and refuses all requests."""
    site = start_site(append_only=True, options={"key-load-delay": "100"})
    for number in range(3):
        site.server.command("EVAL", _FILL, 0, number)
    current_owner, waiter = site.start(2, retries=RETRIES)
    current_owner.call(acquire, "a")
    site.queue(waiter, acquire, "a", acquire_timeout=60)
    site.server.kill()
    site.server.restart()
    eventually(lambda: is_loaded(site.server), "the server has loaded its data")
    current_owner.call(release, "a")
    assert waiter.result()
    waiter.call(release, "a")
    site.nothing_is_left()


_FILL = "for i = 1, 3000 do redis.call('SET', 'filling' .. i, ARGV[1]) end"
"""Writes thousands of commands to the file, so that a server answers requests while it loads them."""


def is_loaded(server: RedisServer) -> bool:
    """Tell whether a server has loaded its data; if so, remove what :data:`_FILL` wrote."""
    try:
        server.command("EVAL", "for i = 1, 3000 do redis.call('DEL', 'filling' .. i) end", 0)
    except RedisError as error:
        if "LOADING" not in str(error):
            raise
        return False
    return True


def test_a_server_that_stays_away_is_an_error(start_site: StartSite) -> None:
    """A waiter gets StoreError, and its record is removed when the server is back."""
    site = start_site(append_only=True)
    current_owner, waiter = site.start(2)
    current_owner.call(acquire, "a")
    site.queue(waiter, acquire, "a", acquire_timeout=60)
    site.server.kill()
    with pytest.raises(StoreError):
        waiter.result()
    site.server.restart()
    eventually(lambda: not site.waiters(), "its waiter record is removed")
    current_owner.call(release, "a")
    assert site.is_free("a")
    site.nothing_is_left()
