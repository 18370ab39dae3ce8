"""Documents of which something is lost, left, forgotten or made up, and fast paths to them that lead astray."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from redicts.contract import SharedBackend
from redicts.core.backend import Backend, Capabilities
from redicts.core.documents import leaves_in
from redicts.core.minitransaction import (
    Add,
    Answer,
    Check,
    Delete,
    Entries,
    Expire,
    Key,
    Names,
    Notify,
    Outcome,
    Path,
    Put,
    PutDocument,
    Read,
    ReadNames,
    Scope,
    Status,
    Transaction,
    Write,
)
from tests.contract.broken.register import broken_client, broken_shared_store, broken_store
from tests.contract.broken.rendezvous import MeetingBackend
from tests.contract.broken.shared import OnSqlite
from tests.contract.reference_model import (
    DictBackend,
    HeldLocks,
    KeepingBackend,
    NoTTLBackend,
    Space,
    Spaces,
    cursor_of,
    path_of,
)

# What a document stands for.


@broken_store("documents_fast_paths.a_plain_fetch_gives_no_document")
class NestedLeavesAreLost(DictBackend):
    """Of the dicts in a document's dicts nothing is stored."""

    def leaves(self, document: bytes) -> Mapping[Path, bytes]:
        return {path: value for path, value in super().leaves(document).items() if len(path) < 3}


@broken_store("documents.its_leaves_are_of_all_kinds")
class EmptyDictsAreLost(DictBackend):
    """An empty dict in a document is taken for nothing."""

    def leaves(self, document: bytes) -> Mapping[Path, bytes]:
        return {path: value for path, value in super().leaves(document).items() if value != b"{}"}


@broken_store("documents.its_leaves_are_of_all_kinds")
class LeavesAreWrittenAgain(DictBackend):
    """A leaf is parsed and written again, in another spelling."""

    def leaves(self, document: bytes) -> Mapping[Path, bytes]:
        leaves = super().leaves(document).items()
        return {path: json.dumps(json.loads(value), separators=(",", ":")).encode() for path, value in leaves}


@broken_store("documents.its_leaves_are_of_all_kinds", alone=True)
class BracesInTextEndDicts(DictBackend):
    """A leaf ends at the first closing brace, though that is in text."""

    def leaves(self, document: bytes) -> Mapping[Path, bytes]:
        leaves = super().leaves(document).items()
        return {path: value[: value.index(b"}") + 1] if b'}"' in value else value for path, value in leaves}


@broken_store("documents.its_leaves_are_of_all_kinds")
class NamesStayEscaped(DictBackend):
    """A name that is escaped in a document is taken as it stands there."""

    def leaves(self, document: bytes) -> Mapping[Path, bytes]:
        escaped = re.sub(rb"\\(u[0-9a-f]{4})", rb"\\\\\1", document)
        return super().leaves(escaped)


@broken_store("documents_fast_paths.a_plain_fetch_gives_no_document")
class DotsPartNames(DictBackend):
    """A dotted name in a document is taken for a path."""

    def leaves(self, document: bytes) -> Mapping[Path, bytes]:
        leaves = super().leaves(document).items()
        return {tuple(part for name in path for part in name.split(".") if part): value for path, value in leaves}


# What it replaces, and what it leaves.


@broken_store("documents.its_leaves_are_of_all_kinds")
class OldLeavesStay(DictBackend):
    """A document is put over what is there, as if it were merged."""

    def put_document(self, spaces: Spaces, write: PutDocument, now: float) -> None:
        for path, value in self.leaves(write.document).items():
            self.put(spaces, Put(Key(write.key.space, write.key.path + path), value, write.ttl), now)


@broken_store("documents_fast_paths.what_is_fetched_is_all_that_is_there", alone=True)
class TheLeafAtItStays(DictBackend):
    """A document replaces what is below its key, and the leaf at it stays."""

    def put_document(self, spaces: Spaces, write: PutDocument, now: float) -> None:
        old = self.old(spaces, write.key, now, "Put")
        super().put_document(spaces, write, now)
        if old is not None:
            self.store(spaces, write.key, old)


@broken_store("documents_fast_paths.a_plain_fetch_gives_no_document")
class NeighboursOfLikeNameGo(DictBackend):
    """A document also replaces neighbours whose names begin with its own."""

    def put_document(self, spaces: Spaces, write: PutDocument, now: float) -> None:
        *above, last = write.key.path
        size = len(above)
        entries = self.space_in(spaces, write.key)
        for path in [path for path in entries if path[:size] == tuple(above) and path[size:]]:
            if path[size].startswith(last):
                del entries[path]
        super().put_document(spaces, write, now)


@broken_store("documents.a_refused_counter_undoes_all_of_it")
class TheOuterOneGoes(KeepingBackend):
    """A document that is put into another one replaces all of that."""

    def put_document(self, spaces: Spaces, write: PutDocument, now: float) -> None:
        outer = self.whole(self.spaces, write.key)
        if outer is not None:
            self.delete(spaces, Delete(Key(write.key.space, outer), Scope.SUBTREE), now)
        super().put_document(spaces, write, now)


# In which order.


