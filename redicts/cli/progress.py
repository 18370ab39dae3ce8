"""Progress of long work: a bar on the terminal of whoever waits, nothing where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

Advance = Callable[[int], None]
"""Called with how much is done by now."""

_SILENT: Final[Advance] = lambda _: None  # noqa: E731


def is_watched() -> bool:
    """Whether the standard error is a terminal."""
    return sys.stderr.isatty()


@contextmanager
def bar(what: str, total: int | None) -> Iterator[Advance]:
    """Show a bar on the standard error for as long as the block runs, if that is a terminal.

    ``total`` is what is to be done in the end, ``None`` if that is not known.
    """
    if not is_watched():
        yield _SILENT
        return
    from rich.progress import (  # noqa: PLC0415  (takes a while, and scripts need none of it)
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from redicts.cli.output import console  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console(stderr=True)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)
