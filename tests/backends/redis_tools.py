"""Helpers of the Redis tests: backends on a server, the contents of a database, and the commands that a server ran."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path as File
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Union

from redicts import Pool, Proxy, root
from redicts.backends.redis import RedisBackend
from redicts.backends.redis.backend import open_redis
from redicts.backends.redis.settings import RedisSettings
from redicts.core.backend import Backend
from redicts.core.documents import leaves_in
from redicts.core.minitransaction import VALUES, Entries, Key, Outcome, Path, Read, Scope, Transaction, Write
from tests.support.ports import bound_socket
from tests.support.resp import Malformed, StreamEnded, Value, read_message
from tests.support.servers import RedisServer
from tests.support.waiting import TIMEOUT

if TYPE_CHECKING:
    from typing_extensions import Self

Content = Union[bytes, dict[bytes, bytes], list[bytes]]
"""A string; the fields of a hash, or the members of a sorted set with their scores; a list."""

_CONTENTS: Final = """
redis.call('SELECT', ARGV[1])
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind, content = redis.call('TYPE', key).ok, nil
  if kind == 'hash' then content = redis.call('HGETALL', key)
  elseif kind == 'zset' then content = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  elseif kind == 'list' then content = redis.call('LRANGE', key, 0, -1)
  else content = { redis.call('GET', key) } end
  found[#found + 1] = { key, kind, content, redis.call('PTTL', key) }
end
return found
"""
_DIRECTORY: Final = b"\x01"
_EXPIRING: Final = re.compile(rb"\x02([0-9]{16})", re.DOTALL)
_DEADLINE: Final = re.compile(rb"\A([\x02\x05])[0-9]{16}", re.DOTALL)
_DOCUMENT: Final = re.compile(rb'\x05([0-9]{16})([0-9]{4})\{"')
_RECORD: Final = re.compile(rb"((?:(?:[^\x00-\x02]|\x02[0-2])+\x01)+)\x00([0-9]{16})", re.DOTALL)
_LONGEST_SESSION: Final = 300_000
"""The TTL of the record of a session in milliseconds."""


class Target(Protocol):
    """What a client can connect to: a server, or a proxy before one."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


def configuration(target: Target, **more: object) -> dict[str, Any]:
    """Return the settings of a client of this server or proxy, in the form that ``Pool().reload`` takes."""
    return {"host": target.host, "port": target.port, **more}


@contextlib.contextmanager
def opened(target: Target, *, database: int = 0, **more: object) -> Iterator[RedisBackend]:
    """Open a backend on a server or proxy, and close it at the end of the block."""
    with opened_with(configuration(target, **more), database=database) as backend:
        yield backend


@contextlib.contextmanager
def opened_with(settings: Mapping[str, object], *, database: int = 0) -> Iterator[RedisBackend]:
    """Open a backend with exactly these settings, and close it at the end of the block."""
    backend = open_redis(RedisSettings.model_validate(settings).options(), database)
    try:
        yield backend
    finally:
        backend.close()


@contextlib.contextmanager
def front(target: Target, **more: object) -> Iterator[Proxy]:
    """Have the pool of this process use a server or proxy. Gives the root."""
    with front_with(configuration(target, **more)) as tree:
        yield tree


@contextlib.contextmanager
def front_with(cfg: Mapping[str, Any] | str) -> Iterator[Proxy]:
    """Have the pool of this process use these settings. Gives the root."""
    Pool().reload(cfg=cfg)
    try:
        yield root()
    finally:
        Pool().reload(cfg={"backend": "memory"})


def key(*path: str) -> Key:
    """Return the key of the tree's value at this path."""
    return Key(VALUES, path)


def write(backend: RedisBackend, *writes: Write) -> Outcome:
    """Apply writes without checks."""
    return backend.execute(Transaction(writes=writes))


def values(backend: Backend, *path: str, scope: Scope = Scope.NODE) -> dict[Path, bytes]:
    """Return the values in a scope of this path, by their path relative to it."""
    (answer,) = backend.execute(Transaction(reads=(Read(key(*path), scope),))).answers
    assert isinstance(answer, Entries)
    return dict(answer.values)


# The contents of a database --------------------------------------------------------------------------------------


class Contents(NamedTuple):
    """All keys of one database atomically. ``ttls`` holds the remaining milliseconds of those that expire."""

    keys: dict[bytes, Content]
    ttls: dict[bytes, int]

    def data(self, prefix: bytes = b"") -> dict[bytes, Content]:
        """Return everything but the records of sessions."""
        return {name: content for name, content in self.keys.items() if not name.startswith(prefix + b"r:")}

    def timeless(self) -> dict[bytes, Content]:
        """Return the data without the times of its deadlines, to compare runs at different times."""
        return {name: _timeless(content) for name, content in self.data().items()}


def contents(server: RedisServer, database: int = 0) -> Contents:
    """Return everything in a database."""
    found = server.command("EVAL", _CONTENTS, 0, database)
    assert isinstance(found, list)
    keys: dict[bytes, Content] = {}
    ttls: dict[bytes, int] = {}
    for entry in found:
        assert isinstance(entry, list)
        name, kind, items, ttl = entry
        assert isinstance(name, bytes)
        assert isinstance(items, list)
        texts = [item for item in items if isinstance(item, bytes)]
        assert len(texts) == len(items)
        if kind == b"string":
            keys[name] = texts[0]
        else:
            keys[name] = texts if kind == b"list" else dict(zip(texts[::2], texts[1::2]))
        if isinstance(ttl, int) and ttl >= 0:
            ttls[name] = ttl
    return Contents(keys, ttls)


def data(server: RedisServer) -> dict[bytes, Content]:
    """Return everything in database 0 but the records of sessions."""
    return contents(server).data()


def examine_layout(found: Contents, prefix: bytes = b"") -> None:
    """Assert the rules of the layout that hold between two requests, as its description has them, not its code."""
    expiries = found.keys.get(prefix + b"x:", {})
    assert isinstance(expiries, dict)
    expiring: dict[bytes, bytes] = {}
    for name, content in found.keys.items():
        assert name.startswith(prefix), f"{name!r} lacks the prefix {prefix!r}"
        own = name[len(prefix) :]
        if own.startswith(b"r:"):
            assert isinstance(content, bytes), f"the session {name!r} is not a string"
            assert 0 < found.ttls.get(name, 0) <= _LONGEST_SESSION, f"the session {name!r} does not expire"
        elif own[:1] in {b"h", b"w", b"n", b"d"}:
            assert re.match(rb"[a-z0-9]+:\Z", own), f"{name!r} is not a key of the layout"
            assert isinstance(content, dict), f"{name!r} is not a sorted set"
            expiring.update(_examine_records(name, content))
        elif own != b"x:":
            assert re.match(rb"[a-z]+:(\.|\Z)", own), f"{name!r} is not a key of the layout"
            assert isinstance(content, dict), f"{name!r} is not a hash"
            expiring.update(_examine_hash(found, name, content))
    assert expiries == expiring, "the leaves with a TTL are not those in the sorted set"


def _examine_hash(found: Contents, name: bytes, fields: dict[bytes, bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Assert the rules of one hash, and yield its members of the sorted set."""
    assert name not in found.ttls, f"the hash {name!r} expires"
    parent, dot, last = name.rpartition(b".")
    if dot and b":" not in last:
        above = found.keys.get(parent)
        assert isinstance(above, dict), f"the hash {name!r} has no parent"
        assert above.get(_unescaped(last)) == _DIRECTORY, f"the hash {name!r} has no marker in its parent"
    for field, value in fields.items():
        if value == _DIRECTORY:
            assert name + b"." + _escaped(field) in found.keys, f"the marker {field!r} in {name!r} leads nowhere"
        elif value.startswith(b"\x02"):
            deadline = _EXPIRING.match(value)
            assert deadline, f"the field {field!r} in {name!r} has no deadline: {value!r}"
            yield name + b"\0" + field, b"%d" % int(deadline[1])
        elif value.startswith(b"\x05"):
            document = _DOCUMENT.match(value)
            assert document, f"the field {field!r} in {name!r} is no document: {value!r}"
            assert int(document[2]) == len(leaves_in(value[21:])) <= 1_000, f"a wrong number of leaves: {value!r}"
            assert name + b"." + _escaped(field) not in found.keys, f"the document {field!r} in {name!r} has a hash"
            if int(document[1]):
                yield name + b"\0" + field, b"%d" % int(document[1])
        elif value.startswith(b"\x03"):
            assert value[1:2] in {b"\x01", b"\x02", b"\x03", b"\x05"}, f"escaped for no reason: {value!r}"
        else:
            assert not value.startswith(_DIRECTORY), f"a directory marker with more bytes: {value!r}"


def _examine_records(name: bytes, members: dict[bytes, bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Assert the rules of one record space, and yield its members of the sorted set of TTLs."""
    paths = []
    for member, score in members.items():
        assert score == b"0", f"the member {member!r} of {name!r} has a score"
        record = _RECORD.match(member)
        assert record, f"{member!r} is not a member of a record space"
        paths.append(record[1])
        if record[2] != b"9" * 16:
            yield b"\0" + name + b"\0" + record[1], b"%d" % int(record[2])
    assert len(paths) == len(set(paths)), f"{name!r} holds two records of one path"


def _escaped(segment: bytes) -> bytes:
    return b"".join(b"%%%02X" % byte if byte in b"%.:{}\0" else bytes([byte]) for byte in segment)


def _unescaped(segment: bytes) -> bytes:
    return re.sub(rb"%([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), segment)


def _timeless(content: Content) -> Content:
    if not isinstance(content, dict):
        return content
    if set(content.values()) == {b"0"}:
        return {re.sub(rb"\0[0-9]{16}", b"\0deadline", member, count=1): b"0" for member in content}
    return {
        name: b"deadline" if b"\0" in name else _DEADLINE.sub(rb"\1deadline", value) for name, value in content.items()
    }


# The commands of a server ----------------------------------------------------------------------------------------


def calls(server: RedisServer) -> dict[str, int]:
    """Return how often each command ran since the last ``CONFIG RESETSTAT``, including those within scripts."""
    stats = server.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(each.split(",")[0].partition("=")[2]) for name, each in stats.items()}


def transactions(server: RedisServer) -> int:
    """Return how many calls of a function or of the script the server had since the last ``CONFIG RESETSTAT``."""
    ran = calls(server)
    return ran.get("fcall", 0) + ran.get("evalsha", 0) + ran.get("eval", 0)


_CHANGES: Final = ("hset", "hdel", "unlink", "zadd", "zrem")


def changes(server: RedisServer) -> dict[str, int]:
    """Return how often each command ran that changes the tree, since the last ``CONFIG RESETSTAT``."""
    return {name: count for name, count in calls(server).items() if name in _CHANGES}


def clients(server: RedisServer) -> int:
    """Return how many other clients are connected."""
    listed = server.command("CLIENT", "LIST", "TYPE", "NORMAL")
    assert isinstance(listed, bytes)
    return len(listed.splitlines()) - 1


# Stubs -----------------------------------------------------------------------------------------------------------


class Stub:
    """A server that answers data requests with these lines, and with the last one from then on.

    ``None`` stands for a connection that ends without an answer. Without ``setup``, commands that set up a connection
    are answered the same way.
    """

    host: Final = "127.0.0.1"

    def __init__(self, *lines: bytes | None, setup: bool = True) -> None:
        self._lines = list(lines)
        self._setup = setup
        self._listener = bound_socket()
        self._listener.listen()
        self.port: Final[int] = self._listener.getsockname()[1]
        self._ended = False
        self._thread = threading.Thread(target=self._serve, name="stub", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ended:
            connection, _ = self._listener.accept()
            connection.settimeout(TIMEOUT)
            with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError, StreamEnded, Malformed):
                while True:
                    words = read_message(stream).value
                    is_setup = self._setup and _is_setup(words)
                    line = b"+OK" if is_setup else self._lines[0]
                    if not is_setup and len(self._lines) > 1:
                        self._lines.pop(0)
                    if line is None:
                        break
                    connection.sendall(line + b"\r\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended = True
        socket.create_connection((self.host, self.port), TIMEOUT).close()  # notifies it
        self._thread.join(TIMEOUT)
        self._listener.close()
        assert not self._thread.is_alive(), "the stub ends when its clients are gone"


class GreetingStub(Stub):
    """A server that greets each client with this line and closes the connection."""

    def _serve(self) -> None:
        while not self._ended:
            connection, _ = self._listener.accept()
            with connection:
                connection.sendall(self._lines[0] or b"")


def _is_setup(words: Value) -> bool:
    return isinstance(words, list) and words[0] in {b"CLIENT", b"HELLO", b"AUTH", b"SELECT"}


def no_file(directory: File, name: str) -> str:
    """Return the path of a file that does not exist."""
    path = directory / name
    assert not path.exists()
    return str(path)
