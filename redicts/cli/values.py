"""``get``, ``set`` and ``del``: read, replace and remove one value."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import click

from redicts.cli import exits
from redicts.cli.output import json_text, print_json, tell
from redicts.cli.stores import PATH, Store, store_command
from redicts.core.leaves import ABSENT, Packed
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render
from redicts.core.ttl import milliseconds
from redicts.transfer.lines import encoded, is_plain


@click.command("get")
@click.argument("path", type=PATH)
@click.option("--text", is_flag=True, help="Print a text as it is, without quotes.")
@store_command
def get(path: Path, text: bool, store: Store, as_json: bool) -> int:
    """Print the value at PATH as JSON.

    The status is 1 if nothing is stored there. A leaf that JSON does not preserve is shown as an object with its stored
    bytes in base64.
    """
    database = store.database
    leaves = database.run(database.store.leaves(path))
    value = database.store.nested(path, leaves)
    found = value is not ABSENT
    hidden: list[str] = []
    if not found:
        value = None
    elif not is_plain(value):
        value = _shown(store, path, leaves, hidden)
    if as_json:
        ttl = database.run(database.store.ttl(path)) if found else None
        secs = None if ttl is None else ttl / 1000
        print_json({"path": render(path), "found": found, "value": value, "ttl": secs, "encoded": hidden})
    elif not found:
        tell(f"nothing is stored at {described(path)}")
    elif text and isinstance(value, str):
        click.echo(value.encode("utf-8", "surrogatepass"))
    else:
        click.echo(json_text(value, indent=2 if sys.stdout.isatty() else None))
    return exits.DONE if found else exits.NEGATIVE


def _shown(store: Store, path: Path, leaves: Mapping[Path, bytes], hidden: list[str]) -> object:
    """Return a value with bytes instead of the leaves that JSON does not preserve, and note their paths."""
    whole: Any = {}
    for below, data in leaves.items():
        value = store.database.store.decoded(path + below, data)
        if not is_plain(value):
            hidden.append(render(path + below))
            value = encoded(data)
        if not below:
            return value
        node = whole
        for name in below[:-1]:
            node = node.setdefault(name, {})
        node[below[-1]] = value
    return whole


@click.command("set")
@click.argument("path", type=PATH)
@click.argument("value")
@click.option("--text", is_flag=True, help="VALUE is a text, not JSON.")
@click.option("--expire", type=float, metavar="SECONDS", help="The TTL. Default: no expiry.")
@click.option("--packed", is_flag=True, help="Store a JSON object as one leaf.")
@store_command
def set_(path: Path, value: str, text: bool, expire: float | None, packed: bool, store: Store, as_json: bool) -> int:
    """Replace what is at PATH by VALUE.

    VALUE is JSON, or - to read it from the standard input.
    """
    given = sys.stdin.read() if value == "-" else value
    what: Any = given if text else _parsed(given)
    ttl = milliseconds(expire)
    steps = store.database.store.write(path, Packed(what) if packed else what, ttl)
    store.database.write(steps, path)
    if as_json:
        print_json({"path": render(path), "stored": True, "ttl": expire})
    return exits.DONE


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at character {error.pos}"
    except RecursionError:
        reason = "it is nested too deeply"
    raise click.UsageError(f"VALUE is not valid JSON: {reason}; pass --text to store a text")


@click.command("del")
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PATH...")
@click.option("--everything", is_flag=True, help="Allow the root, with all that is stored.")
@store_command
def delete(paths: tuple[Path, ...], everything: bool, store: Store, as_json: bool) -> int:
    """Remove what is at and below each PATH.

    The status is 1 if nothing was stored at one of them.
    """
    if () in paths and not everything:
        raise click.UsageError("the root is everything that is stored; pass --everything to remove it")
    database = store.database
    removed: list[Path] = []
    missing: list[Path] = []
    for path in paths:
        (removed if database.run(database.store.exists(path)) else missing).append(path)
        database.write(database.store.delete(path), path)
    if as_json:
        print_json({"removed": list(map(render, removed)), "missing": list(map(render, missing))})
    for path in () if as_json else missing:
        tell(f"nothing is stored at {described(path)}")
    return exits.NEGATIVE if missing else exits.DONE
