"""Plugins: found by name, loaded when first chosen, ours never displaced, and each can be switched off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import redicts.plugin
from redicts import Lock, PluginBroken, PluginMissing, Pool, SettingsError, root
from redicts.config import opening
from redicts.core.minitransaction import Entries, Key, Read, Transaction
from redicts.plugins.discovery import builtin
from redicts.plugins.kinds import BACKEND, CODEC
from redicts.plugins.listing import Installed, installed
from redicts.plugins.loading import loaded
from tests.api.test_pool import run_python
from tests.config.distributions import CODEC as CODEC_SOURCE
from tests.config.distributions import WORKING, Distributions


def listed(name: str, kind: str = "backend") -> list[Installed]:
    """Return what the list says of a name."""
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
def test_a_backend_of_others_is_chosen_like_ours(distributions: Distributions, cfg: Any, table: str) -> None:
    """By name, by a nested dict and by URL; it gets its own settings and the number of the database."""
    distributions.install("redicts-x", WORKING)
    Pool().reload(cfg=cfg)
    root().set("a", 1)
    assert root().val() == {"a": 1}
    backend: Any = Pool().database().backend
    settings, database = backend.opened_with
    assert (settings.table, database) == (table, 0)
    assert Pool().settings.options is settings


def test_what_was_just_installed_can_be_chosen_at_once(distributions: Distributions) -> None:
    """A process that has asked in vain finds the plugin as soon as it is there."""
    with pytest.raises(PluginMissing):
        Pool().reload(cfg={"backend": "table"})
    distributions.install("redicts-x", WORKING)
    Pool().reload(cfg={"backend": "table"})
    assert Pool().settings.backend == "table"


def test_a_module_may_offer_several_names_and_kinds(distributions: Distributions) -> None:
    """One module serves several entry points; an entry point may name an object in a module."""
    both = WORKING.replace("contract=1,", "contract=1,").replace(
        "return [Back", 'return [BackendPlugin("other", TableSettings, open_table, contract=1), Back'
    )
    namespace = "\n\nclass Offers:\n    redicts_codecs = staticmethod(redicts_codecs)\n"
    distributions.install("redicts-x", both, backends={"table": "redicts_x", "other": "redicts_x"})
    distributions.install("redicts-y", CODEC_SOURCE + namespace, codecs={"upper": "redicts_y:Offers"})
    for name in ("table", "other"):
        Pool().reload(cfg={"backend": name, "codec": "upper"})
        root().set("a", 1)
        assert root().val() == {"a": 1}


def test_a_typo_suggests_the_names_of_others_too(distributions: Distributions) -> None:
    """The nearest name counts, whoever offers it."""
    distributions.install("redicts-x", WORKING)
    with pytest.raises(PluginMissing, match=r"there is no backend 'tabel'; did you mean 'table'\?"):
        Pool().reload(cfg={"backend": "tabel"})


def test_ours_answer_the_same_hooks() -> None:
    """Each module of ours is loaded as those of others are, and is written for this contract."""
    for kind in (BACKEND, CODEC):
        for name in builtin(kind):
            (found,) = listed(name, kind.word)
            assert found.usable, found.problem
            assert found.builtin
            assert found.distribution == "redicts"
            assert found.version
            assert found.summary


def test_a_name_of_ours_cannot_be_taken(distributions: Distributions) -> None:
    """What comes with redicts wins, and the list says of the other why it is not used."""
    distributions.install("redicts-x", WORKING.replace('"table", T', '"memory", T'), backends={"memory": "redicts_x"})
    Pool().reload(cfg={"backend": "memory"})
    assert type(Pool().settings.options).__module__ == "redicts.backends.memory"
    ours, other = listed("memory")
    assert ours.usable
    assert other.problem == "the name 'memory' belongs to the backend of redicts, which is used instead"


# Switching off


@pytest.mark.parametrize("off", ["table", "redicts-x", "Redicts_X", " other , redicts.x ", "*"])
def test_a_plugin_can_be_switched_off(distributions: Distributions, monkeypatch: pytest.MonkeyPatch, off: str) -> None:
    """By its name, by its distribution however that is written, or with all that are not ours."""
    distributions.install("redicts-x", WORKING)
    Pool().reload(cfg={"backend": "table"})
    monkeypatch.setenv("REDICTS_DISABLED_PLUGINS", off)
    with pytest.raises(PluginMissing, match=r"'table' from redicts-x 0\.3 is switched off.*REDICTS_DISABLED_PLUGINS"):
        Pool().reload(cfg={"backend": "table"})
    (found,) = listed("table")
    assert found.problem is not None
    assert "switched off" in found.problem
    assert all(each.usable for each in listed("memory"))
    Pool().reload(cfg={"backend": "memory"})
    monkeypatch.delenv("REDICTS_DISABLED_PLUGINS")
    Pool().reload(cfg={"backend": "table"})


def test_what_is_switched_off_is_not_imported(distributions: Distributions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a reload nor the list imports it."""
    distributions.install("redicts-x", "raise KeyboardInterrupt")
    monkeypatch.setenv("REDICTS_DISABLED_PLUGINS", "*")
    with pytest.raises(PluginMissing):
        Pool().reload(cfg={"backend": "table"})
    assert len(listed("table")) == 1


