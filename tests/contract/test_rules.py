"""The page of rules is made from the checks, and each check leads to the page that explains its rule."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import pytest

from redicts.contract import CHECKS, ConformanceCheck
from redicts.contract.codecs import CODEC_CHECKS, CodecCheck
from redicts.contract.subjects import CODEC_SUBJECTS, RULES, SUBJECTS, Loss, Subject
from tests.config.tables import DOCS, show, table_of
from tests.pages.test_links import anchors

_Checks = Iterable[ConformanceCheck | CodecCheck]

ALL: Final[tuple[ConformanceCheck | CodecCheck, ...]] = (*CHECKS, *CODEC_CHECKS)
TABLES: Final[Mapping[str, tuple[Mapping[str, Subject], _Checks]]] = {
    "backends": (SUBJECTS, CHECKS),
    "codecs": (CODEC_SUBJECTS, CODEC_CHECKS),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_page_shows_the_checks(name: str) -> None:
    """docs/rules.md shows each check by subject, with its rule, how it is examined, and what the harness must offer."""
    show(RULES, name, "\n\n".join(_sections(*TABLES[name])))


@pytest.mark.parametrize("name", TABLES)
def test_every_check_has_a_subject(name: str) -> None:
    """Each module of checks is a subject, and each subject has checks."""
    subjects, checks = TABLES[name]
    assert {check.name.partition(".")[0] for check in checks} == set(subjects)


def test_checks_say_how_they_examine() -> None:
    """The docstring of a check states the rule in one line, and says how the check examines it."""
    assert [check.name for check in ALL if not (check.says.endswith(".") and check.does.endswith("."))] == []


@pytest.mark.parametrize("subject", [*SUBJECTS.values(), *CODEC_SUBJECTS.values()], ids=lambda each: each.title)
def test_pages_of_subjects_exist(subject: Subject) -> None:
    """The page of a subject has the heading to which reports send an author, and so does the page of rules."""
    page, _, heading = subject.page.partition("#")
    assert not heading or heading in anchors(DOCS / page)
    assert subject.anchor in anchors(DOCS / RULES)


def _sections(subjects: Mapping[str, Subject], checks: _Checks) -> Iterator[str]:
    for loss in Loss:
        of_loss = [name for name, subject in subjects.items() if subject.loss is loss]
        if of_loss:
            yield f"**Users would lose {loss.value}.**"
        for name in of_loss:
            subject = subjects[name]
            yield f"### {subject.title}"
            heading = subject.page.partition("#")[2].replace("-", " ")
            yield textwrap.fill(f"{subject.why} See [{heading or 'the guide'}]({subject.page}).", 125)
            rows = [_row(check) for check in checks if check.name.partition(".")[0] == name]
            yield table_of(("check", "rule", "how it is examined", "needs"), rows)


def _row(check: ConformanceCheck | CodecCheck) -> tuple[str, ...]:
    rule = check.name.partition(".")[2]
    needs = ", ".join(need.value for need in check.needs)
    return f"`{rule}`", check.says.replace("``", "`"), check.does.replace("``", "`"), needs
