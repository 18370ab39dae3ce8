"""``tree``, ``locks`` and ``watch``: values, locks and changes."""

from __future__ import annotations

import json
import os
import re
import select
import threading
import time

import pytest

from redicts import Lock
from redicts.cli import exits
from redicts.core.locks.records import HOLDERS
from redicts.core.minitransaction import Key, Put
from tests.cli.conftest import InProcess, open_database, put, write
from tests.cli.running import redicts, running
from tests.support.waiting import eventually


def test_a_subtree_is_drawn(store: str) -> None:
    """Each node is a line, with its value or its totals, and its TTL."""
    put(store, {"a": {"b": 1, "c": "text"}, "d": {}})
    put(store, 2, "e", ttl=600_000)
    done = redicts("tree", "--store", store)
    assert done.status == exits.DONE
    lines = [re.sub(r"^[^\w.]*", "", line).rstrip() for line in done.out.splitlines()]
    found = [re.sub(r" {2,}", "  ", line) for line in lines]
    assert found[:5] == ["the root  4 leaves  10 B", "a  2 leaves  7 B", "b = 1  1 B", 'c = "text"  6 B', "d = {}  2 B"]
    assert found[5] == "e = 2  1 B  10 min left"
    ends = {line.index(" B") for line in done.out.splitlines()}
    assert len(ends) == 1, "sizes are in one column"


def test_names_in_the_drawing_can_be_pasted_into_a_path(file_url: str) -> None:
    """A name is drawn as it is written in a path, with escapes."""
    put(file_url, {"www.example.org": {"back\\slash": 1}})
    lines = redicts("tree", "--store", file_url).out.splitlines()
    names = [re.sub(r"^[^\w\\]*|  .*| = .*", "", line) for line in lines[1:]]
    assert names == [r"www\.example\.org", r"back\\slash"]
    assert redicts("get", ".".join(names), "--store", file_url).out == "1\n"


def test_the_tree_is_printed_as_json(store: str) -> None:
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


def test_leaves_that_are_not_shown_are_counted(file_url: str) -> None:
    """``--depth`` and ``--most`` bound what is shown, and not what is counted."""
    put(file_url, {f"dict{one}": {f"name{two:02}": two for two in range(10)} for one in range(3)})
    document = redicts("tree", "--depth", "1", "--json", "--store", file_url).document
    assert document["leaves"] == 30
    counts = {name: (node["leaves"], node["hidden"]) for name, node in document["names"].items()}
    assert counts == dict.fromkeys(["dict0", "dict1", "dict2"], (10, 10))
    document = redicts("tree", "dict0", "--most", "4", "--json", "--store", file_url).document
    assert (document["path"], document["leaves"], document["hidden"], len(document["names"])) == ("dict0", 10, 6, 4)
    assert "... 6 leaves more" in redicts("tree", "dict0", "--most", "4", "--store", file_url).out


def test_an_empty_node_is_status_1(store: str) -> None:
    """A node at which nothing is stored or locked has no tree."""
    done = redicts("tree", "a", "--store", store)
    assert (done.status, done.out, done.err) == (exits.NEGATIVE, "", "redicts: nothing is stored at 'a'\n")


def test_names_do_not_control_the_terminal(file_url: str) -> None:
    """Control characters and markup in the store are printed as text."""
    put(file_url, {"\x1b[31mred": "[bold]x\x07"})
    done = redicts("tree", "--store", file_url)
    assert "\x1b" not in done.out
    assert "\x07" not in done.out
    assert r"\x1b[31mred" in done.out
    assert "[bold]" in done.out


def test_names_with_characters_that_join_others_can_be_pasted(file_url: str) -> None:
    """They are parts of words and of emoji, and do not control a terminal."""
    name = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f469\u200d\U0001f467"
    put(file_url, {name: 1})
    assert redicts("ls", "--store", file_url).out == f"{name}\n"
    assert redicts("get", name, "--store", file_url).out == "1\n"


