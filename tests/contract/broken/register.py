"""How a broken backend is described and collected."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from redicts.contract import Harness, SharedBackend
from redicts.core.backend import Backend
from tests.contract.harnesses import FakeRedisHarness, FileHarness, InstanceHarness, NetworkHarness
from tests.contract.sharded import ShardedHarness

_Class = TypeVar("_Class", bound=type)


class Broken(NamedTuple):
    """One broken backend."""

    name: str
    says: str
    """The fault, in one line."""
    refused_by: tuple[str, ...]
    """The checks that must each refuse it."""
    alone: bool
    """Whether no other check refuses it, but for the random search."""
    harness: Callable[[], Harness]
    module: str
    """The last part of the name of the module that defines it."""


_register: Final[dict[type, Broken]] = {}


def _add(broken: type, refused_by: tuple[str, ...], alone: bool, harness: Callable[[], Harness]) -> None:
    says = inspect.getdoc(broken)
    assert says, f"{broken.__name__} says what is wrong with it"
    assert refused_by, f"{broken.__name__} says which checks refuse it"
    module = broken.__module__.rpartition(".")[2]
    _register[broken] = Broken(broken.__name__, says.splitlines()[0], refused_by, alone, harness, module)


def broken_store(
    *refused_by: str, opener: Callable[[], Backend] | None = None, alone: bool = False
) -> Callable[[_Class], _Class]:
    """Register a store, all of whose clients are the one instance."""

    def register(store: _Class) -> _Class:
        _add(store, refused_by, alone, lambda: InstanceHarness(store, opener=opener))
        return store

    return register


def broken_client(*refused_by: str, of: Callable[[Any], Backend], alone: bool = False) -> Callable[[_Class], _Class]:
    """Register a client of an instance of a correct store."""

    def register(client: _Class) -> _Class:
        assert issubclass(client, SharedBackend)
        _add(client, refused_by, alone, lambda: InstanceHarness(of, client=client))
        return client

    return register


def broken_server(*refused_by: str, of: Callable[[Any], Backend], alone: bool = False) -> Callable[[_Class], _Class]:
    """Register a server behind a network, of a correct store."""

    def register(server: _Class) -> _Class:
        _add(server, refused_by, alone, lambda: NetworkHarness(of, server=server))
        return server

    return register


def broken_network_client(
    *refused_by: str, of: Callable[[Any], Backend], alone: bool = False
) -> Callable[[_Class], _Class]:
    """Register a client on a network, of a correct server."""

    def register(client: _Class) -> _Class:
        _add(client, refused_by, alone, lambda: NetworkHarness(of, client=client))
        return client

    return register


def broken_shared_store(*refused_by: str, alone: bool = False) -> Callable[[_Class], _Class]:
    """Register a store in a file, made with its path, that several processes open."""

    def register(store: _Class) -> _Class:
        _add(store, refused_by, alone, lambda: FileHarness(store))
        return store

    return register


def broken_sharded_store(*refused_by: str, alone: bool = False) -> Callable[[_Class], _Class]:
    """Register a sharded store, all of whose clients are the one instance."""

    def register(store: _Class) -> _Class:
        _add(store, refused_by, alone, lambda: ShardedHarness(store))
        return store

    return register


def broken_fakeredis(*refused_by: str, alone: bool = False) -> Callable[[_Class], _Class]:
    """Register a Redis backend on a simulated server."""

    def register(store: _Class) -> _Class:
        _add(store, refused_by, alone, lambda: FakeRedisHarness(store))
        return store

    return register


def registered() -> tuple[Broken, ...]:
    """Return all that were registered."""
    return tuple(_register.values())
