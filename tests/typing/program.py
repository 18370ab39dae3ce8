"""A program as users write it. Type checkers accept its use of redicts, and refuse each of its mistakes.

mypy and pyright check this file as they check a user's, and a test runs it, so that the types are those of the values.
``assert_type`` states what a type checker must find. A comment that ignores an error states that there must be one.
"""

# The type of a function that makes a mistake does not matter.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, Final, Union

from typing_extensions import assert_type

import redicts
from redicts import ABSENT, Database, Lock, LockInfo, Pool, Proxy, Transaction, TreeMapping, aio, root, section
from redicts.plugin import Capabilities

# The version, the pool and databases


def choose_stores() -> None:
    """Configure the pool and open another store."""
    assert_type(redicts.__version__, str)
    Pool().reload(cfg={"backend": "memory", "names": {"cats": 1}})
    assert_type(Pool().settings.backend, str)
    with redicts.open({"backend": "memory", "names": {"cats": 1}}) as db:
        assert_type(db, Database)
        assert_type(db.root(), Proxy)
        assert_type(db.section(__name__, lock_expire_timeout=5), Proxy)
        assert_type(db.proxy("a.b", lock_acquire_timeout=None, db_name="cats"), Proxy)
        assert_type(db.lock("a", ["b", "c.d"], expire_timeout=5, acquire_timeout=None, renew=True), Lock)


# Proxies and values


def use_values() -> None:
    """Read and write values."""
    assert_type(root(3, 5, "cats"), Proxy)
    garage = section("garage", lock_acquire_timeout=3)
    garage.set("car", {"wheels": 4}).set(["car", "paint"], "red", expire=60)
    car = garage["car"]
    assert_type(car.val(), Any)
    assert_type(car["wheels"].val(0), Union[Any, int])
    assert_type(car.val(default={"wheels": 3}), Any)
    empty = car["parts"].val({})
    assert_type(empty, Any)
    wheels: int = car["wheels"].val(0)
    colour: str | None = car["paint"].val(None)
    assert (wheels, colour) == (4, "red")
    assert_type(car["wheels"].add(1), Union[int, Any])
    total: int = car["wheels"].add(-1)
    assert type(total) is int
    assert_type(car["price"].add(0.5), float)
    assert type(car["price"].add(1)) is float, "a float is stored"
    assert_type(car.exists(), bool)
    assert_type(car.time_to_live(), int)
    assert_type(car.compare_and_set(ABSENT, 1), bool)
    assert_type(car.keys(), list[str])
    assert_type(car.children(), list[Proxy])
    assert_type(car.items(), list[tuple[str, Any]])
    assert_type(car.iter_children(), Iterator[Proxy])
    assert_type(car.update({"doors": 3}), Proxy)
    assert_type("doors" in car and bool(car) and len(car) > 0, bool)
    assert_type(car.pop("doors", None), Any)
    names: list[str] = list(car)
    assert sorted(names) == ["paint", "price", "wheels"]


def use_edits_and_mappings() -> None:
    """Change values in place, as mappings, and read several at once."""
    stock = section("stock").put({"apples": 1}, expire=60)
    assert_type(stock, Proxy)
    with stock.edit(default={}, renew=True) as value:
        assert_type(value, Any)
        value["pears"] = 2
    assert_type(stock.vals("apples", ["pears"], default=0), tuple[Any, ...])
    mapping = stock.mapping()
    assert_type(mapping, TreeMapping)
    mapping["plums"] = {"small": 3}
    assert_type(mapping.get("plums"), Union[Any, None])
    fruits: MutableMapping[str, Any] = mapping
    mapping |= {"figs": 4}
    fruits.update(kiwis=5)
    assert dict(fruits["plums"]) == {"small": 3}


# Transactions


def use_transactions() -> None:
    """Change several values at once."""
    with root().transaction() as changes:
        assert_type(changes, Transaction)
        changes.expect("sales", ABSENT)
        changes.set(["garage", "car"], {"paint": "blue"}, expire=None)
        changes.add("sales", 1)
    assert root().val() == {"garage": {"car": {"paint": "blue"}}, "sales": 1}


# Locks


def use_locks() -> None:
    """Acquire locks."""
    lost: list[str] = []

    def lose(lock: Lock) -> None:
        lost.append(lock.key)

    with Lock(Pool(), "a", 30, 10, shared=True, renew=True, on_loss=lose) as lock:
        assert_type(lock, Lock)
        assert_type(lock.held, bool)
        assert_type(lock.token, Union[int, None])
        assert_type(lock.holders(), list[LockInfo])
    with Proxy("a", 10, 30) as proxy:
        assert_type(proxy, Proxy)
    assert_type(proxy.lock(shared=True).acquire(), bool)
    proxy.lock().release()
    assert_type(proxy.lock().acquire(timeout=5), bool)
    assert_type(proxy.lock().locked(), bool)
    proxy.lock().release()

    @proxy.locked(timeout=5)
    def doubled(number: int) -> int:
        return 2 * number

    assert_type(doubled(2), int)
    with proxy.locked(shared=True) as same:
        assert_type(same, Proxy)
    assert not lost


