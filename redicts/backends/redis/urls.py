"""The URLs of servers, clusters and Sentinels: the fields of the settings that they give."""

from __future__ import annotations

import re
from typing import Any, Final

from redicts.backends.redis.options import DEFAULTS, RedisOptions
from redicts.backends.redis.sentinel_settings import split_hosts
from redicts.core.urls import ADVICE, decoded, split_url
from redicts.file_paths import absolute

_CLUSTER: Final = "+cluster"
"""Ends the schemes of clusters."""
_SCHEMES: Final = {"redis": False, "rediss": True, "unix": False, "redis+sentinel": False, "rediss+sentinel": True}
"""Whether the connections of a scheme are encrypted."""

_NAME: Final = r"[\w.~-]+"
_IPV6: Final = r"[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(%[\w.~-]+)?"
HOST: Final = rf"{_NAME}|{_IPV6}"
"""The pattern of a host."""

PORTS: Final = range(1, 65536)

_OF_SERVER: Final = {"host", "port", "unix_socket", "username", "password", "default_database", "tls"}
"""The fields that the URL of one server gives before its parameters."""
_OF_ADDRESS: Final = {*_OF_SERVER, "sentinels", "nodes", "cluster", "given"}
"""What cannot be a parameter of a URL."""


def plain(url: str) -> RedisOptions | None:
    """Return what the URL of one server gives if it has no parameters but ``database``, and nothing else than ASCII.

    Raises ``ValueError`` for a URL that is not valid.

    >>> plain("redis://:secret@localhost/1")[:8]
    ('localhost', 6379, None, False, (), None, '**********', 1)
    """
    found = fields_of_url(url)
    if not url.isascii() or found.keys() - _OF_SERVER or found.get("port", DEFAULTS.port) not in PORTS:
        return None
    if "unix_socket" in found:
        found["unix_socket"] = absolute(found["unix_socket"])
    return RedisOptions(**found, given=frozenset(found))


def fields_of_url(url: str) -> dict[str, Any]:
    """Return the fields that a URL gives. No error message repeats the URL, because it may hold a password."""
    return _of_cluster(url) if url.partition("://")[0].endswith(_CLUSTER) else _of_server(url)


def address_of(node: str) -> tuple[str, int]:
    """Return the host and port of ``host:port``, with port 0 for a text that is not of that form."""
    host, _, port = node.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port) if re.fullmatch("[0-9]{1,5}", port) else 0


def _of_server(url: str) -> dict[str, Any]:
    """Return the fields of the URL of one server, or of the Sentinels that tell its address."""
    scheme = url.partition("://")[0]
    if scheme not in _SCHEMES or scheme == url:
        raise ValueError(
            "url must begin with redis://, rediss:// or unix://, with redis+sentinel:// or rediss+sentinel://, or with "
            "redis+cluster:// or rediss+cluster:// for a cluster"
        )
    hosts, url = split_hosts(url) if scheme.endswith("+sentinel") else ([], url)
    at = split_url(url)
    number = at.parameters.pop("database", None)
    unknown = sorted(set(at.parameters) - set(RedisOptions._fields) | set(at.parameters) & _OF_ADDRESS)
    if unknown:
        raise ValueError(
            f"url has the parameter {unknown[0]!r}; it may have database and other fields than the address"
        )
    found: dict[str, Any] = {"username": at.username, "password": at.password, **at.parameters}
    if scheme == "unix":
        if at.host or at.port or len(at.path) < 2:
            raise ValueError("a unix url has three slashes before an absolute path: unix:///run/redis.sock?database=0")
        found["unix_socket"] = decoded(at.path)
    else:
        if not re.fullmatch(HOST, at.host):
            raise ValueError(f"url must name one host after '://', for example localhost:6379; {ADVICE}")
        found |= {"sentinels": hosts} if hosts else {"host": at.host, "port": at.port}
        found["tls"] = _SCHEMES[scheme] or None
        in_path = re.fullmatch(r"/?|/([0-9]+)/?", at.path)
        if in_path is None:
            raise ValueError(f"url must name the database by its number, as in redis://host:port/0; {ADVICE}")
        if in_path[1] and number is not None:
            raise ValueError("url has a database in its path and as a parameter; remove one")
        number = in_path[1] or number
    if number is not None:
        if not re.fullmatch("[0-9]+", number):
            raise ValueError("the database in the url must be a number, 0 or above")
        found["default_database"] = int(number)
    return {name: value for name, value in found.items() if value is not None}


def _of_cluster(url: str) -> dict[str, Any]:
    """Return the fields that the URL of a cluster gives: those of a server, with several addresses."""
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, servers = authority.rpartition("@")
    first, *others = servers.split(",")
    found = _of_server(f"{scheme.removesuffix(_CLUSTER)}://{user}{at}{first}{rest[len(authority) :]}")
    nodes = [(found.pop("host"), found.pop("port", None))]
    for other in others:
        node = split_url(f"redis://{other}")
        nodes.append((node.host, node.port))
    written = [f"{f'[{host}]' if ':' in host else host}:{port or DEFAULTS.port}" for host, port in nodes]
    return {**found, "cluster": True, "nodes": written}
