"""The settings of the backend ``postgres``."""

from __future__ import annotations

from typing import Any, Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import Field, SecretStr, model_validator

from redicts.plugin import BackendSettings

_SCHEMES: Final = ("postgres", "postgresql")
_NAME: Final = r"^[a-z_][a-z0-9_]*$"


class PostgresSettings(BackendSettings):
    """Where the server is, who we are there, where the tables are, and how connections are kept.

    ``url`` stands for the fields it speaks of: ``postgres://user:password@host:port/dbname?database=1``. What is not
    given of user, password and dbname is up to PostgreSQL's client library, which looks into its environment variables
    (``PGUSER`` and others) and the password file. Times are in seconds.
    """

    host: str = "localhost"
    """A name, an address, or the directory of a Unix socket."""
    port: int = Field(5432, ge=1, le=65535)
    user: str | None = None
    password: SecretStr | None = None
    dbname: str | None = None
    """The database of PostgreSQL. The numbered databases of redicts are all in one of these, in one table."""
    default_database: int = Field(0, ge=0)
    """The numbered database of redicts to use where nobody names one."""
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None

    schema_name: str = Field("redicts", alias="schema", pattern=_NAME, max_length=40)
    """The schema of the tables. It is made if it is not there."""
    prefix: str = Field("", pattern=r"^([a-z_][a-z0-9_]*)?$", max_length=20)
    """Goes before the names of the tables, so that several stores can share a schema."""
    isolation: Literal["locks", "serializable"] = "locks"
    """How transactions that write are kept apart: by advisory locks, or by SERIALIZABLE and trying again. All programs
    that use a store must choose the same."""

    max_connections: int = Field(20, ge=1)
    """How many requests of one process may be under way at once. A process that waits to be notified has one more."""
    timeout_secs: float = Field(50, gt=0)
    """How long to wait for a free connection when all are in use."""
    connect_timeout_secs: int = Field(5, ge=2)
    """Whole seconds; the client library knows no others, and none below 2."""
    socket_timeout_secs: float = Field(10, gt=0)
    """How long to wait for the answer to one request."""
    retries: int = Field(3, ge=0)
    """How often a request is sent again after its connection broke. It is applied once all the same."""

    @property
    def main_database(self) -> int:
        """The database that the URL names."""
        return self.default_database

    @classmethod
    def fields_of_url(cls, url: str) -> dict[str, object]:
        """Return the field ``url``: it is taken apart like one given by name."""
        return {"url": url}

    @model_validator(mode="before")
    @classmethod
    def _expand_url(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "url" not in data:
            return data
        rest = {name: value for name, value in data.items() if name != "url"}
        if not isinstance(data["url"], str):
            raise ValueError("url must be text such as postgres://user@host:5432/dbname")
        from_url = _fields(data["url"])
        twice = sorted(set(from_url) & set(rest))
        if twice:
            raise ValueError(f"{', '.join(twice)} given both in the url and as a field; leave one out")
        return {**from_url, **rest}


def _fields(url: str) -> dict[str, Any]:
    """Return the fields that a URL speaks of. No message repeats the URL: it may hold a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
        query = parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError("url cannot be read; write postgres://user:password@host:port/dbname") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError("url must begin with postgres:// or postgresql://")
    known = {"database": "default_database", "host": "host", "schema": "schema", "sslmode": "sslmode"}
    unknown = sorted(set(query) - set(known))
    if unknown:
        raise ValueError(f"url knows the parameters {', '.join(known)} only; give others as fields")
    found: dict[str, Any] = {
        "host": unquote(parts.hostname) if parts.hostname else None,
        "port": port,
        "user": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
        "dbname": unquote(parts.path[1:]) or None,
        **{known[name]: values[-1] for name, values in query.items()},
    }
    return {name: value for name, value in found.items() if value is not None}
