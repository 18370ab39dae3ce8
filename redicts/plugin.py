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

Most backends need some of these pieces:

- :class:`~redicts.core.ordered_state.OrderedState` evaluates minitransactions on an engine with ordered keys, and frees
  expired values.
- :mod:`~redicts.core.ordered_keys` encodes keys so that a subtree is one range.
- :class:`~redicts.handles.PerProcess` is a handle that each process opens for itself, so that forks and closing are
  safe, and :class:`~redicts.handles.SharedByName` holds what all instances in a process share.
- :class:`~redicts.forks.ForkSafeLock` is free in each forked child, and a fork waits for a
  :class:`~redicts.forks.WholeCopyLock`.
- :class:`~redicts.core.error_mapping.ErrorMapping` makes the errors of a store, without secrets, from those of a client
  or of the system.
"""

from __future__ import annotations

from redicts.core import ordered_keys
from redicts.core.async_backend import AsyncBackend, AsyncListener, CallbackListener
from redicts.core.backend import Backend, BackendPlugin, Capabilities, ServerState
from redicts.core.codec import (
    BadSignatureContent,
    Codec,
    CodecPlugin,
    CorruptContent,
    JsonText,
    TruncatedContent,
    UnknownType,
    ValidationFailedContent,
    refuse_equal_names,
)
from redicts.core.documents import leaves_in
from redicts.core.entry_points import CONTRACT
from redicts.core.error_mapping import ErrorMapping
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
from redicts.core.ordered_state import OrderedState
from redicts.core.plugin_settings import BackendSettings, CodecSettings, FilePath
from redicts.core.urls import Address, decoded, split_url
from redicts.forks import ForkSafeLock, WholeCopyLock
from redicts.handles import PerProcess, SharedByName

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
    "ErrorMapping",
    "Expire",
    "FilePath",
    "ForkSafeLock",
    "JsonText",
    "Key",
    "Listener",
    "Names",
    "Notify",
    "OrderedState",
    "Outcome",
    "Path",
    "PerProcess",
    "Put",
    "PutDocument",
    "Read",
    "ReadNames",
    "Scope",
    "ServerState",
    "SharedByName",
    "StartsWith",
    "Status",
    "Transaction",
    "TruncatedContent",
    "UnknownType",
    "ValidationFailedContent",
    "WholeCopyLock",
    "Write",
    "canonical_counter",
    "decoded",
    "fits_counter",
    "hookimpl",
    "leaves_in",
    "ordered_keys",
    "refuse_equal_names",
    "split_url",
]
