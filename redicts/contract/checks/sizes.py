"""Sizes: a thousand values fit into a transaction, and larger ones are refused as a whole."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.fixture import Fixture
from redicts.contract.form import entries_of
from redicts.contract.requirements import NotRun, require, require_equal
from redicts.core.minitransaction import Delete, Equals, Path, Put, Read, ReadNames, Scope, Status

_ALWAYS: Final = 1000
_MANY: Final = 20_000
_TESTABLE: Final = 300_000
"""A limit above this is not approached: the transactions would need hundreds of megabytes."""


@conformance_check()
def a_thousand_values_fit(fixture: Fixture) -> None:
    """One transaction can write, read, compare, list and delete a thousand values, in one dict and in as many dicts."""
    tree = _wide(_ALWAYS)
    for entries in (tree, _scattered(_ALWAYS)):
        fixture.renew()
        fixture.store.apply(*fixture.puts(entries))
        require_equal(dict(fixture.store.read(fixture.key())), entries, "the thousand values are")
        require(fixture.store.holds(Equals(fixture.key(), Scope.SUBTREE, entries)), "Equals of a thousand values fails")
        fixture.store.apply(Delete(fixture.key(), Scope.SUBTREE))
        fixture.expect({})
    fixture.plant({**tree, ("stays",): b"1"})
    last = {**tree, ("d", f"n{_ALWAYS - 1}"): b"other"}
    require(not fixture.store.holds(Equals(fixture.key(), Scope.SUBTREE, last)), "Equals of another last value holds")
    require_equal(fixture.store.names(fixture.key("d")), {path[1] for path in tree}, "the thousand names are")
    fixture.store.apply(*(Delete(fixture.key(*path), Scope.NODE) for path in tree))
    fixture.expect({("stays",): b"1"})


@conformance_check(needs=[Need.NO_LIMIT])
def any_number_of_values_is_written(fixture: Fixture) -> None:
    """With ``atomic_entries`` None, a transaction of twenty thousand values is applied, read and deleted."""
    tree = {**_wide(_MANY // 2), **_scattered(_MANY // 2)}
    fixture.store.apply(*fixture.puts(tree))
    require_equal(dict(fixture.store.read(fixture.key())), tree, "the values are")
    fixture.store.apply(Delete(fixture.key(), Scope.SUBTREE))
    fixture.expect({})


@conformance_check(needs=[Need.LIMIT])
def one_more_than_declared_is_refused(fixture: Fixture) -> None:
    """``atomic_entries`` puts are applied in one transaction, and one more is TOO_LARGE and changes nothing."""
    limit = _testable(fixture)
    fixture.store.apply(*fixture.puts(_wide(limit)))
    last = fixture.key("d", f"n{limit - 1}")
    require_equal(fixture.store.value(last), b"%d" % (limit - 1), "the last of atomic_entries values is")
    fixture.renew()
    fixture.store.apply(Put(fixture.key("d", "n0"), b"before"), Put(fixture.key("e"), b"before"))
    reads = (Read(fixture.key("e")), ReadNames(fixture.key()))
    outcome = fixture.store.run(reads=reads, writes=fixture.puts(_wide(limit + 1)))
    works = outcome.applied and len(fixture.store.names(fixture.key("d"))) == limit + 1
    remedy = "; it works, so the store could declare a larger atomic_entries, or None" if works else ""
    require(
        outcome.status is Status.TOO_LARGE,
        f"the status of {limit + 1} puts must be TOO_LARGE where atomic_entries is {limit}, "
        f"got {outcome.status.name}{remedy}",
    )
    fixture.expect({("d", "n0"): b"before", ("e",): b"before"})


@conformance_check(needs=[Need.LIMIT])
def a_scope_beyond_the_limit_is_refused_or_whole(fixture: Fixture) -> None:
    """A read or delete of more than ``atomic_entries`` values is TOO_LARGE, or complete."""
    limit = _testable(fixture)
    paths = list(_wide(limit + 1))
    for start in range(0, len(paths), _ALWAYS):
        fixture.store.apply(*(Put(fixture.key(*path), b"1") for path in paths[start : start + _ALWAYS]))
    read = fixture.store.run(reads=[Read(fixture.key(), Scope.SUBTREE)])
    if read.status is not Status.TOO_LARGE:
        require_equal(len(entries_of(read.answers[0]).values), limit + 1, "the values of a scope beyond the limit are")
    outcome = fixture.store.run(writes=[Put(fixture.key("e"), b"new"), Delete(fixture.key("d"), Scope.SUBTREE)])
    statuses = (Status.APPLIED, Status.TOO_LARGE)
    require(outcome.status in statuses, f"the status of deleting {limit + 1} values is {outcome.status.name}")
    left = 0
    read_page = Read(fixture.key("d"), Scope.SUBTREE, limit=1000)
    in_time = fixture.deadline()
    while True:
        in_time()
        page = fixture.store.entries(read_page)
        left += len(page.values)
        if page.cursor is None:
            break
        read_page = read_page._replace(cursor=page.cursor)
    require_equal(
        left, 0 if outcome.applied else limit + 1, f"after a delete with {outcome.status.name}, values are left"
    )
    require_equal(
        fixture.store.value(fixture.key("e")), b"new" if outcome.applied else None, "the put beside the delete left"
    )


def _testable(fixture: Fixture) -> int:
    limit = fixture.capabilities.atomic_entries
    assert limit is not None  # the check needs a limit
    if limit > _TESTABLE:
        raise NotRun(
            f"atomic_entries is {limit:,}, and transactions above {_TESTABLE:,} values are not tried", required=False
        )
    return limit


def _wide(size: int) -> dict[Path, bytes]:
    return {("d", f"n{number}"): b"%d" % number for number in range(size)}


def _scattered(size: int) -> dict[Path, bytes]:
    return {("s", f"{number % 30}", f"d{number}", "leaf"): b"%d" % number for number in range(size)}
