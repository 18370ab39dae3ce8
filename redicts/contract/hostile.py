r"""Hostile segments and values: each has broken a real store or a key layout that looked sound.

A backend may use names in a query language, a file system, a URL, a glob or a C string. Characters that are special
there are plain data in a segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

LONG_SEGMENT: Final = "long " * 250
"""1,250 characters: more than file names, index keys and fixed columns hold."""

HOSTILE_SEGMENTS: Final[tuple[str, ...]] = (
    # Separators and prefixes of key layouts.
    "a", "ab", "a.b", ".", "..", "a.", ".a", "a:b", ":", "a/b", "/", "\\", "a\\.b", "|", "-", "--", ",", "=", ">",
    "v", "v:",
    # Patterns and placeholders of query languages.
    "*", "a*", "?", "a?", "[a]", "[", "]", "{", "}", "{a}", "{}", "%", "a%", "%2E", "%s", "_", "a_", "$", "'", '"',
    "`", "#", ";",
    # Blanks, which may be stripped, and invisible characters.
    " ", "  ", " a", "a ", "\t", "\n", "a\n", "\r\n", "\u00a0", "\u200b", "\u2028", "\ufeff",
    # Control characters: the ends of C strings, and markers of layouts.
    "\x00", "a\x00", "a\x00b", "\x00a", "\x01", "\x02", "\x03", "\x04", "\x1f", "\x7f",
    # Texts that may be parsed as a number, a truth value or null.
    "0", "00", "-1", "1", "01", "1.0", "1e3", "nan", "null", "None", "true", "__proto__", "constructor",
    # Case and Unicode normal forms.
    "A", "AB", "\u00e9", "e\u0301", "\u00c5", "\u212b", "\u00df", "ss", "\u0130", "i\u0307", "\u01c4", "\ufb01", "fi",
    # Outside the basic plane, lone surrogates, and two lone surrogates that are not the character they look like.
    "\U0001f600", "\U0010ffff", "\ud800", "\udfff", "a\ud83d", "\ud83d\ude00", "\ude00\ud83d", "\ue000",
    "\uffff", "\ufffd",
    # Right-to-left marks.
    "\u202eabc", "\u05d0",
    # Very long ones, which differ only at the end.
    LONG_SEGMENT, LONG_SEGMENT + "x", LONG_SEGMENT + "y", "\U0001f600" * 300,
)  # fmt: skip
"""Distinct segments."""

HOSTILE_VALUES: Final[tuple[bytes, ...]] = (
    b"", b"\x00", b"\x00\x00", b"\x01", b"\x01a", b"\x02", b"\x02" + b"0" * 16 + b"a", b"\x03", b"\x03\x01",
    b"\x03\x03", b"\x04",
    b"\xc1", b"\xc1\x00", b"\xff", b"\xff\xfe", b"\x80", b"\xf0\x9f\x98", b"0", b"1", b"-1", b"007", b"1.5", b"1e400",
    b" ", b"\n", b"\r\n", b"$-1\r\n", b"*0\r\n", b"*", b"%", b"nil", b"null", b"None", b"{}", b'{"a": 1}', b"[1]",
    b'"a"', b"client/1",
    bytes(range(256)), b"x" * 20_000, b"\x00" * 5_000,
)  # fmt: skip
"""Values that a store may take for its own data."""


def segments_among(names: Sequence[str]) -> SearchStrategy[str]:
    """Return a strategy for these segments and, if they are the hostile ones, for any other text."""
    chosen = st.sampled_from(names)
    if names is not HOSTILE_SEGMENTS:
        return chosen
    return st.one_of(chosen, st.text(st.characters(), min_size=1, max_size=6))


def any_values() -> SearchStrategy[bytes]:
    """Return a strategy for hostile values, counters, and any short bytes."""
    counters = st.integers(-(2**63), 2**63 - 1).map(lambda number: b"%d" % number)
    return st.one_of(st.sampled_from(HOSTILE_VALUES), counters, st.binary(max_size=12))
