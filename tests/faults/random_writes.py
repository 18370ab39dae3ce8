"""A program that makes random writes: ``python -m tests.faults.random_writes CFG SEED COUNT``."""

from __future__ import annotations

import json
import random
import sys
from typing import Any, Final

import redicts
from redicts import Database, Packed

NAMES: Final = ("a", "b", "c")


def write(db: Database, chance: random.Random, *, sharded: bool = False) -> None:
    """Make one write of any kind, at a path of up to four names; in one section if the store is sharded."""
    path = [chance.choice(NAMES) for _ in range(chance.randint(1, 4))]
    proxy, number = db.proxy(path), chance.randint(0, 9)
    kind = chance.randint(0, 11)
    if kind == 0:
        proxy.clear()
    elif kind == 1:
        db.root().delete(chance.choice(NAMES))
    elif kind == 2:
        proxy.put({f"n{each}": number for each in range(chance.choice((2, 30)))})
    elif kind == 3:
        proxy.put(number, expire=chance.choice((0.05, 0.3)))
    elif kind == 4:
        proxy.expire(chance.choice((None, 0.1, 100)))
    elif kind == 5:
        proxy.update({"a": {"b": number}, "x": number})
    elif kind == 6:
        with db.root().transaction() as changes:
            changes.set(path, number)
            changes.set((path[0] if sharded else chance.choice(NAMES)) + ".other", number)
    elif kind == 7:
        proxy.put(Packed({"p": number}))
    else:
        proxy.put(number)
    db.proxy("count").add(1)


def main(cfg: Any, seed: int, count: int) -> None:
    """Make so many writes."""
    chance = random.Random(seed)
    with redicts.open(cfg) as db:
        for _ in range(count):
            write(db, chance, sharded="cluster" in cfg)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
