"""All that the author of a backend or codec imports from redicts. What is listed here changes with its version only.

A distribution that offers a backend names a module in an entry point of the group ``redicts.backends``, under the name
of the backend; a codec likewise in ``redicts.codecs``. The module says what it offers by a hook::

    from redicts.plugin import BackendPlugin, hookimpl

    @hookimpl
    def redicts_backends():
        return [BackendPlugin("table", TableSettings, open_table, contract=1, summary="a table of ours")]

``contract=1`` is the version that the module was written for: a number, not :data:`CONTRACT`, which is the version that
the installed redicts speaks and would always agree.
"""

from __future__ import annotations

from redicts.core.backend import Backend, BackendPlugin, BackendSettings, Capabilities
from redicts.core.codec import (
    Codec,
    CodecPlugin,
    CodecSettings,
    ForgedContent,
    JsonText,
    MisfitContent,
    TruncatedContent,
    UnknownType,
)
from redicts.core.documents import leaves_in
from redicts.core.hooks import CONTRACT, hookimpl
from redicts.core.listener import Listener
from redicts.core.transaction import (
    MAX_DEPTH,
    NOTHING,
    SMALL_PAGE,
    VALUES,
    Add,
    Answer,
    AnyRead,
    Check,
    Delete,
    Entries,
    Exactly,
    Expire,
    Key,
    Names,
    Outcome,
    Path,
    Prefixed,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
    Transaction,
    Verdict,
    Wake,
    Write,
    canonical_counter,
    fits_counter,
)

__all__ = [
    "CONTRACT",
    "MAX_DEPTH",
    "NOTHING",
    "SMALL_PAGE",
    "VALUES",
    "Add",
    "Answer",
    "AnyRead",
    "Backend",
    "BackendPlugin",
    "BackendSettings",
    "Capabilities",
    "Check",
    "Codec",
    "CodecPlugin",
    "CodecSettings",
    "Delete",
    "Entries",
    "Exactly",
    "Expire",
    "ForgedContent",
    "JsonText",
    "Key",
    "Listener",
    "MisfitContent",
    "Names",
    "Outcome",
    "Path",
    "Prefixed",
    "Put",
    "PutDocument",
    "Read",
    "ReadNames",
    "Scope",
    "Transaction",
    "TruncatedContent",
    "UnknownType",
    "Verdict",
    "Wake",
    "Write",
    "canonical_counter",
    "fits_counter",
    "hookimpl",
    "leaves_in",
]
