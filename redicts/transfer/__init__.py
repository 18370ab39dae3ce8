"""Copy, compare, export and import subtrees between any two databases.

Leaves are stored in batches, with their TTLs. One transaction of the target stores a batch and a checkpoint together,
so a run may be interrupted anywhere, and the next run with the same arguments continues after the last complete batch.
Memory holds one batch, not the tree.
"""

from __future__ import annotations

from redicts.transfer.copying import Copy, copy
from redicts.transfer.importing import Import, import_lines
from redicts.transfer.lines import Exported, IncompleteInput, LineError, export_lines, lines_of_value
from redicts.transfer.verifying import Verification, verify

__all__ = [
    "Copy",
    "Exported",
    "Import",
    "IncompleteInput",
    "LineError",
    "Verification",
    "copy",
    "export_lines",
    "import_lines",
    "lines_of_value",
    "verify",
]
