"""What a store does not claim it refuses; it never quietly does less."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from redicts.contract.bench import LONG, Bench
from redicts.contract.law import LawBroken, Need, law, shortened
from redicts.core.transaction import Add, Delete, Expire, Path, Put, PutDocument, Scope, Write
from redicts.errors import Unsupported


@law(needs=[Need.NO_LIFE])
def a_life_is_refused(bench: Bench) -> None:
    """Without the capability ``life``, a Put or an Expire with a life raises Unsupported and changes nothing."""
    bench.plant({("a",): b"1", ("d", "b"): b"2"})
    cases: Sequence[Sequence[Write]] = (
        [Put(bench.key("new"), b"3", LONG)],
        [Put(bench.key("a"), b"3", 1)],
        [Expire(bench.key("a"), Scope.NODE, LONG)],
        [Expire(bench.key(), Scope.SUBTREE, LONG)],
        [Put(bench.key("a"), b"3"), Put(bench.key("new"), b"3"), Put(bench.key("d", "b"), b"3", LONG)],
        [Put(bench.key("a"), b"3"), Expire(bench.key("a"), Scope.NODE, LONG), Put(bench.key("a"), b"4")],
        *([[PutDocument(bench.key("d"), b'{"b":3}', LONG)]] if bench.capabilities.documents else []),
    )
    for writes in cases:
        _refuses_a_life(bench, writes)
        bench.expect({("a",): b"1", ("d", "b"): b"2"})


@law(needs=[Need.NO_LIFE])
def what_needs_no_life_works(bench: Bench) -> None:
    """Without the capability ``life``, puts that keep a life work, as there is none; so do all other writes."""
    bench.plant({("a",): b"1"})
    bench.store.apply(Put(bench.key("a"), b"2", keep_life=True), Put(bench.key("b"), b"3", keep_life=True))
    bench.expect({("a",): b"2", ("b",): b"3"})


@law(needs=[Need.NO_DOCUMENTS])
def a_document_is_refused(bench: Bench) -> None:
    """Without the capability ``documents``, a PutDocument raises Unsupported and changes nothing, amid others too."""
    tree: Mapping[Path, bytes] = {("a",): b"1", ("d", "b"): b"2"}
    bench.plant(tree)
    new, there = (PutDocument(bench.key(*path), b'{"b":3,"c":{"e":4}}') for path in (("new",), ("d",)))
    cases: Sequence[Sequence[Write]] = (
        [new],
        [there],
        [Put(bench.key("a"), b"5"), Add(bench.key("count"), 1), new],
        [there, Delete(bench.key("a"), Scope.NODE)],
        [Delete(bench.key("d"), Scope.SUBTREE), there, Put(bench.key("a"), b"6")],
        [*[Put(bench.key("many", f"n{number}"), b"7") for number in range(100)], new],
    )
    for writes in cases:
        if not _is_refused(bench, writes):
            works = bench.store.names(bench.key(*next(w.key.path for w in writes if isinstance(w, PutDocument))))
            remedy = "it works, so the store could claim the capability documents" if "c" in works else "it was ignored"
            raise LawBroken(f"{shortened(writes)} did not raise Unsupported; {remedy}")
        bench.expect(tree)


def _is_refused(bench: Bench, writes: Sequence[Write]) -> bool:
    try:
        bench.store.run(writes=writes)
    except Unsupported:
        return True
    return False


def _refuses_a_life(bench: Bench, writes: Sequence[Write]) -> None:
    if _is_refused(bench, writes):
        return
    lives: Mapping[Path, int] = {}
    with contextlib.suppress(Unsupported):
        lives = bench.store.lives(bench.key())
    remedy = "it works, so the store could claim the capability life" if lives else "the life was ignored"
    raise LawBroken(f"{shortened(writes)} did not raise Unsupported; {remedy}")
