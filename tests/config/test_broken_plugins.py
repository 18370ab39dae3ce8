"""A broken plugin is refused with its distribution and a remedy, and affects no other plugin."""

from __future__ import annotations

import logging
from typing import Final

import pytest

from redicts import PluginBroken, PluginMissing, Pool, SettingsError, root
from redicts.plugins import discovery
from redicts.plugins.kinds import BACKEND
from redicts.plugins.listing import installed
from redicts.plugins.loading import load, loaded
from tests.config import tables
from tests.config.distributions import CODEC, WORKING, Distributions
from tests.support.stores import together

HOOK: Final = "from redicts.plugin import *\n@hookimpl\ndef redicts_backends():\n    return "
altered: Final = WORKING.replace


BROKEN: Final[dict[str, tuple[str | None, str]]] = {
    "It needs a package that is not installed.": ("import package_that_is_nowhere", "'package_that_is_nowhere'"),
    "Its entry point names a module that does not exist.": (None, "its module redicts_x does not exist"),
    "Its module fails when it is imported.": ("1 / 0", "ZeroDivisionError: division by zero"),
    "Its module ends the program when it is imported.": ("raise SystemExit(3)", "SystemExit: 3"),
    "Its module is not valid Python.": ("def", "SyntaxError"),
    "Its function is not decorated as a hook.": (
        altered("@hookimpl", ""),
        "redicts_x has no function redicts_backends decorated with @hookimpl",
    ),
    "Its hook is misspelt.": (
        altered("redicts_backends", "redicts_backend"),
        "there is no hook 'redicts_backend'; did you mean 'redicts_backends'?",
    ),
    "Its hook has a parameter that hooks do not have.": (
        altered("redicts_backends()", "redicts_backends(settings)"),
        "Argument(s) {'settings'} are declared in the hookimpl but can not be found in the hookspec",
    ),
    "Its hook raises.": (HOOK + "{}['x']", "redicts_backends failed with KeyError: 'x'"),
    "Its hook ends the program.": (HOOK + "exit('bye')", "failed with SystemExit: bye"),
    "Its hook returns no list.": (HOOK + "42", "type int, not a list of BackendPlugin"),
    "Its hook returns a list of other objects.": (HOOK + "[None]", "a list with None, not BackendPlugin"),
    "It offers another name than its entry point has.": (
        altered('"table", Table', '"tabel", Table'),
        "named 'table', but its hook redicts_backends offers 'tabel'",
    ),
    "It is written for a newer redicts.": (
        altered("contract=1", "contract=2"),
        "is written for contract 2, but this redicts supports contract 1; upgrade redicts",
    ),
    "It is written for an older redicts.": (
        altered("contract=1", "contract=0"),
        "is written for contract 0, but this redicts supports contract 1; upgrade redicts-x",
    ),
    "Its settings are not a model of settings.": (
        altered("TableSettings, open_table", "dict, open_table"),
        "its settings must be a subclass of BackendSettings",
    ),
    "Its settings have a field that is reserved for its name.": (
        altered('table: str = "leaves"', 'name: str = "leaves"'),
        "its settings have a field 'name'",
    ),
    "Its function that opens a backend is not callable.": (
        altered("TableSettings, open_table", "TableSettings, 'open_table'"),
        "its open must be callable, not an object of type str",
    ),
    "Opening it fails.": (
        altered("    backend = Mem", "    raise OSError('no such table')\n    backend = Mem"),
        "cannot be opened: OSError: no such table",
    ),
    "It opens an object that is not a backend.": (
        altered("    return backend", "    return None"),
        "cannot be opened: it returned NoneType, not a Backend",
    ),
    "Its model of settings fails.": (
        altered("    @classmethod", "    def model_post_init(self, _):\n        self.no.field\n\n    @classmethod"),
        "cannot be checked: its own code raised AttributeError",
    ),
}
"""The fault of each plugin: its module, and what its error must say."""


def refused(error: type[SettingsError]) -> str:
    """Return the one line of the error that a reload to the backend ``table`` raises; the settings do not change."""
    root().set("a", 1)
    before = Pool().settings
    with pytest.raises(SettingsError) as caught:
        Pool().reload(cfg={"backend": "table"})
    assert type(caught.value) is error
    assert Pool().settings is before
    assert root().val() == {"a": 1}
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_plugin_affects_no_other(distributions: Distributions, what: str) -> None:
    """Its error names the distribution and a remedy each time it is chosen; other plugins work before and after."""
    source, message = BROKEN[what]
    distributions.install("redicts-x", source, backends={"broken": "redicts_x", "table": "redicts_x"})
    distributions.install("redicts-y", WORKING.replace('"table", T', '"fine", T'), backends={"fine": "redicts_y"})
    distributions.install("redicts-z", CODEC, codecs={"upper": "redicts_z"})
    for cfg in ({"backend": "fine"}, {"backend": "memory", "codec": "upper"}, {"backend": "fine", "codec": "upper"}):
        text = refused(PluginBroken)
        for part in ("backend 'table' from redicts-x 0.3", message, "upgrade"):
            assert part in text
        Pool().reload(cfg=cfg)
        root().set("a", 1)
        assert root().val() == {"a": 1}
    by_name = {each.name: each for each in installed()}
    assert all(by_name[name].usable for name in ("fine", "upper", "memory"))
    assert "redicts-x 0.3" in str(by_name["broken"].problem)


