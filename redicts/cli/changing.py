"""``add``, ``merge``, ``ttl`` and ``expire``: change a part of a value, or its TTL."""

from __future__ import annotations

import click

from redicts.cli import exits
from redicts.cli.confirming import guard, yes_option
from redicts.cli.numbers import Amount, TakesNumbers, Ttl
from redicts.cli.output import echo, json_text, print_json, tell
from redicts.cli.stores import PATH, Store, reading_command, store_command
from redicts.cli.values import value_given
from redicts.core.leaves import leaves_of
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render
from redicts.core.ttl import milliseconds
from redicts.errors import LeafError
from redicts.transfer.leaves import Leaf
from redicts.transfer.losses import Losses


@click.command("add", cls=TakesNumbers)
@click.argument("path", type=PATH)
@click.argument("amount", type=Amount(), default=1)
@store_command
def add(path: Path, amount: float, store: Store, as_json: bool) -> int:
    """Add AMOUNT to the number at PATH, and print the sum.

    An absent number is 0. AMOUNT is 1 by default and may be negative. The TTL stays.
    """
    database = store.database
    total = database.write(database.store.add(path, amount), path)
    if as_json:
        print_json({"path": render(path), "value": total})
    else:
        echo(json_text(total))
    return exits.DONE


@click.command("merge", cls=TakesNumbers)
@click.argument("path", type=PATH)
@click.argument("value")
@click.option("--expire", type=Ttl(), metavar="SECONDS", help="The TTL of the leaves in VALUE.")
@yes_option
@store_command
def merge(path: Path, value: str, expire: float | None, yes: bool, store: Store, as_json: bool) -> int:
    """Store the leaves of VALUE below PATH, and keep all others.

    VALUE is a JSON object, or - to read it from the standard input. If more than a few leaves would be replaced, the
    command asks first.
    """
    given = value_given(value, text=False)
    if not isinstance(given, dict):
        raise click.UsageError("VALUE must be a JSON object; use redicts set for any other value")
    database = store.database
    ttl = milliseconds(expire)
    steps = database.store.merge(path, given, ttl)
    leaves = [Leaf(below, data) for below, data in leaves_of(given, path, database.store.form).items()] if given else []
    Losses(database, path, guard(yes)).before(leaves)
    database.write(steps, path)
    if as_json:
        print_json({"path": render(path), "leaves": len(leaves), "ttl": expire})
    return exits.DONE


@click.command("ttl")
@click.argument("path", type=PATH)
@reading_command
def ttl(path: Path, store: Store, as_json: bool) -> int:
    """Print how many seconds are left for what is at PATH.

    The TTL of a dict is that of its longest-lived leaf. The status is 1 if nothing is stored there.
    """
    database = store.database
    left = database.run(database.store.ttl(path))
    if as_json:
        print_json({"path": render(path), "found": left != 0, "ttl": left / 1000 if left else None})
    elif left != 0:
        echo("no expiry" if left is None else f"{left / 1000:.3f}".rstrip("0").rstrip("."))
    else:
        tell(f"nothing is stored at {described(path)}")
    return exits.NEGATIVE if left == 0 else exits.DONE


@click.command("expire", cls=TakesNumbers, short_help="Set or remove the TTL of what is at PATH.")
@click.argument("path", type=PATH)
@click.argument("seconds", metavar="SECONDS|never")
@reading_command
def expire(path: Path, seconds: str, store: Store, as_json: bool) -> int:
    """Set the TTL of all leaves at and below PATH, or remove it with "never".

    The status is 1 if nothing is stored there.
    """
    try:
        secs = None if seconds == "never" else float(seconds)
        left = milliseconds(secs)
    except (ValueError, LeafError):
        raise click.UsageError(
            'SECONDS must be a positive number, or "never" for no expiry (use redicts del to remove a value)'
        ) from None
    store.require_writable()
    database = store.database
    database.write(database.store.expire(path, left), path)
    found = database.run(database.store.exists(path))
    if as_json:
        print_json({"path": render(path), "found": found, "ttl": secs if found else None})
    elif not found:
        tell(f"nothing is stored at {described(path)}")
    return exits.DONE if found else exits.NEGATIVE
