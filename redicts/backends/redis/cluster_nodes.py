"""The nodes of a cluster as one process knows them: which one has which slot, and the connections to each.

A request goes to the node that has the slot of its section. What the nodes answer corrects the map of slots: ``MOVED``
names another node, and after a lost connection the other nodes are asked. A request that is sent again carries the same
session and number, so it is applied once, whichever nodes have seen it: the record of its session is in the same slot,
and moves with it.

A slot that is being moved is half on one node and half on another. Each call of the script declares a key that never
exists. So as long as the slot is moved, its old node answers ``ASK`` before the script begins, and the new one answers
``MOVED``. Such a call is tried again until the move is over: following ``ASK`` would miss what is not moved yet.

As in :mod:`redicts.backends.redis.connections`, no lock is held, because a signal handler may use redicts here. This is
why redis-py's own map of nodes, which has locks and connections of its own, is not used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from redis import exceptions

from redicts.backends.redis.connections import Connections, Session, Unanswered
from redicts.backends.redis.options import RedisOptions
from redicts.backends.redis.urls import address_of
from redicts.core.error_mapping import ErrorMapping
from redicts.errors import RedictsError, StoreBusy, StoreError, StoreTimeout, Unreachable
from redicts.forks import stack
from redicts.randomness import RANDOM

SLOTS: Final = 16_384

_CLUSTER_SLOTS: Final = b"*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n"

FIRST_SECS: Final = 0.6
"""How long the first attempt waits for its reply. Each further one waits twice as long, up to the socket's timeout: a
node that is stopped is left soon, and one that is slow has the time that it needs."""

_TOPOLOGY_SECS: Final = 0.5
"""How long one node may take to tell which nodes there are."""

_LONGEST_PAUSE_SECS: Final = 0.1

_REDIRECTIONS: Final = 5
"""After so many redirections at once, each further one follows a pause, for nodes may send a call to each other."""


_UNSERVED: Final = (exceptions.ClusterDownError, exceptions.MasterDownError, exceptions.BusyLoadingError)
_MOVING: Final = (exceptions.AskError, exceptions.TryAgainError)


_MOST_SECTIONS: Final = 256
"""From so many sections on, a thread forgets those in which none of its requests is in doubt."""


class _InDoubt(threading.local):
    """The sessions of one thread with a request that has no reply, by section: only there can it be overtaken."""

    def __init__(self) -> None:
        self.sections: dict[str, Unanswered] = {}

    def of(self, section: str) -> Unanswered:
        """Return the sessions for one section."""
        found = self.sections.get(section)
        if found is None:
            # A call that this one has interrupted may be about to use an empty one.
            if len(self.sections) >= _MOST_SECTIONS and sum(frame.f_code.co_name == "execute" for frame in stack()) < 2:
                self.sections = {name: kept for name, kept in self.sections.items() if kept.sessions}
            found = self.sections.setdefault(section, Unanswered())
        return found


class Nodes:
    """The nodes of a cluster, and the sessions of one process there. A forked child needs an instance of its own.

    ``connections`` makes the connections to the node at an address, which wait so many seconds for a reply. ``where``
    describes the cluster in errors.
    """

    def __init__(self, connections: Callable[[str, float], Connections], settings: RedisOptions, where: str) -> None:
        self._connections = connections
        self._settings = settings
        self._longest_secs = settings.socket_timeout_secs
        # A first attempt that waits for replicas must leave them the time that they have on one server.
        self.first_secs = self._longest_secs if settings.acknowledged_by else min(FIRST_SECS, self._longest_secs)
        self.errors: Final = ErrorMapping(f"redis at {where}")
        self.owners: list[str] = [""] * SLOTS
        """The address of the node that has each slot, empty if unknown."""
        self.known: Final[dict[str, Connections]] = {}
        self._longer: Final[dict[str, Connections]] = {}
        self._closed = False
        self._replicas: tuple[str, ...] = ()
        self.idle_sessions: list[Session] = []
        self.in_doubt: Final = _InDoubt()
        self.listed: dict[str, float] = {}
        """The sections that are certainly in the list of sections, and when each was put there."""

    def at(self, address: str, *, waits_longer: bool = False) -> Connections:
        """Return the connections to a node: those of first attempts, or those that wait longer for a reply."""
        known = self._longer if waits_longer else self.known
        found = known.get(address)
        if found is None:
            secs = self._longest_secs if waits_longer else self.first_secs
            found = known.setdefault(address, self._connections(address, secs))
            if self._closed:
                found.close()
        return found

    def owner(self, slot: int, deadline: float | None) -> str:
        """Return the address of the node that has a slot.

        Raises :class:`~redicts.errors.StoreError` if no node can be reached, and
        :class:`~redicts.errors.StoreBusy` if none has the slot.
        """
        if not self.owners[slot]:
            self.look(slot, deadline)
        return self.owners[slot]

    @property
    def primaries(self) -> list[str]:
        """The addresses of the nodes that have slots, as far as they are known."""
        return sorted({address for address in self.owners if address})

    @property
    def replicas(self) -> tuple[str, ...]:
        """The addresses of the replicas, as far as they are known."""
        return self._replicas

    def any(self) -> str:
        """Return the address of a node that has slots, or of one that the settings name."""
        return RANDOM.choice(self.primaries or self._settings.nodes)

    def look(self, slot: int, deadline: float | None, last: str = "") -> None:
        """Ask the nodes which of them has which slot, the node at the address ``last`` as the last one."""
        addresses = [*dict.fromkeys([*self.primaries, *self._replicas, *self._settings.nodes])]
        RANDOM.shuffle(addresses)
        if last in addresses:
            addresses.remove(last)
            addresses.append(last)
        failure: RedictsError | None = None
        for address in addresses:
            until = time.monotonic() + _TOPOLOGY_SECS
            try:
                reply = self.at(address).call(
                    _CLUSTER_SLOTS, False, until if deadline is None else min(until, deadline)
                )
            except RedictsError as error:
                failure = failure or error
                continue
            owners, replicas = _read_slots(reply, address)
            if owners[slot]:
                self.owners, self._replicas = owners, replicas
                return
            failure = self.errors.error(StoreBusy, "no node of the cluster has a part of the tree; try again later")
        assert failure is not None
        raise failure

    def close(self) -> None:
        """Close the idle connections now, and each of the others when its request is over."""
        self._closed = True
        for connections in [*self.known.values(), *self._longer.values()]:
            connections.close()


class SlotConnections:
    """The connections to whichever node has the slot of a section, and the sessions for writes there."""

    __slots__ = ("_in_doubt", "_nodes", "_section", "_slot", "idle_sessions")

    def __init__(self, nodes: Nodes, slot: int, section: str) -> None:
        self._nodes = nodes
        self._slot = slot
        self._section = section
        self._in_doubt = nodes.in_doubt
        self.idle_sessions = nodes.idle_sessions

    @property
    def unanswered(self) -> Unanswered:
        """The sessions of this thread whose requests to this section may still be carried out."""
        in_doubt = self._in_doubt
        return in_doubt.sections.get(self._section) or in_doubt.of(self._section)

    def session(self) -> Session:
        """Return an idle session, or a new one."""
        try:
            return self.idle_sessions.pop()
        except IndexError:
            return Session()

    def call(self, command: bytes, writes: bool = False, deadline: float | None = None, count: int = 1, /) -> Any:
        """Send an encoded call and return its reply, see :meth:`Connections.call`.

        While the slot is moved, or no node serves it, the call is tried again until the deadline, or for
        ``timeout_secs`` of the settings. Then it raises :class:`~redicts.errors.StoreBusy` or what prevents it.
        """
        nodes, slot = self._nodes, self._slot
        address = nodes.owners[slot]
        if address:
            try:
                return (nodes.known.get(address) or nodes.at(address)).call(command, writes, deadline, count)
            except StoreError as error:
                return _Again(nodes, slot, address, deadline).call(error, command, writes, count)
        return _Again(nodes, slot, "", deadline).call(None, command, writes, count)


class _Again:
    """The further attempts at one call, after one that has failed or for which no node was known."""

    def __init__(self, nodes: Nodes, slot: int, address: str, deadline: float | None) -> None:
        self._nodes = nodes
        self._slot = slot
        self._address = address
        self._deadline = deadline
        self._until = time.monotonic() + nodes._settings.timeout_secs if deadline is None else deadline
        self._maybe_applied = False
        self._why: str | None = None
        """What the call waited for the last time."""
        self._redirections = 0
        self._attempts = 0
        self._lost = 0

    def call(self, error: StoreError | None, command: bytes, writes: bool, count: int) -> Any:
        """Send the call until it succeeds, or until nothing more can be tried."""
        nodes, secs = self._nodes, self._nodes.first_secs
        while True:
            if error is not None:
                self._maybe_applied |= error.maybe_applied
                self._after(error)
            try:
                self._address = nodes.owner(self._slot, self._deadline)
                secs = min(nodes._longest_secs, 2 * secs)
                until = min(time.monotonic() + secs, self._until)
                return nodes.at(self._address, waits_longer=True).call(command, writes, until, count)
            except StoreError as again:
                error = again

    def _after(self, error: StoreError) -> None:
        """Correct the map of slots after a failure and wait, or raise the error that ends the call."""
        nodes, cause = self._nodes, error.__cause__
        if type(cause) is exceptions.MovedError:
            host = cause.host or address_of(self._address)[0]
            nodes.owners[self._slot] = f"{host}:{cause.port}"
            self._redirections += 1
            if self._redirections > _REDIRECTIONS:
                self._pause(error)
        elif isinstance(cause, _MOVING):
            self._why = "this part of the tree is being moved to another node"
            self._pause(self._busy(self._why))
        elif isinstance(cause, _UNSERVED):
            self._why = "no node serves this part of the tree now"
            self._look(self._busy(self._why))
        elif isinstance(error, Unreachable) and cause is not None:  # else no connection is free
            self._look(error)
        else:
            raise self._last(error)

    def _look(self, error: RedictsError) -> None:
        """Ask the other nodes which of them has the slot now."""
        try:
            self._nodes.look(self._slot, self._deadline, self._address)
        except StoreError as unknown:
            if self._lost >= self._nodes._settings.retries and not isinstance(unknown, StoreBusy):
                raise self._last(error) from error.__cause__  # none of the nodes answers
            self._lost += 1
            self._pause(error)
        else:
            self._lost = 0
            if self._nodes.owners[self._slot] == self._address:
                self._pause(error)

    def _pause(self, error: RedictsError) -> None:
        """Let a short random time pass, or raise an error if the time is over."""
        self._attempts += 1
        left = self._until - time.monotonic()
        if left <= 0:
            raise self._last(error) from error.__cause__
        most = min(_LONGEST_PAUSE_SECS, 0.005 * 2 ** min(self._attempts, 10))
        time.sleep(min(left, RANDOM.uniform(0, most)))
        if time.monotonic() >= self._until:
            raise self._last(error) from error.__cause__

    def _busy(self, why: str) -> RedictsError:
        return self._nodes.errors.error(StoreBusy, f"{why}; try again later", maybe_applied=self._maybe_applied)

    def _last(self, error: RedictsError) -> RedictsError:
        """Return the error that ends the call. It tells whether one of the attempts may have been carried out."""
        if self._why is not None and isinstance(error, StoreTimeout):
            return self._busy(self._why)  # there was no time for the last attempt
        if isinstance(error, StoreError) and self._maybe_applied and not error.maybe_applied:
            return type(error)(f"{error}; an earlier attempt may have been carried out", maybe_applied=True)
        return error


def _read_slots(reply: list[Any], asked: str) -> tuple[list[str], tuple[str, ...]]:
    """Return the address of the node that has each slot, and those of the replicas, from ``CLUSTER SLOTS``.

    A node that does not know its own host is at the one where it was asked.
    """
    owners = [""] * SLOTS
    replicas: dict[str, None] = {}
    for first, last, *nodes in reply:
        addresses = [f"{(node[0] or b'').decode() or address_of(asked)[0]}:{node[1]}" for node in nodes]
        owners[first : last + 1] = [addresses[0]] * (last + 1 - first)
        replicas.update(dict.fromkeys(addresses[1:]))
    return owners, tuple(replicas)
