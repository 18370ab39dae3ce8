"""The command ``redicts``. All of it but ``certify`` needs the extra ``cli``, and says so where that is missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from redicts.cli import exits, extra

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command line, by default that of this process, and return the exit status (see ``exits``)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["certify"]:
            from redicts.certify import certify_command  # noqa: PLC0415  (other commands need none of it)

            return certify_command(given[1:])
        from redicts.cli import program  # noqa: PLC0415  (needs the extra, which may be missing)
    except ModuleNotFoundError as error:
        said = extra.said_of(error)
        if said is None:
            raise
        sys.stderr.write(f"redicts: {said}\n")
        return exits.WRONG
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    return program.run(given)
