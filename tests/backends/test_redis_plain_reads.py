"""Plain reads: without the script, a read is the state at one time, whatever is stored and whoever writes meanwhile."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import pytest

from redicts import ABSENT, Proxy
from redicts.backends.redis import RedisBackend
from redicts.backends.redis.plain_reads import PlainReads
from redicts.core.minitransaction import (
    Delete,
    Entries,
    Expire,
    Outcome,
    Put,
    PutDocument,
    Read,
    Scope,
    Status,
    Transaction,
    Write,
)
from redicts.errors import AccessDenied, CorruptData
from tests.backends.redis_tools import calls, configuration, front, front_with, key, opened, write
from tests.support.resp import read_message
from tests.support.servers import RedisServer, StartRedis
from tests.support.waiting import eventually

PLAIN: Final = {"hget", "hrandfield", "time"}


@pytest.fixture
def backend(redis_server: RedisServer) -> Iterator[RedisBackend]:
    """Give a backend on an empty database."""
    with opened(redis_server) as backend:
        yield backend


class Interrupted:
    """Sends the commands of a packet one by one, and writes after the first one of each packet."""

    def __init__(self, server: RedisServer, between: Callable[[], object]) -> None:
        self._server = server
        self._between = between
        self.commands: list[bytes] = []

    def call(self, encoded: bytes, count: int) -> Any:
        """Return what the server replies to each command."""
        stream, replies = io.BytesIO(encoded), list[Any]()
        for number in range(count):
            words = read_message(stream).value
            assert isinstance(words, list)
            self.commands.append(words[0])  # type: ignore[arg-type]
            replies.append(self._server.command(*words))  # type: ignore[arg-type]
            if number == 0:
                self._between()
        assert not stream.read()
        return replies[0] if count == 1 else replies

    def read(self, reads: PlainReads, read: Read) -> Entries | None:
        """Return what a plain read tells, or ``None`` if the script is to be asked."""
        transaction = Transaction(reads=(read,))
        packet = reads.packet(transaction)
        if packet is None:
            return None
        told = reads.outcome(transaction, packet, self.call(packet.encoded, packet.amount))
        return told and cast("Entries", told.answers[0])


LEAF: Final[list[Write]] = [Delete(key("a", "b"), Scope.BELOW), Put(key("a", "b"), b"1")]
DICT: Final[list[Write]] = [
    Delete(key("a", "b"), Scope.NODE),
    Delete(key("a", "b"), Scope.BELOW),
    Put(key("a", "b", "x"), b"2"),
    Put(key("a", "b", "y"), b"3"),
]
STATES: Final[dict[str, list[Write]]] = {
    "nothing": [Delete(key("a", "b"), Scope.SUBTREE)],
    "no parent": [Delete(key("a"), Scope.SUBTREE)],
    "a leaf": LEAF,
    "another leaf": [*LEAF, Put(key("a", "b"), b"10")],
    "a leaf that the layout escapes": [*LEAF, Put(key("a", "b"), b"\x02x")],
    "a leaf with a TTL": [*LEAF, Put(key("a", "b"), b"4", 600_000)],
    "a dict": DICT,
    "another dict": [*DICT, Put(key("a", "b", "x"), b"5"), Put(key("a", "b", "z"), b"\x03")],
    "a dict with a TTL": [*DICT, Expire(key("a", "b"), Scope.BELOW, 600_000)],
    "a dict of dicts": [*DICT, Delete(key("a", "b", "x"), Scope.NODE), Put(key("a", "b", "x", "v"), b"6")],
    "a leaf above": [Delete(key("a"), Scope.SUBTREE), Put(key("a"), b"7")],
}


def subtree(backend: RedisBackend, *path: str, ttls: bool = False) -> tuple[dict[tuple[str, ...], bytes], set[Any]]:
    """Return the values in a subtree by the script, and which of them have a TTL."""
    reads = (Read(key(*path), Scope.SUBTREE, ttls=ttls), Read(key("none")))  # two reads are asked from the script
    answer = backend.execute(Transaction(reads=reads)).answers[0]
    assert isinstance(answer, Entries)
    return dict(answer.values), set(answer.ttls)


@pytest.mark.parametrize("first", STATES)
def test_an_answer_is_the_state_before_or_after_a_writer_between_the_commands(
    backend: RedisBackend, redis_server: RedisServer, first: str
) -> None:
    """If a plain read tells anything, that is what was there before the writer, or what is there after it."""
    read = Read(key("a", "b"), Scope.SUBTREE, ttls=True)
    undisturbed = Interrupted(redis_server, lambda: None)
    for remembered in ([], ["a leaf"], ["a leaf with a TTL"] * 2, ["a dict"], ["a dict with a TTL"] * 2):
        for then in STATES:
            reads = PlainReads(b"", 5_000, simulated=False)
            for state in remembered:
                write(backend, *STATES[state])
                undisturbed.read(reads, read)
            write(backend, *STATES[first])
            states = [subtree(backend, "a", "b", ttls=True)]
            disturbed = Interrupted(redis_server, lambda then=then: write(backend, *STATES[then]))  # type: ignore[misc]
            found = disturbed.read(reads, read)
            states.append(subtree(backend, "a", "b", ttls=True))
            assert found is None or (dict(found.values), set(found.ttls)) in states, f"{remembered}, then {then}"
            assert {command.decode().lower() for command in disturbed.commands} <= PLAIN


@pytest.mark.parametrize("path", ["leaf", "dict", "mortal.leaf", "mortal", "some.leaf", "some.dict"])
def test_leaves_and_dicts_of_leaves_are_read_without_the_script(redis_server: RedisServer, path: str) -> None:
    """From the second time on, a leaf or a dict of leaves is read by one command, and by two if it has a TTL."""
    with front(redis_server) as tree:
        tree.set([], {"leaf": 1, "dict": {"a": 1, "b": [2]}, "some": {"leaf": "x", "dict": {"a": 1}}})
        tree.set("mortal", {"leaf": 1}, expire=600)
        value = tree[path].val()
        assert tree[path].val() == value
        redis_server.command("CONFIG", "RESETSTAT")
        assert tree[path].val() == value
        used = {name: count for name, count in calls(redis_server).items() if name in PLAIN or "eval" in name}
    one = "hrandfield" if isinstance(value, dict) else "hget"
    assert used == ({one: 1, "time": 1} if path.startswith("mortal") else {one: 1})


@pytest.mark.parametrize(
    "writes",
    [
        [Put(key("a", "b"), b"\3escaped")],
        [Put(key("a", "b"), b"mortal", 600_000)],
        [PutDocument(key("a", "b"), b'{"c":{"d":1}}')],
        [Put(key("a", "b", "c"), b"below")],
        [],
    ],
    ids=["escaped", "mortal", "document", "dict", "nothing"],
)
def test_a_fetch_asks_only_where_a_plain_leaf_was(
    backend: RedisBackend, redis_server: RedisServer, writes: list[Write]
) -> None:
    """It is one command if the last read has found one. What is there instead costs that command once."""
    at, read = key("a", "b"), Transaction(reads=(Read(key("a", "b"), Scope.SUBTREE),))

    def fetched() -> tuple[bytes | None, int]:
        redis_server.command("CONFIG", "RESETSTAT")
        return backend.fetch(at), calls(redis_server).get("hget", 0)

    write(backend, Put(at, b"plain"))
    assert fetched() == (None, 0)
    backend.execute(read)
    assert fetched() == (b"plain", 1)
    assert fetched() == (b"plain", 1)
    write(backend, Delete(at, Scope.SUBTREE), *writes)
    assert fetched() == (None, 1)
    for _ in range(3):
        backend.execute(read)
        assert fetched()[0] is None
    assert fetched() == (None, 0)


def test_what_is_remembered_of_a_path_may_change(redis_server: RedisServer) -> None:
    """A path is read correctly whatever it was before: leaf, dict, dict of dicts, with a TTL, absent."""
    values: list[Any] = [1, {"a": 1}, {"a": {"b": 1}}, "text", ABSENT, {"a": {"b": {}}}, [], {"x": 5}, {}, ABSENT]
    with front(redis_server) as tree:
        for _ in range(2):
            for value in values:
                for expire in (None, 600):
                    tree["top"].clear()
                    tree["some.path"].clear()
                    if value is not ABSENT:
                        tree.set("top", value, expire=expire).set("some.path", value, expire=expire)
                    for _ in range(3):
                        assert tree["top"].val(default=ABSENT) == value
                        assert tree["some.path"].val(default=ABSENT) == value
                        assert tree["some.path"].exists() is (value is not ABSENT)


def test_an_expired_leaf_is_not_read(redis_server: RedisServer) -> None:
    """A plain read compares the deadline with the server's clock."""
    with front(redis_server) as tree:
        tree.set("a.leaf", 1, expire=600).set("a.dict", {"x": 1, "y": 2}, expire=600)
        for _ in range(3):
            assert tree["a"].val() == {"leaf": 1, "dict": {"x": 1, "y": 2}}
            assert (tree["a.leaf"].val(), tree["a.dict"].val()) == (1, {"x": 1, "y": 2})
        tree["a"].expire(0.001)
        eventually(lambda: not tree["a.leaf"].exists(), "it expires")
        assert tree["a.leaf"].val(default=None) is None
        assert tree["a.dict"].val(default=None) is None


