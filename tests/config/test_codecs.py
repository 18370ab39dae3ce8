"""Codecs as users choose them: by the settings, on every store."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from redicts import BadSignature, CodecRefused, CodecUnknown, Pool, root
from redicts.core.minitransaction import Key, Put, Transaction
from tests.support.stores import Store

KEY = "a key of sixteen bytes or more"
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)

PICKLE = {"name": "pickle", "keys": [KEY]}


def test_the_chosen_codec_writes(any_store: Store) -> None:
    """What JSON does not know comes back as it was, if the chosen codec knows it; and it still counts."""
    any_store.reload(codec="msgpack")
    root().set("event", {"at": MOMENT, "seats": (3, 4), "count": 5})
    root().get("event.count").add(2)
    assert root().val() == {"event": {"at": MOMENT, "seats": (3, 4), "count": 7}}


@pytest.fixture(params=["sqlite", "redis"])
def lasting(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Configure a store whose values outlive a reload of the settings."""
    if request.param == "sqlite":
        return {"backend": "sqlite", "path": str(tmp_path / "tree.db")}
    server = request.getfixturevalue("start_redis")()
    return {"backend": "redis", "host": server.host, "port": server.port}


@pytest.mark.usefixtures("redis_executable")
def test_a_tree_holds_several_codecs(lasting: dict[str, Any]) -> None:
    """Each leaf is read by the codec that wrote it, as long as the settings accept that one."""
    Pool().reload(cfg=lasting)
    root().set("text", "by json")
    Pool().reload(cfg={**lasting, "codec": PICKLE})
    root().set("set", {1, 2})
    Pool().reload(cfg={**lasting, "codec": "msgpack", "accept": ["json", PICKLE]})
    root().set("bytes", b"by msgpack")
    assert root().val() == {"text": "by json", "set": {1, 2}, "bytes": b"by msgpack"}


@pytest.mark.usefixtures("redis_executable")
def test_what_the_settings_do_not_accept_is_refused(lasting: dict[str, Any]) -> None:
    """The error names the place, the codec that wrote there, and the setting; a wrong key is another error."""
    Pool().reload(cfg={**lasting, "codec": PICKLE})
    root().set("a", {"set": {1, 2}, "text": "x"})
    Pool().reload(cfg=lasting)
    with pytest.raises(CodecRefused, match=r"(?s)'a\.set'.*pickle.*accept"):
        root().get("a.set").val()
    Pool().reload(cfg={**lasting, "accept": [{"name": "pickle", "keys": ["another key of sixteen bytes"]}]})
    with pytest.raises(BadSignature, match=r"'a\.set'"):
        root().get("a.set").val()


def test_a_codec_that_nobody_offers_is_told_apart(any_store: Store) -> None:
    """A leaf of a codec that is not installed is another error than one that is not accepted."""
    Pool().database().backend.execute(Transaction(writes=(Put(Key("v", ("a",)), b"\x04cobol 1\nx"),)))
    with pytest.raises(CodecUnknown, match=r"(?s)'a'.*cobol"):
        root().get("a").val()


@pytest.mark.parametrize("codec", ["json", "models", "msgpack", PICKLE], ids=["json", "models", "msgpack", "pickle"])
def test_every_codec_does_what_a_tree_does(any_store: Store, codec: Any) -> None:
    """Setting, merging, counting, comparing and changing work under every codec."""
    any_store.reload(codec=codec)
    place = root().get("a")
    place.set("b", {"n": 1, "empty": {}, "text": "x"})
    place.update({"b": {"n": 2, "empty": {}}})
    assert place.get("b.n").add(3) == 5
    assert place.get("b.text").compare_and_set("x", "y")
    place.get("b.list").update_with(lambda found: [*found, 1], default=[])
    assert place.val() == {"b": {"n": 5, "empty": {}, "text": "y", "list": [1]}}
