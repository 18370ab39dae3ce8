"""``certify``: examines a backend or a codec by the conformance checks, and writes the report."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from redicts.cli import exits
from redicts.cli.files import is_special
from redicts.cli.numbers import Seconds
from redicts.cli.output import fitted, output, tell
from redicts.cli.stores import json_option

if TYPE_CHECKING:
    from redicts.cli.harnesses import Subject
    from redicts.contract import ConformanceCheck, Harness, Report, Result
    from redicts.contract.codecs import CodecCheck

    _Check = TypeVar("_Check", ConformanceCheck, CodecCheck)

_TIMEOUT: Final = 30.0


@click.command(
    "certify",
    short_help="Certify a backend or a codec by the checks of the contract.",
    epilog="The suite works in spaces of its own and empties them; all other data of the store stays as it is.",
)
@click.argument("configuration", required=False)
@click.option("--codec", metavar="CODEC", help='Certify a codec: its name, or a dict as JSON: {"name": ..., ...}.')
@click.option(
    "--report",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the report to a file too, as JSON if its name ends in .json.",
)
@json_option
@click.option("--harness", metavar="MODULE:CLASS", help="Examine with this subclass of redicts.contract.Harness.")
@click.option(
    "--check",
    "patterns",
    metavar="PATTERN",
    multiple=True,
    help="Run these checks only, for example writes.*; repeatable; gives no certificate.",
)
@click.option("--seed", metavar="NUMBER", type=int, default=0, show_default=True, help="The seed of random examples.")
@click.option("--thorough", is_flag=True, help="Try many more examples; takes minutes.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=Seconds(0.001),
    default=_TIMEOUT,
    show_default=True,
    help="How long an operation may take that should take milliseconds.",
)
def certify(
    configuration: str | None,
    codec: str | None,
    report: Path | None,
    as_json: bool,
    harness: str | None,
    **options: Any,
) -> int:
    """Examine a backend by the checks of the contract, and report.

    CONFIGURATION is a URL, the dict of Pool().reload(cfg=...) as JSON, a TOML file, or a backend's name. The status is
    0 if the backend is certified, 1 if it is not, and 2 for wrong use.
    """
    if codec is not None and configuration is not None:
        raise click.UsageError("give the configuration of a backend, or --codec, not both")
    if report is not None:
        require_writable(report)
    try:
        import redicts.contract  # noqa: F401, PLC0415  (needs Hypothesis, and help does not)
    except ImportError as error:
        raise click.UsageError(str(error)) from None
    subject = subject_of(configuration, codec)
    try:
        found = _examine(subject, harness, **options)
    except KeyboardInterrupt:
        tell("interrupted: nothing is certified. The check that was running may have left its space, or a lock in it")
        return exits.INTERRUPTED
    document, text = json.dumps(found.to_dict(), indent=2) + "\n", f"{found}\n"
    with output() as file:
        file.write(document if as_json else fitted(text, file))
        file.flush()
    if report is not None:
        try:
            replace_file(report, document if report.suffix == ".json" else text)
        except OSError as error:
            raise click.UsageError(f"--report {report}: the file cannot be written: {error.strerror}") from None
    return exits.DONE if found.passed else exits.NEGATIVE


def subject_of(configuration: str | None, codec: str | None) -> Subject | None:
    """Return the store or codec that a configuration stands for, not opened yet.

    Raises :class:`~redicts.errors.SettingsError`, which never repeats the text: it may hold a password.
    """
    from redicts.config.settings import parse  # noqa: PLC0415  (help needs none of it)
    from redicts.config.sources import written  # noqa: PLC0415
    from redicts.contract import Store  # noqa: PLC0415
    from redicts.contract.codecs import CodecChoice  # noqa: PLC0415
    from redicts.plugins.loading import backend_plugin, codec_plugin  # noqa: PLC0415

    if codec is not None:
        name = codec.strip()
        settings = parse({"backend": "memory", "codec": written(name) if name.startswith("{") else name})
        return CodecChoice(codec_plugin(settings.codec), settings.codec_options)
    if configuration is None:
        return None
    settings = parse(written(configuration))
    return Store(backend_plugin(settings.backend), settings.options, settings.default)


def _examine(subject: Subject | None, named: str | None, *, patterns: Sequence[str], **how: Any) -> Report:
    """Examine a store or a codec, or what the named harness opens, and return the report."""
    from redicts.cli.harnesses import harness_for  # noqa: PLC0415  (help needs none of it)
    from redicts.contract import CHECKS, certify  # noqa: PLC0415
    from redicts.contract.codecs import CODEC_CHECKS, CodecHarness, certify_codec  # noqa: PLC0415

    harness = harness_for(subject, named)
    on = type(harness).__name__ if subject is None else repr(subject.plugin.name)
    if isinstance(harness, CodecHarness):
        codec_checks = chosen_checks(CODEC_CHECKS, patterns)
        tell(f"{len(codec_checks)} checks on the codec {on}")
        return certify_codec(harness, checks=codec_checks, watch=_progress(len(codec_checks)), **how)
    try:
        checks = chosen_checks(CHECKS, patterns)
        tell(
            f"{len(checks)} checks on the backend {on}. The suite works in spaces of its own and empties them; "
            "all other data of the store stays as it is"
        )
        if not _opens(harness):
            checks = checks[:1]  # which reports why; each of the others would wait for the store as well
        return certify(harness, checks=checks, watch=_progress(len(checks)), **how)
    finally:
        _close(harness)


def chosen_checks(among: Sequence[_Check], patterns: Sequence[str]) -> Sequence[_Check]:
    """Return the checks whose names match one of the patterns, or all if there are none."""
    for pattern in patterns:
        if not any(fnmatchcase(str(check), pattern) for check in among):
            raise click.UsageError(f"--check {pattern}: there is no such check; an example of a name is {among[0]}")
    return [check for check in among if not patterns or any(fnmatchcase(str(check), each) for each in patterns)]


def _opens(harness: Harness) -> bool:
    from redicts.core.minitransaction import Transaction  # noqa: PLC0415  (help needs none of it)

    try:
        with contextlib.closing(harness.open()) as backend:
            backend.execute(Transaction())
    except Exception:
        return False
    return True


def _close(harness: Harness) -> None:
    """Close the harness; a failure is printed, and the report is written all the same."""
    from redicts.contract.report import crossed_out  # noqa: PLC0415  (help needs none of it)

    try:
        harness.close()
    except Exception as error:
        tell(f"the harness could not be closed: {crossed_out(f'{type(error).__name__}: {error}', harness.secrets)}")


class _Progress:
    """One line on a terminal that counts the checks, and one for each check that fails."""

    def __init__(self, checks: int) -> None:
        self._checks = checks
        self._done = 0

    def __call__(self, result: Result) -> None:
        self._done += 1
        failed = result.status.value == "failed"
        line = f"FAILED {result.check}\n" if failed else f"{self._done} of {self._checks}"
        sys.stderr.write(f"\r\x1b[K{line}" if self._done < self._checks or failed else "\r\x1b[K")
        sys.stderr.flush()


def _progress(checks: int) -> _Progress | None:
    return _Progress(checks) if sys.stderr.isatty() else None


def require_writable(report: Path) -> None:
    """Raise, before minutes are spent, :class:`click.UsageError` if a report cannot be written there."""
    directory = report.absolute().parent
    if report.is_dir():
        raise click.UsageError(f"--report {report} is a directory; name a file in it")
    if not directory.is_dir():
        raise click.UsageError(f"--report {report}: there is no such directory; create it first")
    if not os.access(directory, os.W_OK):
        raise click.UsageError(f"--report {report}: its directory is not writable")


def replace_file(report: Path, text: str) -> None:
    """Replace a file by this text in one step, so that no reader ever sees half of it; or write it to a device."""
    target = Path(os.path.realpath(report))
    if is_special(str(target)):
        target.write_text(text, encoding="utf-8", errors="backslashreplace")
        return
    number, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
