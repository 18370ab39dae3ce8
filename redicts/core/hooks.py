"""The markers by which pluggy finds the hooks of a plugin's module, see :mod:`redicts.plugins.hookspecs`."""

from __future__ import annotations

from typing import Final

import pluggy

from redicts.core.entry_points import PROJECT

hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)
