"""The SQL that creates the tables and functions, under the names of the settings."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

LAYOUT: Final = 2
"""The version of the functions, which is part of their names: programs of different versions can share the tables."""

SESSION_TTL_MS: Final = 3_600_000
"""How long a session is kept after its last request, which is how late a request may arrive."""

_HEAD: Final = "substring({}, 1, 2000)"


class Schema:
    """The names of one store's tables and functions, and the SQL that creates them.

    ``schema`` and ``prefix`` go into SQL unquoted; the settings allow only names that need no quotes.
    """

    def __init__(self, schema: str, prefix: str) -> None:
        self.name: Final = f"{schema}.{prefix}"
        """Distinguishes this store from others in the same database of PostgreSQL."""
        self.entries: Final = f"{schema}.{prefix}entries"
        self.sessions: Final = f"{schema}.{prefix}sessions"
        self.look: Final = f"{schema}.{prefix}look_{LAYOUT}"
        self.write: Final = f"{schema}.{prefix}write_{LAYOUT}"
        self._schema: Final = schema
        self._prefix: Final = prefix

    def sql(self) -> str:
        """Return the statements that create what is missing, and change nothing that exists."""
        low, high, key = _HEAD.format("step.low"), _HEAD.format("step.high"), _HEAD.format("key")
        filled = {
            "schema": self._schema,
            "prefix": self._prefix,
            "entries": self.entries,
            "sessions": self.sessions,
            "look": self.look,
            "write": self.write,
            "apply": f"{self._schema}.{self._prefix}apply_{LAYOUT}",
            "millisecond": f"{self._schema}.{self._prefix}millisecond_{LAYOUT}",
            "head_of_key": key,
            "unique": f"({key}), (CASE WHEN length(key) > 2000 THEN sha256(substring(key, 2001)) ELSE ''::bytea END)",
            "in_range": f"{key} >= {low} AND {key} <= {high} AND key > step.low AND key < step.high",
            "live": "(deadline IS NULL OR deadline > instant)",
            "session_ttl": str(SESSION_TTL_MS),
        }
        text = files(__package__).joinpath("layout.sql").read_text(encoding="utf-8")
        for name, words in filled.items():
            text = text.replace("{{" + name + "}}", words)
        return text
