"""Names, docstrings, comments and errors of redicts, and the pages, use the field's words: see CONTRIBUTING.md."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.pages.parsing import PAGES, ROOT

BANNED: Final = {
    r"life|lives|lifeless": "TTL, expiry; a thread is alive",
    r"(thread|process|owner|program|task) TTLs": "is alive",
    r"for ?ever": "without expiry, without limit",
    r"patience|patient": "timeout, deadline",
    r"places?": "path, node; position",
    r"holdings": "lock manager, held locks",
    r"wish(es)?": "lock options",
    r"(a|the|its|their|each|every|whose|lock|within) turns?|turns of|take turns": "lock retention; alternate",
    r"beats?": "heartbeat",
    r"wake-?ups?|(notify|notifies|notified)[- ]up": "notification; wake",
    r"stations?|bulletins?|lookouts?": "client id; notification log; poller",
    r"lanes?": "session",
    r"verdicts?|culprits?": "status, failed_index",
    r"(contract's|protocol's) words|words of (the|a) (contract|protocol|store)": "classes, wire protocol",
    r"speakers?": "encoder",
    r"(at|on) (its|the|their) borders?|adoptions?": "error mapping; from an existing client",
    r"short ways?|ways? of (its|their) own": "fast path",
    r"laws?|lawful": "conformance check, rule",
    r"bench": "fixture",
    r"claim(s|ed|ing)? (a |the )?(capabilit\w+|ttl|durable|processes|push|documents)": "declare",
    r"(is|was|not|all) claimed": "declared",
    r"doors?|deeds?|shops": "acceptor, action, distribution",
    r"marks? of (a|the) (copy|run|import)": "checkpoint",
    r"in force": "current",
    r"at one instant": "atomically",
    r"anew": "again",
    r"whoever": "name the thing that acts",
    r"tak(e|es|en|ing) (it |them |\w+ )?apart": "split into leaves, parse",
    r"misfits?|forged": "ValidationFailed, BadSignature",
    r"is no JSON": "is not valid JSON",
    r"(?-i:Who)": "name the thing that acts: no sentence begins with Who",
}
"""What names, docstrings, comments, errors and pages must not say, and what they say instead."""

BANNED_NAMES: Final = {
    r"(?-i:Exactly|Prefixed)": "Equals, StartsWith",
    r"(?-i:Damaged)": "CorruptData",
    r"(?-i:Wake)": "Notify",
    r"(?-i:Mark|Marks)": "Checkpoint",
    r"claims?|claimed": "capability, declared",
}
"""The same for names only, because these words are ordinary English elsewhere."""

BANNED_IN_MEASUREMENTS: Final = {r"beside": "compared with, baseline"}

ALLOWED: Final = r"life ?cycle|in place( of)?|takes? place|in the first place|placeholders?"

MEASUREMENTS: Final = (ROOT / "docs" / "measurements.md", *sorted((ROOT / "benchmarks").glob("*.py")))


def banned(text: str, words: dict[str, str]) -> Iterator[str]:
    """Yield each banned word of a text, with its replacement. Underscores separate words, and so do capitals."""
    text = re.sub(r"_+|(?<=[a-z])(?=[A-Z])", " ", text)
    text = re.sub(rf"\b(?:{ALLOWED})\b", "", text, flags=re.IGNORECASE)
    for pattern, replacement in words.items():
        for found in re.finditer(rf"\b(?:{pattern})\b", text, flags=re.IGNORECASE):
            yield f"{found[0]!r} (use: {replacement})"


def pieces(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield the texts of a file to be looked at: line, text, and whether it is a name."""
    if path.suffix == ".md":
        text = re.sub(
            r"<!--.*?-->", lambda found: "\n" * found[0].count("\n"), path.read_text("utf-8"), flags=re.DOTALL
        )
        yield from ((number, line, False) for number, line in enumerate(text.splitlines(), 1))
        return
    yield 1, path.stem, True
    with path.open("rb") as source:
        for token in tokenize.tokenize(source.readline):
            if token.type == tokenize.NAME:
                yield token.start[0], token.string, True
            elif token.type == tokenize.COMMENT or tokenize.tok_name[token.type] in {"STRING", "FSTRING_MIDDLE"}:
                for number, line in enumerate(token.string.splitlines(), token.start[0]):
                    yield number, line, False


def findings(paths: list[Path], words: dict[str, str]) -> list[str]:
    """Return where files say what is banned, as ``file:line: 'word' (use: replacement)``."""
    said: dict[tuple[str, bool], list[str]] = {}  # most names come often
    found = []
    for path in paths:
        for number, text, is_name in pieces(path):
            if (text, is_name) not in said:
                said[text, is_name] = list(banned(text, words | BANNED_NAMES if is_name else words))
            found += [f"{path.relative_to(ROOT)}:{number}: {each}" for each in said[text, is_name]]
    return list(dict.fromkeys(found))


PACKAGES: Final = sorted(
    {*(ROOT / "redicts").glob("*.py"), *[each.parent for each in ROOT.glob("redicts/*/__init__.py")]}
)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.stem)
def test_redicts_uses_the_words_of_the_field(package: Path) -> None:
    """No name, docstring, comment or error of a package has a banned word."""
    found = findings(sorted(package.rglob("*.py")) or [package], BANNED)
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_uses_the_words_of_the_field(page: Path) -> None:
    """No page has a banned word."""
    found = findings([page], BANNED)
    assert not found, "\n" + "\n".join(found)


def test_measurements_name_their_baseline() -> None:
    """A measurement is compared with a baseline, not made beside something."""
    found = findings([*MEASUREMENTS], BANNED | BANNED_IN_MEASUREMENTS)
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("text", ["the life cycle", "in turn", "in place of it", "a benchmark", "mark it", "we claim"])
def test_ordinary_english_is_allowed(text: str) -> None:
    """Expressions that contain a banned word and mean something else are not found."""
    assert not list(banned(text, BANNED))


@pytest.mark.parametrize("text", ["keep_life", "WriteLane", "It lives.", "a turn ends", "Whoever waits", "Who waits"])
def test_a_banned_word_is_found(text: str) -> None:
    """A banned word is found in prose and in names of any style."""
    assert list(banned(text, BANNED))
