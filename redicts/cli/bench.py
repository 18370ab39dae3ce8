"""``bench``: how fast this store is on this machine, beside the plainest way to do the same without redicts."""

from __future__ import annotations

import json
import os
import platform
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, Final, NamedTuple

import click

from redicts.cli import exits
from redicts.cli.output import console, print_json
from redicts.cli.stores import Store, common_options, opened

Call = Callable[[], object]

_LEAVES: Final = {f"name{number:02}": number for number in range(100)}
_PLAIN: Final = {name: str(number) for name, number in _LEAVES.items()}
_LIFE: Final = 600
"""Seconds after which whatever a run that was killed has left behind is gone."""


class Rival(NamedTuple):
    """The plainest way to do the same: what it is, and one call for each operation that it has."""

    name: str
    calls: dict[str, Call]


@click.command("bench")
@click.option("--rounds", type=click.IntRange(min=10), default=500, show_default=True, help="Calls of each kind.")
@common_options
def bench(rounds: int, store: str | None, database: str | None, json_: bool) -> int:
    """Measure the store: leaves, dicts of 100 leaves and locks, beside the raw client where there is one.

    It writes below a name of its own, removes that at the end, and asks nothing of anything else. Beside a ratio is
    what was compared: on Redis the commands of redis-py, on SQLite a table of texts in a file in the same directory,
    with the same journal and the same durability. Both take turns, and medians are compared.
    """
    where = opened(store, database)
    with _ours(where) as ours, _rival(where) as rival:
        times = _medians({("ours", what): call for what, call in ours.items()} | _named(rival), rounds)
    rows = []
    for what in ours:
        mine, theirs = times["ours", what], times.get(("theirs", what))
        ratio = None if theirs is None else round(mine / theirs, 2)
        beside = rival.name if theirs is not None else None
        rows.append(
            {"what": what, "us": round(mine, 1), "beside": beside, "their_us": _rounded(theirs), "ratio": ratio}
        )
    if json_:
        about = {"python": platform.python_version(), "machine": platform.machine(), "cpus": os.cpu_count()}
        print_json({"store": where.place, "rounds": rounds, **about, "rows": rows})
    else:
        _draw(where, rounds, rows)
    return exits.DONE


def _rounded(time_us: float | None) -> float | None:
    return None if time_us is None else round(time_us, 1)


def _named(rival: Rival) -> dict[tuple[str, str], Call]:
    return {("theirs", what): call for what, call in rival.calls.items()}


