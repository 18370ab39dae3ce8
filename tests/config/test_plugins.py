"""Plugins are found by name and loaded when first chosen; built-in ones take precedence; each can be disabled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import redicts.core.minitransaction
import redicts.plugin
from redicts import Lock, PluginBroken, PluginMissing, Pool, Proxy, SettingsError, root
from redicts.config import opening
from redicts.core.minitransaction import Entries, Key, Read, Transaction
from redicts.plugins.discovery import builtin
from redicts.plugins.kinds import KINDS
from redicts.plugins.listing import Installed, installed
from redicts.plugins.loading import loaded
from tests.api.test_pool import run_python
from tests.config.distributions import CODEC, WORKING, Distributions


def listed(name: str, kind: str = "backend") -> list[Installed]:
    """Return the entries of the list with this name."""
    return [each for each in installed() if (each.kind, each.name) == (kind, name)]


# Choosing


@pytest.mark.parametrize(
    ("cfg", "table"),
    [
        ({"backend": "table"}, "leaves"),
        ({"backend": "table", "table": "t"}, "t"),
        ({"backend": {"name": "table", "table": "t"}}, "t"),
        ("table://t", "t"),
    ],
)
def test_a_third_party_backend_is_configured_like_a_built_in_one(
    distributions: Distributions, cfg: Any, table: str
) -> None:
    """A name, a nested dict and a URL choose it; it gets its own settings and the number of the database."""
    distributions.install("redicts-x", WORKING)
    Pool().reload(cfg=cfg)
    root().set("a", 1)
    assert root().val() == {"a": 1}
    backend: Any = Pool().database().backend
    settings, database = backend.opened_with
    assert (settings.table, database) == (table, 0)
    assert Pool().settings.options is settings


def test_a_plugin_can_be_chosen_as_soon_as_it_is_installed(distributions: Distributions) -> None:
    """A process that looked for it before finds it without a restart; the nearest name of any plugin is suggested."""
    with pytest.raises(PluginMissing):
        Pool().reload(cfg={"backend": "table"})
    distributions.install("redicts-x", WORKING)
    with pytest.raises(PluginMissing, match=r"there is no backend 'tabel'; did you mean 'table'\?"):
        Pool().reload(cfg={"backend": "tabel"})
    Pool().reload(cfg={"backend": "table"})
    assert Pool().settings.backend == "table"


def test_a_module_may_offer_several_names_and_kinds(distributions: Distributions) -> None:
    """One module serves several entry points; an entry point may name an object in a module."""
    both = WORKING.replace(
        "return [Back", 'return [BackendPlugin("other", TableSettings, open_table, contract=1), Back'
    )
    namespace = "\n\nclass Offers:\n    redicts_codecs = staticmethod(redicts_codecs)\n"
    distributions.install("redicts-x", both, backends={"table": "redicts_x", "other": "redicts_x"})
    distributions.install("redicts-y", CODEC + namespace, codecs={"upper": "redicts_y:Offers"})
    for name in ("table", "other"):
        Pool().reload(cfg={"backend": name, "codec": "upper"})
        root().set("a", 1)
        assert root().val() == {"a": 1}


def test_built_in_plugins_implement_the_same_hooks() -> None:
    """Each built-in module is loaded like a third-party one, and is written for the current contract."""
    for kind in KINDS:
        for name in builtin(kind):
            (found,) = listed(name, kind.noun)
            assert found.usable, found.problem
            assert (found.builtin, found.distribution) == (True, "redicts")
            assert found.version
            assert found.summary


def test_a_built_in_name_cannot_be_taken(distributions: Distributions) -> None:
    """The built-in plugin is used, and the list says why the other one is not."""
    distributions.install("redicts-x", WORKING.replace('"table", T', '"memory", T'), backends={"memory": "redicts_x"})
    Pool().reload(cfg={"backend": "memory"})
    assert type(Pool().database().backend).__module__ == "redicts.backends.memory"
    ours, other = listed("memory")
    assert ours.usable
    assert other.problem == "the name 'memory' belongs to the backend of redicts, which is used instead"


# Disabling


@pytest.mark.parametrize("names", ["table", "redicts-x", "Redicts_X", " other , redicts.x ", "*"])
def test_a_plugin_can_be_disabled(distributions: Distributions, monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    """Its name, its distribution in any spelling, or ``*`` disables it."""
    distributions.install("redicts-x", WORKING)
    Pool().reload(cfg={"backend": "table"})
    monkeypatch.setenv("REDICTS_DISABLED_PLUGINS", names)
    with pytest.raises(PluginMissing, match=r"'table' from redicts-x 0\.3 is disabled.*REDICTS_DISABLED_PLUGINS"):
        Pool().reload(cfg={"backend": "table"})
    (found,) = listed("table")
    assert "is disabled" in str(found.problem)
    assert all(each.usable for each in listed("memory"))
    Pool().reload(cfg={"backend": "memory"})
    monkeypatch.delenv("REDICTS_DISABLED_PLUGINS")
    Pool().reload(cfg={"backend": "table"})


def test_a_disabled_plugin_is_not_imported(distributions: Distributions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a reload nor the list imports it."""
    distributions.install("redicts-x", "raise KeyboardInterrupt")
    monkeypatch.setenv("REDICTS_DISABLED_PLUGINS", "*")
    with pytest.raises(PluginMissing):
        Pool().reload(cfg={"backend": "table"})
    assert len(listed("table")) == 1


