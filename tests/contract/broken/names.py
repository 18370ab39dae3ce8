"""Names that are taken for others, for patterns, for several, or are changed."""

from __future__ import annotations

import fnmatch
import itertools
import re
import unicodedata

from redicts.core.minitransaction import Delete, Key, Outcome, Path, Status, Transaction
from tests.contract.broken.register import broken_shared_store, broken_store
from tests.contract.broken.shared import OnSqlite
from tests.contract.reference_model import DictBackend, PlainBackend, Spaces


class _Renaming(DictBackend):
    """Stores a segment under a name made from it, and answers with that name."""

    def path(self, path: Path) -> Path:
        return tuple(self.name(segment) for segment in path)

    def name(self, segment: str) -> str:
        raise NotImplementedError


@broken_store("reads.a_read_answers_its_scope")
class PrefixesOfText(DictBackend):
    """A scope is everything whose text begins with the key's text: ``a`` hits ``ab``."""

    def relative(self, path: Path, base: Path) -> Path | None:
        if not base or path[: len(base)] == base:
            return path[len(base) :]
        if path[: len(base) - 1] == base[:-1] and len(path) >= len(base) and path[len(base) - 1].startswith(base[-1]):
            return path[len(base) :]
        return None


@broken_store("names.patterns_are_data")
class SegmentsAreGlobs(DictBackend):
    """Segments of a key are taken for globs when a scope is read, checked or deleted."""

    def relative(self, path: Path, base: Path) -> Path | None:
        begins = path[: len(base)]
        if len(begins) < len(base) or not all(
            fnmatch.fnmatchcase(own, glob) or own == glob for own, glob in zip(begins, base)
        ):
            return None
        return path[len(base) :]


@broken_store("names.patterns_are_data", alone=True)
class SegmentsAreLikePatterns(DictBackend):
    """Segments of a key are taken for LIKE patterns of SQL."""

    def relative(self, path: Path, base: Path) -> Path | None:
        begins = path[: len(base)]
        if len(begins) < len(base) or not all(own == like or self._like(own, like) for own, like in zip(begins, base)):
            return None
        return path[len(base) :]

    def _like(self, text: str, pattern: str) -> bool:
        return bool(re.fullmatch(re.escape(pattern).replace("%", ".*").replace("_", "."), text, re.DOTALL))


@broken_store("names.names_are_kept_apart")
class DotsSeparate(DictBackend):
    """A dot in a segment makes two segments of it."""

    def path(self, path: Path) -> Path:
        return tuple(part for segment in path for part in segment.split(".") if part)


@broken_store("names.names_are_kept_apart")
class NulSeparates(DictBackend):
    """Segments are joined by NUL, and NUL in a segment is not escaped."""

    def path(self, path: Path) -> Path:
        return tuple("\x00".join(path).split("\x00")) if path and all(path) else path


@broken_store("names.names_are_kept_apart", alone=True)
class QuotesSeparate(PlainBackend):
    """A path is stored as the text of a tuple of strings, and quotes in a segment are not escaped."""

    def path(self, path: Path) -> Path:
        return tuple("', '".join(path).split("', '")) if path else path


@broken_store("names.spaces_share_nothing")
class SpacesAreOne(DictBackend):
    """All spaces are one."""

    def space(self, name: str) -> str:
        return ""


@broken_store("names.spaces_share_nothing", alone=True)
class SpacesBeginAlike(DictBackend):
    """A delete in one space also hits those whose names begin alike."""

    def delete(self, spaces: Spaces, write: Delete, now: float) -> None:
        for name in spaces:
            if name.startswith(write.key.space):
                spaces[name] = dict(spaces[name])
                super().delete(spaces, write._replace(key=Key(name, write.key.path)), now)


@broken_store("names.names_are_kept_apart", "pages.pages_hold_hostile_names")
class SurrogatesAreReplaced(_Renaming):
    """Lone surrogates become question marks."""

    def name(self, segment: str) -> str:
        return segment.encode("utf-8", "replace").decode()


@broken_store("names.names_are_kept_apart", "pages.pages_hold_hostile_names")
class SurrogatePairsAreJoined(_Renaming):
    """Two lone surrogates become the character that they look like."""

    def name(self, segment: str) -> str:
        return segment.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@broken_store("names.names_are_kept_apart")
class LongNamesAreCut(_Renaming):
    """Names are cut at 255 characters."""

    def name(self, segment: str) -> str:
        return segment[:255]


@broken_store("names.names_are_kept_apart")
class CaseDoesNotMatter(_Renaming):
    """Upper and lower case are the same."""

    def name(self, segment: str) -> str:
        return segment.lower()


@broken_store("names.names_are_kept_apart")
class NamesAreNormalised(_Renaming):
    """Names are brought into Unicode's normal form."""

    def name(self, segment: str) -> str:
        return unicodedata.normalize("NFC", segment)


@broken_store("reads.a_read_answers_its_scope")
class BlanksAreStripped(_Renaming):
    """Blanks around a name, and dots, are stripped from it."""

    def name(self, segment: str) -> str:
        return re.sub(r"[^a-z]", "", segment) or segment.strip() or "_"


@broken_store("names.paths_may_be_deep", alone=True)
class DeepPathsAreCut(DictBackend):
    """What lies deeper than 64 segments is taken for the dict there."""

    def path(self, path: Path) -> Path:
        return path[:64]


@broken_store("raw.what_is_written_lies_in_the_store")
class RepeatedSegmentsAreMerged(DictBackend):
    """A segment that is equal to the one before it is left out."""

    def path(self, path: Path) -> Path:
        return tuple(segment for segment, _ in itertools.groupby(path))


@broken_store("names.long_names_are_whole_or_refused", alone=True)
class NamesOfPagesAreCut(PlainBackend):
    """Names are cut at 8,000 characters."""

    def path(self, path: Path) -> Path:
        return tuple(name[:8_000] for name in path)


@broken_shared_store("names.long_names_are_whole_or_refused", alone=True)
class LongPathsAreCut(OnSqlite):
    """A path is cut at 3,072 characters, where a value is put, added or read."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        reads = tuple([read._replace(key=_cut(read.key)) for read in transaction.reads])
        writes = tuple([write._replace(key=_cut(write.key)) for write in transaction.writes])
        return super().execute(transaction._replace(reads=reads, writes=writes))


def _cut(key: Key) -> Key:
    room = 3_072 - sum(map(len, key.path[:-1]))
    return Key(key.space, (*key.path[:-1], key.path[-1][: max(1, room)])) if key.path else key


@broken_shared_store("names.long_paths_are_like_short_ones", alone=True)
class LongPathsHoldAnyCondition(OnSqlite):
    """A path that is stored by its digest meets every condition."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        checks = tuple(check for check in transaction.checks if sum(map(len, check.key.path)) <= 440)
        outcome = super().execute(transaction._replace(checks=checks))
        if outcome.status is not Status.CHECK_FAILED or outcome.failed_index is None:
            return outcome
        return outcome._replace(failed_index=transaction.checks.index(checks[outcome.failed_index]))
