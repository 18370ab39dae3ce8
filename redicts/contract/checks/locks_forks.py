"""Locks and forks: a child is somebody else than its parent, for the locks as for the store."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

from redicts.contract.check import Need, conformance_check, require, require_equal
from redicts.contract.fixture import Fixture
from redicts.contract.forked import ForkedChild
from redicts.contract.locking import Locker, lock_spaces

_ROUNDS = 12


@conformance_check(needs=[Need.FORK, Need.TTL])
def a_child_does_not_hold_its_parents_locks(fixture: Fixture) -> None:
    """What a parent holds is locked for its child, which cannot give it back; what is free it can lock."""
    spaces, store = lock_spaces(fixture), fixture.store
    me = Locker(store, spaces)
    for shared in (False, True):
        lock = me.take(("a", "b"), shared=shared)

        def work(shared: bool = shared) -> None:
            child = Locker(store, spaces)
            for path in (("a", "b"), ("a",), ("a", "b", "c"), ()):
                require(not child.can(path), f"a child can lock {path!r} though its parent holds what overlaps")
            require(child.can(("a", "c")), "a child cannot lock what is free")
            require(child.can(("a",), shared=True) is shared, "a child and its parent do not share a lock as others do")
            require(not child.release(child.request(("a", "b"), shared=shared)), "a child gave back its parent's lock")
            child.take(("x",))

        with ForkedChild(work, fixture.timeout) as child:
            child.finish()
        require(me.renew(lock), "a parent has lost its lock to its child")
        require(me.release(lock), "a parent has lost its lock to its child")
        me.break_locks(())


@conformance_check(needs=[Need.FORK, Need.PROCESSES, Need.TTL])
def a_childs_request_does_not_pass_for_its_parents(fixture: Fixture) -> None:
    """Of a child and its parent that try for one lock right after the fork, just one is granted it, and is told so."""
    for _ in range(5):
        me = Locker(fixture.store, lock_spaces(fixture))

        def work(me: Locker = me) -> None:
            request = me.another().request(("a",))
            me.tell(("child",), request.name if me.attempt(request) else "")

        with ForkedChild(work, fixture.timeout) as child:
            request = me.request(("a",))
            granted = me.attempt(request) is not None
            child.finish()
        childs = me.value(("child",))
        require(isinstance(childs, str), f"what a child has written is not there, but {childs!r}")
        require(
            bool(childs) is not granted, f"of a child and its parent, {'both' if childs else 'none'} is granted a lock"
        )
        require_equal(me.held(), {childs or request.name}, "held is")


@conformance_check(needs=[Need.FORK, Need.PROCESSES, Need.TTL])
def child_and_parent_exclude_each_other(fixture: Fixture) -> None:
    """A child and its parent that lock overlapping places wait for each other, lose no update, and share no token."""
    spaces, store = lock_spaces(fixture), fixture.store

    def work(who: str) -> None:
        owner = Locker(store, spaces)
        for number in range(_ROUNDS):
            path = (("a",), ("a", "count"), ())[number % 3]
            lock, token = owner.wait_for(path, timeout=fixture.timeout)
            require(owner.count(lock, ("a", "count")), "a write is refused though its lock is held")
            require(owner.write(lock, ("a", "tokens", who, str(number)), token), "a write is refused though held")
            require(owner.release(lock), "a lock that nobody else gave back is gone")

    with ForkedChild(lambda: work("child"), fixture.timeout) as child:
        work("parent")
        child.finish()
    me = Locker(store, spaces)
    require_equal(me.value(("a", "count")), 2 * _ROUNDS, "child and parent together count")
    tokens = me.value(("a", "tokens"))
    assert isinstance(tokens, dict)
    given_out = [token for own in tokens.values() for token in own.values()]
    require_equal(len(set(given_out)), 2 * _ROUNDS, "of the tokens of child and parent, those that are different are")
    me.require_nothing_left()
