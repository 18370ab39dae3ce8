"""Keep an inventory of the installed packages in a shared tree, and let several processes complete it.

The document has every installed distribution with its version, its requirements and the size of each of its files. It
is stored as one nested dict. Then several processes read it, count the lines of the files, and add the results to the
same tree concurrently. The last lines show that no change is lost.

    python examples/inventory.py                                       # SQLite, a temporary file
    python examples/inventory.py --store sqlite:///state.db            # SQLite, this file
    python examples/inventory.py --store redis://localhost:6379/0      # Redis

It uses the section ``inventory`` of the store and empties it first.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from redicts import Pool, section


def document() -> dict[str, Any]:
    """Return the nested dict of all installed distributions."""
    packages: dict[str, Any] = {}
    for distribution in metadata.distributions():
        files = {}
        for file in distribution.files or ():
            path = Path(str(distribution.locate_file(file)))
            if path.is_file():
                files[str(file)] = {"bytes": path.stat().st_size, "path": str(path)}
        packages[distribution.metadata["Name"]] = {
            "version": distribution.version,
            "summary": distribution.metadata["Summary"],
            "requires": sorted(distribution.requires or []),
            "files": files,
        }
    return packages


def count_lines(store: str, names: list[str]) -> None:
    """Count the lines of some packages' files, and add them to the tree, as one of the processes."""
    Pool().reload(cfg=store)
    inventory = section("inventory")
    for name in names:
        for file, about in inventory.get(["packages", name, "files"]).val({}).items():
            lines = Path(about["path"]).read_bytes().count(b"\n")
            # A file's name contains dots, so its path is given segment by segment. The three changes are applied
            # atomically, so a reader always sees a total that fits the files.
            with inventory.transaction() as changes:
                changes.set(["packages", name, "files", file, "lines"], lines)
                changes.add(["packages", name, "lines"], lines)
                changes.add("totals.lines", lines)


def main() -> None:
    """Store the document, complete it from several processes, and check the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="the URL of the store (default: SQLite in a temporary directory)")
    parser.add_argument("--processes", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        run(options.store or f"sqlite:///{directory}/inventory.db", options.processes)


def run(store: str, processes: int) -> None:
    """Store and complete the document on one store."""
    Pool().reload(cfg=store)
    inventory = section("inventory")
    inventory.clear()
    print(f"backend {Pool().settings.backend}")

    packages = document()
    start = time.perf_counter()
    inventory.set("packages", packages)
    leaves = sum(1 for _ in inventory.iter_children())
    print(f"stored {len(packages)} packages, {leaves} leaves in {time.perf_counter() - start:.2f} seconds")

    largest = max(packages, key=lambda name: len(packages[name]["files"]))
    package = inventory.get(["packages", largest])
    print(f"one leaf:    {package.get('version').key()} = {package.get('version').val()!r}")
    print(f"a subtree:   {package.get('files').key()} has {len(package.get('files'))} files")
    print(f"equal:       {inventory.get('packages').val() == packages}")

    start = time.perf_counter()
    names = sorted(packages)
    workers = [
        multiprocessing.get_context("spawn").Process(target=count_lines, args=(store, names[number::processes]))
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a process failed with the error above")
    print(f"{processes} processes counted lines in {time.perf_counter() - start:.2f} seconds")

    after = inventory.val()
    by_file = sum(file["lines"] for package in after["packages"].values() for file in package["files"].values())
    by_package = sum(package.get("lines", 0) for package in after["packages"].values())
    print(f"lines: {by_file} by file, {by_package} by package, {after['totals']['lines']} in total")
    if not by_file == by_package == after["totals"]["lines"]:
        raise SystemExit("the sums differ: a change was lost")
    for name, package in sorted(after["packages"].items(), key=lambda item: -item[1].get("lines", 0))[:5]:
        print(f"  {name:24} {package['version']:12} {len(package['files']):5} files {package.get('lines', 0):8} lines")
    Pool().reload(cfg={"backend": "memory"})


if __name__ == "__main__":
    main()