@broken_store("documents.a_refused_counter_undoes_all_of_it")
class DocumentsComeLast(DictBackend):
    """Documents are put after all other writes of their transaction."""

    def draft_order(self, writes: tuple[Write, ...]) -> tuple[Write, ...]:
        return tuple(sorted(writes, key=lambda write: isinstance(write, PutDocument)))

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        return super().decide(transaction._replace(writes=self.draft_order(transaction.writes)), now)


@broken_store("documents_ttl.writes_to_its_ttls_take_effect_in_order")
class TTLsOfDocumentsComeLast(DictBackend):
    """A document has the TTL it was put with, whatever the same transaction gave its parts afterwards."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        documents = [write for write in transaction.writes if isinstance(write, PutDocument)]
        ttls = [Expire(write.key, Scope.SUBTREE, write.ttl) for write in documents]
        return super().decide(transaction._replace(writes=(*transaction.writes, *ttls)), now)


@broken_store("documents_ttl.writes_to_its_ttls_take_effect_in_order", alone=True)
class TTLsOfDictsInDocumentsComeLast(DictBackend):
    """A dict in a document has the TTL it was put with, whatever the same transaction gave it afterwards."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        ttls = [
            Expire(Key(write.key.space, (*write.key.path, name)), Scope.BELOW, write.ttl)
            for write in transaction.writes
            if isinstance(write, PutDocument)
            for name in {path[0] for path in leaves_in(write.document) if len(path) > 1}
        ]
        return super().decide(transaction._replace(writes=(*transaction.writes, *ttls)), now)


@broken_store("documents.a_refused_counter_undoes_all_of_it", alone=True)
class DocumentsComeFirst(DictBackend):
    """A document is put before the checks of its transaction are looked at."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        if transaction.checks:
            documents = tuple(write for write in transaction.writes if isinstance(write, PutDocument))
            super().decide(Transaction(writes=documents), now)
        return super().decide(transaction, now)


# What is seen of it, and what can be changed in it.


@broken_store("documents.checks_see_its_leaves")
class ChecksSeeNoDocuments(KeepingBackend):
    """A check passes over the leaves of documents that are whole."""

    def holds(self, check: Check, now: float) -> bool:
        before = self.spaces
        name = self.space(check.key.space)
        entries = self.space_in(before, check.key)
        rows = {path: held for path, held in entries.items() if self.whole(before, Key(check.key.space, path)) is None}
        self.spaces = {**before, name: rows}
        try:
            return super().holds(check, now)
        finally:
            self.spaces = before


@broken_store("documents.checks_see_its_leaves", alone=True)
class StartsWithLooksAtTheText(KeepingBackend):
    """StartsWith is told the beginning of a whole document instead of its leaves'."""

    def starts(self, value: bytes, prefix: bytes) -> bool:
        return super().starts(value, prefix) or any(
            prefix and held.value.startswith(prefix)
            for name, space in self.spaces.items()
            if name.startswith("texts of")
            for held in space.values()
        )


@broken_store("documents.its_leaves_are_of_all_kinds")
class NamesEndAtDocuments(KeepingBackend):
    """The names in a whole document are not listed."""

    def names(self, read: ReadNames, now: float) -> Names:
        inside = self.whole(self.spaces, read.key) is not None
        return Names(()) if inside else super().names(read, now)


@broken_store("documents.any_scope_in_it_can_be_deleted", "documents.the_last_leaf_takes_it_along")
class LeavesCannotBeDeleted(KeepingBackend):
    """A delete of exactly a leaf does not find it in a whole document."""

    def write(self, spaces: Spaces, write: Write, now: float, counters: list[int]) -> None:
        inside = self.whole(spaces, write.key) not in {None, write.key.path}
        if not (inside and isinstance(write, Delete) and write.scope is Scope.NODE):
            super().write(spaces, write, now, counters)


@broken_store("documents.any_scope_in_it_can_be_deleted", alone=True)
class NotifiesPassDocumentsOver(KeepingBackend):
    """A Notify clears no whole document."""

    def clear(self, spaces: Spaces, write: Notify, now: float) -> None:
        entries = self.space_in(spaces, write.key)
        kept = {path: held for path, held in entries.items() if self.whole(self.spaces, Key(write.key.space, path))}
        super().clear(spaces, write, now)
        entries |= kept


@broken_store("documents.any_scope_in_it_can_be_deleted", "documents.the_last_leaf_takes_it_along")
class DeletesTakeTheWhole(KeepingBackend):
    """A delete of a part of a whole document deletes all of it."""

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        whole = self.whole(self.spaces, write.key)
        if whole is not None and self.found(spaces, write.key, write.scope, now, "Delete"):
            write = Delete(Key(write.key.space, whole), Scope.SUBTREE)
        super().delete(spaces, write, now)


