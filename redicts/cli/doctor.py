"""``doctor``: check a store, report what is wrong, and remove what is damaged."""

from __future__ import annotations

import json
import os
import sys
from typing import IO, Any, Final

import click

from redicts.api.opened import OpenedDatabase
from redicts.cli import exits
from redicts.cli.checks import Damage, examine
from redicts.cli.findings import Finding, Status
from redicts.cli.limits import Limits
from redicts.cli.numbers import Seconds
from redicts.cli.output import echo, fitted, print_json
from redicts.cli.stores import Store, reading_command
from redicts.cli.tables import Styled, print_table
from redicts.core.driver import Steps
from redicts.core.locks.records import HOLDERS, TOKENS
from redicts.core.minitransaction import NOTHING, VALUES, Check, Delete, Equals, Key, Outcome, Scope, Transaction
from redicts.errors import SettingsError
from redicts.transfer.lines import HEAD, encoded, last_line


@click.command("doctor", short_help="Check the store, and repair it on request.")
@click.option("--quick", is_flag=True, help="Do not read all values.")
@click.option("--repair", is_flag=True, help="Remove what is proven to be corrupt, after saving it to --rescue.")
@click.option(
    "--rescue",
    metavar="FILE",
    default="redicts-rescued.jsonl",
    show_default=True,
    help="Where --repair saves what it removes; an existing file is not overwritten.",
)
@click.option("--max-latency", type=Seconds(0), metavar="MS", help="Wrong if the median round trip takes longer.")
@click.option("--max-waiters", type=click.IntRange(0), metavar="NUMBER", help="Wrong if more wait for locks.")
@click.option("--max-lock-age", type=Seconds(0), metavar="SECONDS", help="Wrong if a lock is held for longer.")
@click.option(
    "--max-memory", type=click.FloatRange(0, 100), metavar="PERCENT", help="Wrong if Redis uses more of its maxmemory."
)
@click.option("--strict", is_flag=True, help="The status is 1 for notices too.")
@reading_command
def doctor(
    quick: bool,
    repair: bool,
    rescue: str,
    max_latency: float | None,
    max_waiters: int | None,
    max_lock_age: float | None,
    max_memory: float | None,
    strict: bool,
    store: Store,
    as_json: bool,
) -> int:
    """Check the store, and remove what is proven to be corrupt on request.

    The checks are about reachability, speed, versions, capabilities, the clock, servers and files, locks,
    unfinished work and damage. One of them writes a value outside the tree, and removes it. The status is 0 if nothing
    is wrong, 1 if something is, and 3 if the store cannot be reached.
    """
    if repair:
        store.require_writable()
    limits = Limits(max_latency, max_waiters, max_lock_age, max_memory)
    findings, damage = examine(store, quick=quick, limits=limits)
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
            text = f"removed {done['removed']} damaged entries, which are saved in {done['rescue']}"
            echo(fitted(text, sys.stdout))
    if failed:
        return exits.FAILED
    is_left = wrong and (done is None or done["left"] or _wrong_but_damage(findings))
    return exits.NEGATIVE if is_left or (strict and Status.NOTICE in statuses) else exits.DONE


def _wrong_but_damage(findings: list[Finding]) -> bool:
    """Return whether something is wrong that a repair does not remove."""
    return any(each.status is Status.WRONG and each.name not in _DAMAGE for each in findings)


_DAMAGE: Final = frozenset({"leftovers", "tokens", "values"})
"""The findings of what a repair removes."""


def _row(finding: Finding) -> list[object]:
    colours = {Status.OK: "green", Status.NOTICE: "yellow", Status.WRONG: "red", Status.FAILED: "red"}
    return [Styled(finding.status.value, colours[finding.status]), finding.name, finding.text]


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
