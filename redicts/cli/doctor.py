"""``doctor``: check a store, report what is wrong, and remove what is damaged."""

from __future__ import annotations

import json
import os
from typing import IO, Any

import click

from redicts.api.opened import OpenedDatabase
from redicts.cli import exits
from redicts.cli.checks import Damage, examine
from redicts.cli.findings import Finding, Status
from redicts.cli.output import echo, print_json, print_table
from redicts.cli.stores import Store, reading_command
from redicts.core.driver import Steps
from redicts.core.locks.records import HOLDERS, TOKENS
from redicts.core.minitransaction import NOTHING, VALUES, Check, Delete, Equals, Key, Outcome, Scope, Transaction
from redicts.errors import SettingsError
from redicts.transfer.lines import HEAD, encoded, last_line


@click.command("doctor")
@click.option("--quick", is_flag=True, help="Do not read all values.")
@click.option("--repair", is_flag=True, help="Remove what is proven to be corrupt, after saving it to --rescue.")
@click.option(
    "--rescue",
    metavar="FILE",
    default="redicts-rescued.jsonl",
    show_default=True,
    help="Where --repair saves what it removes; an existing file is not overwritten.",
)
@reading_command
def doctor(quick: bool, repair: bool, rescue: str, store: Store, as_json: bool) -> int:
    """Check the store, and remove what is proven to be corrupt on request.

    The checks are about reachability, speed, versions, capabilities, the clock, locks, unfinished work and damage. One
    of them writes a value outside the tree, and removes it. The status is 1 if something is wrong, and 3 if the store
    cannot be reached.
    """
    findings, damage = examine(store, quick=quick)
    statuses = {finding.status for finding in findings}
    failed, wrong = Status.FAILED in statuses, Status.WRONG in statuses
    done: dict[str, Any] | None = None
    if repair and damage and not failed:
        done = _repair(store.database, damage, rescue)
    if as_json:
        checks = [{"name": each.name, "status": each.status.value, "text": each.text, **each.data} for each in findings]
        print_json({"store": store.location, "healthy": not (wrong or failed), "checks": checks, "repaired": done})
    else:
        print_table(("", "", ""), map(_row, findings), str(store))
        if done is not None:
            echo(f"removed {done['removed']} damaged entries, which are saved in {done['rescue']}")
    if failed:
        return exits.FAILED
    return exits.NEGATIVE if wrong and (done is None or done["left"]) else exits.DONE


def _row(finding: Finding) -> list[object]:
    from rich.text import Text  # noqa: PLC0415  (takes a while, and JSON needs none of it)

    colours = {Status.OK: "green", Status.NOTICE: "yellow", Status.WRONG: "red", Status.FAILED: "red"}
    return [Text(finding.status.value, style=colours[finding.status]), finding.name, finding.text]


def _repair(database: OpenedDatabase, damage: Damage, rescue: str) -> dict[str, Any]:
    """Save damaged entries to a file in the line format, then remove those that have not changed.

    Raises :class:`~redicts.errors.SettingsError`, and removes nothing, if the file exists.
    """
    try:
        file = open(rescue, "x", encoding="utf-8")  # noqa: SIM115  (closed below)
    except FileExistsError:
        raise SettingsError(f"{rescue} exists; name another file with --rescue") from None
    try:
        with file:
            _save(file, damage)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(rescue)  # an incomplete file, which would be in the way of the next attempt
        raise
    removed = sum(database.run(_remove(key, found.data)) for key, found in damage.items())
    return {"removed": removed, "left": len(damage) - removed, "rescue": rescue}


def _save(file: IO[str], damage: Damage) -> None:
    """Write leaves as an export does, and records of locks as lines that an import skips."""
    file.write(json.dumps(HEAD) + "\n")
    leaves = 0
    for key, found in damage.items():
        line: dict[str, Any] = {"path": list(key.path), **encoded(found.data)}
        if found.ttl is not None:
            line["ttl"] = found.ttl
        if key.space == VALUES:
            leaves += 1
        else:
            line = {"cursor": {"space": key.space, **line}}
        file.write(json.dumps(line) + "\n")
    file.write(last_line(leaves) + "\n")


def _remove(key: Key, data: bytes) -> Steps[bool]:
    """Remove an entry that has not changed; the counter of fencing tokens only while nobody holds a lock."""
    checks: list[Check] = [Equals(key, Scope.NODE, {(): data})]
    if key == TOKENS:
        checks.append(Equals(Key(HOLDERS, ()), Scope.BELOW, NOTHING))
    outcome: Outcome = yield Transaction(tuple(checks), (), (Delete(key, Scope.NODE),))
    return outcome.applied
