"""The example script ``migrate_from_1_0.py``."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import redis

from redicts import root
from tests.migration.conftest import SMALL, same, write_as_1_0
from tests.support.ports import free_port
from tests.support.servers import RedisServer

SCRIPT = Path(__file__).parents[2] / "examples" / "migrate_from_1_0.py"
main = cast("Callable[[list[str]], int]", runpy.run_path(str(SCRIPT))["main"])


@pytest.mark.parametrize("target", ["sqlite", "in place", "prefix"])
def test_it_moves_everything(
    source: redis.Redis, redis_server: RedisServer, tmp_path: Path, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints the report, and its status says whether a key was skipped."""
    write_as_1_0(source, SMALL)
    here = f"redis://{redis_server.host}:{redis_server.port}/0"
    options = {
        "sqlite": ["--to", f"sqlite:///{tmp_path}/state.db"],
        "in place": ["--to", here, "--delete"],
        "prefix": ["--to", here, "--prefix", "new:"],
    }
    arguments = ["--from", here, *options[target]]
    assert main(arguments) == 0
    assert same(root().val(), SMALL)
    assert "7 read, 7 stored" in capsys.readouterr().out
    source.set("v:.bad", "no JSON")
    assert main(arguments) == 1
    assert "v:.bad" in capsys.readouterr().out


def test_an_error_is_one_line_without_a_password(redis_server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong arguments and failing stores are status 2."""
    there = f"redis://{redis_server.host}:{redis_server.port}/0"
    for source, target in (
        (f"redis://:secret@{redis_server.host}:{free_port()}/0", "memory://"),
        (there, there),
        ("nonsense", "memory://"),
        ("redis://:secret/half@host", "memory://"),
    ):
        assert main(["--from", source, "--to", target]) == 2
        text = capsys.readouterr().err
        assert text.count("\n") == 1
        assert "secret" not in text
        assert (source != there) or ("delete" in text)
