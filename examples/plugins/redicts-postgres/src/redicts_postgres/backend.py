"""The PostgreSQL backend: a minitransaction is one call of one SQL function, in one round trip."""

from __future__ import annotations

import weakref
from functools import partial
from typing import Final

from redicts.errors import StoreError
from redicts.plugin import Backend, Capabilities, Listener, Outcome, Path, PerProcess, Transaction
from redicts_postgres.connections import Connections, connect, errors_of
from redicts_postgres.notifications import Listeners, PostgresListener
from redicts_postgres.schema import Schema
from redicts_postgres.settings import PostgresSettings
from redicts_postgres.wire import Locks, Reply, Steps, changed_by, locks_of, looks_of, outcome_of, writes_of

_UNSURE: Final = "U"
_NOT_A_COUNTER: Final = "N"
_MOST_ATTEMPTS: Final = 100
"""How often a transaction is repeated if a TTL ended between its snapshot and its reading of the clock."""


class PostgresBackend(Backend):
    """One numbered database of redicts in one database of a PostgreSQL server."""

    def __init__(self, settings: PostgresSettings, database: int) -> None:
        schema = Schema(settings.schema_name, settings.prefix)
        self._database = database
        self._store = schema.name
        self._locking = settings.isolation == "locks"
        self._capabilities = Capabilities(
            ttl=True, processes=True, durable=True, atomic_entries=None, push=True, changes=settings.changes
        )
        self._channels = f"{schema.name}:{database}:"
        # A child keeps those of its parent, because finalizing them would end the parent's sessions.
        self._connections = PerProcess(partial(Connections, settings, schema.sql()), Connections.close)
        self._listeners = Listeners(lambda: connect(settings), self._channels, errors_of(settings), settings.retries)
        self._look_statement = (
            f"SELECT CASE WHEN unsure THEN 'U' WHEN failed_index IS NULL THEN 'A' ELSE 'C' END, failed_index, "
            f"'{{}}'::bigint[], counts, suffixes, stored, ttls FROM {schema.look}("
            "%b::text[], %b::bytea[], %b::bytea[], %b::bytea[], %b::bigint[], %b::bytea[], %b::bytea[], "
            "floor(extract(epoch FROM transaction_timestamp()) * 1000)::bigint, "
            "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)"
        )
        self._write_statement = (
            f"SELECT status, failed_index, counters, counts, suffixes, stored, ttls FROM {schema.write}("
            "%b, %b, %b::bigint[], %b::boolean[], "
            "%b::text[], %b::bytea[], %b::bytea[], %b::bytea[], %b::bigint[], %b::bytea[], %b::bytea[], "
            "%b::text[], %b::bytea[], %b::bytea[], %b::bytea[], %b::bigint[], "
            "%b::bytea[], %b::bytea[], %b::bigint[], %b::text, %b::text[], %b)"
        )
        weakref.finalize(self, self._connections.close)

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities, the same for every server; ``changes`` as the settings say."""
        return self._capabilities

    def execute(self, transaction: Transaction, /) -> Outcome:
        """Decide and apply a minitransaction in one call of one SQL function.

        Cost: one round trip. The first call of a process also connects and prepares the statement.
        """
        looks = looks_of(transaction.checks, transaction.reads, self._database)
        if not transaction.writes:
            return outcome_of(self._look(looks), transaction)
        connections = self._connections.get()
        session = connections.session()
        in_doubt = True
        try:
            locks = Locks([], [])
            if self._locking:
                locks = locks_of(transaction, session.name, self._store, self._database)
            writes = writes_of(transaction.writes, self._database)
            changed = changed_by(transaction.writes) if self._capabilities.changes else []
            outcome = outcome_of(self._write(session.name, session.number, locks, looks, writes, changed), transaction)
            in_doubt = False
        except StoreError as error:
            in_doubt = error.maybe_applied
            raise
        finally:
            connections.give_back(session, in_doubt=in_doubt)
        return outcome

    def _look(self, looks: Steps) -> Reply:
        parameters = (*looks.parameters(), looks.item_keys, looks.item_values)
        for _ in range(_MOST_ATTEMPTS):
            reply = Reply(*self._connections.get().call(self._look_statement, parameters))
            if reply.status != _UNSURE:
                return reply
        return reply._replace(status="A" if reply.failed_index is None else "C")

    def _write(
        self, session: bytes, number: int, locks: Locks, looks: Steps, writes: Steps, changed: list[str]
    ) -> Reply:
        for attempt in range(_MOST_ATTEMPTS + 1):
            parameters = (
                session,
                number,
                *locks,
                *looks.parameters(),
                looks.item_keys,
                looks.item_values,
                *writes.parameters(),
                writes.item_keys,
                writes.item_values,
                writes.item_ttls,
                self._channels,
                changed,
                attempt == _MOST_ATTEMPTS,
            )
            reply = Reply(*self._connections.get().call(self._write_statement, parameters, writes=True))
            if reply.status != _UNSURE:
                break
        if reply.status == _NOT_A_COUNTER and reply.failed_index is not None:
            return reply._replace(failed_index=writes.origins[reply.failed_index])
        return reply

    def about(self) -> dict[str, str]:
        """Return the version of the server. Cost: one round trip."""
        (version,) = self._connections.get().call("SELECT current_setting('server_version')", ())
        return {"PostgreSQL server": version}

    def listen(self, name: str, /) -> PostgresListener:
        """Listen on the connection that all listeners of this process share."""
        return self._listeners.listen(name)

    def listen_to_changes(self, name: str, path: Path, /) -> Listener:
        """Listen on the same connection. Without ``changes`` in the settings, it looks at intervals."""
        if not self._capabilities.changes:
            return super().listen_to_changes(name, path)
        return self._listeners.listen(name, path)

    def close(self) -> None:
        """Close idle connections now, and the others when their requests and listeners end."""
        self._connections.close()
        self._listeners.close()


def open_postgres(settings: PostgresSettings, database: int) -> PostgresBackend:
    """Open one numbered database. The first call connects."""
    return PostgresBackend(settings, database)
