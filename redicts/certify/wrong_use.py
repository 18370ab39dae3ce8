"""The error of a command that was given what it cannot work with."""

from __future__ import annotations


class WrongUse(Exception):
    """The command cannot be carried out; the text is one line that says why, and what to do. Never with a secret."""
