#!/usr/bin/env python3
"""Move the data of redicts 1.0 from a Redis database into a store of this version.

    python3 examples/migrate_from_1_0.py --from redis://localhost:6379/0 --to sqlite:///state.db
    python3 examples/migrate_from_1_0.py --from redis://localhost:6379/0 --to redis://localhost:6379/1 --delete
    python3 examples/migrate_from_1_0.py --from redis://localhost:6379/0 --to redis://localhost:6379/0 --delete

The last one converts in place. Stop the programs that use 1.0 first. The same command continues an interrupted run. The
status is 0 if everything was moved, 1 if a key was skipped, and 2 if the run failed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import redis

from redicts import Pool, RedictsError, root
from redicts.migration import Migration, from_1_0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one migration, print its report and return the exit status."""
    options = parse(arguments)
    try:
        client = redis.Redis.from_url(options.source)
    except ValueError:
        # The reason may have a part of the URL, and so of a password.
        print("not moved: --from must be a URL such as redis://user:password@host:6379/0", file=sys.stderr)
        return 2
    settings = {"backend": {"name": "redis", "url": options.to, "prefix": options.prefix}}
    try:
        Pool().reload(cfg=settings if options.prefix else options.to)
        with client as source:
            report = from_1_0(source, root(), batch=options.batch, delete=options.delete, progress=show)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues", file=sys.stderr)
        return 2
    except (RedictsError, redis.RedisError) as error:
        print(f"not moved: {error}", file=sys.stderr)
        return 2
    if sys.stdout.isatty():
        print()
    print(report)
    return 0 if report.complete else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Move the data of redicts 1.0 into a store of this version.")
    parser.add_argument("--from", dest="source", required=True, metavar="URL", help="the Redis database of 1.0")
    parser.add_argument("--to", required=True, metavar="URL", help="the new store, for instance sqlite:///state.db")
    parser.add_argument("--prefix", default="", help="the prefix of all key names, if the new store is Redis")
    parser.add_argument("--batch", type=int, default=500, metavar="KEYS", help="keys per request (500)")
    parser.add_argument("--delete", action="store_true", help="remove old keys that are in the new store")
    return parser.parse_args(arguments)


def show(so_far: Migration) -> None:
    """Show the progress on a terminal."""
    if sys.stdout.isatty():
        print(f"\r{so_far.read} read, {so_far.stored} stored", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