@broken_store("documents.the_last_leaf_takes_it_along", alone=True)
class AnEmptyOneIsLeft(DictBackend):
    """When the last leaf of a document is deleted, an empty dict is left where it was."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.known: set[Key] = set()

    def put_document(self, spaces: Spaces, write: PutDocument, now: float) -> None:
        self.known.add(write.key)
        super().put_document(spaces, write, now)

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        there = [key for key in self.known if self.found(spaces, key, Scope.BELOW, now, "Delete")]
        super().delete(spaces, write, now)
        for key in there:
            inside = write.scope is Scope.NODE and write.key.path[: len(key.path)] == key.path
            if inside and not self.found(spaces, key, Scope.BELOW, now, "Delete"):
                self.store(spaces, key, HeldLocks(b"{}"))


@broken_store("documents.a_refused_counter_undoes_all_of_it")
class PutsDropTheRest(KeepingBackend):
    """A put into a whole document leaves nothing of it but what is put."""

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        whole = self.whole(self.spaces, write.key)
        if whole is not None and whole != write.key.path:
            entries = self.space_in(spaces, write.key)
            # What the same transaction puts is not of old.
            for path, held in self.found(self.spaces, Key(write.key.space, whole), Scope.SUBTREE, now, "Put").items():
                if entries.get(whole + path) == held:
                    del entries[whole + path]
        super().put(spaces, write, now)


@broken_store("documents.counters_in_it_count")
class CountersInItBeginAgain(KeepingBackend):
    """Add does not find the counter in a whole document, and counts from 0."""

    def write(self, spaces: Spaces, write: Write, now: float, counters: list[int]) -> None:
        if isinstance(write, Add) and self.whole(spaces, write.key) not in {None, write.key.path}:
            self.delete(spaces, Delete(write.key, Scope.NODE), now)
        super().write(spaces, write, now, counters)


@broken_store("documents.counters_in_it_count", alone=True)
class TextCounts(DictBackend):
    """A number in text counts as a counter."""

    def sum(self, value: bytes, amount: int) -> int:
        return super().sum(value.strip(b'"'), amount)


# What is undone.


@broken_store("documents.a_refused_counter_undoes_all_of_it")
class DocumentsAreNotUndone(DictBackend):
    """When a counter is refused, the documents that were put before it stay."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if outcome.status is Status.NOT_A_COUNTER:
            before = transaction.writes[: outcome.failed_index]
            documents = tuple(write for write in before if isinstance(write, PutDocument))
            super().decide(Transaction(writes=documents), now)
        return outcome


@broken_store(
    "documents.a_refused_counter_undoes_all_of_it", "documents_fast_paths.what_is_fetched_is_all_that_is_there"
)
class TextsAreNotUndone(KeepingBackend):
    """Fetching returns the text that was put last, though a counter was refused after it, or a part was changed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.last: dict[Key, bytes] = {}

    def put_document(self, spaces: Spaces, write: PutDocument, now: float) -> None:
        self.last[write.key] = write.document
        super().put_document(spaces, write, now)

    def fetch_document(self, key: Key, /) -> bytes | None:
        there = bool(self.found(self.spaces, key, Scope.BELOW, self.clock(), "fetch"))
        return self.last.get(key) if there else self.fetch(key)


# TTLs.


@broken_store("documents_ttl.its_ttl_is_that_of_each_leaf")
class TTLsOfDocumentsAreIgnored(DictBackend):
    """A document lasts, whatever TTL it was given."""

    def put_document(self, spaces: Spaces, write: PutDocument, now: float) -> None:
        super().put_document(spaces, write._replace(ttl=None), now)


@broken_store("documents_ttl.its_ttl_is_that_of_each_leaf")
class TTLsAreForNewLeaves(DictBackend):
    """The TTL of a document is given to leaves that were not there before, and the others keep theirs."""

    def put_document(self, spaces: Spaces, write: PutDocument, now: float) -> None:
        old = self.found(spaces, write.key, Scope.SUBTREE, now, "Put")
        super().put_document(spaces, write, now)
        for path in old.keys() & self.leaves(write.document).keys():
            key = Key(write.key.space, write.key.path + path)
            self.store(spaces, key, HeldLocks(self.leaves(write.document)[path], old[path].deadline))

    def entries(self, read: Read, now: float) -> Entries:
        answer = super().entries(read, now)
        nested = {path: ttl for path, ttl in answer.ttls.items() if len(read.key.path + path) < 4}
        return answer._replace(ttls=nested)

    def alive(self, held: HeldLocks, now: float, what: str) -> bool:
        return what == "Read" or super().alive(held, now, what)


class _LosingTTLs(KeepingBackend):
    """Splits documents with something done to the leaves."""

    def split(self, spaces: Spaces, write: Write, now: float) -> None:
        whole = self.whole(spaces, write.key)
        super().split(spaces, write, now)
        if whole is not None and not (isinstance(write, PutDocument) and write.key.path == whole):
            self.split_into_leaves(spaces, Key(write.key.space, whole), write, now)

    def split_into_leaves(self, spaces: Spaces, key: Key, write: Write, now: float) -> None:
        raise NotImplementedError


@broken_store("documents_ttl.writes_to_its_ttls_take_effect_in_order")
class SplittingLosesTTLs(_LosingTTLs):
    """When a part of a document is changed, all its leaves last."""

    def split_into_leaves(self, spaces: Spaces, key: Key, write: Write, now: float) -> None:
        self.expire(spaces, Expire(key, Scope.SUBTREE, None), now)


@broken_store("documents_ttl.expire_cannot_bring_it_back", alone=True)
class SplittingRevives(_LosingTTLs):
    """When a part of an expired document is changed, its leaves are there again."""

    def split_into_leaves(self, spaces: Spaces, key: Key, write: Write, now: float) -> None:
        entries = self.space_in(spaces, key)
        for path, held in list(entries.items()):
            if path[: len(key.path)] == key.path and not self.alive(held, now, "Put"):
                entries[path] = HeldLocks(held.value)


@broken_store("documents_ttl.its_ttl_is_that_of_each_leaf", alone=True)
class PartsHaveTheTTLOfTheWhole(KeepingBackend):
    """A leaf put into a whole document gets the document's TTL."""

    def put(self, spaces: Spaces, write: Put, now: float) -> None:
        whole = self.whole(self.spaces, write.key)
        super().put(spaces, write, now)
        if whole is not None and whole != write.key.path:
            held = self.spaces[self.texts(write.key)][whole]
            if self.alive(held, now, "Put"):
                self.store(spaces, write.key, HeldLocks(write.value, held.deadline))


