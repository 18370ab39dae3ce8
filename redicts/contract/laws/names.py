"""Names: every text is a segment of its own, and spaces share nothing."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st

from redicts.contract.bench import Bench
from redicts.contract.form import entries_of, names_of
from redicts.contract.law import law, require, require_equal, shortened
from redicts.contract.trees import within, without
from redicts.core.transaction import (
    MAX_DEPTH,
    NOTHING,
    Delete,
    Exactly,
    Key,
    Path,
    Prefixed,
    Put,
    Read,
    ReadNames,
    Scope,
)


@law()
def every_name_names_a_leaf(bench: Bench) -> None:
    """Each hostile segment names a leaf: it is stored, found, listed, checked and deleted, alone in its dict."""
    for name in bench.harness.names:
        bench.plant({(name,): b"1"})
        bench.expect({(name,): b"1"})
        bench.store.apply(Put(bench.key(name), b"2"))
        require_equal(bench.store.value(bench.key(name)), b"2", f"the value at {shortened(name)} is")
        bench.store.apply(Delete(bench.key(name), Scope.NODE))
        bench.expect({})


@law()
def every_name_names_a_dict(bench: Bench) -> None:
    """Each hostile segment names a dict, on two levels: with its own text and a plain one below."""
    for name in bench.harness.names:
        tree = {(name, name): b"1", (name, "plain", name): b"2", ("plain", name, name): b"3"}
        bench.plant(tree)
        bench.expect(tree)
        bench.store.apply(Delete(bench.key(name), Scope.SUBTREE))
        bench.expect({("plain", name, name): b"3"})


@law()
def names_are_kept_apart(bench: Bench) -> None:
    """All hostile segments together are as many leaves of one dict, and as many dicts: none is taken for another."""
    names = list(bench.harness.names)
    leaves: Mapping[Path, bytes] = {("dict", name): b"%d" % number for number, name in enumerate(names)}
    dicts: Mapping[Path, bytes] = {(name, "leaf"): b"%d" % number for number, name in enumerate(names)}
    for tree in (leaves, dicts):
        bench.plant(tree)
        bench.expect(tree)


@law()
def a_write_hits_one_name(bench: Bench) -> None:
    """Among all hostile segments, deleting one leaves all others: no pattern, no prefix, no separator, no case."""
    names = list(bench.harness.names)
    tree: dict[Path, bytes] = {(name, "leaf"): b"%d" % number for number, name in enumerate(names)}
    bench.plant(tree)
    for number, name in enumerate(names):
        scope = (Scope.SUBTREE, Scope.BELOW)[number % 2]
        outcome = bench.store.run(
            reads=[Read(bench.key(name), Scope.SUBTREE), ReadNames(bench.key(name))],
            writes=[Delete(bench.key(name), scope)],
        )
        tree = without(tree, (name,), scope)
        require_equal(dict(bench.store.read(bench.key())), tree, f"without {shortened(name)}, there are")
        values, listing = entries_of(outcome.answers[0]).values, names_of(outcome.answers[1]).names
        require_equal(dict(values), {("leaf",): b"%d" % number}, f"below {shortened(name)} there is")
        require_equal(set(listing), {"leaf"}, f"the names below {shortened(name)} are")


@law()
def a_prefix_of_a_name_is_another_name(bench: Bench) -> None:
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
        bench.plant(beside)
        for place in ((short,), ("d", short), ("e", short)):
            key = bench.key(*place)
            require_equal(dict(bench.store.read(key)), {}, f"below {place!r}, beside {long!r}, there is")
            require_equal(bench.store.names(key), set(), f"the names below {place!r}, beside {long!r}, are")
            for scope in Scope:
                free = bench.store.holds(Exactly(key, scope, NOTHING), Prefixed(key, scope, b"me"))
                require(free, f"checks at {place!r}, {scope.name} look at {long!r}")
                bench.store.apply(Delete(key, scope))
        bench.expect(beside)
        both = {**beside, (short, "x"): b"4", ("d", short): b"5", ("e", short, "x"): b"6"}
        bench.plant(both)
        bench.expect(both)
        bench.store.apply(
            *(Delete(bench.key(*place), Scope.SUBTREE) for place in ((short,), ("d", short), ("e", short)))
        )
        bench.expect(beside)


@law()
def separators_are_data(bench: Bench) -> None:
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
        bench.plant(tree)
        bench.expect(tree)
        for place in (("a",), (joined,), ("c", joined), ("c", "a")):
            bench.store.apply(Delete(bench.key(*place), Scope.SUBTREE))
            tree = without(tree, place, Scope.SUBTREE)
            bench.expect(tree)


@law()
def patterns_are_data(bench: Bench) -> None:
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
        bench.plant(others)
        for place in ((pattern,), ("d", pattern), ("d", "x", pattern), (pattern, pattern)):
            key = bench.key(*place)
            require_equal(dict(bench.store.read(key)), {}, f"at {place!r} there is")
            require(
                bench.store.holds(Exactly(key, Scope.SUBTREE, NOTHING)), f"a check at {place!r} matches other names"
            )
            require(bench.store.holds(Prefixed(key, Scope.SUBTREE, b"x")), f"a check at {place!r} matches other names")
            bench.store.apply(Delete(key, Scope.SUBTREE), Delete(key, Scope.BELOW), Delete(key, Scope.NODE))
        bench.expect(others)


@law()
def spaces_share_nothing(bench: Bench) -> None:
    """The same path in two spaces names two values, and a space is not its neighbour whose name begins alike."""
    spaces = [bench.space, bench.fresh_space(), bench.fresh_space(beside=bench.space)]
    tree = {("a", "b"): b"1", ("x", "b"): b"2", ("c",): b"3"}
    bench.store.apply(*(Put(Key(space, path), value) for space in spaces[1:] for path, value in tree.items()))
    bench.expect({})
    require(bench.store.holds(Exactly(bench.key(), Scope.SUBTREE, NOTHING)), "a check looks into another space")
    bench.store.apply(Put(bench.key("a", "b"), b"mine"), Put(bench.key("own"), b"mine"))
    bench.store.apply(Delete(bench.key("x"), Scope.SUBTREE), Delete(bench.key("c"), Scope.NODE))
    bench.expect({("a", "b"): b"mine", ("own",): b"mine"})
    bench.store.apply(Delete(bench.key(), Scope.SUBTREE))
    for space in spaces[1:]:
        bench.space = space
        bench.expect(tree)
        bench.store.apply(Delete(bench.key(), Scope.BELOW))
        bench.expect({})


@law()
def paths_may_be_deep(bench: Bench) -> None:
    """A path may have as many segments as redicts allows, and scopes and deletes reach down there."""
    deep = tuple(f"n{depth}" for depth in range(MAX_DEPTH))
    tree = {deep: b"1", (*deep[:-1], "beside"): b"2", (*deep[:64], "half"): b"3"}
    bench.plant(tree)
    bench.expect(tree)
    require_equal(
        dict(bench.store.read(bench.key(*deep[:64]))), within(tree, deep[:64], Scope.SUBTREE), "half way, there is"
    )
    bench.store.apply(Delete(bench.key(*deep[:65]), Scope.SUBTREE))
    bench.expect({(*deep[:64], "half"): b"3"})


@law()
def any_tree_comes_back(bench: Bench) -> None:
    """Whatever tree of the harness's segments and values is stored comes back, whole and without a part of it."""
    segments, values = bench.harness.segments(), bench.harness.values()
    paths = st.lists(segments, min_size=1, max_size=4).map(tuple)
    trees = st.dictionaries(paths, values, min_size=1, max_size=8).map(_prefix_free)

    def comes_back(tree: dict[Path, bytes]) -> None:
        bench.plant(tree)
        bench.expect(tree)
        place = min(tree)[:1]
        bench.store.apply(Delete(bench.key(*place), Scope.SUBTREE))
        bench.expect(without(tree, place, Scope.SUBTREE))

    bench.for_all(trees, 500 if bench.thorough else 60, comes_back)


def _prefix_free(tree: dict[Path, bytes]) -> dict[Path, bytes]:
    """Leave out what lies below a leaf."""
    return {path: value for path, value in tree.items() if not any(path[:depth] in tree for depth in range(len(path)))}
