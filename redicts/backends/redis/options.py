"""What opens a store on Redis: the fields of its validated settings, with their defaults."""

from __future__ import annotations

from typing import Final, NamedTuple

from redicts.core.urls import Secret


class RedisOptions(NamedTuple):
    """The fields of :class:`~redicts.backends.redis.settings.RedisSettings`, which explains them."""

    host: str = "localhost"
    port: int = 6379
    unix_socket: str | None = None
    cluster: bool = False
    nodes: tuple[str, ...] = ()
    username: str | None = None
    password: Secret | None = None
    default_database: int = 0

    tls: bool = False
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    tls_check_hostname: bool = True

    prefix: str = ""
    max_connections: int = 100
    timeout_secs: float = 50
    connect_timeout_secs: float = 5
    socket_timeout_secs: float = 10
    retries: int = 3
    acknowledged_by: int = 0

    sentinels: tuple[str, ...] = ()
    service: str | None = None
    sentinel_username: str | None = None
    sentinel_password: Secret | None = None
    sentinel_tls: bool | None = None
    sentinel_tls_ca_file: str | None = None
    sentinel_tls_cert_file: str | None = None
    sentinel_tls_key_file: str | None = None
    sentinel_timeout_secs: float = 0.5

    given: frozenset[str] = frozenset()
    """The fields that a configuration gave, for the repr of the settings."""

    @property
    def main_database(self) -> int:
        """The number of the default database."""
        return self.default_database


DEFAULTS: Final = RedisOptions()
