"""Broken plugins: each is told with its distribution and what to do, and none is in the way of another."""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

import pytest

from redicts import PluginBroken, PluginMissing, Pool, SettingsError, root
from redicts.plugins.listing import installed
from tests.config import tables
from tests.config.distributions import CODEC, WORKING, Distributions

HOOK: Final = "@hookimpl\ndef redicts_backends():\n    return "
HEAD: Final = "from redicts.plugin import *\n"


class Broken(NamedTuple):
    """A broken plugin: what is wrong with it, in words and in Python, and what its error must say beside its origin."""

    what: str
    source: str | None
    says: str
    error: type[SettingsError] = PluginBroken


BROKEN: Final = {
    "package": Broken(
        "It needs a package that is not installed.", "import package_that_is_nowhere", "'package_that_is_nowhere'"
    ),
    "no module": Broken("Its entry point names a module that is not there.", None, "its module redicts_x is not there"),
    "import": Broken("Its module fails when it is imported.", "1 / 0", "ZeroDivisionError: division by zero"),
    "exit": Broken("Its module ends the program when it is imported.", "raise SystemExit(3)", "SystemExit: 3"),
    "syntax": Broken("Its module is no Python.", "def", "SyntaxError"),
    "no hook": Broken(
        "Its function lacks the mark of a hook.",
        WORKING.replace("@hookimpl", ""),
        "redicts_x has no function redicts_backends marked with @hookimpl",
    ),
    "typo": Broken(
        "Its hook is misspelt.",
        WORKING.replace("redicts_backends", "redicts_backend"),
        "there is no hook 'redicts_backend'; did you mean 'redicts_backends'?",
    ),
    "signature": Broken(
        "Its hook has an argument that hooks do not have.",
        WORKING.replace("redicts_backends()", "redicts_backends(settings)"),
        "Argument(s) {'settings'} are declared in the hookimpl but can not be found in the hookspec",
    ),
    "raises": Broken("Its hook raises.", HEAD + HOOK + "{}['x']", "redicts_backends failed with KeyError: 'x'"),
    "exits": Broken("Its hook ends the program.", HEAD + HOOK + "exit('bye')", "failed with SystemExit: bye"),
    "rubbish": Broken("Its hook returns something else.", HEAD + HOOK + "42", "type int, not a list of BackendPlugin"),
    "rubbish inside": Broken(
        "Its hook returns a list of something else.", HEAD + HOOK + "[None]", "a list with None, not BackendPlugin"
    ),
    "name": Broken(
        "It offers another name than its entry point has.",
        WORKING.replace('"table", Table', '"tabel", Table'),
        "named 'table', but its hook redicts_backends offers 'tabel'",
    ),
    "newer": Broken(
        "It is written for a newer redicts.",
        WORKING.replace("contract=1", "contract=2"),
        "is written for contract 2; this redicts speaks 1; upgrade redicts",
    ),
    "older": Broken(
        "It is written for an older redicts.",
        WORKING.replace("contract=1", "contract=0"),
        "is written for contract 0; this redicts speaks 1; upgrade redicts-x",
    ),
    "settings": Broken(
        "Its settings are no model of settings.",
        WORKING.replace("TableSettings, open_table", "dict, open_table"),
        "its settings are no subclass of BackendSettings",
    ),
    "field": Broken(
        "Its settings have a field where its own name goes.",
        WORKING.replace('table: str = "leaves"', 'name: str = "leaves"'),
        "its settings have a field 'name'",
    ),
    "not callable": Broken(
        "Its function that opens is none.",
        WORKING.replace("TableSettings, open_table", "TableSettings, 'open_table'"),
        "its open is an object of type str, and cannot be called",
    ),
    "open fails": Broken(
        "It fails when it is opened.",
        WORKING.replace("    backend = Mem", "    raise OSError('no such table')\n    backend = Mem"),
        "cannot be opened: OSError: no such table",
    ),
    "opens nothing": Broken(
        "It opens something else.",
        WORKING.replace("    return backend", "    return None"),
        "cannot be opened: it returned NoneType, not a Backend",
    ),
    "model fails": Broken(
        "Its model of settings fails.",
        WORKING.replace(
            "    @classmethod",
            "    def model_post_init(self, context):\n        self.nothing.anything\n\n    @classmethod",
            1,
        ),
        "cannot be checked: its own code raised AttributeError",
    ),
}


def said(error: type[SettingsError], cfg: object = None) -> str:
    """Return the one line of the error that a reload to the backend ``table`` raises; the settings current stay."""
    root().set("a", 1)
    before = Pool().settings
    with pytest.raises(SettingsError) as caught:
        Pool().reload(cfg={"backend": "table"} if cfg is None else cfg)  # type: ignore[arg-type]
    assert type(caught.value) is error
    assert Pool().settings is before
    assert root().val() == {"a": 1}
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_named_with_its_distribution(distributions: Distributions, case: str) -> None:
    """The error says which distribution in which version, what is wrong, and what to do; the old settings stay."""
    broken = BROKEN[case]
    distributions.install("redicts-x", broken.source)
    text = said(broken.error)
    assert "backend 'table' from redicts-x 0.3" in text
    assert broken.says in text
    assert "upgrade" in text


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_in_nobodys_way(distributions: Distributions, case: str) -> None:
    """Ours and those of others work beside it, and the list says which one is broken and why."""
    distributions.install("redicts-x", BROKEN[case].source, backends={"broken": "redicts_x", "table": "redicts_x"})
    distributions.install("redicts-y", WORKING.replace('"table", T', '"fine", T'), backends={"fine": "redicts_y"})
    distributions.install("redicts-z", CODEC, codecs={"upper": "redicts_z"})
    for cfg in ({"backend": "fine"}, {"backend": "memory", "codec": "upper"}, {"backend": "fine", "codec": "upper"}):
        Pool().reload(cfg=cfg)
        root().set("a", 1)
        assert root().val() == {"a": 1}
    by_name = {each.name: each for each in installed()}
    assert by_name["fine"].usable
    assert by_name["upper"].usable
    assert by_name["memory"].usable
    problem = by_name["broken"].problem
    assert problem is not None
    assert "redicts-x 0.3" in problem


