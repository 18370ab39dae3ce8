"""``copy``: a subtree from any store to any other, also from a database of redicts 1.0."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import click

from redicts.cli import exits, progress
from redicts.cli.output import Document, print_json
from redicts.cli.stores import PATH, Store, json_option, opened
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render

if TYPE_CHECKING:
    from redicts.transfer import Copy, Verification


@click.command("copy")
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option("--from-database", metavar="NAME|NUMBER", help="The database of SOURCE.")
@click.option("--to-database", metavar="NAME|NUMBER", help="The database of TARGET.")
@click.option("--from", "at", type=PATH, default=".", metavar="PATH", help="Copy only what is at and below this.")
@click.option("--to", type=PATH, metavar="PATH", help="Where to; without it, to the same path.")
@click.option("--without-ttls", is_flag=True, help="Let everything last for ever in the target.")
@click.option("--restart", is_flag=True, help="Begin again where an earlier copy did not end.")
@click.option("--verify/--no-verify", default=True, help="Compare both sides, leaf by leaf, at the end. Default: yes.")
@click.option("--from-1.0", "old", is_flag=True, help="SOURCE is a Redis database of redicts 1.0.")
@click.option("--delete", is_flag=True, help="With --from-1.0: remove the old keys that are in TARGET.")
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
    json_: bool,
) -> int:
    """Copy all leaves of SOURCE to TARGET, over what is there, and leave the rest; then compare and count.

    Both are given as --store of the other commands takes them. A copy that did not end, by whatever, is continued by
    the same command. The status is 1 if there was nothing to copy, something could not be copied, or is not
    equal at the end.
    """
    if old:
        if from_database or at or to or without_ttls or restart:
            raise click.UsageError(
                "with --from-1.0 the whole database is moved; it takes --to-database and --delete only"
            )
        return _from_1_0(source, target, to_database, delete=delete, json_=json_)
    if delete:
        raise click.UsageError("--delete is for --from-1.0")
    from redicts.errors import SettingsError  # noqa: PLC0415  (help needs none of it)
    from redicts.transfer import copy as copied  # noqa: PLC0415
    from redicts.transfer import verify as verified  # noqa: PLC0415
    from redicts.transfer.leaves import count  # noqa: PLC0415

    one, two = opened(source, from_database), opened(target, to_database)
    to = at if to is None else to
    if one.place == two.place and (at[: len(to)] == to or to[: len(at)] == at):
        raise SettingsError("source and target are the same place, or one is below the other")
    total = count(one.tree, at) if progress.is_watched() else None
    with progress.bar("copy", total) as advance:
        report = copied(
            one.tree,
            two.tree,
            _name(one, two, at, to),
            at=at,
            to=to,
            ttls=not without_ttls,
            restart=restart,
            progress=lambda so_far: advance(so_far.done),
        )
    found = None
    if verify:
        with progress.bar("verify", report.done) as advance:
            found = verified(
                one.tree,
                two.tree,
                at=at,
                to=to,
                ttls=not without_ttls,
                progress=lambda so_far: advance(so_far.source),
            )
    for reason in report.reasons:
        click.echo(f"redicts: {reason}", err=True)
    if json_:
        places = {"source": {"store": one.place, "path": render(at)}}
        places["target"] = {"store": two.place, "path": render(to)}
        print_json(_document(places, report, found))
    else:
        _tell(one, two, at, report, found)
    if report.resumed and found is not None and not found.holds:
        click.echo(
            "redicts: one side was changed since the earlier run, it seems; begin again with --restart", err=True
        )
    if not report.done:
        click.echo(f"redicts: nothing is stored in SOURCE at {described(at)}", err=True)
    return exits.DONE if report.done and not report.skipped and (found is None or found.holds) else exits.NEGATIVE


def _name(one: Store, two: Store, at: Path, to: Path) -> str:
    told = repr((one.identity, two.identity, at, to)).encode()
    return f"copy {hashlib.sha256(told).hexdigest()[:32]}"


def _document(places: Document, report: Copy, found: Verification | None) -> Document:
    document: dict[str, Any] = {
        **places,
        "resumed": report.resumed,
        "stored": report.stored,
        "gone": report.gone,
        "skipped": report.skipped,
        "reasons": report.reasons,
        "verified": None,
    }
    if found is not None:
        document["verified"] = {
            "equal": found.equal,
            "missing": found.missing,
            "different": found.different,
            "ending": found.ending,
            "source_leaves": found.source,
            "target_leaves": found.target,
            "extra": found.extra,
            "paths": found.paths,
        }
    return document


def _tell(one: Store, two: Store, at: Path, report: Copy, found: Verification | None) -> None:
    click.echo(f"{one} -> {two}, {described(at)}")
    before = f" ({report.resumed} dealt with by an earlier run)" if report.resumed else ""
    click.echo(f"{report.stored} leaves stored{before}, {report.gone} ended on the way, {report.skipped} skipped")
    if found is None:
        return
    click.echo(
        f"{found.equal} of {found.source} leaves are equal, {found.missing} missing, {found.different} different; "
        f"{found.target} are there, {found.extra} of them not from the source"
    )
    for path in found.paths:
        click.echo(f"not equal: {path}")


def _from_1_0(source: str, target: str, database: str | None, *, delete: bool, json_: bool) -> int:
    """Move a database of redicts 1.0, by what ``redicts.migration`` does."""
    import redis  # noqa: PLC0415  (help needs none of it)

    from redicts import Pool, root  # noqa: PLC0415
    from redicts.cli.stores import settings_of  # noqa: PLC0415
    from redicts.errors import Unreachable  # noqa: PLC0415
    from redicts.migration import from_1_0  # noqa: PLC0415

    try:
        client = redis.Redis.from_url(source)
    except ValueError:
        # The reason may hold a part of the URL, and so of a password.
        raise click.UsageError("SOURCE is no URL such as redis://user:password@host:6379/0") from None
    settings = settings_of(target, database)
    Pool().reload(settings)
    try:
        with client, progress.bar("copy", None) as advance:
            report = from_1_0(client, root(), delete=delete, progress=lambda so_far: advance(so_far.read))
    except redis.RedisError as error:
        raise Unreachable(f"the database of 1.0: {type(error).__name__}, no answer; check SOURCE") from error
    if json_:
        skipped = [{"key": each.key, "reason": each.reason.name, "detail": each.detail} for each in report.skipped]
        counts = {name: getattr(report, name) for name in ("read", "stored", "already_there", "gone", "removed")}
        print_json({**counts, "skipped": skipped})
    else:
        click.echo(str(report))
    return exits.DONE if report.complete else exits.NEGATIVE
