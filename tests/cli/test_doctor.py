"""``doctor``: its findings, its repairs, and that it leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

import redicts as redicts_api
from redicts import Lock
from redicts.cli import exits
from redicts.core.locks.records import HOLDERS, TOKENS
from redicts.core.minitransaction import VALUES, Key, Put, Read, Scope
from redicts.transfer.checkpoints import SPACE, Checkpoint
from redicts.transfer.leaves import read_all
from tests.cli.conftest import InProcess, leaves_in, open_database, put, put_raw, ttl_at, value_at, write
from tests.cli.running import Done, redicts, run
from tests.support.ports import bound_socket
from tests.support.servers import StartRedis

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
    file = ["file"] if store.startswith("sqlite") else ["memory", "permissions"]
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


def test_what_cannot_be_read_here_is_not_removed(file_url: str, tmp_path: Path, in_process: InProcess) -> None:
    """Another program may read it: it is a notice, and ``--repair`` leaves it while it removes what is corrupt."""
    unreadable = {
        "model": b'\x04models 29\n{"$type":"invoice","value":1}',
        "pickled": b"\x04pickle 41\nS" + bytes(range(40)),
        "other": b"\x04cbor2 1\n\x01",
        "long": b"1" + b"0" * 5000,
        "deep": b"[" * 3000 + b"]" * 3000,
    }
    put(file_url, {"a": 1})
    for name, data in unreadable.items():
        put_raw(file_url, name, data=data)
    accept = [{"name": "models"}, {"name": "pickle", "keys": ["another key than that of the value"]}]
    for settings in ({}, {"accept": accept}):
        store = json.dumps({"backend": "sqlite", "path": file_url.removeprefix("sqlite:///"), **settings})
        rescue = tmp_path / "rescued"
        done = in_process("doctor", "--repair", "--rescue", rescue, "--json", "--store", store)
        assert done.status == exits.DONE
        assert statuses(done)["values"] == "notice"
        assert (findings(done)["values"]["refused"], findings(done)["values"]["damaged"]) == (5, 0)
        assert not rescue.exists()
    put_raw(file_url, "odd", data=b"\x07\xff")
    done = in_process("doctor", "--repair", "--rescue", rescue, "--json", "--store", store)
    assert done.document["repaired"]["removed"] == 1
    assert leaves_in(file_url) == {("a",): b"1", **{(name,): data for name, data in unreadable.items()}}


def test_a_rescue_file_restores_what_was_removed(file_url: str, tmp_path: Path, in_process: InProcess) -> None:
    """``import`` stores the same bytes with what is left of their TTLs, at their path or elsewhere."""
    put(file_url, {"a": {"b": 1}})
    write(
        file_url,
        Put(Key(VALUES, ("odd", "\ud800")), b"\x07\xff", 600_000),
        Put(Key(VALUES, ("cut",)), b"\x04msgpa"),
        Put(Key(VALUES, ("a",)), b"5"),
    )
    before = leaves_in(file_url)
    rescue = tmp_path / "rescued"
    assert in_process("doctor", "--repair", "--rescue", rescue, "--store", file_url).status == exits.DONE
    assert leaves_in(file_url) == {("a", "b"): b"1"} != before
    done = in_process("import", rescue, "rescued", "--store", file_url)
    assert (done.status, done.err) == (exits.DONE, "redicts: 3 leaves are stored below 'rescued'\n")
    restored = leaves_in(file_url)
    assert {path[1:]: data for path, data in restored.items() if path[0] == "rescued"} == {
        ("odd", "\ud800"): b"\x07\xff",
        ("cut",): b"\x04msgpa",
        ("a",): b"5",
    }
    assert 0 < (ttl_at(file_url, "rescued", "odd", "\ud800") or 0) <= 600_000


def test_without_a_rescue_file_nothing_is_removed(file_url: str, in_process: InProcess) -> None:
    """A file that cannot be written, or not to its end, is status 3."""
    put_raw(file_url, "odd")
    for rescue in ("/nowhere/rescued", "/dev/full"):
        done = in_process("doctor", "--repair", "--rescue", rescue, "--store", file_url)
        assert done.status in (exits.WRONG, exits.FAILED)
        assert rescue in done.err
        assert ("odd",) in leaves_in(file_url)


def test_an_incomplete_rescue_file_is_removed(
    file_url: str, tmp_path: Path, in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be in the way of the next attempt, and nobody may take it for a complete one."""
    put_raw(file_url, "odd")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    done = in_process("doctor", "--repair", "--rescue", tmp_path / "rescued", "--store", file_url)
    assert (done.status, "No space left" in done.err) == (exits.FAILED, True)
    assert not (tmp_path / "rescued").exists()
    assert ("odd",) in leaves_in(file_url)


@pytest.mark.parametrize("process", ["999999999@0123456789ab", "999999999@", "999999999"])
def test_an_owner_in_another_pid_namespace_is_not_called_dead(
    file_url: str, in_process: InProcess, process: str
) -> None:
    """A container may have the name of this host, and its process ids say nothing here."""
    value = f"Xowner 1 - {socket.gethostname()}:{process}:MainThread".encode()
    write(file_url, Put(Key(HOLDERS, ("/a", "!", "owner/1")), value, 600_000))
    done = in_process("doctor", "--json", "--store", file_url)
    holders = findings(done)["holders"]
    assert (done.status, holders["status"], holders["dead"], holders["unknown"]) == (exits.DONE, "ok", 0, 1)
    assert "cannot tell" in holders["text"]
    assert "--break" not in holders["text"]
    listed = in_process("locks", "--json", "--store", file_url).document["holders"]
    assert [each["pid"] for each in listed] == [999999999]


def test_the_documented_user_can_have_its_store_checked(start_redis: StartRedis, in_process: InProcess) -> None:
    """What the user is not permitted is a notice that says so, and all other checks are made."""
    user = "on >sesame-street ~app:* resetchannels &app:s:* -@all +evalsha +eval +select +time +get +set +del +unlink"
    user += " +incrby +hget +hmget +hset +hdel +hlen +hgetall +hvals +hkeys +hscan +hrandfield +hstrlen"
    user += " +zadd +zrem +zcard"
    user += " +zrangebyscore +zrangebylex +publish +subscribe"
    server = start_redis(acl=[f"app {user}", f"reader {user} -set -hset -del"])
    base = {"host": server.host, "port": server.port, "password": "sesame-street", "prefix": "app:"}
    app = json.dumps({**base, "username": "app"})
    assert in_process("set", "a", "1", "--store", app).status == exits.DONE
    with redicts_api.open(json.loads(app)).lock("b"):
        done = in_process("doctor", "--json", "--store", app)
    assert done.status == exits.DONE, done
    assert set(COMMON) | {"values"} == set(statuses(done))
    assert {name for name, status in statuses(done).items() if status != "ok"} <= {"version"}
    assert "sesame" not in done.out + done.err
    done = in_process("doctor", "--json", "--store", json.dumps({**base, "username": "reader"}))
    assert "sesame" not in done.out + done.err
    assert done.status != exits.FAULT
    assert "values" in statuses(done)