def test_a_built_in_plugin_is_disabled_by_its_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """``*`` and the distribution ``redicts`` do not disable it."""
    monkeypatch.setenv("REDICTS_DISABLED_PLUGINS", "sqlite,*,redicts")
    with pytest.raises(PluginMissing, match="backend 'sqlite' is disabled"):
        Pool().reload(cfg={"backend": "sqlite", "path": "x"})
    Pool().reload(cfg={"backend": "memory"})


# Codecs


def test_a_codec_has_its_own_settings(distributions: Distributions) -> None:
    """The codec that writes and each that is read is given by name or by a dict, validated by its own model."""
    distributions.install("redicts-x", CODEC, codecs={"upper": "redicts_x"})
    Pool().reload(cfg={"backend": "memory", "codec": {"name": "upper", "level": 3}, "accept": ["json"]})
    settings = Pool().settings
    writer: Any = opening.codec(settings.codec, settings.codec_options)
    assert (writer.name, writer.settings.level) == ("upper", 3)
    assert list(settings.accept) == ["json"]
    root().set("text", "by upper")
    assert Pool().database().backend.execute(Transaction(reads=(Read(Key("v", ("text",))),))).answers == (
        Entries({(): b'\x04upper 10\n"by upper"'}),
    )
    assert root().val() == {"text": "by upper"}
    Pool().reload(cfg={"backend": "memory", "accept": [{"name": "upper", "level": 2}]})
    reader: Any = opening.codec("upper", Pool().settings.accept["upper"])
    assert (Pool().settings.codec, reader.settings.level) == ("json", 2)
    root().set("a", 1)
    assert root().val() == {"a": 1}


@pytest.mark.parametrize(
    ("more", "writer", "readers"),
    [
        ({}, "json", []),
        ({"accept": []}, "json", []),
        ({"accept": ["json"]}, "json", []),
        ({"accept": ["upper", "json"]}, "json", ["upper"]),
        ({"codec": "upper"}, "upper", ["json"]),
        ({"codec": "upper", "accept": []}, "upper", []),
        ({"codec": "upper", "accept": ["upper"]}, "upper", []),
        ({"codec": {"name": "upper", "level": 2}, "accept": [{"name": "upper", "level": 2}]}, "upper", []),
    ],
)
def test_which_codecs_are_read(distributions: Distributions, more: Any, writer: str, readers: list[str]) -> None:
    """The codecs in ``accept`` are read, by default JSON, and always the one that writes, with its own settings."""
    distributions.install("redicts-x", CODEC, codecs={"upper": "redicts_x"})
    Pool().reload(cfg={"backend": "memory", **more})
    assert Pool().settings.codec == writer
    assert list(Pool().settings.accept) == readers


def test_a_codec_must_have_the_chosen_name(distributions: Distributions) -> None:
    """A plugin cannot open a codec with another name, since values are accepted by that name."""
    source = CODEC.replace('return "upper"', 'return "json"')
    distributions.install("redicts-x", source, codecs={"upper": "redicts_x"})
    for more in ({"codec": "upper"}, {"accept": ["upper"]}):
        with pytest.raises(PluginBroken, match=r"'upper' from redicts-x 0\.3 opens a codec with the name 'json'"):
            Pool().reload(cfg={"backend": "memory", **more})


# From an existing client


class Client:
    """A client object of a third-party library."""

    def leads_to(self) -> Any:
        """Return the store to which it is connected."""
        return Pool().database().backend


class WrongClient(Client):
    """A client object over which its backend fails."""

    def leads_to(self) -> Any:
        """Raise an error that holds a secret."""
        raise KeyError("the password")


def test_a_loaded_backend_opens_the_store_of_its_client(distributions: Distributions) -> None:
    """A lock on a client asks every loaded backend; the error names a backend that fails, and repeats no secret."""
    opens = "from_client=lambda client: client.leads_to() if hasattr(client, 'leads_to') else None, contract=1"
    distributions.install("redicts-x", WORKING.replace("contract=1", opens))
    with pytest.raises(SettingsError, match="Client leads to no store"):
        Lock(Client(), "a")
    Pool().reload(cfg={"backend": "table"})
    with Lock(Client(), "a") as lock:
        assert lock.held
    refusal = r"'table' from redicts-x 0\.3 cannot open the store of a WrongClient: KeyError"
    with pytest.raises(PluginBroken, match=refusal) as caught:
        Lock(WrongClient(), "a")
    assert "the password" not in str(caught.value)