ODD: Final = """
class Odd:
    def fail(self, *arguments):
        raise RuntimeError("compared")
    __eq__ = __hash__ = __bool__ = __len__ = fail
ODD, EMPTY, NOTHING = Odd(), [], None
"""


def test_an_object_that_cannot_be_compared_affects_no_other_plugin(distributions: Distributions) -> None:
    """An entry point may name any object; one without a hook is refused each time it is chosen."""
    names = {"odd": "redicts_x:ODD", "empty": "redicts_x:EMPTY", "nothing": "redicts_x:NOTHING"}
    distributions.install("redicts-x", ODD, backends=names)
    distributions.install("redicts-y", WORKING)
    for name in [*names, *names]:
        with pytest.raises(PluginBroken, match="has no function redicts_backends decorated"):
            Pool().reload(cfg={"backend": name})
    Pool().reload(cfg={"backend": "table"})


@pytest.mark.parametrize("source", ["import package_that_is_nowhere", WORKING.replace("_backends()", "_backend()")])
def test_a_repaired_plugin_works_without_a_restart(distributions: Distributions, source: str) -> None:
    """Loading a plugin that failed is tried again when it is next chosen."""
    module = distributions.install("redicts-x", source)
    refused(PluginBroken)
    (distributions.directory / "package_that_is_nowhere.py").write_text("")
    (distributions.directory / f"{module}.py").write_text(WORKING)
    distributions.forget()
    Pool().reload(cfg={"backend": "table"})
    assert Pool().settings.backend == "table"


def test_the_cause_of_a_broken_import_is_kept(distributions: Distributions) -> None:
    """The error has the plugin's own error as its cause, so that its author sees where it failed."""
    distributions.install("redicts-x", "1 / 0")
    with pytest.raises(PluginBroken) as caught:
        Pool().reload(cfg={"backend": "table"})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("source", ["raise KeyboardInterrupt", HOOK + "(_ for _ in ()).throw(KeyboardInterrupt)"])
def test_ctrl_c_while_a_plugin_is_loaded_passes_through(distributions: Distributions, source: str) -> None:
    """A KeyboardInterrupt from a module or from its hook does not become an error about the plugin."""
    distributions.install("redicts-x", source)
    with pytest.raises(KeyboardInterrupt):
        Pool().reload(cfg={"backend": "table"})


def test_plugins_load_in_several_threads_at_once(distributions: Distributions) -> None:
    """A thread that loads a broken plugin does not disturb one that loads a working plugin."""
    distributions.install("redicts-x", WORKING.replace("_backends()", "_backend()"), backends={"broken": "redicts_x"})
    distributions.install("redicts-y", WORKING)
    broken, working = discovery.find(BACKEND, "broken"), discovery.find(BACKEND, "table")

    def load_broken() -> None:
        for _ in range(50):
            with pytest.raises(PluginBroken):
                load(broken)

    def load_working() -> None:
        for _ in range(50):
            loaded.pop(working, None)
            assert load(working).name == "table"

    together(load_broken, load_working, load_working)


NAMED: Final = b"Metadata-Version: 2.1\nName: damaged\nVersion: 1.0\n"


@pytest.mark.parametrize(
    ("metadata", "points"),
    [
        (None, b"[redicts.backends]\nother = redicts_x\n"),
        (b"Metadata-Version: 2.1\n", b"[redicts.backends]\nother = redicts_x\n"),
        (NAMED, b"[redicts.backends]\nnot an entry point\n"),
        (NAMED, b"\xff"),
    ],
    ids=["no metadata", "no name", "invalid entry points", "not text"],
)
def test_a_damaged_distribution_hides_no_other(
    distributions: Distributions, metadata: bytes | None, points: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is skipped, with a warning if its entry points cannot be read."""
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


def test_a_name_that_two_distributions_offer_is_refused(
    distributions: Distributions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names both distributions, and what it advises works."""
    distributions.install("redicts-x", WORKING)
    distributions.install("redicts-y", WORKING, version="2.0")
    text = refused(PluginBroken)
    assert "the backend 'table' is offered by redicts-x 0.3 and redicts-y 2.0" in text
    assert "REDICTS_DISABLED_PLUGINS=redicts-y" in text
    assert [each.problem for each in installed() if each.name == "table"] == [text, text]
    monkeypatch.setenv("REDICTS_DISABLED_PLUGINS", "redicts-y")
    Pool().reload(cfg={"backend": "table"})
    assert type(Pool().settings.options).__module__ == "redicts_x"


def test_the_documentation_shows_the_error_of_each_broken_plugin(
    distributions: Distributions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table in docs/plugins.md has the error of each kind of broken plugin."""
    rows = []
    for what, (source, _) in BROKEN.items():
        distributions.install("redicts-x", source)
        rows.append((what, "`PluginBroken`", refused(PluginBroken)))
        distributions.uninstall("redicts-x")
    distributions.install("redicts-x", WORKING)
    distributions.install("redicts-y", WORKING, version="2.0")
    rows.append(("Two distributions offer the same name.", "`PluginBroken`", refused(PluginBroken)))
    monkeypatch.setenv("REDICTS_DISABLED_PLUGINS", "table")
    rows.append(("It is disabled.", "`PluginMissing`", refused(PluginMissing)))
    tables.check("plugins.md", "broken plugins", ("What is wrong with it", "Raised", "The error says"), rows)
