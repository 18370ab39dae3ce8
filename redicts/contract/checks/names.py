"""Names: every text is a segment of its own, and spaces share nothing."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st

from redicts.contract.check import conformance_check, require, require_equal, shortened
from redicts.contract.fixture import Fixture
from redicts.contract.form import entries_of, names_of
from redicts.contract.trees import within, without
from redicts.core.minitransaction import (
    MAX_DEPTH,
    NOTHING,
    Delete,
    Equals,
    Key,
    Path,
    Put,
    Read,
    ReadNames,
    Scope,
    StartsWith,
)


@conformance_check()
def every_name_names_a_leaf(fixture: Fixture) -> None:
    """Each hostile segment names a leaf: it is stored, found, listed, checked and deleted, alone in its dict."""
    for name in fixture.harness.names:
        fixture.plant({(name,): b"1"})
        fixture.expect({(name,): b"1"})
        fixture.store.apply(Put(fixture.key(name), b"2"))
        require_equal(fixture.store.value(fixture.key(name)), b"2", f"the value at {shortened(name)} is")
        fixture.store.apply(Delete(fixture.key(name), Scope.NODE))
        fixture.expect({})


@conformance_check()
def every_name_names_a_dict(fixture: Fixture) -> None:
    """Each hostile segment names a dict, on two levels: with its own text and a plain one below."""
    for name in fixture.harness.names:
        tree = {(name, name): b"1", (name, "plain", name): b"2", ("plain", name, name): b"3"}
        fixture.plant(tree)
        fixture.expect(tree)
        fixture.store.apply(Delete(fixture.key(name), Scope.SUBTREE))
        fixture.expect({("plain", name, name): b"3"})


@conformance_check()
def names_are_kept_apart(fixture: Fixture) -> None:
    """All hostile segments together are as many leaves of one dict, and as many dicts: none is taken for another."""
    names = list(fixture.harness.names)
    leaves: Mapping[Path, bytes] = {("dict", name): b"%d" % number for number, name in enumerate(names)}
    dicts: Mapping[Path, bytes] = {(name, "leaf"): b"%d" % number for number, name in enumerate(names)}
    for tree in (leaves, dicts):
        fixture.plant(tree)
        fixture.expect(tree)


@conformance_check()
def a_write_hits_one_name(fixture: Fixture) -> None:
    """Among all hostile segments, deleting one leaves all others: no pattern, no prefix, no separator, no case."""
    names = list(fixture.harness.names)
    tree: dict[Path, bytes] = {(name, "leaf"): b"%d" % number for number, name in enumerate(names)}
    fixture.plant(tree)
    for number, name in enumerate(names):
        scope = (Scope.SUBTREE, Scope.BELOW)[number % 2]
        outcome = fixture.store.run(
            reads=[Read(fixture.key(name), Scope.SUBTREE), ReadNames(fixture.key(name))],
            writes=[Delete(fixture.key(name), scope)],
        )
        tree = without(tree, (name,), scope)
        require_equal(dict(fixture.store.read(fixture.key())), tree, f"without {shortened(name)}, there are")
        values, listing = entries_of(outcome.answers[0]).values, names_of(outcome.answers[1]).names
        require_equal(dict(values), {("leaf",): b"%d" % number}, f"below {shortened(name)} there is")
        require_equal(set(listing), {"leaf"}, f"the names below {shortened(name)} are")


@conformance_check()
def a_prefix_of_a_name_is_another_name(fixture: Fixture) -> None:
    """What is done to ``a`` never touches ``ab``: checks, reads, names, deletes."""
    for short, long in (
        ("a", "ab"),
        ("a", "a.b"),
        ("a", "a "),
        ("a", "a\x00"),
        ("a", "a*"),
        ("a", "a/"),
        ("1", "10"),
        ("é", "éa"),
    ):
        beside = {(long,): b"1", ("d", long): b"2", ("e", long, "x"): b"3"}
        fixture.plant(beside)
        for place in ((short,), ("d", short), ("e", short)):
            key = fixture.key(*place)
            require_equal(dict(fixture.store.read(key)), {}, f"below {place!r}, beside {long!r}, there is")
            require_equal(fixture.store.names(key), set(), f"the names below {place!r}, beside {long!r}, are")
            for scope in Scope:
                free = fixture.store.holds(Equals(key, scope, NOTHING), StartsWith(key, scope, b"me"))
                require(free, f"checks at {place!r}, {scope.name} look at {long!r}")
                fixture.store.apply(Delete(key, scope))
        fixture.expect(beside)
        both = {**beside, (short, "x"): b"4", ("d", short): b"5", ("e", short, "x"): b"6"}
        fixture.plant(both)
        fixture.expect(both)
        fixture.store.apply(
            *(Delete(fixture.key(*place), Scope.SUBTREE) for place in ((short,), ("d", short), ("e", short)))
        )
        fixture.expect(beside)


@conformance_check()
def separators_are_data(fixture: Fixture) -> None:
    """A segment with a separator in it is one segment: ``("a.b",)`` is not ``("a", "b")``, for every separator."""
    for separator in (
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
    ):
        joined, ends, begins = f"a{separator}b", f"a{separator}", f"{separator}b"
        tree = {
            (joined,): b"1",
            ("a", "b"): b"2",
            (ends, "b"): b"3",
            ("c", joined, "d"): b"4",
            ("c", "a", "b", "d"): b"5",
        }
        tree[begins, "a"] = b"6"
        tree["c", "a", begins, "d"] = b"7"
        fixture.plant(tree)
        fixture.expect(tree)
        for place in (("a",), (joined,), ("c", joined), ("c", "a")):
            fixture.store.apply(Delete(fixture.key(*place), Scope.SUBTREE))
            tree = without(tree, place, Scope.SUBTREE)
            fixture.expect(tree)


@conformance_check()
def patterns_are_data(fixture: Fixture) -> None:
    """A segment that looks like a pattern, a wildcard or a placeholder names itself only."""
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
        for place in ((pattern,), ("d", pattern), ("d", "x", pattern), (pattern, pattern)):
            key = fixture.key(*place)
            require_equal(dict(fixture.store.read(key)), {}, f"at {place!r} there is")
            require(
                fixture.store.holds(Equals(key, Scope.SUBTREE, NOTHING)), f"a check at {place!r} matches other names"
            )
            require(
                fixture.store.holds(StartsWith(key, Scope.SUBTREE, b"x")), f"a check at {place!r} matches other names"
            )
            fixture.store.apply(Delete(key, Scope.SUBTREE), Delete(key, Scope.BELOW), Delete(key, Scope.NODE))
        fixture.expect(others)


@conformance_check()
def spaces_share_nothing(fixture: Fixture) -> None:
    """The same path in two spaces names two values, and a space is not its neighbour whose name begins alike."""
    spaces = [fixture.space, fixture.fresh_space(), fixture.fresh_space(beside=fixture.space)]
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
    """A path may have as many segments as redicts allows, and scopes and deletes reach down there."""
    deep = tuple(f"n{depth}" for depth in range(MAX_DEPTH))
    tree = {deep: b"1", (*deep[:-1], "beside"): b"2", (*deep[:64], "half"): b"3"}
    fixture.plant(tree)
    fixture.expect(tree)
    require_equal(
        dict(fixture.store.read(fixture.key(*deep[:64]))), within(tree, deep[:64], Scope.SUBTREE), "half way, there is"
    )
    fixture.store.apply(Delete(fixture.key(*deep[:65]), Scope.SUBTREE))
    fixture.expect({(*deep[:64], "half"): b"3"})


@conformance_check()
def any_tree_comes_back(fixture: Fixture) -> None:
    """Whatever tree of the harness's segments and values is stored comes back, whole and without a part of it."""
    segments, values = fixture.harness.segments(), fixture.harness.values()
    paths = st.lists(segments, min_size=1, max_size=4).map(tuple)
    trees = st.dictionaries(paths, values, min_size=1, max_size=8).map(_prefix_free)

    def comes_back(tree: dict[Path, bytes]) -> None:
        fixture.plant(tree)
        fixture.expect(tree)
        place = min(tree)[:1]
        fixture.store.apply(Delete(fixture.key(*place), Scope.SUBTREE))
        fixture.expect(without(tree, place, Scope.SUBTREE))

    fixture.for_all(trees, 500 if fixture.thorough else 60, comes_back)


def _prefix_free(tree: dict[Path, bytes]) -> dict[Path, bytes]:
    """Leave out what lies below a leaf."""
    return {path: value for path, value in tree.items() if not any(path[:depth] in tree for depth in range(len(path)))}
