"""Answers that show something else than what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from redicts.core.async_backend import AsyncBackend
from redicts.core.minitransaction import (
    Answer,
    AnyRead,
    Entries,
    Key,
    Names,
    Outcome,
    Path,
    Put,
    Read,
    ReadNames,
    Scope,
    Status,
    Transaction,
    Write,
)
from tests.contract.broken.register import broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.broken.tasks import InTasks
from tests.contract.reference_model import DictBackend, HeldLocks, PlainBackend, Spaces


@broken_store("reads.a_read_answers_its_scope", alone=True)
class BelowIncludesTheKey(PlainBackend):
    """A read of what is below a key answers with the key's own value as well."""

    def covers(self, scope: Scope, relative: Path, what: str) -> bool:
        return scope.covers(relative) or (what == "Read" and scope is Scope.BELOW)


@broken_store("reads.a_read_answers_its_scope")
class ReadsEndAtChildren(DictBackend):
    """A read sees direct children, and nothing deeper."""

    def covers(self, scope: Scope, relative: Path, what: str) -> bool:
        return scope.covers(relative) and (what != "Read" or len(relative) < 2)


@broken_store("reads.what_is_fetched_is_there")
class WhatWasFetchedIsKept(PlainBackend):
    """A value that was fetched once is fetched again, whatever became of it."""

    def fetch(self, key: Key, /) -> bytes | None:
        kept: dict[Key, bytes] = self.__dict__.setdefault("kept", {})
        found = self.found(self.spaces, key, Scope.NODE, self.clock(), "Read").get(())
        if found is not None:
            kept.setdefault(key, found.value)
        return kept.get(key)


@broken_store("reads.what_is_fetched_is_there", alone=True)
class LinesAreFetchedAsText(PlainBackend):
    """A fetched value has the line ends of text."""

    def fetch(self, key: Key, /) -> bytes | None:
        found = self.found(self.spaces, key, Scope.NODE, self.clock(), "Read").get(())
        return None if found is None else found.value.replace(b"\r\n", b"\n")


@broken_store("reads.what_is_fetched_is_there", alone=True)
class FieldsAreFetchedAsTheyAre(PlainBackend):
    """Where a value was read, a fetch returns what is there now, also what stands for a dict."""

    def fetch(self, key: Key, /) -> bytes | None:
        known: set[Key] = self.__dict__.setdefault("known", set())
        found = self.found(self.spaces, key, Scope.SUBTREE, self.clock(), "Read") if key in known else {}
        return found[()].value if () in found else b"\x01" if found else None

    def entries(self, read: Read, now: float) -> Entries:
        entries = super().entries(read, now)
        if read.scope is Scope.SUBTREE and () in entries.values:
            self.__dict__.setdefault("known", set()).add(read.key)
        return entries


@broken_store("reads.what_is_fetched_is_there")
class AnyLeafBelowIsFetched(DictBackend):
    """Where there is no value, one from below is fetched."""

    def fetch(self, key: Key, /) -> bytes | None:
        found = self.found(self.spaces, key, Scope.SUBTREE, self.clock(), "Read")
        return next((held.value for held in found.values()), None)


@broken_store("clients.writes_are_seen_at_once")
class OnlyLeavesAreNamed(DictBackend):
    """The names of a key are those of its leaves; dicts are not among them."""

    def covers(self, scope: Scope, relative: Path, what: str) -> bool:
        return scope.covers(relative) and (what != "ReadNames" or len(relative) == 1)


@broken_store("clients.writes_are_seen_at_once")
class NamesAreRepeated(DictBackend):
    """A name is listed once for each value below it."""

    def names(self, read: ReadNames, now: float) -> Names:
        found = self.found(self.spaces, read.key, Scope.BELOW, now, "ReadNames")
        return Names(tuple(path[0] for path in found)) if read.limit is None else super().names(read, now)


@broken_store("names.spaces_share_nothing")
class NewSpacesAreUnknown(DictBackend):
    """A space exists only after something was written to it."""

    def answer(self, read: Read | ReadNames, now: float) -> Entries | Names:
        self.spaces[read.key.space]
        return super().answer(read, now)


