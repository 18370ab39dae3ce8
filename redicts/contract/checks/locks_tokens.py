"""Fencing tokens: they rise from grant to grant over the whole tree, and none is given out twice."""

from __future__ import annotations

from functools import partial
from typing import Final

from redicts.contract.check import Need, conformance_check, require, require_equal
from redicts.contract.fixture import LONG, SHORT, Fixture
from redicts.contract.locking import Locker, lock_spaces, lockers
from redicts.core.minitransaction import Path

_GRANTS: Final = 8


@conformance_check(needs=[Need.TTL])
def tokens_rise_from_grant_to_grant(fixture: Fixture) -> None:
    """Each grant has a higher token than all before, whichever owner, client, place and mode, after any ending."""
    owners = lockers(fixture, 2)
    paths: tuple[Path, ...] = (("a",), ("a", "b"), ("x", "y"), (), ("a", "b", "c"), ("x",))
    last = 0
    for number, path in enumerate(paths * 2):
        owner, ends = owners[number % 2], number % 4 == 3
        lock, token = owner.take_with_token(path, shared=number % 5 == 4, lease=SHORT if ends else LONG)
        require(token > last, f"the token {last} is followed by {token}")
        last = token
        if ends:
            fixture.outlive()
        owner.release(lock)


@conformance_check(needs=[Need.TTL])
def tokens_are_given_out_once(fixture: Fixture) -> None:
    """Of tokens given out to many threads at once, no two are equal, and each thread sees its own rise."""
    for _ in range(2):  # a tree's first tokens are given out in each
        spaces, clients = lock_spaces(fixture, new=True), (fixture.store, fixture.client())
        tokens: list[list[int]] = [[] for _ in range(4)]

        def work(number: int, owner: Locker, tokens: list[list[int]] = tokens) -> None:
            for _ in range(_GRANTS):
                lock, token = owner.take_with_token(("d", f"n{number}"))
                tokens[number].append(token)
                owner.release(lock)

        fixture.together([partial(work, number, Locker(clients[number % 2], spaces)) for number in range(4)])
        for own in tokens:
            require_equal(own, sorted(own), "the tokens that one thread was given are")
        given_out = [token for own in tokens for token in own]
        require_equal(len(set(given_out)), len(given_out), "of tokens given out, those that are different are")
