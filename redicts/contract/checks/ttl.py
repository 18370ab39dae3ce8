"""Lives: which values have one, how long it still is, and what gives, keeps and takes it."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

from redicts.contract.check import Need, conformance_check, require, require_equal
from redicts.contract.fixture import LONG, SHORT, Fixture
from redicts.contract.trees import TREE, large, scopes, within
from redicts.core.minitransaction import Add, Delete, Equals, Expire, Put, Read, Scope, Status, Write

_LONGER = 100 * LONG
_CENTURY = 100 * 366 * 24 * 3600 * 1000
_SLACK = LONG // 2
"""Milliseconds by which a remaining TTL may be less than what was given, however slow the machine is."""


@conformance_check(needs=[Need.TTL])
def a_value_ttls_as_long_as_given(fixture: Fixture) -> None:
    """A value put with a TTL is there until it ends and gone afterwards; one put without lives for ever."""
    key, lasting = fixture.key("mortal"), fixture.key("lasting")
    fixture.store.apply(Put(key, b"1", SHORT), Put(lasting, b"2"), Put(fixture.key("long"), b"3", LONG))
    fixture.outlive()
    fixture.expect({("lasting",): b"2", ("long",): b"3"})


@conformance_check(needs=[Need.TTL])
def the_shortest_ttl_is_a_millisecond(fixture: Fixture) -> None:
    """A TTL of one millisecond is a TTL, not none and not for ever."""
    fixture.store.apply(
        Put(fixture.key("a"), b"1", 1), Put(fixture.key("b"), b"1"), Expire(fixture.key("b"), Scope.NODE, 1)
    )
    fixture.outlive()
    fixture.expect({})


@conformance_check(needs=[Need.TTL])
def a_ttl_may_be_a_century(fixture: Fixture) -> None:
    """A TTL of a hundred years is not cut short."""
    fixture.store.apply(Put(fixture.key("a"), b"1", _CENTURY))
    remaining = fixture.store.ttls(fixture.key("a")).get((), 0)
    require(_CENTURY - _SLACK <= remaining <= _CENTURY, f"of a century, {remaining} ms are left at once")


@conformance_check(needs=[Need.TTL])
def remaining_ttls_are_true(fixture: Fixture) -> None:
    """The remaining TTL is at most what was given, and shrinks as time passes; it belongs to the value it names."""
    given = {("a",): LONG, ("d", "b"): _LONGER, ("d", "c", "e"): LONG + 1}
    writes = [Put(fixture.key(*path), b"1", ttl) for path, ttl in given.items()]
    fixture.store.apply(*writes, Put(fixture.key("lasting"), b"2"), Put(fixture.key("d", "lasting"), b"3"))
    first = fixture.store.ttls(fixture.key())
    fixture.harness.advance(0.2)
    second = fixture.store.ttls(fixture.key())
    require_equal(set(first), set(given), "those that have a TTL are")
    require_equal(set(second), set(given), "those that have a TTL are")
    for path, ttl in given.items():
        require(first[path] <= ttl, f"{first[path]} ms remain of a TTL of {ttl}")
        require(first[path] >= ttl - _SLACK, f"only {first[path]} ms remain at once of a TTL of {ttl}")
        require(second[path] <= ttl - 190, f"{second[path]} ms remain of a TTL of {ttl} after 200 ms")
        require(second[path] >= ttl - _SLACK, f"only {second[path]} ms remain soon after a TTL of {ttl} was given")


@conformance_check(needs=[Need.TTL])
def remaining_ttls_are_never_more_than_given(fixture: Fixture) -> None:
    """No remaining TTL is above what was given, not by one millisecond, whatever the fraction of a second it is."""
    for ttl in range(30_000, 30_200):
        fixture.store.apply(Put(fixture.key("a"), b"1", ttl))
        remaining = fixture.store.ttls(fixture.key("a")).get((), 0)
        require(0 < remaining <= ttl, f"{remaining} ms remain of a TTL of {ttl}")


@conformance_check(needs=[Need.TTL])
def ttls_are_told_in_every_scope(fixture: Fixture) -> None:
    """A read with lives tells those of its scope, by relative path; one without tells none."""
    fixture.plant(TREE)
    mortal = {path: value for number, (path, value) in enumerate(TREE.items()) if number % 2}
    fixture.store.apply(*fixture.puts(mortal, LONG))
    for place, scope in scopes():
        key = fixture.key(*place)
        require_equal(
            set(fixture.store.ttls(key, scope)), set(within(mortal, place, scope)), f"lives at {place!r}, {scope.name}"
        )
        silent = fixture.store.entries(Read(key, scope))
        require_equal(dict(silent.ttls), {}, "TTLs that nobody asked for")
        require_equal(dict(silent.values), within(TREE, place, scope), f"the values at {place!r}, {scope.name} are")


@conformance_check(needs=[Need.TTL])
def put_clears_the_old_ttl(fixture: Fixture) -> None:
    """Put without a TTL makes the value last for ever, whatever life the old one had; put with one gives that one."""
    first, second, third = fixture.key("first"), fixture.key("d", "second"), fixture.key("third")
    fixture.store.apply(Put(first, b"old", SHORT), Put(first, b"new"))
    fixture.store.apply(Put(second, b"old", LONG))
    fixture.store.apply(Put(second, b"new"))
    fixture.store.apply(Put(third, b"old", SHORT), Put(third, b"new", LONG))
    require_equal(dict(fixture.store.ttls(second)), {}, "the lives after a put without one are")
    fixture.outlive()
    fixture.expect({("first",): b"new", ("d", "second"): b"new", ("third",): b"new"})
    fixture.store.apply(Put(third, b"newer", SHORT))
    fixture.outlive()
    fixture.expect({("first",): b"new", ("d", "second"): b"new"})


@conformance_check(needs=[Need.TTL])
def keep_ttl_keeps_it(fixture: Fixture) -> None:
    """Put with keep_life changes the value and leaves its TTL; it does not look at ``ttl``."""
    long, short, lasting, absent = (fixture.key("d", name) for name in ("long", "short", "lasting", "absent"))
    fixture.store.apply(
        Put(long, b"old", LONG),
        Put(lasting, b"old"),
        Put(short, b"old", SHORT),
        Put(short, b"new", None, keep_ttl=True),
    )
    fixture.store.apply(
        Put(long, b"new", _LONGER, keep_ttl=True),
        Put(lasting, b"new", SHORT, keep_ttl=True),
        Put(absent, b"new", SHORT, keep_ttl=True),
    )
    fixture.outlive()
    fixture.expect({("d", "long"): b"new", ("d", "lasting"): b"new", ("d", "absent"): b"new"})
    ttls = fixture.store.ttls(fixture.key("d"))
    require_equal(set(ttls), {("long",)}, "after puts with keep_life, those that have a TTL are")
    require(0 < ttls["long",] <= LONG, f"a kept life of {LONG} ms is now {ttls['long',]}")


@conformance_check(needs=[Need.TTL])
def add_keeps_the_ttl(fixture: Fixture) -> None:
    """Add keeps the TTL of its counter, and gives none to a new or a lasting one."""
    long, short, lasting, absent = (fixture.key("d", name) for name in ("long", "short", "lasting", "absent"))
    fixture.store.apply(Put(long, b"1", LONG), Put(lasting, b"1"), Put(short, b"1", SHORT), Add(short, 1))
    fixture.store.apply(Add(long, 1), Add(lasting, 1), Add(absent, 1))
    fixture.outlive()
    fixture.expect({("d", "long"): b"2", ("d", "lasting"): b"2", ("d", "absent"): b"1"})
    ttls = fixture.store.ttls(fixture.key("d"))
    require_equal(set(ttls), {("long",)}, "after adding, those that have a TTL are")
    require(0 < ttls["long",] <= LONG, f"a kept life of {LONG} ms is now {ttls['long',]}")


@conformance_check(needs=[Need.TTL])
def expire_gives_its_scope_a_ttl(fixture: Fixture) -> None:
    """Expire gives all values in its scope this TTL and leaves all others alone."""
    for place, scope in scopes():
        fixture.plant(TREE)
        fixture.store.apply(Expire(fixture.key(*place), scope, LONG))
        ttls = fixture.store.ttls(fixture.key())
        mortal = {place + path for path in within(TREE, place, scope)}
        require_equal(set(ttls), mortal, f"after Expire at {place!r}, {scope.name}, those that have a TTL are")
        require(all(0 < ttl <= LONG for ttl in ttls.values()), f"TTLs of {LONG} ms are now {ttls!r}")
        fixture.expect(TREE)


@conformance_check(needs=[Need.TTL])
def expire_ends_its_scope(fixture: Fixture) -> None:
    """What Expire gave a short TTL is gone when it ends, and what is outside of the scope stays."""
    stays = {("a", "x"): b"1", ("ab",): b"2", ("b", "a"): b"3"}
    fixture.plant({**stays, ("a", "y"): b"4", ("a", "d", "z"): b"5", ("c",): b"6"})
    fixture.store.apply(
        Expire(fixture.key("a", "y"), Scope.SUBTREE, SHORT),
        Expire(fixture.key("a", "d"), Scope.BELOW, SHORT),
        Expire(fixture.key("c"), Scope.NODE, SHORT),
        Expire(fixture.key("a"), Scope.NODE, SHORT),
        Expire(fixture.key("ab"), Scope.BELOW, SHORT),
    )
    fixture.outlive()
    fixture.expect(stays)


@conformance_check(needs=[Need.TTL])
def expire_with_none_makes_lasting(fixture: Fixture) -> None:
    """Expire with None makes the values in its scope last for ever."""
    for place, scope in scopes():
        fixture.plant(TREE, LONG)
        fixture.store.apply(Expire(fixture.key(*place), scope, None))
        lasting = {place + path for path in within(TREE, place, scope)}
        mortal = set(TREE) - lasting
        require_equal(
            set(fixture.store.ttls(fixture.key())), mortal, f"after Expire(None) at {place!r}, {scope.name}, TTLs are"
        )
    fixture.plant({("a",): b"1", ("d", "b"): b"2"})
    writes = [Expire(fixture.key(), Scope.SUBTREE, SHORT), Expire(fixture.key("d"), Scope.SUBTREE, None)]
    fixture.store.apply(*writes)
    fixture.outlive()
    fixture.expect({("d", "b"): b"2"})


@conformance_check(needs=[Need.TTL])
def writes_to_ttls_take_effect_in_order(fixture: Fixture) -> None:
    """Of several writes to one key, each sees the TTL that the ones before left."""
    sequences = {
        "expire then put": (Put, Expire, Put),
        "put then expire": (Put, Put, Expire),
        "expire then add": (Put, Expire, Add),
        "delete then keep": (Expire, Delete, "keep"),
        "expire then keep": (Put, Expire, "keep"),
        "expire twice": (Put, "expire long", Expire),
        "expire then none": (Put, Expire, "expire none"),
        "mortal then put": ("put short", Put),
        "mortal then expire long": ("put short", "expire long"),
        "mortal, deleted, put": ("put short", Delete, Put),
        "mortal then delete": ("put short", Delete),
        "mortal then add": ("put short", Add),
    }
    stays = {
        "expire then put", "delete then keep", "expire then none", "mortal then put", "mortal then expire long",
        "mortal, deleted, put",
    }  # fmt: skip
    writes: list[Write] = []
    for name, steps in sequences.items():
        key = fixture.key("d", name)
        made: dict[object, Write] = {
            Put: Put(key, b"1"),
            "put short": Put(key, b"1", SHORT),
            "keep": Put(key, b"1", keep_ttl=True),
            Expire: Expire(key, Scope.SUBTREE, SHORT),
            "expire long": Expire(key, Scope.NODE, LONG),
            "expire none": Expire(key, Scope.NODE, None),
            Add: Add(key, 1),
            Delete: Delete(key, Scope.NODE),
        }
        writes += [made[step] for step in steps]
    fixture.store.apply(*writes)
    fixture.outlive()
    fixture.expect({("d", name): b"1" for name in stays})


@conformance_check(needs=[Need.TTL])
def ttls_are_the_values_own(fixture: Fixture) -> None:
    """Writes to neighbours, parents and children leave a TTL alone, and a value put again has none of an old one."""
    key, beside = fixture.key("d", "a"), fixture.key("d", "b")
    fixture.store.apply(Put(key, b"1", LONG), Put(beside, b"2"), Put(fixture.key("d", "c", "e"), b"3"))
    fixture.store.apply(
        Put(beside, b"4", _LONGER), Delete(fixture.key("d", "c"), Scope.SUBTREE), Delete(key, Scope.BELOW)
    )
    fixture.store.apply(Delete(beside, Scope.NODE), Delete(fixture.key("d"), Scope.NODE), Put(fixture.key("e"), b"5"))
    require_equal(set(fixture.store.ttls(fixture.key())), {("d", "a")}, "those that have a TTL are")
    fixture.store.apply(Delete(key, Scope.NODE))
    fixture.store.apply(Put(key, b"6"))
    require_equal(dict(fixture.store.ttls(fixture.key())), {}, "the TTLs of a value put again are")
    fixture.store.apply(Put(key, b"7", SHORT))
    fixture.store.apply(Delete(fixture.key(), Scope.SUBTREE))
    fixture.store.apply(Put(key, b"8"))
    fixture.outlive()
    fixture.expect({("d", "a"): b"8"})


@conformance_check(needs=[Need.TTL])
def a_refused_transaction_changes_no_ttl(fixture: Fixture) -> None:
    """If a check fails or a counter is refused, all TTLs are as they were."""
    long, lasting, text = fixture.key("d", "long"), fixture.key("d", "lasting"), fixture.key("text")
    fixture.store.apply(Put(long, b"1", LONG), Put(lasting, b"2"), Put(text, b"x"))
    writes = (
        Put(long, b"3"),
        Expire(lasting, Scope.NODE, SHORT),
        Put(fixture.key("d", "new"), b"4", SHORT),
        Expire(fixture.key(), Scope.SUBTREE, SHORT),
        Delete(long, Scope.NODE),
        Put(long, b"5", SHORT),
    )
    wrong = Equals(text, Scope.NODE, {(): b"y"})
    require_equal(fixture.store.run(checks=[wrong], writes=writes).status, Status.CHECK_FAILED, "the status")
    require_equal(fixture.store.run(writes=[*writes, Add(text, 1)]).status, Status.NOT_A_COUNTER, "the status")
    ttls = fixture.store.ttls(fixture.key())
    require_equal(set(ttls), {("d", "long")}, "after refused transactions, those that have a TTL are")
    require(0 < ttls["d", "long"] <= LONG, f"a TTL of {LONG} ms is now {ttls['d', 'long']}")
    fixture.outlive()
    fixture.expect({("d", "long"): b"1", ("d", "lasting"): b"2", ("text",): b"x"})


@conformance_check(needs=[Need.TTL])
def many_ttls_end_on_their_own(fixture: Fixture) -> None:
    """Of several hundred values, those whose TTL ended are gone and the others stay, without anybody touching them."""
    tree = large()
    fixture.plant(tree)
    mortal = [path for number, path in enumerate(tree) if number % 3 == 0]
    fixture.store.apply(*(Put(fixture.key(*path), tree[path], SHORT) for path in mortal))
    fixture.outlive()
    fixture.expect({path: value for path, value in tree.items() if path not in mortal})
