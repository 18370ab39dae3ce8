"""``add``, ``merge``, ``ttl``, ``expire``, ``cp``, ``mv``, ``ls``, ``stats`` and ``get`` with several paths."""

from __future__ import annotations

import json

import pytest

from redicts.cli import exits
from tests.cli.conftest import InProcess, leaves_in, put, put_raw, ttl_at, value_at
from tests.cli.running import redicts


def test_a_number_is_added_to(store: str) -> None:
    """``add`` prints the sum, of integers and of floats, and its amount may be negative."""
    for arguments, total in (([], "1"), (["4"], "5"), (["-7"], "-2"), (["-0.5"], "-2.5"), (["-5", "--json"], "-7.5")):
        done = redicts("add", "n", *arguments, "--store", store)
        assert done.status == exits.DONE, done
        printed = done.out if "--json" not in arguments else json.dumps(done.document["value"])
        assert printed.strip() == total


def test_a_value_may_be_a_negative_number(file_url: str, in_process: InProcess) -> None:
    """``set x -5`` needs no ``--``, and an option that does not exist is still refused."""
    assert in_process("set", "x", "-5", "-s", file_url).status == exits.DONE
    assert in_process("set", "y", "-1.5e3", "--expire", "60", "-s", file_url).status == exits.DONE
    assert value_at(file_url) == {"x": -5, "y": -1500.0}
    for arguments in (["x", "5", "--exprie", "3"], ["x", "-5", "--exprie", "3"], ["x", "-y"]):
        assert in_process("set", *arguments, "-s", file_url).status == exits.WRONG
    assert value_at(file_url) == {"x": -5, "y": -1500.0}


@pytest.mark.parametrize("amount", ["x", "nan", "inf", "1e400"])
def test_an_amount_is_a_finite_number(file_url: str, in_process: InProcess, amount: str) -> None:
    """Anything else is wrong use, and changes nothing."""
    done = in_process("add", "n", amount, "--store", file_url)
    assert (done.status, done.out) == (exits.WRONG, "")
    assert "finite number" in done.err


def test_a_dict_is_merged(file_url: str, in_process: InProcess) -> None:
    """``merge`` keeps other leaves, takes the standard input, and asks before it replaces many."""
    many = {f"n{number}": number for number in range(30)}
    put(file_url, {"a": {"b": 1, "c": 2}, "many": many})
    assert in_process("merge", "a", '{"c": 3, "d": {"e": 4}}', "-s", file_url).status == exits.DONE
    assert value_at(file_url)["a"] == {"b": 1, "c": 3, "d": {"e": 4}}
    assert in_process("merge", "a", "-", "--expire", "60", "-s", file_url, stdin='{"f": 5}').status == exits.DONE
    assert 0 < (ttl_at(file_url, "a", "f") or 0) <= 60_000
    done = in_process("merge", "many", json.dumps(dict.fromkeys(many, "new")), "-s", file_url)
    assert (done.status, "pass --yes" in done.err) == (exits.WRONG, True)
    assert value_at(file_url)["many"] == many
    done = in_process("merge", "a", "[1]", "-s", file_url)
    assert (done.status, "JSON object" in done.err) == (exits.WRONG, True)


def test_a_ttl_is_shown_and_set(store: str) -> None:
    """``ttl`` prints seconds or "no expiry", and ``expire`` sets and removes them."""
    put(store, {"a": 1})
    assert redicts("ttl", "a", "-s", store).out == "no expiry\n"
    assert redicts("expire", "a", "100", "-s", store).status == exits.DONE
    assert 90 < float(redicts("ttl", "a", "-s", store).out) <= 100
    assert redicts("expire", "a", "never", "-s", store).status == exits.DONE
    assert redicts("ttl", "a", "--json", "-s", store).document == {"path": "a", "found": True, "ttl": None}


def test_the_ttl_of_nothing_is_status_1(file_url: str, in_process: InProcess) -> None:
    """Neither command finds a value; a TTL of 0, of less or of text is wrong use."""
    put(file_url, 1, "b")
    for arguments in (["ttl", "a"], ["expire", "a", "5"]):
        done = in_process(*arguments, "-s", file_url)
        assert (done.status, done.err) == (exits.NEGATIVE, "redicts: nothing is stored at 'a'\n")
    for seconds in ("0", "-1", "soon", "nan"):
        done = in_process("expire", "b", seconds, "-s", file_url)
        assert (done.status, done.err.count("\n")) == (exits.WRONG, 1)
    assert ttl_at(file_url, "b") is None


@pytest.mark.parametrize("command", ["cp", "mv"])
def test_a_subtree_is_copied_and_moved(store: str, command: str) -> None:
    """The target is replaced atomically, with TTLs and bytes that cannot be read here."""
    put(store, {"a": {"b": 1, "c": {"d": 2}}, "old": {"x": 1}})
    put(store, 3, "a", "e", ttl=600_000)
    put_raw(store, "a", "raw")
    done = redicts(command, "a", "old", "--json", "-s", store)
    assert (done.status, done.document) == (exits.DONE, {"source": "a", "target": "old", "leaves": 4})
    leaves = leaves_in(store)
    moved = {path[1:]: data for path, data in leaves.items() if path[0] == "old"}
    assert moved == {("b",): b"1", ("c", "d"): b"2", ("e",): b"3", ("raw",): b"\x00\xff"}
    assert 0 < (ttl_at(store, "old", "e") or 0) <= 600_000
    assert any(path[0] == "a" for path in leaves) is (command == "cp")


