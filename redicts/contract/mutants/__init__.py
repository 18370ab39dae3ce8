"""Mutants of a backend's code: makes small changes, one at a time, and finds those that the checks let through.

A mutant is the code with one small change, such as ``<`` instead of ``<=`` or without one statement. The conformance
checks run on each in a process of its own. A mutant that passes all of them is a *survivor*: either the change is
equivalent, or the checks lack a rule, or the code is not needed. ``redicts mutants`` is the command.
"""

from __future__ import annotations

from redicts.contract.mutants.equivalents import Equivalents
from redicts.contract.mutants.figures import document_of, text_of
from redicts.contract.mutants.mutant import Mutant
from redicts.contract.mutants.survey import NotCertified, Survey, Tried
from redicts.contract.mutants.target import Target
from redicts.contract.mutants.trial import How

__all__ = ["Equivalents", "How", "Mutant", "NotCertified", "Survey", "Target", "Tried", "document_of", "text_of"]