def test_one_of_ours_can_be_switched_off_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """``*`` is for those of others only; a name is for ours too."""
    monkeypatch.setenv("REDICTS_DISABLED_PLUGINS", "sqlite,*,redicts")
    with pytest.raises(PluginMissing, match="backend 'sqlite' is switched off"):
        Pool().reload(cfg={"backend": "sqlite", "path": "x"})
    Pool().reload(cfg={"backend": "memory"})


# Codecs


def test_a_codec_has_fields_of_its_own(distributions: Distributions) -> None:
    """The codec that writes and each that is read is given by name or by a dict, checked by its own model."""
    distributions.install("redicts-x", CODEC_SOURCE, codecs={"upper": "redicts_x"})
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
    settings = Pool().settings
    reader: Any = opening.codec("upper", settings.accept["upper"])
    assert settings.codec == "json"
    assert reader.settings.level == 2
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
    """What ``accept`` lists, by default JSON, and always the one that writes, on its own settings."""
    distributions.install("redicts-x", CODEC_SOURCE, codecs={"upper": "redicts_x"})
    Pool().reload(cfg={"backend": "memory", **more})
    assert Pool().settings.codec == writer
    assert list(Pool().settings.accept) == readers


def test_a_codec_cannot_pass_for_another(distributions: Distributions) -> None:
    """What a codec's plugin opens bears the name that was chosen, for by that name its values are accepted."""
    source = CODEC_SOURCE.replace('return "upper"', 'return "json"')
    distributions.install("redicts-x", source, codecs={"upper": "redicts_x"})
    for more in ({"codec": "upper"}, {"accept": ["upper"]}):
        with pytest.raises(PluginBroken, match=r"'upper' from redicts-x 0\.3 opens a codec that calls itself 'json'"):
            Pool().reload(cfg={"backend": "memory", **more})


# Taking over a client


def test_a_client_of_others_is_taken_over_by_their_backend(distributions: Distributions) -> None:
    """A lock on somebody else's client asks every backend that was loaded; one that fails over it is named."""
    adopting = WORKING.replace(
        "contract=1",
        "from_client=lambda client: client.leads_to() if hasattr(client, 'leads_to') else None, contract=1",
    )
    distributions.install("redicts-x", adopting)

    class Client:
        def leads_to(self) -> Any:
            return Pool().database().backend

    with pytest.raises(SettingsError, match="Client leads to no store"):
        Lock(Client(), "a")
    Pool().reload(cfg={"backend": "table"})
    with Lock(Client(), "a") as lock:
        assert lock.held

    class Wrong:
        def leads_to(self) -> Any:
            raise KeyError("the password")

    with pytest.raises(PluginBroken, match=r"'table' from redicts-x 0\.3 cannot take over a Wrong: KeyError") as caught:
        Lock(Wrong(), "a")
    assert "the password" not in str(caught.value)


def test_what_is_no_client_imports_no_library() -> None:
    """To say that something leads to no store, redis need not be imported."""
    program = """
import sys
from redicts import Lock, SettingsError
try:
    Lock(object(), "a")
except SettingsError as error:
    print(error)
print("redis" in sys.modules, "sqlite3" in sys.modules)
"""
    said, loaded_modules = run_python(program).splitlines()
    assert "object leads to no store" in said
    assert loaded_modules == "False False"


# What it costs


def test_other_distributions_are_looked_at_only_for_names_that_are_not_ours() -> None:
    """Importing redicts and choosing what comes with it reads nobody's entry points; another name does."""
    program = """
from importlib import metadata
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


def test_a_plugin_is_asked_once(distributions: Distributions) -> None:
    """What was loaded stays loaded, whatever is reloaded."""
    distributions.install("redicts-x", WORKING)
    Pool().reload(cfg={"backend": "table"})
    before = dict(loaded)
    Pool().reload(cfg={"backend": "table", "table": "other"})
    assert {source: loaded[source] for source in before} == before
    assert all(loaded[source] is plugin for source, plugin in before.items())


# What authors see


def test_the_stable_surface_is_what_is_listed() -> None:
    """``redicts.plugin`` has each name that it lists, and the words of the contract are all there."""
    import redicts.core.minitransaction as words

    names = redicts.plugin.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(redicts.plugin, name) for name in names)
    own = {name for name, value in vars(words).items() if getattr(value, "__module__", "") == words.__name__}
    assert own - set(names) == set()


def test_the_list_has_all_there_is(distributions: Distributions) -> None:
    """Kind, name, distribution, version, ours or not, usable or why not, and what it is for."""
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
