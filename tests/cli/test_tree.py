"""``tree``, ``locks`` and ``watch``: what is there, who holds it, and what changes."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import threading
from pathlib import Path

from redicts import Lock
from redicts.cli import exits
from tests.cli.conftest import put, tree_at
from tests.cli.running import Running, redicts, variables
from tests.support.waiting import eventually


def test_a_subtree_is_drawn(store: str) -> None:
    """Each place is a line, with its value or how much is below it, and its TTL."""
    put(store, {"a": {"b": 1, "c": "text"}, "d": {}})
    put(store, 2, "e", ttl=600_000)
    done = redicts("tree", "--store", store)
    assert done.status == exits.DONE
    lines = [re.sub(r"^[^\w.]*", "", line).rstrip() for line in done.out.splitlines()]
    assert lines[:5] == ["the root  4 leaves, 10 B", "a  2 leaves, 7 B", "b = 1  1 B", 'c = "text"  6 B', "d = {}  2 B"]
    assert re.fullmatch(r"e = 2  1 B, (600|599|598|59\d) s left", lines[5])


def test_the_tree_is_json_too(store: str) -> None:
    """``--json`` has the same in one document."""
    put(store, {"a": {"b": 1, "c": "text"}})
    put(store, 2, "e", ttl=600_000)
    document = redicts("tree", ".", "--json", "--store", store).document
    assert (document["path"], document["leaves"], document["bytes"], document["ttl"]) == ("", 3, 8, None)
    inner = document["names"]["a"]
    assert (inner["leaves"], inner["bytes"], inner["value"]) == (2, 7, None)
    assert inner["names"]["c"] == {
        "leaves": 1,
        "bytes": 6,
        "ttl": None,
        "value": '"text"',
        "locks": [],
        "hidden": 0,
        "names": {},
    }
    assert 0 < document["names"]["e"]["ttl"] <= 600


def test_what_is_not_shown_is_counted(file_url: str) -> None:
    """``--depth`` and ``--most`` bound what is shown, and not what is counted."""
    put(file_url, {f"dict{one}": {f"name{two:02}": two for two in range(10)} for one in range(3)})
    document = redicts("tree", "--depth", "1", "--json", "--store", file_url).document
    assert document["leaves"] == 30
    assert {name: (node["leaves"], node["hidden"]) for name, node in document["names"].items()} == {
        "dict0": (10, 10),
        "dict1": (10, 10),
        "dict2": (10, 10),
    }
    document = redicts("tree", "dict0", "--most", "4", "--json", "--store", file_url).document
    assert (document["path"], document["leaves"], document["hidden"], len(document["names"])) == ("dict0", 10, 6, 4)
    assert "... 6 more leaves" in redicts("tree", "dict0", "--most", "4", "--store", file_url).out


def test_an_empty_place_is_status_1(store: str) -> None:
    """Nothing stored and nothing locked is no tree."""
    done = redicts("tree", "a", "--store", store)
    assert (done.status, done.out, done.err) == (exits.NEGATIVE, "", "redicts: nothing is stored at 'a'\n")


def test_names_do_not_steer_the_terminal(file_url: str) -> None:
    """Control characters and markup in the store are shown, and not obeyed."""
    put(file_url, {"\x1b[31mred": "[bold]x\x07"})
    done = redicts("tree", "--store", file_url)
    assert "\x1b" not in done.out
    assert "\x07" not in done.out
    assert r"\x1b[31mred" in done.out
    assert "[bold]" in done.out


def test_locks_are_shown_in_the_tree(store: str) -> None:
    """A lock stands at its place, or at the nearest one that is shown."""
    put(store, {"a": {"b": 1}})
    backend = tree_at(store).backend
    with Lock(backend, "a.b"), Lock(backend, "z.y", shared=True):
        document = redicts("tree", "--json", "--store", store).document
        drawn = redicts("tree", "--store", store).out
    (lock,) = document["names"]["a"]["names"]["b"]["locks"]
    assert (lock["path"], lock["waiting"], lock["shared"], lock["pid"]) == ("a.b", False, False, os.getpid())
    assert [each["path"] for each in document["locks"]] == ["z.y"]
    assert "[locked: exclusive lock on 'a.b'" in drawn
    assert "[locked: shared lock on 'z.y'" in drawn


def test_holders_and_waiters_are_listed(store: str) -> None:
    """``locks`` tells who holds what and who waits, at a path, above it and below it."""
    backend = tree_at(store).backend
    done = redicts("locks", "--store", store)
    assert (done.status, done.out, done.err) == (exits.NEGATIVE, "", "redicts: nothing is locked at the root\n")
    with Lock(backend, "a.b"):
        waiter = threading.Thread(target=lambda: Lock(backend, "a", acquire_timeout=60).acquire(), daemon=True)
        waiter.start()
        eventually(lambda: Lock(backend, "a").waiters(), "a thread waits")
        done = redicts("locks", "a", "--json", "--store", store)
        drawn = redicts("locks", "a", "--store", store).out
        elsewhere = redicts("locks", "x", "--json", "--store", store)
    waiter.join()
    assert done.status == exits.DONE
    (current_owner,), (waiting,) = done.document["holders"], done.document["waiters"]
    assert (current_owner["path"], current_owner["waiting"], current_owner["thread"]) == ("a.b", False, "MainThread")
    assert (waiting["path"], waiting["waiting"], waiting["shared"]) == ("a", True, False)
    assert done.document["broken"] == []
    assert "held" in drawn
    assert "waiting" in drawn
    assert "MainThread" in drawn
    assert elsewhere.status == exits.NEGATIVE
    assert elsewhere.document == {"path": "x", "broken": [], "holders": [], "waiters": []}


def test_a_lock_is_broken(store: str) -> None:
    """``--break`` frees what somebody else holds, there and nowhere else."""
    backend = tree_at(store).backend
    broken, kept = Lock(backend, "a.b"), Lock(backend, "x")
    broken.acquire()
    kept.acquire()
    done = redicts("locks", "a", "--break", "--json", "--store", store)
    assert done.status == exits.DONE
    assert [each["path"] for each in done.document["broken"]] == ["a.b"]
    assert done.document["holders"] == []
    assert not broken.is_locked()
    assert kept.is_locked()


def test_watch_tells_what_is_different(store: str) -> None:
    """Each look prints what was added, changed and removed since the last one."""
    put(store, {"a": {"same": 0, "count": 0, "changed": 1, "removed": 2}})
    tree = tree_at(store)
    with Running("watch", "a", "--interval", "0.05", "--json", "--store", store) as command:
        assert command.process.stdout is not None
        output = command.process.stdout

        def has_begun() -> bool:
            tree.run(tree.store.add(("a", "count"), 1))
            return bool(select.select([output], [], [], 0.05)[0])

        eventually(has_begun, "the first look was made, and a change was seen")
        tree.run(tree.store.write(("a", "added"), "new"))
        tree.run(tree.store.write(("a", "changed"), 3))
        tree.run(tree.store.delete(("a", "removed")))
        found: dict[str, tuple[str, object, object]] = {}
        while len(found) < 3:
            line = json.loads(output.readline())
            if line["path"] != "a.count":
                found[line["path"]] = (line["change"], line["before"], line["now"])
        done = command.interrupt()
    assert found == {
        "a.added": ("added", None, "new"),
        "a.changed": ("changed", 1, 3),
        "a.removed": ("removed", 2, None),
    }
    assert (done.status, done.err) == (exits.INTERRUPTED, "redicts: interrupted\n")


def test_watch_ends_after_its_looks(store: str) -> None:
    """``--looks`` bounds it, and nothing different is nothing printed."""
    put(store, 1, "a")
    done = redicts("watch", "--looks", "3", "--interval", "0.05", "--store", store)
    assert (done.status, done.out, done.err) == (exits.DONE, "", "")
    assert redicts("watch", "--looks", "0", "--store", store).status == exits.WRONG
    assert redicts("watch", "--interval", "0", "--store", store).status == exits.WRONG


def test_ctrl_c_at_any_time_shows_no_traceback(file_url: str, tmp_path: Path) -> None:
    """Ctrl-C while a command is being found and imported ends it like any other: 130, one line."""
    program = (
        "import sys; import redicts.cli.stores as stores\n"
        "def interrupted(*_): raise KeyboardInterrupt\n"
        "stores.settings_of = interrupted\n"
        "from redicts.cli import main\n"
        "sys.exit(main(['get', 'a']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, env=variables())
    assert (done.returncode, done.stderr) == (exits.INTERRUPTED, b"redicts: interrupted\n")