def _medians(calls: dict[tuple[str, str], Call], rounds: int) -> dict[tuple[str, str], float]:
    """Return the median time of each call in microseconds; they take turns, so that drift meets all alike."""
    taken: dict[tuple[str, str], list[float]] = {name: [] for name in calls}
    for number in range(-(rounds // 10), rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number >= 0:
                taken[name].append(time.perf_counter() - start)
    return {name: median(times) * 1e6 for name, times in taken.items()}


@contextmanager
def _ours(where: Store) -> Iterator[dict[str, Call]]:
    """Give the calls of redicts, and remove what they wrote."""
    from redicts.front.lock import Lock  # noqa: PLC0415  (help needs none of it)

    tree, store = where.tree, where.tree.store
    own = (f"redicts-bench-{secrets.token_hex(8)}",)
    life = _LIFE * 1000 if tree.backend.capabilities.life else None

    def write(name: str, value: object) -> None:
        tree.run(store.write((*own, name), value, life))

    def lock() -> None:
        held.acquire()
        held.release()

    calls: dict[str, Call] = {
        "write one leaf": lambda: write("leaf", 42),
        "read one leaf": lambda: tree.read((*own, "leaf")),
        "count": lambda: tree.run(store.add((*own, "count"), 1)),
        "write a dict of 100 leaves": lambda: write("dict", _LEAVES),
        "read a dict of 100 leaves": lambda: tree.read((*own, "dict")),
    }
    if life is not None:
        held = Lock(tree.backend, [*own, "lock"])
        calls["acquire and release a lock"] = lock
    try:
        write("count", 0)
        yield calls
    finally:
        tree.run(store.delete(own))


@contextmanager
def _rival(where: Store) -> Iterator[Rival]:
    client = getattr(where.tree.backend, "client", None)
    path = where.place.get("path")
    if client is not None:
        with _redis(client) as rival:
            yield rival
    elif where.settings.backend == "sqlite" and path not in (None, ":memory:"):
        with _sqlite(os.path.dirname(path)) as rival:
            yield rival
    else:
        yield Rival("nothing", {})


@contextmanager
def _redis(client: Any) -> Iterator[Rival]:
    own = f"redicts-bench:{secrets.token_hex(8)}:"
    keys = [own + name for name in ("leaf", "count", "dict", "lock")]
    leaf, count, branch, lock = keys

    def locked() -> None:
        held = client.lock(lock, timeout=30)
        held.acquire()
        held.release()

    try:
        yield Rival(
            "redis-py",
            {
                "write one leaf": lambda: client.set(leaf, "42", ex=_LIFE),
                "read one leaf": lambda: client.get(leaf),
                "count": lambda: client.incrby(count, 1),
                "write a dict of 100 leaves": lambda: client.hset(branch, mapping=_PLAIN),
                "read a dict of 100 leaves": lambda: client.hgetall(branch),
                "acquire and release a lock": locked,
            },
        )
    finally:
        client.delete(*keys)


@contextmanager
def _sqlite(directory: str) -> Iterator[Rival]:
    with tempfile.TemporaryDirectory(prefix="redicts-bench-", dir=directory or ".") as own:
        link = sqlite3.connect(os.path.join(own, "rival.db"), isolation_level=None)
        link.execute("PRAGMA journal_mode = WAL")
        link.execute("PRAGMA synchronous = NORMAL")
        link.execute("CREATE TABLE texts (name TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID")
        put, look = "INSERT OR REPLACE INTO texts VALUES (?, ?)", "SELECT text FROM texts WHERE name = ?"
        add = (
            "INSERT INTO texts VALUES ('count', '1') "
            "ON CONFLICT (name) DO UPDATE SET text = CAST(CAST(text AS INTEGER) + 1 AS TEXT)"
        )

        def write_all() -> None:
            link.execute("BEGIN IMMEDIATE")
            link.executemany(put, [(f"dict.{name}", json.dumps(value)) for name, value in _LEAVES.items()])
            link.execute("COMMIT")

        def read_all() -> dict[str, object]:
            rows = link.execute("SELECT name, text FROM texts WHERE name >= 'dict.' AND name < 'dict/'")
            return {name: json.loads(text) for name, text in rows}

        try:
            yield Rival(
                "sqlite3",
                {
                    "write one leaf": lambda: link.execute(put, ("leaf", json.dumps(42))),
                    "read one leaf": lambda: json.loads(link.execute(look, ("leaf",)).fetchone()[0]),
                    "count": lambda: link.execute(add),
                    "write a dict of 100 leaves": write_all,
                    "read a dict of 100 leaves": read_all,
                },
            )
        finally:
            link.close()


def _draw(where: Store, rounds: int, rows: list[dict[str, Any]]) -> None:
    from rich.table import Table  # noqa: PLC0415  (takes a while, and JSON needs none of it)

    title = f"{where}, Python {platform.python_version()}, medians of {rounds} calls in turn"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for name in ("redicts", "beside it", "", "ratio"):
        table.add_column(name, justify="right")
    for row in rows:
        theirs = (
            ("-", "-", "-") if row["ratio"] is None else (row["beside"], f"{row['their_us']} us", f"{row['ratio']}")
        )
        table.add_row(row["what"], f"{row['us']} us", *theirs)
    console().print(table)
