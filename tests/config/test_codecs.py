"""Codecs as the settings choose them, on every store."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from redicts import BadSignature, CodecRefused, CodecUnknown, Pool, root
from redicts.core.minitransaction import Key, Put, Transaction
from tests.support.stores import Store

KEY = "a key of sixteen bytes or more"
PICKLE = {"name": "pickle", "keys": [KEY]}


def test_the_configured_codec_writes(any_store: Store) -> None:
    """A value that JSON does not know comes back unchanged if the configured codec knows it; counting works too."""
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    any_store.reload(codec="msgpack")
    root().set("event", {"at": at, "seats": (3, 4), "count": 5})
    root().get("event.count").add(2)
    assert root().val() == {"event": {"at": at, "seats": (3, 4), "count": 7}}


@pytest.fixture(params=["sqlite", "redis"])
def lasting(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Return the configuration of a store whose values outlive a reload of the settings."""
    if request.param == "sqlite":
        return {"backend": "sqlite", "path": str(tmp_path / "tree.db")}
    server = request.getfixturevalue("start_redis")()
    return {"backend": "redis", "host": server.host, "port": server.port}


@pytest.mark.usefixtures("redis_executable")
def test_a_tree_holds_values_of_several_codecs(lasting: dict[str, Any]) -> None:
    """Each leaf is read by the codec that wrote it if the settings accept that codec."""
    Pool().reload(cfg=lasting)
    root().set("text", "by json")
    Pool().reload(cfg={**lasting, "codec": PICKLE})
    root().set("set", {1, 2})
    Pool().reload(cfg={**lasting, "codec": "msgpack", "accept": ["json", PICKLE]})
    root().set("bytes", b"by msgpack")
    assert root().val() == {"text": "by json", "set": {1, 2}, "bytes": b"by msgpack"}


@pytest.mark.usefixtures("redis_executable")
def test_a_codec_that_is_not_accepted_is_refused(lasting: dict[str, Any]) -> None:
    """The error names the path, the codec that wrote there, and the setting; a wrong key is a different error."""
    Pool().reload(cfg={**lasting, "codec": PICKLE})
    root().set("a", {"set": {1, 2}, "text": "x"})
    Pool().reload(cfg=lasting)
    with pytest.raises(CodecRefused, match=r"(?s)'a\.set'.*pickle.*accept"):
        root().get("a.set").val()
    Pool().reload(cfg={**lasting, "accept": [{"name": "pickle", "keys": ["another key of sixteen bytes"]}]})
    with pytest.raises(BadSignature, match=r"'a\.set'"):
        root().get("a.set").val()


def test_a_codec_that_is_not_installed_has_its_own_error(any_store: Store) -> None:
    """Reading a leaf of a codec that no distribution offers raises CodecUnknown, not CodecRefused."""
    Pool().database().backend.execute(Transaction(writes=(Put(Key("v", ("a",)), b"\x04cobol 1\nx"),)))
    with pytest.raises(CodecUnknown, match=r"(?s)'a'.*cobol"):
        root().get("a").val()


@pytest.mark.parametrize("codec", ["json", "models", "msgpack", PICKLE], ids=["json", "models", "msgpack", "pickle"])
def test_every_operation_works_with_every_codec(any_store: Store, codec: Any) -> None:
    """Setting, merging, counting, comparing and changing work with every codec."""
    any_store.reload(codec=codec)
    node = root().get("a")
    node.set("b", {"n": 1, "empty": {}, "text": "x"})
    node.update({"b": {"n": 2, "empty": {}}})
    assert node.get("b.n").add(3) == 5
    assert node.get("b.text").compare_and_set("x", "y")
    node.get("b.list").update_with(lambda found: [*found, 1], default=[])
    assert node.val() == {"b": {"n": 5, "empty": {}, "text": "y", "list": [1]}}
