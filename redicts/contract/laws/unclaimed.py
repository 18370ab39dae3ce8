"""What a store does not claim it refuses; it never quietly does less."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from redicts.contract.bench import LONG, Bench
from redicts.contract.law import LawBroken, Need, law, shortened
from redicts.core.transaction import Expire, Path, Put, Scope, Write
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
    )
    for writes in cases:
        _refused(bench, writes)
        bench.expect({("a",): b"1", ("d", "b"): b"2"})


@law(needs=[Need.NO_LIFE])
def what_needs_no_life_works(bench: Bench) -> None:
    """Without the capability ``life``, puts that keep a life work, as there is none; so do all other writes."""
    bench.plant({("a",): b"1"})
    bench.store.apply(Put(bench.key("a"), b"2", keep_life=True), Put(bench.key("b"), b"3", keep_life=True))
    bench.expect({("a",): b"2", ("b",): b"3"})


def _refused(bench: Bench, writes: Sequence[Write]) -> None:
    try:
        bench.store.run(writes=writes)
    except Unsupported:
        return
    lives: Mapping[Path, int] = {}
    with contextlib.suppress(Unsupported):
        lives = bench.store.lives(bench.key())
    remedy = "it works, so the store could claim the capability life" if lives else "the life was ignored"
    raise LawBroken(f"{shortened(writes)} did not raise Unsupported; {remedy}")
