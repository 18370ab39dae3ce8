"""Which harness examines: one that is named, the one that a plugin brings along, or one made from the settings."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

from redicts.certify.wrong_use import WrongUse
from redicts.contract import Harness, Store, StoreHarness
from redicts.contract.codecs import ChosenCodecHarness, CodecChoice, CodecHarness
from redicts.contract.provenance import secrets_in
from redicts.contract.report import crossed_out

Subject = Store | CodecChoice
"""What can be certified."""


def harness_for(subject: Subject | None, named: str | None) -> Harness | CodecHarness:
    """Return the harness for a store or a codec: the one that is named, ``package.module:Class``, or the plugin's own.

    Its class is called with the store or codec if it takes an argument, and without any if it takes none.
    Raises :class:`~redicts.certify.wrong_use.WrongUse` if there is no such class, or it cannot be called so.
    """
    named = named or ("" if subject is None else subject.plugin.harness) or None
    if named is None:
        if isinstance(subject, CodecChoice):
            return ChosenCodecHarness(subject)
        if subject is None:
            raise WrongUse("say what to certify: a URL, a dict in JSON, a backend's name, or --harness MODULE:CLASS")
        return StoreHarness(subject)
    made = _called(_found(named), subject, named)
    if not isinstance(made, (Harness, CodecHarness)):
        raise WrongUse(f"--harness {named} makes a {type(made).__name__}, not a redicts.contract.Harness")
    if subject is not None and isinstance(made, CodecHarness) is not isinstance(subject, CodecChoice):
        raise WrongUse(f"--harness {named} is about {'a codec' if isinstance(made, CodecHarness) else 'a backend'}")
    return made


def _found(named: str) -> Callable[..., Any]:
    module, colon, name = named.partition(":")
    if not (module and colon and name):
        raise WrongUse(f"--harness {named}: name a class as package.module:Class")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as python -m does: a harness may lie where the command is given
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise WrongUse(f"--harness {named}: the module cannot be imported: {error}") from None
    except Exception as error:
        raise WrongUse(f"--harness {named}: importing the module raised {type(error).__name__}") from None
    try:
        made: Callable[..., Any] = getattr(found, name)
    except AttributeError:
        raise WrongUse(f"--harness {named}: there is no {name} in that module") from None
    if not callable(made):
        raise WrongUse(f"--harness {named}: that is no class")
    return made


def _called(make: Callable[..., Any], subject: Subject | None, named: str) -> object:
    arguments = [] if subject is None else [subject]
    if inspect.isabstract(make):
        missing = ", ".join(sorted(make.__abstractmethods__))  # type: ignore[attr-defined]
        raise WrongUse(f"--harness {named}: the class does not implement {missing}")
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
        raise WrongUse(f"--harness {named} wants a configuration: give one before it")
    raise WrongUse(f"--harness {named}: its class is called with one argument, the store, or with none")


def _made(make: Callable[..., Any], arguments: Sequence[Subject], subject: Subject | None, named: str) -> object:
    try:
        return make(*arguments)
    except Exception as error:
        secrets = () if subject is None else tuple(secrets_in(subject.settings))
        said = crossed_out(" ".join(f"{type(error).__name__}: {error}".split()), secrets)
        raise WrongUse(f"--harness {named} raised {said}") from None
