"""The settings of the backend ``redis``."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from redicts.backends.redis.sentinel_settings import addresses, refuse_contradictions, split_hosts
from redicts.core.plugin_settings import BackendSettings, FilePath
from redicts.core.urls import ADVICE, decoded, split_url

_CLUSTER: Final = "+cluster"
"""Ends the schemes of clusters."""
_SCHEMES: Final = {"redis": False, "rediss": True, "unix": False, "redis+sentinel": False, "rediss+sentinel": True}
"""Whether the connections of a scheme are encrypted."""

_NAME: Final = r"[\w.~-]+"
_IPV6: Final = r"[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(%[\w.~-]+)?"

_OF_ADDRESS: Final = {
    *("url", "host", "port", "unix_socket", "username", "password", "default_database", "tls"),
    *("sentinels", "nodes", "cluster"),
}
"""The fields that a URL gives before its parameters."""

_PORT: Final = 6379

_Seconds = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
"""A timeout; sockets take no longer one than some weeks."""


class RedisSettings(BackendSettings):
    """The server's address, the credentials for it, and how connections to it are used.

    ``url`` stands for the fields that it gives: ``redis://user:password@host:port/database``, ``rediss://...`` for TLS,
    or ``unix:///path/to/socket?database=1``. A cluster has ``redis+cluster://host:port,host:port/database``, with some
    of its nodes. ``redis+sentinel://host:26379,host:26379/database?service=mymaster`` names Sentinels, which tell the
    server's address at each new connection. Its user and password are those of the server. The parameters of a URL are
    other fields, for instance ``?prefix=app:``. Times are in seconds, at most a million. Relative paths become absolute
    at once.
    """

    url: str | None = Field(None, exclude=True, repr=False)
    """The address and credentials as one text. Validation expands it into the other fields, so it reads as ``None``."""

    host: str = Field("localhost", pattern=rf"^({_NAME}|{_IPV6})$")
    port: int = Field(_PORT, ge=1, le=65535)
    unix_socket: FilePath | None = None
    cluster: bool = False
    """Whether the servers are the nodes of a cluster."""
    nodes: tuple[str, ...] = ()
    """The addresses of some nodes of a cluster, each ``host:port``. One that answers tells the others."""
    username: str | None = None
    password: SecretStr | None = None
    default_database: int = Field(0, ge=0)

    tls: bool = False
    tls_ca_file: FilePath | None = None
    tls_cert_file: FilePath | None = None
    tls_key_file: FilePath | None = None
    tls_check_hostname: bool = True

    prefix: str = Field("", pattern=r"^[^\x00]*$")
    """Begins the name of every key, so that several applications can share one database. Any text without NUL."""
    max_connections: int = Field(100, ge=1, le=65535)
    """How many requests of one process may be under way at once. A process that waits for a notification, as for a
    lock, has one more connection for listening."""
    timeout_secs: _Seconds = 50
    """How long to wait for a free connection when all are in use, and for a part of a cluster that is not served."""
    connect_timeout_secs: _Seconds = 5
    socket_timeout_secs: _Seconds = 10
    """How long to wait for the reply to one request."""
    retries: int = Field(3, ge=0)
    """How often a request is sent again after its connection is lost. It is still applied once. With 0, the first call
    after a restart of the server fails."""

    acknowledged_by: int = Field(0, ge=0, le=100)
    """How many replicas must have a write before it counts as done. With fewer, it raises ``NotReplicated``."""

    sentinels: Annotated[tuple[str, ...], BeforeValidator(addresses)] = ()
    """The addresses of Redis Sentinels, as ``host:port``, by default port 26379. They replace ``host`` and ``port``."""
    service: str | None = Field(None, min_length=1)
    """The name under which the Sentinels watch the servers, ``mymaster`` in the examples of Redis."""
    sentinel_username: str | None = None
    sentinel_password: SecretStr | None = None
    """The credentials for the Sentinels. Those for the servers are ``username`` and ``password``."""
    sentinel_tls: bool | None = None
    """Whether connections to the Sentinels are encrypted; by default as those to the servers. Without files of their
    own they use those of the servers."""
    sentinel_tls_ca_file: FilePath | None = None
    sentinel_tls_cert_file: FilePath | None = None
    sentinel_tls_key_file: FilePath | None = None
    sentinel_timeout_secs: _Seconds = 0.5
    """How long to wait for the answer of a Sentinel before the next one is asked."""

    @property
    def main_database(self) -> int:
        """The number of the database that the URL names, or 0."""
        return self.default_database

    @classmethod
    def fields_of_url(cls, url: str) -> dict[str, object]:
        """Return the field ``url``, which validation expands."""
        return {"url": url}

    @model_validator(mode="before")
    @classmethod
    def _expand_url(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("url") is None:
            return data
        rest = {name: value for name, value in data.items() if name != "url"}
        url = data["url"]
        if not isinstance(url, str):
            raise ValueError("url must be text such as redis://host:6379/0")
        from_url = _fields_of_cluster(url) if url.partition("://")[0].endswith(_CLUSTER) else _fields(url)
        twice = sorted(set(from_url) & set(rest))
        if twice:
            raise ValueError(f"{', '.join(twice)} given both in the url and as a field; leave one out")
        return {**from_url, **rest}

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> RedisSettings:
        given = self.model_fields_set
        refuse_contradictions(self)
        if self.unix_socket is not None and given & {"host", "port"}:
            raise ValueError("unix_socket excludes host and port; give the address of one server")
        if self.unix_socket is not None and self.tls:
            raise ValueError("a connection to a unix_socket is never encrypted; remove tls, or give host and port")
        needless = [
            name for name in ("tls_ca_file", "tls_cert_file", "tls_key_file") if getattr(self, name) is not None
        ]
        needless += [] if self.tls_check_hostname else ["tls_check_hostname"]
        if needless and not self.tls:
            raise ValueError(f"{', '.join(needless)} given without TLS; write rediss:// or set tls, or leave it out")
        if self.tls_key_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_key_file belongs to a certificate; give tls_cert_file too")
        return self

    @model_validator(mode="after")
    def _refuse_half_a_cluster(self) -> RedisSettings:
        if self.cluster:
            if self.model_fields_set & {"host", "port", "unix_socket"}:
                raise ValueError("the nodes of a cluster are given as nodes; remove host, port and unix_socket")
            if not self.nodes:
                raise ValueError("a cluster needs nodes, for instance ['localhost:7000', 'localhost:7001']")
            if "{" in self.prefix:
                raise ValueError("the prefix for a cluster must not contain {, which redicts needs for its hash tags")
        if self.cluster and self.sentinels:
            raise ValueError("a cluster has no Sentinels; its nodes replace a primary themselves. Remove sentinels")
        if self.nodes and not self.cluster:
            raise ValueError("nodes are those of a cluster; set cluster, or give host and port")
        for node in self.nodes:
            host, port = address_of(node)
            if not re.fullmatch(rf"{_NAME}|{_IPV6}", host) or not 1 <= port <= 65535:
                raise ValueError("nodes must be texts such as localhost:7000, each a host and a port")
        return self


def address_of(node: str) -> tuple[str, int]:
    """Return the host and port of ``host:port``, with port 0 for a text that is not of that form."""
    host, _, port = node.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port) if re.fullmatch("[0-9]{1,5}", port) else 0


def _fields(url: str) -> dict[str, Any]:
    """Return the fields that a URL gives. No error message repeats the URL, because it may hold a password."""
    scheme = url.partition("://")[0]
    if scheme not in _SCHEMES or scheme == url:
        raise ValueError(
            "url must begin with redis://, rediss:// or unix://, with redis+sentinel:// or rediss+sentinel://, or with "
            "redis+cluster:// or rediss+cluster:// for a cluster"
        )
    hosts, url = split_hosts(url) if scheme.endswith("+sentinel") else ([], url)
    at = split_url(url)
    number = at.parameters.pop("database", None)
    unknown = sorted(set(at.parameters) - set(RedisSettings.model_fields) | set(at.parameters) & _OF_ADDRESS)
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
        if not re.fullmatch(rf"{_NAME}|{_IPV6}", at.host):
            raise ValueError(f"url must name one host, as in redis://localhost:6379/0; {ADVICE}")
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


def _fields_of_cluster(url: str) -> dict[str, Any]:
    """Return the fields that the URL of a cluster gives: those of a server, with several addresses."""
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, servers = authority.rpartition("@")
    first, *others = servers.split(",")
    found = _fields(f"{scheme.removesuffix(_CLUSTER)}://{user}{at}{first}{rest[len(authority) :]}")
    nodes = [(found.pop("host"), found.pop("port", None))]
    for other in others:
        node = split_url(f"redis://{other}")
        nodes.append((node.host, node.port))
    written = [f"[{host}]:{port or _PORT}" if ":" in host else f"{host}:{port or _PORT}" for host, port in nodes]
    return {**found, "cluster": True, "nodes": written}
