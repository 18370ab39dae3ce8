"""``doctor``: what it finds and repairs, and that it leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

from redicts import Lock
from redicts.api.opened import OpenedDatabase
from redicts.cli import exits
from redicts.core.locks.records import HOLDERS, TOKENS
from redicts.core.minitransaction import VALUES, Entries, Key, Put, Read, Scope, Transaction
from redicts.transfer.checkpoints import SPACE, Checkpoint
from tests.cli.conftest import put, tree_at, value_at
from tests.cli.running import redicts
from tests.support.ports import bound_socket
from tests.support.servers import RedisServer

COMMON = ["reach", "version", "capabilities", "writing", "clock", "locks", "waiters", "tokens", "work"]


def checks(document: dict[str, list[dict[str, object]]]) -> dict[object, object]:
    """Return the status of each check by its name."""
    return {check["name"]: check["status"] for check in document["checks"]}


def entries(tree: OpenedDatabase, space: str) -> dict[tuple[str, ...], bytes]:
    """Return what is in a space."""
    (answer,) = tree.backend.execute(Transaction((), (Read(Key(space, ()), Scope.BELOW),))).answers
    assert isinstance(answer, Entries)
    return dict(answer.values)


def test_a_healthy_store_is_healthy(store: str) -> None:
    """Every check is made and is well, and nothing is left of it."""
    put(store, {"a": {"b": 1}})
    done = redicts("doctor", "--json", "--store", store)
    assert done.status == exits.DONE
    document = done.document
    file = ["file"] if store.startswith("sqlite") else []
    assert checks(document) == dict.fromkeys([*COMMON, *file, "values"], "ok")
    assert document["healthy"]
    assert document["repaired"] is None
    by_name = {check["name"]: check for check in document["checks"]}
    assert by_name["values"]["leaves"] == 1
    assert by_name["values"]["damaged"] == 0
    assert by_name["reach"]["median_us"] > 0
    assert by_name["capabilities"]["ttl"] is True
    assert entries(tree_at(store), SPACE) == {}
    drawn = redicts("doctor", "--store", store)
    assert drawn.status == exits.DONE
    assert all(name in drawn.out for name in COMMON)
    assert "values" not in checks(redicts("doctor", "--quick", "--json", "--store", store).document)


def test_a_store_that_does_not_answer(server: RedisServer) -> None:
    """JSON comes all the same, with the reason; the status is 3."""
    with bound_socket() as nobody:
        done = redicts("doctor", "--json", "--store", f"redis://127.0.0.1:{nobody.getsockname()[1]}/0")
    assert done.status == exits.FAILED
    assert not done.document["healthy"]
    assert checks(done.document) == {"reach": "failed"}


def test_locks_and_unfinished_work_are_told(store: str) -> None:
    """Who holds and what was begun is worth knowing, and nothing wrong."""
    tree = tree_at(store)
    mark = Checkpoint(tree, "import of something")
    tree.backend.execute(Transaction(writes=(mark.saying({"kind": "import", "done": 7}),)))
    with Lock(tree.backend, "a"):
        done = redicts("doctor", "--json", "--store", store)
    assert done.status == exits.DONE
    by_name = {check["name"]: check for check in done.document["checks"]}
    assert by_name["locks"]["held"] == 1
    assert by_name["work"]["status"] == "notice"
    assert "import after 7 leaves" in by_name["work"]["text"]


def test_the_lock_of_a_dead_process_is_told(store: str, tmp_path: Path) -> None:
    """A holder whose process is not there any more is named, with the remedy."""
    import subprocess
    import sys

    program = (
        "import sys; from redicts import Lock, Pool\n"
        "Pool().reload(sys.argv[1]); Lock(Pool(), 'a', expire_timeout=600).acquire()\n"
        "import os; os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, store], check=True)
    done = redicts("doctor", "--json", "--store", store)
    by_name = {check["name"]: check for check in done.document["checks"]}
    assert done.status == exits.DONE
    assert by_name["holders"]["status"] == "notice"
    assert by_name["holders"]["dead"] == 1
    assert "redicts locks --break" in by_name["holders"]["text"]


def test_damage_is_found_rescued_and_removed(store: str, tmp_path: Path) -> None:
    """``--repair`` writes what is damaged to a file, removes it, and nothing else; then the store is healthy."""
    put(store, {"a": {"b": 1}})
    tree = tree_at(store)
    never_ending = Key(HOLDERS, ("/a", "!", "stranger/1"))
    writes = (
        Put(Key(VALUES, ("odd",)), b"\x07\xff"),
        Put(never_ending, b"Xstranger 1 - host:1:thread"),
        Put(TOKENS, b"nonsense"),
    )
    tree.backend.execute(Transaction(writes=writes))
    done = redicts("doctor", "--json", "--store", store)
    assert done.status == exits.NEGATIVE
    assert not done.document["healthy"]
    wrong = {name for name, status in checks(done.document).items() if status == "wrong"}
    assert wrong == {"leftovers", "tokens", "values"}
    rescue = tmp_path / "rescued.jsonl"
    done = redicts("doctor", "--repair", "--rescue", rescue, "--json", "--store", store)
    assert done.status == exits.DONE
    assert done.document["repaired"] == {"removed": 3, "left": 0, "rescue": str(rescue)}
    assert value_at(store) == {"a": {"b": 1}}
    text = [json.loads(line) for line in rescue.read_text(encoding="utf-8").splitlines()]
    assert {"path": ["odd"], "base64": "B/8="} in text
    assert redicts("doctor", "--store", store).status == exits.DONE
    assert redicts("import", rescue, "--store", store).status == exits.WRONG  # it still cannot be read


def test_a_rescue_file_is_not_overwritten(file_url: str, tmp_path: Path) -> None:
    """If the file is there nothing is removed."""
    tree_at(file_url).backend.execute(Transaction(writes=(Put(Key(VALUES, ("odd",)), b"\x07\xff"),)))
    rescue = tmp_path / "rescued.jsonl"
    rescue.write_text("mine", encoding="utf-8")
    done = redicts("doctor", "--repair", "--rescue", rescue, "--store", file_url)
    assert done.status == exits.WRONG
    assert "--rescue" in done.err
    assert rescue.read_text(encoding="utf-8") == "mine"
    assert ("odd",) in entries(tree_at(file_url), VALUES)


def test_a_leaf_above_others_is_found(file_url: str, tmp_path: Path) -> None:
    """What only a stranger can do to a tree is damage too: the leaf above is removed, what is below is kept."""
    put(file_url, {"a": {"b": 1, "c": {"d": 2}}})
    tree_at(file_url).backend.execute(Transaction(writes=(Put(Key(VALUES, ("a",)), b"5"),)))
    assert redicts("get", "a", "--store", file_url).status == exits.FAILED
    done = redicts("doctor", "--repair", "--rescue", tmp_path / "rescued", "--json", "--store", file_url)
    assert done.document["repaired"]["removed"] == 1
    assert value_at(file_url) == {"a": {"b": 1, "c": {"d": 2}}}


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    """A file that is no store is status 3, in one document."""
    file = tmp_path / "state.db"
    file.write_bytes(b"no database at all" * 100)
    done = redicts("doctor", "--json", "--store", f"sqlite:///{file}")
    assert done.status == exits.FAILED
    assert file.read_bytes() == b"no database at all" * 100
