"""``get``, ``set`` and ``del``."""

from __future__ import annotations

import json

import pytest

from redicts.cli import exits
from tests.cli.conftest import put, tree_at, value_at
from tests.cli.running import redicts


def test_what_was_set_is_got(store: str) -> None:
    """A JSON value comes back as it was, in one line where nobody looks."""
    value = {"b": {"c": 1}, "list": [1, {"x": None}], "empty": {}, "text": "h\u00e9"}
    done = redicts("set", "a", json.dumps(value), "--store", store)
    assert (done.status, done.out, done.err) == (exits.DONE, "", "")
    done = redicts("get", "a", "--store", store)
    assert done.status == exits.DONE
    assert done.out.count("\n") == 1
    assert json.loads(done.out) == value
    assert value_at(store) == {"a": value}


def test_what_is_not_there_is_status_1(store: str) -> None:
    """Nothing stored is no JSON null: the status tells, and JSON says it."""
    done = redicts("get", "a.b", "--store", store)
    assert (done.status, done.out) == (exits.NEGATIVE, "")
    assert done.err == "redicts: nothing is stored at 'a.b'\n"
    done = redicts("get", "a.b", "--json", "--store", store)
    assert done.status == exits.NEGATIVE
    assert done.document == {"path": "a.b", "found": False, "value": None, "ttl": None, "encoded": []}
    put(store, None, "a")
    assert redicts("get", "a", "--store", store).out == "null\n"


def test_json_tells_the_ttl(store: str) -> None:
    """``--json`` has the value and the seconds that are left of it."""
    assert redicts("set", "a", "1", "--expire", "600", "--store", store, "--json").document == {
        "path": "a",
        "stored": True,
        "ttl": 600.0,
    }
    document = redicts("get", "a", "--json", "--store", store).document
    assert 0 < document.pop("ttl") <= 600
    assert document == {"path": "a", "found": True, "value": 1, "encoded": []}


def test_text_needs_no_quotes(store: str) -> None:
    """``--text`` takes a text as it is, and prints it so."""
    assert redicts("set", "a", "--text", "{no json", "--store", store).status == exits.DONE
    assert value_at(store) == {"a": "{no json"}
    assert redicts("get", "a", "--text", "--store", store).out == "{no json\n"


def test_a_value_is_read_from_the_standard_input(store: str) -> None:
    """``-`` stands for what is piped in."""
    assert redicts("set", "a", "-", "--store", store, stdin='{"b": 1}').status == exits.DONE
    assert value_at(store) == {"a": {"b": 1}}


def test_a_packed_dict_is_one_leaf(store: str) -> None:
    """``--packed`` stores an object that has no parts in the tree."""
    redicts("set", "a", '{"b": 1}', "--packed", "--store", store)
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
    """What cannot be stored is told in one line, with status 2, and nothing is written."""
    put(file_url, 5, "a")
    done = redicts("set", *arguments, "--store", file_url)
    assert (done.status, done.out, done.err.count("\n")) == (exits.WRONG, "", 1)
    assert value_at(file_url) == {"a": 5}


def test_a_dot_in_a_name_is_escaped(store: str) -> None:
    """Paths are written as everywhere else in redicts; a lone dot is the root."""
    redicts("set", r"hosts.www\.example\.org", "443", "--store", store)
    assert value_at(store) == {"hosts": {"www.example.org": 443}}
    assert json.loads(redicts("get", ".", "--store", store).out) == {"hosts": {"www.example.org": 443}}


def test_del_removes_subtrees(store: str) -> None:
    """Everything at and below each path goes; the status tells whether all of them were there."""
    put(store, {"a": {"b": 1, "c": {"d": 2}}, "e": 3, "f": 4})
    done = redicts("del", "a.c", "e", "--store", store)
    assert (done.status, done.out, done.err) == (exits.DONE, "", "")
    assert value_at(store) == {"a": {"b": 1}, "f": 4}
    done = redicts("del", "nothing", "f", "--json", "--store", store)
    assert done.status == exits.NEGATIVE
    assert done.document == {"removed": ["f"], "missing": ["nothing"]}
    assert value_at(store) == {"a": {"b": 1}}


def test_the_root_is_not_removed_by_mistake(store: str) -> None:
    """All that is stored goes only if that is said."""
    put(store, 1, "a")
    done = redicts("del", ".", "--store", store)
    assert done.status == exits.WRONG
    assert "--everything" in done.err
    assert value_at(store) == {"a": 1}
    assert redicts("del", ".", "--everything", "--store", store).status == exits.DONE
    assert value_at(store) != {"a": 1}


def test_a_write_under_a_mandatory_lock_is_status_4(tmp_path: object) -> None:
    """With mandatory locks somebody else's lock is respected, and named."""
    from redicts import Lock

    url = f"sqlite:///{tmp_path}/state.db"
    store = json.dumps({"backend": "sqlite", "path": f"{tmp_path}/state.db", "mandatory_locks": True})
    with Lock(tree_at(url).backend, "a"):
        for arguments in (["set", "a.b", "1"], ["del", "a"]):
            done = redicts(*arguments, "--store", store)
            assert done.status == exits.LOCKED
            assert "locked is 'a'" in done.err
    assert redicts("set", "a.b", "1", "--store", store).status == exits.DONE
