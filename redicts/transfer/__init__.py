"""Moves whole subtrees: between stores of any kind, to files, and back from files.

Leaves go in batches with their TTLs. A batch is stored whole or not at all, and together with a mark of how far the
work has come, in one transaction of the target. So a run may end anywhere, by whatever, and the next one with the same
arguments goes on from the last batch. Memory is needed for one batch, not for the tree.
"""

from __future__ import annotations

from redicts.transfer.copying import Copy, copy
from redicts.transfer.importing import Import, import_lines
from redicts.transfer.lines import Exported, LineError, export_lines, lines_of_value
from redicts.transfer.verifying import Verification, verify

__all__ = [
    "Copy",
    "Exported",
    "Import",
    "LineError",
    "Verification",
    "copy",
    "export_lines",
    "import_lines",
    "lines_of_value",
    "verify",
]
