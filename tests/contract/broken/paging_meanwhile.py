"""Walks that lose their way when the node changes at which they stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from redicts.core.minitransaction import (
    Answer,
    AnyRead,
    Delete,
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
from tests.contract.broken.register import broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.reference_model import HeldLocks, PlainBackend, Spaces, path_of

_Page = tuple[dict[Path, HeldLocks], "bytes | None"]


@broken_store("pages_meanwhile.a_walk_finds_what_stays", alone=True)
class WalksEndWhereALeafBecameADict(PlainBackend):
    """If the leaf that the cursor names is a dict meanwhile, the walk is over."""

    def page(self, found: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None) -> _Page:
        if cursor is not None:
            last = path_of(cursor)
            if any(path[: len(last)] == last and path != last for path in found):
                return {}, None
        return super().page(found, limit, cursor)


@broken_store("pages_meanwhile.a_walk_finds_what_stays")
class WalksEndWhereADictBecameALeaf(PlainBackend):
    """If a dict that holds what the cursor names is a leaf meanwhile, the walk is over."""

    def page(self, found: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None) -> _Page:
        if cursor is not None:
            last = path_of(cursor)
            if any(last[:depth] in found for depth in range(1, len(last))):
                return {}, None
        return super().page(found, limit, cursor)


@broken_store("pages_meanwhile.a_walk_over_names_finds_what_stays", alone=True)
class WalksOverNamesEndWhereTheirNameWent(PlainBackend):
    """If the name that the cursor names is deleted meanwhile, the walk is over."""

    def page_of_names(self, names: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None) -> _Page:
        if cursor is not None and path_of(cursor) not in names:
            return {}, None
        return super().page_of_names(names, limit, cursor)


class _OfOneDict(PlainBackend):
    """Ends a walk if the dict that it walks over was deleted since its cursor was made."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.deletes: Counter[Key] = Counter()

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        self.deletes[write.key] += 1
        super().delete(spaces, write, now)

    def answer(self, read: AnyRead, now: float) -> Answer:
        if read.limit is None or not self.means(read):
            return super().answer(read, now)
        age = b"%d/" % self.deletes[read.key]
        if read.cursor is not None and not read.cursor.startswith(age):
            return super().answer(read._replace(key=Key(" ", ()), cursor=None), now)
        cursor = None if read.cursor is None else read.cursor.partition(b"/")[2]
        answer = super().answer(read._replace(cursor=cursor), now)
        return answer if answer.cursor is None else answer._replace(cursor=age + answer.cursor)

    def means(self, read: AnyRead) -> bool:
        raise NotImplementedError


@broken_store("pages_meanwhile.a_walk_finds_what_stays")
class WalksEndWithTheirDict(_OfOneDict):
    """A walk over values ends if its dict is replaced by itself."""

    def means(self, read: AnyRead) -> bool:
        return isinstance(read, Read)


@broken_store("pages_meanwhile.a_walk_over_names_finds_what_stays")
class WalksOverNamesEndWithTheirDict(_OfOneDict):
    """A walk over names ends if its dict is replaced by itself."""

    def means(self, read: AnyRead) -> bool:
        return isinstance(read, ReadNames)


class _Remembering(OnSqlite):
    """Remembers, by cursor, what the page ended with."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.last: dict[bytes, Key] = {}

    def execute(self, transaction: Transaction, /) -> Outcome:
        answers: list[Answer] = []
        for read in transaction.reads:
            lost = read.cursor is not None and self.is_lost(self.last.get(read.cursor))
            answers.append((Entries({}) if isinstance(read, Read) else Names(())) if lost else None)  # type: ignore[arg-type]
        outcome = super().execute(transaction)
        for read, answer in zip(transaction.reads, outcome.answers):
            items = list(answer.values) if isinstance(answer, Entries) else [(name,) for name in answer.names]
            if answer.cursor is not None and items and self.remembers(read):
                self.last[answer.cursor] = Key(read.key.space, read.key.path + items[-1])
        return outcome._replace(answers=tuple(lost or found for lost, found in zip(answers, outcome.answers)))

    def remembers(self, read: Read | ReadNames) -> bool:
        return isinstance(read, Read)

    def is_lost(self, last: Key | None) -> bool:
        raise NotImplementedError

    def values(self, key: Key, scope: Scope) -> bool:
        (found,) = OnSqlite.execute(self, Transaction(reads=(Read(key, scope),))).answers
        return bool(found.values)  # type: ignore[union-attr]


@broken_shared_store("pages_meanwhile.a_walk_finds_what_stays")
class WalksEndBelowWhatIsADict(_Remembering):
    """A walk ends if its last page ended with a leaf that is a dict meanwhile."""

    def is_lost(self, last: Key | None) -> bool:
        return last is not None and self.values(last, Scope.BELOW)


@broken_shared_store("pages_meanwhile.a_walk_over_names_finds_what_stays")
class WalksOverNamesEndWithTheirName(_Remembering):
    """A walk over names ends if the name is gone with which its last page ended."""

    def remembers(self, read: Read | ReadNames) -> bool:
        return isinstance(read, ReadNames)

    def is_lost(self, last: Key | None) -> bool:
        return last is not None and not self.values(last, Scope.SUBTREE)


@broken_store("pages_meanwhile.a_page_shows_what_is_there", alone=True)
class PagesComeFromTheFirstSnapshot(PlainBackend):
    """The pages of a walk over values have what was there when the first one was read, for the last few walks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.walks: dict[tuple[Key, Scope, bytes | None], dict[Path, HeldLocks]] = {}

    def entries(self, read: Read, now: float) -> Entries:
        walk = self.walks.pop((read.key, read.scope, read.cursor), None)
        if walk is None:
            walk = self.found(self.spaces, read.key, read.scope, now, "Page")
        page, cursor = self.page(walk, read.limit, read.cursor)
        page = {path: held for path, held in page.items() if self.alive(held, now, "Page")}
        ttls = {path: self.remaining(held.deadline, now) for path, held in page.items() if held.deadline is not None}
        if cursor is not None:
            self.walks[read.key, read.scope, cursor] = walk
            for old in list(self.walks)[:-8]:
                del self.walks[old]
        return Entries({path: held.value for path, held in page.items()}, ttls if read.ttls else {}, cursor)
