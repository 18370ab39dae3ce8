"""The command ``redicts``. It needs the extra ``cli``, and says so in one line where that is missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from redicts.cli import exits

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command line, by default that of this process, and return the exit status (see ``exits``)."""
    try:
        from redicts.cli import program  # noqa: PLC0415  (needs the extra, which may be missing)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("redicts"):
            raise
        sys.stderr.write(f"redicts: the command line needs {error.name}; install it with: pip install 'redicts[cli]'\n")
        return exits.WRONG
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    return program.run(sys.argv[1:] if arguments is None else arguments)
