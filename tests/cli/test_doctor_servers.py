"""``doctor`` on servers with replicas and Sentinels: roles, how far replicas are behind, and the named primary."""

from __future__ import annotations

import json
from typing import Any

import pytest

from redicts.cli import exits
from tests.cli.running import redicts
from tests.support.sentinels import SentinelTrio
from tests.support.servers import RedisServer


def findings(cfg: dict[str, Any], status: int) -> dict[str, dict[str, Any]]:
    """Return the findings for a store by the names of the checks."""
    done = redicts("doctor", "--json", "--quick", "--store", json.dumps({"backend": "redis", **cfg}))
    assert done.status == status
    return {check["name"]: check for check in done.document["checks"]}


def test_a_trio_and_its_sentinels() -> None:
    """It shows the replicas, that one acknowledgement of two may not be enough, and a Sentinel that is gone."""
    with SentinelTrio() as trio:
        trio.sentinels[0].kill()
        cfg = {**trio.configuration, "acknowledged_by": 1, "socket_timeout_secs": 2}
        found = findings(cfg, exits.DONE)
        replication, sentinels = found["replication"], found["sentinels"]
        assert replication["status"] == sentinels["status"] == "notice"
        assert "unless acknowledged_by is 2" in replication["text"]
        assert [each["state"] for each in replication["replicas"]] == ["online", "online"]
        assert (replication["role"], replication["min_replicas_to_write"]) == ("master", 0)
        assert f"2 of 3 Sentinels name 127.0.0.1:{trio.primary.port}; quorum 2" in sentinels["text"]
        assert f"{trio.sentinels[0].address} cannot be reached" in sentinels["text"]
        found = findings({**cfg, "acknowledged_by": 2}, exits.DONE)
        assert found["replication"]["status"] == "ok"
        found = findings({**cfg, "acknowledged_by": 3}, exits.NEGATIVE)
        assert found["replication"]["status"] == found["writing"]["status"] == "wrong"
        assert "only 2 replicas can acknowledge" in found["replication"]["text"]
        trio.sentinels[1].kill()
        assert findings(cfg, exits.NEGATIVE)["sentinels"]["status"] == "wrong"


@pytest.mark.parametrize("least", [0, 1])
def test_a_replica_is_no_primary(server: RedisServer, least: int) -> None:
    """A store on a replica is wrong. A primary without anything of the kind has no such finding."""
    server.command("CONFIG", "SET", "min-replicas-to-write", least)
    try:
        primary = findings({"host": server.host, "port": server.port}, exits.NEGATIVE if least else exits.DONE)
        assert ("replication" in primary) is bool(least)
        with RedisServer(replica_of=server) as replica:
            found = findings({"host": replica.host, "port": replica.port, "retries": 0}, exits.NEGATIVE)
            assert found["replication"]["status"] == "wrong"
            assert "connect to the primary" in found["replication"]["text"]
    finally:
        server.command("CONFIG", "SET", "min-replicas-to-write", 0)
