"""Runs the scenarios of outages, and prints what each of them cost.

    python -m tests.outages [sentinel] [cluster] [--only TEXT]

Without names, all modules of this package that have scenarios run. ``--only`` chooses the scenarios whose names contain
a text. The status is 1 if a bound is broken. ``REDICTS_TEST_REDIS`` names the executable of the servers, by default the
newest one.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from typing import Final

from tests.outages.table import Row, Scenario, broken_bounds, printed

MODULES: Final = ("sentinel", "cluster")


def main(arguments: list[str]) -> int:
    """Run the chosen scenarios one after the other; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.outages", description="Outages under load, and their cost.")
    parser.add_argument("modules", nargs="*", metavar="|".join(MODULES), help="which servers; all by default")
    parser.add_argument("--only", default="", metavar="TEXT", help="run the scenarios whose names contain this text")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.modules) - set(MODULES):
        parser.error(f"there are the modules {' and '.join(MODULES)}, and no {min(unknown)}")
    rows: list[Row] = []
    for scenario in _scenarios(chosen.modules or MODULES):
        if chosen.only in scenario.name:
            sys.stderr.write(f"{scenario.name} ...\n")
            rows.append(scenario.run())
    broken = [text for row in rows for text in broken_bounds(row)]
    sys.stdout.write(printed(rows) + "\n")
    sys.stdout.writelines(f"BROKEN {text}\n" for text in broken)
    return 1 if broken or not rows else 0


def _scenarios(names: list[str] | tuple[str, ...]) -> list[Scenario]:
    found: list[Scenario] = []
    for name in names:
        module = f"{__package__}.{name}"
        if importlib.util.find_spec(module) is not None:
            found += importlib.import_module(module).SCENARIOS
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
