"""Random times that keep rivals out of step, without a state that a program seeds, or that processes inherit.

A library that draws from the module ``random`` changes what a seeded program draws, and Hypothesis refuses that in the
middle of an example.
"""

from __future__ import annotations

import random
from typing import Final

RANDOM: Final = random.SystemRandom()
