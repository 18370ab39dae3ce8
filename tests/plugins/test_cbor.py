"""The codec for CBOR, as a stranger's distribution beside a redicts that knows nothing of it."""

from __future__ import annotations

from tests.plugins.fresh import EXAMPLES, FreshEnvironment


def test_its_own_tests_pass(fresh: FreshEnvironment) -> None:
    """The tests that the distribution brings along pass on the installed wheel."""
    told = fresh.run(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        cwd=EXAMPLES / "redicts-cbor",
        variables={"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert " passed" in told.stdout


def test_the_settings_choose_it(fresh: FreshEnvironment) -> None:
    """Installed, the codec is there by its name, and gives back what JSON could not."""
    told = fresh.run("-c", USE)
    assert told.returncode == 0, told.stderr
    assert told.stdout.split() == ["1.10", "True"]


def test_the_command_certifies_it(fresh: FreshEnvironment) -> None:
    """The command certifies the codec by its name."""
    told = fresh.run("-m", "redicts", "certify", "--codec", "cbor")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "CERTIFIED" in told.stdout


USE = """
from decimal import Decimal
from redicts import Pool, root

Pool().reload(cfg={"backend": "memory", "codec": "cbor"})
root().set("a", {"price": Decimal("1.10"), "colours": {"red", "blue"}})
print(root().get("a.price").val())
print(root().get("a.colours").val() == {"red", "blue"})
"""
