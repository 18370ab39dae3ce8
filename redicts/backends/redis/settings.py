"""The settings of the backend ``redis``."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from redicts.backends.redis.options import DEFAULTS, RedisOptions
from redicts.backends.redis.sentinel_settings import addresses, refuse_contradictions
from redicts.backends.redis.urls import HOST, PORTS, address_of, fields_of_url
from redicts.core.plugin_settings import BackendSettings, FilePath
from redicts.core.urls import Secret

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

    host: str = Field(DEFAULTS.host, pattern=rf"^({HOST})$")
    port: int = Field(DEFAULTS.port, ge=PORTS[0], le=PORTS[-1])
    unix_socket: FilePath | None = DEFAULTS.unix_socket
    cluster: bool = DEFAULTS.cluster
    """Whether the servers are the nodes of a cluster."""
    nodes: tuple[str, ...] = DEFAULTS.nodes
    """The addresses of some nodes of a cluster, each ``host:port``. One that answers tells the others."""
    username: str | None = DEFAULTS.username
    password: SecretStr | None = None
    default_database: int = Field(DEFAULTS.default_database, ge=0)

    tls: bool = DEFAULTS.tls
    tls_ca_file: FilePath | None = DEFAULTS.tls_ca_file
    tls_cert_file: FilePath | None = DEFAULTS.tls_cert_file
    tls_key_file: FilePath | None = DEFAULTS.tls_key_file
    tls_check_hostname: bool = DEFAULTS.tls_check_hostname

    prefix: str = Field(DEFAULTS.prefix, pattern=r"^[^\x00]*$")
    """Begins the name of every key, so that several applications can share one database. Any text without NUL."""
    max_connections: int = Field(DEFAULTS.max_connections, ge=1, le=65535)
    """How many requests of one process may be under way at once. A process that waits for a notification, as for a
    lock, has one more connection for listening."""
    timeout_secs: _Seconds = DEFAULTS.timeout_secs
    """How long to wait for a free connection when all are in use, and for a part of a cluster that is not served."""
    connect_timeout_secs: _Seconds = DEFAULTS.connect_timeout_secs
    socket_timeout_secs: _Seconds = DEFAULTS.socket_timeout_secs
    """How long to wait for the reply to one request."""
    retries: int = Field(DEFAULTS.retries, ge=0)
    """How often a request is sent again after its connection is lost. It is still applied once. With 0, the first call
    after a restart of the server fails."""

    acknowledged_by: int = Field(DEFAULTS.acknowledged_by, ge=0, le=100)
    """How many replicas must have a write before it counts as done. With fewer, it raises ``NotReplicated``."""

    sentinels: Annotated[tuple[str, ...], BeforeValidator(addresses)] = DEFAULTS.sentinels
    """The addresses of Redis Sentinels, as ``host:port``, by default port 26379. They replace ``host`` and ``port``."""
    service: str | None = Field(DEFAULTS.service, min_length=1)
    """The name under which the Sentinels watch the servers, ``mymaster`` in the examples of Redis."""
    sentinel_username: str | None = DEFAULTS.sentinel_username
    sentinel_password: SecretStr | None = None
    """The credentials for the Sentinels. Those for the servers are ``username`` and ``password``."""
    sentinel_tls: bool | None = DEFAULTS.sentinel_tls
    """Whether connections to the Sentinels are encrypted; by default as those to the servers. Without files of their
    own they use those of the servers."""
    sentinel_tls_ca_file: FilePath | None = DEFAULTS.sentinel_tls_ca_file
    sentinel_tls_cert_file: FilePath | None = DEFAULTS.sentinel_tls_cert_file
    sentinel_tls_key_file: FilePath | None = DEFAULTS.sentinel_tls_key_file
    sentinel_timeout_secs: _Seconds = DEFAULTS.sentinel_timeout_secs
    """How long to wait for the answer of a Sentinel before the next one is asked."""

    @property
    def main_database(self) -> int:
        """The number of the database that the URL names, or 0."""
        return self.default_database

    def options(self) -> RedisOptions:
        """Return what opens a store."""
        fields: dict[str, Any] = {name: value for name, value in self if name in RedisOptions._fields}
        for name, value in fields.items():
            if isinstance(value, SecretStr):
                fields[name] = Secret(value.get_secret_value())
        return RedisOptions(**fields, given=frozenset(self.model_fields_set))

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
        from_url = fields_of_url(url)
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
            if not re.fullmatch(HOST, host) or port not in PORTS:
                raise ValueError("nodes must be texts such as localhost:7000, each a host and a port")
        return self
