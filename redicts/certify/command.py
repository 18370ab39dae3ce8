"""The command ``certify``: its arguments, what it says, and its exit status."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from redicts.certify.files import examine_place, write_whole
from redicts.certify.wrong_use import WrongUse

CERTIFIED: Final = 0
REFUSED: Final = 1
WRONG_USE: Final = 2
INTERRUPTED: Final = 130

_TIMEOUT: Final = 30.0


class _Help(argparse.HelpFormatter):
    """As the other commands of redicts begin their help."""

    def add_usage(self, usage: str | None, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, prefix or "Usage: ")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise WrongUse(f"{message}; see redicts certify --help")


def certify_command(arguments: Sequence[str]) -> int:
    """Certify what the arguments name, print the report, and return the exit status.

    It is 0 for a certificate, or if all checks that were asked for are kept; 1 if the store is not certified; 2 for
    wrong use, with one line on standard error; and 130 after Ctrl-C. What is said before and meanwhile goes to
    standard error, the report to standard output.
    """
    try:
        return _certify(_parser().parse_args(list(arguments)))
    except WrongUse as error:
        _say(str(error))
        return WRONG_USE
    except KeyboardInterrupt:
        _say("interrupted: nothing is certified. The check that was under way may have left its space, or a lock in it")
        return INTERRUPTED
    except SystemExit as ended:  # --help
        return ended.code if isinstance(ended.code, int) else WRONG_USE


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="redicts certify",
        description="Examine a backend by the checks of the contract, and report. "
        "The exit status is 0 if it is certified, 1 if it is not, 2 for wrong use.",
        epilog="The suite works in spaces of its own and empties them; all else that the store holds stays as it is.",
        allow_abbrev=False,
        formatter_class=_Help,
    )
    add = parser.add_argument
    add(
        "configuration",
        nargs="?",
        help="a URL, the dict of Pool().reload(cfg=...) as JSON, a TOML file, or a backend's name",
    )
    add("--codec", metavar="CODEC", help='certify a codec instead: its name, or a dict as JSON: {"name": ..., ...}')
    add("--report", metavar="FILE", type=Path, help="write the report here as well: as JSON if the name ends in .json")
    add("--json", action="store_true", help="print the report as JSON")
    add("--harness", metavar="MODULE:CLASS", help="examine with this subclass of redicts.contract.Harness")
    add(
        "--check", metavar="PATTERN", action="append", help="only these checks, as claims.*; repeatable; no certificate"
    )
    add("--seed", metavar="NUMBER", type=int, default=0, help="where random examples start (default: 0)")
    add("--thorough", action="store_true", help="try much harder; takes minutes")
    add(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=_TIMEOUT,
        help=f"how long something may take that should take milliseconds (default: {_TIMEOUT:g})",
    )
    return parser


def _certify(chosen: argparse.Namespace) -> int:
    if not chosen.timeout > 0:
        raise WrongUse("--timeout is a number of seconds above 0")
    if chosen.report is not None:
        examine_place(chosen.report)
    try:
        from redicts.certify import configuration, examining, harnesses  # noqa: PLC0415  (it needs Hypothesis, unlike the rest)
    except ImportError as error:
        raise WrongUse(str(error)) from None
    wanted = examining.Wanted(chosen.check, chosen.seed, chosen.thorough, chosen.timeout)
    if chosen.codec is not None and chosen.configuration is not None:
        raise WrongUse("give a configuration of a backend, or --codec, not both")
    subject: harnesses.Subject | None = None
    if chosen.codec is not None:
        subject = configuration.codec_of(chosen.codec)
    elif chosen.configuration is not None:
        subject = configuration.store_of(chosen.configuration)
    report = examining.examined(subject, chosen.harness, wanted, _say)
    as_json = json.dumps(report.to_dict(), indent=2) + "\n"
    as_text = f"{report}\n"
    sys.stdout.write(as_json if chosen.json else _printable(as_text))
    sys.stdout.flush()
    if chosen.report is not None:
        try:
            write_whole(chosen.report, as_json if chosen.report.suffix == ".json" else as_text)
        except OSError as error:
            raise WrongUse(f"--report {chosen.report}: the file cannot be written: {error.strerror}") from None
    return CERTIFIED if report.kept else REFUSED


def _printable(text: str) -> str:
    """Return a text with what the terminal cannot show as escapes: names under examination are hostile."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _say(text: str) -> None:
    sys.stderr.write(f"redicts certify: {text}\n")
