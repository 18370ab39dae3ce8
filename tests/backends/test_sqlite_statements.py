"""Costs of the statements: each finds its rows through an index, and an operation reads no more than it needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from redicts.backends.sqlite import statements
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.core.minitransaction import (
    NOTHING,
    Add,
    Delete,
    Equals,
    Expire,
    Put,
    Read,
    ReadNames,
    Scope,
    StartsWith,
    Transaction,
)
from tests.backends.sqlite_tools import Clock, Meter, key, names, plain, run

TEXTS = {
    name: text
    for name, text in vars(statements).items()
    if isinstance(text, str) and text.startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))
}
TEXTS |= {f"HAVE_ROWS {text.count('EXISTS')}": text for text in statements.HAVE_ROWS}
TEXTS |= {
    f"READ_OTHER_PREFIX {count}": statements.READ_OTHER_PREFIX[count - 1] for count in (1, 2, statements.MOST_RANGES)
}


@pytest.fixture
def store(meter: Meter, tmp_path: Path) -> Iterator[SqliteBackend]:
    """Open an empty store whose connections are measured."""
    backend = SqliteBackend(str(tmp_path / "s.db"), clock=Clock())
    yield backend
    backend.close()


def grow(backend: SqliteBackend, leaves: int) -> None:
    """Fill the store with three dicts ``d0`` to ``d2`` of this many leaves each, some with a TTL."""
    run(
        backend,
        *[
            Put(key(f"d{each % 3}", f"{each // 3:06}"), b"mine", 1_000_000 if each % 7 == 0 else None)
            for each in range(3 * leaves)
        ],
    )


LONG_VALUE = "long_values USING INTEGER PRIMARY KEY (rowid=?)"
"""The step that finds a long value by its number."""

OTHERS = {
    # These stop at the first row of each, or run once in the life of a file.
    statements.CONTENTS: ["SCAN"],
    statements.FIND_LONG: ["SCAN"],
    statements.FIND_LONG_DOCUMENTS: ["SCAN"],
    **{text: ["SEARCH entries USING PRIMARY KEY (key>? AND key<?)"] for text in statements.HAVE_ROWS},
    statements.LOOK: [
        "SEARCH entries USING PRIMARY KEY (key>? AND key<?)",
        "SEARCH documents USING PRIMARY KEY (key<?)",
    ],
}
"""Statements that do not search one range, with the steps that they must have."""


@pytest.mark.parametrize("analyzed", [False, True], ids=["fresh", "analyzed"])
@pytest.mark.parametrize("name", sorted(TEXTS))
def test_each_statement_searches(name: str, analyzed: bool, store: SqliteBackend, tmp_path: Path) -> None:
    """No statement scans the table or sorts, even after ANALYZE was run."""
    grow(store, 500)
    run(store, *[Put(key("long", str(each)), b"x" * 2_000) for each in range(500)])
    connection = plain(tmp_path / "s.db")
    try:
        if analyzed:
            connection.execute("ANALYZE")
        text = TEXTS[name]
        # Before SQLite 3.36 a plan says "SEARCH TABLE".
        plan = [
            row[3].replace("SEARCH TABLE", "SEARCH")
            for row in connection.execute(
                f"EXPLAIN QUERY PLAN {text}",
                [b"a"] * (max(map(int, re.findall(r"\?(\d+)", text))) if "?1" in text else text.count("?")),
            )
            if not any(each in row[3] for each in ("SUBQUERY", "COMPOUND QUERY", "UNION ALL"))
            and row[3].removeprefix("SEARCH TABLE ").removeprefix("SEARCH ") != LONG_VALUE
        ]
    finally:
        connection.close()
    if text in OTHERS:
        assert all(any(step.startswith(start) for step in plan) for start in OTHERS[text])
        return
    if text.startswith("INSERT"):
        assert plan == []
    elif text in {statements.READ_CLOCK, statements.RECORD_TIME}:
        assert plan == ["SEARCH clock USING INTEGER PRIMARY KEY (rowid=?)"]
    elif text == statements.READ_LOG:
        assert plan == ["SEARCH notification_log USING INTEGER PRIMARY KEY (rowid=?)"]
    else:
        table = "documents" if "documents" in text else "entries"
        if "deadline <= ?" in text:
            assert plan == [f"SEARCH {table} USING COVERING INDEX {table}_by_deadline (deadline<?)"]
        elif "key > ?" in text:
            assert plan == [f"SEARCH {table} USING PRIMARY KEY (key>? AND key<?)"] * text.count("key > ?")
        elif "key < ?1" in text:
            assert plan == [f"SEARCH {table} USING PRIMARY KEY (key<?)"]
        else:
            assert plan == [f"SEARCH {table} USING PRIMARY KEY (key=?)"]


def test_every_plan_is_tested(store: SqliteBackend, meter: Meter) -> None:
    """Every SELECT, INSERT, UPDATE and DELETE that a transaction runs is among the statements of the test above."""
    run(store)
    meter.statements.clear()
    at = key("a", "b")
    run(
        store,
        Put(at, b"1"),
        Put(at, b"1", keep_ttl=True),
        Add(at, 1),
        Expire(at, Scope.NODE, 1),
        Delete(at, Scope.SUBTREE),
        checks=(Equals(at, Scope.SUBTREE, NOTHING), StartsWith(at, Scope.NODE, b"x")),
        reads=(Read(at), Read(at, Scope.BELOW, limit=1), ReadNames(at)),
    )
    kinds = {text.split("?")[0].split(" (key")[0] for text in TEXTS.values()}
    ran = [each for each in meter.statements if each.split()[0] in {"SELECT", "INSERT", "UPDATE", "DELETE"}]
    assert len(ran) >= 11
    for text in ran:
        assert any(text.startswith(kind) for kind in kinds), text


@pytest.mark.parametrize(
    "transaction",
    [
        Transaction(reads=(Read(key("d1", "000007")),)),
        Transaction(writes=(Put(key("d1", "000007"), b"2"),)),
        Transaction(writes=(Delete(key("d1", "000007"), Scope.SUBTREE),)),
        Transaction(checks=(Equals(key("d1"), Scope.SUBTREE, NOTHING),)),
        Transaction(checks=(Equals(key(), Scope.BELOW, {("x",): b"1", ("y",): b"2"}),)),
        Transaction(checks=(StartsWith(key(), Scope.SUBTREE, b"theirs"),)),
        Transaction(reads=(ReadNames(key()),)),
        Transaction(reads=(Read(key(), Scope.SUBTREE, limit=5),)),
        Transaction(reads=(ReadNames(key("d1"), limit=5),)),
    ],
    ids=[
        "leaf read",
        "leaf write",
        "leaf delete",
        "equals nothing",
        "equals two",
        "starts with, first differs",
        "names above large dicts",
        "page",
        "page of names",
    ],
)
def test_the_cost_does_not_grow_with_the_store(transaction: Transaction, store: SqliteBackend, meter: Meter) -> None:
    """A transaction that needs a few values costs the same in a store 50 times as large."""
    grow(store, 40)
    store.execute(transaction)
    small = meter.of(lambda: store.execute(transaction))
    grow(store, 2_000)
    store.execute(transaction)
    large = meter.of(lambda: store.execute(transaction))
    assert 0 < large <= small + 10


def test_names_of_a_flat_dict_take_few_statements(store: SqliteBackend, meter: Meter) -> None:
    """The names of a flat dict are read in growing batches, not one by one."""
    grow(store, 1_000)
    found: list[str] = []
    meter.of(lambda: found.extend(names(store, ReadNames(key("d1"))).names))
    assert len(found) == 1_000
    assert len([each for each in meter.statements if each.startswith("SELECT")]) <= 8


def test_a_hundred_puts_are_one_transaction(store: SqliteBackend, meter: Meter) -> None:
    """Consecutive puts take one transaction and, whatever their TTLs, one statement each."""
    writes = tuple([Put(key("a", str(each)), b"1", None if each % 2 else 50) for each in range(100)])
    store.execute(Transaction(writes=writes))
    steps = meter.of(lambda: store.execute(Transaction(writes=writes)))
    assert len([each for each in meter.statements if each.startswith("INSERT")]) == 100
    assert [each for each in meter.statements if each.startswith(("BEGIN", "COMMIT"))] == ["BEGIN IMMEDIATE", "COMMIT"]
    assert steps < 100 * 60