def test_a_move_asks_before_it_replaces_much(file_url: str, in_process: InProcess) -> None:
    """And it refuses overlapping paths and the root, and a source that is not there changes nothing."""
    put(file_url, {"a": 1, "many": {f"n{number}": number for number in range(30)}})
    before = leaves_in(file_url)
    done = in_process("mv", "a", "many", "-s", file_url)
    assert (done.status, "pass --yes" in done.err) == (exits.WRONG, True)
    for arguments in (["mv", "many", "many.n1"], ["cp", "a", "."], ["mv", ".", "a"]):
        assert in_process(*arguments, "-s", file_url).status == exits.WRONG
    assert in_process("mv", "none", "many", "-s", file_url).status == exits.NEGATIVE
    assert leaves_in(file_url) == before
    assert in_process("mv", "a", "many", "--yes", "-s", file_url).status == exits.DONE
    assert value_at(file_url) == {"many": 1}


def test_more_than_the_store_changes_at_once_is_refused(redis_url: str, in_process: InProcess) -> None:
    """The error names the command that copies in batches, and nothing is changed."""
    put(redis_url, {"a": {f"n{number}": number for number in range(6000)}})
    done = in_process("mv", "a", "b", "-s", redis_url)
    assert (done.status, done.err.count("\n")) == (exits.WRONG, 1)
    assert "use redicts copy" in done.err
    assert in_process("get", "b", "-s", redis_url).status == exits.NEGATIVE


def test_names_are_listed(store: str) -> None:
    """``ls`` prints the names directly below a path as a path has them, and with ``-l`` their totals."""
    put(store, {"a": {"b": 1, "c": 2}, "www.example.org": "text"})
    put(store, 1, "ticket", ttl=600_000)
    assert redicts("ls", "-s", store).out == "a\nticket\nwww\\.example\\.org\n"
    rows = [line.split() for line in redicts("ls", "-l", "-s", store).out.splitlines()]
    assert rows[0] == ["leaves", "bytes", "expiry", "name"]
    assert rows[1] == ["2", "2", "B", "no", "expiry", "a"]
    assert (rows[2][:3], rows[2][-1]) == (["1", "1", "B"], "ticket")
    (first, *_) = redicts("ls", "-l", "--json", "-s", store).document["names"]
    assert first == {"name": "a", "leaves": 2, "bytes": 2, "ttls": 0, "next_expiry": None}
    assert redicts("ls", "a.b", "-s", store).status == exits.NEGATIVE


def test_totals_are_printed(file_url: str, in_process: InProcess) -> None:
    """``stats`` counts leaves, bytes, TTLs and codecs, and lists the largest subtrees."""
    put(file_url, {"a": {"b": {"c": "x" * 100, "d": 1}, "e": 2}, "f": 3})
    put(file_url, 1, "t", ttl=600_000)
    put_raw(file_url, "raw", data=b"\x04pickle 1\nx")
    document = in_process("stats", "--json", "-s", file_url).document
    assert (document["leaves"], document["ttls"], document["codecs"]) == (6, 1, {"json": 5, "pickle": 1})
    assert document["largest_leaf"] == {"path": "a.b.c", "bytes": 102}
    subtrees = [(each["path"], each["leaves"], each["bytes"]) for each in document["subtrees"]]
    assert subtrees == [("a", 3, 104), ("a.b", 2, 103)]
    text = in_process("stats", "-s", file_url).out
    assert "largest leaf  a.b.c, 102 B" in text
    assert "largest subtrees\nleaves  bytes  path\n3       104 B  a\n" in text
    assert in_process("stats", "x", "-s", file_url).status == exits.NEGATIVE


def test_several_values_are_printed_line_by_line(file_url: str, in_process: InProcess) -> None:
    """``get`` takes several paths; the status is 1 if one of them has no value."""
    put(file_url, {"a": {"b": 1}, "c": "text"})
    done = in_process("get", "a", "c", "-s", file_url)
    assert (done.status, done.out) == (exits.DONE, '{"b":1}\n"text"\n')
    done = in_process("get", "c", "none", "a.b", "--json", "-s", file_url)
    assert done.status == exits.NEGATIVE
    assert [each["found"] for each in done.document["values"]] == [True, False, True]
    done = in_process("get", "none", "a.b", "-s", file_url)
    assert (done.status, done.out, done.err) == (exits.NEGATIVE, "1\n", "redicts: nothing is stored at 'none'\n")


def test_the_store_may_be_named_before_the_command(file_url: str, other_url: str, in_process: InProcess) -> None:
    """The option after the name of the command wins, and the name of a file is answered with its URL."""
    put(file_url, 1, "a")
    put(other_url, 2, "a")
    assert in_process("-s", file_url, "get", "a").out == "1\n"
    assert in_process("--store", file_url, "get", "a", "-s", other_url).out == "2\n"
    done = in_process("-s", "state.db", "get", "a")
    assert (done.status, done.err.count("\n")) == (exits.WRONG, 1)
    assert "write sqlite:///state.db" in done.err
