"""Lives that are lost, kept, given or told wrongly."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from redicts.core.transaction import (
    Add,
    Delete,
    Entries,
    Expire,
    Key,
    Outcome,
    Path,
    Put,
    Read,
    Scope,
    Transaction,
    Verdict,
)
from tests.contract.broken.register import broken_store
from tests.contract.dicts import DictBackend, Held, Spaces


@broken_store("life.the_shortest_life_is_a_millisecond", "life.remaining_lives_are_true")
class LivesAreSeconds(DictBackend):
    """Lives are cut to whole seconds, and what is cut to none lasts for ever."""

    def deadline(self, life: int | None, now: float) -> float | None:
        return None if life is None or life < 1000 else now + life // 1000 + 1


@broken_store("life.a_life_may_be_a_century")
class LivesEndAtSomeTime(DictBackend):
    """A life ends after 2**31 milliseconds at the latest."""

    def deadline(self, life: int | None, now: float) -> float | None:
        return super().deadline(None if life is None else min(life, 2**31), now)


@broken_store("life.remaining_lives_are_true")
class RemainingLivesAreSeconds(DictBackend):
    """Remaining lives are told in seconds."""

    def remaining(self, deadline: float, now: float) -> int:
        return max(1, round(deadline - now))


@broken_store("life.remaining_lives_are_never_more_than_given")
class RemainingLivesAreRoundedUp(DictBackend):
    """Remaining lives are rounded up, and with them the error of floating point numbers."""

    def remaining(self, deadline: float, now: float) -> int:
        return ceil((deadline - now) * 1000)


@broken_store("life.lives_are_told_in_every_scope", "clients.lives_are_seen_by_all", "pages.pages_tell_lives")
class LivesOfTheKeyOnly(DictBackend):
    """Lives are told of the key itself, not of what is below it."""

    def entries(self, read: Read, now: float) -> Entries:
        answer = super().entries(read, now)
        return answer._replace(lives={path: life for path, life in answer.lives.items() if not path})


@broken_store("pages.pages_tell_lives")
class PagesTellNoLives(DictBackend):
    """Lives are told in complete answers only."""

    def entries(self, read: Read, now: float) -> Entries:
        return super().entries(read if read.limit is None else read._replace(lives=False), now)


@broken_store("life.lives_are_told_in_every_scope")
class LivesAreAlwaysTold(DictBackend):
    """Lives are told without being asked for."""

    def entries(self, read: Read, now: float) -> Entries:
        return super().entries(read._replace(lives=True), now)


@broken_store("life.put_clears_the_old_life", "life.writes_to_lives_take_effect_in_order")
class PutKeepsTheOldLife(DictBackend):
    """Put leaves the life that the old value had, and looks for a life of its own only in place of one."""

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        old = self.old(spaces, write.key, now, "")
        keep = old is not None and old.deadline is not None
        super().put(spaces, write._replace(keep_life=True) if keep else write, now)


@broken_store("life.keep_life_keeps_it", "model.the_store_answers_as_the_model")
class KeepLifeIsIgnored(DictBackend):
    """Put with keep_life makes the value last for ever."""

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        super().put(spaces, write._replace(life=None, keep_life=False) if write.keep_life else write, now)


@broken_store("life.keep_life_keeps_it")
class KeepLifeLooksAtLife(DictBackend):
    """Put with keep_life gives a new value the life that stands beside it."""

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        keep = write.keep_life and self.old(spaces, write.key, now, "") is not None
        super().put(spaces, write._replace(keep_life=keep), now)


@broken_store("life.add_keeps_the_life", "clients.lives_are_seen_by_all")
class AddDropsTheLife(DictBackend):
    """A counter that is added to lasts for ever."""

    def add(self, spaces: Spaces, write: Add, now: float) -> int:
        total = super().add(spaces, write, now)
        self.store(spaces, write.key, Held(b"%d" % total))
        return total


@broken_store("life.expire_gives_its_scope_a_life", "life.expire_ends_its_scope", "life.expire_with_none_makes_lasting")
class ExpireTakesOnlyTheKey(DictBackend):
    """Expire looks at the key itself, whatever the scope."""

    def expire(self, spaces: Spaces, write: Expire, now: float) -> None:
        super().expire(spaces, write._replace(scope=Scope.NODE), now)


@broken_store("life.expire_ends_its_scope", "life.expire_gives_its_scope_a_life")
class ExpireBelowTakesTheKey(DictBackend):
    """Expire of what is below a key gives the key a life as well."""

    def covers(self, scope: Scope, relative: Path, what: str) -> bool:
        return scope.covers(relative) or (what == "Expire" and scope is Scope.BELOW)


@broken_store("life.expire_with_none_makes_lasting", "clients.lives_are_seen_by_all")
class ExpireWithNoneDoesNothing(DictBackend):
    """Expire with None leaves lives as they are."""

    def expire(self, spaces: Spaces, write: Expire, now: float) -> None:
        if write.life is not None:
            super().expire(spaces, write, now)


@broken_store("life.lives_are_the_values_own")
class DeleteLeavesTheLife(DictBackend):
    """A value put after a delete has the life of the one deleted, unless it brings one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.left: dict[Key, float | None] = {}

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        super().put(spaces, write, now)
        deadline = self.left.pop(write.key, None)
        if deadline is not None and write.life is None:
            self.store(spaces, write.key, Held(write.value, deadline))

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        old = self.old(spaces, write.key, now, "")
        self.left[write.key] = None if old is None else old.deadline
        super().delete(spaces, write, now)


@broken_store("life.a_refused_transaction_changes_no_life")
class LivesAreNotUndone(DictBackend):
    """When a counter is refused, lives that were given before it stay given."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if outcome.verdict is Verdict.NOT_A_COUNTER:
            before = transaction.writes[: outcome.culprit]
            super().decide(Transaction(writes=tuple(write for write in before if isinstance(write, Expire))), now)
        return outcome


@broken_store("life.many_lives_end_on_their_own", "expired.pages_do_not_show_it")
class OnlySomeLivesEnd(DictBackend):
    """Of a hundred lives and more in one space, only the first hundred ever end."""

    def alive(self, held: Held, now: float, what: str) -> bool:
        if super().alive(held, now, what):
            return True
        mortal = [other for entries in self.spaces.values() for other in entries.values() if other.deadline is not None]
        return len(mortal) > 100 and held in mortal[100:]
