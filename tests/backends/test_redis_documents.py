"""Documents on Redis: one field for a dict that was set whole, split by the client as far as a change enters it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from redicts import Proxy, root
from redicts.backends.redis import RedisBackend
from redicts.backends.redis.backend import ATOMIC_ENTRIES
from redicts.core.documents import leaves_in
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Equals,
    Outcome,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Status,
    Transaction,
)
from redicts.errors import CorruptData, LeafError
from tests.backends.redis_tools import calls, contents, data, examine_layout, front, key, opened, values, write
from tests.support.servers import RedisServer

CAR: Final[dict[str, Any]] = {
    "paint": {"colour": "red", "coats": 3, "mixed": {"by": "Ann", "at": [1, 2]}},
    "doors": {"left": 1, "right": 2},
    "wheels": 4,
    "seats": 5,
    "owner": "Ann",
    "parts": {},
}
WHOLE: Final = (
    b'{"paint":{"colour":"red","coats":3,"mixed":{"by":"Ann","at":[1,2]}},"doors":{"left":1,"right":2},'
    b'"wheels":4,"seats":5,"owner":"Ann","parts":{}}'
)
PERSISTENT: Final = b"\x050000000000000000"


@pytest.fixture
def tree(redis_server: RedisServer) -> Iterator[Proxy]:
    """Give the root of an empty tree."""
    with front(redis_server) as tree:
        yield tree


@pytest.fixture
def backend(redis_server: RedisServer) -> Iterator[RedisBackend]:
    """Give a backend on an empty database."""
    with opened(redis_server) as backend:
        yield backend


def test_a_dict_that_is_set_whole_is_one_field(tree: Proxy, redis_server: RedisServer) -> None:
    r"""``\5``, 16 digits of a deadline, 4 of the number of leaves, and the JSON text."""
    tree.set("garage.car", CAR)
    assert data(redis_server) == {b"v:": {b"garage": b"\x01"}, b"v:.garage": {b"car": PERSISTENT + b"0010" + WHOLE}}
    examine_layout(contents(redis_server))
    for _ in range(2):
        assert tree["garage.car"].val() == CAR
        assert tree["garage"].val() == {"car": CAR}
        assert tree["garage.car.paint"].val() == CAR["paint"]
        assert tree["garage.car.paint.coats"].val() == 3
        assert tree["garage.car.paint.mixed"].keys() == ["by", "at"]
        assert not tree["garage.car.paint.none"].exists()
        assert tree["garage.car.wheels.none"].val(default=None) is None


def test_a_change_splits_only_the_dicts_that_it_enters(tree: Proxy, redis_server: RedisServer) -> None:
    """The items beside the path of the change stay leaves and documents."""
    tree.set("car", CAR)
    tree.set("car.paint.coats", 4)
    assert data(redis_server) == {
        b"v:": {b"car": b"\x01"},
        b"v:.car": {
            b"paint": b"\x01",
            b"doors": PERSISTENT + b'0002{"left":1,"right":2}',
            b"wheels": b"4",
            b"seats": b"5",
            b"owner": b'"Ann"',
            b"parts": b"{}",
        },
        b"v:.car.paint": {
            b"colour": b'"red"',
            b"coats": b"4",
            b"mixed": PERSISTENT + b'0002{"by":"Ann","at":[1,2]}',
        },
    }
    examine_layout(contents(redis_server))
    assert tree["car"].val() == {**CAR, "paint": {**CAR["paint"], "coats": 4}}
    tree.set("car", CAR)
    assert data(redis_server) == {b"v:": {b"car": PERSISTENT + b"0010" + WHOLE}}


def test_a_document_with_a_ttl(tree: Proxy, redis_server: RedisServer) -> None:
    """A document has one deadline and one entry in the sorted set; split, each of its parts has that deadline."""
    tree.set("car", CAR, expire=600)
    found = data(redis_server)
    assert isinstance(found[b"x:"], dict)
    ((member, deadline),) = found[b"x:"].items()
    assert member == b"v:\0car"
    assert found[b"v:"] == {b"car": b"\x05%016d0010%b" % (int(deadline), WHOLE)}
    examine_layout(contents(redis_server))
    tree["car.paint.coats"].add(1)
    found = data(redis_server)
    assert isinstance(found[b"x:"], dict)
    assert set(found[b"x:"].values()) == {deadline}
    assert len(found[b"x:"]) == 5 + 3
    examine_layout(contents(redis_server))
    tree["car"].expire(None)
    assert b"x:" not in data(redis_server)
    examine_layout(contents(redis_server))
    assert tree["car"].val() == {**CAR, "paint": {**CAR["paint"], "coats": 4}}


def test_a_dict_larger_than_one_document_becomes_several(tree: Proxy, redis_server: RedisServer) -> None:
    """Each branch that fits is a document, and the whole is read in few fields."""
    people = {
        f"person{number}": {"name": "x" * 100, "address": {"street": number, "town": "y"}} for number in range(200)
    }
    tree.set("people", people)
    assert {field[:1] for field in data(redis_server)[b"v:.people"].values()} == {b"\x05"}  # type: ignore[union-attr]
    examine_layout(contents(redis_server))
    for _ in range(2):
        assert tree["people"].val() == people
        assert tree["people.person7"].val() == people["person7"]
        assert tree["people.person7.address.street"].val() == 7
    redis_server.command("CONFIG", "RESETSTAT")
    assert tree["people"].val() == people
    assert {name for name in calls(redis_server) if "hash" not in name and name[:1] == "h"} == {"hrandfield"}
    assert sorted(tree["people"].keys()) == sorted(people)
    assert sum(1 for _ in tree["people"].iter_children()) == 600


def test_a_value_of_many_documents_is_read_in_pages(tree: Proxy, redis_server: RedisServer) -> None:
    """More leaves than one transaction touches are written in steps and read in pages, documents staying whole."""
    table = {f"row{number:03}": {f"column{each}": each for each in range(60)} for number in range(200)}
    tree.set("table", table)
    assert {field[:1] for field in data(redis_server)[b"v:.table"].values()} == {b"\x05"}  # type: ignore[union-attr]
    assert tree["table"].val() == table
    assert sum(1 for _ in tree["table"].iter_children()) == 12_000
    assert set(tree["table"].keys()) == set(table)
    redis_server.command("CONFIG", "RESETSTAT")
    tree["table"].expire(600)
    assert 590 < (tree["table"].time_to_live() or 0) <= 600
    tree["table"].clear()
    assert data(redis_server) == {}
    assert calls(redis_server)["hget"] < 1_000, "documents are expired and removed whole"


class Overtaken:
    """A client whose documents another client replaces as soon as the server has named them to be in the way."""

    def __init__(self, backend: RedisBackend, other: RedisBackend, times: int) -> None:
        connections = backend._connections.get()
        self._call = connections.call
        self._other = other
        self._left = times
        self.texts = [b'{"n":%d,"in":{"a":1,"b":2}}' % number for number in range(times)]
        connections.call = self.call  # type: ignore[assignment, method-assign]

    def call(self, *arguments: Any) -> Any:
        """Send a request; if its reply names a document, have the other client put another one."""
        reply = self._call(*arguments)
        if reply and reply[0] == b"D" and self._left:
            self._left -= 1
            write(self._other, PutDocument(key("d"), self.texts[self._left]))
        return reply


def test_a_document_that_changed_is_not_split(redis_server: RedisServer) -> None:
    """The split is on condition that the document is the same; otherwise the transaction meets the new one."""
    with opened(redis_server) as backend, opened(redis_server) as other:
        write(other, PutDocument(key("d"), b'{"n":100,"in":{"a":1,"b":2}}'))
        overtaken = Overtaken(backend, other, 3)
        assert write(backend, Add(key("d", "n"), 1)).counters == (1,)  # the last one that was put has 0
        assert overtaken._left == 0
        assert values(backend, "d", scope=Scope.BELOW) == {("n",): b"1", ("in", "a"): b"1", ("in", "b"): b"2"}


def test_a_request_that_splits_is_applied_once(backend: RedisBackend) -> None:
    """A request that met a document and comes again gets the reply of the first time, and changes nothing."""
    write(backend, PutDocument(key("d"), b'{"n":1,"m":2}'))
    sent: list[tuple[Any, ...]] = []
    connections = backend._connections.get()
    call = connections.call

    def record(*arguments: Any) -> Any:
        sent.append(arguments)
        return call(*arguments)

    connections.call = record  # type: ignore[assignment, method-assign]
    assert write(backend, Add(key("d", "n"), 1)).counters == (2,)
    first, split, again = sent
    assert first == again
    for _ in range(3):
        assert call(*again)[0] == b"R"
        assert call(*split)[0] == b"+"
    assert values(backend, "d", scope=Scope.BELOW) == {("n",): b"2", ("m",): b"2"}
    write(backend, PutDocument(key("d"), b'{"n":1,"m":2}'))
    assert call(*again)[0] != b"+"
    assert values(backend, "d", scope=Scope.BELOW) == {("n",): b"1", ("m",): b"2"}


def test_a_refused_counter_is_named_by_its_own_index(backend: RedisBackend) -> None:
    """Documents that the backend takes apart do not move the index of the write that was refused."""
    wide = b'{"large":{%b},"n":"text"}' % b",".join(b'"n%d":1' % number for number in range(1_200))
    writes = (PutDocument(key("a"), wide), PutDocument(key("b"), b'{"n":"text"}'), Add(key("b", "n"), 1))
    outcome = backend.execute(Transaction(writes=writes))
    assert (outcome.status, outcome.failed_index) == (Status.NOT_A_COUNTER, 2)
    assert values(backend, scope=Scope.SUBTREE) == {}


def test_as_many_leaves_as_promised_are_put_at_once(backend: RedisBackend) -> None:
    """The number of leaves decides whether documents are too many for one transaction, whatever they contain."""
    hostile = b'"\\":\\":\\":\\":\\":\\":"'

    def put(count: int) -> Outcome:
        texts = [b'{"a":%b,"b":[{"c":{"d":1}}],"e":{"f":1,"g":2}}' % hostile for _ in range(count)]
        return write(backend, *[PutDocument(key("d", f"n{number}"), text) for number, text in enumerate(texts)])

    assert put(1_250).status is Status.APPLIED
    assert put(1_251).status is Status.TOO_LARGE


def test_no_more_leaves_than_promised_are_looked_at(backend: RedisBackend) -> None:
    """A read and a condition are refused whose scope holds one value more than one transaction may touch."""
    half = ATOMIC_ENTRIES // 2
    write(backend, *[PutDocument(key("d", f"n{number}"), b'{"n":1,"m":2}') for number in range(half)])
    write(backend, *[Put(key("e", f"n{number}"), b"1") for number in range(2 * half)])
    read = Transaction(reads=(Read(key("d"), Scope.BELOW),))
    condition = Transaction((StartsWith(key("e"), Scope.BELOW, b"1"),))
    assert backend.execute(read).applied
    assert backend.execute(condition).applied
    write(backend, PutDocument(key("d", "more"), b'{"n":1}'), Put(key("e", "more"), b"1"))
    assert backend.execute(read).status is Status.TOO_LARGE
    assert backend.execute(condition).status is Status.TOO_LARGE


@pytest.mark.parametrize("text", [b"", b"{", b'{"a":1', b'{"a":1}}', b"\xff"])
def test_a_text_that_is_no_document_is_reported(tree: Proxy, redis_server: RedisServer, text: bytes) -> None:
    """A document that another program altered is reported as corrupt at its path, and can be replaced."""
    tree.set("d.car", CAR)
    redis_server.command("HSET", "v:.d", "car", PERSISTENT + b"0010" + text)
    for path in ("d.car", "d"):
        with pytest.raises(CorruptData, match=r"d\.car"):
            _ = [tree[path].val() for _ in range(2)]
    with pytest.raises(CorruptData, match=r"d\.car.*set or delete it whole"):
        tree.set("d.car.wheels", 5)
    tree.set("d.car", CAR)
    assert tree["d"].val() == {"car": CAR}


def test_values_that_begin_like_documents(backend: RedisBackend, redis_server: RedisServer) -> None:
    """A value that begins with the mark of documents is stored after an escape, and read as it is."""
    write(backend, Put(key("a"), b"\x05x"), Put(key("b", "c"), b"\x05"), Put(key("t"), b"\x05", 600_000))
    assert data(redis_server)[b"v:.b"] == {b"c": b"\x03\x05"}
    assert values(backend, scope=Scope.SUBTREE) == {("a",): b"\x05x", ("b", "c"): b"\x05", ("t",): b"\x05"}
    assert values(backend, "a", scope=Scope.SUBTREE) == {(): b"\x05x"}
    examine_layout(contents(redis_server))


def test_data_without_documents_is_read_and_changed(tree: Proxy, redis_server: RedisServer) -> None:
    """The layout of version 2.0.0.dev0, leaf by leaf, is a layout of this version."""
    for name, fields in {
        "v:": {"car": b"\x01"},
        "v:.car": {"paint": b"\x01", "wheels": b"4"},
        "v:.car.paint": {"colour": b'"red"', "coats": b"3"},
    }.items():
        for field, value in fields.items():
            redis_server.command("HSET", name, field, value)
    assert tree["car"].val() == {"paint": {"colour": "red", "coats": 3}, "wheels": 4}
    tree["car.paint.coats"].add(1)
    assert tree["car.paint"].val() == {"colour": "red", "coats": 4}
    tree.set("car", CAR)
    assert tree["car"].val() == CAR
    examine_layout(contents(redis_server))


def test_what_a_proxy_does_to_a_part_of_a_document(tree: Proxy, redis_server: RedisServer) -> None:
    """Operations on a part, and on the whole, do to a document what they do to its leaves."""
    for change in (
        lambda: tree["car"].update({"paint": {"coats": 5}}),
        lambda: tree["car"].update_with(lambda car: {**car, "paint": {**car["paint"], "coats": 5}}),
        lambda: tree["car.paint"].compare_and_set(CAR["paint"], {**CAR["paint"], "coats": 5}),
        lambda: tree["car"].compare_and_set(CAR, {**CAR, "paint": {**CAR["paint"], "coats": 5}}),
        lambda: tree["car.paint.coats"].add(2),
        lambda: tree["car.paint"].set("coats", 5),
    ):
        tree.set("car", CAR)
        change()
        assert tree["car"].val() == {**CAR, "paint": {**CAR["paint"], "coats": 5}}
        examine_layout(contents(redis_server))
    tree.set("car", CAR)
    with tree["car"].edit() as car:
        car["paint"]["coats"] = 5
        del car["doors"]["left"]
    assert tree["car.doors"].val() == {"right": 2}
    tree.set("car", CAR)
    assert tree.pop("car.paint") == CAR["paint"]
    assert tree.pop("car") == {name: item for name, item in CAR.items() if name != "paint"}
    tree.set("car", CAR)
    with pytest.raises(LeafError):
        tree["car.paint"].add(1)
    tree.set("car.wheels", {"front": 2})
    tree.delete("car.paint.mixed")
    assert root()["car"].val() == {
        **{name: CAR[name] for name in ("doors", "seats", "owner", "parts")},
        "wheels": {"front": 2},
        "paint": {"colour": "red", "coats": 3},
    }
    tree.clear()
    assert not [name for name in data(redis_server) if name.startswith(b"v:")]


def test_checks_without_writes_meet_documents(backend: RedisBackend) -> None:
    """A transaction that only checks and reads is answered too, by the state in which the document is."""
    write(backend, PutDocument(key("d"), WHOLE))
    checks = (Equals(key("d"), Scope.SUBTREE, leaves_in(WHOLE)), Equals(key("d", "none"), Scope.SUBTREE, NOTHING))
    outcome = backend.execute(Transaction(checks, (Read(key("d"), Scope.BELOW), ReadNames(key("d", "paint")))))
    assert outcome.status is Status.APPLIED
    assert outcome.answers[0].values == leaves_in(WHOLE)  # type: ignore[union-attr]
    assert set(outcome.answers[1].names) == {"colour", "coats", "mixed"}  # type: ignore[union-attr]
    write(backend, Delete(key("d"), Scope.NODE))
    assert values(backend, "d", scope=Scope.SUBTREE) == leaves_in(WHOLE)
