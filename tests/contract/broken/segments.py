"""Layouts in which one segment reads as another, and roots that hold something."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from redicts.backends.sqlite import SqliteBackend
from redicts.core.minitransaction import (
    RECORDS,
    VALUES,
    Answer,
    Entries,
    Equals,
    Expire,
    Key,
    Names,
    Notify,
    Outcome,
    Path,
    Put,
    Scope,
    Transaction,
)
from tests.contract.broken.register import broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.reference_model import PlainBackend, Spaces


@broken_store("names.escapes_are_data", alone=True)
class EqualSignsAreNotEscaped(PlainBackend):
    """A slash in a segment is written as =2F, and an equals sign as it is."""

    def path(self, path: Path) -> Path:
        return tuple(segment.replace("=2F", "/") for segment in path)


@broken_store("names.the_root_holds_nothing", alone=True)
class ExpireOfTheRootIsOfAll(PlainBackend):
    """Expire of exactly the root gives a TTL to everything below it."""

    def expire(self, spaces: Spaces, write: Expire, now: float) -> None:
        super().expire(spaces, write if write.key.path else write._replace(scope=Scope.SUBTREE), now)


class _Renaming(OnSqlite):
    """Stores segments under other names, and reads them back."""

    stored: Callable[[str], str]
    read: Callable[[str], str]

    def execute(self, transaction: Transaction, /) -> Outcome:
        parts: list[tuple[Any, ...]] = [tuple(map(self.renamed, part)) for part in transaction]
        outcome = super().execute(Transaction(*parts))
        return outcome._replace(answers=tuple(map(self.named, outcome.answers)))

    def renamed(self, item: Any) -> Any:
        key = Key(item.key.space, self.path(item.key.path, self.stored))
        if isinstance(item, Equals):
            item = item._replace(entries={self.path(path, self.stored): each for path, each in item.entries.items()})
        return item._replace(key=key)

    def named(self, answer: Answer) -> Answer:
        if isinstance(answer, Names):
            return answer._replace(names=tuple(map(self.read, answer.names)))
        return answer._replace(values=self.keyed(answer.values), ttls=self.keyed(answer.ttls))

    def keyed(self, found: Mapping[Path, Any]) -> dict[Path, Any]:
        return {self.path(path, self.read): value for path, value in found.items()}

    @staticmethod
    def path(path: Path, how: Callable[[str], str]) -> Path:
        return tuple(map(how, path))


@broken_shared_store("names.escapes_are_data")
class OneControlCharacterIsNotEscaped(_Renaming):
    """NUL is written as two characters, of which the first is not escaped itself."""

    stored = staticmethod(lambda name: name.replace("\x00", "\x01\x02"))
    read = staticmethod(lambda name: name.replace("\x01\x02", "\x00"))


@broken_shared_store("names.escapes_are_data")
class SurrogatesAreWrittenAsTheirBytes(_Renaming):
    """A lone surrogate is written as the characters of its bytes."""

    stored = staticmethod(lambda name: name.replace("\ud800", "\xed\xa0\x80"))
    read = staticmethod(lambda name: name.replace("\xed\xa0\x80", "\ud800"))


@broken_shared_store("names.the_root_holds_nothing")
class TheRootIsOverwritten(SqliteBackend):
    """The fast path says that it has overwritten the root."""

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        return not key.path or super().overwrite(key, value)


@broken_store("sizes.a_large_value_is_whole_or_refused", alone=True)
class LongValuesAreCut(PlainBackend):
    """A value is cut at two mebibytes."""

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        super().put(spaces, write._replace(value=write.value[: 2**21]), now)


@broken_shared_store("sizes.a_large_value_is_whole_or_refused")
class LengthsHaveThreeBytes(OnSqlite):
    """The length of a value is stored in three bytes."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        writes: list[Any] = [
            write._replace(value=write.value[: len(write.value) % 2**24]) if isinstance(write, Put) else write
            for write in transaction.writes
        ]
        return super().execute(transaction._replace(writes=tuple(writes)))


@broken_store("names.the_space_of_values_is_like_any_other", alone=True)
class ValuesKeepNoTTL(PlainBackend):
    """In the space of values, Put with keep_ttl makes the value persistent."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        writes = [
            write._replace(keep_ttl=False) if isinstance(write, Put) and write.key.space == VALUES else write
            for write in transaction.writes
        ]
        return super().execute(transaction._replace(writes=tuple(writes)))


@broken_shared_store("names.the_space_of_values_is_like_any_other", alone=True)
class ListsAmongValuesKeepWhatIsBelow(OnSqlite):
    """In the space of values, a Notify of a subtree deletes the value at its key, and leaves what is below."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        writes = [
            write._replace(scope=Scope.NODE)
            if isinstance(write, Notify) and write.scope is Scope.SUBTREE and write.key.space == VALUES
            else write
            for write in transaction.writes
        ]
        return super().execute(transaction._replace(writes=tuple(writes)))


@broken_store("names.the_space_of_values_is_like_any_other", alone=True)
class RecordsHideValues(PlainBackend):
    """A transaction that writes a record first answers its reads of values as if nothing were stored."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        outcome = super().execute(transaction)
        writes = transaction.writes
        if not writes or writes[0].key.space[0] not in RECORDS or len({write.key.space for write in writes}) < 2:
            return outcome
        answers = [Entries({}) if isinstance(answer, Entries) else answer for answer in outcome.answers]
        return outcome._replace(answers=tuple(answers))
