"""Harness selection for ``certify``: the harness that is named, that of the plugin, or one made from the settings."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from redicts.contract import Harness, Store, StoreHarness
from redicts.contract.codecs import ChosenCodecHarness, CodecChoice, CodecHarness
from redicts.contract.provenance import secrets_in
from redicts.contract.report import crossed_out

Subject = Store | CodecChoice
"""A backend with its settings, or a codec with its settings."""


def harness_for(subject: Subject | None, named: str | None) -> Harness | CodecHarness:
    """Return the harness for a store or a codec: the one named ``package.module:Class``, or the plugin's own.

    Its class is called with the store or codec if it takes an argument, and without one otherwise.
    Raises :class:`click.UsageError` if there is no such class, or if it cannot be called that way.
    """
    named = named or ("" if subject is None else subject.plugin.harness) or None
    if named is None:
        if isinstance(subject, CodecChoice):
            return ChosenCodecHarness(subject)
        if subject is None:
            raise click.UsageError("name what to certify: a URL, a dict as JSON, a backend, or --harness MODULE:CLASS")
        return StoreHarness(subject)
    harness = _called(_imported(named), subject, named)
    if not isinstance(harness, (Harness, CodecHarness)):
        raise _error(named, f"it must make a redicts.contract.Harness; it makes a {type(harness).__name__}")
    if subject is not None and isinstance(harness, CodecHarness) is not isinstance(subject, CodecChoice):
        raise _error(named, f"it is for {'a codec' if isinstance(harness, CodecHarness) else 'a backend'}")
    return harness


def _error(named: str, what: str) -> click.UsageError:
    return click.UsageError(f"--harness {named}: {what}")


def _imported(named: str) -> Callable[..., Any]:
    module, colon, name = named.partition(":")
    if not (module and colon and name):
        raise _error(named, "name a class as package.module:Class")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as ``python -m`` does: the harness may lie in the current directory
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise _error(named, f"the module cannot be imported: {error}") from None
    except Exception as error:
        raise _error(named, f"importing the module raised {type(error).__name__}") from None
    make: Callable[..., Any] | None = getattr(found, name, None)
    if make is None:
        raise _error(named, f"there is no {name} in that module")
    if not callable(make):
        raise _error(named, "that is not a class")
    return make


def _called(make: Callable[..., Any], subject: Subject | None, named: str) -> object:
    arguments = [] if subject is None else [subject]
    if inspect.isabstract(make):
        missing = ", ".join(sorted(make.__abstractmethods__))  # type: ignore[attr-defined]
        raise _error(named, f"the class does not implement {missing}")
    try:
        signature = inspect.signature(make)
    except ValueError:  # a class written in C
        return _made(make, arguments, subject, named)
    for given in (arguments, []):
        try:
            signature.bind(*given)
        except TypeError:
            continue
        return _made(make, given, subject, named)
    if subject is None:
        raise _error(named, "it needs a configuration; give one before it")
    raise _error(named, "its class must take one argument, the store or codec, or none")


def _made(make: Callable[..., Any], arguments: Sequence[Subject], subject: Subject | None, named: str) -> object:
    try:
        return make(*arguments)
    except Exception as error:
        secrets = () if subject is None else tuple(secrets_in(subject.settings))
        raise _error(named, f"raised {crossed_out(f'{type(error).__name__}: {error}', secrets)}") from None