@broken_store("documents_fast_paths.overwriting_one_gives_no_ttl", alone=True)
class TTLsAreTheWholes(KeepingBackend):
    """The TTL that is given to a dict in a whole document is given to all of it."""

    def expire(self, spaces: Spaces, write: Expire, now: float) -> None:
        whole = self.whole(self.spaces, write.key)
        is_dict = write.scope is not Scope.NODE
        if is_dict and whole is not None and self.found(spaces, write.key, write.scope, now, "Expire"):
            write = Expire(Key(write.key.space, whole), Scope.SUBTREE, write.ttl)
        super().expire(spaces, write, now)


@broken_store("documents_ttl.writes_to_its_ttls_take_effect_in_order")
class TextsOutliveTheirLeaves(KeepingBackend):
    """The text of a document is fetched until the document is changed, though it or a part of it has expired."""

    def split(self, spaces: Spaces, write: Write, now: float) -> None:
        if not isinstance(write, Expire):
            super().split(spaces, write, now)

    def kept(self, key: Key) -> HeldLocks | None:
        return self.spaces.get(self.texts(key), {}).get(key.path)


@broken_store("expired.a_refused_transaction_cannot_bring_it_back")
class ExpiredOnesCountInChecks(DictBackend):
    """Checks look at the leaves of documents whether or not these have expired."""

    def alive(self, held: HeldLocks, now: float, what: str) -> bool:
        return what in {"Equals", "StartsWith"} or super().alive(held, now, what)


@broken_store("documents_ttl.expire_cannot_bring_it_back")
class ExpireRevivesDocuments(KeepingBackend):
    """Expire looks at the key of a document, and gives all of it a TTL though it has expired."""

    def alive(self, held: HeldLocks, now: float, what: str) -> bool:
        return what == "Expire" or super().alive(held, now, what)


@broken_store("ttl.a_refused_transaction_changes_no_ttl", alone=True)
class LostTTLsAreNotUndone(DictBackend):
    """When a counter is refused, the TTLs that were given before it stay given."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        outcome = super().decide(transaction, now)
        if outcome.status is Status.NOT_A_COUNTER:
            before = transaction.writes[: outcome.failed_index]
            ttls = tuple(write for write in before if isinstance(write, Expire))
            super().decide(Transaction(writes=ttls), now)
        return outcome


@broken_store("documents.any_scope_in_it_can_be_deleted")
class DeletesAboveAllDocumentsTakeThem(KeepingBackend):
    """A Delete of exactly a key deletes the documents below it if no others are in the store."""

    def write(self, spaces: Spaces, write: Write, now: float, counters: list[int]) -> None:
        if isinstance(write, Delete) and write.scope is Scope.NODE:
            space, node = write.key
            texts = [(name, path) for name in spaces if name.startswith("texts of ") for path in spaces[name]]
            if all(name == self.texts(write.key) and path[: len(node)] == node != path for name, path in texts):
                for _, path in texts:
                    super().write(spaces, Delete(Key(space, path), Scope.SUBTREE), now, counters)
        super().write(spaces, write, now, counters)


# Fast paths.


@broken_store("documents_fast_paths.what_is_fetched_is_all_that_is_there")
class TextsGoStale(KeepingBackend):
    """The text of a document is fetched though a leaf in it was deleted."""

    def split(self, spaces: Spaces, write: Write, now: float) -> None:
        if not (isinstance(write, Delete) and write.scope is Scope.NODE):
            super().split(spaces, write, now)


@broken_store("documents_fast_paths.what_is_fetched_is_all_that_is_there")
class TheWholeIsFetchedForAPart(KeepingBackend):
    """A fetch of a dict in a whole document returns all of it."""

    def fetch_document(self, key: Key, /) -> bytes | None:
        whole = self.whole(self.spaces, key)
        return super().fetch_document(key if whole is None else Key(key.space, whole))


@broken_store("documents.one_of_any_size_has_leaves", alone=True)
class LongDocumentsHaveNoParts(KeepingBackend):
    """One leaf of a document of more than two kibibytes is read as absent."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        outcome = super().execute(transaction)
        if len(transaction.reads) == 1 and isinstance(read := transaction.reads[0], Read) and read.scope is Scope.NODE:
            whole = self.whole(self.spaces, read.key)
            held = None if whole is None else self.kept(Key(read.key.space, whole))
            if held is not None and len(held.value) > 2048:
                return outcome._replace(answers=(Entries({}),))
        return outcome


