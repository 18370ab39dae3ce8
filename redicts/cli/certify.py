"""``certify``: hands its arguments to the command that certifies, which works without the extra ``cli`` as well."""

from __future__ import annotations

import click


@click.command(
    "certify",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    short_help="Certify a backend or a codec by the checks of the contract.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def certify(arguments: tuple[str, ...]) -> int:
    """Certify a backend or a codec by the checks of the contract."""
    from redicts.certify import certify_command  # noqa: PLC0415  (other commands need none of it)

    return certify_command(arguments)
