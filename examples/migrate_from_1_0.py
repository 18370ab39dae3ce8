#!/usr/bin/env python3
"""Moves what redicts 1.0 left in a Redis database into a tree of today.

    python3 examples/migrate_from_1_0.py --from redis://localhost:6379/0 --to sqlite:///state.db
    python3 examples/migrate_from_1_0.py --from redis://localhost:6379/0 --to redis://localhost:6379/1 --delete
    python3 examples/migrate_from_1_0.py --from redis://localhost:6379/0 --to redis://localhost:6379/0 --delete

The last one converts in place. Stop the programs that use 1.0 first. A run that was interrupted is continued by the
same command. The status is 0 if all is in the new tree, 1 if something was skipped, 2 if the run could not be ended.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import redis

from redicts import Pool, RedictsError, root
from redicts.migration import Migration, from_1_0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one migration and print its report. Returns the exit status."""
    given = parsed(arguments)
    try:
        client = redis.Redis.from_url(given.source)
    except ValueError:
        # The reason may hold a part of the URL, and so of a password.
        print("not moved: --from is no URL such as redis://user:password@host:6379/0", file=sys.stderr)
        return 2
    try:
        if given.prefix:
            Pool().reload(cfg={"backend": {"name": "redis", "url": given.to, "prefix": given.prefix}})
        else:
            Pool().reload(cfg=given.to)
        with client as source:
            report = from_1_0(source, root(), batch=given.batch, delete=given.delete, progress=show)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 2
    except (RedictsError, redis.RedisError) as error:
        print(f"not moved: {error}", file=sys.stderr)
        return 2
    if sys.stdout.isatty():
        print()
    print(report)
    return 0 if report.complete else 1


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description="Move the data of redicts 1.0 into a tree of today.")
    parser.add_argument("--from", dest="source", required=True, metavar="URL", help="the Redis database of 1.0")
    parser.add_argument("--to", required=True, metavar="URL", help="the new store, for instance sqlite:///state.db")
    parser.add_argument("--prefix", default="", help="what goes before all key names, if the new store is Redis")
    parser.add_argument("--batch", type=int, default=500, metavar="KEYS", help="how many keys at a time (500)")
    parser.add_argument("--delete", action="store_true", help="remove old keys that are in the new tree")
    return parser.parse_args(arguments)


def show(so_far: Migration) -> None:
    """Show how far it is, if somebody looks."""
    if sys.stdout.isatty():
        print(f"\r{so_far.read} read, {so_far.stored} stored", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
