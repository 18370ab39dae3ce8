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
from redicts.core.hooks import CONTRACT, hookimpl
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
