"""No repr reads or writes anything, and what notebooks and debuggers look for on an object costs nothing."""

from __future__ import annotations

import gc
import pprint
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from types import FrameType
from typing import Any, Final

import pytest

import redicts
from redicts import ABSENT, Lock, Packed, Pool, Proxy, Transaction, root
from tests.support.stores import Store, Use, Wrapped

IO: Final = frozenset(
    {"socket", "_socket", "ssl", "_ssl", "sqlite3", "_sqlite3", "posix", "io", "_io", "select", "time"}
)
"""Modules of C functions that reach the system: one of these is called by everything that reads or writes."""


def does_io(called: Any) -> bool:
    """Tell whether a C function is one that reaches the system."""
    caller = getattr(called, "__self__", None)
    module = getattr(called, "__module__", None) or type(caller).__module__
    return module in IO and not isinstance(caller, StringIO) and called.__name__ not in {"monotonic", "time", "fspath"}


@contextmanager
def no_io() -> Iterator[list[str]]:
    """Collect the calls of C functions that read, write or wait, and of the driver, in this thread."""
    found: list[str] = []

    def see(frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and does_io(called):
            found.append(f"{frame.f_code.co_name} calls {called}")
        if event == "call" and frame.f_globals.get("__name__") == "redicts.core.driver":
            found.append(frame.f_code.co_name)

    gc.disable()  # its callbacks, such as those of Hypothesis, look at the clock
    sys.setprofile(see)
    try:
        yield found
    finally:
        sys.setprofile(None)
        gc.enable()


OBJECTS: dict[str, Callable[[], object]] = {
    "Proxy": lambda: Proxy("a.b"),
    "root": root,
    "Pool": Pool,
    "settings": lambda: Pool().settings,
    "opened database": lambda: Pool().database(),
    "backend": lambda: Pool().database().backend,
    "capabilities": lambda: Pool().database().backend.capabilities,
    "tree store": lambda: Pool().database().store,
    "codec": lambda: Pool().database().store.form,
    "lock manager": lambda: Pool().database().locks,
    "Lock": lambda: Lock(Pool(), "a", shared=True),
    "locks": lambda: Lock(Pool(), "a").all(Lock(Pool(), "b")),
    "Lock.holders": lambda: Lock(Pool(), "held").holders(),
    "OwnerToken": lambda: Lock(Pool(), "held").owner_token(),
    "held locks": lambda: [each.requests for each in Pool().database().locks.held.values()],
    "Transaction": lambda: Proxy("a").transaction(),
    "Transaction with changes": lambda: collecting(Proxy("a").transaction()),
    "listener": lambda: Pool().database().backend.listen("client/1"),
    "bound method": lambda: Proxy("a").acquire,
    "values": lambda: [Packed({"x": 1}), ABSENT],
    "errors": lambda: [caught(lambda: root().put(5)), caught(lambda: Lock(Pool(), "gone").release())],
}
"""What users and debuggers print, each made where a lock on ``held`` is held."""


def collecting(transaction: Transaction) -> Transaction:
    """Return a transaction with a change, in a block that does not end."""
    transaction.__enter__()
    transaction.set("x", 1)
    return transaction


def caught(call: Callable[[], object]) -> Exception:
    """Return the error that a call raises."""
    with pytest.raises(redicts.RedictsError) as error:
        call()
    return error.value


def test_no_repr_asks_the_store(any_store: Store) -> None:
    """``repr``, ``str`` and ``pprint`` of what a program holds call nothing that reads, writes or waits."""
    root().put({"a": {"b": 1}})
    with Lock(Pool(), "held"):
        for name, make in OBJECTS.items():
            made = make()
            with no_io() as calls:
                shown = [repr(made), str(made), pprint.pformat(made)]
            assert calls == [], name
            assert all(shown), name
            if name == "listener":
                made.close()  # type: ignore[attr-defined]
    with no_io() as calls:
        root().val()
    assert calls  # so the test sees what it looks for


def test_no_repr_of_a_database_asks_the_store() -> None:
    """A database of ``open`` shows its backend, before its first use and after its end."""
    db = redicts.open({"backend": "memory"})
    for shown in ("<Database memory>", "<Database memory, closed>"):
        with no_io() as calls:
            assert repr(db) == shown
            assert repr(db.proxy("a")) == "Proxy('a')"
            assert repr(db.lock("a")) == "<Lock 'a'>"
        assert calls == []
        db.close()


PROBES: Final = (
    "_ipython_canary_method_should_not_exist_",
    "_ipython_display_",
    "_repr_mimebundle_",
    "_repr_html_",
    "_repr_markdown_",
    "_repr_svg_",
    "_repr_png_",
    "_repr_pdf_",
    "_repr_jpeg_",
    "_repr_latex_",
    "_repr_json_",
    "_repr_javascript_",
    "_repr_pretty_",
    "__rich_repr__",
    "__rich__",
    "__rich_console__",
    "__wrapped__",
    "__array__",
    "__array_interface__",
    "__dataframe__",
    "__html__",
    "__fspath__",
    "__await__",
    "aihwerij235234ljsdnp34ksodfipwoe234234jlskjdf",
)
"""What IPython, rich, NumPy, pandas, inspect and templates look for on any object."""


@pytest.mark.parametrize("name", ["Proxy", "Lock", "Transaction", "Pool", "OwnerToken", "opened database"])
def test_what_notebooks_look_for_is_absent(any_store: Store, name: str) -> None:
    """Display hooks are absent, for the object and for its class, and to look for one costs nothing."""
    with Lock(Pool(), "held"):
        made = OBJECTS[name]()
        with no_io() as calls:
            for probe in PROBES:
                assert not hasattr(made, probe), probe
                assert not hasattr(type(made), probe), probe
            assert all(isinstance(each, str) for each in dir(made))
    assert calls == []


def test_the_repr_of_a_transaction_shows_its_state(use: Use) -> None:
    """The repr of a transaction has its path, the number of its changes and the state of its block, and no value."""
    store = Wrapped()
    use(store)
    transaction = Proxy("shop.stock").transaction()
    assert repr(transaction) == "<Transaction on 'shop.stock': 0 changes, not begun>"
    with transaction as changes:
        assert repr(changes) == "<Transaction on 'shop.stock': 0 changes, in its block>"
        changes.expect("apples", ABSENT)
        changes.set("apples", {"secret": 1, "other": 2})
        assert repr(changes) == "<Transaction on 'shop.stock': 1 change, in its block>"
        changes.add("pears", 3)
        changes.delete("nuts")
        changes.expire("apples", 5)
        elsewhere: list[str] = []
        thread = threading.Thread(target=lambda: elsewhere.append(repr(changes)))
        thread.start()
        thread.join()
        assert elsewhere == [repr(changes)] == ["<Transaction on 'shop.stock': 4 changes, in its block>"]
        assert store.transactions == []
    assert repr(transaction) == "<Transaction on 'shop.stock': 4 changes, ended>"
    with pytest.raises(ZeroDivisionError), root().transaction() as changes:
        _ = 1 / 0
    assert repr(changes) == "<Transaction on the root: 0 changes, ended>"
