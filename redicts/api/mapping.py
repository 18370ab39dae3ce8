"""TreeMapping: what is below a path as a ``MutableMapping`` of plain values."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from typing import Any, Final, TypeVar

from redicts.api.opened import OpenedDatabase, Source
from redicts.core import paths
from redicts.core.leaves import ABSENT
from redicts.core.minitransaction import MAX_DEPTH, Path
from redicts.core.names import Name
from redicts.errors import RedictsError

_Result = TypeVar("_Result")
_Mapping = TypeVar("_Mapping", bound="TreeMapping")

_REQUIRED: Final = object()
"""Stands for a default that the caller does not give."""


class TreeMapping(MutableMapping[str, Any]):
    """What is below a path, as a dict: from :meth:`Proxy.mapping`.

    A key is exactly one name, dots included. An item is a plain value, or for a dict in the tree a further mapping, on
    which changes are stored too. Nothing is cached: each method takes one round trip unless it says otherwise, and
    raises the errors of a proxy. Reading an item that is a dict costs the same, however much is below it.

    A mapping has no value of its own. If its path holds a leaf, or nothing, the mapping is empty, and storing an item
    makes the path a dict. Writes are guarded by the locks of the running thread or task, as those of a proxy. A mapping
    is not hashable. It is pickled as the same path.

    >>> from redicts import Pool, Proxy
    >>> Pool().reload(cfg={"backend": "memory"})
    >>> garage = Proxy("garage").mapping()
    >>> garage["car"] = {"wheels": 4}
    >>> garage["car"]["paint"] = "red"
    >>> garage == {"car": {"wheels": 4, "paint": "red"}}
    True
    """

    __slots__ = ("__weakref__", "_db_name", "_path", "_source", "_ttl")

    def __init__(self, source: Source, db_name: str | None, path: Path, ttl: int | None) -> None:
        self._source = source
        self._db_name = db_name
        self._path = path
        self._ttl = ttl
        """The TTL of the values that are stored, in milliseconds."""

    # Reading

    def __getitem__(self, key: str) -> Any:
        """Return the item of a name. Raises ``KeyError`` if nothing is there."""
        path = self._path_of(key)
        database = self._database()
        value = ABSENT if path is None else database.run(database.store.item(path))
        if path is None or value is ABSENT:
            raise KeyError(key)
        return self._item(path, value)

    def __contains__(self, key: object) -> bool:
        path = self._path_of(key)
        database = self._database()
        return path is not None and database.run(database.store.exists(path))

    def __iter__(self) -> Iterator[str]:
        """Return the names, which are read when the iteration begins. Each is a :class:`Name`.

        One round trip, and one more in ``list(m)``, which asks for the length too.
        """
        return iter(list(map(Name, self._names())))

    def __len__(self) -> int:
        return len(self._names())

    def __bool__(self) -> bool:
        database = self._database()
        return database.run(database.store.has_below(self._path))

    def items(self) -> ItemsView[str, Any]:
        """Return a view of the items. An iteration reads everything below the path when it begins."""
        return TreeItems(self)

    def values(self) -> ValuesView[Any]:
        """Return a view of the values. An iteration reads everything below the path when it begins."""
        return TreeValues(self)

    def copy(self) -> dict[str, Any]:
        """Return everything below the path as a plain dict, with plain dicts in it, all of the same state."""
        database = self._database()
        return database.run(database.store.tree(self._path))

    def __eq__(self, other: object) -> bool:
        """Return whether the other mapping has equal items, at any depth. Reads everything below the path."""
        if self is other:
            return True
        if not isinstance(other, Mapping):
            return NotImplemented
        return self.copy() == (other.copy() if isinstance(other, TreeMapping) else dict(other))

    __hash__ = None  # type: ignore[assignment]

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**self.copy(), **_copied(other)} if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**_copied(other), **self.copy()} if isinstance(other, Mapping) else NotImplemented

    # Writing

    def __setitem__(self, key: str, value: Any) -> None:
        """Replace the item of a name. A mapping is stored by value, and clears the TTL unless this one has one."""
        path = self._path_to(key)
        database = self._database()
        if isinstance(value, TreeMapping) and value._path == path and value._database() is database:
            # As in m[key] |= other, which has stored the items already.
            database.write(database.store.item_or_default(path, {}, self._ttl), path)
        else:
            database.write(database.store.write(path, _plain(value), self._ttl), path)

    def __delitem__(self, key: str) -> None:
        """Remove the item of a name. Raises ``KeyError`` if nothing is there."""
        self.pop(key)

    def pop(self, key: str, default: Any = _REQUIRED) -> Any:
        """Remove the item of a name, and return its value, a plain dict for a mapping.

        Raises ``KeyError`` if nothing is there and there is no default.
        """
        path = self._path_of(key)
        database = self._database()
        value = ABSENT if path is None else database.write(database.store.take(path), path)
        if value is not ABSENT:
            return value
        if default is _REQUIRED:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[str, Any]:
        """Remove any item, and return its name and value, as :meth:`pop` does. Several clients never get the same.

        Two round trips, and two more each time that another client takes the item first. Raises ``KeyError`` if there
        is none.
        """
        database = self._database()
        found = database.write(database.store.take_any(self._path), self._path)
        if found is None:
            raise KeyError(f"nothing is below {paths.described(self._path)} to pop")
        return Name(found[0]), found[1]

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Store a default if nothing is at a name, atomically, and return the item that is then there."""
        path = self._path_to(key)
        database = self._database()
        item = database.write(database.store.item_or_default(path, _plain(default), self._ttl), path)
        return self._item(path, item)

    def update(self, other: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **named: Any) -> None:  # type: ignore[override]
        """Replace the items of all these names atomically, as ``dict.update`` does. All others stay.

        Unlike :meth:`Proxy.update` it does not merge dicts.
        """
        new: dict[str, Any] = {}
        for name, value in {**_copied(other), **named}.items():
            new[self._path_to(name)[-1]] = _plain(value)
        database = self._database()
        database.write(database.store.put_items(self._path, new, self._ttl), *[(*self._path, name) for name in new])

    def __ior__(self: _Mapping, other: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> _Mapping:
        self.update(other)
        return self

    def clear(self) -> None:
        """Remove everything below the path, and thereby the dict at the path itself."""
        database = self._database()
        database.write(database.store.clear_items(self._path), self._path)

    # Without a round trip

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {paths.described(self._path)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._source, self._db_name, self._path, self._ttl)

    def _lock_location(self) -> tuple[tuple[Source, str | None], Path]:
        return (self._source, self._db_name), self._path

    # Internals

    def _ipython_key_completions_(self) -> list[str]:
        """Return what may be between the brackets of ``m[...]``."""
        try:
            return self._names()
        except RedictsError:  # of a store that does not answer; the user is typing
            return []

    def _database(self) -> OpenedDatabase:
        return self._source.databases[self._db_name]

    def _names(self) -> list[str]:
        database = self._database()
        return database.run(database.store.names(self._path))

    def _path_of(self, key: object) -> Path | None:
        """Return the path of an item; ``None`` for a key that no item can have."""
        if not issubclass(type(key), str):
            hash(key)  # which raises the TypeError of a dict for a list
            return None
        assert isinstance(key, str)
        text = str.__str__(key)
        return (*self._path, text) if text and len(self._path) < MAX_DEPTH else None

    def _path_to(self, key: str) -> Path:
        """Return the path of an item to store. Raises :class:`~redicts.errors.PathError` for a key of no item."""
        return paths.joined(self._path, paths.parse((key,)))

    def _item(self, path: Path, value: object) -> Any:
        """Return what the user gets for an item: a mapping for an inner node, and for an empty dict."""
        if type(value) is dict and not value:
            return type(self)(self._source, self._db_name, path, self._ttl)
        return value

    def _items(self) -> dict[str, Any]:
        database = self._database()
        found = database.run(database.store.items(self._path))
        return {Name(name): self._item((*self._path, name), value) for name, value in found.items()}


class TreeItems(ItemsView[str, Any]):
    """The items of a :class:`TreeMapping`, of one state of the tree."""

    __slots__ = ()
    _mapping: TreeMapping

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self._mapping._items().items())


class TreeValues(ValuesView[Any]):
    """The values of a :class:`TreeMapping`, of one state of the tree."""

    __slots__ = ()
    _mapping: TreeMapping

    def __iter__(self) -> Iterator[Any]:
        return iter(self._mapping._items().values())

    def __contains__(self, value: object) -> bool:
        return any(value is each or value == each for each in self)


def _copied(other: Any) -> dict[Any, Any]:
    """Return the items of whatever ``dict`` takes as a dict."""
    return other.copy() if isinstance(other, TreeMapping) else dict(other)


def _plain(value: Any, above: tuple[object, ...] = ()) -> Any:
    """Return a value in which each mapping is a dict. A cycle of dicts stays, and is refused where it is stored."""
    if isinstance(value, TreeMapping):
        return value.copy()
    if not isinstance(value, Mapping) or len(above) > MAX_DEPTH or any(value is each for each in above):
        return value
    node = value if type(value) is dict else dict(value)
    changed = {name: new for name, old in node.items() if (new := _plain(old, (*above, value))) is not old}
    return {**node, **changed} if changed else node
