"""``get``, ``set`` and ``del``: read, replace and remove one value."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Container, Mapping
from typing import Any, Final, NamedTuple

import click

from redicts.cli import exits
from redicts.cli.confirming import MUCH, require, yes_option
from redicts.cli.numbers import TakesNumbers, Ttl
from redicts.cli.output import Document, echo, json_text, print_json, tell
from redicts.cli.stores import PATH, Store, reading_command, store_command, utf8
from redicts.cli.tables import leaves as leaves_of_number
from redicts.core.leaves import ABSENT, Packed, leaves_of
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render, shortened
from redicts.core.ttl import milliseconds
from redicts.errors import CorruptData
from redicts.transfer.leaves import UNREADABLE, pages
from redicts.transfer.lines import Refused, encoded, is_plain, refusal, unique_names


@click.command("get")
@click.argument("given", type=PATH, nargs=-1, required=True, metavar="PATH...")
@click.option("--text", is_flag=True, help="Print a text as it is, without quotes.")
@reading_command
def get(given: tuple[Path, ...], text: bool, store: Store, as_json: bool) -> int:
    """Print the value at each PATH as JSON.

    The status is 1 if nothing is stored at one of them. A leaf that JSON does not preserve, or that cannot be read
    here, is shown as an object with its stored bytes in base64. In the second case the reason is printed, and the
    status is 1. Each PATH is read by itself, and its value is one line, unless there is only one PATH.
    """
    found = [_read(store, path) for path in given]
    reasons = [reason for each in found for reason in each.shown.unreadable]
    for reason in reasons[:_MOST_REASONS]:
        tell(reason)
    if len(reasons) > _MOST_REASONS:
        tell(f"{len(reasons)} leaves cannot be read here; these are the first {_MOST_REASONS}")
    if as_json:
        documents = [each.document(store) for each in found]
        print_json(documents[0] if len(found) == 1 else {"values": documents})
    else:
        for each in found:
            _print(each, text=text, indent=2 if sys.stdout.isatty() and len(found) == 1 else None)
    return exits.DONE if all(each.is_there for each in found) and not reasons else exits.NEGATIVE


class _Found(NamedTuple):
    """A value that was read, as JSON shows it."""

    path: Path
    is_there: bool
    value: object
    shown: _Shown

    def document(self, store: Store) -> Document:
        """Return what JSON says of it."""
        ttl = store.database.run(store.database.store.ttl(self.path)) if self.is_there else None
        secs = None if ttl is None else ttl / 1000
        name, encoded = render(self.path), self.shown.encoded
        return {"path": name, "found": self.is_there, "value": self.value, "ttl": secs, "encoded": encoded}


def _read(store: Store, path: Path) -> _Found:
    database = store.database
    leaves = database.run(database.store.leaves(path))
    shown = _Shown()
    try:
        value = database.store.nested(path, leaves)
        plain = value is ABSENT or is_plain(value)
    except UNREADABLE:
        plain = False
    if not leaves:
        value = None
    elif not plain:
        value = shown.value_of(store, path, leaves)
    return _Found(path, bool(leaves), value, shown)


def _print(found: _Found, *, text: bool, indent: int | None) -> None:
    if not found.is_there:
        tell(f"nothing is stored at {described(found.path)}")
    elif text and isinstance(found.value, str):
        try:
            echo(found.value.encode())
        except UnicodeEncodeError:
            raise click.UsageError(
                "the text has lone surrogates, which no bytes in UTF-8 stand for; print it as JSON, without --text"
            ) from None
    else:
        echo(json_text(found.value, indent=indent))


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


@click.command("set", cls=TakesNumbers)
@click.argument("path", type=PATH)
@click.argument("value")
@click.option("--text", is_flag=True, help="VALUE is a text, not JSON.")
@click.option("--expire", type=Ttl(), metavar="SECONDS", help="The TTL. Default: no expiry.")
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
    what: Any = value_given(value, text=text)
    if packed:
        what = Packed(what)
    ttl = milliseconds(expire)
    database = store.database
    steps = database.store.write(path, what, ttl)
    kept = leaves_of(what, path, database.store.form)  # raises what the write would, before anybody is asked
    lost = count_lost(store, path, kept)
    if lost and not path:
        require(everything, "--everything", f"removes {many(lost)} of the root, which is everything that is stored")
    elif lost > MUCH:
        require(yes, "--yes", f"removes {many(lost)} below {described(path)}")
    database.write(steps, path)
    if as_json:
        print_json({"path": render(path), "stored": True, "ttl": expire})
    return exits.DONE


_COUNTED: Final = 10_000


def count_lost(store: Store, path: Path, kept: Container[Path] = ()) -> int:
    """Count the leaves at and below a path except some, up to a little more than :data:`_COUNTED`."""
    lost = 0
    for page in pages(store.database, path):
        lost += sum(leaf.path not in kept for leaf in page.leaves)
        if lost > _COUNTED:
            break
    return lost


def many(count: int) -> str:
    """Return a number of leaves that :func:`count_lost` counted."""
    return f"more than {_COUNTED} leaves" if count > _COUNTED else leaves_of_number(count)


def value_given(argument: str, *, text: bool) -> object:
    """Return the value of an argument: JSON or a text, from the standard input if it is ``-``.

    Raises ``click.UsageError`` if it is not valid.
    """
    given = _standard_input() if argument == "-" else utf8(argument, "VALUE")
    return given if text else parsed(given)


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"the standard input must be text in UTF-8; byte {error.start} is not") from None


def parsed(text: str) -> object:
    """Return the value of JSON text. Raises ``click.UsageError`` if it is not valid, or something would be lost."""
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
    store.require_writable()
    if () in paths:
        require(everything, "--everything", "removes the root, which is everything that is stored")
    else:
        lost = sum(count_lost(store, path) for path in dict.fromkeys(paths))
        if lost > MUCH:
            require(yes, "--yes", f"removes {many(lost)}")
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