def test_a_backend_says_whether_a_client_must_use_the_pool(distributions: Distributions) -> None:
    """A lock on a client is one of the database of the pool for which ``is_client_of`` is true."""
    says = "is_client_of=lambda client, settings, number: bool(client.leads_to()) and number == 1, contract=1"
    distributions.install("redicts-x", WORKING.replace("contract=1", says))
    Pool().reload(cfg={"backend": "table", "names": {"cats": 1}})
    with Lock(Client(), "a"):
        assert Proxy("a", db_name="cats").is_locked()
        assert not Proxy("a").is_locked()
    with pytest.raises(PluginBroken, match="cannot open the store of a WrongClient: KeyError") as caught:
        Lock(WrongClient(), "a")
    assert "the password" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


# Cost


def test_importing_redicts_imports_no_plugin_and_no_library_of_one() -> None:
    """Modules imported later: pluggy, clients of stores, and those that only errors or files need."""
    later = [
        *("asyncio", "click", "difflib", "fakeredis", "hypothesis", "msgpack", "pluggy", "redis", "rich", "sqlite3"),
        *("tomllib", "redicts.config.schema", "redicts.contract", "redicts.core.hooks", "redicts.plugins.hookspecs"),
    ]
    program = f"import sys, redicts; print([name for name in {later} if name in sys.modules])"
    assert run_python(program) == "[]\n"
    loaded_plugins = "{name for name in sys.modules if name.startswith(('redicts.backends.', 'redicts.codecs.'))}"
    assert run_python(f"import sys, redicts; print({loaded_plugins})") == "set()\n"


def test_an_object_that_is_not_a_client_imports_no_library() -> None:
    """Neither redis nor sqlite3 is imported to say that an object leads to no store."""
    program = """
import sys
from redicts import Lock, SettingsError
try:
    Lock(object(), "a")
except SettingsError as error:
    print(error)
print("redis" in sys.modules, "sqlite3" in sys.modules)
"""
    message, imported = run_python(program).splitlines()
    assert "object leads to no store" in message
    assert imported == "False False"


def test_entry_points_are_read_only_for_names_that_are_not_built_in() -> None:
    """Importing redicts and choosing built-in plugins reads no entry points; another name does."""
    program = """
from importlib import metadata
import redicts.plugin  # which imports pydantic: that reads the entry points of its own plugins, once
from redicts import Lock, Pool, Proxy, root
def scanned(*arguments, **options): raise KeyboardInterrupt
metadata.entry_points = metadata.distributions = scanned
for cfg in ({"backend": "memory"}, {"backend": "sqlite", "path": ":memory:"}, {"host": "nowhere.invalid"}):
    Pool().reload(cfg=cfg)
Pool().reload(cfg={"backend": "memory", "accept": ["json"]})
root().set("a", 1)
with Lock(Pool(), "a"): pass
try:
    Pool().reload(cfg={"backend": "other"})
except KeyboardInterrupt:
    print("scanned")
"""
    assert run_python(program) == "scanned\n"


def test_a_plugin_is_loaded_once(distributions: Distributions) -> None:
    """A reload uses the plugins that are loaded."""
    distributions.install("redicts-x", WORKING)
    Pool().reload(cfg={"backend": "table"})
    before = dict(loaded)
    Pool().reload(cfg={"backend": "table", "table": "other"})
    assert all(loaded[source] is plugin for source, plugin in before.items())


# What authors of plugins see


def test_the_stable_surface_has_the_whole_contract() -> None:
    """``redicts.plugin`` has each name that it lists, and lists all names of a minitransaction."""
    contract = redicts.core.minitransaction
    names = redicts.plugin.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(redicts.plugin, name) for name in names)
    own = {name for name, value in vars(contract).items() if getattr(value, "__module__", "") == contract.__name__}
    assert own <= set(names)


def test_the_list_describes_every_installed_plugin(distributions: Distributions) -> None:
    """It has the kind, name, distribution, version and summary, whether it is built in, and why it is not usable."""
    distributions.install("redicts-x", WORKING)
    distributions.install("redicts-y", "1 / 0", version="7.1", codecs={"shiny": "redicts_y"})
    assert listed("table") == [Installed("backend", "table", "redicts-x", "0.3", False, None, "a table of ours")]
    (broken,) = listed("shiny", "codec")
    assert (broken.distribution, broken.version, broken.builtin, broken.usable) == ("redicts-y", "7.1", False, False)
    assert "ZeroDivisionError" in str(broken.problem)
    kinds = [each.kind for each in installed()]
    assert kinds == sorted(kinds)
    with pytest.raises(AttributeError):
        broken.name = "other"  # type: ignore[misc]
    ours = {path.stem.removesuffix(".py") for path in Path(redicts.__file__).parent.joinpath("backends").iterdir()}
    assert {each.name for each in installed() if each.kind == "backend" and each.builtin} == {
        name for name in ours if not name.startswith("_")
    }
