"""``copy``: copy a subtree between any two stores, or from a database of redicts 1.0."""

from __future__ import annotations

import hashlib
import sys
from contextlib import closing
from dataclasses import asdict
from typing import Any

import click

from redicts.cli import exits
from redicts.cli.confirming import guard, yes_option
from redicts.cli.output import echo, fitted, print_json, progress_bar, tell
from redicts.cli.stores import PATH, Store, json_option, open_existing, open_store
from redicts.cli.tables import leaves
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render
from redicts.errors import Unreachable
from redicts.transfer import Copy, Verification
from redicts.transfer import copy as copy_leaves
from redicts.transfer import verify as verify_leaves
from redicts.transfer.copying import refuse_overlap
from redicts.transfer.leaves import count


@click.command("copy")
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option("--from-database", metavar="NAME|NUMBER", help="The database of SOURCE.")
@click.option("--to-database", metavar="NAME|NUMBER", help="The database of TARGET.")
@click.option("--from", "at", type=PATH, default=".", metavar="PATH", help="Copy only what is at and below PATH.")
@click.option("--to", type=PATH, metavar="PATH", help="Copy to PATH. Default: the same path.")
@click.option("--without-ttls", is_flag=True, help="Store everything without expiry.")
@click.option("--restart", is_flag=True, help="Start again instead of continuing an interrupted copy.")
@click.option("--verify/--no-verify", default=True, help="Compare both sides at the end, leaf by leaf. Default: yes.")
@click.option("--from-1.0", "old", is_flag=True, help="SOURCE is a Redis database of redicts 1.0.")
@click.option("--delete", is_flag=True, help="With --from-1.0: remove the old keys that are in TARGET.")
@yes_option
@json_option
def copy(
    source: str,
    target: str,
    from_database: str | None,
    to_database: str | None,
    at: Path,
    to: Path | None,
    without_ttls: bool,
    restart: bool,
    verify: bool,
    old: bool,
    delete: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Copy all leaves of SOURCE to TARGET.

    SOURCE and TARGET are what --store of other commands takes. Leaves are stored over what is there, and the rest of
    TARGET stays. If that replaces or removes more than a few leaves, the command asks first. Then both sides are
    compared leaf by leaf. The same command continues an interrupted copy. The status is 1 if there was nothing to copy,
    a leaf could not be copied, or the comparison found a difference.
    """
    if old:
        if from_database or at or to or without_ttls or restart:
            raise click.UsageError("--from-1.0 moves the whole database; pass only --to-database and --delete with it")
        return _from_1_0(source, target, to_database, delete=delete, as_json=as_json)
    if delete:
        raise click.UsageError("--delete needs --from-1.0")
    one = open_existing(source, from_database)
    with closing(one), closing((open_store if one.missing is None else open_existing)(target, to_database)) as two:
        return _copy(
            one,
            two,
            at,
            at if to is None else to,
            ttls=not without_ttls,
            restart=restart,
            verify=verify,
            yes=yes,
            as_json=as_json,
        )


def _copy(
    one: Store,
    two: Store,
    at: Path,
    to: Path,
    *,
    ttls: bool,
    restart: bool,
    verify: bool,
    yes: bool,
    as_json: bool,
) -> int:
    if one.location == two.location:
        refuse_overlap(at, to)
    name = hashlib.sha256(repr((one.identity, two.identity, at, to)).encode()).hexdigest()[:32]
    databases = one.database, two.database
    with progress_bar("copy", lambda: count(one.database, at)) as advance:
        report = copy_leaves(
            *databases,
            f"copy {name}",
            at=at,
            to=to,
            ttls=ttls,
            restart=restart,
            progress=lambda so_far: advance(so_far.done),
            confirm=guard(yes),
        )
    found = None
    if verify:
        with progress_bar("verify", lambda: report.done) as advance:
            found = verify_leaves(*databases, at=at, to=to, ttls=ttls, progress=lambda so_far: advance(so_far.source))
    for reason in report.reasons:
        tell(reason)
    for codec, foreign in report.foreign.items():
        tell(f"TARGET does not accept the codec {codec}, and {leaves(foreign)} kept its bytes")
    if as_json:
        _print_json(one, two, at, to, report, found)
    else:
        _print_text(one, two, at, report, found)
    if not report.done:
        tell(f"nothing is stored in SOURCE at {described(at)}")
    complete = report.done and not report.skipped
    if found is not None and not found.holds:
        complete = False
        if report.resumed:
            tell("one side seems to have changed since the earlier run; pass --restart to start again")
    return exits.DONE if complete else exits.NEGATIVE


def _print_json(one: Store, two: Store, at: Path, to: Path, report: Copy, found: Verification | None) -> None:
    verified: dict[str, Any] | None = None
    if found is not None:
        verified = {**asdict(found), "extra": found.extra}
        verified |= {"source_leaves": verified.pop("source"), "target_leaves": verified.pop("target")}
    ends = {
        "source": {"store": one.location, "path": render(at)},
        "target": {"store": two.location, "path": render(to)},
    }
    print_json({**ends, **asdict(report), "verified": verified})


def _print_text(one: Store, two: Store, at: Path, report: Copy, found: Verification | None) -> None:
    before = f" ({report.resumed} handled by an earlier run)" if report.resumed else ""
    lines = [
        f"{one} -> {two}, {described(at)}",
        f"{leaves(report.stored)} stored{before}, {report.gone:,} expired before, {report.skipped:,} skipped",
    ]
    if found is not None:
        lines += [
            (
                f"{found.equal:,} of {found.source:,} leaves are equal, {found.missing:,} missing, "
                f"{found.different:,} different; the target has {found.target:,}, "
                f"{found.extra:,} of them not from the source"
            ),
            *[f"not equal: {path}" for path in found.paths],
        ]
    echo(fitted("\n".join(lines), sys.stdout))


def _from_1_0(source: str, target: str, database: str | None, *, delete: bool, as_json: bool) -> int:
    """Move a database of redicts 1.0."""
    import redis  # noqa: PLC0415  (an extra that no other command needs)

    from redicts.migration import from_1_0  # noqa: PLC0415  (needs redis)

    try:
        client = redis.Redis.from_url(source)
    except ValueError:
        # The reason may have a part of the URL, and so of a password.
        raise click.UsageError("SOURCE must be a URL such as redis://user:password@host:6379/0") from None
    new = open_store(target, database).database.root()
    try:
        with client, progress_bar("copy", lambda: None) as advance:
            report = from_1_0(client, new, delete=delete, progress=lambda so_far: advance(so_far.read))
    except redis.RedisError as error:
        raise Unreachable(f"the database of 1.0 does not answer ({type(error).__name__}); check SOURCE") from error
    if as_json:
        skipped = [{"key": each.key, "reason": each.reason.name, "detail": each.detail} for each in report.skipped]
        counts = {name: getattr(report, name) for name in ("read", "stored", "already_there", "gone", "removed")}
        print_json({**counts, "skipped": skipped})
    else:
        echo(fitted(str(report), sys.stdout))
    return exits.DONE if report.complete else exits.NEGATIVE
