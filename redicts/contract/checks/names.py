"""Names: every text is a segment of its own, and spaces share nothing."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Final

from redicts.contract.alike import Alike
from redicts.contract.check import conformance_check
from redicts.contract.fixture import SHORT, Fixture
from redicts.contract.requirements import require, require_equal
from redicts.contract.trees import TREE, within, without
from redicts.core.minitransaction import (
    MAX_DEPTH,
    NOTHING,
    RECORDS,
    VALUES,
    Delete,
    Equals,
    Expire,
    Key,
    Notify,
    Path,
    Put,
    Scope,
    StartsWith,
    Write,
)
from redicts.errors import StoreError

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

_ESCAPED: Final = (
    *"\x00\x01\x02\x03\t\n\x1b\x1f\x7f\xff", *"./:\\%'\"*?[]{_~=+ #&<|,;$@!-^",
    "\ud800", "\udc80", "\u00e9", "\U0001f600",
)  # fmt: skip
"""Characters that a layout, a query language or a file system may have to escape."""

_ROUNDS: Final = 60
"""Transactions in the space of values, most of which change a document."""

_LONG_NAME: Final = 600
"""Characters of a segment that makes a path longer than the keys of an engine may be."""

_LONG_NAMES: Final = (2_000, 4_000, 9_000, 70_000)
"""Characters of paths: more than keys in indexes, pages, and 16 bits hold."""

_MOST_NAMES: Final = 900
"""Names that fit into one transaction of every store."""


@conformance_check()
def names_are_kept_apart(fixture: Fixture) -> None:
    """Every text is one segment, as a leaf and as a dict: ``("a.b",)`` is not ``("a", "b")``.

    Stores every name of the harness as a leaf and as a dict, and paths that become the same text with each of 16
    separators.
    """
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
    """A segment that looks like a pattern or a placeholder matches only itself.

    Reads, compares and deletes at paths that look like patterns, where nothing is stored.
    """
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
    """The same path in two spaces is two keys, also if the name of one space begins with the other.

    Writes, compares and deletes in three spaces, of which one begins with the name of another.
    """
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
    """A path may have as many segments as redicts allows, and scopes and deletes reach that depth.

    Stores and deletes at the greatest depth and half way.
    """
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
def escapes_are_data(fixture: Fixture) -> None:
    """A segment that is how a layout may write another one is not that one: escapes, control characters, surrogates.

    Stores hundreds of characters together with whatever escapes a layout may write for them, as leaves and as
    dicts.
    """
    names = _escapes()
    alone: dict[Path, bytes] = {("d", name): b"%d" % number for number, name in enumerate(names)}
    dicts: dict[Path, bytes] = {(*path, "x"): value for path, value in alone.items()}
    joined: dict[Path, bytes] = {("d", f"a{path[1]}x"): value for path, value in alone.items()}
    joined[("d", "a", "x")] = b"in a dict of its own"
    for tree in (alone, dicts, joined):
        fixture.renew()
        client = fixture.store
        client.run(writes=fixture.puts(tree))
        _require_tree(fixture, tree)
        gone = list(tree)[::2]
        client.run(writes=[Delete(fixture.key(*path[:2]), Scope.SUBTREE) for path in gone])
        _require_tree(fixture, {path: value for path, value in tree.items() if path not in set(gone)})
    paths: list[Path] = [(*pair, "x") for pair in (("\ud83d", "\ude00"), ("\ud83d\ude00", "a"), ("\U0001f600", "a"))]
    fixture.plant({path: b"%d" % number for number, path in enumerate(paths)})
    fixture.expect({path: b"%d" % number for number, path in enumerate(paths)})


@conformance_check()
def long_names_are_whole_or_refused(fixture: Fixture) -> None:
    """A path of any length is a key of its own, or a ``StoreError`` refuses it and its transaction changes nothing.

    Stores pairs of paths that differ at their end: of segments of up to 70,000 characters, and of many segments.
    """
    store = fixture.store
    store.apply(Put(fixture.key("there"), b"0"))
    for size, depth in product(_LONG_NAMES, (2, MAX_DEPTH // 2)):
        name = "n" * (size // (depth - 1))
        first, second = [fixture.key("long", *[name] * (depth - 2), name + end) for end in "ab"]
        what = f"two paths of {size:,} characters in {depth} segments, which differ at their end,"
        try:
            store.apply(Put(first, b"1"), Put(fixture.key("there"), b"%d" % size))
            store.apply(Put(second, b"2"))
        except StoreError as error:
            require(not error.maybe_applied, f"{what} are refused, and are in doubt: {error!r}")
            store.apply(Delete(first, Scope.NODE))
            continue
        require_equal([store.value(key) for key in (first, second)], [b"1", b"2"], f"{what} hold")
        require_equal(store.value(fixture.key("there")), b"%d" % size, "the other value of the transaction is")
        store.apply(Delete(first, Scope.SUBTREE))
        require_equal(store.value(second), b"2", f"{what} and of which one is deleted: the other one is")
        store.apply(Delete(second, Scope.NODE))


@conformance_check()
def long_paths_are_like_short_ones(fixture: Fixture) -> None:
    """A transaction has the same outcome below a long path as below a short one, unless a `StoreError` refuses it.

    Executes dozens of random transactions below a segment of 600 characters and below a short one.
    """
    short, long = fixture.key("s"), fixture.key("n" * _LONG_NAME)
    try:
        fixture.store.apply(Put(Key(long.space, (*long.path, "a", "b", "c")), b"1"))
    except StoreError:
        return
    fixture.store.apply(Delete(long, Scope.SUBTREE))
    alike = Alike(fixture.store, (short, long), Put(fixture.key("beside"), b"1"), fixture.seed)
    for _ in range(_ROUNDS * (10 if fixture.thorough else 1)):
        alike.execute()


@conformance_check()
def the_root_holds_nothing(fixture: Fixture) -> None:
    """A check, read, fast path or write of exactly the root finds nothing and changes nothing.

    Reads, compares, fetches, overwrites, deletes and expires exactly the root of a tree.
    """
    fixture.plant(TREE)
    root, store = fixture.key(), fixture.store
    require_equal(dict(store.read(root, Scope.NODE)), {}, "a read of exactly the root finds")
    require(store.holds(Equals(root, Scope.NODE, NOTHING)), "Equals of NOTHING at exactly the root fails")
    require(not store.holds(Equals(root, Scope.NODE, {(): b""})), "Equals of a value at exactly the root holds")
    require(store.holds(StartsWith(root, Scope.NODE, b"x")), "StartsWith at exactly the root sees the values below")
    require_equal(store.fetch(root), None, "what is fetched at the root is")
    require(not store.overwrite(root, b"x"), "overwriting the root returns true")
    writes: list[Write] = [Delete(root, Scope.NODE), Notify(root, Scope.NODE)]
    if fixture.capabilities.ttl:
        writes += [Expire(root, Scope.NODE, SHORT)]
    for write in writes:
        store.apply(write)
        fixture.expect(TREE)
    if fixture.capabilities.ttl:
        require_equal(dict(store.ttls(root)), {}, "the TTLs after an Expire of exactly the root are")
        fixture.outlive()
    store.apply(*writes, Put(fixture.key("new"), b"1"), *writes)
    fixture.expect({**TREE, ("new",): b"1"})


@conformance_check()
def the_space_of_values_is_like_any_other(fixture: Fixture) -> None:
    """A transaction has the same outcome in the space ``VALUES`` as in any other one that is no record space.

    Executes dozens of random transactions below a new segment of ``VALUES``, after a write to a record space, and in a
    space of the suite.
    """
    spaces = [fixture.space, fixture.fresh_space()]
    beside = Put(Key(next(space for space in spaces if space[0] in RECORDS), ("x",)), b"1")
    while fixture.space[0] in RECORDS:
        fixture.renew()
    with fixture.section() as section:
        alike = Alike(fixture.store, (fixture.key(), Key(VALUES, (section,))), beside, fixture.seed)
        for _ in range(_ROUNDS * (10 if fixture.thorough else 1)):
            alike.execute()


def _escapes() -> list[str]:
    """Return characters that layouts escape, and what they may write for each, all of them distinct."""
    names: dict[str, None] = {}
    for character in _ESCAPED:
        data = character.encode("utf-8", "surrogatepass")
        code = ord(character)
        for name in (
            character,
            character * 2,
            f"a{character}",
            "".join(f"%{byte:02X}" for byte in data),
            "".join(f"%25{byte:02X}" for byte in data),
            "".join(f"={byte:02X}" for byte in data),
            "".join(f"\\x{byte:02x}" for byte in data),
            "".join(f"_{byte:02x}" for byte in data),
            f"\\{character}",
            f"\\u{code:04x}",
            f"~{code}",
            f"\x01{chr(code % 256 + 1)}",
            f"\x01{chr(code % 256 + 2)}",
            f"{character}\xff",
            data.hex(),
            data.decode("latin-1"),
        ):
            names[name] = None
    return list(names)[:_MOST_NAMES]


def _require_tree(fixture: Fixture, tree: Mapping[Path, bytes]) -> None:
    """Require these entries, and the names of the dict ``d``, without a request for each dict."""
    found = dict(fixture.store.read(fixture.key()))
    for path in sorted({*found, *tree}):
        require_equal(found.get(path), tree.get(path), f"at {path!r} there is")
    names = fixture.store.names(fixture.key("d"))
    require_equal(sorted(names ^ {path[1] for path in tree}), [], "the names that are listed or missing wrongly are")
