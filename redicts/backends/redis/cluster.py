"""The backend of a Redis Cluster: a router from the section of a transaction to the node that has its slot.

All keys of one section of one database begin with ``<prefix>{<database>:<section>}``. The braces enclose a *hash tag*:
a cluster keeps all keys with the same one in one slot, and moves them together. What follows in the name of a key is
what :mod:`redicts.backends.redis.layout` says, with the whole path. So a section is executed by the same encoder and
script as a database of one server. A cluster has one database only, so the number is in the tag.

``<prefix>{<database>:}sections`` is a set of the names of all sections that were ever written to, in a slot of its own.
A process puts a section there before its first write to it, and again after a minute, in case a failover has lost that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from redis.connection import AbstractConnection
from redis.crc import key_slot

from redicts.backends.redis.backend import ATOMIC_ENTRIES, CAPABILITIES, Executor, answer_secs
from redicts.backends.redis.cluster_changes import Channels, ClusterChanges, ClusterListener
from redicts.backends.redis.cluster_nodes import Nodes, SlotConnections
from redicts.backends.redis.cluster_root import RootReader
from redicts.backends.redis.connections import Connections, connection_options, described
from redicts.backends.redis.errors import Errors
from redicts.backends.redis.layout import (
    CHANGES,
    Sharded,
    channels_of_changes,
    channels_of_section,
    name_bytes,
    name_text,
    suffix,
)
from redicts.backends.redis.options import RedisOptions
from redicts.backends.redis.plain_reads import PlainReads
from redicts.backends.redis.pubsub import RedisListener, Subscriptions
from redicts.backends.redis.urls import address_of
from redicts.backends.redis.wire import UNFINISHED, Encoder, command, decode
from redicts.core.backend import Backend, Capabilities, ServerState
from redicts.core.minitransaction import Key, Outcome, Path, Transaction
from redicts.core.sections import home_of, is_at_root, section_of
from redicts.errors import StoreError, Unreachable
from redicts.handles import PerProcess

if TYPE_CHECKING:
    import redis.cluster

_MOST_SECTIONS: Final = 512
"""How many sections a process keeps ready. Making one ready takes some microseconds."""

_LISTED_SECS: Final = 60.0
"""After so many seconds, a section is put into the list of sections again."""

_IN_A_PACKET: Final = 100
"""How many sections one packet asks."""

_MOST_LISTED: Final = 100_000
"""How many sections a process remembers as listed."""


class _Section(Executor):
    """One section of a cluster, in one process."""

    def __init__(self, name: str, tag: bytes, channels: bytes, nodes: Nodes) -> None:
        slot = key_slot(tag)
        super().__init__(
            Encoder(tag, channels, ATOMIC_ENTRIES, tag),
            PlainReads(tag, ATOMIC_ENTRIES, simulated=False),
            _There(SlotConnections(nodes, slot, name)),
        )
        self.nodes: Final = nodes
        self.slot: Final = slot
        self.channels: Final = channels_of_section(tag)

    @property
    def capabilities(self) -> Capabilities:
        """Those of the cluster."""
        return _CAPABILITIES

    def encoded(self, transaction: Transaction) -> bytes:
        """Return the call of a transaction that reads."""
        return self._encoder.encode(transaction)


class _There:
    """The connections to the slot of a section, in the form of :class:`PerProcess`."""

    __slots__ = ("current",)

    def __init__(self, current: SlotConnections) -> None:
        self.current = current

    def get(self) -> SlotConnections:
        """Return the connections."""
        return self.current


_CAPABILITIES: Final = replace(CAPABILITIES, sharded=True)


class ClusterBackend(Backend):
    """One database of a cluster of Redis (6.2 or newer) or Valkey servers."""

    def __init__(self, settings: RedisOptions, database: int) -> None:
        self._settings = settings
        prefix = settings.prefix.encode()
        self._tag = prefix + b"{%d:" % database
        self._channels = prefix + b"s:%d:" % database
        self._where = described(settings, database)
        self._nodes: PerProcess[Nodes] = PerProcess(
            partial(Nodes, self._connections_to, settings, self._where), Nodes.close, keep_inherited=False
        )
        self._sections: dict[str | None, _Section] = {}
        self._root = RootReader(self._sections_page, self._section, self._read_each)
        options = self._options(settings.nodes[0])
        self._subscriptions = Subscriptions(
            self._make_any,
            self._channels,
            Errors(self._where, options),
            settings.retries,
            answer_secs(settings.socket_timeout_secs),
            self._publish,
        )
        self._channel_of_sections = channels_of_section(self._tag + b"}") + CHANGES
        self._changes: PerProcess[ClusterChanges] = PerProcess(
            partial(ClusterChanges, self._channels_of, self._look, self._subscriptions_at), ClusterChanges.close
        )

    @property
    def capabilities(self) -> Capabilities:
        """The same for every cluster."""
        return _CAPABILITIES

    @property
    def client(self) -> redis.cluster.RedisCluster:
        """A client of redis-py for the same cluster, on connections of its own, for what redicts does not do."""
        from redis.cluster import ClusterNode, RedisCluster  # noqa: PLC0415  (few programs need it)

        left_out = ("connection_class", "db", "retry", "host", "port")
        options = {
            name: value for name, value in self._options(self._settings.nodes[0]).items() if name not in left_out
        }
        nodes = [ClusterNode(*address_of(node)) for node in self._settings.nodes]
        return RedisCluster(startup_nodes=nodes, ssl=self._settings.tls, **options)

    def execute(self, transaction: Transaction, /, deadline: float | None = None) -> Outcome:
        """Decide and apply one minitransaction of one section, or give up at the deadline."""
        reads = transaction.reads
        if reads and not reads[0].key.path and is_at_root(transaction):
            return self._root.execute(transaction, deadline)
        home = home_of(transaction)
        nodes = self._nodes.current or self._nodes.get()
        section = self._sections.get(home)
        if section is None or section.nodes is not nodes:
            section = self._section(home)
        if transaction.writes and home is not None and nodes.listed.get(home, 0.0) < time.monotonic():
            self._list(home, nodes, deadline)
        return section.execute(transaction, deadline)

    execute_until = execute

    def fetch(self, key: Key, /) -> bytes | None:
        """Return a leaf of one section without a TTL, see :meth:`Executor.fetch`."""
        home = section_of(key)
        return self._section(home).fetch(key) if home else None

    fetch_document = fetch

    def node_of(self, section: str) -> str:
        """Return the address of the node that has a section. Cost: a round trip if no node was asked yet."""
        nodes = self._nodes.current or self._nodes.get()
        return nodes.owner(self._section(section).slot, None)

    def _section(self, name: str | None) -> _Section:
        """Return a section, made again in a forked child. The empty name stands for what belongs to none."""
        nodes = self._nodes.current or self._nodes.get()
        found = self._sections.get(name)
        if found is None or found.nodes is not nodes:
            if len(self._sections) >= _MOST_SECTIONS:
                self._sections.clear()
            tag = self._tag + suffix((name or "",))[1:] + b"}"
            found = self._sections[name] = _Section(name or "", tag, self._channels, nodes)
        return found

    def _list(self, name: str, nodes: Nodes, deadline: float | None) -> None:
        """Put a section into the list of sections."""
        until = time.monotonic() + _LISTED_SECS
        added = command(b"SADD", self._tag + b"}sections", name_bytes(name))
        if self._list_connections().call(added, False, deadline):
            with suppress(StoreError):  # those who watch the root also look by themselves
                self._publish(self._channel_of_sections)
        if len(nodes.listed) >= _MOST_LISTED:
            nodes.listed.clear()
        nodes.listed[name] = until

    def _sections_page(self, cursor: bytes, deadline: float | None) -> tuple[bytes, list[bytes]]:
        """Return the next cursor, and names of sections: a page of ``SSCAN``, whose first and last cursor is 0."""
        page = command(b"SSCAN", self._tag + b"}sections", cursor, b"COUNT", b"500")
        following, names = self._list_connections().call(page, False, deadline)
        return following, names

    def _listed_sections(self) -> Iterator[str]:
        """Yield the names of all sections, some of them twice."""
        cursor = b""
        while cursor != b"0":
            cursor, names = self._sections_page(cursor or b"0", None)
            yield from map(name_text, names)

    def _read_each(self, names: Sequence[str], transaction: Transaction, deadline: float | None) -> dict[str, Outcome]:
        """Return the outcomes of a transaction that reads in each of some sections, in packets to their nodes.

        What is not answered at once is left out.
        """
        nodes = self._nodes.current or self._nodes.get()
        found: dict[str, Outcome] = {}
        by_node: dict[str, list[str]] = {}
        for name in names:
            by_node.setdefault(nodes.owner(self._section(name).slot, deadline), []).append(name)
        for address, there in by_node.items():
            connections = nodes.at(address)
            for start in range(0, len(there), _IN_A_PACKET):
                part = there[start : start + _IN_A_PACKET]
                calls = [connections.formed(self._section(name).encoded(transaction)) for name in part]
                with suppress(StoreError):
                    replies = connections.call(b"".join(calls), False, deadline, len(calls))
                    for name, reply in zip(part, replies if len(calls) > 1 else [replies]):
                        if reply[0] not in UNFINISHED:
                            found[name] = decode(reply, transaction)
        return found

    def _list_connections(self) -> SlotConnections:
        nodes = self._nodes.current or self._nodes.get()
        return SlotConnections(nodes, key_slot(self._tag + b"}"), "")

    def listen(self, name: str, /, deadline: float | None = None) -> RedisListener:
        """Listen over the one connection that this process subscribes with, or give up at the deadline.

        It leads to any of the nodes, for they pass on to each other what is published.
        """
        return self._subscriptions.listen(name, deadline)

    listen_until = listen

    def listen_to_changes(self, name: str, path: Path, /) -> ClusterListener:
        """Listen to changes over connections to the nodes that have them."""
        changes = self._changes.current or self._changes.get()
        return changes.listen(name, path)

    def _channels_of(self, path: Path, sharded: bool) -> Channels:
        """Return where changes of a path are published. The first channel of the root tells of new sections."""
        nodes = self._nodes.current or self._nodes.get()
        kind = Sharded if sharded else bytes
        if path:
            section = self._section(path[0])
            return [(nodes.owner(section.slot, None), (kind(channels_of_changes(section.channels, path)[0]),))]
        by_node: dict[str, list[bytes]] = {}
        for name in self._listed_sections():
            section = self._section(name)
            channel = kind(channels_of_changes(section.channels, (name,))[0])
            by_node.setdefault(nodes.owner(section.slot, None), []).append(channel)
        of_sections = nodes.owner(key_slot(self._tag + b"}"), None), (self._channel_of_sections,)
        return [of_sections, *[(address, tuple(dict.fromkeys(channels))) for address, channels in by_node.items()]]

    def _subscriptions_at(self, address: str) -> Subscriptions:
        secs = self._settings.socket_timeout_secs
        errors = Errors(f"{address} in {self._where}", self._options(address))
        make = partial(self._make, address, secs)
        return Subscriptions(make, self._channels, errors, 0, answer_secs(secs), self._publish)

    def _look(self) -> None:
        nodes = self._nodes.current or self._nodes.get()
        nodes.look(key_slot(self._tag + b"}"), None)

    def about(self) -> Mapping[str, str]:
        """Return the version of a server, and how many primaries the cluster has. Cost: one or two round trips."""
        nodes = self._nodes.current or self._nodes.get()
        from redicts.backends.redis import states  # noqa: PLC0415  (for reports only)

        version = states.version_of(self._list_connections().call)
        return {**version, "redis cluster": f"{len(nodes.primaries)} primaries"}

    def servers(self) -> Mapping[str, ServerState]:
        """Return the state of each node, with its slots and sections."""
        from redicts.backends.redis import states  # noqa: PLC0415  (for reports only)

        nodes = self._nodes.current or self._nodes.get()
        self._look()
        sections: dict[str, set[str]] = {}
        for name in self._listed_sections():
            sections.setdefault(self.node_of(name), set()).add(name)
        found: dict[str, ServerState] = {}
        for address in dict.fromkeys([*nodes.primaries, *nodes.replicas]):
            try:
                facts = states.facts_of(nodes.at(address).call, self._settings)
            except Unreachable as error:
                found[address] = ServerState(f"does not answer: {error}", False)
            else:
                count = nodes.owners.count(address)
                found[address] = states.state_of_node(facts, count, sections.get(address, ()))
        return found

    def close(self) -> None:
        """Close the idle connections now, the others when their requests are over and the last listener is closed."""
        self._nodes.close()
        self._subscriptions.close()
        self._changes.close()

    def _publish(self, channel: bytes) -> None:
        self._list_connections().call(command(b"PUBLISH", channel, b""))

    def _options(self, address: str) -> dict[str, Any]:
        """Return the arguments for a connection of redis-py to one node."""
        host, port = address_of(address)
        return {**connection_options(self._settings, 0), "host": host, "port": port}

    def _connections_to(self, address: str, secs: float) -> Connections:
        settings = self._settings._replace(retries=0)  # the other nodes are asked first
        errors = Errors(f"{address} in {self._where}", self._options(address))
        make = partial(self._make, address, secs)
        if settings.acknowledged_by:
            from redicts.backends.redis.acknowledged import AcknowledgedConnections  # noqa: PLC0415  (it is seldom used)

            return AcknowledgedConnections(make, errors, settings, secs)
        return Connections(make, errors, settings, secs)

    def _make(self, address: str, secs: float) -> AbstractConnection:
        options = {**self._options(address), "socket_timeout": secs}
        connection: AbstractConnection = options.pop("connection_class")(**options)
        return connection

    def _make_any(self) -> AbstractConnection:
        """Return a connection to a node that has slots, or to one that the settings name."""
        nodes = self._nodes.current or self._nodes.get()
        return self._make(nodes.any(), self._settings.socket_timeout_secs)
