"""Sizes: a thousand values fit into a transaction, and larger ones are refused as a whole."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from redicts.contract.check import Need, conformance_check
from redicts.contract.fixture import Fixture
from redicts.contract.form import entries_of, names_of
from redicts.contract.requirements import NotRun, require, require_equal
from redicts.contract.trees import without
from redicts.contract.walk import many, walk_names
from redicts.core.minitransaction import (
    Add,
    AnyRead,
    Check,
    Delete,
    Equals,
    Notify,
    Path,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Status,
    Transaction,
    Write,
)
from redicts.errors import StoreError, Unsupported

_EXPIRED_SECS: Final = 0.003
"""Seconds in which a TTL of one millisecond has ended."""

_ALWAYS: Final = 1000
_MANY: Final = 12_000
_THOROUGHLY_MANY: Final = 40_000
_TESTABLE: Final = 300_000
"""A limit above this is not approached: the transactions would need hundreds of megabytes."""


@conformance_check()
def a_thousand_values_fit(fixture: Fixture) -> None:
    """One transaction can write, read, compare, list and delete a thousand values, in one dict and in as many dicts.

    Writes, reads, compares, lists and deletes a thousand values in one transaction each.
    """
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
    """With ``atomic_entries`` None, a transaction of more than ten thousand values is applied, read and deleted.

    Writes, reads and deletes twelve thousand values in one transaction each.
    """
    half = (_THOROUGHLY_MANY if fixture.thorough else _MANY) // 2
    tree = {**_wide(half), **_scattered(half)}
    fixture.store.apply(*fixture.puts(tree))
    require_equal(dict(fixture.store.read(fixture.key())), tree, "the values are")
    fixture.store.apply(Delete(fixture.key(), Scope.SUBTREE))
    fixture.expect({})


@conformance_check(needs=[Need.LIMIT])
def one_more_than_declared_is_refused(fixture: Fixture) -> None:
    """``atomic_entries`` puts are applied in one transaction, and one more is TOO_LARGE and changes nothing.

    Puts exactly the declared number of values, compares them and walks over their names, deletes half of them one by
    one, and replaces the other half by a document or value. Then it puts one more.
    """
    limit = _testable(fixture)
    wide = _wide(limit)
    for _ in range(2):  # for both kinds of spaces
        fixture.renew()
        fixture.store.apply(*fixture.puts(wide))
        last, whole = fixture.key("d", f"n{limit - 1}"), fixture.key("d")
        require_equal(fixture.store.value(last), b"%d" % (limit - 1), "the last of atomic_entries values is")
        there = {path[1:]: value for path, value in wide.items()}
        for check in (StartsWith(whole, Scope.BELOW, b""), Equals(whole, Scope.BELOW, there)):
            status = fixture.store.run([check]).status
            require_equal(status, Status.APPLIED, f"the status of {type(check).__name__} of {limit} values is")
        names = walk_names(fixture.store, ReadNames(whole, _ALWAYS), many(limit))
        require_equal(sorted(names), sorted(path[-1] for path in wide), f"a walk over {limit} names finds")
        # More than half, and for the rest a document of more leaves than that: none of them may count twice.
        most = limit // 2 + 1
        fixture.store.apply(*[Delete(fixture.key(*path), Scope.NODE) for path in list(wide)[:most]])
        left = fixture.store.names(whole)
        require_equal(len(left), limit - most, f"after {most} deletes of one value each, values are left:")
        if fixture.capabilities.documents:
            fixture.store.apply(PutDocument(whole, b'{"a":1,"b":1,"c":1}'))
            fixture.expect({("d", name): b"1" for name in "abc"})
        else:
            fixture.store.apply(Delete(whole, Scope.BELOW), Put(whole, b"1"))
            fixture.expect({("d",): b"1"})
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
    """A read or delete of more than ``atomic_entries`` values is TOO_LARGE, or complete.

    Reads and deletes a dict of one value more than declared.
    """
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


@conformance_check()
def a_large_value_is_whole_or_refused(fixture: Fixture) -> None:
    """A value of up to 16 MiB comes back whole, or a StoreError refuses it and its transaction changes nothing.

    Puts values of 0 bytes, around 64 KiB, and of 16 MiB, and reads them by another client.
    """
    key, beside = fixture.key("d", "large"), fixture.key("d", "beside")
    fixture.store.apply(Put(key, b"before"), Put(beside, b"before"))
    expected: dict[Path, bytes] = {("d", "large"): b"before", ("d", "beside"): b"before"}
    for size in (2**16 - 1, 2**16, 2**16 + 1, 2**24, 0):
        value = (bytes(range(251)) * (size // 251 + 1))[:size]
        transaction = Transaction(writes=(Put(key, value), Put(beside, b"%d" % size)))
        try:
            outcome = fixture.store.backend.execute(transaction)
        except (StoreError, Unsupported):
            fixture.expect(expected)
            continue
        require(outcome.applied, f"a value of {size:,} bytes, without conditions, ended with {outcome.status.name}")
        expected = {("d", "large"): value, ("d", "beside"): b"%d" % size}
        # Not by the client, which has what it validates in each of its messages.
        read = Transaction(reads=(Read(fixture.key(), Scope.SUBTREE),))
        values = entries_of(fixture.client().backend.execute(read).answers[0]).values
        stored = values.get(("d", "large"), b"")
        require(stored == value, f"of a value of {size:,} bytes, {len(stored):,} came back, or others")
        require_equal(values.get(("d", "beside")), b"%d" % size, f"what was put with a value of {size:,} bytes is")
    fixture.store.backend.execute(Transaction(writes=(Delete(key, Scope.NODE),)))


@conformance_check(needs=[Need.LIMIT])
def around_the_limit_a_mix_is_whole_or_refused(fixture: Fixture) -> None:
    """A transaction of any checks, reads and writes around ``atomic_entries`` is applied whole, or is TOO_LARGE.

    Mixes conditions, reads, puts, Adds, deletes and Notify around the declared number of values.
    """
    limit = _testable(fixture)
    wide = _wide(limit)
    there = {path[1:]: value for path, value in wide.items()}
    root, dict_ = fixture.key(), fixture.key("d")
    puts = fixture.puts({("e", f"n{number}"): b"1" for number in range(limit // 2 + 1)})
    deletes = [Delete(fixture.key(*path), Scope.NODE) for path in wide]
    mixes: dict[str, tuple[Sequence[Check], Sequence[AnyRead], Sequence[Write]]] = {
        "reads of one scope": ([], [Read(dict_, Scope.BELOW), Read(root, Scope.SUBTREE), ReadNames(dict_)], []),
        "a check of all values, and a put": (
            [Equals(dict_, Scope.BELOW, there)],
            [],
            puts[:1],
        ),
        "Adds": ([], [], [Add(fixture.key("f", f"n{number}"), 1) for number in range(limit + 1)]),
        "puts and deletes of single values": ([], [], [*puts, *deletes]),
        "puts and a delete of a scope": ([], [], [*puts, Delete(dict_, Scope.SUBTREE)]),
        "a Notify of a scope, and puts": ([], [], [Notify(dict_, Scope.BELOW), *puts]),
    }
    expected: dict[Path, bytes] | None = None
    for what, (checks, reads, writes) in mixes.items():
        if expected is None:
            expected = _plant(fixture, wide)
        here = [write._replace(key=fixture.key(*write.key.path)) for write in writes]
        transaction = Transaction(
            tuple([check._replace(key=fixture.key(*check.key.path)) for check in checks]),
            tuple([read._replace(key=fixture.key(*read.key.path)) for read in reads]),
            tuple(here),
        )
        outcome = fixture.store.backend.execute(transaction)
        require(
            outcome.status in (Status.APPLIED, Status.TOO_LARGE),
            f"the status of {what} around {limit} values is {outcome.status.name}; it must be APPLIED or TOO_LARGE",
        )
        for read, answer in zip(reads, outcome.answers):
            size = len(entries_of(answer).values if isinstance(read, Read) else names_of(answer).names)
            require_equal(size, limit + (not read.key.path), f"the size of an answer to {what} is")
        if not writes:
            continue
        wanted = _after(expected, here) if outcome.applied else expected
        found = _walked(fixture)
        wrong = [path for path in {*found, *wanted} if found.get(path) != wanted.get(path)]
        require(not wrong, f"after {what} with {outcome.status.name}, {len(wrong)} values are wrong: {wrong[:3]!r}")
        if outcome.applied:
            expected = None


def _plant(fixture: Fixture, wide: Mapping[Path, bytes]) -> dict[Path, bytes]:
    """Continue in a new space with these values and one more, and return all of them."""
    fixture.renew()
    puts = fixture.puts({**wide, ("stays",): b"1"})
    for start in range(0, len(puts), _ALWAYS):
        fixture.store.backend.execute(Transaction(writes=tuple(puts[start : start + _ALWAYS])))
    return {**wide, ("stays",): b"1"}


def _after(entries: Mapping[Path, bytes], writes: Sequence[Write]) -> dict[Path, bytes]:
    """Return the entries after writes that put, delete or add where nothing was."""
    left = dict(entries)
    for write in writes:
        if isinstance(write, Put):
            left[write.key.path] = write.value
        elif isinstance(write, Add):
            left[write.key.path] = b"%d" % write.amount
        elif isinstance(write, Delete) and write.scope is Scope.NODE:
            left.pop(write.key.path, None)
        elif isinstance(write, (Delete, Notify)):
            left = without(left, write.key.path, write.scope)
    return left


def _walked(fixture: Fixture) -> dict[Path, bytes]:
    """Return all values, by pages that are not validated one by one."""
    found: dict[Path, bytes] = {}
    read = Read(fixture.key(), Scope.SUBTREE, limit=1000)
    in_time = fixture.deadline()
    while True:
        in_time()
        page = entries_of(fixture.store.backend.execute(Transaction(reads=(read,))).answers[0])
        found |= page.values
        if page.cursor is None:
            return found
        read = read._replace(cursor=page.cursor)


@conformance_check(needs=[Need.LIMIT, Need.TTL])
def what_has_expired_does_not_count(fixture: Fixture) -> None:
    """Any number of expired values in its scopes makes no transaction TOO_LARGE.

    Reads and writes over more expired values than the declared number.
    """
    limit = _testable(fixture)
    live: dict[Path, bytes] = {("d", "live"): b"1"}
    execute = fixture.store.backend.execute
    calls: dict[str, Callable[[], Transaction]] = {
        "a read": lambda: Transaction(reads=(Read(fixture.key(), Scope.SUBTREE),)),
        "Equals": lambda: Transaction((Equals(fixture.key(), Scope.SUBTREE, live),)),
        "a delete": lambda: Transaction(writes=(Delete(fixture.key("d"), Scope.SUBTREE),)),
        "puts": lambda: Transaction(writes=tuple(fixture.puts(_wide(limit)))),
    }
    for what in calls if fixture.thorough else ("a read", "puts"):
        fixture.renew()
        for part, size in enumerate((limit, _ALWAYS // 5)):
            puts = [Put(fixture.key("d", f"n{part}-{number}"), b"0", 1) for number in range(size)]
            execute(Transaction(writes=tuple(puts)))
        fixture.store.run(writes=fixture.puts(live))
        fixture.harness.advance(_EXPIRED_SECS)
        outcome = execute(calls[what]())
        require(
            outcome.applied,
            f"{what} over more than {limit} expired values and one live one ended with {outcome.status.name}; what has "
            "expired must not count for atomic_entries",
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
