"""Keys as bytes: the encoding is lossless, and every scope is one contiguous range."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from redicts.core.minitransaction import Key, Path, Scope
from redicts.core.ordered_keys import below, bounds, decode, decode_all, encode, past

SEGMENTS = st.one_of(
    st.text(st.sampled_from("\x00\x01\x02\x03a.\xff\ud800\udc00\U00010000\U0010ffff"), min_size=1, max_size=3),
    st.text(st.characters(), min_size=1, max_size=4),
    st.builds(str.__mul__, st.sampled_from("\x00\x01a\ud800"), st.integers(1, 3_000)),
)
PATHS: st.SearchStrategy[Path] = st.lists(SEGMENTS, max_size=4).map(tuple)
SPACES = st.sampled_from(["v", "vx", "w"])
DATABASES = st.sampled_from(["0", "1", "10"])


@given(DATABASES, SPACES, PATHS, PATHS)
def test_a_path_relative_to_a_key_comes_back(database: str, space: str, base: Path, path: Path) -> None:
    """The bytes after those of a key decode to the rest of the path."""
    prefix = encode(database, Key(space, base))
    whole = encode(database, Key(space, base + path))
    assert whole.startswith(prefix)
    assert decode(whole[len(prefix) :]) == path


@given(st.lists(PATHS, max_size=5))
def test_many_are_decoded_as_one_by_one(paths: list[Path]) -> None:
    """Decoding many paths at once equals decoding each."""
    skip = len(encode("0", Key("v", ())))
    rests = sorted([encode("0", Key("v", path))[skip:] for path in paths])
    assert decode_all(rests) == [decode(rest) for rest in rests]
    assert decode_all([rest for rest in rests if rest]) == [decode(rest) for rest in rests if rest]


@given(st.tuples(DATABASES, SPACES, PATHS), st.tuples(DATABASES, SPACES, PATHS), st.sampled_from(Scope))
def test_a_scope_is_a_range(base: tuple[str, str, Path], other: tuple[str, str, Path], scope: Scope) -> None:
    """A key lies between the bounds of a scope exactly if the scope covers it."""
    lower, upper = bounds(encode(base[0], Key(base[1], base[2])), scope)
    depth = len(base[2])
    below = other[:2] == base[:2] and other[2][:depth] == base[2]
    inside = lower < encode(other[0], Key(other[1], other[2])) < upper
    assert inside == (below and scope.covers(other[2][depth:]))


@given(PATHS, PATHS, PATHS)
def test_past_a_key_is_after_its_subtree(base: Path, below: Path, other: Path) -> None:
    """``past`` a key sorts after all keys below it, and before every key that follows."""
    end = past(encode("0", Key("v", base)))
    assert encode("0", Key("v", base + below)) < end
    further = encode("0", Key("v", other))
    if other[: len(base)] != base and further > encode("0", Key("v", base)):
        assert further > end


@given(st.lists(PATHS, unique=True, max_size=6), PATHS)
def test_the_end_of_a_key_is_the_cursor_of_its_page(paths: list[Path], last: Path) -> None:
    """The keys after a cursor are those of the paths after the last one, whether that is still there or not."""
    base = encode(0, Key("v", ("a",)))
    keys = sorted([below(base, path) for path in paths])
    cursor = below(b"", last)
    assert [decode(key[len(base) :]) for key in keys if key > base + cursor] == sorted(p for p in paths if p > last)


@given(PATHS, PATHS)
def test_keys_sort_as_their_paths(left: Path, right: Path) -> None:
    """The order of the bytes is that of the paths, segment by segment and code point by code point."""
    assert (encode("0", Key("v", left)) < encode("0", Key("v", right))) == (left < right)


def test_neighbours_are_not_below() -> None:
    """Neither is ``ab`` below ``a``, nor database 10 in database 1, nor space ``vx`` in space ``v``."""
    lower, upper = bounds(encode("1", Key("v", ("a",))), Scope.SUBTREE)
    for database, space, path in (
        ("1", "v", ("ab",)),
        ("1", "v", ("a\x00",)),
        ("1", "v", ("a\x01",)),
        ("10", "v", ("a",)),
        ("1", "vx", ("a",)),
    ):
        assert not lower < encode(database, Key(space, path)) < upper
