"""Walks that leave something out, bring something twice, or lose their way."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from redicts.contract import SharedBackend
from redicts.core.backend import Backend
from redicts.core.minitransaction import (
    Answer,
    AnyRead,
    Entries,
    Key,
    Names,
    Outcome,
    Path,
    Read,
    ReadNames,
    Scope,
    Transaction,
)
from tests.contract.broken.register import broken_client, broken_store
from tests.contract.reference_model import DictBackend, HeldLocks, PlainBackend, cursor_of, path_of

_Page = tuple[dict[Path, HeldLocks], "bytes | None"]


@broken_store("pages.a_walk_stays_in_its_scope")
class PagesSkip(DictBackend):
    """The cursor names the first entry of the next page, which then begins after it."""

    def page(self, found: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None) -> _Page:
        page, more = super().page(found, limit, cursor)
        if more is None or limit is None:
            return page, more
        last = path_of(more)
        after = sorted(path for path in found if path > last)
        return page, cursor_of(after[0]) if len(after) > 1 else None


@broken_store("pages.a_walk_stays_in_its_scope")
class LimitsAreIgnored(DictBackend):
    """A page holds everything."""

    def page(self, found: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None) -> _Page:
        return super().page(found, None, None)


@broken_store("pages.a_walk_stays_in_its_scope")
class ThePageIsAll(DictBackend):
    """A page never says that there is more."""

    def page(self, found: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None) -> _Page:
        return super().page(found, limit, cursor)[0], None


@broken_store("pages.a_walk_stays_in_its_scope")
class PagesRepeat(DictBackend):
    """A page begins with the entry that the last one ended with, if there is room for another one."""

    def page(self, found: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None) -> _Page:
        if limit is None or limit == 1 or cursor is None:
            return super().page(found, limit, cursor)
        last = path_of(cursor)
        after = sorted(path for path in found if path >= last)
        page = after[:limit]
        return {path: found[path] for path in page}, cursor_of(page[-1]) if len(after) > limit else None


@broken_store("pages.a_walk_over_names_finds_each_once")
class PagesOfNamesSkip(DictBackend):
    """A walk over names leaves out the last name of each full page."""

    def page_of_names(self, names: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None) -> _Page:
        page, more = super().page_of_names(names, limit, cursor)
        return dict(list(page.items())[:-1]) if more else page, more


@broken_store("pages.a_walk_over_names_finds_each_once", alone=True)
class PagesOfNamesRepeat(PlainBackend):
    """Below the root, a name appears on each page that holds one of its values."""

    def answer(self, read: AnyRead, now: float) -> Answer:
        if isinstance(read, Read) or read.limit is None or not read.key.path:
            return super().answer(read, now)
        values = self.found(self.spaces, read.key, Scope.BELOW, now, "ReadNames")
        page, more = super().page(values, read.limit, read.cursor)
        return Names(tuple({path[0]: None for path in page}), more)


@broken_store("pages.a_walk_over_names_finds_each_once", alone=True)
class LargeDictsBeginTwoPages(PlainBackend):
    """Where a page holds one name, one with more than two hundred values below is on the next page too."""

    def names(self, read: ReadNames, now: float) -> Names:
        cursor = read.cursor or b""
        answer = super().names(read._replace(cursor=cursor.removeprefix(b"again") or None), now)
        if read.limit == 1 and answer.names and not cursor.startswith(b"again"):
            listed = Key(read.key.space, (*read.key.path, answer.names[0]))
            if len(self.found(self.spaces, listed, Scope.BELOW, now, "ReadNames")) > 200:
                return answer._replace(cursor=b"again" + cursor)
        return answer


@broken_store("pages.what_stays_is_found_while_others_change")
class CursorsAreOffsets(DictBackend):
    """The cursor is the number of entries seen: whatever moves up is skipped."""

    def page(self, found: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None) -> _Page:
        if limit is None:
            return found, None
        start = int(cursor or b"0")
        page = dict(islice(sorted(found.items()), start, start + limit))
        return page, b"%d" % (start + limit) if len(found) > start + limit else None

    def page_of_names(self, names: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None) -> _Page:
        return self.page(names, limit, cursor)


@broken_store("pages.what_stays_is_found_while_others_change", "pages_meanwhile.a_walk_finds_what_stays")
class WalksEndWhereTheirEntryWent(PlainBackend):
    """If the entry that the cursor names is deleted meanwhile, the walk is over."""

    def page(self, found: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None) -> _Page:
        if cursor is not None and path_of(cursor) not in found:
            return {}, None
        return super().page(found, limit, cursor)


@broken_store("pages.what_stays_is_found_while_others_change", alone=True)
class WalksGoOnByNumber(PlainBackend):
    """If the entry that the cursor names is there, the walk goes on by how many were before it, as of the last page."""

    def page(self, found: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None) -> _Page:
        if limit is None:
            return super().page(found, limit, cursor)
        number, _, last = (cursor or b"0:").partition(b":")
        if last and path_of(last) in found:
            page, more = super().page(dict(sorted(found.items())[int(number) :]), limit, None)
        else:
            page, more = super().page(found, limit, last or None)
        return page, None if more is None else b"%d:%b" % (sorted(found).index(path_of(more)) + 1, more)


@broken_store("pages.pages_hold_hostile_names", alone=True)
class CursorsAreJoined(PlainBackend):
    """A cursor is made by joining the segments with a blank."""

    def page(self, found: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None) -> _Page:
        path = None if cursor is None else cursor_of(tuple(cursor.decode("utf-8", "surrogatepass").split(" ")))
        page, more = super().page(found, limit, path)
        return page, None if more is None else " ".join(path_of(more)).encode("utf-8", "surrogatepass")


@broken_store("pages.pages_come_with_any_status", alone=True)
class PagesWaitForAppliedOnes(PlainBackend):
    """If a check fails, pages are empty and say that they are the last."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if outcome.applied:
            return outcome
        empty = [self.answer(read._replace(key=read.key._replace(space=" ")), now) for read in transaction.reads]
        answers = [
            answer if read.limit is None else nothing
            for read, answer, nothing in zip(transaction.reads, outcome.answers, empty)
        ]
        return outcome._replace(answers=tuple(answers))


