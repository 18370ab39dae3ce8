"""Files that commands write: a file is replaced when its new content is complete, and a device is written to."""

from __future__ import annotations

import os
import shutil
import stat


def is_special(path: str) -> bool:
    """Tell whether a path is a device, a pipe or a socket, which must be written to and never replaced."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def replace(path: str, new: str) -> None:
    """Replace a file by a new one atomically. The file keeps its permissions, and a link to it stays a link."""
    real = os.path.realpath(path)
    if os.path.exists(real):
        shutil.copymode(real, new)
    os.replace(new, real)
