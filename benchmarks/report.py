"""Measuring and reporting, shared by the benchmarks: alternating calls, rows with bounds, the command line."""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import redis

from tests.support.executables import find_executables
from tests.support.servers import RedisServer


def medians(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median time of each call in microseconds; the calls alternate, so that drift affects all alike."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for warm_up in (True, False):
        for _ in range(rounds // 10 if warm_up else rounds):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                if not warm_up:
                    taken[name].append(time.perf_counter() - start)
    return {name: median(times) * 1e6 for name, times in taken.items()}


def row(
    what: str,
    ours: float,
    theirs: float,
    baseline: str,
    most: float | None,
    unit: str,
    *,
    least: float | None = None,
) -> dict[str, Any]:
    """Return one row of the result; its bound is the most, or the least, that the ratio of ours to theirs may be."""
    ratio = ours / theirs
    return {
        "what": what,
        "redicts": round(ours, 1),
        "baseline": baseline,
        "theirs": round(theirs, 1),
        "unit": unit,
        "ratio": round(ratio, 2),
        "bound": f"at most {most}" if most is not None else f"at least {least}" if least is not None else None,
        "kept": (most is None or ratio <= most) and (least is None or ratio >= least),
    }


def options(description: str | None, rounds: int) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help="counted calls of each kind (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write JSON to a file too, for benchmarks.plots")
    return parser.parse_args()


def report(about: str, asked: argparse.Namespace, rows: list[dict[str, Any]]) -> int:
    """Print the rows; return the exit status: 0 if every bound is kept, else 1."""
    result = json.dumps({"about": about, "rounds": asked.rounds, "rows": rows}, indent=2)
    if asked.save:
        asked.save.write_text(f"{result}\n", encoding="utf-8")
    if asked.json:
        print(result)
    else:
        print(f"{about}, medians of {asked.rounds} alternating calls")
        for line in rows:
            kept = "kept" if line["kept"] else "BROKEN"
            bound = "" if line["bound"] is None else f"  ({line['bound']}: {kept})"
            print(
                f"{line['what']:44} {line['redicts']:9} {line['unit']:7}  {line['baseline']:20} {line['theirs']:9}"
                f"  ratio {line['ratio']:6.2f}{bound}"
            )
    return 0 if all(line["kept"] for line in rows) else 1


def report_on_redis(description: str | None, measure: Callable[[RedisServer, int], list[dict[str, Any]]]) -> int:
    """Start the newest Redis server found, measure on it, and report; return the exit status."""
    asked = options(description, 2000)
    executable = find_executables()[-1]
    with RedisServer(executable) as server:
        rows = measure(server, asked.rounds)
    return report(f"{executable}, redis-py {redis.__version__}, Python {platform.python_version()}", asked, rows)