@broken_store("reads.values_come_back_as_they_were")
class ValuesAreText(DictBackend):
    """Values go through text."""

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        super().put(spaces, write._replace(value=write.value.decode("latin-1").encode("ascii", "replace")), now)


@broken_store("reads.values_come_back_as_they_were")
class ValuesEndAtNul(DictBackend):
    """A value ends at its first NUL."""

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        super().put(spaces, write._replace(value=write.value.split(b"\x00")[0]), now)


@broken_store("reads.values_come_back_as_they_were", "sizes.a_large_value_is_whole_or_refused")
class LargeValuesAreCut(PlainBackend):
    """Values are cut at 64 KiB."""

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        super().put(spaces, write._replace(value=write.value[:65536]), now)


@broken_store("reads.answers_come_in_the_order_of_reads")
class NamesAreAnsweredLast(DictBackend):
    """Answers come sorted by their kind."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        return outcome._replace(answers=tuple(sorted(outcome.answers, key=lambda answer: isinstance(answer, Names))))


@broken_store("reads.answers_come_in_the_order_of_reads", alone=True)
class RepeatedReadsAreAnsweredOnce(PlainBackend):
    """A read that is there twice, among others, is answered once."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        if len(transaction.reads) < 3:
            return super().decide(transaction, now)
        return super().decide(transaction._replace(reads=tuple(dict.fromkeys(transaction.reads))), now)


@broken_store("pages.pages_come_with_any_status")
class AnswersShowTheStateAfter(DictBackend):
    """Reads see the state after the writes."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        return outcome._replace(answers=tuple(self.answer(read, now) for read in transaction.reads))


@broken_store("reads.answers_come_with_any_status", alone=True)
class NoAnswersOnARefusedCounter(PlainBackend):
    """No answers come when a counter is refused."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        return outcome._replace(answers=()) if outcome.status is Status.NOT_A_COUNTER else outcome


@broken_store("reads.answers_come_with_any_status", alone=True)
class ConditionsOnOneReadAreIgnored(PlainBackend):
    """A transaction that reads one value and writes nothing is applied, whether or not its conditions hold."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        if len(transaction.reads) == 1 and not transaction.writes and transaction.reads[0].key.path:
            transaction = transaction._replace(checks=())
        return super().decide(transaction, now)


@broken_store("reads.a_read_answers_its_scope", "sizes.a_thousand_values_fit")
class ReadsAreCut(DictBackend):
    """A read without a limit answers at most a hundred values."""

    def page(
        self, found: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None
    ) -> tuple[dict[Path, HeldLocks], bytes | None]:
        page, cursor = super().page(found, limit, cursor)
        return dict(islice(page.items(), 100)) if limit is None else page, cursor


@broken_store("reads.values_come_back_as_they_were", alone=True)
class OneLetterIsAMarker(PlainBackend):
    """A value that begins with J is taken for one that has a marker, which is cut off."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        return super().execute(transaction._replace(writes=_without_marker(transaction.writes, b"J")))


@broken_shared_store("reads.values_come_back_as_they_were", alone=True)
class OneByteIsAMarker(OnSqlite):
    """A value that begins with the byte 0x1F is taken for a compressed one, and its first bytes are lost."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        return super().execute(transaction._replace(writes=_without_marker(transaction.writes, b"\x1f")))


def _without_marker(writes: tuple[Write, ...], marker: bytes) -> tuple[Write, ...]:
    return tuple(
        write._replace(value=write.value[1:]) if isinstance(write, Put) and write.value.startswith(marker) else write
        for write in writes
    )


@broken_store("fast_paths.they_equal_a_transaction")
class ViewsAreFetched(PlainBackend):
    """What is fetched is a view of the value, which is equal to bytes and has none of their methods."""

    def fetch(self, key: Key, /) -> Any:
        answer = self.execute(Transaction(reads=(Read(key),))).answers[0]
        assert isinstance(answer, Entries)
        return memoryview(answer.values[()]) if answer.values else None


@broken_shared_store("fast_paths.they_equal_a_transaction")
class ArraysAreFetched(OnSqlite):
    """What is fetched is a bytearray."""

    def fetch(self, key: Key, /) -> Any:
        value = self.store.fetch(key)
        return None if value is None else bytearray(value)


# Answers that more than one caller holds.


@broken_store("reads.an_answer_is_the_callers_own", alone=True)
class EqualReadsShareAnAnswer(PlainBackend):
    """A read is answered by the dict that answered it before, until something is written."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.shared: dict[Read, Entries] = {}

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if transaction.writes:
            self.shared.clear()
        return outcome

    def entries(self, read: Read, now: float) -> Entries:
        fresh = super().entries(read, now)
        return fresh if read.ttls else self.shared.setdefault(read, fresh)

    def lay(self, key: Key, held: HeldLocks) -> None:
        super().lay(key, held)
        self.shared.clear()


