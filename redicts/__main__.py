"""``python -m redicts`` is the command ``redicts``."""

from __future__ import annotations

import sys

from redicts.cli import main

if __name__ == "__main__":
    sys.exit(main())