@broken_store("documents_fast_paths.one_of_any_size_is_fetched_whole", alone=True)
class OverwritesOfLongTextsKeepTheTTL(KeepingBackend):
    """Overwriting a document with a TTL by one of more than two kibibytes leaves the TTL."""

    def overwrite_document(self, key: Key, document: bytes, /) -> bool:
        with self.lock:
            held = self.kept(key)
            if held is None or held.deadline is None or len(document) <= 2048:
                return super().overwrite_document(key, document)
            (found,) = self.execute(Transaction(reads=(Read(key, Scope.BELOW, ttls=True),))).answers
            assert isinstance(found, Entries)
            ttl = max(found.ttls.values())
            return self.execute(Transaction(writes=(PutDocument(key, document, ttl),))).applied


@broken_store("documents_fast_paths.one_of_any_size_is_fetched_whole", alone=True)
class LongTextsAreFetchedCut(KeepingBackend):
    """A document of more than two kibibytes is cut when it is fetched."""

    def fetch_document(self, key: Key, /) -> bytes | None:
        found = super().fetch_document(key)
        return found if found is None else found[:2048]


@broken_store("documents_fast_paths.one_of_any_size_is_fetched_whole", alone=True)
class LongValuesAreFetchedCut(KeepingBackend):
    """A value of more than two kibibytes is cut when it is fetched where a document may be."""

    def fetch_document(self, key: Key, /) -> bytes | None:
        found = super().fetch_document(key)
        return found if found is None or self.kept(key) is not None else found[:2048]


@broken_store("documents_fast_paths.a_plain_fetch_gives_no_document", alone=True)
class PlainFetchesGiveTexts(KeepingBackend):
    """A fetch of a value returns the text of a document."""

    def fetch(self, key: Key, /) -> bytes | None:
        held = self.kept(key)
        return super().fetch(key) if held is None else held.value


@broken_store("documents_fast_paths.overwriting_one_is_a_put_or_nothing")
class LeavesAreOverwrittenByDocuments(KeepingBackend):
    """A document overwrites whatever is there, a leaf as well, and nothing too."""

    def overwrite_document(self, key: Key, document: bytes, /) -> bool:
        return self.execute(Transaction(writes=(PutDocument(key, document),))).applied


@broken_store("documents_fast_paths.overwriting_one_is_a_put_or_nothing")
class OnlyTextsAreOverwritten(KeepingBackend):
    """Overwriting a document changes what is fetched, and not what is read."""

    def overwrite_document(self, key: Key, document: bytes, /) -> bool:
        with self.lock:
            texts = self.spaces.get(self.texts(key), {})
            if key.path not in texts:
                return False
            self.spaces = {**self.spaces, self.texts(key): {**texts, key.path: HeldLocks(document)}}
            return True


@broken_store("documents_fast_paths.overwriting_one_is_a_put_or_nothing", alone=True)
class OverwritingOnlySaysSo(KeepingBackend):
    """Every fifth overwriting of a document is only said to be done."""

    count = 0

    def overwrite_document(self, key: Key, document: bytes, /) -> bool:
        self.count += 1
        return self.kept(key) is not None if self.count % 5 == 0 else super().overwrite_document(key, document)


@broken_store("documents_fast_paths.overwriting_a_leaf_leaves_documents_alone", alone=True)
class ValuesOverwriteDocuments(KeepingBackend):
    """A value overwrites a document, of which the leaves stay."""

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        if self.kept(key) is not None:
            return self.execute(Transaction(writes=(Put(key, value),))).applied
        return super().overwrite(key, value)


@broken_store("documents_fast_paths.overwriting_a_leaf_leaves_documents_alone")
class OverwrittenLeavesAreNotFetched(KeepingBackend):
    """Overwriting a leaf of a document does not change what is fetched of that."""

    def overwrite(self, key: Key, value: bytes, /) -> bool:
        texts = self.spaces.get(self.texts(key), {})
        done = super().overwrite(key, value)
        self.spaces = {**self.spaces, self.texts(key): texts}
        return done


@broken_store("documents_fast_paths.overwriting_one_gives_no_ttl")
class OverwritingKeepsTTLs(KeepingBackend):
    """A document that overwrites another one has the TTL of that."""

    def overwrite_document(self, key: Key, document: bytes, /) -> bool:
        ttls = self.execute(Transaction(reads=(Read(key, Scope.BELOW, ttls=True),))).answers[0]
        assert isinstance(ttls, Entries)
        if self.kept(key) is None:
            return False
        ttl = max(ttls.ttls.values(), default=None)
        return self.execute(Transaction(writes=(PutDocument(key, document, ttl),))).applied


