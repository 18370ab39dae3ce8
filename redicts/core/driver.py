"""The blocking driver: carries out the requests of an operation on a backend.

An operation is a generator that yields requests and receives their answers. Only a driver does I/O. Another driver can
await the requests, and tests can answer them step by step to run every interleaving of several operations.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, NamedTuple, TypeVar, Union

from redicts.core.backend import Backend
from redicts.core.listener import Listener
from redicts.core.minitransaction import Key, Transaction


class Fetch(NamedTuple):
    """A request for the value at exactly this key by the backend's fast path, see :meth:`Backend.fetch`.

    The answer is the bytes, or ``None``: then a transaction is needed. With ``document`` the bytes may be a document.
    """

    key: Key
    document: bool = False


class Overwrite(NamedTuple):
    """A request to replace a value by a persistent one with the backend's fast path, see :meth:`Backend.overwrite`.

    The answer is whether the value was written. With ``document`` both values are documents.
    """

    key: Key
    value: bytes
    document: bool = False


class Pause(NamedTuple):
    """A request to sleep for this many seconds. The answer is ``None``."""

    seconds: float


class Listen(NamedTuple):
    """A request to listen under this name until the operation ends. The answer is ``None``."""

    name: str


class Await(NamedTuple):
    """A request to wait at most this many seconds for a notification, which may be spurious. The answer is ``None``."""

    seconds: float


Request = Union[Transaction, Fetch, Overwrite, Pause, Listen, Await]

Result = TypeVar("Result")

Steps = Generator[Request, Any, Result]
"""An operation that returns a ``Result``. The answer to a :class:`Transaction` is its ``Outcome``."""


def run(steps: Steps[Result], backend: Backend) -> Result:
    """Run an operation and return its result. Errors of the backend are raised inside the operation."""
    listener: Listener | None = None
    try:
        request = next(steps)
        while True:
            answer: Any = None
            try:
                # The most frequent first, and inline: SQLite reads a leaf in the time of ten calls.
                if isinstance(request, Transaction):
                    answer = backend.execute(request)
                elif isinstance(request, Fetch):
                    answer = (backend.fetch_document if request.document else backend.fetch)(request.key)
                elif isinstance(request, Overwrite):
                    overwrite = backend.overwrite_document if request.document else backend.overwrite
                    answer = overwrite(request.key, request.value)
                else:
                    listener = _wait(request, listener, backend)
            except BaseException as error:
                request = steps.throw(error)
            else:
                request = steps.send(answer)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    finally:
        if listener is not None:
            listener.close()


def _wait(request: Pause | Listen | Await, listener: Listener | None, backend: Backend) -> Listener | None:
    """Carry out a request that concerns time, and return the listener that is open then."""
    if isinstance(request, Listen):
        return backend.listen(request.name)
    if isinstance(request, Pause):
        time.sleep(request.seconds)
    else:
        assert listener is not None  # an operation listens before it waits
        listener.wait(request.seconds)
    return listener
