"""What the doctor removes, after a copy of it was written to a file."""

from __future__ import annotations

import base64
import json
import os
from typing import IO, Any

from redicts.api.opened import OpenedDatabase
from redicts.cli.checks import Damage
from redicts.core.locks.records import HOLDERS, TOKENS
from redicts.core.minitransaction import (
    NOTHING,
    VALUES,
    Check,
    Delete,
    Equals,
    Key,
    Scope,
    Transaction,
)
from redicts.errors import SettingsError
from redicts.transfer.lines import HEAD, tail


def repaired(tree: OpenedDatabase, damage: Damage, rescue: str) -> dict[str, Any]:
    """Write damaged entries to a file that can be imported, then remove those that are still the same.

    The counter of fencing tokens is removed only while nobody holds a lock. Raises
    :class:`~redicts.errors.SettingsError`, and removes nothing, if the file is there already.
    """
    try:
        with open(rescue, "x", encoding="utf-8") as file:
            _write(file, damage)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise SettingsError(f"{rescue} is there already; name another file with --rescue") from None
    entries = {**{Key(VALUES, path): data for path, data in damage.values.items()}, **damage.others}
    removed = sum(_removed(tree, key, data) for key, data in entries.items())
    return {"removed": removed, "left": len(entries) - removed, "rescue": rescue}


def _write(file: IO[str], damage: Damage) -> None:
    """Write leaves as an export does. Records of locks are no leaves: they are told in lines that an import skips."""
    file.write(json.dumps(HEAD) + "\n")
    for key, data in damage.others.items():
        told = {"space": key.space, "path": list(key.path), "base64": base64.b64encode(data).decode()}
        file.write(json.dumps({"cursor": told}) + "\n")
    for path, data in damage.values.items():
        file.write(json.dumps({"path": list(path), "base64": base64.b64encode(data).decode()}) + "\n")
    file.write(tail(len(damage.values)) + "\n")


def _removed(tree: OpenedDatabase, key: Key, data: bytes) -> bool:
    checks: list[Check] = [Equals(key, Scope.NODE, {(): data})]
    if key == TOKENS:
        checks.append(Equals(Key(HOLDERS, ()), Scope.BELOW, NOTHING))
    return tree.backend.execute(Transaction(tuple(checks), (), (Delete(key, Scope.NODE),))).applied
