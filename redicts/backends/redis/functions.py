"""The server's side: one Lua source, called as a function of a library, or as a script where there are no functions.

Redis has functions from 7.0 on. A library is loaded once, and its Lua functions are made once, while a script makes
them in each call. The name of the library is the hash of the source, so libraries of several versions are on a server
side by side. A server without functions, or whose users may not load any, runs the same source as a script.
"""

from __future__ import annotations

import hashlib
from pathlib import Path as File
from typing import Final

from redis import exceptions

from redicts.backends.redis.errors import is_answer

_HERE: Final = File(__file__).parent
_SOURCE: Final = b"\n".join([(_HERE / name).read_bytes() for name in ("script.lua", "records.lua", "request.lua")])
SCRIPT: Final = _SOURCE + b"return transact(ARGV)\n"
_NAME: Final = b"redicts_" + hashlib.sha256(_SOURCE).hexdigest()[:16].encode()

_FLAGS: Final = {b"r": b"'no-writes'", b"w": b"", b"f": b"'allow-oom'"}
"""What the functions are for: to read, also on a replica, to write, and to free memory, also if there is none left.

A server at its ``maxmemory`` refuses a function that may write as a whole, unless it has the flag ``allow-oom``.
"""

_LIBRARY: Final = (
    b"#!lua name=%b\n%b\nlocal function run(_, args) return transact(args) end\n" % (_NAME, _SOURCE)
) + b"".join(
    [
        b"redis.register_function{function_name='%b_%b', callback=run, flags={%b}}\n" % (_NAME, kind, flags)
        for kind, flags in _FLAGS.items()
    ]
)


def _begun(*words: bytes) -> bytes:
    """Return the first arguments of a command in RESP."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


_FCALL: Final = _begun(b"FCALL")
READ, WRITE, FREE = (_begun(b"FCALL", _NAME + b"_" + kind) for kind in _FLAGS)
"""The beginnings of calls after the number of their arguments: as long as each other. Declared keys follow."""

_BY_DIGEST: Final = _begun(b"EVALSHA", hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest().encode())
_WITH_SOURCE: Final = _begun(b"EVAL", SCRIPT)

LOAD: Final = b"*3\r\n" + _begun(b"FUNCTION", b"LOAD", _LIBRARY)
"""The command that loads the library."""


def as_script(call: bytes, with_source: bool = False) -> bytes:
    """Return the same call of the script; with its source, for a server that does not know it yet.

    Another command is returned as it is.
    """
    counted = call.index(b"\n") + 1
    if not call.startswith(_FCALL, counted):
        return call
    return call[:counted] + (_WITH_SOURCE if with_source else _BY_DIGEST) + call[counted + len(READ) :]


class Functions:
    """Whether a server has functions for this user, as far as its answers have told."""

    __slots__ = ("are_there",)

    def __init__(self) -> None:
        self.are_there = True

    def form(self, call: bytes, with_source: bool) -> bytes:
        """Return a call as it is to be sent."""
        return as_script(call, with_source) if with_source or not self.are_there else call

    def load_failed(self, error: Exception) -> None:
        """Take the error of :data:`LOAD`: another client may have been faster, or it is no answer and tells nothing."""
        if is_answer(error) and "already exists" not in str(error):
            self.are_there = False


def is_unknown(error: Exception) -> bool:
    """Tell whether the server answered that it does not know the library or the script, as after a restart."""
    return isinstance(error, exceptions.NoScriptError) or "Function not found" in str(error)


def is_without_functions(error: Exception) -> bool:
    """Tell whether the server answered that there are no functions, or that this user may not call any."""
    text = str(error)[:100].lower()
    return "fcall" in text and ("unknown command" in text or "no permissions to run" in text)