def test_the_number_of_remembered_paths_is_bounded(backend: RedisBackend, redis_server: RedisServer) -> None:
    """Reads of any number of paths keep a bounded number of them, and none that is long."""
    reads = PlainReads(b"", 5_000, simulated=False)
    connection = Interrupted(redis_server, lambda: None)
    write(backend, Put(key("short"), b"1"), Put(key("long" * 1_000), b"2"))
    for number in range(2_500):
        read = Read(key(f"n{number}"), Scope.SUBTREE)
        reads.learn(Transaction(reads=(read,)), Outcome(Status.APPLIED, (Entries({(): b"1"}),)))
    assert len(reads._known) <= 2_000
    before = len(reads._known)
    assert connection.read(reads, Read(key("long" * 1_000), Scope.SUBTREE)) == Entries({(): b"2"})
    assert len(reads._known) == before


def test_one_command_touches_a_bounded_number_of_fields(redis_server: RedisServer) -> None:
    """A dict may grow while it is remembered as small: the command that reads it returns no more than 5,000 fields."""
    with front(redis_server) as tree:
        tree.set("dict", {"a": 1})
        for _ in range(2):
            tree["dict"].val()
        redis_server.command("EVAL", "for i = 1, 20000 do redis.call('HSET', 'v:.dict', i, i) end", 0)
        redis_server.command("CONFIG", "RESETSTAT")
        assert len(tree["dict"].val()) == 20_001
        used = calls(redis_server)
    assert used["hrandfield"] == 1
    assert "hgetall" not in used


