"""A server that ends and comes back, with its data or without, while locks are held and waited for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from redicts import LockLost, Proxy, StoreError
from tests.faults.actions import acquire, count, counted, is_held, read, release, take_turn, token, turns, write
from tests.faults.conftest import Start, StartServer, View
from tests.faults.processes import results
from tests.support.servers import RedisError, RedisServer
from tests.support.waiting import eventually

PATIENT = 1_000
"""So many retries that a request outlasts a restart."""


@pytest.mark.parametrize("crash", [False, True], ids=["stop", "kill"])
def test_locks_survive_with_the_data(
    start_server: StartServer, start: Start, view: Callable[..., View], crash: bool
) -> None:
    """The holder still holds and writes, those who wait go on waiting, and get the lock in order."""
    server = start_server(append_only=True)
    look = view(server, retries=PATIENT)
    current_owner, first, second = start(server, 3, retries=PATIENT)
    current_owner.does(acquire, "a")
    before = current_owner.does(token, "a")
    look.queue(first, take_turn, "a", "first", acquire_timeout=60)
    look.queue(second, take_turn, "a", "second", acquire_timeout=60)
    requests = [record.request for record in look.waiters()]
    (server.kill if crash else server.stop)()
    server.restart()
    assert [record.request for record in look.waiters()] == requests
    current_owner.does(write, "a", "n", 1)
    assert current_owner.does(is_held, "a")
    assert not first.is_done
    assert not second.is_done
    current_owner.does(release, "a")
    results([first, second])
    assert turns("a") == ["first", "second"]
    assert read("a.n") == 1
    current_owner.does(acquire, "a")
    assert current_owner.does(token, "a") == before + 3
    current_owner.does(release, "a")
    look.nothing_is_left()


def test_locks_are_forgotten_with_the_data(start_server: StartServer, start: Start, view: Callable[..., View]) -> None:
    """The holder's guarded writes are refused, those who wait get the lock one after the other, and tokens rise."""
    server = start_server()
    look = view(server, retries=PATIENT)
    current_owner, first, second = start(server, 3, retries=PATIENT)
    current_owner.does(acquire, "a")
    current_owner.does(write, "a", "n", 1)
    before = current_owner.does(token, "a")
    for waiter in (first, second):
        look.queue(waiter, acquire, "a", acquire_timeout=60)
    server.kill()
    server.restart()
    eventually(lambda: first.is_done or second.is_done, "one of them gets it")
    next_, last = (first, second) if first.is_done else (second, first)
    assert next_.result()
    between = next_.does(token, "a")
    with pytest.raises(LockLost):
        current_owner.does(write, "a", "n", 2)
    next_.does(write, "a", "m", 3)
    current_owner.does(release, "a")
    assert not last.is_done, "the former holder's release frees nobody else's lock"
    next_.does(release, "a")
    assert last.result()
    assert before < between < last.does(token, "a")
    assert Proxy("a").val() == {"m": 3}
    last.does(release, "a")
    look.nothing_is_left()


def test_counting_over_crashes(start_server: StartServer, start: Start, view: Callable[..., View]) -> None:
    """Several processes count under a lock while the server crashes again and again: exact, and all end."""
    server = start_server(append_only=True)
    look = view(server, retries=PATIENT)
    counting = start(server, 3, retries=PATIENT)
    for process in counting:
        # A server that loads its data refuses requests, and that is an error at once.
        process.begins(count, "a", 40, over_failures=True)
    for crash in range(3):
        eventually(lambda enough=25 * (crash + 1): read("a.total") >= enough, "some was counted")  # type: ignore[misc]
        server.kill()
        server.restart()
    results(counting, within=60)
    assert counted(Proxy("a")) >= 120
    look.nothing_is_left()


def test_waiting_while_the_server_loads(start_server: StartServer, start: Start, view: Callable[..., View]) -> None:
    """A server that is back and still loads its data refuses all requests for a while; who waits goes on waiting."""
    server = start_server(append_only=True, options={"key-load-delay": "100"})
    for number in range(3):
        server.command("EVAL", _FILL, 0, number)
    look = view(server, retries=PATIENT)
    current_owner, waiter = start(server, 2, retries=PATIENT)
    current_owner.does(acquire, "a")
    look.queue(waiter, acquire, "a", acquire_timeout=60)
    server.kill()
    server.restart()
    eventually(lambda: is_loaded(server), "the server has loaded its data")
    current_owner.does(release, "a")
    assert waiter.result()
    waiter.does(release, "a")
    look.nothing_is_left()


_FILL = "for i = 1, 3000 do redis.call('SET', 'filling' .. i, ARGV[1]) end"
"""Some thousands of commands in the file, so that a server that loads it looks at requests meanwhile."""


def is_loaded(server: RedisServer) -> bool:
    """Tell whether a server has loaded its data, and remove what made that take long."""
    try:
        server.command("EVAL", "for i = 1, 3000 do redis.call('DEL', 'filling' .. i) end", 0)
    except RedisError as error:
        if "LOADING" not in str(error):
            raise
        return False
    return True


def test_a_server_that_stays_away_is_an_error(
    start_server: StartServer, start: Start, view: Callable[..., View]
) -> None:
    """Who waits is told that the store failed, and what it left in the store goes when the server comes back."""
    server = start_server(append_only=True)
    look = view(server, retries=PATIENT)
    current_owner, waiter = start(server, 2)
    current_owner.does(acquire, "a")
    look.queue(waiter, acquire, "a", acquire_timeout=60)
    server.kill()
    with pytest.raises(StoreError):
        waiter.result()
    server.restart()
    eventually(lambda: not look.waiters(), "its place is given up")
    current_owner.does(release, "a")
    assert look.is_free("a")
    look.nothing_is_left()
