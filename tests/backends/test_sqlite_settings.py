"""Effects of the settings of the SQLite backend: durability, and the warning about network file systems."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from redicts.backends.sqlite import file_systems, files, plugin
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.files import Durability
from redicts.backends.sqlite.settings import SqliteSettings
from redicts.core.minitransaction import Put
from tests.backends.sqlite_tools import Opened, key, run

MOUNTS = r"""21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 21 0:40 / /home rw shared:7 - nfs4 server:/home rw,vers=4.2
31 30 254:3 / /home/local rw - xfs /dev/vdb rw
32 21 0:41 / /mnt/with\040blank rw - cifs //server/share rw
33 21 0:42 / /mnt/ssh rw - fuse.sshfs me@server: rw
34 21 0:43 / /over rw - nfs server:/over rw
35 34 254:4 / /over rw - ext4 /dev/vdc rw
"""


@pytest.mark.parametrize(("level", "synchronous"), [("none", 0), ("process", 1), ("machine", 2)])
def test_durability_sets_the_level_of_sqlite(level: str, synchronous: int, file: Path, opened: Opened) -> None:
    """Each level sets the one of SQLite that implements it; a URL may name it."""
    fields = SqliteSettings.fields_of_url(f"sqlite:///{file}?durability={level}")
    backend = plugin.open(SqliteSettings.model_validate(fields), 0)
    run(backend, Put(key("a"), b"1"))
    assert [each.execute("PRAGMA synchronous").fetchone() for each in opened.connections] == [(synchronous,)]
    backend.close()


@pytest.mark.parametrize(("level", "synchronous"), [("none", 0), ("process", 2), ("machine", 3)])
def test_without_a_log_the_level_is_higher(
    level: str, synchronous: int, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a write-ahead log is impossible, each level is one step higher, so that it guarantees the same."""

    class NoLog(sqlite3.Connection):
        def execute(self, text: str, *given: Any) -> sqlite3.Cursor:
            return super().execute(text.replace("journal_mode = WAL", "journal_mode = DELETE"), *given)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, factory=NoLog, **named))
    connection = files.open_store(str(file), Durability(level))
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (synchronous,)
    connection.close()


def test_the_default_durability_is_process() -> None:
    """The default is ``process``; an unknown level is refused."""
    assert SqliteSettings(path="s.db").durability is Durability.PROCESS
    with pytest.raises(ValidationError):
        SqliteSettings.model_validate({"path": "s.db", "durability": "some"})


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/s.db", "nfs4"),
        ("/home/local/s.db", "xfs"),
        ("/homes/s.db", "ext4"),
        ("/mnt/with blank/s.db", "cifs"),
        ("/mnt/ssh/deep/down/s.db", "fuse.sshfs"),
        ("/over/s.db", "ext4"),
        ("/s.db", "ext4"),
    ],
)
def test_the_file_system_of_a_path_is_found(path: str, kind: str, tmp_path: Path) -> None:
    """The longest mount point above a path counts, and of two at the same point the later one."""
    (tmp_path / "mounts").write_text(MOUNTS)
    assert file_systems.file_system_of(path, tmp_path / "mounts") == kind
    assert file_systems.file_system_of(path, tmp_path / "not there") is None


@pytest.mark.parametrize(
    ("kind", "warned"),
    [
        ("nfs", True),
        ("nfs4", True),
        ("cifs", True),
        ("fuse.sshfs", True),
        ("9p", True),
        ("ext4", False),
        ("tmpfs", False),
    ],
)
def test_a_network_file_system_is_warned_of_once(
    kind: str, warned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first time that a file on a network file system is opened, one warning names the file and the type."""
    monkeypatch.setattr(file_systems, "file_system_of", lambda path: kind)
    with caplog.at_level(logging.WARNING, "redicts.sqlite"):
        for _ in range(2):
            store = SqliteBackend(str(tmp_path / "s.db"))
            run(store, Put(key("a"), b"1"))
            store.close()
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == warned
    assert all("local disk" in text and kind in text and str(tmp_path / "s.db") in text for text in messages)