def test_locks_are_shown_in_the_tree(store: str) -> None:
    """A lock is shown at its node, or at the nearest one above that is shown."""
    put(store, {"a": {"b": 1}})
    backend = open_database(store).backend
    with Lock(backend, "a.b"), Lock(backend, "z.y", shared=True):
        document = redicts("tree", "--json", "--store", store).document
        drawn = redicts("tree", "--store", store).out
    (lock,) = document["names"]["a"]["names"]["b"]["locks"]
    assert (lock["path"], lock["waiting"], lock["shared"], lock["pid"]) == ("a.b", False, False, os.getpid())
    assert [each["path"] for each in document["locks"]] == ["z.y"]
    assert "[locked: exclusive lock on 'a.b'" in drawn
    assert "[locked: shared lock on 'z.y'" in drawn


def test_held_locks_and_waiters_are_listed(store: str) -> None:
    """``locks`` lists the locks at a path, above it and below it, with their owners."""
    backend = open_database(store).backend
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
    (held,), (waiting,) = done.document["holders"], done.document["waiters"]
    assert (held["path"], held["waiting"], held["thread"]) == ("a.b", False, "MainThread")
    assert (waiting["path"], waiting["waiting"], waiting["shared"]) == ("a", True, False)
    assert done.document["broken"] == []
    assert all(word in drawn for word in ("held", "waiting", "MainThread"))
    assert elsewhere.status == exits.NEGATIVE
    assert elsewhere.document == {"path": "x", "broken": [], "holders": [], "waiters": []}


def test_a_lock_is_broken(store: str) -> None:
    """``--break`` breaks the locks of other owners at the path, above it and below it, and no others."""
    backend = open_database(store).backend
    broken, kept = Lock(backend, "a.b"), Lock(backend, "x")
    broken.acquire()
    kept.acquire()
    done = redicts("locks", "a", "--break", "--json", "--store", store)
    assert done.status == exits.DONE
    assert [each["path"] for each in done.document["broken"]] == ["a.b"]
    assert done.document["holders"] == []
    assert not broken.is_locked()
    assert kept.is_locked()


def test_watch_prints_what_differs(store: str) -> None:
    """Each look prints what was added, changed and removed since the last one."""
    put(store, {"a": {"same": 0, "count": 0, "changed": 1, "removed": 2}})
    database = open_database(store)
    with running("watch", "a", "--interval", "0.05", "--json", "--store", store) as command:

        def has_begun() -> bool:
            database.run(database.store.add(("a", "count"), 1))
            return bool(select.select([command.stdout], [], [], 0.05)[0])

        eventually(has_begun, "the first look was made, and a change was seen")
        database.run(database.store.write(("a", "added"), "new"))
        database.run(database.store.write(("a", "changed"), 3))
        database.run(database.store.delete(("a", "removed")))
        found: dict[str, tuple[str, object, object]] = {}
        while len(found) < 3:
            line = json.loads(command.stdout.readline())
            if line["path"] != "a.count":
                found[line["path"]] = (line["change"], line["before"], line["now"])
        command.interrupt()
    assert found == {
        "a.added": ("added", None, "new"),
        "a.changed": ("changed", 1, 3),
        "a.removed": ("removed", 2, None),
    }


def test_watch_ends_after_its_looks(store: str) -> None:
    """``--looks`` bounds their number, and without a difference nothing is printed."""
    put(store, 1, "a")
    done = redicts("watch", "--looks", "3", "--interval", "0.05", "--store", store)
    assert (done.status, done.out, done.err) == (exits.DONE, "", "")
    for option in ("--looks", "--interval"):
        assert redicts("watch", option, "0", "--store", store).status == exits.WRONG


def test_the_time_of_a_foreign_record_is_no_bug(
    file_url: str, in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that redicts did not write may have a time that no calendar of this zone has."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    write(file_url, Put(Key(HOLDERS, ("/a", "!", "o/1")), b"Xo 999999999999999999 - host:1:thread", 600_000))
    try:
        for options in ([], ["--json"]):
            done = in_process("locks", *options, "--store", file_url)
            assert done.status == exits.DONE, done
            assert ("9999-12-31" if options else "held 0 s") in done.out
    finally:
        monkeypatch.undo()
        time.tzset()
