"""The settings of the backend ``postgres``."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Union

from pydantic import Field, SecretStr, model_validator

from redicts.plugin import BackendSettings, FilePath, decoded, split_url

_SCHEMES: Final = ("postgres", "postgresql")
_NAME: Final = r"^[a-z_][a-z0-9_]*$"
_Seconds = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]


class PostgresSettings(BackendSettings):
    """The server, the user, the tables, and the limits of connections. Times are in seconds.

    ``url`` sets the fields that it contains: ``postgres://user:password@host:port/dbname?database=1``. Without user,
    password or dbname, PostgreSQL's client library uses its environment variables (``PGUSER`` and others) and the
    password file.
    """

    host: str = Field("localhost", min_length=1)
    """A name, an address, or the directory of a Unix socket."""
    port: int = Field(5432, ge=1, le=65535)
    user: str | None = None
    password: SecretStr | None = None
    dbname: str | None = None
    """The database of PostgreSQL. One table in it holds all numbered databases of redicts."""
    default_database: int = Field(0, ge=0)
    """The numbered database of redicts to use by default."""
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    sslrootcert: Union[Literal["system"], FilePath, None] = None
    sslcert: FilePath | None = None
    sslkey: FilePath | None = None

    schema_name: str = Field("redicts", alias="schema", pattern=_NAME, max_length=40)
    """The schema of the tables. It is created if it does not exist."""
    prefix: str = Field("", pattern=r"^([a-z_][a-z0-9_]*)?$", max_length=20)
    """Precedes the names of the tables, so that several stores can share a schema."""
    isolation: Literal["locks", "serializable"] = "locks"
    """How writing transactions are isolated: by advisory locks, or by SERIALIZABLE and retries. All programs that use a
    store must choose the same."""

    changes: bool = True
    """Whether writes tell those who watch. PostgreSQL then commits writes of values one by one. All programs that use
    a store must choose the same."""

    max_connections: int = Field(20, ge=1, le=65535)
    """How many requests one process can run concurrently. Listening takes one more connection."""
    timeout_secs: _Seconds = 50
    """How long to wait for a free connection when all are in use."""
    connect_timeout_secs: int = Field(5, ge=2, le=1_000_000)
    """Whole seconds, at least 2, as the client library requires."""
    socket_timeout_secs: _Seconds = 10
    """How long to wait for one answer."""
    retries: int = Field(3, ge=0)
    """How often a request is retried after its connection broke. It is still applied once."""

    @property
    def main_database(self) -> int:
        """The database that the URL names."""
        return self.default_database

    @classmethod
    def fields_of_url(cls, url: str) -> dict[str, object]:
        """Return the field ``url``, which the model splits into fields."""
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
            raise ValueError(f"{', '.join(twice)} given both in the url and as a field; remove one of them")
        return {**from_url, **rest}


def _fields(url: str) -> dict[str, Any]:
    """Return the fields that a URL contains. No message repeats the URL, which may contain a password."""
    if url.partition("://")[0] not in _SCHEMES:
        raise ValueError("url must begin with postgres:// or postgresql://")
    parts = split_url(url)
    known = {"database": "default_database", "host": "host", "schema": "schema", "sslmode": "sslmode"}
    if set(parts.parameters) - set(known):
        raise ValueError(f"url takes only the parameters {', '.join(known)}; give others as fields")
    if bool(parts.host) == ("host" in parts.parameters):
        raise ValueError("url must have one host: postgres://user:password@host:port/dbname")
    found: dict[str, Any] = {
        "host": parts.host or None,
        "port": parts.port,
        "user": parts.username,
        "password": parts.password,
        "dbname": decoded(parts.path[1:]) or None,
        **{known[name]: value for name, value in parts.parameters.items()},
    }
    return {name: value for name, value in found.items() if value is not None}
