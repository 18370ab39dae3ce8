"""Undeclared capabilities: a store refuses what it does not support."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from redicts.contract.check import Need, conformance_check
from redicts.contract.fixture import LONG, Fixture
from redicts.contract.requirements import CheckFailed, shortened
from redicts.core.minitransaction import Add, Delete, Expire, Path, Put, PutDocument, Scope, Write
from redicts.errors import Unsupported


@conformance_check(needs=[Need.NO_TTL])
def a_ttl_is_refused(fixture: Fixture) -> None:
    """Without the capability ``ttl``, a Put or Expire with a TTL raises Unsupported and changes nothing.

    Puts and expires with a TTL, alone and among other writes.
    """
    fixture.plant({("a",): b"1", ("d", "b"): b"2"})
    cases: Sequence[Sequence[Write]] = (
        [Put(fixture.key("new"), b"3", LONG)],
        [Put(fixture.key("a"), b"3", 1)],
        [Expire(fixture.key("a"), Scope.NODE, LONG)],
        [Expire(fixture.key(), Scope.SUBTREE, LONG)],
        [Put(fixture.key("a"), b"3"), Put(fixture.key("new"), b"3"), Put(fixture.key("d", "b"), b"3", LONG)],
        [Put(fixture.key("a"), b"3"), Expire(fixture.key("a"), Scope.NODE, LONG), Put(fixture.key("a"), b"4")],
        *([[PutDocument(fixture.key("d"), b'{"b":3}', LONG)]] if fixture.capabilities.documents else []),
    )
    for writes in cases:
        _refuses_a_ttl(fixture, writes)
        fixture.expect({("a",): b"1", ("d", "b"): b"2"})


@conformance_check(needs=[Need.NO_DOCUMENTS])
def a_document_is_refused(fixture: Fixture) -> None:
    """Without the capability ``documents``, a PutDocument raises Unsupported and changes nothing.

    Puts documents, alone and among other writes.
    """
    tree: Mapping[Path, bytes] = {("a",): b"1", ("d", "b"): b"2"}
    fixture.plant(tree)
    new, there = (PutDocument(fixture.key(*path), b'{"b":3,"c":{"e":4}}') for path in (("new",), ("d",)))
    cases: Sequence[Sequence[Write]] = (
        [new],
        [there],
        [Put(fixture.key("a"), b"5"), Add(fixture.key("count"), 1), new],
        [there, Delete(fixture.key("a"), Scope.NODE)],
        [Delete(fixture.key("d"), Scope.SUBTREE), there, Put(fixture.key("a"), b"6")],
        [*[Put(fixture.key("many", f"n{number}"), b"7") for number in range(100)], new],
    )
    for writes in cases:
        if not _is_refused(fixture, writes):
            works = fixture.store.names(fixture.key(*next(w.key.path for w in writes if isinstance(w, PutDocument))))
            remedy = (
                "it works, so the store could declare the capability documents" if "c" in works else "it was ignored"
            )
            raise CheckFailed(f"{shortened(writes)} did not raise Unsupported; {remedy}")
        fixture.expect(tree)


def _is_refused(fixture: Fixture, writes: Sequence[Write]) -> bool:
    try:
        fixture.store.run(writes=writes)
    except Unsupported:
        return True
    return False


def _refuses_a_ttl(fixture: Fixture, writes: Sequence[Write]) -> None:
    if _is_refused(fixture, writes):
        return
    ttls: Mapping[Path, int] = {}
    with contextlib.suppress(Unsupported):
        ttls = fixture.store.ttls(fixture.key())
    remedy = "it works, so the store could declare the capability ttl" if ttls else "the TTL was ignored"
    raise CheckFailed(f"{shortened(writes)} did not raise Unsupported; {remedy}")
