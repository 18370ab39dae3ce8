"""Reads of several paths are grouped and split again: every path gets the leaves at and below it, and is read once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from redicts.core.minitransaction import Path
from redicts.core.several import grouped, split

PATHS = st.lists(st.sampled_from("abc"), max_size=4).map(tuple)


@given(st.lists(PATHS, max_size=8), st.dictionaries(PATHS, st.binary(max_size=2), max_size=20))
def test_each_path_gets_what_a_read_of_it_would_return(paths: list[Path], stored: dict[Path, bytes]) -> None:
    """No group is read at a path that another group includes, and the parts are those of separate reads."""
    groups = grouped(paths)
    assert all(one is other or one[: len(other)] != other for one in groups for other in groups)
    parts = {}
    for top, group in groups.items():
        leaves = {path[len(top) :]: data for path, data in stored.items() if path[: len(top)] == top}
        parts.update(split(leaves, group, top))
    assert parts == {
        path: {each[len(path) :]: data for each, data in stored.items() if each[: len(path)] == path}
        for path in set(paths)
    }