@broken_shared_store("reads.an_answer_is_the_callers_own", alone=True)
class EqualReadsOfOneRequestShareAnAnswer(OnSqlite):
    """Equal reads of one transaction are answered once, by one dict for all."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        alone = tuple(dict.fromkeys(transaction.reads))
        outcome = super().execute(transaction._replace(reads=alone))
        found = dict(zip(alone, outcome.answers))
        return outcome._replace(answers=tuple([found[read] for read in transaction.reads if found]))


class _Current(Mapping[Path, bytes]):
    """What is there whenever one looks."""

    def __init__(self, look: Callable[[], Mapping[Path, bytes]]) -> None:
        self.look: Final = look

    def __getitem__(self, path: Path) -> bytes:
        return self.look()[path]

    def __iter__(self) -> Iterator[Path]:
        return iter(self.look())

    def __len__(self) -> int:
        return len(self.look())


@broken_store("reads.an_answer_is_the_callers_own")
class AnswersFollowTheStore(PlainBackend):
    """The answer to a read of one key is a view, which shows what is there when one looks at it."""

    def entries(self, read: Read, now: float) -> Entries:
        answer = super().entries(read, now)
        if read.scope is not Scope.NODE or not answer.values or read.ttls:
            return answer
        return answer._replace(values=_Current(lambda: super(AnswersFollowTheStore, self).entries(read, now).values))


@broken_store("reads.an_answer_is_the_callers_own")
class ConditionsUseTheirEntriesUp(DictBackend):
    """Equals takes each entry that it finds out of the dict of its caller."""

    def equal(self, found: Mapping[Path, bytes], wanted: Mapping[Path, bytes]) -> bool:
        if not isinstance(wanted, dict):
            return super().equal(found, wanted)
        return all(wanted.pop(path, None) == value for path, value in found.items()) and not wanted


class _Sharing(InTasks):
    """Answers a read by what answered it before, if both are equal."""

    def __init__(self, store: DictBackend) -> None:
        super().__init__(store)
        self.known: dict[AnyRead, tuple[Answer, Answer]] = {}

    async def execute(self, transaction: Transaction, deadline: float | None = None, /) -> Outcome:
        outcome = await super().execute(transaction, deadline)
        return outcome._replace(answers=tuple(map(self.one, transaction.reads, outcome.answers)))

    def one(self, read: AnyRead, answer: Answer) -> Answer:
        if not isinstance(answer, Entries):
            return answer
        shown, as_it_was = self.known.get(read, (None, None))
        if shown is None or as_it_was != answer:
            shown, self.known[read] = answer, (answer, answer._replace(values=dict(answer.values)))
        return shown


@broken_store("tasks.transactions_mean_the_same")
class TasksShareAnswers(DictBackend):
    """Tasks that read the same get one dict for all."""

    def for_asyncio(self) -> AsyncBackend:
        return _Sharing(self)


@broken_store("reads.values_come_back_as_they_were", alone=True)
class MarkedValuesAreNotCompared(DictBackend):
    """Values that begin with a byte that the store escapes are compared in their escaped form."""

    def equal(self, found: Mapping[Path, bytes], wanted: Mapping[Path, bytes]) -> bool:
        stored = {path: b"\x05" + value if value.startswith(b"\x05") else value for path, value in found.items()}
        return super().equal(stored, wanted)
