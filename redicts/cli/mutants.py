"""``mutants``: makes small changes to a backend's code, and lists those that the checks let through."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from redicts.cli import exits
from redicts.cli.numbers import Seconds
from redicts.cli.output import fitted, output, tell
from redicts.cli.stores import json_option

if TYPE_CHECKING:
    from redicts.contract import Harness
    from redicts.contract.mutants import Survey, Tried


@click.command(
    "mutants",
    short_help="Find changes to a backend that the checks do not refuse.",
    epilog="Each mutant runs in an empty directory of its own, so a relative path in the configuration is a new file.",
)
@click.argument("configuration", required=False)
@click.option(
    "--module",
    "modules",
    metavar="NAME",
    multiple=True,
    required=True,
    help="Mutate this module, or this package with its Lua files; repeatable.",
)
@click.option("--harness", metavar="MODULE:CLASS", help="Examine with this subclass of redicts.contract.Harness.")
@click.option(
    "--equivalents",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Skip the mutants that this TOML file says are equivalent.",
)
@click.option(
    "--only", metavar="PATTERN", multiple=True, help="Only mutants with this identifier, file, function or kind."
)
@click.option("--sample", metavar="NUMBER", type=click.IntRange(1), help="Only so many mutants, drawn at random.")
@click.option(
    "--seed", metavar="NUMBER", type=int, default=0, show_default=True, help="The seed of sample and examples."
)
@click.option(
    "--check", "patterns", metavar="PATTERN", multiple=True, help="Run these checks only, for example writes.*."
)
@click.option(
    "--most",
    metavar="SECONDS",
    type=Seconds(0.001),
    help="Only the checks that refuse most, as many as the original passes in this time, at least one.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=Seconds(0.001),
    default=5.0,
    show_default=True,
    help="How long an operation may take that should take milliseconds.",
)
@click.option(
    "--jobs", metavar="NUMBER", type=click.IntRange(1), default=1, show_default=True, help="Mutants at a time."
)
@click.option("--list", "only_list", is_flag=True, help="List the mutants, and run none.")
@click.option(
    "--report", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write JSON to a file too."
)
@json_option
def mutants(
    configuration: str | None,
    modules: tuple[str, ...],
    equivalents: Path | None,
    only: tuple[str, ...],
    sample: int | None,
    most: float | None,
    jobs: int,
    only_list: bool,
    report: Path | None,
    as_json: bool,
    **how: Any,
) -> int:
    """Run the checks on mutants of a backend's code, and list the mutants that pass all of them.

    CONFIGURATION is that of redicts certify. The status is 0 if no mutant survives, and 1 if one does.
    """
    try:
        import redicts.contract  # noqa: F401, PLC0415  (needs Hypothesis, and help does not)
    except ImportError as error:
        raise click.UsageError(str(error)) from None
    from redicts.cli.certify import replace_file, require_writable  # noqa: PLC0415
    from redicts.contract.mutants import NotCertified, document_of, text_of  # noqa: PLC0415

    if report is not None:
        require_writable(report)

    survey = _survey(configuration, modules, equivalents, **how)
    survey.choose(only, sample, how["seed"])
    if not survey.chosen:
        raise click.UsageError("no mutant is selected; --list without --only lists all of them")
    if only_list:
        with output() as file:
            file.writelines(fitted(f"{mutant}\n", file) for _, mutant in survey.chosen)
        return exits.DONE
    tell(
        f"{len(survey.made)} mutants, of which {len(survey.chosen)} are examined; first the checks run on the original"
    )
    status = exits.DONE
    made = [mutant for _, mutant in survey.made]
    about = {"modules": list(modules), "seed": how["seed"], "sample": sample, "most": most}
    progress = _Progress(len(survey.chosen))

    def watch(tried: Tried) -> None:
        progress(tried)
        if report is not None:  # each time, so that a run of an hour that is killed leaves what it found
            replace_file(report, json.dumps(document_of(made, survey.tried, about), indent=2) + "\n")

    try:
        survey.run_original(jobs)
        survey.run_mutants(jobs, watch, most)
    except NotCertified as error:
        raise click.UsageError(
            f"the backend itself must pass the checks, on a busy machine with a longer --timeout; {error}"
        ) from None
    except KeyboardInterrupt:
        tell("interrupted: the figures are of the mutants so far")
        status = exits.INTERRUPTED
    document = json.dumps(document_of(made, survey.tried, about), indent=2)
    with output() as file:
        file.write(f"{document}\n" if as_json else fitted(f"{text_of(made, survey.tried)}\n", file))
        file.flush()
    survived = any(each.outcome == "surviving" for each in survey.tried)
    return exits.NEGATIVE if survived and status == exits.DONE else status


def _survey(
    configuration: str | None,
    modules: tuple[str, ...],
    known: Path | None,
    *,
    harness: str | None,
    patterns: tuple[str, ...],
    **how: Any,
) -> Survey:
    from redicts.cli.certify import chosen_checks, subject_of  # noqa: PLC0415
    from redicts.contract import CHECKS  # noqa: PLC0415
    from redicts.contract.codecs import CodecHarness  # noqa: PLC0415
    from redicts.contract.mutants import Equivalents, How, Survey, Target  # noqa: PLC0415

    if "" not in sys.path:
        sys.path.insert(0, "")  # as for a harness: the module may lie in the current directory
    if not hasattr(os, "fork"):
        raise click.UsageError("this platform has no fork, which gives each mutant a process of its own")

    def make() -> Harness:
        from redicts.cli.harnesses import harness_for  # noqa: PLC0415  (in the process of a mutant)

        made = harness_for(subject_of(configuration, None), harness)
        assert not isinstance(made, CodecHarness), "the harness must be one for a backend"
        return made

    try:
        targets = [Target.find(module) for module in modules]
        equivalents = Equivalents() if known is None else Equivalents.read(known)
        survey = Survey(targets, How(make, chosen_checks(CHECKS, patterns), **how), equivalents)
    except (ValueError, SyntaxError) as error:
        raise click.UsageError(str(error)) from None
    for gone in equivalents.unused([mutant for _, mutant in survey.made]):
        tell(f"an equivalent mutant no longer exists: {gone['at']}, {gone.get('before', 'any piece')!r}")
    return survey


class _Progress:
    """One line on a terminal that counts the mutants, and one for each that survives."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._done = 0

    def __call__(self, tried: Tried) -> None:
        self._done += 1
        if tried.outcome == "surviving":
            sys.stderr.write("\r\x1b[K" if sys.stderr.isatty() else "")
            tell(f"survives: {tried.mutant}")
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{self._done} of {self._count}" if self._done < self._count else "\r\x1b[K")
            sys.stderr.flush()
