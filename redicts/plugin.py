"""The public API for authors of backends and codecs. It changes only with :data:`CONTRACT`.

A distribution that offers a backend names a module in an entry point of the group ``redicts.backends``, under the name
of the backend; a distribution that offers a codec uses the group ``redicts.codecs``. The module registers its backends
and codecs in a hook::

    from redicts.plugin import BackendPlugin, hookimpl

    @hookimpl
    def redicts_backends():
        return [BackendPlugin("table", TableSettings, open_table, contract=1, summary="a table in memory")]

``contract=1`` is the contract version that the module was written for. Write the number, not :data:`CONTRACT`: that is
the version of the installed redicts, so the comparison of the two would always succeed.
"""

from __future__ import annotations

from redicts.core.async_backend import AsyncBackend, AsyncListener, CallbackListener
from redicts.core.backend import Backend, BackendPlugin, BackendSettings, Capabilities
from redicts.core.codec import (
    BadSignatureContent,
    Codec,
    CodecPlugin,
    CodecSettings,
    CorruptContent,
    JsonText,
    TruncatedContent,
    UnknownType,
    ValidationFailedContent,
    refuse_equal_names,
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
from redicts.core.urls import Address, decoded, split_url
from redicts.file_paths import FilePath

__all__ = [
    "CONTRACT",
    "MAX_DEPTH",
    "NOTHING",
    "SMALL_PAGE",
    "VALUES",
    "Add",
    "Address",
    "Answer",
    "AnyRead",
    "AsyncBackend",
    "AsyncListener",
    "Backend",
    "BackendPlugin",
    "BackendSettings",
    "BadSignatureContent",
    "CallbackListener",
    "Capabilities",
    "Check",
    "Codec",
    "CodecPlugin",
    "CodecSettings",
    "CorruptContent",
    "Delete",
    "Entries",
    "Equals",
    "Expire",
    "FilePath",
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
    "decoded",
    "fits_counter",
    "hookimpl",
    "leaves_in",
    "refuse_equal_names",
    "split_url",
]
