"""The command that certifies: ``redicts certify '<configuration>' --report FILE``.

It stands between the suite in :mod:`redicts.contract`, which knows no settings, and the settings of a pool.
"""

from __future__ import annotations

from redicts.certify.command import certify_command

__all__ = ["certify_command"]
