"""A cluster of Redis servers for the tests: primaries with replicas, on free loopback ports."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from redis.crc import key_slot

from .executables import Executable
from .servers import RedisError, RedisServer
from .waiting import eventually

SLOTS: Final = 16_384
NODE_TIMEOUT_MS: Final = 1_000
"""After so many milliseconds without an answer, the nodes replace a primary by its replica."""

_OPTIONS: Final = {
    "cluster-enabled": "yes",
    "cluster-node-timeout": str(NODE_TIMEOUT_MS),
    "cluster-require-full-coverage": "no",
    "cluster-replica-validity-factor": "0",
    "repl-ping-replica-period": "1",
}


class Cluster:
    """Some primaries that share the slots evenly, each with a number of replicas. ``with`` ends them all."""

    def __init__(self, executable: Executable | None = None, primaries: int = 3, replicas: int = 1) -> None:
        self._executable = executable
        self._stack = contextlib.ExitStack()
        self.servers: list[RedisServer] = []
        """All nodes; the primaries come first when the cluster is new."""
        self.ids: dict[str, RedisServer] = {}
        try:
            with ThreadPoolExecutor(primaries * (1 + replicas)) as starting:
                for server in starting.map(lambda _: self._server(), range(primaries * (1 + replicas))):
                    self.servers.append(server)
            self._form(primaries, replicas)
        except BaseException:
            self.close()
            raise

    @property
    def nodes(self) -> list[str]:
        """The addresses of all nodes."""
        return [address(server) for server in self.servers]

    @property
    def configuration(self) -> dict[str, Any]:
        """The settings of a client."""
        return {"backend": "redis", "cluster": True, "nodes": self.nodes}

    def flush(self) -> None:
        """Remove all data."""
        for server in self.primaries:
            server.command("FLUSHALL")

    @property
    def primaries(self) -> list[RedisServer]:
        """The nodes that are primaries now, as far as they know themselves, those that are not running left out."""
        return [server for server in self.servers if server.running and _role(server) == b"master"]

    def owner(self, slot: int) -> RedisServer:
        """Return the node that has a slot, by what most of the nodes say."""
        found = [owner for owner in [self.says(server, slot) for server in self.servers] if owner is not None]
        return max(found, key=found.count)

    def says(self, server: RedisServer, slot: int) -> RedisServer | None:
        """Return the node that has a slot, by what one node says, or ``None`` if that does not run or know."""
        with contextlib.suppress(OSError):
            rows: Any = server.command("CLUSTER", "SLOTS")
            for first, last, *nodes in rows:
                if first <= slot <= last:
                    return self.ids[nodes[0][2].decode()]
        return None

    def is_ok(self, server: RedisServer) -> bool:
        """Tell whether a node says that the cluster serves all slots that it can."""
        return "cluster_state:ok" in _text(server.command("CLUSTER", "INFO"))

    def slot_of(self, section: str, database: int = 0) -> int:
        """Return the slot of a section whose name needs no escapes."""
        slot: int = key_slot(f"{{{database}:{section}}}".encode())
        return slot

    def replica_of(self, primary: RedisServer) -> RedisServer:
        """Return a replica of a primary."""
        number = self.id_of(primary)
        rows = [line.split() for line in _text(self._any(primary).command("CLUSTER", "NODES")).splitlines()]
        return self.ids[next(row[0] for row in rows if row[3] == number and "fail" not in row[2])]

    def id_of(self, server: RedisServer) -> str:
        """Return the id of a node."""
        return next(number for number, each in self.ids.items() if each is server)

    def add(self) -> RedisServer:
        """Start a node without slots, and let it join."""
        server = self._server()
        self.servers.append(server)
        self._name(server)
        server.command("CLUSTER", "MEET", self.servers[0].host, self.servers[0].port)
        self._await_agreement()
        return server

    def remove(self, server: RedisServer) -> None:
        """Let all others forget a node without slots, and end it."""
        number = self.id_of(server)
        self.servers.remove(server)
        for other in self.servers:
            if other.running:
                with contextlib.suppress(RedisError):
                    other.command("CLUSTER", "FORGET", number)
        server.close()

    def move(self, slot: int, to: RedisServer, *, keys_at_once: int = 10) -> None:
        """Move a slot with its keys to another node, as ``redis-cli --cluster reshard`` does."""
        for _ in self.moving(slot, to, keys_at_once=keys_at_once):
            pass

    def moving(self, slot: int, to: RedisServer, *, keys_at_once: int = 1) -> Iterator[int]:
        """Move a slot; yield the number of keys that were moved, when the move has begun and after each step."""
        source = self.owner(slot)
        if source is to:
            return
        to.command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(to))
        moved = 0
        yield moved
        while True:
            keys = source.command("CLUSTER", "GETKEYSINSLOT", slot, keys_at_once)
            assert isinstance(keys, list)
            if not keys:
                break
            names: list[Any] = keys
            source.command("MIGRATE", to.host, to.port, "", 0, 10_000, "KEYS", *names)
            moved += len(keys)
            yield moved
        to.command("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(to))
        for server in (source, *self.primaries):
            with contextlib.suppress(RedisError):  # a node that has lost its last slot becomes a replica
                server.command("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(to))

    def close(self) -> None:
        """End all nodes."""
        self._stack.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _server(self) -> RedisServer:
        server = RedisServer(self._executable, options=_OPTIONS)
        self._stack.callback(server.close)
        return server

    def _name(self, server: RedisServer) -> None:
        self.ids[_text(server.command("CLUSTER", "MYID"))] = server

    def _form(self, primaries: int, replicas: int) -> None:
        first = self.servers[0]
        for number, server in enumerate(self.servers):
            self._name(server)
            server.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < primaries:
                slots = range(SLOTS * number // primaries, SLOTS * (number + 1) // primaries)
                server.command("CLUSTER", "ADDSLOTS", *slots)
            if server is not first:
                server.command("CLUSTER", "MEET", first.host, first.port)
        self._await_agreement()
        for number, server in enumerate(self.servers[primaries:]):
            server.command("CLUSTER", "REPLICATE", self.id_of(self.servers[number // replicas]))
        eventually(self._is_whole, "all nodes know the replicas, whose links are up")
        self.flush()  # a replica that has received nothing is left out of CLUSTER SLOTS
        eventually(lambda: all(map(self._lists_replicas, self.servers)), "all nodes list the replicas")

    def _await_agreement(self) -> None:
        eventually(lambda: all(map(self._agrees, self.servers)), "the nodes agree about the cluster")

    def _agrees(self, server: RedisServer) -> bool:
        info = dict(line.split(":", 1) for line in _text(server.command("CLUSTER", "INFO")).splitlines())
        known = _text(server.command("CLUSTER", "NODES"))
        return (
            info["cluster_state"] == "ok"
            and int(info["cluster_known_nodes"]) == len(self.servers)
            and "handshake" not in known
            and info["cluster_slots_ok"] == str(SLOTS)
        )

    def _is_whole(self) -> bool:
        for server in self.servers:
            lines = _text(server.command("CLUSTER", "NODES")).splitlines()
            if sum("slave" in line for line in lines) != len(self.servers) - len(self.primaries):
                return False
            info = server.info("replication")
            if info["role"] == "slave" and info["master_link_status"] != "up":
                return False
        return all(map(self._agrees, self.servers))

    def _lists_replicas(self, server: RedisServer) -> bool:
        rows: Any = server.command("CLUSTER", "SLOTS")
        return sum(len(nodes) - 1 for _, _, *nodes in rows) == len(self.servers) - len(self.primaries)

    def _any(self, like: RedisServer) -> RedisServer:
        return like if like.running else next(server for server in self.servers if server.running)


def address(server: RedisServer) -> str:
    """Return the address of a server as ``host:port``."""
    return f"{server.host}:{server.port}"


def _role(server: RedisServer) -> object:
    found: Any = server.command("ROLE")
    return found[0]


def _text(value: object) -> str:
    assert isinstance(value, bytes)
    return value.decode()


def sections_in_each(cluster: Cluster, count: int = 1) -> Sequence[str]:
    """Return names of sections, ``count`` for each of the primaries, in the order of the primaries."""
    found: dict[int, list[str]] = {index: [] for index in range(len(cluster.primaries))}
    primaries = cluster.primaries
    number = 0
    while any(len(names) < count for names in found.values()):
        name = f"s{number}"
        at = primaries.index(cluster.owner(cluster.slot_of(name)))
        if len(found[at]) < count:
            found[at].append(name)
        number += 1
    return [name for names in found.values() for name in names]
