"""``doctor``: its findings, its repairs, and that it leaves nothing behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from redicts import Lock
from redicts.cli import exits
from redicts.core.locks.records import HOLDERS, TOKENS
from redicts.core.minitransaction import VALUES, Key, Put, Read, Scope
from redicts.transfer.checkpoints import SPACE, Checkpoint
from redicts.transfer.leaves import read_all
from tests.cli.conftest import leaves_in, open_database, put, put_raw, value_at, write
from tests.cli.running import Done, redicts, run
from tests.support.ports import bound_socket

COMMON = ["reach", "version", "capabilities", "writing", "clock", "locks", "waiters", "tokens", "work"]


def findings(done: Done) -> dict[str, dict[str, Any]]:
    """Return the findings by the names of the checks."""
    return {check["name"]: check for check in done.document["checks"]}


def statuses(done: Done) -> dict[str, str]:
    """Return the status of each check by its name."""
    return {name: check["status"] for name, check in findings(done).items()}


def test_a_healthy_store_is_healthy(store: str) -> None:
    """Every check is made and finds nothing wrong, and leaves nothing behind."""
    put(store, {"a": {"b": 1}})
    done = redicts("doctor", "--json", "--store", store)
    assert done.status == exits.DONE
    file = ["file"] if store.startswith("sqlite") else []
    assert statuses(done) == dict.fromkeys([*COMMON, *file, "values"], "ok")
    assert done.document["healthy"]
    assert done.document["repaired"] is None
    by_name = findings(done)
    assert (by_name["values"]["leaves"], by_name["values"]["damaged"]) == (1, 0)
    assert by_name["reach"]["median_us"] > 0
    assert by_name["capabilities"]["ttl"] is True
    (left,) = open_database(store).run(read_all([Read(Key(SPACE, ()), Scope.BELOW)]))
    assert left.values == {}
    drawn = redicts("doctor", "--store", store)
    assert drawn.status == exits.DONE
    assert all(name in drawn.out for name in COMMON)
    assert "values" not in statuses(redicts("doctor", "--quick", "--json", "--store", store))


def test_a_store_that_does_not_answer_is_status_3() -> None:
    """The JSON document has the reason."""
    with bound_socket() as nobody:
        done = redicts("doctor", "--json", "--store", f"redis://127.0.0.1:{nobody.getsockname()[1]}/0")
    assert done.status == exits.FAILED
    assert not done.document["healthy"]
    assert statuses(done) == {"reach": "failed"}


def test_locks_and_unfinished_work_are_reported(store: str) -> None:
    """Held locks and unfinished copies and imports are worth knowing, and not wrong."""
    database = open_database(store)
    checkpoint = Checkpoint("import of something", database.backend.capabilities)
    write(store, checkpoint.save({"kind": "import", "done": 7}))
    with Lock(database.backend, "a"):
        done = redicts("doctor", "--json", "--store", store)
    assert done.status == exits.DONE
    assert findings(done)["locks"]["held"] == 1
    assert findings(done)["work"]["status"] == "notice"
    assert "import after 7 leaves" in findings(done)["work"]["text"]


def test_the_lock_of_a_dead_process_is_reported(store: str) -> None:
    """A lock whose process does not exist is named, with the remedy."""
    program = (
        "import os, sys; from redicts import Lock, Pool\n"
        "Pool().reload(sys.argv[1]); Lock(Pool(), 'a', expire_timeout=600).acquire()\n"
        "os._exit(0)"
    )
    assert run([sys.executable, "-c", program, store]).status == 0
    done = redicts("doctor", "--json", "--store", store)
    holders = findings(done)["holders"]
    assert done.status == exits.DONE
    assert (holders["status"], holders["dead"]) == ("notice", 1)
    assert "redicts locks --break" in holders["text"]


def test_damage_is_found_saved_and_removed(store: str, tmp_path: Path) -> None:
    """``--repair`` saves what is damaged to a file, removes it, and nothing else; then the store is healthy."""
    put(store, {"a": {"b": 1}})
    write(
        store,
        Put(Key(VALUES, ("odd",)), b"\x07\xff"),
        Put(Key(HOLDERS, ("/a", "!", "stranger/1")), b"Xstranger 1 - host:1:thread"),  # never expires
        Put(TOKENS, b"nonsense"),
    )
    done = redicts("doctor", "--json", "--store", store)
    assert done.status == exits.NEGATIVE
    assert not done.document["healthy"]
    assert {name for name, status in statuses(done).items() if status == "wrong"} == {"leftovers", "tokens", "values"}
    rescue = tmp_path / "rescued.jsonl"
    done = redicts("doctor", "--repair", "--rescue", rescue, "--json", "--store", store)
    assert done.status == exits.DONE
    assert done.document["repaired"] == {"removed": 3, "left": 0, "rescue": str(rescue)}
    assert value_at(store) == {"a": {"b": 1}}
    lines = [json.loads(line) for line in rescue.read_text(encoding="utf-8").splitlines()]
    assert {"path": ["odd"], "base64": "B/8="} in lines
    assert redicts("doctor", "--store", store).status == exits.DONE
    done = redicts("import", rescue, "--store", store)
    assert done.status == exits.DONE
    assert "2 entries that are not leaves" in done.err
    assert leaves_in(store)["odd",] == b"\x07\xff"


def test_a_rescue_file_is_not_overwritten(file_url: str, tmp_path: Path) -> None:
    """If the file exists, nothing is removed."""
    put_raw(file_url, "odd")
    rescue = tmp_path / "rescued.jsonl"
    rescue.write_text("mine", encoding="utf-8")
    done = redicts("doctor", "--repair", "--rescue", rescue, "--store", file_url)
    assert done.status == exits.WRONG
    assert "--rescue" in done.err
    assert rescue.read_text(encoding="utf-8") == "mine"
    assert ("odd",) in leaves_in(file_url)


def test_a_leaf_above_others_is_removed(file_url: str, tmp_path: Path) -> None:
    """A leaf above others is damage: it is removed, and those below it are kept."""
    put(file_url, {"a": {"b": 1, "c": {"d": 2}}})
    put_raw(file_url, "a", data=b"5")
    assert redicts("get", "a", "--store", file_url).status == exits.FAILED
    done = redicts("doctor", "--repair", "--rescue", tmp_path / "rescued", "--json", "--store", file_url)
    assert done.document["repaired"]["removed"] == 1
    assert value_at(file_url) == {"a": {"b": 1, "c": {"d": 2}}}


def test_a_file_that_is_not_a_store_is_status_3(tmp_path: Path) -> None:
    """The file is not changed."""
    file = tmp_path / "state.db"
    file.write_bytes(b"no database at all" * 100)
    assert redicts("doctor", "--json", "--store", f"sqlite:///{file}").status == exits.FAILED
    assert file.read_bytes() == b"no database at all" * 100