@pytest.mark.parametrize("foreign", ["v:.a", "v:.a.b"])
def test_a_foreign_key_is_reported(redis_server: RedisServer, foreign: str) -> None:
    """A key of another type is reported as by every other request, and the connection stays usable."""
    with front(redis_server) as tree:
        tree.set("a.b.c", 1).set("fine", 2)
        redis_server.command("DEL", foreign)
        redis_server.command("SET", foreign, "a string")
        for _ in range(3):
            with pytest.raises(CorruptData, match="another type"):
                tree["a.b"].val()
            assert tree["fine"].val() == 2


def test_a_missing_permission_is_reported(start_redis: StartRedis) -> None:
    """A user who may not run a plain command gets the error that says what to allow."""
    server = start_redis(acl=["app on >secret ~* &* +@all -hrandfield"])
    with front_with(configuration(server, username="app", password="secret")) as tree:
        tree.set("a", 1)
        with pytest.raises(AccessDenied, match="Production"):
            tree["a"].val()


def test_a_corrupt_text_is_not_completed_by_another(redis_server: RedisServer) -> None:
    """Leaves that only together are valid JSON are corrupt: none is read as a part of another."""
    fine = {f"n{number}": b"1" for number in range(8)}
    for corrupt in ([b"[1", b"2]"], [b'"a', b'b"'], [b"1,2", b""], [b'{"a":1', b'"b":2}'], [b"]", b"["], [b"1,2"]):
        with front(redis_server) as tree, opened(redis_server) as backend:
            for number in range(len(fine) - 1):
                names = list(fine)[number : number + len(corrupt)]
                write(
                    backend,
                    *[Put(key("d", name), text) for name, text in {**fine, **dict(zip(names, corrupt))}.items()],
                )
                with pytest.raises(CorruptData, match=r"'d\.n|d\.n"):
                    tree["d"].val()


def test_a_dict_of_the_proxy_keeps_its_order(redis_server: RedisServer) -> None:
    """A dict of leaves is read in the order in which its names are stored, as a whole and by its names."""
    with front(redis_server) as tree:
        tree.set("d", {f"n{number}": number for number in range(50)})
        assert list(_dict(tree["d"])) == [f"n{number}" for number in range(50)]


def _dict(proxy: Proxy) -> dict[str, Any]:
    value = proxy.val()
    assert isinstance(value, dict)
    return value
