"""``get``, ``set`` and ``del``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redicts import Lock
from redicts.cli import exits
from tests.cli.conftest import open_database, put, value_at
from tests.cli.running import command_line, redicts, run


def test_get_prints_what_set_stored(store: str) -> None:
    """A JSON value is preserved; it is printed in one line where the output is no terminal."""
    value = {"b": {"c": 1}, "list": [1, {"x": None}], "empty": {}, "text": "h\u00e9"}
    done = redicts("set", "a", json.dumps(value), "--store", store)
    assert (done.status, done.out, done.err) == (exits.DONE, "", "")
    done = redicts("get", "a", "--store", store)
    assert done.status == exits.DONE
    assert done.out.count("\n") == 1
    assert json.loads(done.out) == value
    assert value_at(store) == {"a": value}


def test_an_absent_value_is_status_1(store: str) -> None:
    """The status and the JSON document tell it from a JSON null."""
    done = redicts("get", "a.b", "--store", store)
    assert (done.status, done.out) == (exits.NEGATIVE, "")
    assert done.err == "redicts: nothing is stored at 'a.b'\n"
    done = redicts("get", "a.b", "--json", "--store", store)
    assert done.status == exits.NEGATIVE
    assert done.document == {"path": "a.b", "found": False, "value": None, "ttl": None, "encoded": []}
    put(store, None, "a")
    assert redicts("get", "a", "--store", store).out == "null\n"


def test_json_has_the_ttl(store: str) -> None:
    """``--json`` has the value and its TTL in seconds."""
    done = redicts("set", "a", "1", "--expire", "600", "--store", store, "--json")
    assert done.document == {"path": "a", "stored": True, "ttl": 600.0}
    document = redicts("get", "a", "--json", "--store", store).document
    assert 0 < document.pop("ttl") <= 600
    assert document == {"path": "a", "found": True, "value": 1, "encoded": []}


def test_text_needs_no_quotes(store: str) -> None:
    """``--text`` takes and prints a text as it is."""
    assert redicts("set", "a", "--text", "{no json", "--store", store).status == exits.DONE
    assert value_at(store) == {"a": "{no json"}
    assert redicts("get", "a", "--text", "--store", store).out == "{no json\n"


def test_a_packed_dict_is_one_leaf(store: str) -> None:
    """``--packed`` stores an object whose parts have no paths; ``-`` reads it from the standard input."""
    assert redicts("set", "a", "-", "--packed", "--store", store, stdin='{"b": 1}').status == exits.DONE
    assert redicts("get", "a", "--store", store).out == '{"b":1}\n'
    assert redicts("get", "a.b", "--store", store).status == exits.NEGATIVE


@pytest.mark.parametrize(
    "arguments",
    [
        ["a", "{no json"],
        ["a", "1", "--expire", "0"],
        ["a", "1", "--expire", "soon"],
        ["a..b", "1"],
        [r"a\b", "1"],
        [".", "1"],
        ["a"],
        ["a", "1", "2"],
        ["a", '{"": 1}'],
    ],
    ids=" ".join,
)
def test_wrong_input_writes_nothing(file_url: str, arguments: list[str]) -> None:
    """The error is one line, and the status is 2."""
    put(file_url, 5, "a")
    done = redicts("set", *arguments, "--store", file_url)
    assert (done.status, done.out, done.err.count("\n")) == (exits.WRONG, "", 1)
    assert value_at(file_url) == {"a": 5}


def test_a_dot_in_a_name_is_escaped(store: str) -> None:
    """Paths are dotted text as everywhere in redicts; a lone dot is the root."""
    redicts("set", r"hosts.www\.example\.org", "443", "--store", store)
    assert value_at(store) == {"hosts": {"www.example.org": 443}}
    assert json.loads(redicts("get", ".", "--store", store).out) == {"hosts": {"www.example.org": 443}}


def test_del_removes_subtrees(store: str) -> None:
    """Everything at and below each path is removed; the status is 1 if nothing was stored at one of them."""
    put(store, {"a": {"b": 1, "c": {"d": 2}}, "e": 3, "f": 4})
    done = redicts("del", "a.c", "e", "--store", store)
    assert (done.status, done.out, done.err) == (exits.DONE, "", "")
    assert value_at(store) == {"a": {"b": 1}, "f": 4}
    done = redicts("del", "nothing", "f", "--json", "--store", store)
    assert done.status == exits.NEGATIVE
    assert done.document == {"removed": ["f"], "missing": ["nothing"]}
    assert value_at(store) == {"a": {"b": 1}}


def test_the_root_is_removed_on_request_only(store: str) -> None:
    """``--everything`` is required."""
    put(store, 1, "a")
    done = redicts("del", ".", "--store", store)
    assert done.status == exits.WRONG
    assert "--everything" in done.err
    assert value_at(store) == {"a": 1}
    assert redicts("del", ".", "--everything", "--store", store).status == exits.DONE
    assert value_at(store) != {"a": 1}


def test_a_write_under_a_mandatory_lock_is_status_4(file_url: str, tmp_path: Path) -> None:
    """With mandatory locks another owner's lock is respected and named."""
    store = json.dumps({"backend": "sqlite", "path": f"{tmp_path}/state.db", "mandatory_locks": True})
    with Lock(open_database(file_url).backend, "a"):
        for arguments in (["set", "a.b", "1"], ["del", "a"]):
            done = run(command_line(*arguments, "--store", store))
            assert done.status == exits.LOCKED
            assert "'a'" in done.err
    assert redicts("set", "a.b", "1", "--store", store).status == exits.DONE
