"""``get``, ``set`` and ``del``: one value."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from redicts.cli import exits
from redicts.cli.output import as_json, encoded, is_plain, print_json
from redicts.cli.stores import PATH, common_options, opened
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render


@click.command("get")
@click.argument("path", type=PATH)
@click.option("--text", is_flag=True, help="Print a text as it is, without quotes.")
@common_options
def get(path: Path, text: bool, store: str | None, database: str | None, json_: bool) -> int:
    """Print the value at PATH as JSON; the status is 1 if nothing is there.

    A leaf that JSON does not give back exactly is shown as an object with its stored bytes in base64.
    """
    from redicts.core.leaves import ABSENT  # noqa: PLC0415  (help needs none of it)

    tree = opened(store, database).tree
    leaves = tree.run(tree.store.leaves(path))
    value = tree.store.nested(path, leaves)
    found = value is not ABSENT
    shown: Any = None
    hidden: list[str] = []
    if found:
        shown = value if is_plain(value) else _shown(tree, path, leaves, hidden)
    if json_:
        ttl = tree.run(tree.store.ttl(path)) if found else 0
        secs = None if ttl is None or not found else ttl / 1000
        document = {"path": render(path), "found": found, "value": shown, "ttl": secs, "encoded": hidden}
        print_json(document)
    elif not found:
        click.echo(f"redicts: nothing is stored at {described(path)}", err=True)
    elif text and isinstance(shown, str):
        click.echo(shown.encode("utf-8", "surrogatepass"))
    else:
        click.echo(as_text(shown))
    return exits.DONE if found else exits.NEGATIVE


def as_text(value: object) -> str:
    """Return JSON for people on a terminal, in one line elsewhere."""
    return as_json(value, indent=2 if sys.stdout.isatty() else None)


def _shown(tree: Any, path: Path, leaves: Any, hidden: list[str]) -> object:
    """Return a value with its bytes in place of each leaf that is no JSON, and note which these are."""
    whole: Any = {}
    for below, data in leaves.items():
        value = tree.store.decoded(path + below, data)
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
@click.option("--expire", type=float, metavar="SECONDS", help="How long it lives; without it, for ever.")
@click.option("--packed", is_flag=True, help="Store a JSON object as one leaf.")
@common_options
def set_(
    path: Path,
    value: str,
    text: bool,
    expire: float | None,
    packed: bool,
    store: str | None,
    database: str | None,
    json_: bool,
) -> int:
    """Replace what is at PATH by VALUE, which is JSON; - reads it from the standard input."""
    from redicts.core.leaves import Packed  # noqa: PLC0415  (help needs none of it)
    from redicts.core.ttl import milliseconds  # noqa: PLC0415

    given = sys.stdin.read() if value == "-" else value
    what: Any = given if text else _parsed(given)
    ttl = milliseconds(expire)
    tree = opened(store, database).tree
    tree.write(tree.store.write(path, Packed(what) if packed else what, ttl), path)
    if json_:
        print_json({"path": render(path), "stored": True, "ttl": expire})
    return exits.DONE


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = (
            f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else "nested too deep"
        )
        raise click.UsageError(f"VALUE is no JSON: {reason}; for a text, give --text") from None


@click.command("del")
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PATH...")
@click.option("--everything", is_flag=True, help="Allow the root, with all that is stored.")
@common_options
def delete(paths: tuple[Path, ...], everything: bool, store: str | None, database: str | None, json_: bool) -> int:
    """Remove what is at and below each PATH; the status is 1 if there was nothing at one of them."""
    if () in paths and not everything:
        raise click.UsageError("the root is everything that is stored; if that is meant, give --everything")
    tree = opened(store, database).tree
    removed: list[Path] = []
    missing: list[Path] = []
    for path in paths:
        (removed if tree.run(tree.store.exists(path)) else missing).append(path)
        tree.write(tree.store.delete(path), path)
    if json_:
        print_json({"removed": [render(path) for path in removed], "missing": [render(path) for path in missing]})
    for path in () if json_ else missing:
        click.echo(f"redicts: nothing is stored at {described(path)}", err=True)
    return exits.NEGATIVE if missing else exits.DONE
