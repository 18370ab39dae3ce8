"""Name: the text of one segment, which a path takes as it is, whatever characters it has."""

from __future__ import annotations

from typing import Any, final


@final
class Name(str):
    r"""A name from the store: text that is exactly one segment wherever a key or a path is accepted.

    Proxies and mappings return names from ``keys()``, ``items()`` and iteration. A name needs no escapes, so a loop
    reaches every item, whatever characters its name has. A name equals the same text and has its hash. Its slices,
    the results of its methods, ``str(name)``, copies and pickles are plain text, in which a dot separates segments
    again. No round trip.

    >>> from redicts import Name, Pool, section
    >>> Pool().reload(cfg={"backend": "memory"})
    >>> hosts = section("hosts").set(["www.example.org"], {"port": 443})
    >>> [hosts[name]["port"].val() for name in hosts]
    [443]
    >>> hosts[Name("www.example.org")].key()
    'hosts.www\\.example\\.org'
    """

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str.__str__(self),)

    # These methods of ``str`` return the object itself if there is nothing to change.

    def __mod__(self, value: Any, /) -> str:
        return str.__mod__(str.__str__(self), value)

    def format(self, *args: Any, **kwargs: Any) -> str:
        """Format as ``str.format`` does, to plain text."""
        return str.__str__(self).format(*args, **kwargs)

    def format_map(self, mapping: Any, /) -> str:
        """Format as ``str.format_map`` does, to plain text."""
        return str.__str__(self).format_map(mapping)

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        """Split at the first separator as ``str.partition`` does, into plain text."""
        return str.__str__(self).partition(sep)

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        """Split at the last separator as ``str.rpartition`` does, into plain text."""
        return str.__str__(self).rpartition(sep)


def named(items: dict[Any, Any]) -> list[tuple[str, Any]]:
    """Return the items of a dict from the store, each with its name. A packed dict may have keys of other types."""
    return [(Name(name) if type(name) is str else name, value) for name, value in items.items()]
