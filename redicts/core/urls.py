"""Parses the parts of a store's URL strictly: text that might mean something else is refused, and never repeated."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote

ADVICE: Final = (
    "percent-encode special characters: %23 for #, %25 for %, %2F for /, %3F for ?, %40 for @, %5B for [, %5D for ]"
)
"""Ends the errors about a URL that can be read in two ways."""


class Secret(str):
    """Text that no repr shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'**********'"


class Address(NamedTuple):
    """The parts of a URL after its scheme. Those with escapes are decoded, except ``path``."""

    username: str | None
    password: Secret | None
    host: str
    port: int | None
    path: str
    parameters: dict[str, str]


def split_url(url: str) -> Address:
    """Split a URL of the form ``scheme://user:password@host:port/path?name=value``.

    Raises ``ValueError``, without a part of the URL, unless it can be read in one way only.
    """
    rest = url.partition("://")[2]
    if re.search(r"[\x00-\x20\x7f\\]", url):
        raise ValueError(f"url must not contain blanks, control characters or backslashes; {ADVICE}")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, server = authority.rpartition("@")
    tail = rest[len(authority) :]
    if "#" in tail or re.search(r"[@\[\]]", user) or ("@" in tail and (server or not tail.startswith("/"))):
        raise ValueError(f"url cannot be read in one way only; {ADVICE}")
    found = re.fullmatch(r"(?P<host>\[[0-9A-Fa-f:.]+(?:%25[\w.~-]+)?\]|[^\[\]:]*)(?P<port>:[0-9]{1,9})?", server)
    if found is None:
        raise ValueError(f"url cannot be read, because its host or port is wrong; write host:port, and {ADVICE}")
    path, _, query = tail.partition("?")
    name, colon, password = user.partition(":")
    return Address(
        decoded(name) if at and name else None,
        Secret(decoded(password)) if colon and password else None,
        decoded(found["host"].strip("[]")),
        int(found["port"][1:]) if found["port"] else None,
        path,
        parameters(query),
    )


def parameters(query: str) -> dict[str, str]:
    """Return the parameters after the question mark of a URL. Raises ``ValueError`` if they are unclear or repeated."""
    found: dict[str, str] = {}
    for item in filter(None, query.split("&")):
        name, equals, value = item.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise ValueError(f"a parameter in the url must be name=value; {ADVICE}")
        if name in found:
            raise ValueError(f"the url has the parameter {name!r} twice; remove one")
        if re.search(r"[+#@]", value):
            raise ValueError(
                f"the parameter {name!r} must not contain +, # or @; write %2B, %20 for a blank, %23 or %40"
            )
        found[name] = decoded(value)
    return found


def decoded(text: str) -> str:
    """Decode the escapes of a part of a URL. Raises ``ValueError`` for a wrong one, and if they are not UTF-8."""
    if re.search("%(?![0-9A-Fa-f]{2})", text):
        raise ValueError("a % in the url must begin an escape such as %20; write %25 for a percent sign")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        refusal = "an escape in the url is not UTF-8; write the characters of UTF-8, for instance %C3%A9 for é"
    raise ValueError(refusal)  # not above: the error of the decoder has the text, and would be its context
