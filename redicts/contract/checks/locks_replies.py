"""Lost replies: whichever reply to a request for a lock is lost, the lock is granted once and leaves nothing behind."""

# ruff: noqa: D401  (the docstring of a check states the check)

from __future__ import annotations

from redicts.contract.check import Need, conformance_check, require, require_equal
from redicts.contract.fixture import LONG, Fixture
from redicts.contract.locking import lockers
from redicts.contract.waiting import Waiter, stepping
from redicts.core.minitransaction import Path

_CALLS_BEFORE_WAITING = 3
"""Trying in vain, queueing, and asking to be notified."""


@conformance_check(needs=[Need.LOST_REPLIES, Need.TTL])
def a_lost_grant_is_one_grant(fixture: Fixture) -> None:
    """A lock whose grant, renewal or release was lost on its way is granted once, with one token, and told so."""
    [other] = lockers(fixture, 1)
    me = other.another(fixture.lossy())
    lock, last = other.take_with_token(("first",))
    other.release(lock)
    paths: tuple[tuple[Path, ...], ...] = ((("a",),), (("a", "b", "c"),), ((),), (("a", "b"), ("c",), ("d", "e")))
    for places in paths:
        fixture.lose_reply()
        lock, token = me.take_with_token(*places)
        require_equal(token, last + 1, "the token of a grant that was lost on its way, once, is")
        require_equal(other.held(), {lock.name}, "after a grant was lost on its way, held is")
        require(not other.can(places[0]), "a lock whose grant was lost on its way can be had by others")
        fixture.lose_reply()
        require(me.renew(lock, LONG), "a renewal that was lost on its way is told to have found nothing")
        fixture.lose_reply()
        require(me.release(lock), "a release that was lost on its way is told to have found nothing")
        other.require_nothing_left()
        lock, last = other.take_with_token(*places)
        require_equal(last, token + 1, "the token after one whose grant was lost on its way is")
        fixture.lose_reply()
        require(me.attempt(me.request(*places)) is None, "a lock is granted twice after a refusal was lost on its way")
        other.release(lock)


@conformance_check(needs=[Need.LOST_REPLIES, Need.TTL])
def no_reply_is_needed_to_keep_ones_turn(fixture: Fixture) -> None:
    """Whichever reply is lost on the way to one who waits, it is granted the lock in its turn, and so are others."""
    for lost in range(_CALLS_BEFORE_WAITING + 2):
        (me, other), _ = stepping(fixture, 2)
        lossy = me.another(fixture.lossy())
        lock = me.take(("a",))
        waiter = Waiter(lossy, ("a", "b"))
        if lost < _CALLS_BEFORE_WAITING:
            waiter.go(lost)
            fixture.lose_reply()
        waiter.go()
        follower = Waiter(other, ("a",)).go()
        require_equal(me.waiting(), {waiter.request.name, follower.request.name}, "after a lost reply, waiting are")
        me.release(lock)
        require(not follower.look().grant, "one whose reply was lost is passed by who came later")
        if lost == _CALLS_BEFORE_WAITING:
            fixture.lose_reply()
        require(waiter.look().grant, "one who waits, and whose reply was lost, was not granted the lock in its turn")
        require_equal(me.held(), {waiter.request.name}, "after a lost reply, held is")
        if lost > _CALLS_BEFORE_WAITING:
            fixture.lose_reply()
        require(lossy.release(waiter.request), "a lock that was granted after a lost reply is told to be lost")
        require(follower.look().grant, "one is not granted the lock because a reply to the one before it was lost")
        other.release(follower.request)
        me.require_nothing_left()


@conformance_check(needs=[Need.LOST_REPLIES, Need.TTL])
def giving_up_needs_no_reply(fixture: Fixture) -> None:
    """Whoever gives up, and whose reply to that is lost, leaves nothing behind, granted or not."""
    for calls in range(_CALLS_BEFORE_WAITING + 1):
        for free in (False, True):
            (me, other), _ = stepping(fixture, 2)
            lossy = me.another(fixture.lossy())
            lock = None if free else me.take(("a",))
            waiter = Waiter(lossy, ("a",)).go(calls)
            fixture.lose_reply()
            if waiter.done:
                lossy.withdraw(waiter.request)
            else:
                waiter.interrupt(KeyboardInterrupt())
            if lock is not None:
                require_equal(me.held(), {lock.name}, "after another one gave up, held is")
                me.release(lock)
            me.require_nothing_left()
            require(other.can(("a",)), "one who gave up keeps others out, because the reply to that was lost")


@conformance_check(needs=[Need.LATE_REQUESTS, Need.TTL])
def a_late_request_is_not_granted_again(fixture: Fixture) -> None:
    """A request for a lock that arrives late, after it was sent again, granted and given back, is not granted again."""
    [other] = lockers(fixture, 1)
    me = other.another(fixture.lossy())
    fixture.hold_request()
    try:
        lock = me.take(("a", "b"))
        require_equal(other.held(), {lock.name}, "after a request was sent twice, held is")
        require(me.release(lock), "a lock whose request was sent twice is told to be lost")
    finally:
        fixture.harness.deliver_request()
    other.require_nothing_left()
    require(other.can(("a",)), "a request that arrived late keeps others out")
