"""The settings of the backend ``redis``."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import Field, SecretStr, model_validator

from redicts.core.backend import BackendSettings

_SCHEMES: Final = {"redis": False, "rediss": True, "unix": False}


class RedisSettings(BackendSettings):
    """The server's address, the credentials for it, and how connections to it are used.

    ``url`` stands for the fields that it gives: ``redis://user:password@host:port/database``, ``rediss://...`` for TLS,
    or ``unix:///path/to/socket?database=1``. Times are in seconds.
    """

    url: str | None = Field(None, exclude=True, repr=False)
    """The address and credentials as one text. Validation expands it into the other fields, so it reads as ``None``."""

    host: str = "localhost"
    port: int = Field(6379, ge=1, le=65535)
    unix_socket: str | None = None
    username: str | None = None
    password: SecretStr | None = None
    default_database: int = Field(0, ge=0)

    tls: bool = False
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    tls_check_hostname: bool = True

    prefix: str = Field("", pattern=r"^[^\x00]*$")
    """Begins the name of every key, so that several applications can share one database. Any text without NUL."""
    max_connections: int = Field(100, ge=1)
    """How many requests of one process may be under way at once. A process that waits for a notification, as for a
    lock, has one more connection for listening."""
    timeout_secs: float = Field(50, gt=0)
    """How long to wait for a free connection when all are in use."""
    connect_timeout_secs: float = Field(5, gt=0)
    socket_timeout_secs: float = Field(10, gt=0)
    """How long to wait for the reply to one request."""
    retries: int = Field(3, ge=0)
    """How often a request is sent again after its connection is lost. It is still applied once. With 0, the first call
    after a restart of the server fails."""

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
        from_url = _fields(url)
        twice = sorted(set(from_url) & set(rest))
        if twice:
            raise ValueError(f"{', '.join(twice)} given both in the url and as a field; leave one out")
        return {**from_url, **rest}


def _fields(url: str) -> dict[str, Any]:
    """Return the fields that a URL gives. No error message repeats the URL, because it may hold a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("url cannot be read; write redis://user:password@host:port/database") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"url must begin with redis://, rediss:// or unix://; got {parts.scheme}://")
    query = parse_qs(parts.query)
    if set(query) - {"database"}:
        raise ValueError("url may have the parameter database only; give other settings as fields")
    database = query.get("database", [parts.path.strip("/") if parts.scheme != "unix" else ""])[-1]
    if database and not database.isdecimal():
        raise ValueError("url must name the database by its number; write redis://host:port/0")
    found: dict[str, Any] = {
        "host": parts.hostname,
        "port": port,
        "unix_socket": parts.path if parts.scheme == "unix" else None,
        "username": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
        "default_database": int(database) if database else None,
        "tls": _SCHEMES[parts.scheme] or None,
    }
    return {name: value for name, value in found.items() if value is not None}
