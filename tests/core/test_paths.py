"""Dotted text and segments say the same, and what is no path is refused by name."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from redicts.core.minitransaction import MAX_DEPTH
from redicts.core.paths import ROOT, described, joined, parse, render, shortened
from redicts.errors import PathError, RedictsError

segments = st.one_of(st.text(st.characters(), min_size=1, max_size=6), st.text(".\\a", min_size=1, max_size=6))
paths = st.lists(segments, max_size=6).map(tuple)


@given(path=paths.filter(bool))
@example(path=("\\", ".", "\\.", ".\\", "..", "\\\\"))
@example(path=("a",) * MAX_DEPTH)
def test_rendered_paths_parse_back(path: tuple[str, ...]) -> None:
    """The dotted text of a path is read as that path, whatever its segments are made of."""
    assert parse(render(path)) == path


@given(path=paths)
def test_iterables_are_taken_segment_by_segment(path: tuple[str, ...]) -> None:
    """A list, a tuple, an iterator: each element is one segment, and nothing in it is special."""
    assert parse(list(path)) == parse(path) == parse(iter(path)) == path


@given(text=st.text(st.one_of(st.sampled_from(".\\ab"), st.characters()), max_size=12))
@example(text="")
@example(text=".")
@example(text="a\\")
@example(text="\\\\.\\.")
def test_text_has_one_meaning_or_none(text: str) -> None:
    """Text either is refused, or is the only text of the path that it means."""
    try:
        path = parse(text)
    except PathError:
        return
    assert render(path) == text


@given(one=paths, other=paths)
def test_different_paths_have_different_text(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """No two paths are rendered alike."""
    assume(one != other)
    assert render(one) != render(other)


def test_the_root_is_the_empty_path() -> None:
    """The root has no segments; its text is empty, which is the text of no other path."""
    assert ROOT == ()
    assert render(ROOT) == ""
    assert parse([]) == ROOT
    with pytest.raises(PathError):
        parse("")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a", ("a",)),
        ("a.b.c", ("a", "b", "c")),
        (" a . b ", (" a ", " b ")),
        (r"a\.b.c", ("a.b", "c")),
        (r"a\\.b", ("a\\", "b")),
        (r"a\\\.b", ("a\\.b",)),
        (r"\.", (".",)),
        (r"\\", ("\\",)),
        ("*.?.[a]", ("*", "?", "[a]")),
        ("\x00.\ud800", ("\x00", "\ud800")),
    ],
)
def test_how_text_is_read(text: str, path: tuple[str, ...]) -> None:
    """A dot separates; an escaped dot and an escaped backslash are characters of a segment; the rest is data."""
    assert parse(text) == path


def test_a_backslash_escapes_two_characters_only() -> None:
    """Before anything but a dot and a backslash, a backslash is a mistake that is not guessed at."""
    for code in range(1, 0x250):
        if chr(code) not in ".\\":
            with pytest.raises(PathError, match="a backslash before"):
                parse(f"x\\{chr(code)}y")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("", "'' has an empty segment"),
        (".", "'.' has an empty segment"),
        ("a..b", "'a..b' has an empty segment"),
        ("a.", "'a.' has an empty segment"),
        (["a", ""], "['a', ''] has an empty segment"),
        ("a\\", "a backslash before ''"),
        (r"a\b", "a backslash before 'b'"),
        (r"a\ .b", "a backslash before ' '"),
        (None, "not NoneType"),
        (5, "not int"),
        (b"a", "not bytes"),
        (bytearray(b"a"), "not bytearray"),
        (["a", 5], "not int: 5"),
        (["a", None], "not NoneType: None"),
        ([b"a"], "not bytes: b'a'"),
        ([["a"]], "not list: ['a']"),
        (["a"] * (MAX_DEPTH + 1), f"{MAX_DEPTH + 1} segments; at most {MAX_DEPTH}"),
        (".".join(["a"] * (MAX_DEPTH + 1)), f"{MAX_DEPTH + 1} segments; at most {MAX_DEPTH}"),
        (r"\..".join(["a"] * (MAX_DEPTH + 1)), f"{MAX_DEPTH + 1} segments; at most {MAX_DEPTH}"),
    ],
)
def test_paths_that_are_not_valid_are_refused(wrong: Iterable[str], says: str) -> None:
    """A path that is not valid raises PathError, a ``ValueError`` that says what is wrong."""
    with pytest.raises(PathError) as caught:
        parse(wrong)
    assert isinstance(caught.value, (RedictsError, ValueError))
    assert says in str(caught.value)


def test_a_path_may_have_so_many_segments() -> None:
    """The deepest path is accepted, in every form, and joined from two."""
    deepest = ("a",) * MAX_DEPTH
    assert parse(deepest) == parse(".".join(deepest)) == joined(deepest[:50], deepest[50:]) == deepest
    assert joined((), ()) == ROOT
    with pytest.raises(PathError, match=str(MAX_DEPTH + 1)):
        joined(deepest, ("b",))


@pytest.mark.parametrize(
    "wrong",
    ["x" * 10_000 + "..", "\\" + "x" * 10_000, ["x" * 10_000, ""], b"x" * 10_000, [b"x" * 10_000], [5, "x" * 10_000]],
)
def test_errors_about_long_paths_are_short(wrong: Iterable[str]) -> None:
    """An error shows the beginning of what is wrong, and how long it is, however long that is."""
    with pytest.raises(PathError) as caught:
        parse(wrong)
    assert len(str(caught.value)) < 1_000


def test_how_errors_name_paths() -> None:
    """An error names a path by its dotted text in quotes, and the root in words."""
    assert described(("a.b", "c")) == repr(r"a\.b.c")
    assert described(ROOT) == "the root"
    assert shortened("abc") == "'abc'"
    assert shortened("x" * 300, most=10) == "'xxxxxxxxx... (302 characters)"
