"""Plugin hooks: how a module registers backends and codecs, and the version of their contract.

A distribution names its module in an entry point of the group :data:`BACKENDS` or :data:`CODECS`, under the name of the
backend or codec. redicts imports the module when that name is first chosen, and calls its hook::

    from redicts.core.hooks import hookimpl

    @hookimpl
    def redicts_backends():
        return [BackendPlugin("table", TableSettings, open_table, contract=1)]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    from redicts.core.backend import BackendPlugin
    from redicts.core.codec import CodecPlugin

CONTRACT: Final = 1
"""The version of the contract for backends and codecs that this version of redicts supports."""

PROJECT: Final = "redicts"
BACKENDS: Final = "redicts.backends"
CODECS: Final = "redicts.codecs"

hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)


@hookspec
def redicts_backends() -> Sequence[BackendPlugin]:  # type: ignore[empty-body]  # a specification has none
    """Return the backends of this module. Called when one of them is first chosen or listed; it does no I/O."""


@hookspec
def redicts_codecs() -> Sequence[CodecPlugin]:  # type: ignore[empty-body]  # a specification has none
    """Return the codecs of this module. Called when one of them is first chosen or listed; it does no I/O."""
