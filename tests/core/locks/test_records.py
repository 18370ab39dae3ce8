"""Lock records: which of them conflict, where they are stored, and that foreign bytes are ignored."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redicts.core.locks.records import (
    HOLDERS,
    WAITERS,
    Mode,
    Owner,
    Record,
    Request,
    exclusive_to,
    overlap,
    reads_of,
    records_in,
    scopes_above,
    scopes_of,
)
from redicts.core.minitransaction import MAX_DEPTH, Entries, Key, Path, Put, Scope, Transaction
from redicts.errors import InternalError, PathError
from tests.core.locks.simulation import S, Simulation, X

ODD: tuple[str, ...] = ("a", "b", "!", "/", "/a", "!a", ".", "*", " ", "\x00", "\ud800", "\udc00", "\u00e9", "0", "a/b")

segments = st.one_of(st.sampled_from(ODD), st.text(st.characters(exclude_categories=()), min_size=1, max_size=3))
paths = st.lists(segments, max_size=4).map(tuple)
close_paths = st.lists(st.sampled_from(ODD[:5]), max_size=3).map(tuple)

ME, YOU = Owner("here.1", "host 1"), Owner("there.1", "host 2")


def request(*locked: Path, owner: Owner = ME, mode: Mode = X, name: str = "here/1") -> Request:
    """Return a request of mine."""
    return Request(name, owner, mode, locked, 1_700_000_000_000)


def records_of(made: Request, space: str = HOLDERS) -> list[Record]:
    """Return the records of a request, as they are found from the root of a space."""
    values = {key.path: made.record for key in made.keys(space)}
    return list(records_in(Key(space, ()), Entries(values)))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((), (), True),
        ((), ("a",), True),
        (("a",), ("a",), True),
        (("a",), ("a", "b"), True),
        (("a", "b", "c"), ("a",), True),
        (("a",), ("b",), False),
        (("a",), ("ab",), False),
        (("a", "b"), ("a", "c"), False),
        (("a", "b"), ("b",), False),
        (("a", "b"), ("a.b",), False),
    ],
)
def test_paths_overlap_if_one_is_above_the_other(one: Path, other: Path, expected: bool) -> None:
    """Two paths overlap exactly if one is a prefix of the other, segment by segment."""
    assert overlap(one, other) is expected
    assert overlap(other, one) is expected


@pytest.mark.parametrize("mine", [X, S])
@pytest.mark.parametrize("yours", [X, S])
@pytest.mark.parametrize("same_owner", [True, False])
@pytest.mark.parametrize("path", [(), ("a",), ("a", "b"), ("a", "b", "c"), ("a", "c"), ("x",)])
def test_conflicts(mine: Mode, yours: Mode, same_owner: bool, path: Path) -> None:
    """A record conflicts with a request if owners differ, not both are shared, and paths overlap."""
    (record,) = records_of(request(path, owner=ME if same_owner else YOU, mode=yours))
    overlaps = path not in {("a", "c"), ("x",)}
    expected = not same_owner and not (mine is yours is S) and overlaps
    assert record.conflicts(request(("a", "b"), mode=mine)) is expected
    assert record.conflicts(request(("q",), ("a", "b"), mode=mine)) is expected


@given(close_paths, close_paths)
@example(("!",), ("!", "!"))
@example(("/a",), ("a",))
def test_keys_of_different_locks_never_meet(one: Path, other: Path) -> None:
    """The records of two locks lie at different keys, neither below the other, whatever their paths are."""
    for first, second in itertools.product(
        request(one).keys(HOLDERS) + request(one).keys(WAITERS), request(other, name="here/2").keys(HOLDERS)
    ):
        same_space = first.space == second.space
        assert not (same_space and overlap(first.path, second.path))
    if one != other:
        assert request(one).keys(HOLDERS) != request(other).keys(HOLDERS)


@given(st.one_of(close_paths, paths), st.lists(st.one_of(close_paths, paths), max_size=12, unique=True))
def test_scopes_cover_what_overlaps(path: Path, others: list[Path]) -> None:
    """Below the scopes of a path lies each record of an overlapping path, once, and no other."""
    simulation = Simulation()
    for number, other in enumerate(others):
        made = request(other, name=f"there/{number}")
        simulation.backend.execute(Transaction(writes=tuple(Put(key, made.record) for key in made.keys(HOLDERS))))
    found = simulation.do(simulation.protocol.find_locks(scopes_of(path, HOLDERS)))
    assert sorted(record.path for record in found) == sorted(other for other in others if overlap(path, other))
    above = simulation.do(simulation.protocol.find_locks(scopes_above(path, HOLDERS)))
    assert sorted(record.path for record in above) == sorted(other for other in others if path[: len(other)] == other)


@given(paths, st.sampled_from([X, S]), st.text(st.characters(exclude_categories=())), st.integers(0, 2**53))
@example((), X, "", 0)
@example(("a",), S, " host  with blanks 1 2 ", 1)
@example(("\ud800",), X, "host \ud800", 1)
def test_records_are_parsed_as_written(path: Path, mode: Mode, label: str, since: int) -> None:
    """A record is parsed as it was written, with any label; text that is not valid UTF-8 is replaced."""
    made = Request("here/1", Owner("here.1", label), mode, [path], since)
    for space in (HOLDERS, WAITERS):
        (record,) = records_of(made, space)
        assert record == Record(
            made.keys(space)[0],
            made.record,
            "here/1",
            path,
            (path,),
            mode,
            "here.1",
            since,
            label.encode("utf-8", "replace").decode(),
        )
        assert record.held is (space == HOLDERS)
        assert record.value.startswith(made.compatible) or mode is X
        assert record.value.startswith(exclusive_to(made.owner)) is (mode is X)
        assert label.encode("utf-8", "replace").decode() in str(record)


@given(st.lists(paths, min_size=1, max_size=4))
@example([("\ud83d\ude00",), ("\U0001f600",), ("a b", ",", "/")])
@example([()])
def test_each_record_lists_all_paths(locked: list[Path]) -> None:
    """Each record of a lock on several paths lists all of them."""
    made = request(*locked, owner=YOU)
    found = records_of(made)
    assert sorted(record.path for record in found) == sorted(made.paths)
    for record in found:
        assert set(record.paths) == set(made.paths)
        assert all(record.conflicts(request(path)) for path in made.paths)


def test_names_of_owners_are_no_prefixes() -> None:
    """What I hold is not taken for what an owner holds whose name begins with mine."""
    longer = Owner("here.12", "host")
    assert not request((), owner=longer).record.startswith(request(()).compatible)
    assert not request((), mode=S).record.startswith(request(()).compatible)
    assert request(()).record.startswith(request(()).compatible)
    assert request((), owner=longer, mode=S).record.startswith(request((), mode=S).compatible)


fields = st.one_of(
    st.sampled_from([b"Xme", b"S", b"1", b"-", b"/61", b"/61,/62/63", b"/zz", b"/ff", b","]), st.binary(max_size=9)
)
keys = st.lists(st.sampled_from(["!", "/a", "/", "a", "here/1"]), max_size=4).map(tuple)


@given(st.lists(fields, min_size=1, max_size=5).map(b" ".join), keys)
@example(b"", ("/a", "!", "here/1"))
@example(b"X", ("/a", "!", "here/1"))
@example(b"X   ", ("!", "here/1"))
@example(b"Xme 1 /61,/ label", ("!", "here/1"))
@example(b"Xme 1 /6 label", ("!", "here/1"))
@example(b"Xme 1 /ed label", ("!", "here/1"))
@example("Xme 1 /\u0661\u0661 label".encode(), ("!", "here/1"))
@example(b"Xme 1 " + b"/61" * 500 + b" label", ("!", "here/1"))
@example(b"Zme 1 - label", ("/a", "!", "here/1"))
@example(b"Xme 1 - label", ("here/1",))
@example(b"Xme 1 - label", ())
@example("X\u00e9 \u0661 \xe9".encode("latin-1", "replace"), ("!", "here/1"))
@example("Xme \u0661\u0662 - label".encode(), ("!", "here/1"))
@example("Xme \u00b2 - label".encode(), ("!", "here/1"))
def test_a_strangers_bytes_raise_nothing(value: bytes, path: Path) -> None:
    """An entry that is not a record is left out, or read as far as it is one; it never raises."""
    for record in records_in(Key(HOLDERS, ()), Entries({path: value})):
        assert value[:1] in {b"X", b"S"}
        assert path[-2] == "!"
        assert record.path in record.paths
        assert all(len(other) <= MAX_DEPTH and all(other) for other in record.paths)
        assert record.request == path[-1]
        assert str(record)
        assert record.conflicts(request(())) in {True, False}


def test_a_strangers_huge_number_raises_nothing() -> None:
    """A time of more digits than Python takes for a number is no reason to fail."""
    list(records_in(Key(HOLDERS, ()), Entries({("!", "here/1"): b"Xme " + b"1" * 5_000 + b" - label"})))


@pytest.mark.parametrize("path", [("a", "!", "here/1"), ("/", "!", "here/1"), ("/a", "!", "!", "here/1")])
def test_a_strangers_key_is_left_out(path: Path) -> None:
    """A key that no request has is no record, whatever lies there."""
    assert not list(records_in(Key(HOLDERS, ()), Entries({path: b"Xme 1 - label"})))


@given(st.lists(close_paths, min_size=1, max_size=6))
def test_several_paths_are_reduced(locked: list[Path]) -> None:
    """Paths below another path of the same request are dropped, and duplicates too."""
    kept = request(*locked).paths
    assert all(not overlap(one, other) for one, other in itertools.combinations(kept, 2))
    assert set(kept) <= set(locked)
    assert all(any(path[: len(above)] == above for above in kept) for path in locked)
    scopes = request(*locked).scopes[HOLDERS]
    assert len(set(scopes)) == len(scopes)
    assert set(scopes) == {scope for path in kept for scope in scopes_of(path, HOLDERS)}


def test_a_request_has_a_path() -> None:
    """A request for nothing is a fault of the caller."""
    with pytest.raises(InternalError):
        request()


def test_how_deep_a_lock_may_lie() -> None:
    """A path of two segments less than the deepest can be locked; its record fits a key."""
    deepest = ("a",) * (MAX_DEPTH - 2)
    (key,) = request(deepest).keys(HOLDERS)
    assert len(key.path) == MAX_DEPTH
    simulation = Simulation()
    made = simulation.hold("1", deepest)
    assert simulation.start(simulation.request("2", ("a",)), 0).outcome() is None
    assert simulation.release(made)
    with pytest.raises(PathError, match="127 segments; a locked path must have at most 126"):
        request(("b",), (*deepest, "a"))


def test_another_name_is_another_key() -> None:
    """A request that was renamed lies elsewhere and is notified under the old name."""
    made = request(("a",))
    before = made.keys(HOLDERS)
    made.rename()
    assert made.keys(HOLDERS) != before
    assert made.listener == "here/1"
    assert made.name != "here/1"


def test_reads_are_pages() -> None:
    """Records are read in pages, with TTLs if requested."""
    for ttls in (False, True):
        (read,) = reads_of([Key(HOLDERS, ("!",))], ttls=ttls)
        assert read.scope is Scope.BELOW
        assert read.limit is not None
        assert read.ttls is ttls


def test_records_have_ttls() -> None:
    """A record that was read with its TTL has it in milliseconds."""
    simulation = Simulation()
    simulation.hold("1", ("a",))
    simulation.clock.advance(1)
    (record,) = simulation.records(HOLDERS)
    assert record.ttl == 29_000
    outcome = simulation.backend.execute(Transaction((), tuple(reads_of(scopes_of((), HOLDERS)))))
    last = outcome.answers[-1]
    assert isinstance(last, Entries)
    (bare,) = records_in(Key(HOLDERS, ()), last)
    assert bare == record._replace(ttl=None)
