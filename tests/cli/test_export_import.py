"""``export`` and ``import``: files, pipes, what is cut off, and runs that were killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redicts.cli import exits
from redicts.core.minitransaction import VALUES, Key, Put, Transaction
from redicts.transfer.checkpoints import unfinished
from tests.cli.conftest import put, tree_at, value_at
from tests.cli.running import Running, redicts
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisServer
from tests.support.waiting import eventually

SHOWN = {"a": {"b": 1, "c": ["x", None]}, "dot.ted": {"star*": "h\u00e9"}, "empty": {}}
MANY = {f"dict{one:02}": {f"name{two:03}": two for two in range(100)} for one in range(50)}


def lines(text: str) -> list[dict[str, object]]:
    """Return what the lines say."""
    return [json.loads(line) for line in text.splitlines()]


def test_a_tree_goes_out_and_comes_back(store: str, tmp_path: Path) -> None:
    """What was exported as lines is equal when it was imported elsewhere, with TTLs."""
    put(store, SHOWN)
    put(store, 2, "mortal", ttl=600_000)
    exported = redicts("export", "--store", store)
    assert (exported.status, exported.err) == (exits.DONE, "")
    first, *leaves, last = lines(exported.out)
    assert first == {"redicts": "leaves", "version": 1}
    assert last == {"end": True, "leaves": 5}
    (mortal,) = [line for line in leaves if line["path"] == ["mortal"]]
    assert isinstance(mortal["ttl"], int)
    assert 0 < mortal["ttl"] <= 600_000
    other = f"sqlite:///{tmp_path}/other.db"
    done = redicts("import", "-", "--json", "--store", other, stdin=exported.out)
    assert done.status == exits.DONE
    assert done.document == {"path": "", "lines": 7, "leaves": 5, "resumed": 0, "stored": 5, "complete": True}
    assert value_at(other) == {**SHOWN, "mortal": 2}
    tree = tree_at(other)
    assert tree.run(tree.store.ttl(("mortal",))) is not None
    assert tree.run(tree.store.ttl(("a",))) is None


def test_a_packed_dict_stays_packed(file_url: str, tmp_path: Path) -> None:
    """Lines keep what the JSON of a whole tree cannot tell apart: one leaf, or a dict of leaves."""
    from redicts import Packed

    put(file_url, Packed({"b": 1}), "packed")
    put(file_url, {"b": 1}, "dict")
    other = f"sqlite:///{tmp_path}/other.db"
    redicts("import", "-", "--store", other, stdin=redicts("export", "--store", file_url).out)
    tree = tree_at(other)
    assert set(tree.run(tree.store.leaves(()))) == {("packed",), ("dict", "b")}


def test_a_part_goes_elsewhere(file_url: str, tmp_path: Path) -> None:
    """Paths in the lines are relative, so a subtree is imported at any place, and the rest stays."""
    put(file_url, {"a": {"b": {"c": 1}}, "x": 2})
    put(file_url, 3, "there")
    exported = redicts("export", "a.b", "--store", file_url).out
    assert redicts("import", "-", "new.place", "--store", file_url, stdin=exported).status == exits.DONE
    assert value_at(file_url) == {"a": {"b": {"c": 1}}, "x": 2, "there": 3, "new": {"place": {"c": 1}}}


def test_json_documents_go_out_and_come_back(file_url: str, tmp_path: Path) -> None:
    """``--format json``, or a file of that name, is the tree as one document."""
    put(file_url, SHOWN)
    file = tmp_path / "out.json"
    done = redicts("export", "-o", file, "--json", "--store", file_url)
    assert done.document == {
        "path": "",
        "output": str(file),
        "format": "json",
        "leaves": 4,
        "resumed": 0,
        "damaged": [],
    }
    assert json.loads(file.read_text(encoding="utf-8")) == SHOWN
    assert json.loads(redicts("export", "--format", "json", "--store", file_url).out) == SHOWN
    other = f"sqlite:///{tmp_path}/other.db"
    assert redicts("import", file, "--store", other).status == exits.DONE
    assert value_at(other) == SHOWN
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("out")] == ["out.json"]


def test_bytes_that_cannot_be_read_are_kept(file_url: str, tmp_path: Path) -> None:
    """What the settings cannot decode is exported as it is stored, named, and the status is 1."""
    put(file_url, 1, "a")
    tree_at(file_url).backend.execute(Transaction(writes=(Put(Key(VALUES, ("odd",)), b"\x00\xff"),)))
    done = redicts("export", "--store", file_url)
    assert done.status == exits.NEGATIVE
    assert "'odd'" in done.err
    assert {"path": ["odd"], "base64": "AP8="} in lines(done.out)


def test_a_file_appears_when_it_is_complete(server: RedisServer, redis_url: str, tmp_path: Path) -> None:
    """An export that was killed leaves no file of that name, and the same command goes on where it ended."""
    put(redis_url, MANY)
    file = tmp_path / "out.jsonl"
    with FaultyProxy(server.port) as proxy:
        url = f"redis://{proxy.host}:{proxy.port}/0"
        proxy.pass_requests(2)
        proxy.hold_requests()
        with Running("export", "-o", file, "--store", url) as command:
            proxy.wait_until_held()
            command.kill()
        assert not file.exists()
        assert (tmp_path / "out.jsonl.part").exists()
        proxy.release_held()
        done = redicts("export", "-o", file, "--json", "--store", url)
    assert done.status == exits.DONE
    assert done.document["leaves"] == 5000
    assert done.document["resumed"] > 0
    assert not (tmp_path / "out.jsonl.part").exists()
    other = f"sqlite:///{tmp_path}/other.db"
    assert redicts("import", file, "--store", other).status == exits.DONE
    assert value_at(other) == MANY


def test_half_a_line_at_the_end_of_a_part_is_cut(file_url: str, tmp_path: Path) -> None:
    """What a crash left in the midst of a line is not continued, but written again."""
    put(file_url, MANY)
    file, part = tmp_path / "out.jsonl", tmp_path / "out.jsonl.part"
    redicts("export", "-o", file, "--store", file_url)
    whole = file.read_bytes()
    place = whole.index(b'{"cursor": {"at"', whole.index(b'{"cursor": {"at"') + 1)
    part.write_bytes(whole[: whole.index(b"\n", place) + 1] + b'{"path":["di')
    file.unlink()
    assert redicts("export", "-o", file, "--json", "--store", file_url).document["resumed"] == 2000
    assert file.read_bytes() == whole


def feed(command: Running, count: int) -> None:
    """Give an import its first lines, and leave its input open."""
    leaves = [{"path": [f"name{number:05}"], "value": number} for number in range(count)]
    text = "".join(f"{json.dumps(line)}\n" for line in [{"redicts": "leaves", "version": 1}, *leaves])
    command.stdin.write(text.encode())
    command.stdin.flush()


def all_lines(count: int) -> str:
    """Return a whole input."""
    leaves = [{"path": [f"name{number:05}"], "value": number} for number in range(count)]
    whole = [{"redicts": "leaves", "version": 1}, *leaves, {"end": True, "leaves": count}]
    return "".join(f"{json.dumps(line)}\n" for line in whole)


@pytest.mark.parametrize("end", ["kill", "interrupt"])
def test_an_import_that_was_ended_is_continued(store: str, end: str) -> None:
    """Killed or interrupted midway it leaves whole batches and nothing else, and the same command goes on."""
    with Running("import", "-", "--batch", "100", "--store", store) as command:
        feed(command, 1050)
        eventually(lambda: [state.get("done") for state in unfinished(tree_at(store)).values()] == [1000], "10 batches")
        if end == "kill":
            command.kill()
        else:
            done = command.interrupt()
            assert (done.status, done.err) == (exits.INTERRUPTED, "redicts: interrupted\n")
    value = value_at(store)
    assert isinstance(value, dict)
    assert len(value) == 1000
    done = redicts("import", "-", "--json", "--store", store, stdin=all_lines(3000))
    assert done.status == exits.DONE
    assert (done.document["resumed"], done.document["stored"]) == (1000, 2000)
    assert value_at(store) == {f"name{number:05}": number for number in range(3000)}
    assert unfinished(tree_at(store)) == {}


def test_other_lines_do_not_go_on_from_there(file_url: str) -> None:
    """If the lines before the mark are not those of the earlier run, nothing is guessed: it says so."""
    wrong = all_lines(500).replace('{"end"', '{"dne"')
    assert redicts("import", "-", "--batch", "100", "--store", file_url, stdin=wrong).status == exits.WRONG
    changed = all_lines(500).replace('"value": 7}', '"value": 8}')
    done = redicts("import", "-", "--store", file_url, stdin=changed)
    assert done.status == exits.WRONG
    assert "not those of the earlier run" in done.err
    assert redicts("import", "-", "--restart", "--store", file_url, stdin=changed).status == exits.DONE
    value = value_at(file_url)
    assert isinstance(value, dict)
    assert value["name00007"] == 8


def test_lines_that_were_cut_off_are_told(file_url: str) -> None:
    """Without its last line an input is incomplete: what was there is stored, and the status is 1."""
    cut = all_lines(10).rsplit("\n", 2)[0] + "\n"
    done = redicts("import", "-", "--json", "--store", file_url, stdin=cut)
    assert done.status == exits.NEGATIVE
    assert (done.document["leaves"], done.document["complete"]) == (10, False)


WRONG_LINES = {
    "no JSON": '{"path": ["x"]',
    "no object": "[1]",
    "no value": '{"path": ["x"]}',
    "two values": '{"path": ["x"], "value": 1, "base64": "MQ=="}',
    "an unknown key": '{"path": ["x"], "value": 1, "expire": 3}',
    "a path that is text": '{"path": "x.y", "value": 1}',
    "an empty name": '{"path": ["x", ""], "value": 1}',
    "the root": '{"path": [], "value": 1}',
    "no TTL": '{"path": ["x"], "value": 1, "life": 0}',
    "base64 that is none": '{"path": ["x"], "base64": "%"}',
    "bytes that mean nothing here": '{"path": ["x"], "base64": "AP8="}',
    "a later version": '{"redicts": "leaves", "version": 2}',
    "another count": '{"end": true, "leaves": 7}',
}


@pytest.mark.parametrize("line", WRONG_LINES.values(), ids=WRONG_LINES)
def test_a_wrong_line_is_named_and_its_batch_is_not_stored(file_url: str, line: str) -> None:
    """The number of the line is told, and nothing of its batch is written."""
    text = '{"path": ["a"], "value": 1}\n' + line + "\n"
    done = redicts("import", "-", "--store", file_url, stdin=text)
    assert (done.status, done.out, done.err.count("\n")) == (exits.WRONG, "", 1)
    assert "line 2" in done.err
    assert value_at(file_url) is not None
    assert tree_at(file_url).run(tree_at(file_url).store.exists(())) is False


def test_a_leaf_and_what_is_below_it_follow_each_other(file_url: str) -> None:
    """Later lines win, as if each was set by itself, also within what would be one batch."""
    text = "".join(
        f"{json.dumps({'path': path, 'value': value})}\n"
        for path, value in [(["a"], 1), (["a", "b"], 2), (["x", "y"], 3), (["x"], 4), (["z"], 5), (["z"], 6)]
    )
    assert redicts("import", "-", "--store", file_url, stdin=text).status == exits.DONE
    assert value_at(file_url) == {"a": {"b": 2}, "x": 4, "z": 6}


def test_files_that_cannot_be_used_are_told(file_url: str, tmp_path: Path) -> None:
    """A file that is not there, or a directory, is status 3; JSON beside leaves on one output is wrong use."""
    put(file_url, 1, "a")
    done = redicts("import", tmp_path / "none.jsonl", "--store", file_url)
    assert done.status == exits.FAILED
    assert "none.jsonl" in done.err
    done = redicts("export", "-o", tmp_path / "none" / "x", "--store", file_url)
    assert done.status == exits.FAILED
    assert done.err.count("\n") == 1
    assert redicts("export", "--json", "--store", file_url).status == exits.WRONG
    assert redicts("import", "-", "--format", "json", "--store", file_url, stdin="{").status == exits.WRONG
    assert redicts("import", "-", "--format", "json", "--store", file_url, stdin="[1]").status == exits.WRONG


def test_an_empty_place_is_status_1(store: str) -> None:
    """An export of nothing is an empty one, and the status tells."""
    done = redicts("export", "nothing", "--store", store)
    assert done.status == exits.NEGATIVE
    assert lines(done.out) == [{"redicts": "leaves", "version": 1}, {"end": True, "leaves": 0}]
