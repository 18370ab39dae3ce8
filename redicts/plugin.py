"""The stable interface for authors of backends and codecs: they need to import nothing else of redicts.

A distribution that offers a backend names a module in an entry point of the group ``redicts.backends``, under the name
of the backend; a codec likewise in ``redicts.codecs``. The module offers its plugins by a hook::

    from redicts.plugin import BackendPlugin, hookimpl

    @hookimpl
    def redicts_backends():
        return [BackendPlugin("table", TableSettings, open_table, contract=1, summary="a table of ours")]

``contract=1`` is the version of the contract for which the module was written. Write it as a number: :data:`CONTRACT`
is the version that the installed redicts supports, and would always match.
"""

from __future__ import annotations

from redicts.core.backend import Backend, BackendPlugin, BackendSettings, Capabilities
from redicts.core.codec import (
    BadSignatureContent,
    Codec,
    CodecPlugin,
    CodecSettings,
    JsonText,
    TruncatedContent,
    UnknownType,
    ValidationFailedContent,
)
from redicts.core.documents import leaves_in
from redicts.core.entry_points import CONTRACT
from redicts.core.hooks import hookimpl
from redicts.core.listener import Listener
from redicts.core.minitransaction import (
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
    Equals,
    Expire,
    Key,
    Names,
    Notify,
    Outcome,
    Path,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Status,
    Transaction,
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
    "BadSignatureContent",
    "Capabilities",
    "Check",
    "Codec",
    "CodecPlugin",
    "CodecSettings",
    "Delete",
    "Entries",
    "Equals",
    "Expire",
    "JsonText",
    "Key",
    "Listener",
    "Names",
    "Notify",
    "Outcome",
    "Path",
    "Put",
    "PutDocument",
    "Read",
    "ReadNames",
    "Scope",
    "StartsWith",
    "Status",
    "Transaction",
    "TruncatedContent",
    "UnknownType",
    "ValidationFailedContent",
    "Write",
    "canonical_counter",
    "fits_counter",
    "hookimpl",
    "leaves_in",
]
