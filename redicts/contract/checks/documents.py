"""Documents: every transaction sees a document as its leaves, and each leaf can change."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, product

from redicts.contract.check import Need, conformance_check
from redicts.contract.documented import (
    BASES,
    OTHER,
    WHOLE,
    Tree,
    after,
    apply,
    fetch,
    key_in,
    leaves_of,
    look,
    paths_around,
    plant,
    putting,
)
from redicts.contract.fixture import Fixture
from redicts.contract.requirements import require, require_equal
from redicts.contract.trees import within
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Equals,
    Expire,
    Notify,
    Path,
    Put,
    PutDocument,
    Scope,
    StartsWith,
    Status,
    Write,
)

_SIZES = (100, 500, 1_000, 2_000, 5_000, 10_000, 16_000)

_COUNTERS: Tree = {"a": 5, "d": {"b": -7, "zero": 0, "most": 2**63 - 2}, "text": "5", "float": 5.0, "large": 2**63}


@conformance_check(needs=[Need.DOCUMENTS])
def its_leaves_are_of_all_kinds(fixture: Fixture) -> None:
    """A leaf has exactly its text in the document: numbers in any spelling, arrays, empty dicts, escapes.

    Puts documents with numbers, arrays, escapes and empty dicts, and reads each leaf byte for byte.
    """
    texts = (
        b"0", b"-0", b"1", b"-1", b"1.0", b"1e16", b"1E+5", b"0.10", b"12345678901234567890123", b"true", b"false",
        b"null", b"NaN", b"-Infinity", b'""', b'"\\u0041"', b'"\\ud83d\\ude00"', b'"\\ud800"', b'"\xc3\xa9"', b'"{}"',
        b'"\\"}"', b"[]", b"[{}]", b'[{"a":{"b":1}},[2,"]"]]', b"{}",
    )  # fmt: skip
    named = {f"n{number}": text for number, text in enumerate(texts)}
    flat = b",".join([b'"%b":%b' % (name.encode(), text) for name, text in named.items()])
    fixture.store.apply(PutDocument(fixture.key("a"), b'{"deep":{%b},"after":1}' % flat))
    fixture.expect({("a", "after"): b"1", **{("a", "deep", name): text for name, text in named.items()}})
    for number, text in enumerate(texts):
        fixture.store.apply(PutDocument(fixture.key("a"), b'{"x":%b}' % text))
        fixture.expect({("a", "x"): text})
        require_equal(fixture.store.value(fixture.key("a", "x")), text, f"the leaf {number} of a document is")


@conformance_check(needs=[Need.DOCUMENTS])
def checks_see_its_leaves(fixture: Fixture) -> None:
    """Equals and StartsWith see a document as its leaves, in every scope around and in it.

    Compares every scope above, at and in a document with its leaves, with others, and with prefixes, and each value
    beside it.
    """
    for base in BASES:
        there = plant(fixture, base)
        for path, value in there.items():
            holds = fixture.store.holds(Equals(fixture.key(*path), Scope.NODE, {(): value}))
            require(holds, f"Equals of the stored value fails at {path!r}")
        for node, scope in product(paths_around(base), Scope):
            key, now = fixture.key(*node), within(there, node, scope)
            at = f"at {node!r}, {scope.name}"
            require(fixture.store.holds(Equals(key, scope, now)), f"Equals of the stored values fails {at}")
            less = dict(list(now.items())[:-1])
            wrong = [less, dict.fromkeys(now, b"other"), {**less, **dict.fromkeys(list(now)[-1:], b"")}]
            more = {(*path, "more"): b"1" for path in [*now, ("x",)] if scope.covers((*path, "more"))}
            for entries in (*wrong, {**now, **more}):
                if entries != now:
                    require(not fixture.store.holds(Equals(key, scope, entries)), f"Equals of other values holds {at}")
            for prefix in (b"", b"1", b"t", b"text", b'"', b"-3", b"[1,{", b"{", b'{"'):
                wanted = all(value.startswith(prefix) for value in now.values())
                holds = fixture.store.holds(StartsWith(key, scope, prefix))
                require_equal(holds, wanted, f"StartsWith {prefix!r} {at} holds")
        alike: Tree = {"x": "mine/1", "in": {"x": "mine/2", "deep": {"x": "mine/3"}}}
        for scope, node in product((Scope.BELOW, Scope.SUBTREE), (base[:-1], base, (*base, "in"))):
            fixture.renew()  # a store may split a document for any condition
            fixture.store.apply(putting(fixture, base, alike))
            key = fixture.key(*node)
            require(not fixture.store.holds(StartsWith(key, scope, b'"mine/2')), "StartsWith one holds")
            require(fixture.store.holds(StartsWith(key, scope, b'"mine/')), "StartsWith theirs fails")
            fixture.renew()
            fixture.store.apply(putting(fixture, base, alike))
            absent = fixture.key(*base, "in", "absent")
            require(fixture.store.holds(Equals(absent, scope, {})), "Equals of nothing fails at an absent key in it")


@conformance_check(needs=[Need.DOCUMENTS])
def one_of_any_size_has_leaves(fixture: Fixture) -> None:
    """Each leaf of a document is read, compared, added to and replaced alone, however large the document is.

    Puts documents of growing sizes, and reads, compares and changes each of a few leaves.
    """
    base = BASES[1]
    for size in _SIZES:
        changes: list[Write] = [Put(key_in(fixture, base, "a"), b"new"), Add(key_in(fixture, base, "in", "count"), 1)]
        for change in changes:
            there = plant(fixture, base, {"a": 1, "in": {"count": 5, "text": "x" * size}})
            paths: tuple[Path, ...] = (("a",), ("in", "count"))
            for path in paths:
                key, value = key_in(fixture, base, *path), there[base + path]
                require_equal(fixture.store.value(key), value, f"in a document of {size} bytes, {path!r} is")
                holds = fixture.store.holds(Equals(key, Scope.NODE, {(): value}))
                require(holds, f"in a document of {size} bytes, Equals of {path!r} fails")
            apply(fixture, there, change._replace(key=fixture.key(*change.key.path)))


@conformance_check(needs=[Need.DOCUMENTS])
def any_scope_in_it_can_be_deleted(fixture: Fixture) -> None:
    """Delete and Notify remove exactly their scope from a document: above, at and in it, at any depth.

    Deletes and notifies every scope above, at and in a document, and reads what is left. Deletes several leaves of one
    dict. Then it deletes and expires every scope before a put of a leaf in one transaction.
    """
    kinds: Iterator[type[Delete | Notify]] = cycle((Delete, Notify))
    for _ in range(2):  # in spaces of both kinds; all documents of the store are below these keys
        there = plant(fixture, BASES[1])
        for depth in range(len(BASES[1])):
            there = apply(fixture, there, Delete(fixture.key(*BASES[1][:depth]), Scope.NODE))
    for base in BASES:
        for path, scope in product(paths_around(base), Scope):
            there = plant(fixture, base)
            there = apply(fixture, there, next(kinds)(fixture.key(*path), scope))
            look(fixture, there, [base, path, (*base, "inner", "deep")])
    for _ in range(2):  # in spaces of both kinds
        there = plant(fixture, BASES[0])
        names = ("leaf", "absent", "deeper")
        apply(fixture, there, *[Delete(key_in(fixture, BASES[0], "inner", name), Scope.NODE) for name in names])
    leaf = (*BASES[0], *max(leaves_of(WHOLE), key=len))
    for depth, scope in product(range(1, len(leaf)), Scope):
        key = fixture.key(*leaf[:depth])
        befores: list[Write] = [Delete(key, scope), *([Expire(key, scope, None)] if fixture.capabilities.ttl else [])]
        for before in (each for each in befores for _ in range(2)):  # in spaces of both kinds
            there = plant(fixture, BASES[0])
            apply(fixture, there, before._replace(key=fixture.key(*key.path)), Put(fixture.key(*leaf), b"new"))


@conformance_check(needs=[Need.DOCUMENTS])
def the_last_leaf_takes_it_along(fixture: Fixture) -> None:
    """A document is gone when its leaves are deleted one by one, and does not come back with a new value.

    Deletes the leaves of a document one by one, and then puts a new one where it was.
    """
    for base in BASES:
        there = plant(fixture, base)
        for path in leaves_of(WHOLE):
            there = apply(fixture, there, Delete(key_in(fixture, base, *path), Scope.NODE))
        require_equal(fixture.store.names(fixture.key(*base)), set(), "the names of a document without leaves are")
        there = apply(fixture, there, Put(key_in(fixture, base, "inner", "new"), b"1"))
        there = apply(fixture, there, Delete(fixture.key(*base), Scope.BELOW), Put(fixture.key(*base), b"a leaf"))
        look(fixture, there, [base])


@conformance_check(needs=[Need.DOCUMENTS])
def counters_in_it_count(fixture: Fixture) -> None:
    """Add counts on from a leaf of a document, or from 0, and refuses a leaf that is not a counter.

    Adds to leaves of a document, to absent ones, and to leaves that are not counters.
    """
    for base in BASES:
        there = plant(fixture, base, _COUNTERS)
        adds = [(("a",), 3), (("d", "b"), 3), (("d", "zero"), -1), (("d", "most"), 1), (("d", "new"), 2), (("z",), 4)]
        for path, amount in adds:
            there = plant(fixture, base, _COUNTERS)
            outcome = fixture.store.apply(Add(key_in(fixture, base, *path), amount))
            left = after(there, [Add(key_in(fixture, base, *path), amount)])
            assert left is not None
            require_equal(outcome.counters, (int(left[base + path]),), f"the counter at {path!r} in a document is")
            fixture.expect(left)
        there = plant(fixture, base, _COUNTERS)
        counters = fixture.store.apply(*[Add(key_in(fixture, base, *path), amount) for path, amount in adds]).counters
        require_equal(counters, (8, -4, -1, 2**63 - 1, 2, 4), "the counters in a document are")
        for path, amount in ((("text",), 1), (("float",), 1), (("large",), 1), (("d", "most"), 2)):
            there = plant(fixture, base, _COUNTERS)
            outcome = fixture.store.run(writes=[Add(key_in(fixture, base, *path), amount)])
            require_equal(outcome.status, Status.NOT_A_COUNTER, f"the status on an Add to {path!r} in a document")
            fixture.expect(there)


@conformance_check(needs=[Need.DOCUMENTS])
def a_refused_counter_undoes_all_of_it(fixture: Fixture) -> None:
    """If a counter is refused or a condition fails, no document is written, changed or deleted.

    Replaces, changes and deletes a document in transactions whose last Add or whose condition fails.
    """
    for base in BASES:
        there = plant(fixture, base)
        refused = Add(key_in(fixture, base, "in"), 1)
        changes: Sequence[Sequence[Write]] = (
            [putting(fixture, ("new",), OTHER)],
            [Put(key_in(fixture, base, "leaf"), b"2")],
            [putting(fixture, (*base, "inner"), OTHER)],
            [Delete(key_in(fixture, base, "inner"), Scope.SUBTREE), Add(key_in(fixture, base, "count"), 1)],
            [Delete(fixture.key(), Scope.SUBTREE), Put(refused.key, b"none")],
            [putting(fixture, base, {**OTHER, "in": "still none"})],
            [],
        )
        for writes in changes:
            fetch(fixture, fixture.store, there, [base])
            outcome = fixture.store.run(writes=[*writes, refused])
            require_equal(outcome.status, Status.NOT_A_COUNTER, "the status")
            require_equal(outcome.failed_index, len(writes), "the failed index among the writes is")
            fixture.expect(there)
            fetch(fixture, fixture.store, there, [base, (*base, "inner"), (*base, "leaf")])
            wrong = Equals(refused.key, Scope.NODE, NOTHING)
            require_equal(fixture.store.run(checks=[wrong], writes=writes).status, Status.CHECK_FAILED, "the status")
            fixture.expect(there)
        apply(fixture, there, Put(key_in(fixture, base, "inner", "leaf"), b"3"))
