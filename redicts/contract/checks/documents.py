"""Documents: each is, to every transaction, the leaves that it stands for, and each of them can be changed."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from redicts.contract.check import Need, conformance_check, require, require_equal
from redicts.contract.documented import (
    BASES,
    OTHER,
    WHOLE,
    Tree,
    after,
    apply,
    fetch,
    here,
    key_in,
    leaves_of,
    look,
    lying_at,
    places_around,
    plant,
    putting,
    text_of,
)
from redicts.contract.fixture import Fixture
from redicts.contract.form import names_of
from redicts.contract.trees import within
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Equals,
    Notify,
    Path,
    Put,
    PutDocument,
    ReadNames,
    Scope,
    StartsWith,
    Status,
    Write,
)

_COUNTERS: Tree = {"a": 5, "d": {"b": -7, "zero": 0, "most": 2**63 - 2}, "text": "5", "float": 5.0, "large": 2**63}


@conformance_check(needs=[Need.DOCUMENTS])
def it_reads_as_its_leaves(fixture: Fixture) -> None:
    """A document reads as its leaves, value by value, scope by scope and name by name, at the root and deeper."""
    for base in BASES:
        there = plant(fixture, base)
        fixture.expect(there)
        look(fixture, there, places_around(base))
        fixture.renew()
        there = apply(fixture, {}, putting(fixture, base, WHOLE))
        look(fixture, there, places_around(base))


@conformance_check(needs=[Need.DOCUMENTS])
def its_leaves_are_of_all_kinds(fixture: Fixture) -> None:
    """A leaf is the very text that stands in the document: numbers in any spelling, arrays, empty dicts, escapes."""
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
    """Exactly and Prefixed hold and fail for a document as for its leaves, in every scope around and in it."""
    for base in BASES:
        there = plant(fixture, base)
        for place, scope in product(places_around(base), Scope):
            key, now = fixture.key(*place), within(there, place, scope)
            at = f"at {place!r}, {scope.name}"
            require(fixture.store.holds(Equals(key, scope, now)), f"Exactly of what is there fails {at}")
            less = dict(list(now.items())[:-1])
            wrong = [less, dict.fromkeys(now, b"other"), {**less, **dict.fromkeys(list(now)[-1:], b"")}]
            more = {(*path, "more"): b"1" for path in [*now, ("x",)] if scope.covers((*path, "more"))}
            for entries in (*wrong, {**now, **more}):
                if entries != now:
                    require(not fixture.store.holds(Equals(key, scope, entries)), f"Exactly of other values holds {at}")
            for prefix in (b"", b"1", b"t", b"text", b'"', b"-3", b"[1,{", b"{", b'{"'):
                wanted = all(value.startswith(prefix) for value in now.values())
                holds = fixture.store.holds(StartsWith(key, scope, prefix))
                require_equal(holds, wanted, f"Prefixed by {prefix!r} {at} holds")
        alike: Tree = {"x": "mine/1", "in": {"x": "mine/2", "deep": {"x": "mine/3"}}}
        fixture.renew()
        fixture.store.apply(putting(fixture, base, alike))
        for scope in (Scope.BELOW, Scope.SUBTREE):
            for place in (base[:-1], base, (*base, "in")):
                require(
                    fixture.store.holds(StartsWith(fixture.key(*place), scope, b'"mine/')), "Prefixed by theirs fails"
                )
                require(
                    not fixture.store.holds(StartsWith(fixture.key(*place), scope, b'"mine/2')), "Prefixed by one holds"
                )


@conformance_check(needs=[Need.DOCUMENTS])
def names_in_it_may_be_any(fixture: Fixture) -> None:
    """A document may have any names, escaped in its text or not, as leaves and as dicts, and lie at any name."""
    for escaped in (True, False):
        names = [name for name in fixture.harness.names if _can_stand_in_json(name, escaped)]
        trees: Sequence[Tree] = (
            {name: number for number, name in enumerate(names)},
            {name: {name: number, "x": {}} for number, name in enumerate(names)},
            {"in": {name: {"in": number} for number, name in enumerate(names)}},
        )
        for tree in trees:
            fixture.renew()
            fixture.store.apply(PutDocument(fixture.key("d"), text_of(tree, escaped=escaped)))
            there = lying_at(("d",), tree)
            require_equal(dict(fixture.store.read(fixture.key())), there, "a document of hostile names reads as")
            parents = [fixture.key(*path) for path in {path[:depth] for path in there for depth in range(len(path))}]
            for start in range(0, len(parents), 100):
                some = parents[start : start + 100]
                for key, answer in zip(some, fixture.store.ask(*[ReadNames(key) for key in some])):
                    expected = {path[len(key.path)] for path in there if path[: len(key.path)] == key.path}
                    require_equal(set(names_of(answer).names), expected, f"the names below {key.path!r} are")
            for path, value in there.items():
                require_equal(fixture.store.value(fixture.key(*path)), value, f"the leaf at {path!r} is")
    for name in fixture.harness.names:
        tree = {name: 1, "d": {name: 2}} if _can_stand_in_json(name, escaped=True) else {"a": 1, "d": {"a": 2}}
        fixture.renew()
        fixture.store.apply(PutDocument(fixture.key(name), text_of(tree, escaped=True)))
        there = lying_at((name,), tree)
        fixture.expect(there)
        fixture.store.apply(Put(fixture.key(name, "d", "new"), b"3"))
        fixture.expect({**there, (name, "d", "new"): b"3"})


@conformance_check(needs=[Need.DOCUMENTS])
def it_replaces_what_is_at_and_below(fixture: Fixture) -> None:
    """A document replaces everything at and below its key, leaf, values and documents, and nothing beside or above."""
    for base in BASES:
        key = fixture.key(*base)
        befores: Sequence[Sequence[Write]] = (
            [],
            [Put(key, b"a leaf")],
            [Put(key_in(fixture, base, "leaf"), b"1"), Put(key_in(fixture, base, "inner", "old", "er"), b"2")],
            [putting(fixture, base, OTHER)],
            [putting(fixture, base, OTHER), Put(key_in(fixture, base, "only", "in", "part"), b"3")],
            [putting(fixture, (*base, "inner"), OTHER), putting(fixture, (*base, "z"), OTHER)],
            [putting(fixture, (*base, "inner", "deep", "x"), OTHER), Put(key_in(fixture, base, "a"), b"4")],
        )
        for writes in befores:
            whole = plant(fixture, base)
            there = apply(fixture, whole, Delete(fixture.key(*base), Scope.SUBTREE))
            there = apply(fixture, there, *here(fixture, writes))
            there = apply(fixture, there, putting(fixture, base, WHOLE))
            require_equal(there, whole, "all is")
            look(fixture, there, [base, (*base, "inner"), (*base, "only", "in")])
            apply(fixture, there, Delete(fixture.key(*base), Scope.SUBTREE))


@conformance_check(needs=[Need.DOCUMENTS])
def a_leaf_above_gives_way_to_it(fixture: Fixture) -> None:
    """After a delete of exactly a leaf, in the same transaction, a document may lie below it, also if it was in one."""
    for base in BASES:
        for place in (("leaf",), ("inner", "leaf"), ("inner", "deep", "b", "c", "d")):
            there = plant(fixture, base)
            leaf = (*base, *place)
            there = apply(fixture, there, Delete(fixture.key(*leaf), Scope.NODE), putting(fixture, (*leaf, "x"), OTHER))
            look(fixture, there, [leaf, (*leaf, "x"), base])
            apply(fixture, there, Delete(fixture.key(*leaf), Scope.BELOW), Put(fixture.key(*leaf), b"leaf again"))


@conformance_check(needs=[Need.DOCUMENTS])
def writes_around_it_take_effect_in_order(fixture: Fixture) -> None:
    """Of several writes in one transaction each sees the ones before, documents and changes of their parts alike."""
    cases = 0
    for before, writes in _sequences(fixture):
        there = after({}, before)
        expected = None if there is None else after(there, writes)
        if expected is None:
            continue
        cases += 1
        fixture.store.apply(Delete(fixture.key(), Scope.SUBTREE), *before)
        fixture.store.apply(*writes)
        fixture.expect(expected)
    require(cases > 100, "there are too few sequences")


@conformance_check(needs=[Need.DOCUMENTS])
def a_leaf_in_it_can_be_put(fixture: Fixture) -> None:
    """A put at any place in a document changes that place and leaves all other leaves as they were."""
    for base in BASES:
        for writes in _puts(fixture, base):
            there = plant(fixture, base)
            there = apply(fixture, there, *here(fixture, writes))
            look(fixture, there, places_around(base))
            apply(fixture, there, putting(fixture, base, WHOLE))


@conformance_check(needs=[Need.DOCUMENTS])
def documents_can_lie_in_it(fixture: Fixture) -> None:
    """A document that is put at a place in another one replaces that place and leaves all other leaves."""
    for base in BASES:
        for place in (("inner",), ("inner", "deep", "b"), ("new",), ("inner", "new", "er"), ("count",), ("a",), ("z",)):
            there = plant(fixture, base)
            there = apply(fixture, there, putting(fixture, (*base, *place), OTHER))
            look(fixture, there, [*places_around(base), (*base, *place), (*base, *place, "only")])
            apply(fixture, there, Put(key_in(fixture, base, *place, "count"), b"1"))


@conformance_check(needs=[Need.DOCUMENTS])
def any_scope_in_it_can_be_deleted(fixture: Fixture) -> None:
    """Delete and Wake take their scope out of a document: above, at, inside and deep inside of it, and no more."""
    for base in BASES:
        for place, scope in product(places_around(base), Scope):
            for kind in (Delete, Notify):
                there = plant(fixture, base)
                there = apply(fixture, there, kind(fixture.key(*place), scope))
                look(fixture, there, [base, place, (*base, "inner", "deep")])


@conformance_check(needs=[Need.DOCUMENTS])
def the_last_leaf_takes_it_along(fixture: Fixture) -> None:
    """A document whose leaves are deleted one by one is gone with the last, and does not come back with a new value."""
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
    """Add counts on from a leaf of a document, from 0 where there is none, and refuses what is no counter."""
    for base in BASES:
        there = plant(fixture, base, _COUNTERS)
        adds = [(("a",), 3), (("d", "b"), 3), (("d", "zero"), -1), (("d", "most"), 1), (("d", "new"), 2), (("z",), 4)]
        for path, amount in adds:
            there = plant(fixture, base, _COUNTERS)
            outcome = fixture.store.apply(Add(key_in(fixture, base, *path), amount))
            left = after(there, [Add(key_in(fixture, base, *path), amount)])
            assert left is not None
            require_equal(outcome.counters, (int(left[base + path]),), f"the sum at {path!r} in a document is")
            fixture.expect(left)
        there = plant(fixture, base, _COUNTERS)
        counters = fixture.store.apply(*[Add(key_in(fixture, base, *path), amount) for path, amount in adds]).counters
        require_equal(counters, (8, -4, -1, 2**63 - 1, 2, 4), "the sums in a document are")
        for path, amount in ((("text",), 1), (("float",), 1), (("large",), 1), (("d", "most"), 2)):
            there = plant(fixture, base, _COUNTERS)
            outcome = fixture.store.run(writes=[Add(key_in(fixture, base, *path), amount)])
            require_equal(outcome.status, Status.NOT_A_COUNTER, f"the status on an Add to {path!r} in a document")
            fixture.expect(there)


@conformance_check(needs=[Need.DOCUMENTS])
def a_refused_counter_undoes_all_of_it(fixture: Fixture) -> None:
    """If a counter or a check is refused, no document is put, replaced, changed or taken away."""
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


@conformance_check(needs=[Need.DOCUMENTS])
def checks_and_reads_come_before_it(fixture: Fixture) -> None:
    """Checks and reads of a transaction see the state before its documents, and not what it makes of them."""
    for base in BASES:
        there = plant(fixture, base)
        below = within(there, base, Scope.BELOW)
        outcome = fixture.store.run(
            checks=[Equals(fixture.key(*base), Scope.SUBTREE, below)],
            reads=[ReadNames(fixture.key(*base))],
            writes=[Put(key_in(fixture, base, "leaf"), b"2"), putting(fixture, base, OTHER)],
        )
        require(outcome.applied, "a check for a document that is replaced in the same transaction fails")
        require_equal(set(names_of(outcome.answers[0]).names), set(WHOLE), "the names before the writes are")
        left = after(there, [putting(fixture, base, OTHER)])
        assert left is not None
        fixture.expect(left)


def _puts(fixture: Fixture, base: Path) -> Iterator[list[Write]]:
    """Yield changes of a document by puts, each with what clears the way for it."""
    for path in leaves_of(WHOLE):
        yield [Put(key_in(fixture, base, *path), b"new")]
    for path in (("new",), ("a",), ("inner", "deep", "new", "er"), ("inner", "z"), ("zz", "z")):
        yield [Put(key_in(fixture, base, *path), b"")]
    yield [Put(key_in(fixture, base, "inner", "leaf"), b"kept", keep_ttl=True)]
    yield [Put(key_in(fixture, base, "leaf"), b"1", keep_ttl=True), Put(key_in(fixture, base, "new"), b"2")]
    yield [Delete(key_in(fixture, base, "inner"), Scope.BELOW), Put(key_in(fixture, base, "inner"), b"a leaf")]
    yield [Delete(key_in(fixture, base, "leaf"), Scope.NODE), Put(key_in(fixture, base, "leaf", "below"), b"a leaf")]
    yield [Delete(fixture.key(*base), Scope.BELOW), Put(fixture.key(*base), b"a leaf")]
    yield [Put(key_in(fixture, base, *path), b"all") for path in leaves_of(WHOLE)]


def _sequences(fixture: Fixture) -> Iterator[tuple[Sequence[Write], list[Write]]]:
    """Yield what is there before, and writes that may or may not be allowed one after the other."""
    small: Tree = {"n": 1, "in": {"x": 2, "y": {"z": 3}}}
    at, inner, count = fixture.key("d"), fixture.key("d", "in"), fixture.key("d", "n")
    essential: list[list[Write]] = [
        [putting(fixture, at.path, small)],
        [putting(fixture, inner.path, {"w": 7, "y": 8})],
        [Put(fixture.key("d", "in", "x"), b"9")],
        [Delete(inner, Scope.SUBTREE)],
        [Delete(at, Scope.BELOW), Put(at, b"leaf")],
        [Add(count, 10)],
    ]
    more: list[list[Write]] = [
        [putting(fixture, at.path, {"n": 5, "k": {"x": 6}})],
        [Delete(at, Scope.NODE), putting(fixture, inner.path, {"u": 4})],
        [Delete(at, Scope.SUBTREE)],
        [Delete(fixture.key("d", "in", "y"), Scope.BELOW)],
        [Delete(count, Scope.NODE)],
        [Delete(fixture.key(), Scope.SUBTREE)],
        [Put(fixture.key("e"), b"1")],
    ]
    befores: Sequence[Mapping[Path, Tree]] = ({}, {("d",): small}, {("d", "in"): {"x": 1}})
    for before in befores:
        written = [putting(fixture, place, tree) for place, tree in before.items()]
        for steps in product([*essential, *more], repeat=2):
            yield written, [write for step in steps for write in step]
    for steps in product(essential, repeat=3):
        yield [putting(fixture, at.path, small)], [write for step in steps for write in step]


def _can_stand_in_json(name: str, escaped: bool) -> bool:
    """Tell whether a name can be said: not two lone surrogates that would be one character, not a lone one as it is."""
    try:
        return bool(json.loads(json.dumps(name, ensure_ascii=escaped).encode()) == name)
    except UnicodeEncodeError:
        return False
