"""Network file systems: detected where the system lists its mounts (Linux), and warned of once for each file."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Final

log: Final = logging.getLogger("redicts.sqlite")

_MOUNTS: Final = Path("/proc/self/mountinfo")

_NETWORK: Final = re.compile(
    r"(nfs\d*|cifs|smb\d*|smbfs|ncpfs|afs|coda|ceph|lustre|gfs2?|ocfs2|gpfs|beegfs|9p|virtiofs|davfs"
    r"|fuse\.(sshfs|glusterfs|ceph.*|s3fs|rclone|gcsfuse|mfs|moosefs|davfs.*|juicefs))"
)
"""Types of file systems that several machines may share, or whose shared memory they may not."""

_warned: Final[set[str]] = set()


def warn_of_network(path: str) -> None:
    """Log a warning, once per file, if it is on a network file system. Cost: 100 microseconds the first time."""
    if path in _warned:
        return
    _warned.add(path)
    kind = file_system_of(path)
    if kind is not None and _NETWORK.fullmatch(kind):
        log.warning(
            "the SQLite file %r is on a file system of type %s: use a local disk; on network file systems SQLite's "
            "locks and its shared memory do not work reliably, and the file may be damaged",
            path,
            kind,
        )


def file_system_of(path: str, mounts: Path = _MOUNTS) -> str | None:
    """Return the type of the file system that contains a path, or ``None`` if the system does not list its mounts."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    directory = os.path.realpath(os.path.dirname(path))
    longest, kind = -1, None
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        # The system writes blanks and backslashes of a path as octal numbers.
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields[4])
        inside = directory == point or directory.startswith(point.rstrip("/") + "/")
        # A later mount covers an earlier one at the same point.
        if inside and len(point) >= longest:
            longest, kind = len(point), after.split(" ")[0]
    return kind
