"""``edit``: change a value in a text editor, under its lock."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path as File

import click

from redicts.cli import exits
from redicts.cli.confirming import answer, can_ask
from redicts.cli.numbers import Seconds
from redicts.cli.output import print_json, tell
from redicts.cli.stores import PATH, Store, store_command
from redicts.cli.values import parsed
from redicts.core.leaves import ABSENT, leaves_of
from redicts.core.minitransaction import Path
from redicts.core.paths import described, render
from redicts.errors import Conflict, LeafError, PathError, RedictsError
from redicts.transfer.lines import is_plain, plain_text

_DEFAULT_EDITOR = "notepad" if os.name == "nt" else "vi"


@click.command("edit", short_help="Change the value at PATH in your editor, under its lock.")
@click.argument("path", type=PATH)
@click.option(
    "--timeout",
    type=Seconds(0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait no longer for the lock.",
)
@store_command
def edit(path: Path, timeout: float, store: Store, as_json: bool) -> int:
    """Change the value at PATH in your editor, as JSON, under its lock.

    The editor is that of VISUAL or EDITOR. The lock is renewed while it is open. If the text is not valid, you are
    asked to correct it on a terminal; elsewhere nothing is stored, the status is 2, and the text stays in its file.
    TTLs stay, and so does what has not changed.
    """
    if _editor() == _DEFAULT_EDITOR and not sys.stdin.isatty():
        raise click.UsageError(f"the editor {_DEFAULT_EDITOR} needs a terminal; set EDITOR to one that needs none")
    database = store.database
    with database.lock(path, acquire_timeout=timeout, renew=True) as lock:
        old = database.run(database.store.read(path))
        if not is_plain(old) and old is not ABSENT:
            raise LeafError(f"{described(path)} has values that JSON does not preserve; edit a part without them")
        new, file = _edited(store, path, old)
        is_changed = new is not ABSENT and (old is ABSENT or plain_text(new) != plain_text(old))
        if is_changed:
            try:
                lock.ensure_held()
                database.write(database.store.change(path, _replacing(path, old, new)), path)
            except RedictsError:
                tell(f"nothing is stored; your text is in {file}")
                raise
    file.unlink()
    if as_json:
        print_json({"path": render(path), "changed": is_changed})
    elif not is_changed:
        tell("nothing is changed")
    return exits.DONE


def _replacing(path: Path, old: object, new: object) -> Callable[[object], object]:
    """Return the function that replaces a value by another one, unless it has changed meanwhile."""

    def replace(now: object) -> object:
        if (now is ABSENT) is not (old is ABSENT) or (now is not ABSENT and plain_text(now) != plain_text(old)):
            raise Conflict(f"{described(path)} was changed meanwhile by a program that does not lock it")
        return new

    return replace


def _edited(store: Store, path: Path, old: object) -> tuple[object, File]:
    """Return the value that the user has made of another one, ``ABSENT`` if it is to stay, and the file of its text."""
    text = "" if old is ABSENT else f"{json.dumps(old, indent=2, ensure_ascii=False)}\n"
    number, name = tempfile.mkstemp(prefix="redicts-", suffix=".json")
    file = File(name)
    with open(number, "w", encoding="utf-8") as opened:
        opened.write(text)
    while True:
        _open_editor(file)
        changed = file.read_bytes()
        if not changed.strip() or changed == text.encode():
            return ABSENT, file
        try:
            new = parsed(_decoded(changed))
            leaves_of(new, path, store.database.store.form)
        except (click.UsageError, LeafError, PathError) as error:
            reason = str(error).replace("VALUE", "the text").partition("; pass --text")[0]
        else:
            return new, file
        if not (can_ask() and answer(f"{reason}; edit it again? [Y/n]") in ("", "y", "yes")):
            raise click.UsageError(f"{reason}; nothing is stored, and your text is in {file}")


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"the text must be UTF-8; byte {error.start} is not") from None


def _editor() -> str:
    return os.environ.get("VISUAL") or os.environ.get("EDITOR") or _DEFAULT_EDITOR


def _open_editor(file: File) -> None:
    editor = _editor()
    try:
        status = subprocess.run([*shlex.split(editor), str(file)], check=False).returncode  # noqa: S603  (the user's)
    except (OSError, ValueError) as error:
        file.unlink()
        reason = getattr(error, "strerror", None) or error
        raise click.UsageError(f"the editor {editor!r} cannot be started ({reason}); set EDITOR") from None
    if status:
        raise click.UsageError(f"the editor ended with status {status}; nothing is stored, your text is in {file}")
