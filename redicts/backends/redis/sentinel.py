"""Redis Sentinel: each new connection asks the Sentinels of a service which server is its primary.

So a lost or refused connection leads to the new primary after a failover. Any Sentinel may answer. One that has not
heard of the last failover is recognized by the epoch of its configuration, and then another one is asked.

The questions are steps without I/O, which the blocking connections here and those of asyncio carry out. A signal
handler may run between any two instructions, so no lock is held, and what is known is replaced as a whole.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final, NamedTuple

from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelManagedConnection

from redicts.backends.redis.connections import UNNAMED
from redicts.backends.redis.errors import NoPrimary, unencodable
from redicts.backends.redis.options import RedisOptions
from redicts.backends.redis.urls import address_of
from redicts.core.error_mapping import chain
from redicts.errors import AccessDenied, StoreError, Unreachable

Address = tuple[str, int]
Asking = Generator[tuple[Address, float], Any, Address]
"""Yields which Sentinel to ask and the seconds that it has, is sent its answer or its error, and returns the primary's
address."""


QUESTION: Final = ("SENTINEL", "MASTERS")


class _Problem(NamedTuple):
    """Why a Sentinel names no primary, and whether that may pass."""

    text: str
    passes: bool = False
    kind: type[StoreError] = Unreachable


class Sentinels:
    """The Sentinels that watch one service. All connections of a backend share it, in each thread and process.

    redis-py's connections know it as their ``connection_pool``. ``options`` returns redis-py's arguments for a
    connection to a Sentinel, and ``timeout`` is how many seconds each has to answer.
    """

    is_master: Final = True
    check_connection: Final = False

    def __init__(
        self, addresses: tuple[Address, ...], service: str, options: Callable[[], dict[str, Any]], timeout: float
    ) -> None:
        self.service_name: Final = service
        self.options: Final = options
        self._timeout = timeout
        self._order = addresses
        """In turn, so that none is asked more than the others. Those that did not answer come last."""
        self._silent: frozenset[Address] = frozenset()
        self._epoch = 0
        """The latest epoch of an answer: a lower one is older."""

    @property
    def secrets(self) -> tuple[str | None, ...]:
        """What no text may repeat."""
        options = self.options()
        return options.get("password"), options.get("username")

    def asking(self, seconds: float) -> Asking:
        """Ask one Sentinel after the other for the primary, and return its address.

        Raises :class:`NoPrimary` if none names one within so many seconds.
        """
        deadline = time.monotonic() + seconds
        problems: list[_Problem] = []
        older: list[tuple[int, Address]] = []
        for at in self._order:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            answer = yield at, min(left, self._timeout)
            if isinstance(answer, Exception):
                self._has_answered(at, False)
                problems.append(_problem(at, answer))
                continue
            self._has_answered(at, True)
            state = answer.get(self.service_name)
            if state is None:
                known = ", ".join(map(repr, sorted(answer))) or "nothing"
                problems.append(_Problem(f"{shown(at)} watches {known}; correct service"))
            elif not _is_up(state):
                problems.append(_Problem(f"{shown(at)} says that the primary is down; a failover takes a while", True))
            elif state["config-epoch"] < self._epoch:
                older.append((state["config-epoch"], (state["ip"], state["port"])))
                problems.append(_Problem(f"{shown(at)} has not heard of the last failover", True))
            else:
                self._epoch = state["config-epoch"]
                return state["ip"], state["port"]
        if len(older) > len(self._order) / 2:  # the Sentinels were set up again
            self._epoch, address = max(older)
            return address
        texts = "; ".join(each.text for each in problems) or "none answered in time"
        kinds = {each.kind for each in problems}
        raise NoPrimary(
            f"no Sentinel names a primary of the service {self.service_name!r}: {texts}",
            kinds.pop() if len(kinds) == 1 else Unreachable,
            passes=not problems or any(each.passes for each in problems),
        )

    def _has_answered(self, at: Address, is_answer: bool) -> None:
        self._silent = silent = self._silent - {at} if is_answer else self._silent | {at}
        order = [*[each for each in self._order if each != at], at]
        self._order = tuple(sorted(order, key=silent.__contains__))

    def get_master_address(self, seconds: float = math.inf) -> Address:
        """Return the address of the primary. redis-py calls it for each connection."""
        steps = self.asking(seconds)
        question = next(steps)
        try:
            while True:
                question = steps.send(self._ask(*question))
        except StopIteration as stop:
            address: Address = stop.value
            return address

    def states(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the address of each Sentinel, which primary it names, and what is wrong. One connection to each."""
        for at in sorted(self._order):
            answer = self._ask(at, self._timeout)
            state = None if isinstance(answer, Exception) else answer.get(self.service_name)
            if state is not None:
                problem = "" if _is_up(state) else f"{shown(at)} says that the primary is down"
                primary, quorum = shown((state["ip"], state["port"])), state["quorum"]
                yield shown(at), {"primary": primary, "quorum": quorum, "problem": problem}
            elif isinstance(answer, Exception):
                yield shown(at), {"primary": None, "problem": _problem(at, answer).text}
            else:
                yield shown(at), {"primary": None, "problem": f"{shown(at)} does not watch {self.service_name!r}"}

    def _ask(self, at: Address, seconds: float) -> Any:
        (client,) = Sentinel([at], sentinel_kwargs={**self.options(), **timeouts(seconds)}).sentinels
        # Not by its pool, which has a lock, and refuses a connection with the session tickets of TLS.
        connection = client.connection_pool.make_connection()
        try:
            connection.connect()
            connection.send_command(*QUESTION)
            return client.parse_response(connection, " ".join(QUESTION))
        except (exceptions.RedisError, OSError) as error:
            return error
        except UnicodeError as error:
            return unencodable(error)
        finally:
            connection.disconnect()