def use_tasks() -> None:
    """Await the same calls."""

    @aio.Proxy("visits").locked(timeout=5)
    async def visited(page: str) -> int:
        return int(await aio.Proxy("visits")[page].add(1))

    async def main() -> None:
        car = aio.section("garage")["car"]
        assert_type(await car.set("wheels", 4), aio.Proxy)
        assert_type(await car.val(), Any)
        assert_type(await car["wheels"].val(0), Union[Any, int])
        assert_type(await car["wheels"].add(1), Union[int, Any])
        assert_type(await car.exists(), bool)
        assert_type(await car.vals("wheels", "paint"), tuple[Any, ...])
        assert_type([child async for child in car.iter_children()], list[aio.Proxy])
        assert_type([name async for name in car], list[str])
        assert_type(await car.items(), list[tuple[str, Any]])
        assert_type(await car.time_to_live(), int)
        async with car as same:
            assert_type(same, aio.Proxy)
        async with car.lock(on_loss=lambda lock: assert_type(lock, aio.Lock)) as lock:
            assert_type(lock, aio.Lock)
            assert_type(await lock.holders(), list[LockInfo])
            assert_type(lock.all(car["a"].lock()), aio.Lock)
        async with car.edit() as value:
            assert_type(value, Any)
        async with car.transaction() as changes:
            assert_type(changes, aio.Transaction)
        assert_type(await car.acquire(timeout=1), bool)
        assert_type(await car.release(), None)
        async with aio.open({"backend": "memory"}) as db:
            assert_type(db, aio.Database)
            assert_type(db.blocking, Database)
            assert_type(db.lock("a", "b"), aio.Lock)
        assert_type(await visited("home"), int)

    asyncio.run(main())


CORRECT: Final = (choose_stores, use_values, use_edits_and_mappings, use_transactions, use_locks, use_tasks)

# Mistakes: each is an error for both type checkers, and raises one when it is made.

MISTAKES: Final[Mapping[str, Callable[[], object]]] = {
    "a misspelt option of root": (
        lambda: root(expire_timout=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ),
    "an option of Lock given to section": (
        lambda: section("a", expire_timeout=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ),
    "a name in place of a timeout": (
        lambda: root("cats").acquire()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ),
    "a misspelt option of Lock": (
        lambda: Lock(Pool(), "a", renews=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ),
    "an option of Lock by position": (
        lambda: Lock(Pool(), "a", 5, 5, True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ),
    "a misspelt option of Proxy.lock": (
        lambda: root().lock(expire_timout=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ),
    "a misspelt option of locked": (
        lambda: root().locked(timout=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ),
    "a misspelt option of edit": (
        lambda: root().edit(renews=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ),
    "a number as blocking": (
        lambda: root().acquire(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ),
    "a proxy as a number": (
        lambda: root() + 1  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
    ),
    "a default of get": (
        lambda: root().get("a", 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ),
    "a misspelt option of set": (
        lambda: root().set("a", 1, expires=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ),
    "a number as a key": (
        lambda: root().set(1, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ),
    "two defaults": (
        lambda: root().val(1, 2)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    ),
    "text as a number to add": (
        lambda: root()["n"].add("1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    ),
    "a misspelt option of open": (
        lambda: redicts.open(config={})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ),
    "a switch of open by position": (
        lambda: redicts.open({}, True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ),
    "a misspelt option of Database.root": (
        lambda: store().root(expire_timout=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ),
    "a timeout of Database.root by position": (
        lambda: store().root(5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ),
    "a timeout of Database.section by position": (
        lambda: store().section("a", 5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ),
    "a misspelt option of Database.proxy": (
        lambda: store().proxy("a", db="cats")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ),
    "a timeout of Database.lock by position": (
        lambda: store().lock("a", 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ),
    "a misspelt option of Database.lock": (
        lambda: store().lock("a", expire_timout=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ),
    "capabilities by position": (
        lambda: Capabilities(True, True, True, None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ),
}
"""Mistakes, by what is wrong."""


def store() -> Database:
    """Return a database for the mistakes."""
    return redicts.open({"backend": "memory"})


def misuse_values() -> None:
    """Expect of values what their types exclude, which no run can find."""
    text: str = root()["n"].val(0)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    whole: int = root()["n"].add(0.5)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    negative = root()["n"].val(0).startswith("-")  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    del text, whole, negative