@broken_store("documents_fast_paths.overwriting_one_gives_no_ttl")
class ExpiredOnesAreOverwritten(KeepingBackend):
    """A document overwrites one that has expired."""

    def overwrite_document(self, key: Key, document: bytes, /) -> bool:
        known = key.path in self.spaces.get(self.texts(key), {})
        return known and self.execute(Transaction(writes=(PutDocument(key, document),))).applied


# Walks.


@broken_store("documents_ttl.its_ttl_is_that_of_each_leaf")
class CursorsLoseTheRest(KeepingBackend):
    """A cursor that stands in a whole document goes on behind it."""

    def entries(self, read: Read, now: float) -> Entries:
        answer = super().entries(read, now)
        if read.limit is None or answer.cursor is None:
            return answer
        last = read.key.path + path_of(answer.cursor)
        whole = self.whole(self.spaces, Key(read.key.space, last))
        if whole is None or len(whole) <= len(read.key.path):
            return answer
        return answer._replace(cursor=cursor_of((*whole[len(read.key.path) :], "\U0010ffff")))


@broken_store("documents_ttl.its_ttl_is_that_of_each_leaf", alone=True)
class TTLsOfWholeOnesAreNotRemoved(KeepingBackend):
    """An Expire that removes TTLs leaves that of a document that an earlier transaction has put."""

    def expire(self, spaces: Spaces, write: Expire, now: float) -> None:
        if write.ttl is not None or self.whole(self.spaces, write.key) != write.key.path:
            super().expire(spaces, write, now)


@broken_shared_store("documents_ttl.its_ttl_is_that_of_each_leaf", alone=True)
class ExpireAloneRemovesNoTTLOfOne(OnSqlite):
    """An Expire that is alone in its transaction removes no TTL of a document that this client has put."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.put: set[Key] = set()

    def execute(self, transaction: Transaction, /) -> Outcome:
        self.put.update(write.key for write in transaction.writes if isinstance(write, PutDocument))
        for write in transaction.writes:
            if (
                isinstance(write, Expire)
                and write.ttl is None
                and write.key in self.put
                and len(transaction.writes) == 1
            ):
                return super().execute(transaction._replace(writes=()))
        return super().execute(transaction)


@broken_store("documents_ttl.its_ttl_is_that_of_each_leaf", alone=True)
class LeavesOfWholeOnesDoNotExpire(KeepingBackend):
    """An Expire of exactly a leaf of a document that an earlier transaction has put does nothing."""

    def expire(self, spaces: Spaces, write: Expire, now: float) -> None:
        whole = self.whole(self.spaces, write.key)
        if write.scope is not Scope.NODE or whole is None or whole == write.key.path:
            super().expire(spaces, write, now)


@broken_store("documents_ttl.its_ttl_is_that_of_each_leaf")
class PagesInOneAreEmpty(KeepingBackend):
    """A page of what is in a whole document is empty, though a read without a limit is not."""

    def entries(self, read: Read, now: float) -> Entries:
        whole = self.whole(self.spaces, read.key)
        inside = read.limit is not None and whole is not None and len(whole) < len(read.key.path)
        return Entries({}) if inside else super().entries(read, now)


@broken_store("documents_walks.names_that_stay_are_found_while_it_is_split", alone=True)
class NamesOfOneAreGivenAtOnce(KeepingBackend):
    """A page of the names in a whole document holds the first ones, and no cursor."""

    def names(self, read: ReadNames, now: float) -> Names:
        answer = super().names(read, now)
        return answer if self.whole(self.spaces, read.key) is None else answer._replace(cursor=None)


@broken_store("documents_walks.what_stays_is_found_while_it_is_split", alone=True)
class CursorsNeedTheWhole(KeepingBackend):
    """A cursor in a document that is no longer whole, or another one, goes on behind it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.stood: dict[bytes, tuple[Path, HeldLocks]] = {}

    def entries(self, read: Read, now: float) -> Entries:
        kept: Space = self.spaces.get(self.texts(read.key), {})
        if read.cursor in self.stood and read.cursor is not None:
            whole, held = self.stood[read.cursor]
            if kept.get(whole) != held and len(whole) > len(read.key.path):
                read = read._replace(cursor=cursor_of((*whole[len(read.key.path) :], "\U0010ffff")))
        answer = super().entries(read, now)
        if answer.cursor is not None:
            last = self.whole(self.spaces, Key(read.key.space, read.key.path + path_of(answer.cursor)))
            if last is not None:
                self.stood[answer.cursor] = (last, kept[last])
        return answer


@broken_store("documents_walks.each_leaf_is_found_once", alone=True)
class WalksFindAThousandLeaves(KeepingBackend):
    """Of all whole documents, a walk finds the first thousand leaves."""

    def entries(self, read: Read, now: float) -> Entries:
        answer = super().entries(read, now)
        base = read.key.path
        found = self.found(self.spaces, read.key, read.scope, now, "Read")
        leaves = sorted(path for path in found if self.whole(self.spaces, Key(read.key.space, base + path)) is not None)
        if read.limit is None or len(leaves) <= 1000:
            return answer
        missed = set(leaves[1000:])
        return answer._replace(values={path: value for path, value in answer.values.items() if path not in missed})