class PrimaryConnection(SentinelManagedConnection):
    """A connection of redis-py to the server that is the primary when it is made."""

    connection_pool: Sentinels
    # redis-py's own turns an answer of a replica into a lost connection, after which the request may be applied.
    read_response = Connection.read_response

    def __init__(self, *, connection_pool: Sentinels, **options: Any) -> None:
        super().__init__(connection_pool=connection_pool, **options)  # type: ignore[no-untyped-call]

    def connect(self) -> None:
        """Ask for the primary, and connect to it, all within the timeout for connecting."""
        if self._sock is None:
            begun, seconds = time.monotonic(), self.socket_connect_timeout or math.inf
            address = self.connection_pool.get_master_address(seconds)
            if seconds != math.inf:
                self.socket_connect_timeout = max(0.001, seconds - (time.monotonic() - begun))
            self.connect_to(address)  # type: ignore[no-untyped-call]


class PrimarySSLConnection(PrimaryConnection, SSLConnection):
    """The same with TLS."""


def through_sentinels(options: dict[str, Any], settings: RedisOptions) -> dict[str, Any]:
    """Return the arguments for connections to the primary of a service, given those for one to a server."""
    encrypts = settings.tls if settings.sentinel_tls is None else settings.sentinel_tls
    own: dict[str, Any] = {
        "username": settings.sentinel_username,
        "password": settings.sentinel_password,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        **UNNAMED,
    }
    if encrypts:
        own |= {
            "ssl": True,
            "ssl_ca_certs": settings.sentinel_tls_ca_file or settings.tls_ca_file,
            "ssl_certfile": settings.sentinel_tls_cert_file or settings.tls_cert_file,
            "ssl_keyfile": settings.sentinel_tls_key_file or settings.tls_key_file,
            "ssl_check_hostname": settings.tls_check_hostname,
        }
    addresses = tuple([address_of(text) for text in settings.sentinels])
    # Not the options themselves, whose repr shows the password.
    sentinels = Sentinels(addresses, settings.service or "", lambda: own, settings.sentinel_timeout_secs)
    connection_class = PrimarySSLConnection if settings.tls else PrimaryConnection
    kept = {name: value for name, value in options.items() if name not in ("host", "port")}
    return {**kept, "connection_class": connection_class, "connection_pool": sentinels}


def timeouts(seconds: float) -> dict[str, float | None]:
    """Return the options of a connection to a Sentinel that has so many seconds to answer."""
    limit = None if seconds == math.inf else max(0.001, seconds)
    return {"socket_timeout": limit, "socket_connect_timeout": limit}


def shown(at: Address) -> str:
    """Return an address as text."""
    host, port = at
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_up(state: dict[str, Any]) -> bool:
    return state["is_master"] and not state["is_sdown"] and not state["is_odown"]


def _problem(at: Address, error: Exception) -> _Problem:
    """Return what a Sentinel's error means. Its text is not repeated, because it may have arguments."""
    text = str(error)
    where = shown(at)
    if isinstance(error, exceptions.NoPermissionError):
        return _Problem(f"the user may not ask {where}; allow +sentinel|masters", kind=AccessDenied)
    if isinstance(error, exceptions.AuthenticationError) or "uthentication required" in text or "AUTH" in text:
        refusal = f"{where} refuses the user or the password; correct sentinel_username and sentinel_password"
        return _Problem(refusal, kind=AccessDenied)
    if isinstance(error, exceptions.ResponseError):
        return _Problem(f"{where} is not a Sentinel; give the addresses of Sentinels")
    if isinstance(error, exceptions.TimeoutError) or any(isinstance(each, TimeoutError) for each in chain(error)):
        return _Problem(f"{where} does not answer", passes=True)
    return _Problem(f"{where} cannot be reached", passes=True)