def test_a_plugin_that_was_mended_works_without_a_new_process(distributions: Distributions) -> None:
    """What failed is tried again when it is next asked for."""
    module = distributions.install("redicts-x", "import package_that_is_nowhere")
    said(PluginBroken)
    (distributions.directory / "package_that_is_nowhere.py").write_text("")
    (distributions.directory / f"{module}.py").write_text(WORKING)
    distributions.refresh()
    Pool().reload(cfg={"backend": "table"})
    assert Pool().settings.backend == "table"


def test_the_cause_of_a_broken_import_is_kept(distributions: Distributions) -> None:
    """The error has the one that the plugin raised as its cause, so that its author sees where."""
    distributions.install("redicts-x", "1 / 0")
    with pytest.raises(PluginBroken) as caught:
        Pool().reload(cfg={"backend": "table"})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_ctrl_c_while_a_plugin_is_imported_is_no_broken_plugin(distributions: Distributions) -> None:
    """An interrupt goes through, from a module as from its hook."""
    distributions.install("redicts-x", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        Pool().reload(cfg={"backend": "table"})
    distributions.install(
        "redicts-y", HEAD + HOOK + "(_ for _ in ()).throw(KeyboardInterrupt)", backends={"y": "redicts_y"}
    )
    with pytest.raises(KeyboardInterrupt):
        Pool().reload(cfg={"backend": "y"})


NAMED: Final = b"Metadata-Version: 2.1\nName: damaged\nVersion: 1.0\n"


@pytest.mark.parametrize(
    ("metadata", "points"),
    [
        (None, b"[redicts.backends]\nother = redicts_x\n"),
        (b"Metadata-Version: 2.1\n", b"[redicts.backends]\nother = redicts_x\n"),
        (NAMED, b"[redicts.backends]\nthis is no entry point\n"),
        (NAMED, b"\xff"),
    ],
    ids=["no metadata", "no name", "no entry points", "no text"],
)
def test_a_damaged_distribution_hides_no_other(
    distributions: Distributions, metadata: bytes | None, points: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """One whose metadata cannot be read is passed over: with a warning if it may have plugins that are not seen."""
    distributions.install("redicts-x", WORKING)
    damaged = distributions.directory / "damaged-1.0.dist-info"
    damaged.mkdir()
    (damaged / "entry_points.txt").write_bytes(points)
    if metadata is not None:
        (damaged / "METADATA").write_bytes(metadata)
    with caplog.at_level(logging.WARNING, "redicts.plugins"):
        Pool().reload(cfg={"backend": "table"})
    assert Pool().settings.backend == "table"
    others = [each for each in installed() if each.name == "other"]
    if metadata == NAMED:
        assert "the entry points of" in caplog.text
        assert "damaged-1.0.dist-info" in caplog.text
        assert others == []
    else:
        assert [each.distribution for each in others] == ["a distribution without a name"]
        assert str(others[0].problem).startswith("the backend 'other' from a distribution without a name cannot")


def test_two_distributions_of_one_name_are_both_refused(
    distributions: Distributions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither wins by chance: the error names both, and what it advises works."""
    distributions.install("redicts-x", WORKING)
    distributions.install("redicts-y", WORKING, version="2.0")
    text = said(PluginBroken)
    assert "the backend 'table' is offered by redicts-x 0.3 and redicts-y 2.0" in text
    assert "REDICTS_DISABLED_PLUGINS=redicts-y" in text
    assert [each.problem for each in installed() if each.name == "table"] == [text, text]
    monkeypatch.setenv("REDICTS_DISABLED_PLUGINS", "redicts-y")
    Pool().reload(cfg={"backend": "table"})
    assert type(Pool().settings.options).__module__ == "redicts_x"


def test_the_table_of_broken_plugins_is_what_they_say(
    distributions: Distributions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The documentation shows the real error for each kind of broken plugin."""
    rows = []
    for broken in BROKEN.values():
        distributions.install("redicts-x", broken.source)
        rows.append((broken.what, f"`{broken.error.__name__}`", said(broken.error)))
        distributions.uninstall("redicts-x")
    distributions.install("redicts-x", WORKING)
    distributions.install("redicts-y", WORKING, version="2.0")
    rows.append(("Two distributions offer the same name.", "`PluginBroken`", said(PluginBroken)))
    monkeypatch.setenv("REDICTS_DISABLED_PLUGINS", "table")
    rows.append(("It is switched off.", "`PluginMissing`", said(PluginMissing)))
    tables.check("plugins.md", "broken plugins", ("What is wrong with it", "Raised", "The error says"), rows)
