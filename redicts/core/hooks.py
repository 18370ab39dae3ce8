"""The markers by which pluggy finds the hooks of a plugin's module, see :mod:`redicts.plugins.hookspecs`."""

from __future__ import annotations

from typing import Final

import pluggy

from redicts.core.entry_points import PROJECT

hookspec: Final = pluggy.HookspecMarker(PROJECT)
"""Decorates the specification of a hook."""

hookimpl: Final = pluggy.HookimplMarker(PROJECT)
"""Decorates the function by which a module implements a hook."""
