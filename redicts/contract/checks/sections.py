"""Sharded stores: what they refuse, and how they answer at the root. All else is examined within one section."""

# ruff: noqa: D401  (the docstring of a check states its rule)

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redicts.contract.check import Need, conformance_check
from redicts.contract.client import Client
from redicts.contract.fixture import Fixture
from redicts.contract.form import entries_of, names_of
from redicts.contract.requirements import require, require_equal
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Equals,
    Key,
    Path,
    Put,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Transaction,
)
from redicts.errors import Unsupported

_SECTIONS = tuple([f"s{number}" for number in range(9)])


def _key(fixture: Fixture, *path: str) -> Key:
    """Return the key of a value, in a space of the check that is no record space."""
    return Key(f"t{fixture.space[1:]}", path)


@contextmanager
def _whole(fixture: Fixture) -> Iterator[Client]:
    """Give a client of the whole store, and empty its sections in the space of the check."""
    client = Client(fixture.harness.whole())
    try:
        yield client
    finally:
        for section in _SECTIONS:
            client.run(writes=(Delete(_key(fixture, section), Scope.SUBTREE),))
        client.backend.close()


@conformance_check(needs=[Need.SHARDED])
def a_transaction_has_one_section(fixture: Fixture) -> None:
    """A transaction with keys of two sections raises Unsupported, names both, and changes nothing.

    Combines a check, a read and a write of one section with those of another one.
    """
    one, other = _key(fixture, "s0", "a"), _key(fixture, "s1", "a")
    parts = {
        "two writes": Transaction(writes=(Put(one, b"1"), Put(other, b"1"))),
        "a check and a write": Transaction((Equals(other, Scope.NODE, NOTHING),), (), (Put(one, b"1"),)),
        "a read and a write": Transaction((), (Read(other),), (Put(one, b"1"),)),
        "two reads": Transaction((), (Read(one), Read(other))),
    }
    with _whole(fixture) as client:
        for what, transaction in parts.items():
            text = _refusal(client, transaction, what)
            require("'s0'" in text and "'s1'" in text, f"the error for {what} must name both sections: {text}")
        for key in (one, other):
            require_equal(entries_of(client.ask(Read(key))[0]).values, {}, f"after the refusals, {key.path} holds")


@conformance_check(needs=[Need.SHARDED])
def the_root_is_refused(fixture: Fixture) -> None:
    """A check or write at the root raises Unsupported and changes nothing, and so does a read without a limit.

    Asks for each of them while a section holds a value.
    """
    root, key = _key(fixture), _key(fixture, "s0", "a")
    parts = {
        "a write": Transaction(writes=(Delete(root, Scope.SUBTREE),)),
        "a check of nothing": Transaction((Equals(root, Scope.SUBTREE, NOTHING),)),
        "a check of beginnings": Transaction((StartsWith(root, Scope.BELOW, b"1"),)),
        "a read without a limit": Transaction((), (Read(root, Scope.SUBTREE),)),
        "a read with a write in a section": Transaction((), (Read(root, Scope.SUBTREE, 10),), (Put(key, b"2"),)),
    }
    with _whole(fixture) as client:
        client.apply(Put(key, b"1"))
        for what, transaction in parts.items():
            _refusal(client, transaction, f"{what} at the root")
        require_equal(entries_of(client.ask(Read(key))[0]).values, {(): b"1"}, "after the refusals, the value is")


@conformance_check(needs=[Need.SHARDED])
def the_root_is_read_in_pages(fixture: Fixture) -> None:
    """Pages at the root have the values and names of all sections, and no names of sections without values.

    Reads values, names and both in one transaction, in pages of different sizes.
    """
    root = _key(fixture)
    expected: dict[Path, bytes] = {}
    with _whole(fixture) as client:
        client.apply(Put(_key(fixture, "s8", "gone"), b"0"))
        client.apply(Delete(_key(fixture, "s8"), Scope.SUBTREE))
        for number, section in enumerate(_SECTIONS[:8]):
            entries: dict[Path, bytes] = {(section, f"n{leaf}"): b"%d" % leaf for leaf in range(3 * number + 1)}
            client.apply(*(Put(_key(fixture, *path), value) for path, value in entries.items()))
            expected.update(entries)
        for limit in (1, 7, 1_000):
            values: dict[Path, bytes] = {}
            names: set[str] = set()
            reads: list[Read | ReadNames] = [Read(root, Scope.SUBTREE, limit), ReadNames(root, limit)]
            while reads:
                further: list[Read | ReadNames] = []
                for read, answer in zip(reads, client.ask(*reads)):
                    if isinstance(read, Read):
                        values.update(entries_of(answer).values)
                    else:
                        names.update(names_of(answer).names)
                    if answer.cursor is not None:
                        further.append(read._replace(cursor=answer.cursor))
                reads = further
            require_equal(values, expected, f"pages of {limit} at the root have")
            require_equal(names, set(_SECTIONS[:8]), f"pages of {limit} names at the root have")


@conformance_check(needs=[Need.SHARDED])
def keys_of_locks_are_at_home(fixture: Fixture) -> None:
    """What a transaction writes about locks is in its section, and each section has counters of its own.

    Counts in two sections beside a lock record of each, and reads the counters with the records.
    """
    space = fixture.space[1:]
    counter = Key(f"f{space}", ("token",))
    with _whole(fixture) as client:
        for section, amount in (("s0", 5), ("s1", 7)):
            record = Key(f"h{space}", (f"/{section}", "!", "r"))
            client.apply(Put(record, b"X"), Add(counter, amount))
        for section, amount in (("s0", 5), ("s1", 7)):
            record = Key(f"h{space}", (f"/{section}", "!", "r"))
            held, counted = client.ask(Read(record), Read(counter))
            require_equal(entries_of(held).values, {(): b"X"}, f"the record of a lock in {section} is")
            require_equal(entries_of(counted).values, {(): b"%d" % amount}, f"the counter of {section} is")
            client.apply(Delete(record, Scope.NODE), Delete(counter, Scope.NODE))


def _refusal(client: Client, transaction: Transaction, what: str) -> str:
    try:
        client.backend.execute(transaction)
    except Unsupported as error:
        return str(error)
    require(False, f"{what} must raise Unsupported")
    return ""
