"""The codec for CBOR, as a third-party distribution."""

from __future__ import annotations

from tests.plugins.fresh import FreshEnvironment


def test_its_own_tests_pass(fresh: FreshEnvironment) -> None:
    """The tests of the distribution pass on the installed wheel."""
    assert " passed" in fresh.run_tests("redicts-cbor")


def test_the_settings_choose_the_codec(fresh: FreshEnvironment) -> None:
    """The settings name the installed codec, and it returns what JSON cannot."""
    assert fresh.run("-c", USE).stdout.split() == ["1.10", "True"]


def test_the_command_certifies_the_codec(fresh: FreshEnvironment) -> None:
    """``redicts certify --codec`` certifies the codec by its name."""
    assert "CERTIFIED" in fresh.run("-m", "redicts", "certify", "--codec", "cbor").stdout


USE = """
from decimal import Decimal
from redicts import Pool, root

Pool().reload(cfg={"backend": "memory", "codec": "cbor"})
root().set("a", {"price": Decimal("1.10"), "colours": {"red", "blue"}})
print(root().get("a.price").val())
print(root().get("a.colours").val() == {"red", "blue"})
"""
