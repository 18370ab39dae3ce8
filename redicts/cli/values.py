"""``get``, ``set`` and ``del``: read, replace and remove one value."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Container, Mapping
from typing import Any, Final

import click

from redicts.cli import exits
from redicts.cli.confirming import MUCH, require, yes_option
from redicts.cli.output import echo, json_text, print_json, tell
from redicts.cli.stores import PATH, Store, reading_command, store_command, utf8
from redicts.core.leaves import ABSENT, Packed, leaves_of
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render, shortened
from redicts.core.ttl import milliseconds
from redicts.errors import CorruptData
from redicts.transfer.leaves import UNREADABLE, pages
from redicts.transfer.lines import Refused, encoded, is_plain, refusal, unique_names


@click.command("get")
@click.argument("path", type=PATH)
@click.option("--text", is_flag=True, help="Print a text as it is, without quotes.")
@reading_command
def get(path: Path, text: bool, store: Store, as_json: bool) -> int:
    """Print the value at PATH as JSON.

    The status is 1 if nothing is stored there. A leaf that JSON does not preserve, or that cannot be read here, is
    shown as an object with its stored bytes in base64. In the second case the reason is printed, and the status is 1.
    """
    database = store.database
    leaves = database.run(database.store.leaves(path))
    shown = _Shown()
    try:
        value = database.store.nested(path, leaves)
        plain = value is ABSENT or is_plain(value)
    except UNREADABLE:
        plain = False
    found = bool(leaves)
    if not found:
        value = None
    elif not plain:
        value = shown.value_of(store, path, leaves)
    for reason in shown.unreadable[:_MOST_REASONS]:
        tell(reason)
    if len(shown.unreadable) > _MOST_REASONS:
        tell(f"{len(shown.unreadable)} leaves cannot be read here; these are the first {_MOST_REASONS}")
    if as_json:
        ttl = database.run(database.store.ttl(path)) if found else None
        secs = None if ttl is None else ttl / 1000
        print_json({"path": render(path), "found": found, "value": value, "ttl": secs, "encoded": shown.encoded})
    elif not found:
        tell(f"nothing is stored at {described(path)}")
    elif text and isinstance(value, str):
        try:
            echo(value.encode())
        except UnicodeEncodeError:
            raise click.UsageError(
                "the text has lone surrogates, which no bytes in UTF-8 stand for; print it as JSON, without --text"
            ) from None
    else:
        echo(json_text(value, indent=2 if sys.stdout.isatty() else None))
    return exits.DONE if found and not shown.unreadable else exits.NEGATIVE


_MOST_REASONS: Final = 100


class _Shown:
    """A value in which bytes stand for the leaves that JSON does not preserve, or that cannot be read here."""

    def __init__(self) -> None:
        self.encoded: list[str] = []
        """The paths of these leaves."""
        self.unreadable: list[str] = []
        """Why leaves cannot be read here."""

    def value_of(self, store: Store, path: Path, leaves: Mapping[Path, bytes]) -> object:
        """Nest leaves. Raises :class:`~redicts.errors.CorruptData` if they are not a tree."""
        whole: Any = {}
        for below, data in leaves.items():
            value = self._shown(store, path + below, data)
            if not below:
                if len(leaves) > 1:
                    raise _both(path)
                return value
            node = whole
            for depth, name in enumerate(below[:-1], start=1):
                if below[:depth] in leaves:
                    raise _both(path + below[:depth])
                node = node.setdefault(name, {})
            node[below[-1]] = value
        return whole

    def _shown(self, store: Store, path: Path, data: bytes) -> object:
        try:
            value = store.database.store.decoded(path, data)
        except UNREADABLE as error:
            self.unreadable.append(str(error))
        else:
            if is_plain(value):
                return value
        self.encoded.append(render(path))
        return encoded(data)


def _both(path: Path) -> CorruptData:
    return CorruptData(f"both a value and values below it are stored at {described(path)}; see redicts doctor")


@click.command("set")
@click.argument("path", type=PATH)
@click.argument("value")
@click.option("--text", is_flag=True, help="VALUE is a text, not JSON.")
@click.option("--expire", type=float, metavar="SECONDS", help="The TTL. Default: no expiry.")
@click.option("--packed", is_flag=True, help="Store a JSON object as one leaf.")
@click.option("--everything", is_flag=True, help="Allow the root, with all that is stored.")
@yes_option
@store_command
def set_(
    path: Path,
    value: str,
    text: bool,
    expire: float | None,
    packed: bool,
    everything: bool,
    yes: bool,
    store: Store,
    as_json: bool,
) -> int:
    """Replace what is at PATH by VALUE.

    VALUE is JSON, or - to read it from the standard input, in UTF-8. If more than a few leaves would be removed, or
    any of the root, the command asks first.
    """
    given = _read() if value == "-" else utf8(value, "VALUE")
    what: Any = given if text else _parsed(given)
    if packed:
        what = Packed(what)
    ttl = milliseconds(expire)
    database = store.database
    steps = database.store.write(path, what, ttl)
    kept = leaves_of(what, path, database.store.form)  # raises what the write would, before anybody is asked
    lost = _count_lost(store, path, kept)
    if lost and not path:
        require(everything, "--everything", f"removes {_many(lost)} of the root, which is everything that is stored")
    elif lost > MUCH:
        require(yes, "--yes", f"removes {_many(lost)} below {described(path)}")
    database.write(steps, path)
    if as_json:
        print_json({"path": render(path), "stored": True, "ttl": expire})
    return exits.DONE


_COUNTED: Final = 10_000


def _count_lost(store: Store, path: Path, kept: Container[Path] = ()) -> int:
    """Count the leaves at and below a path except some, up to a little more than :data:`_COUNTED`."""
    lost = 0
    for page in pages(store.database, path):
        lost += sum(leaf.path not in kept for leaf in page.leaves)
        if lost > _COUNTED:
            break
    return lost


def _many(leaves: int) -> str:
    return f"more than {_COUNTED} leaves" if leaves > _COUNTED else f"{leaves} leaves"


def _read() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"the standard input must be text in UTF-8; byte {error.start} is not") from None


def _parsed(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=unique_names, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        reason = f"{refusal(error)}{where}"
    raise click.UsageError(f"VALUE is not valid JSON: {reason}; pass --text to store a text")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise Refused(f"the number {shortened(text)} is too large, and would become infinite")
    return number


@click.command("del")
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PATH...")
@click.option("--everything", is_flag=True, help="Allow the root, with all that is stored.")
@yes_option
@reading_command
def delete(paths: tuple[Path, ...], everything: bool, yes: bool, store: Store, as_json: bool) -> int:
    """Remove what is at and below each PATH.

    The status is 1 if nothing was stored at one of them. If more than a few leaves would be removed, the command asks
    first.
    """
    if () in paths:
        require(everything, "--everything", "removes the root, which is everything that is stored")
    else:
        lost = sum(_count_lost(store, path) for path in dict.fromkeys(paths))
        if lost > MUCH:
            require(yes, "--yes", f"removes {_many(lost)}")
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
