"""Runs the command as ``python -m redicts.certify``."""

from __future__ import annotations

import sys

from redicts.certify.command import certify_command

if __name__ == "__main__":
    sys.exit(certify_command(sys.argv[1:]))