@broken_client("pages.a_cursor_is_good_for_every_client", of=PlainBackend, alone=True)
class CursorsAreTheClientsOwn(SharedBackend):
    """A cursor means something only to the client that made it."""

    def __init__(self, shared: Backend) -> None:
        super().__init__(shared)
        self.cursors: dict[bytes, bytes] = {}

    def execute(self, transaction: Transaction, /) -> Outcome:
        reads = [read._replace(cursor=self.cursors.get(read.cursor or b"")) for read in transaction.reads]
        outcome = super().execute(transaction._replace(reads=tuple(reads)))
        answers = [answer if answer.cursor is None else self.kept(answer) for answer in outcome.answers]
        return outcome._replace(answers=tuple(answers))

    def kept(self, answer: Answer) -> Answer:
        assert answer.cursor is not None
        number = b"%d" % len(self.cursors)
        self.cursors[number] = answer.cursor
        return answer._replace(cursor=number)


@broken_store("pages.a_cursor_is_good_for_every_client")
class CursorsAreUsedUp(PlainBackend):
    """A cursor is good for one page, and then its walk is over."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.cursors: dict[tuple[AnyRead, bytes | None], None] = {}

    def answer(self, read: AnyRead, now: float) -> Answer:
        walk = read._replace(cursor=None)
        if read.cursor is not None and (walk, read.cursor) not in self.cursors:
            return Names(()) if isinstance(read, ReadNames) else Entries({})
        self.cursors.pop((walk, read.cursor), None)
        answer = super().answer(read, now)
        self.cursors[walk, answer.cursor] = None
        for old in list(self.cursors)[:-100]:
            del self.cursors[old]
        return answer


@broken_store("pages.two_walks_do_not_meet", alone=True)
class OneWalkAtATime(PlainBackend):
    """The store keeps the position of one walk; the cursor only says that there is one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.position: bytes | None = None

    def page(self, found: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None) -> _Page:
        page, more = super().page(found, limit, self.position if cursor else None)
        if limit is not None:
            self.position = more
        return page, b"more" if more else None


@broken_store("pages.a_walk_stays_in_its_scope", alone=True)
class PagesOfBelowHoldTheKey(PlainBackend):
    """A page of the values below a key includes the key's own value."""

    def covers(self, scope: Scope, relative: Path, what: str) -> bool:
        return scope.covers(relative) or (what == "Page" and scope is Scope.BELOW)
