"""The PID namespace of this process, without which a process id says nothing."""

from __future__ import annotations

import os
from typing import Final

_NAMESPACE: Final = "/proc/self/ns/pid"
_BOOT: Final = "/proc/sys/kernel/random/boot_id"


def pid_namespace() -> str:
    """Return a text that is the same for two processes only if they see the same process ids; empty if unknown.

    Containers have PID namespaces of their own, possibly under the host name of another one, and two machines may have
    the same host name. The text stands for the PID namespace and the start of the kernel, which only Linux tells.
    """
    try:
        with open(_BOOT, encoding="ascii") as file:
            known = f"{file.read().strip()} {os.readlink(_NAMESPACE)}"
    except (OSError, ValueError):
        return ""
    from hashlib import sha256  # noqa: PLC0415  (for locks only: it loads OpenSSL)

    return sha256(known.encode()).hexdigest()[:12]