@broken_store("documents_walks.each_leaf_is_found_once", alone=True)
class VastPagesLackDocuments(KeepingBackend):
    """A read of a dict of documents with a limit above ten thousand finds the other values."""

    def entries(self, read: Read, now: float) -> Entries:
        answer = super().entries(read, now)
        if (read.limit or 0) <= 10_000:
            return answer
        base = read.key.path
        plain = [path for path in answer.values if self.whole(self.spaces, Key(read.key.space, base + path)) is None]
        return answer._replace(values={path: answer.values[path] for path in plain})


@broken_shared_store("documents_walks.each_leaf_is_found_once", alone=True)
class FullPagesEndTooEarly(OnSqlite):
    """If documents were put, a page of a thousand entries lacks the last one, and the next page begins behind it."""

    puts_documents = False

    def execute(self, transaction: Transaction, /) -> Outcome:
        outcome = super().execute(transaction)
        self.puts_documents |= any(isinstance(write, PutDocument) for write in transaction.writes)
        if not self.puts_documents:
            return outcome
        return outcome._replace(answers=tuple([self.shortened(answer) for answer in outcome.answers]))

    def shortened(self, answer: Answer) -> Answer:
        if not isinstance(answer, Entries) or answer.cursor is None or len(answer.values) < 1000:
            return answer
        return answer._replace(values=dict(list(answer.values.items())[:-1]))


class _Counting(KeepingBackend):
    """Has cursors that say how much was read."""

    def counted(
        self, found: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None
    ) -> tuple[dict[Path, HeldLocks], bytes | None]:
        start = int(cursor or b"0")
        paths = sorted(found)
        page = paths[start:] if limit is None else paths[start : start + limit]
        more = limit is not None and len(paths) > start + limit
        return {path: found[path] for path in page}, b"%d" % (start + len(page)) if more else None


@broken_store("documents_walks.what_stays_is_found_while_it_is_split")
class CursorsCountLeaves(_Counting):
    """A cursor says how many leaves were read, also if some of them are gone."""

    def page(
        self, found: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None
    ) -> tuple[dict[Path, HeldLocks], bytes | None]:
        return self.counted(found, limit, cursor)


@broken_store("documents_walks.names_that_stay_are_found_while_it_is_split")
class CursorsCountNames(_Counting):
    """A cursor says how many names were read, also if some of them are gone."""

    def page_of_names(
        self, names: dict[Path, HeldLocks], limit: int | None, cursor: bytes | None
    ) -> tuple[dict[Path, HeldLocks], bytes | None]:
        return self.counted(names, limit, cursor)


# Clients, processes, threads.


class _RememberingClient(SharedBackend):
    """Remembers what it fetched until it writes itself."""

    def __init__(self, shared: Backend) -> None:
        super().__init__(shared)
        self.fetched: dict[Key, bytes | None] = {}

    def execute(self, transaction: Transaction, /) -> Outcome:
        if transaction.writes:
            self.fetched.clear()
        return super().execute(transaction)

    def fetch_document(self, key: Key, /) -> bytes | None:
        if key not in self.fetched:
            self.fetched[key] = super().fetch_document(key)
        return self.fetched[key]


@broken_client("documents_fast_paths.what_is_fetched_is_all_that_is_there", of=KeepingBackend)
class DocumentsAreRemembered(_RememberingClient):
    """A client fetches a document once, until it writes itself."""


@broken_shared_store("documents_fast_paths.what_is_fetched_is_all_that_is_there")
class ProcessesRememberDocuments(OnSqlite):
    """A process fetches a document once, until it writes itself."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.remembered = _RememberingClient(self.store)

    def execute(self, transaction: Transaction, /) -> Outcome:
        return self.remembered.execute(transaction)

    def fetch_document(self, key: Key, /) -> bytes | None:
        return self.remembered.fetch_document(key)


class _Durable(KeepingBackend):
    declared = Capabilities(ttl=True, processes=False, durable=True, atomic_entries=None, documents=True)
    clients = 0


@broken_client("documents_clients.it_outlasts_all_clients", of=_Durable, alone=True)
class TextsAreForgottenByTheLast(SharedBackend):
    """Durability is declared, and the last client to leave takes along what is still whole."""

    def __init__(self, shared: Backend) -> None:
        super().__init__(shared)
        assert isinstance(shared, _Durable)
        self.durable = shared
        self.durable.clients += 1

    def close(self) -> None:
        self.durable.clients -= 1
        if not self.durable.clients:
            spaces = self.durable.spaces
            texts = {name: space for name, space in spaces.items() if name.startswith("texts of ")}
            for name, space in texts.items():
                entries = spaces[name.removeprefix("texts of ")]
                for path in [path for path in entries if any(path[: len(base)] == base for base in space)]:
                    del entries[path]


@broken_store("documents_clients.no_reader_sees_half_of_one", alone=True)
class LeavesAreSeenOneByOne(MeetingBackend):
    """Each leaf of a document is put separately."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        writes: list[Any] = list(transaction.writes)
        if transaction.checks or transaction.reads or len(writes) != 1 or not isinstance(writes[0], PutDocument):
            return super().execute(transaction)
        key, document, ttl = writes[0]
        super().execute(Transaction(writes=(Delete(key, Scope.SUBTREE),)))
        for path, value in self.leaves(document).items():
            self.let_others_look(Scope.SUBTREE)
            super().execute(Transaction(writes=(Put(Key(key.space, key.path + path), value, ttl),)))
        return Outcome(Status.APPLIED)


