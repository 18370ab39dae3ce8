"""Lives: which values have one, how long it still is, and what gives, keeps and takes it."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

from redicts.contract.bench import LONG, SHORT, Bench
from redicts.contract.law import Need, law, require, require_equal
from redicts.contract.trees import TREE, large, scopes, within
from redicts.core.transaction import Add, Delete, Exactly, Expire, Put, Read, Scope, Verdict, Write

_LONGER = 100 * LONG
_CENTURY = 100 * 366 * 24 * 3600 * 1000
_SLACK = LONG // 2
"""Milliseconds by which a remaining life may be less than what was given, however slow the machine is."""


@law(needs=[Need.LIFE])
def a_value_lives_as_long_as_given(bench: Bench) -> None:
    """A value put with a life is there until it ends and gone afterwards; one put without lives for ever."""
    key, lasting = bench.key("mortal"), bench.key("lasting")
    bench.store.apply(Put(key, b"1", SHORT), Put(lasting, b"2"), Put(bench.key("long"), b"3", LONG))
    bench.outlive()
    bench.expect({("lasting",): b"2", ("long",): b"3"})


@law(needs=[Need.LIFE])
def the_shortest_life_is_a_millisecond(bench: Bench) -> None:
    """A life of one millisecond is a life, not none and not for ever."""
    bench.store.apply(Put(bench.key("a"), b"1", 1), Put(bench.key("b"), b"1"), Expire(bench.key("b"), Scope.NODE, 1))
    bench.outlive()
    bench.expect({})


@law(needs=[Need.LIFE])
def a_life_may_be_a_century(bench: Bench) -> None:
    """A life of a hundred years is not cut short."""
    bench.store.apply(Put(bench.key("a"), b"1", _CENTURY))
    remaining = bench.store.lives(bench.key("a")).get((), 0)
    require(_CENTURY - _SLACK <= remaining <= _CENTURY, f"of a century, {remaining} ms are left at once")


@law(needs=[Need.LIFE])
def remaining_lives_are_true(bench: Bench) -> None:
    """The remaining life is at most what was given, and shrinks as time passes; it belongs to the value it names."""
    given = {("a",): LONG, ("d", "b"): _LONGER, ("d", "c", "e"): LONG + 1}
    writes = [Put(bench.key(*path), b"1", life) for path, life in given.items()]
    bench.store.apply(*writes, Put(bench.key("lasting"), b"2"), Put(bench.key("d", "lasting"), b"3"))
    first = bench.store.lives(bench.key())
    bench.harness.advance(0.2)
    second = bench.store.lives(bench.key())
    require_equal(set(first), set(given), "those that have a life are")
    require_equal(set(second), set(given), "those that have a life are")
    for path, life in given.items():
        require(first[path] <= life, f"{first[path]} ms remain of a life of {life}")
        require(first[path] >= life - _SLACK, f"only {first[path]} ms remain at once of a life of {life}")
        require(second[path] <= life - 190, f"{second[path]} ms remain of a life of {life} after 200 ms")
        require(second[path] >= life - _SLACK, f"only {second[path]} ms remain soon after a life of {life} was given")


@law(needs=[Need.LIFE])
def remaining_lives_are_never_more_than_given(bench: Bench) -> None:
    """No remaining life is above what was given, not by one millisecond, whatever the fraction of a second it is."""
    for life in range(30_000, 30_200):
        bench.store.apply(Put(bench.key("a"), b"1", life))
        remaining = bench.store.lives(bench.key("a")).get((), 0)
        require(0 < remaining <= life, f"{remaining} ms remain of a life of {life}")


@law(needs=[Need.LIFE])
def lives_are_told_in_every_scope(bench: Bench) -> None:
    """A read with lives tells those of its scope, by relative path; one without tells none."""
    bench.plant(TREE)
    mortal = {path: value for number, (path, value) in enumerate(TREE.items()) if number % 2}
    bench.store.apply(*bench.puts(mortal, LONG))
    for place, scope in scopes():
        key = bench.key(*place)
        require_equal(
            set(bench.store.lives(key, scope)), set(within(mortal, place, scope)), f"lives at {place!r}, {scope.name}"
        )
        silent = bench.store.entries(Read(key, scope))
        require_equal(dict(silent.lives), {}, "lives that nobody asked for")
        require_equal(dict(silent.values), within(TREE, place, scope), f"the values at {place!r}, {scope.name} are")


@law(needs=[Need.LIFE])
def put_clears_the_old_life(bench: Bench) -> None:
    """Put without a life makes the value last for ever, whatever life the old one had; put with one gives that one."""
    first, second, third = bench.key("first"), bench.key("d", "second"), bench.key("third")
    bench.store.apply(Put(first, b"old", SHORT), Put(first, b"new"))
    bench.store.apply(Put(second, b"old", LONG))
    bench.store.apply(Put(second, b"new"))
    bench.store.apply(Put(third, b"old", SHORT), Put(third, b"new", LONG))
    require_equal(dict(bench.store.lives(second)), {}, "the lives after a put without one are")
    bench.outlive()
    bench.expect({("first",): b"new", ("d", "second"): b"new", ("third",): b"new"})
    bench.store.apply(Put(third, b"newer", SHORT))
    bench.outlive()
    bench.expect({("first",): b"new", ("d", "second"): b"new"})


@law(needs=[Need.LIFE])
def keep_life_keeps_it(bench: Bench) -> None:
    """Put with keep_life changes the value and leaves its life; it does not look at ``life``."""
    long, short, lasting, absent = (bench.key("d", name) for name in ("long", "short", "lasting", "absent"))
    bench.store.apply(
        Put(long, b"old", LONG),
        Put(lasting, b"old"),
        Put(short, b"old", SHORT),
        Put(short, b"new", None, keep_life=True),
    )
    bench.store.apply(
        Put(long, b"new", _LONGER, keep_life=True),
        Put(lasting, b"new", SHORT, keep_life=True),
        Put(absent, b"new", SHORT, keep_life=True),
    )
    bench.outlive()
    bench.expect({("d", "long"): b"new", ("d", "lasting"): b"new", ("d", "absent"): b"new"})
    lives = bench.store.lives(bench.key("d"))
    require_equal(set(lives), {("long",)}, "after puts with keep_life, those that have a life are")
    require(0 < lives["long",] <= LONG, f"a kept life of {LONG} ms is now {lives['long',]}")


@law(needs=[Need.LIFE])
def add_keeps_the_life(bench: Bench) -> None:
    """Add keeps the life of its counter, and gives none to a new or a lasting one."""
    long, short, lasting, absent = (bench.key("d", name) for name in ("long", "short", "lasting", "absent"))
    bench.store.apply(Put(long, b"1", LONG), Put(lasting, b"1"), Put(short, b"1", SHORT), Add(short, 1))
    bench.store.apply(Add(long, 1), Add(lasting, 1), Add(absent, 1))
    bench.outlive()
    bench.expect({("d", "long"): b"2", ("d", "lasting"): b"2", ("d", "absent"): b"1"})
    lives = bench.store.lives(bench.key("d"))
    require_equal(set(lives), {("long",)}, "after adding, those that have a life are")
    require(0 < lives["long",] <= LONG, f"a kept life of {LONG} ms is now {lives['long',]}")


@law(needs=[Need.LIFE])
def expire_gives_its_scope_a_life(bench: Bench) -> None:
    """Expire gives all values in its scope this life and leaves all others alone."""
    for place, scope in scopes():
        bench.plant(TREE)
        bench.store.apply(Expire(bench.key(*place), scope, LONG))
        lives = bench.store.lives(bench.key())
        mortal = {place + path for path in within(TREE, place, scope)}
        require_equal(set(lives), mortal, f"after Expire at {place!r}, {scope.name}, those that have a life are")
        require(all(0 < life <= LONG for life in lives.values()), f"lives of {LONG} ms are now {lives!r}")
        bench.expect(TREE)


@law(needs=[Need.LIFE])
def expire_ends_its_scope(bench: Bench) -> None:
    """What Expire gave a short life is gone when it ends, and what is outside of the scope stays."""
    stays = {("a", "x"): b"1", ("ab",): b"2", ("b", "a"): b"3"}
    bench.plant({**stays, ("a", "y"): b"4", ("a", "d", "z"): b"5", ("c",): b"6"})
    bench.store.apply(
        Expire(bench.key("a", "y"), Scope.SUBTREE, SHORT),
        Expire(bench.key("a", "d"), Scope.BELOW, SHORT),
        Expire(bench.key("c"), Scope.NODE, SHORT),
        Expire(bench.key("a"), Scope.NODE, SHORT),
        Expire(bench.key("ab"), Scope.BELOW, SHORT),
    )
    bench.outlive()
    bench.expect(stays)


@law(needs=[Need.LIFE])
def expire_with_none_makes_lasting(bench: Bench) -> None:
    """Expire with None makes the values in its scope last for ever."""
    for place, scope in scopes():
        bench.plant(TREE, LONG)
        bench.store.apply(Expire(bench.key(*place), scope, None))
        lasting = {place + path for path in within(TREE, place, scope)}
        mortal = set(TREE) - lasting
        require_equal(
            set(bench.store.lives(bench.key())), mortal, f"after Expire(None) at {place!r}, {scope.name}, lives are"
        )
    bench.plant({("a",): b"1", ("d", "b"): b"2"})
    writes = [Expire(bench.key(), Scope.SUBTREE, SHORT), Expire(bench.key("d"), Scope.SUBTREE, None)]
    bench.store.apply(*writes)
    bench.outlive()
    bench.expect({("d", "b"): b"2"})


@law(needs=[Need.LIFE])
def writes_to_lives_take_effect_in_order(bench: Bench) -> None:
    """Of several writes to one key, each sees the life that the ones before left."""
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
        key = bench.key("d", name)
        made: dict[object, Write] = {
            Put: Put(key, b"1"),
            "put short": Put(key, b"1", SHORT),
            "keep": Put(key, b"1", keep_life=True),
            Expire: Expire(key, Scope.SUBTREE, SHORT),
            "expire long": Expire(key, Scope.NODE, LONG),
            "expire none": Expire(key, Scope.NODE, None),
            Add: Add(key, 1),
            Delete: Delete(key, Scope.NODE),
        }
        writes += [made[step] for step in steps]
    bench.store.apply(*writes)
    bench.outlive()
    bench.expect({("d", name): b"1" for name in stays})


@law(needs=[Need.LIFE])
def lives_are_the_values_own(bench: Bench) -> None:
    """Writes to neighbours, parents and children leave a life alone, and a value put anew has none of an old one."""
    key, beside = bench.key("d", "a"), bench.key("d", "b")
    bench.store.apply(Put(key, b"1", LONG), Put(beside, b"2"), Put(bench.key("d", "c", "e"), b"3"))
    bench.store.apply(Put(beside, b"4", _LONGER), Delete(bench.key("d", "c"), Scope.SUBTREE), Delete(key, Scope.BELOW))
    bench.store.apply(Delete(beside, Scope.NODE), Delete(bench.key("d"), Scope.NODE), Put(bench.key("e"), b"5"))
    require_equal(set(bench.store.lives(bench.key())), {("d", "a")}, "those that have a life are")
    bench.store.apply(Delete(key, Scope.NODE))
    bench.store.apply(Put(key, b"6"))
    require_equal(dict(bench.store.lives(bench.key())), {}, "the lives of a value put anew are")
    bench.store.apply(Put(key, b"7", SHORT))
    bench.store.apply(Delete(bench.key(), Scope.SUBTREE))
    bench.store.apply(Put(key, b"8"))
    bench.outlive()
    bench.expect({("d", "a"): b"8"})


@law(needs=[Need.LIFE])
def a_refused_transaction_changes_no_life(bench: Bench) -> None:
    """If a check fails or a counter is refused, all lives are as they were."""
    long, lasting, text = bench.key("d", "long"), bench.key("d", "lasting"), bench.key("text")
    bench.store.apply(Put(long, b"1", LONG), Put(lasting, b"2"), Put(text, b"x"))
    writes = (
        Put(long, b"3"),
        Expire(lasting, Scope.NODE, SHORT),
        Put(bench.key("d", "new"), b"4", SHORT),
        Expire(bench.key(), Scope.SUBTREE, SHORT),
        Delete(long, Scope.NODE),
        Put(long, b"5", SHORT),
    )
    wrong = Exactly(text, Scope.NODE, {(): b"y"})
    require_equal(bench.store.run(checks=[wrong], writes=writes).verdict, Verdict.CHECK_FAILED, "the verdict")
    require_equal(bench.store.run(writes=[*writes, Add(text, 1)]).verdict, Verdict.NOT_A_COUNTER, "the verdict")
    lives = bench.store.lives(bench.key())
    require_equal(set(lives), {("d", "long")}, "after refused transactions, those that have a life are")
    require(0 < lives["d", "long"] <= LONG, f"a life of {LONG} ms is now {lives['d', 'long']}")
    bench.outlive()
    bench.expect({("d", "long"): b"1", ("d", "lasting"): b"2", ("text",): b"x"})


@law(needs=[Need.LIFE])
def many_lives_end_on_their_own(bench: Bench) -> None:
    """Of several hundred values, those whose life ended are gone and the others stay, without anybody touching them."""
    tree = large()
    bench.plant(tree)
    mortal = [path for number, path in enumerate(tree) if number % 3 == 0]
    bench.store.apply(*(Put(bench.key(*path), tree[path], SHORT) for path in mortal))
    bench.outlive()
    bench.expect({path: value for path, value in tree.items() if path not in mortal})
