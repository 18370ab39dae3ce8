"""Copy, compare, export and import subtrees between any two databases.

Leaves are stored in batches, with their TTLs. One transaction of the target stores a batch and a checkpoint together,
so a run may be interrupted anywhere, and the next run with the same arguments continues after the last complete batch.
Memory holds one batch, not the tree.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
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

_MODULES: Final = {
    "Copy": "copying",
    "copy": "copying",
    "Import": "importing",
    "import_lines": "importing",
    "Exported": "lines",
    "IncompleteInput": "lines",
    "LineError": "lines",
    "export_lines": "lines",
    "lines_of_value": "lines",
    "Verification": "verifying",
    "verify": "verifying",
}
"""The module of each name. Most commands need one of them, and start faster without the others."""


def __getattr__(name: str) -> Any:
    """Import the module of a name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
