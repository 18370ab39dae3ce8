"""Reads of pages at the root of a cluster: section by section, in pages of the list of sections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from redicts.backends.redis.layout import name_text
from redicts.core.minitransaction import (
    RECORDS,
    Answer,
    AnyRead,
    Entries,
    Names,
    Outcome,
    Path,
    Read,
    Scope,
    Status,
    Transaction,
)

_NODE: Final = Scope.NODE
_START: Final = b"0"


class _Executes(Protocol):
    def execute(self, transaction: Transaction, /, deadline: float | None = None) -> Outcome: ...


class RootReader:
    """Reads at the root.

    ``sections_page`` returns a page of the list of sections after a cursor, and ``section`` what executes the
    transactions of one. ``read_each`` returns the outcomes of one transaction in each of some sections, in one packet
    for each node. It may leave some out.
    """

    def __init__(
        self,
        sections_page: Callable[[bytes, float | None], tuple[bytes, list[bytes]]],
        section: Callable[[str], _Executes],
        read_each: Callable[[Sequence[str], Transaction, float | None], dict[str, Outcome]],
    ) -> None:
        self._sections_page = sections_page
        self._section = section
        self._read_each = read_each

    def execute(self, transaction: Transaction, deadline: float | None) -> Outcome:
        """Answer reads of pages at the root, each by itself."""
        answers = [self._answer(read, deadline) for read in transaction.reads]
        return Outcome(Status.APPLIED, tuple(answers))

    def _answer(self, read: AnyRead, deadline: float | None) -> Answer:
        limit = read.limit or 1
        pages = _Position(read.cursor)
        names: dict[str, None] = {}
        values: dict[Path, bytes] = {}
        ttls: dict[Path, int] = {}
        known: dict[str, Outcome] = {}
        is_of_names = not isinstance(read, Read) and read.key.space[:1] not in RECORDS
        is_empty = isinstance(read, Read) and read.scope is _NODE  # the root holds no value itself
        while not is_empty and len(names) + len(values) < limit:
            if not pages.sections:
                if pages.is_last:
                    break
                pages.turn(*self._sections_page(pages.scan, deadline))
                if is_of_names:
                    sections = list(map(name_text, pages.sections))
                    known = self._read_each(
                        sections, Transaction(reads=(read._replace(limit=1, cursor=None),)), deadline
                    )
                continue
            section, inner = pages.sections[-1], pages.inner
            part = read._replace(limit=1 if is_of_names else max(1, limit - len(values)), cursor=inner)
            outcome = known.pop(name_text(section), None) if inner is None else None
            if outcome is None:
                outcome = self._section(name_text(section)).execute(Transaction(reads=(part,)), deadline)
            (found,) = outcome.answers
            if isinstance(found, Names):
                names.update(dict.fromkeys(found.names))
            else:
                values.update(found.values)
                ttls.update(found.ttls)
            pages.inner = found.cursor
            if found.cursor is None:
                pages.sections.pop()
        cursor = None if is_empty or (pages.is_last and not pages.sections) else pages.cursor()
        return Entries(values, ttls, cursor) if isinstance(read, Read) else Names(tuple(names), cursor)


class _Position:
    """How far a read has come: in the list of sections, in a page of it, and in the first section of that."""

    def __init__(self, cursor: bytes | None) -> None:
        self.scan, self.is_last = _START, False
        self.inner: bytes | None = None
        """The cursor in the next section."""
        self.sections: list[bytes] = []
        """The sections of the page that are still to be read, the next one last."""
        if cursor is not None:
            scan, inner, *sections = cursor.split(b" ")
            self.scan, self.is_last = scan.lstrip(b"!"), scan[:1] == b"!"
            self.inner = bytes.fromhex(inner.decode()[1:]) if inner else None
            self.sections = [bytes.fromhex(section.decode()) for section in sections]

    def turn(self, following: bytes, sections: list[bytes]) -> None:
        """Go on to a page of the list."""
        self.scan, self.is_last, self.sections = following, following == _START, list(sections)

    def cursor(self) -> bytes:
        """Return the position as bytes."""
        scan = b"!" + self.scan if self.is_last else self.scan
        inner = b"" if self.inner is None else b"+" + self.inner.hex().encode()
        return b" ".join([scan, inner, *[section.hex().encode() for section in self.sections]])
