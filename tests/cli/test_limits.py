"""``doctor`` in CI and cron: limits, exit statuses, and what a Redis server says of itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from redicts import Lock
from redicts.cli import exits
from tests.cli.conftest import InProcess, open_database
from tests.cli.test_doctor import findings, statuses
from tests.support.servers import RedisServer
from tests.support.waiting import eventually


@pytest.fixture
def configured(server: RedisServer, redis_url: str) -> Iterator[Any]:
    """Give a client of the server, whose settings and users are restored."""
    client: Any = open_database(redis_url).backend.client  # type: ignore[attr-defined]  # of Redis
    yield client
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", 0)
    client.config_set("latency-monitor-threshold", 0)
    client.execute_command("LATENCY RESET")
    for user in ("reader", "half"):
        client.execute_command("ACL DELUSER", user)


def test_a_policy_that_evicts_is_wrong(redis_url: str, configured: Any, in_process: InProcess) -> None:
    """With ``maxmemory`` it removes data; without it is worth knowing, which ``--strict`` makes status 1."""
    assert statuses(in_process("doctor", "--quick", "--json", "-s", redis_url))["memory"] == "ok"
    configured.config_set("maxmemory-policy", "allkeys-lru")
    done = in_process("doctor", "--quick", "--json", "-s", redis_url)
    assert (done.status, statuses(done)["memory"]) == (exits.DONE, "notice")
    assert in_process("doctor", "--quick", "--strict", "-s", redis_url).status == exits.NEGATIVE
    configured.config_set("maxmemory", "1gb")
    done = in_process("doctor", "--quick", "--json", "-s", redis_url)
    assert (done.status, statuses(done)["memory"]) == (exits.NEGATIVE, "wrong")
    assert "allkeys-lru" in findings(done)["memory"]["text"]
    configured.config_set("maxmemory-policy", "noeviction")
    assert in_process("doctor", "--quick", "--max-memory", "0", "-s", redis_url).status == exits.NEGATIVE
    assert in_process("doctor", "--quick", "--max-memory", "99", "-s", redis_url).status == exits.DONE


def test_missing_permissions_are_named(
    redis_url: str, server: RedisServer, configured: Any, in_process: InProcess
) -> None:
    """A user who lacks a command that redicts needs is told which; one who only reads is not wrong."""
    allowed = "+@read +acl|whoami +acl|dryrun +evalsha +eval +time +select +fcall +function|load +publish +subscribe"
    for user, rules in (("reader", allowed), ("half", f"{allowed} +@write -hrandfield -incrby")):
        configured.execute_command("ACL SETUSER", user, "on", ">pw", "~*", "&*", "-@all", *rules.split())
    store = {"backend": "redis", "host": server.host, "port": server.port, "password": "pw"}
    done = in_process("doctor", "--quick", "--json", "-s", json_of(store, "half"))
    assert done.status == exits.NEGATIVE
    assert findings(done)["permissions"]["missing"] == ["hrandfield", "incrby"]
    acknowledged = json_of({**store, "acknowledged_by": 1}, "half")
    done = in_process("doctor", "--quick", "--json", "-s", acknowledged)
    assert findings(done)["permissions"]["missing"] == ["hrandfield", "incrby", "wait"]
    configured.execute_command("ACL SETUSER", "half", "-hget")  # without which nothing can be read
    done = in_process("doctor", "--quick", "--json", "-s", json_of(store, "half"))
    assert done.status == exits.FAILED
    assert findings(done)["permissions"]["missing"] == ["hrandfield", "hget", "incrby"]
    done = in_process("doctor", "--quick", "--json", "-s", json_of(store, "reader"))
    assert statuses(done)["permissions"] == "notice"
    assert "hset" in findings(done)["permissions"]["missing"]


def json_of(store: dict[str, Any], user: str) -> str:
    """Return settings with a user as an argument."""
    return json.dumps({**store, "username": user})


def test_latency_spikes_are_reported(redis_url: str, configured: Any, in_process: InProcess) -> None:
    """The server records them if it is told to, and ``doctor`` names them."""
    configured.config_set("latency-monitor-threshold", 1)
    eventually(lambda: _is_slow(configured), "the server has recorded a spike")
    done = in_process("doctor", "--quick", "--json", "-s", redis_url)
    assert statuses(done)["latency"] == "notice"
    assert findings(done)["latency"]["spikes"]


def _is_slow(client: Any) -> bool:
    client.eval("local n = 0; for i = 1, 3000000 do n = n + i end; return n", 0)
    return bool(client.execute_command("LATENCY LATEST"))


def test_limits_decide_the_status(file_url: str, in_process: InProcess) -> None:
    """Latency, waiters and the age of locks are wrong above their limits, and right below."""
    backend = open_database(file_url).backend

    def status(*arguments: object) -> int:
        return in_process("doctor", "--quick", *arguments, "-s", file_url).status

    with Lock(backend, "a"):
        waiter = threading.Thread(target=lambda: Lock(backend, "a", acquire_timeout=60).acquire(), daemon=True)
        waiter.start()
        eventually(lambda: Lock(backend, "a").waiters(), "a thread waits")
        assert status("--max-waiters", "0") == exits.NEGATIVE
        assert status("--max-lock-age", "0") == exits.NEGATIVE
        assert status("--max-waiters", "1", "--max-lock-age", "600", "--max-latency", "60000") == exits.DONE
    waiter.join()
    assert status("--max-latency", "0") == exits.NEGATIVE
    done = in_process("doctor", "--quick", "--json", "--max-lock-age", "nan", "-s", file_url)
    assert done.status == exits.WRONG
