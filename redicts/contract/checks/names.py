"""Names: every text is a segment of its own, and spaces share nothing."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from redicts.contract.check import conformance_check
from redicts.contract.fixture import Fixture
from redicts.contract.requirements import require, require_equal
from redicts.contract.trees import within, without
from redicts.core.minitransaction import (
    MAX_DEPTH,
    NOTHING,
    Delete,
    Equals,
    Key,
    Path,
    Put,
    Scope,
    StartsWith,
)

_SEPARATORS: Final = (
    ".",
    ":",
    "/",
    "\\",
    "\x00",
    "|",
    ",",
    " ",
    "\x01",
    "\x1f",
    "%2E",
    "\\.",
    "..",
    "::",
    "', '",
    '", "',
)


@conformance_check()
def names_are_kept_apart(fixture: Fixture) -> None:
    """Every text is one segment, as a leaf and as a dict: ``("a.b",)`` is not ``("a", "b")``."""
    names = list(fixture.harness.names)
    leaves: Mapping[Path, bytes] = {("dict", name): b"%d" % number for number, name in enumerate(names)}
    dicts: Mapping[Path, bytes] = {(name, "leaf"): b"%d" % number for number, name in enumerate(names)}
    for tree in (leaves, dicts):
        fixture.plant(tree)
        fixture.expect(tree)
    for separator in _SEPARATORS:
        joined, ends, begins = f"a{separator}b", f"a{separator}", f"{separator}b"
        tree = {
            (joined,): b"1",
            ("a", "b"): b"2",
            (ends, "b"): b"3",
            ("c", joined, "d"): b"4",
            ("c", "a", "b", "d"): b"5",
            (begins, "a"): b"6",
            ("c", "a", begins, "d"): b"7",
        }
        fixture.plant(tree)
        fixture.expect(tree)
        for path in (("a",), (joined,), ("c", joined), ("c", "a")):
            fixture.store.apply(Delete(fixture.key(*path), Scope.SUBTREE))
            tree = without(tree, path, Scope.SUBTREE)
            fixture.expect(tree)


@conformance_check()
def patterns_are_data(fixture: Fixture) -> None:
    """A segment that looks like a pattern or a placeholder matches only itself."""
    others = {("abc",): b"1", ("d", "abc"): b"2", ("d", "x", "abc"): b"3", ("d", "%"): b"4"}
    for pattern in (
        "*",
        "a*",
        "?bc",
        "a?c",
        "[a]bc",
        "[!x]bc",
        "a_c",
        "a%",
        "_",
        "**",
        ".*",
        "a.c",
        "a\\bc",
        "{abc}",
        "(abc)",
        "^abc$",
    ):
        fixture.plant(others)
        for path in ((pattern,), ("d", pattern), ("d", "x", pattern), (pattern, pattern)):
            key = fixture.key(*path)
            require_equal(dict(fixture.store.read(key)), {}, f"at {path!r} there is")
            require(
                fixture.store.holds(Equals(key, Scope.SUBTREE, NOTHING)), f"a check at {path!r} matches other names"
            )
            require(
                fixture.store.holds(StartsWith(key, Scope.SUBTREE, b"x")), f"a check at {path!r} matches other names"
            )
            fixture.store.apply(Delete(key, Scope.SUBTREE), Delete(key, Scope.BELOW), Delete(key, Scope.NODE))
        fixture.expect(others)


@conformance_check()
def spaces_share_nothing(fixture: Fixture) -> None:
    """The same path in two spaces is two keys, also if the name of one space begins with the other."""
    spaces = [fixture.space, fixture.fresh_space(), fixture.fresh_space(after=fixture.space)]
    tree = {("a", "b"): b"1", ("x", "b"): b"2", ("c",): b"3"}
    fixture.store.apply(*(Put(Key(space, path), value) for space in spaces[1:] for path, value in tree.items()))
    fixture.expect({})
    require(fixture.store.holds(Equals(fixture.key(), Scope.SUBTREE, NOTHING)), "a check looks into another space")
    fixture.store.apply(Put(fixture.key("a", "b"), b"mine"), Put(fixture.key("own"), b"mine"))
    fixture.store.apply(Delete(fixture.key("x"), Scope.SUBTREE), Delete(fixture.key("c"), Scope.NODE))
    fixture.expect({("a", "b"): b"mine", ("own",): b"mine"})
    fixture.store.apply(Delete(fixture.key(), Scope.SUBTREE))
    for space in spaces[1:]:
        fixture.space = space
        fixture.expect(tree)
        fixture.store.apply(Delete(fixture.key(), Scope.BELOW))
        fixture.expect({})


@conformance_check()
def paths_may_be_deep(fixture: Fixture) -> None:
    """A path may have as many segments as redicts allows, and scopes and deletes reach that depth."""
    deep = tuple(f"n{depth}" for depth in range(MAX_DEPTH))
    tree = {deep: b"1", (*deep[:-1], "beside"): b"2", (*deep[:64], "half"): b"3"}
    fixture.plant(tree)
    fixture.expect(tree)
    require_equal(
        dict(fixture.store.read(fixture.key(*deep[:64]))), within(tree, deep[:64], Scope.SUBTREE), "half way, there is"
    )
    fixture.store.apply(Delete(fixture.key(*deep[:65]), Scope.SUBTREE))
    fixture.expect({(*deep[:64], "half"): b"3"})
