"""The command ``redicts``, which needs the extra ``cli``; its command ``certify`` needs the extra ``contract``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from redicts.cli import exits, extra
from redicts.cli.output import prepare_streams, tell

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, by default that of this process, and return the exit status (see ``exits``)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        from redicts.cli import program  # noqa: PLC0415  (needs an extra, which may be missing)
    except ModuleNotFoundError as error:
        said = extra.said_of(error)
        if said is None:
            raise
        prepare_streams()
        tell(said.replace("redicts[cli]", "redicts[contract]") if given[:1] == ["certify"] else said)
        return exits.WRONG
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    return program.run(given)
