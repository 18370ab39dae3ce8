"""What the settings of the SQLite backend do: durability, and the warning about network file systems."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from pydantic import ValidationError

from redicts.backends.sqlite import SqliteSettings, files, mounts, plugin
from redicts.backends.sqlite.backend import SqliteBackend
from redicts.backends.sqlite.files import Durability
from redicts.core.minitransaction import Put
from tests.backends.sqlite_tools import key, plain, run

MOUNTS = r"""21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 21 0:40 / /home rw shared:7 - nfs4 server:/home rw,vers=4.2
31 30 254:3 / /home/local rw - xfs /dev/vdb rw
32 21 0:41 / /mnt/with\040blank rw - cifs //server/share rw
33 21 0:42 / /mnt/ssh rw - fuse.sshfs me@server: rw
34 21 0:43 / /over rw - nfs server:/over rw
35 34 254:4 / /over rw - ext4 /dev/vdc rw
"""


@pytest.mark.parametrize(("level", "synchronous"), [("none", 0), ("process", 1), ("machine", 2)])
def test_durability_is_what_sqlite_is_told(level: str, synchronous: int, tmp_path: Path) -> None:
    """Each level is one of SQLite's, on every connection; it may stand in the URL."""
    fields = SqliteSettings.fields_of_url(f"sqlite:///{tmp_path}/s.db?durability={level}")
    backend = plugin.open(SqliteSettings.model_validate(fields), 0)
    assert isinstance(backend, SqliteBackend)
    found = backend._connections.run(lambda cursor, name: cursor.execute(name).fetchone(), "PRAGMA synchronous")
    assert found == (synchronous,)
    run(backend, Put(key("a"), b"1"))
    backend.close()


@pytest.mark.parametrize(("level", "synchronous"), [("none", 0), ("process", 2), ("machine", 3)])
def test_without_a_log_it_takes_more(
    level: str, synchronous: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there can be no write-ahead log, each level is one step higher, as it promises the same."""
    opened = plain(tmp_path / "s.db")

    class NoLog:
        def execute(self, text: str) -> object:
            return opened.execute(text.replace("journal_mode = WAL", "journal_mode = DELETE"))

    files._log_ahead(NoLog(), Durability(level))  # type: ignore[arg-type]
    assert opened.execute("PRAGMA synchronous").fetchone() == (synchronous,)
    opened.close()


def test_the_default_survives_processes_and_others_are_refused() -> None:
    """What is not said is ``process``; an unknown level is refused."""
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
    """The longest mount point above a path counts, and of two at the same place the later one."""
    (tmp_path / "mounts").write_text(MOUNTS)
    assert mounts.file_system_of(path, tmp_path / "mounts") == kind
    assert mounts.file_system_of(path, tmp_path / "not there") is None


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
    """The first opening of a file on a network file system logs one warning that names file and type."""
    monkeypatch.setattr(mounts, "file_system_of", lambda path: kind)
    with caplog.at_level(logging.WARNING, "redicts.sqlite"):
        for _ in range(2):
            store = SqliteBackend(str(tmp_path / "s.db"))
            run(store, Put(key("a"), b"1"))
            store.close()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == warned
    assert all("local disk" in text and kind in text and str(tmp_path / "s.db") in text for text in told)
