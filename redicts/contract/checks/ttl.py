"""TTLs: which values have one, how long it is, and which writes change it."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from contextlib import suppress

from redicts.contract.check import Need, conformance_check
from redicts.contract.fixture import LONG, SHORT, Fixture
from redicts.contract.requirements import require, require_equal
from redicts.core.minitransaction import Add, Delete, Equals, Expire, Key, Path, Put, Scope, Status, Write
from redicts.errors import StoreError

_LONGER = 100 * LONG
_CENTURY = 100 * 366 * 24 * 3600 * 1000
_LENGTHS = (0, 500, 1_500, 5_000, 20_000, 70_000)
"""Lengths of values, some of which a store may keep elsewhere."""
_LONG_PATH: Path = ("n" * 600,)
_SLACK = LONG // 2
"""Milliseconds by which a remaining TTL may be less than what was given, however slow the machine is."""


@conformance_check(needs=[Need.TTL])
def a_ttl_may_be_a_century(fixture: Fixture) -> None:
    """A TTL of a hundred years is not cut short.

    Puts a value with a TTL of a hundred years and reads what remains.
    """
    fixture.store.apply(Put(fixture.key("a"), b"1", _CENTURY))
    remaining = fixture.store.ttls(fixture.key("a")).get((), 0)
    require(_CENTURY - _SLACK <= remaining <= _CENTURY, f"of a century, {remaining} ms are left at once")


@conformance_check(needs=[Need.TTL])
def remaining_ttls_are_never_more_than_given(fixture: Fixture) -> None:
    """A remaining TTL is never above the given one, not by one millisecond.

    Reads the remaining TTL at once, for two hundred TTLs.
    """
    for first in range(30_000, 30_200, 4):  # few at once: the time that many take would hide a millisecond
        ttls = {f"n{number}": first + number for number in range(4)}
        fixture.store.apply(*(Put(fixture.key("d", name), b"1", ttl) for name, ttl in ttls.items()))
        remaining = fixture.store.ttls(fixture.key("d"))
        for name, ttl in ttls.items():
            left = remaining.get((name,), 0)
            require(0 < left <= ttl, f"{left} ms remain of a TTL of {ttl}")


@conformance_check(needs=[Need.TTL])
def keep_ttl_keeps_it(fixture: Fixture) -> None:
    """Put with keep_ttl changes the value, keeps its TTL, and ignores ``ttl``.

    Puts with keep_ttl over values with a long TTL, a short one and none, one value and several of a dict. Then over
    short and long values by short and long ones, at short and long paths, of which it removes and sets the TTL, too.
    """
    names = "long", "also", "short", "lasting", "absent"
    long, also, short, lasting, absent = (fixture.key("d", name) for name in names)
    fixture.store.apply(
        Put(long, b"old", LONG),
        Put(also, b"old", LONG),
        Put(lasting, b"old"),
        Put(short, b"old", SHORT),
        Put(short, b"new", None, keep_ttl=True),
    )
    fixture.store.apply(
        Put(long, b"new", _LONGER, keep_ttl=True),
        Put(also, b"new", _LONGER, keep_ttl=True),
        Put(lasting, b"new", SHORT, keep_ttl=True),
        Put(absent, b"new", SHORT, keep_ttl=True),
    )
    fixture.outlive()
    fixture.expect({("d", name): b"new" for name in names if name != "short"})
    ttls = fixture.store.ttls(fixture.key("d"))
    require_equal(set(ttls), {("long",), ("also",)}, "after puts with keep_ttl, the paths with a TTL are")
    for path, left in ttls.items():
        require(0 < left <= LONG, f"a kept TTL of {LONG} ms at {path!r} is now {left}")
    _change_long_ones(fixture)


def _change_long_ones(fixture: Fixture) -> None:
    """Change TTLs of values of many lengths, at which a store may keep them elsewhere, and at a long path."""
    before: dict[Path, bytes] = {}
    after: dict[Path, bytes] = {}
    for size in _LENGTHS:
        for what, old, new in (("grows", 1, size), ("shrinks", size, 1), ("stays", size, size)):
            path = (f"{what}{size}",)
            before[path], after[path] = b"o" * old, b"n" * new
    fixture.plant(before, LONG)
    counters = [fixture.key("count"), fixture.key(*_LONG_PATH, "count")]
    for counter in counters:
        with suppress(StoreError):  # a store may refuse a long path
            fixture.store.apply(
                Put(counter, b"1", LONG), Put(Key(counter.space, (*counter.path[:-1], "a")), b"old", LONG)
            )
            after |= {counter.path: b"2", (*counter.path[:-1], "a"): b"new"}

    def require_ttls(what: str, wanted: set[Path]) -> None:
        found = set(fixture.store.ttls(fixture.key()))
        wrong = sorted(path[0][:20] for path in found ^ wanted)
        require(not wrong, f"after {what}, a TTL is missing or left at {wrong!r}: names tell the lengths of values")

    fixture.store.apply(
        *[
            Add(key, 1) if key in counters else Put(key, value, keep_ttl=True)
            for key, value in ((fixture.key(*path), value) for path, value in after.items())
        ]
    )
    require(dict(fixture.store.read(fixture.key())) == after, "after puts with keep_ttl and Adds, values differ")
    require_ttls("puts with keep_ttl and Adds", set(after))
    fixture.store.apply(Expire(fixture.key(), Scope.SUBTREE, None))
    require_ttls("an Expire with None", set())
    fixture.store.apply(*[Put(fixture.key(*path), value, LONG) for path, value in after.items()])
    require_ttls("puts with a TTL", set(after))
    fixture.store.apply(*[Put(fixture.key(*path), value) for path, value in after.items()])
    require_ttls("puts without one", set())
    fixture.store.apply(Expire(fixture.key(), Scope.BELOW, LONG))
    require_ttls("an Expire", set(after))


@conformance_check(needs=[Need.TTL])
def expire_ends_its_scope(fixture: Fixture) -> None:
    """The values in the scope of an Expire are gone when its TTL has ended, and all others stay.

    Gives short TTLs to several scopes, of values with a long TTL and with none, waits, and reads what is left.
    """
    stays = {("a", "x"): b"1", ("ab",): b"2", ("b", "a"): b"3"}
    spaces: list[str] = []
    for _ in range(2):  # for both kinds of spaces
        fixture.plant({**stays, ("a", "y"): b"4", ("a", "d", "z"): b"5", ("c",): b"6"})
        renewed = [fixture.key("a", "y"), fixture.key("c"), fixture.key("e")]
        fixture.store.apply(*[Put(key, b"7", LONG) for key in renewed])
        fixture.store.apply(Expire(renewed[-1], Scope.NODE, SHORT))
        fixture.store.apply(
            Expire(fixture.key("a", "y"), Scope.SUBTREE, SHORT),
            Expire(fixture.key("a", "d"), Scope.BELOW, SHORT),
            Expire(fixture.key("c"), Scope.NODE, SHORT),
            Expire(fixture.key("a"), Scope.NODE, SHORT),
            Expire(fixture.key("ab"), Scope.BELOW, SHORT),
        )
        spaces.append(fixture.space)
    fixture.outlive()
    for fixture.space in spaces:
        fixture.expect(stays)


@conformance_check(needs=[Need.TTL])
def writes_to_ttls_take_effect_in_order(fixture: Fixture) -> None:
    """Of several writes to one key, each sees the TTL that earlier ones left.

    Puts, expires, adds, keeps and deletes in a dozen orders in one transaction, and waits.
    """
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
    """Writes to neighbours, parents and children do not change a TTL, and a new value has none of an old one.

    Writes and deletes beside, above and below a value with a TTL.
    """
    key, beside = fixture.key("d", "a"), fixture.key("d", "b")
    fixture.store.apply(Put(key, b"1", LONG), Put(beside, b"2"), Put(fixture.key("d", "c", "e"), b"3"))
    fixture.store.apply(
        Put(beside, b"4", _LONGER), Delete(fixture.key("d", "c"), Scope.SUBTREE), Delete(key, Scope.BELOW)
    )
    fixture.store.apply(Delete(beside, Scope.NODE), Delete(fixture.key("d"), Scope.NODE), Put(fixture.key("e"), b"5"))
    require_equal(set(fixture.store.ttls(fixture.key())), {("d", "a")}, "the paths with a TTL are")
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
    """If a condition fails or a counter is refused, no TTL changes.

    Changes TTLs in transactions whose condition or counter is refused.
    """
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
    require_equal(set(ttls), {("d", "long")}, "after refused transactions, the paths with a TTL are")
    require(0 < ttls["d", "long"] <= LONG, f"a TTL of {LONG} ms is now {ttls['d', 'long']}")
    fixture.outlive()
    fixture.expect({("d", "long"): b"1", ("d", "lasting"): b"2", ("text",): b"x"})
