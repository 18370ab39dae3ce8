"""The tables and functions of the store, under the names that the settings choose."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

LAYOUT: Final = 1
"""The version of the functions. It is in their names, so that programs with different versions share the tables."""

FORGOTTEN_AFTER_MILLISECONDS: Final = 3_600_000
"""How long the outcome of a session's last request is kept at least: as long as a request may be late."""

_HEAD: Final = "substring({}, 1, 2000)"


class Schema:
    """The names of one store's tables and functions, and the SQL that makes them.

    ``schema`` and ``prefix`` go into SQL as they are; the settings allow nothing in them that would need quoting.
    """

    def __init__(self, schema: str, prefix: str) -> None:
        self.name: Final = f"{schema}.{prefix}"
        """What tells this store from others in the same database of PostgreSQL."""
        self.entries: Final = f"{schema}.{prefix}entries"
        self.sessions: Final = f"{schema}.{prefix}lanes"
        self.look: Final = f"{schema}.{prefix}look_{LAYOUT}"
        self.write: Final = f"{schema}.{prefix}write_{LAYOUT}"
        self._schema: Final = schema
        self._prefix: Final = prefix

    def sql(self) -> str:
        """Return the statements that make what is missing, and change nothing that is there."""
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
            "forgotten_after": str(FORGOTTEN_AFTER_MILLISECONDS),
        }
        text = files(__package__).joinpath("layout.sql").read_text(encoding="utf-8")
        for name, words in filled.items():
            text = text.replace("{{" + name + "}}", words)
        return text
