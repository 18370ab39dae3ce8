"""The blocking driver: carries out the requests of an operation on a backend.

An operation is a generator that yields requests and receives their answers. Only a driver does I/O. Another driver can
await the requests, and tests can answer them step by step to run every interleaving of several operations.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from typing import Any, Final, NamedTuple, Protocol, TypeVar, Union

from redicts.core.backend import Backend
from redicts.core.listener import Listener
from redicts.core.minitransaction import Key, Path, Transaction
from redicts.core.observing import OBSERVERS, Operation
from redicts.errors import StoreTimeout


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
    """A request to wait at most this many seconds for a notification, which may be spurious.

    The answer is whether one arrived.
    """

    seconds: float


Request = Union[Transaction, Fetch, Overwrite, Pause, Listen, Await]

Result = TypeVar("Result")

Steps = Generator[Request, Any, Result]
"""An operation that returns a ``Result``. The answer to a :class:`Transaction` is its ``Outcome``."""


SHORTEST_SECS: Final = 1.0
"""The least time that a store has to answer, however short the timeout of the operation is."""

LAST_SECS: Final = 0.5
"""The least time that a store has to answer after a wait, so that an operation can tidy up when its timeout is over."""


def run(
    steps: Steps[Result], backend: Backend, timeout: float | None = None, waits_on: Listener | None = None
) -> Result:
    """Run an operation and return its result. Errors of the backend are raised inside the operation.

    ``waits_on`` is a listener that stays open after the operation, which may wait without listening first.

    ``timeout`` is that of the operation in seconds. If the backend keeps deadlines, each of its requests ends with it,
    but has a second at least. A wait for a notification ends by itself; what follows it has half a second at least.
    """
    listener = waits_on
    keeps_deadlines = timeout is not None and type(backend).execute_until is not Backend.execute_until
    deadline = time.monotonic() + max(timeout or 0.0, SHORTEST_SECS) if keeps_deadlines else None
    operation = Operation(steps, backend) if OBSERVERS else None
    requests = 0
    try:
        request = next(steps)
        while True:
            answer: Any = None
            requests += 1
            try:
                # The most frequent first, and inline: SQLite reads a leaf in the time of ten calls.
                if isinstance(request, Transaction):
                    answer = backend.execute(request) if deadline is None else backend.execute_until(request, deadline)
                elif isinstance(request, Fetch):
                    answer = (backend.fetch_document if request.document else backend.fetch)(request.key)
                    requests -= answer is None  # most likely, the store was not asked
                elif isinstance(request, Overwrite):
                    key, value, document = request
                    answer = (backend.overwrite_document if document else backend.overwrite)(key, value)
                else:
                    listener, deadline, answer = _wait(request, listener, backend, deadline, operation)
            except BaseException as error:
                request = steps.throw(error)
                continue
            request = steps.send(answer)
    except BaseException as end:
        if operation is not None:
            operation.end(requests, end)
        if not isinstance(end, StopIteration):
            raise
        result: Result = end.value
        return result
    finally:
        if listener is not None and listener is not waits_on:
            listener.close()


Stored = tuple[Key, Union[bytes, None], bool, Mapping[Path, bytes]]
"""What a value is stored as: its key, the one leaf or document that it is, if it is one, whether that is a document,
and all its leaves."""


class Values(Protocol):
    """The operations on values: :class:`redicts.core.values.ValueOperations`, whose module imports this one."""

    def read(self, path: Path, *, fetched: bool = False) -> Steps[object]:
        """Return the value at a path, or ``ABSENT``."""

    def decoded(self, path: Path, data: bytes) -> object:
        """Decode one leaf."""

    def write(self, path: Path, value: object, ttl: int | None = None, *, refused: Stored | None = None) -> Steps[None]:
        """Replace everything at and below a path by a value."""

    def stored(self, path: Path, value: object) -> Stored:
        """Encode a value."""


def read(values: Values, request: Fetch, backend: Backend) -> object:
    """Run ``values.read``, which begins with this request, without its steps if that answers it.

    On SQLite, the steps and their loop would take a fifth of the time.
    """
    key = request.key
    path = key.path
    if OBSERVERS:
        return run(values.read(path), backend)
    data = (backend.fetch_document if request.document else backend.fetch)(key)
    return run(values.read(path, fetched=True), backend) if data is None else values.decoded(path, data)


def overwrite(values: Values, path: Path, value: object, backend: Backend) -> None:
    """Run ``values.write`` in the same way: without its steps if the fast path writes the value."""
    if OBSERVERS:
        run(values.write(path, value), backend)
        return
    found = key, data, document, _ = values.stored(path, value)
    if data is None or not (backend.overwrite_document if document else backend.overwrite)(key, data):
        run(values.write(path, value, refused=found), backend)


def listen(backend: Backend, name: str, deadline: float | None = None) -> Listener:
    """Open a listener that no operation closes, or give up at the deadline."""
    return backend.listen(name) if deadline is None else backend.listen_until(name, deadline)


def listen_to_changes(backend: Backend, name: str, path: Path) -> Listener:
    """Open a listener to the changes at, above and below a path, for operations that wait on it one after the other."""
    return backend.listen_to_changes(name, path)


def _wait(
    request: Pause | Listen | Await,
    listener: Listener | None,
    backend: Backend,
    deadline: float | None,
    operation: Operation | None,
) -> tuple[Listener | None, float | None, bool | None]:
    """Carry out a request that concerns time.

    Return the listener that is open then, the deadline, and the answer.
    """
    if operation is not None:
        with operation.waiting():
            return _wait(request, listener, backend, deadline, None)
    notified: bool | None = None
    if isinstance(request, Listen):
        listener = backend.listen(request.name) if deadline is None else backend.listen_until(request.name, deadline)
    elif isinstance(request, Await):
        assert listener is not None  # an operation listens before it waits
        notified = listener.wait(request.seconds)
        if deadline is not None:
            deadline = max(deadline, time.monotonic() + LAST_SECS)
    elif deadline is not None and time.monotonic() >= deadline:
        raise StoreTimeout("the timeout of the operation is over, and the store has not answered in time")
    else:
        time.sleep(request.seconds)
    return listener, deadline, notified
