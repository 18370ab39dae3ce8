"""redicts for asyncio: the names of ``redicts``, with methods to await.

Tasks and threads may use the same store together: values, locks and settings are the same. Errors, ``ABSENT``, ``Name``
and ``Packed`` are those of ``redicts``.
"""

from __future__ import annotations

from redicts.aio.database import Database, open
from redicts.aio.lock import Lock
from redicts.aio.pool import Pool
from redicts.aio.proxy import Proxy, root, section
from redicts.aio.transaction import Transaction
from redicts.aio.watch import Watch

__all__ = ["Database", "Lock", "Pool", "Proxy", "Transaction", "Watch", "open", "root", "section"]
