"""What a configuration means that does not say it: the defaults of settings, and the backends of URLs."""

from __future__ import annotations

from typing import Final

DEFAULT_BACKEND: Final = "redis"
DEFAULT_CODEC: Final = "json"

FAKE_BACKEND: Final = "fakeredis"
"""The backend that ``fake_redis`` chooses."""

LOCK_RETENTION_SECS: Final = 0.005
"""The default of ``lock_retention``: see :mod:`redicts.locks.retention`."""

CACHE_BYTES: Final = 64 * 2**20
"""The size of a cache of which the settings say only that it is on."""

SCHEMES: Final = dict.fromkeys(
    ("rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel"), "redis"
)
"""The schemes of URLs that differ from the name of their backend."""
