"""``export`` and ``import``: files, pipes, input that is cut off, and runs that were interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from redicts import Packed
from redicts.cli import exits
from tests.cli.conftest import MANY, checkpoints_in, leaves_in, put, put_raw, ttl_at, value_at
from tests.cli.running import redicts, running, stop_after
from tests.support.proxy import FaultyProxy
from tests.support.servers import RedisServer
from tests.support.waiting import eventually

SHOWN = {"a": {"b": 1, "c": ["x", None]}, "dot.ted": {"star*": "h\u00e9"}, "empty": {}}
HEAD = {"redicts": "leaves", "version": 1}


def parsed(text: str) -> list[Any]:
    """Return the content of lines."""
    return [json.loads(line) for line in text.splitlines()]


def lines_of(*content: object) -> str:
    """Return lines."""
    return "".join(f"{json.dumps(line)}\n" for line in content)


def numbered(count: int) -> list[object]:
    """Return the content of an input with so many leaves, without its last line."""
    return [HEAD, *[{"path": [f"name{number:05}"], "value": number} for number in range(count)]]


def all_lines(count: int) -> str:
    """Return an input with so many leaves."""
    return lines_of(*numbered(count), {"end": True, "leaves": count})


def test_lines_preserve_a_tree(store: str, other_url: str) -> None:
    """An import of exported lines has the same values, TTLs and packed dicts."""
    put(store, SHOWN)
    put(store, Packed({"b": 1}), "packed")
    put(store, 2, "mortal", ttl=600_000)
    exported = redicts("export", "--store", store)
    assert (exported.status, exported.err) == (exits.DONE, "")
    first, *leaves, last = parsed(exported.out)
    assert (first, last) == (HEAD, {"end": True, "leaves": 6})
    (mortal,) = [line for line in leaves if line["path"] == ["mortal"]]
    assert 0 < mortal["ttl"] <= 600_000
    done = redicts("import", "-", "--json", "--store", other_url, stdin=exported.out)
    assert done.status == exits.DONE
    assert done.document == {"path": "", "lines": 8, "leaves": 6, "resumed": 0, "stored": 6, "complete": True}
    assert leaves_in(other_url) == leaves_in(store)
    assert ttl_at(other_url, "mortal") is not None
    assert ttl_at(other_url, "a") is None


def test_a_part_is_imported_at_another_path(file_url: str) -> None:
    """Paths in the lines are relative, so a subtree can be imported at any path, and the rest stays."""
    put(file_url, {"a": {"b": {"c": 1}}, "x": 2})
    exported = redicts("export", "a.b", "--store", file_url).out
    assert redicts("import", "-", "new.node", "--store", file_url, stdin=exported).status == exits.DONE
    assert value_at(file_url) == {"a": {"b": {"c": 1}}, "x": 2, "new": {"node": {"c": 1}}}


def test_json_documents_preserve_values(file_url: str, other_url: str, tmp_path: Path) -> None:
    """``--format json``, or a file name that ends so, has the tree as one document."""
    put(file_url, SHOWN)
    file = tmp_path / "out.json"
    done = redicts("export", "-o", file, "--json", "--store", file_url)
    counts = {"leaves": 4, "resumed": 0, "damaged": []}
    assert done.document == {"path": "", "output": str(file), "format": "json", **counts}
    assert json.loads(file.read_text(encoding="utf-8")) == SHOWN
    assert json.loads(redicts("export", "--format", "json", "--store", file_url).out) == SHOWN
    assert redicts("import", file, "--store", other_url).status == exits.DONE
    assert value_at(other_url) == SHOWN
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("out")] == ["out.json"]


def test_bytes_that_cannot_be_read_are_exported(file_url: str) -> None:
    """A leaf that the settings cannot decode is exported as stored and named, and the status is 1."""
    put(file_url, 1, "a")
    put_raw(file_url, "odd")
    done = redicts("export", "--store", file_url)
    assert done.status == exits.NEGATIVE
    assert "'odd'" in done.err
    assert {"path": ["odd"], "base64": "AP8="} in parsed(done.out)


def test_an_export_of_nothing_is_status_1(store: str) -> None:
    """It has the first line and the last one."""
    done = redicts("export", "nothing", "--store", store)
    assert done.status == exits.NEGATIVE
    assert parsed(done.out) == [HEAD, {"end": True, "leaves": 0}]
    assert done.err == "redicts: nothing is stored at 'nothing'\n"


def test_an_export_to_a_directory_is_refused(file_url: str, tmp_path: Path) -> None:
    """It writes nothing next to it either."""
    put(file_url, 1, "a")
    (tmp_path / "directory").mkdir()
    before = sorted(tmp_path.iterdir())
    done = redicts("export", "-o", tmp_path / "directory", "-s", file_url)
    assert (done.status, done.out) == (exits.WRONG, "")
    assert "must name a file" in done.err
    assert sorted(tmp_path.iterdir()) == before


def test_an_interrupted_export_is_continued(
    server: RedisServer, redis_url: str, other_url: str, tmp_path: Path
) -> None:
    """A killed export leaves no file of that name, and the same command continues it."""
    put(redis_url, MANY)
    file, part = tmp_path / "out.jsonl", tmp_path / "out.jsonl.part"
    with FaultyProxy(server.port) as proxy:
        url = f"redis://{proxy.host}:{proxy.port}/0"
        stop_after(2, proxy, "kill", "export", "-o", file, "--store", url)
        assert not file.exists()
        assert part.exists()
        done = redicts("export", "-o", file, "--json", "--store", url)
    assert done.status == exits.DONE
    assert done.document["leaves"] == 5000
    assert done.document["resumed"] > 0
    assert not part.exists()
    assert redicts("import", file, "--store", other_url).status == exits.DONE
    assert value_at(other_url) == MANY


def test_half_a_line_at_the_end_of_a_part_is_cut_off(file_url: str, tmp_path: Path) -> None:
    """The incomplete line that a crash leaves is written again."""
    put(file_url, MANY)
    file, part = tmp_path / "out.jsonl", tmp_path / "out.jsonl.part"
    redicts("export", "-o", file, "--store", file_url)
    whole = file.read_bytes()
    second = whole.index(b'{"cursor": {"at"', whole.index(b'{"cursor": {"at"') + 1)
    part.write_bytes(whole[: whole.index(b"\n", second) + 1] + b'{"path":["di')
    file.unlink()
    assert redicts("export", "-o", file, "--json", "--store", file_url).document["resumed"] == 2000
    assert file.read_bytes() == whole


@pytest.mark.parametrize("end", ["kill", "interrupt"])
def test_an_interrupted_import_is_continued(store: str, end: str) -> None:
    """It leaves whole batches and nothing else, and the same command continues it."""
    with running("import", "-", "--batch", "100", "--store", store) as command:
        command.stdin.write(lines_of(*numbered(1050)).encode())
        command.stdin.flush()
        eventually(lambda: [state.get("done") for state in checkpoints_in(store)] == [1000], "10 batches")
        getattr(command, end)()
    assert len(leaves_in(store)) == 1000
    done = redicts("import", "-", "--json", "--store", store, stdin=all_lines(3000))
    assert done.status == exits.DONE
    assert (done.document["resumed"], done.document["stored"]) == (1000, 2000)
    assert value_at(store) == {f"name{number:05}": number for number in range(3000)}
    assert checkpoints_in(store) == []


def test_an_import_of_other_lines_is_not_continued(file_url: str) -> None:
    """If the lines before the checkpoint differ from those of the earlier run, the import is refused."""
    wrong = all_lines(500).replace('{"end"', '{"dne"')
    assert redicts("import", "-", "--batch", "100", "--store", file_url, stdin=wrong).status == exits.WRONG
    changed = all_lines(500).replace('"value": 7}', '"value": 8}')
    done = redicts("import", "-", "--store", file_url, stdin=changed)
    assert done.status == exits.WRONG
    assert "must be those of the earlier, interrupted run" in done.err
    assert redicts("import", "-", "--restart", "--store", file_url, stdin=changed).status == exits.DONE
    assert value_at(file_url)["name00007"] == 8


def test_input_that_was_cut_off_is_status_1(file_url: str) -> None:
    """Without its last line an input is incomplete: its leaves are stored, and the status is 1."""
    done = redicts("import", "-", "--json", "--store", file_url, stdin=lines_of(*numbered(10)))
    assert done.status == exits.NEGATIVE
    assert (done.document["leaves"], done.document["complete"]) == (10, False)


WRONG_LINES = {
    "not JSON": '{"path": ["x"]',
    "not an object": "[1]",
    "no value": '{"path": ["x"]}',
    "two values": '{"path": ["x"], "value": 1, "base64": "MQ=="}',
    "an unknown key": '{"path": ["x"], "value": 1, "expire": 3}',
    "a path that is text": '{"path": "x.y", "value": 1}',
    "an empty name": '{"path": ["x", ""], "value": 1}',
    "the root": '{"path": [], "value": 1}',
    "a TTL of 0": '{"path": ["x"], "value": 1, "ttl": 0}',
    "a TTL that is a fraction": '{"path": ["x"], "value": 1, "ttl": 1.5}',
    "wrong base64": '{"path": ["x"], "base64": "%"}',
    "base64 that is not ASCII": '{"path": ["x"], "base64": "\u00e9"}',
    "a name that comes twice": '{"path": ["x"], "value": {"a": 1, "a": 2}}',
    "a later version": '{"redicts": "leaves", "version": 2}',
    "another count": '{"end": true, "leaves": 7}',
}


@pytest.mark.parametrize("line", WRONG_LINES.values(), ids=WRONG_LINES)
def test_a_wrong_line_is_named_and_its_batch_is_not_stored(file_url: str, line: str) -> None:
    """The error has the number of the line."""
    text = lines_of(HEAD, {"path": ["a"], "value": 1}) + line + "\n"
    done = redicts("import", "-", "--store", file_url, stdin=text)
    assert (done.status, done.out, done.err.count("\n")) == (exits.WRONG, "", 1)
    assert "line 3" in done.err
    assert "nothing is stored" in done.err
    assert leaves_in(file_url) == {}


def test_the_later_of_two_conflicting_lines_wins(file_url: str) -> None:
    """Each line acts as a ``set`` of its own, also within one batch."""
    leaves = [(["a"], 1), (["a", "b"], 2), (["x", "y"], 3), (["x"], 4), (["z"], 5), (["z"], 6)]
    text = lines_of(HEAD, *[{"path": path, "value": value} for path, value in leaves], {"end": True, "leaves": 6})
    assert redicts("import", "-", "--store", file_url, stdin=text).status == exits.DONE
    assert value_at(file_url) == {"a": {"b": 2}, "x": 4, "z": 6}


def test_files_that_cannot_be_used(file_url: str, tmp_path: Path) -> None:
    """A missing file or directory is status 3; two outputs for one stream, or no valid JSON, are wrong use."""
    put(file_url, 1, "a")
    done = redicts("import", tmp_path / "none.jsonl", "--store", file_url)
    assert done.status == exits.FAILED
    assert "none.jsonl" in done.err
    done = redicts("export", "-o", tmp_path / "none" / "x", "--store", file_url)
    assert (done.status, done.err.count("\n")) == (exits.FAILED, 1)
    assert redicts("export", "--json", "--store", file_url).status == exits.WRONG
    for text, status in (
        ("{", exits.NEGATIVE),
        ('{"a": x}', exits.WRONG),
        ("[1]", exits.WRONG),
    ):  # the first is cut off
        assert redicts("import", "-", "--format", "json", "--store", file_url, stdin=text).status == status
