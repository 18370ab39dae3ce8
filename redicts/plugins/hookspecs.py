"""The hooks by which the module of a plugin offers backends and codecs.

A distribution names its module in an entry point of the group ``redicts.backends`` or ``redicts.codecs``, under the
name of the backend or codec. redicts imports the module when that name is first chosen, and calls its hook::

    from redicts.plugin import BackendPlugin, hookimpl

    @hookimpl
    def redicts_backends():
        return [BackendPlugin("table", TableSettings, open_table, contract=1)]
"""

from __future__ import annotations

from collections.abc import Sequence

from redicts.core.backend import BackendPlugin
from redicts.core.codec import CodecPlugin
from redicts.core.hooks import hookspec


@hookspec
def redicts_backends() -> Sequence[BackendPlugin]:  # type: ignore[empty-body]  # a specification has none
    """Return the backends of this module. Called when one of them is first chosen or listed; it does no I/O."""


@hookspec
def redicts_codecs() -> Sequence[CodecPlugin]:  # type: ignore[empty-body]  # a specification has none
    """Return the codecs of this module. Called when one of them is first chosen or listed; it does no I/O."""
