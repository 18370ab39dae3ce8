"""Sizes: a thousand values always fit into a transaction, and what does not fit is refused as a whole."""

# ruff: noqa: D401  (the docstring of a law states the law)

from __future__ import annotations

from typing import Final

from redicts.contract.bench import Bench
from redicts.contract.form import entries_of
from redicts.contract.law import Need, NotRun, law, require, require_equal
from redicts.core.transaction import Delete, Exactly, Path, Put, Read, ReadNames, Scope, Verdict

_ALWAYS: Final = 1000
_MANY: Final = 20_000
_TESTABLE: Final = 300_000
"""A limit above this is not approached: the transactions would need hundreds of megabytes."""


@law()
def a_thousand_values_are_written(bench: Bench) -> None:
    """A transaction of exactly a thousand puts is applied: into one dict, and each into a dict of its own."""
    for tree in (_wide(_ALWAYS), _scattered(_ALWAYS)):
        bench.renew()
        bench.store.apply(*bench.puts(tree))
        require_equal(dict(bench.store.read(bench.key())), tree, "the thousand values are")


@law()
def a_thousand_values_are_read_and_checked(bench: Bench) -> None:
    """A read, a check and a listing of exactly a thousand values are complete."""
    tree = _wide(_ALWAYS)
    bench.plant(tree)
    require_equal(dict(bench.store.read(bench.key())), tree, "the thousand values are")
    require(
        bench.store.holds(Exactly(bench.key(), Scope.SUBTREE, tree)), "a check for exactly the thousand values fails"
    )
    last = {**tree, ("d", f"n{_ALWAYS - 1}"): b"other"}
    require(not bench.store.holds(Exactly(bench.key(), Scope.SUBTREE, last)), "a check for another last value holds")
    require_equal(bench.store.names(bench.key("d")), {path[1] for path in tree}, "the thousand names are")


@law()
def a_thousand_values_are_deleted(bench: Bench) -> None:
    """One delete removes a thousand values, and so do a thousand deletes in one transaction."""
    tree = _wide(_ALWAYS)
    bench.plant(tree)
    bench.store.apply(Delete(bench.key("d"), Scope.SUBTREE))
    bench.expect({})
    bench.plant({**tree, ("stays",): b"1"})
    bench.store.apply(*(Delete(bench.key(*path), Scope.NODE) for path in tree))
    bench.expect({("stays",): b"1"})


@law(needs=[Need.NO_LIMIT])
def any_number_of_values_is_written(bench: Bench) -> None:
    """Where ``atomic_entries`` is None, a transaction of twenty thousand values is applied, read and deleted."""
    tree = {**_wide(_MANY // 2), **_scattered(_MANY // 2)}
    bench.store.apply(*bench.puts(tree))
    require_equal(dict(bench.store.read(bench.key())), tree, "the values are")
    bench.store.apply(Delete(bench.key(), Scope.SUBTREE))
    bench.expect({})


@law(needs=[Need.LIMIT])
def as_many_as_claimed_are_written(bench: Bench) -> None:
    """A transaction of exactly ``atomic_entries`` puts is applied."""
    tree = _wide(_testable(bench))
    bench.store.apply(*bench.puts(tree))
    require_equal(bench.store.value(bench.key("d", f"n{len(tree) - 1}")), b"%d" % (len(tree) - 1), "the last value is")


@law(needs=[Need.LIMIT])
def one_more_than_claimed_is_refused(bench: Bench) -> None:
    """A transaction of one put more than ``atomic_entries`` is TOO_LARGE; nothing is read or written."""
    limit = _testable(bench)
    bench.store.apply(Put(bench.key("d", "n0"), b"before"), Put(bench.key("e"), b"before"))
    tree = _wide(limit + 1)
    outcome = bench.store.run(
        reads=[Read(bench.key("e")), ReadNames(bench.key())],
        writes=[Put(bench.key(*path), value) for path, value in tree.items()],
    )
    works = outcome.applied and len(bench.store.names(bench.key("d"))) == limit + 1
    remedy = "; it works, so the store could claim a larger atomic_entries, or None" if works else ""
    name = outcome.verdict.name
    require(
        outcome.verdict is Verdict.TOO_LARGE,
        f"the verdict of {limit + 1} puts where {limit} are claimed is {name}, not TOO_LARGE{remedy}",
    )
    bench.expect({("d", "n0"): b"before", ("e",): b"before"})


@law(needs=[Need.LIMIT])
def a_scope_beyond_the_limit_is_refused_or_whole(bench: Bench) -> None:
    """A read or a delete of a scope that holds more than ``atomic_entries`` values is TOO_LARGE, or does all of it."""
    limit = _testable(bench)
    paths = list(_wide(limit + 1))
    for start in range(0, len(paths), _ALWAYS):
        bench.store.apply(*(Put(bench.key(*path), b"1") for path in paths[start : start + _ALWAYS]))
    read = bench.store.run(reads=[Read(bench.key(), Scope.SUBTREE)])
    if read.verdict is not Verdict.TOO_LARGE:
        require_equal(len(entries_of(read.answers[0]).values), limit + 1, "the values of a scope beyond the limit are")
    outcome = bench.store.run(writes=[Put(bench.key("e"), b"new"), Delete(bench.key("d"), Scope.SUBTREE)])
    verdicts = (Verdict.APPLIED, Verdict.TOO_LARGE)
    require(outcome.verdict in verdicts, f"the verdict of deleting {limit + 1} values is {outcome.verdict.name}")
    left = 0
    read_page = Read(bench.key("d"), Scope.SUBTREE, limit=1000)
    in_time = bench.deadline()
    while True:
        in_time()
        page = bench.store.entries(read_page)
        left += len(page.values)
        if page.cursor is None:
            break
        read_page = read_page._replace(cursor=page.cursor)
    require_equal(
        left, 0 if outcome.applied else limit + 1, f"after a delete with {outcome.verdict.name}, values are left"
    )
    require_equal(
        bench.store.value(bench.key("e")), b"new" if outcome.applied else None, "the put beside the delete left"
    )


def _testable(bench: Bench) -> int:
    limit = bench.capabilities.atomic_entries
    assert limit is not None  # the law needs a limit
    if limit > _TESTABLE:
        raise NotRun(
            f"atomic_entries is {limit:,}, and transactions above {_TESTABLE:,} values are not tried", demanded=False
        )
    return limit


def _wide(size: int) -> dict[Path, bytes]:
    return {("d", f"n{number}"): b"%d" % number for number in range(size)}


def _scattered(size: int) -> dict[Path, bytes]:
    return {("s", f"{number % 30}", f"d{number}", "leaf"): b"%d" % number for number in range(size)}