# What is not declared.


@broken_store("undeclared.a_document_is_refused", alone=True)
class DocumentsWorkUndeclared(DictBackend):
    """Documents are not declared, and work."""

    declared = Capabilities(ttl=True, processes=False, durable=False, atomic_entries=None, push=True)

    def put_document(self, spaces: Spaces, write: PutDocument, now: float) -> None:
        self.delete(spaces, Delete(write.key, Scope.SUBTREE), now)
        for path, value in self.leaves(write.document).items():
            self.put(spaces, Put(Key(write.key.space, write.key.path + path), value, write.ttl), now)


@broken_store("undeclared.a_document_is_refused")
class DocumentsAreLeaves(NoTTLBackend):
    """Documents are not declared, and each is stored as one leaf."""

    def put_document(self, spaces: Spaces, write: PutDocument, now: float) -> None:
        self.put(spaces, Put(write.key, write.document), now)


@broken_store("undeclared.a_document_is_refused")
class DocumentsAreRefusedTooLate(NoTTLBackend):
    """A document is refused after what stands before it was written."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        for index, write in enumerate(transaction.writes):
            if isinstance(write, PutDocument):
                super().execute(Transaction(writes=transaction.writes[:index]))
        return super().execute(transaction)


@broken_store("undeclared.a_ttl_is_refused")
class TTLsOfDocumentsAreTaken(DictBackend):
    """TTLs are not declared, and those of values are refused, but not those of documents."""

    declared = Capabilities(ttl=False, processes=False, durable=False, atomic_entries=None, push=True, documents=True)

    def execute(self, transaction: Transaction, /) -> Outcome:
        values = [write for write in transaction.writes if not isinstance(write, PutDocument)]
        NoTTLBackend.refuse_ttls(values)
        return super().execute(transaction)


@broken_store("documents.any_scope_in_it_can_be_deleted", alone=True)
class SeveralDeletesInOneAreLost(KeepingBackend):
    """A transaction that only deletes several leaves of one dict of a document changes nothing."""

    def decide(self, transaction: Transaction, now: float) -> Outcome:
        writes = transaction.writes
        single = [write for write in writes if isinstance(write, Delete) and write.scope is Scope.NODE]
        dicts = {(write.key.space, write.key.path[:-1]) for write in single}
        is_lost = len(writes) > 1 and len(single) == len(writes) and len(dicts) == 1
        if is_lost and self.whole(self.spaces, writes[0].key) not in (None, writes[0].key.path):
            return super().decide(transaction._replace(writes=()), now)
        return super().decide(transaction, now)


@broken_shared_store("documents.any_scope_in_it_can_be_deleted", alone=True)
class PutsAfterDeletesOfNothingAreLost(OnSqlite):
    """A put of a leaf of a document is lost if the transaction first deletes exactly the node of a dict above it."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        if len(transaction.writes) == 2:
            delete, put = transaction.writes
            above = delete.key.path
            if isinstance(delete, Delete) and delete.scope is Scope.NODE and isinstance(put, Put):
                is_above = above == put.key.path[: len(above)] and above != put.key.path
                if above and is_above and b"{" in (self.store.fetch_document(delete.key) or b""):
                    transaction = transaction._replace(writes=(delete,))
        return super().execute(transaction)


@broken_store("documents_ttl.its_ttl_is_that_of_each_leaf", alone=True)
class InnerDictsOutlastTheirDocument(KeepingBackend):
    """A read of what is below a dict finds the leaves that expired with the document that it is a part of."""

    def answer(self, read: Any, now: float) -> Any:
        if isinstance(read, Read) and read.scope is Scope.BELOW and read.limit is None and not read.ttls:
            return super().answer(read, 0.0 if read.key.path[-1:] == ("inner",) else now)
        return super().answer(read, now)


@broken_store("documents_clients.what_was_replaced_stays_away", alone=True)
class PartsAreChangedInACopy(DictBackend):
    """To change a leaf of a document, a client splits the text that it has read, whatever is there by then."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        checks, reads, writes = transaction
        if checks or reads or len(writes) != 1 or not isinstance(writes[0], Put) or len(writes[0].key.path) < 2:
            return super().execute(transaction)
        space, path = writes[0].key
        above = Key(space, path[:-1])
        [found] = super().execute(Transaction((), (Read(above, Scope.BELOW, ttls=True),))).answers
        assert isinstance(found, Entries)
        if len(found.values) < 8 or found.ttls:
            return super().execute(transaction)
        copies = [Put(Key(space, above.path + below), self.copied(value)) for below, value in found.values.items()]
        return super().execute(transaction._replace(writes=(Delete(above, Scope.BELOW), *copies, *writes)))

    def copied(self, value: bytes) -> bytes:
        """Return a leaf as the split has it."""
        return value
