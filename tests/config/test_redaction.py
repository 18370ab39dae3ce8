"""No error, log or repr shows a secret, wherever a configuration fails."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from redicts import Lock, Pool, RedictsError, SettingsError, root
from redicts.config.schema import schema
from redicts.plugins.listing import installed
from tests.config.distributions import CODEC, WORKING, Distributions
from tests.support.ports import free_port

SECRET: Final = "m4rker-0f-a-s3cret"
URL: Final = f"table://anna:{SECRET}@host/t"

THE_PASSWORD: Final = "self.password.get_secret_value()"


def in_model(head: str, *body: str) -> tuple[str, str]:
    """Return the replacement that adds a method to the settings of a working plugin: old text and new."""
    return "    @classmethod", "\n        ".join([f"    {head}", *body]) + "\n\n    @classmethod"


def in_open(*body: str) -> tuple[str, str]:
    """Return the replacement that adds statements to the function that opens a backend."""
    return "    backend = MemoryBackend()", "\n    ".join(["", *body, "backend = MemoryBackend()"])


LEAKING: Final = {
    "validator": in_model("def model_post_init(self, _):", f"raise ValueError(f'bad: {{{THE_PASSWORD}}}')"),
    "assertion": in_model("def model_post_init(self, _):", f"assert 0, {THE_PASSWORD}"),
    "crash": in_model("def model_post_init(self, _):", f"raise KeyError({THE_PASSWORD})"),
    "exit": in_model("def model_post_init(self, _):", f"raise SystemExit({THE_PASSWORD})"),
    "custom": in_model(
        "def model_post_init(self, _):",
        "from pydantic_core import PydanticCustomError",
        f"raise PydanticCustomError('own', 'it is ' + {THE_PASSWORD})",
    ),
    "database": in_model(f"main_database = property(lambda self: {THE_PASSWORD})"),
    "database crash": in_model(f"main_database = property(lambda self: {{}}[{THE_PASSWORD}])"),
    "open": in_open("raise OSError(settings.password.get_secret_value())"),
    "open chained": in_open(
        "try:",
        "    {}[settings.password.get_secret_value()]",
        "except KeyError as error:",
        "    raise OSError('hidden') from error",
    ),
    "open with an error of redicts": in_open(
        "from redicts import Unreachable", "raise Unreachable(f'no {settings.password.get_secret_value()}')"
    ),
    "capabilities": in_open(
        "password = settings.password.get_secret_value()",
        "leaking = {'capabilities': property(lambda self: {}[password])}",
        "return type('Leaking', (MemoryBackend,), leaking)()",
    ),
}
"""Plugins that repeat what they were given, as replacements in a working one."""


@pytest.fixture(autouse=True)
def log() -> Iterator[io.StringIO]:
    """Record all that is logged, tracebacks included, and look for the secret at the end."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    logger = logging.getLogger()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield written
    logger.removeHandler(handler)
    logger.setLevel(level)
    assert SECRET not in written.getvalue()


def all_of(error: BaseException | None) -> Iterator[str]:
    """Yield the texts of an error, its causes and contexts, including those that a traceback hides."""
    while error is not None:
        yield from (str(error), repr(error), repr(error.args), repr(vars(error)))
        if error.__cause__ is not None and error.__cause__ is not error.__context__:
            yield from all_of(error.__cause__)
        error = error.__context__


def refused(cfg: Any) -> str:
    """Return the texts of the error about a configuration, which must be refused without changing the settings."""
    before = Pool().settings
    with pytest.raises(RedictsError) as caught:
        Pool().reload(cfg=cfg)
    assert Pool().settings is before
    return "\n".join(all_of(caught.value))


def test_these_tests_find_a_secret_in_a_hidden_context() -> None:
    """``raise ... from None`` hides the error before it from a traceback, and not from these tests."""

    def leak() -> None:
        try:
            raise KeyError(SECRET)
        except KeyError:
            raise ValueError("hidden") from None

    with pytest.raises(ValueError, match="hidden") as caught:
        leak()
    assert SECRET in "\n".join(all_of(caught.value))


@pytest.mark.parametrize("case", LEAKING)
@pytest.mark.parametrize("form", ["flat", "nested", "environment", "file"])
def test_an_error_of_a_plugin_that_repeats_a_secret_is_not_shown(
    distributions: Distributions, case: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever its code raises with the password, the error names the plugin and not the password."""
    old, new = LEAKING[case]
    password = '"password": url.rpartition("@")[0].rpartition(":")[2]'
    by_url = WORKING.replace('return {"table"', f'return {{{password}, "table"')
    distributions.install("redicts-x", by_url.replace(old, new, 1))
    cfg: Any = {"backend": "table", "password": SECRET}
    if form == "nested":
        cfg = {"backend": {"name": "table", "password": SECRET}}
    elif form == "environment":
        monkeypatch.setenv("REDICTS_URL", URL)
        cfg = None
    elif form == "file":
        (tmp_path / "own.toml").write_text(f'backend = "table"\npassword = "{SECRET}"\n')
        monkeypatch.setenv("REDICTS_CONFIG", str(tmp_path / "own.toml"))
        cfg = None
    shown = refused(cfg)
    assert SECRET not in shown
    assert "redicts-x 0.3" in shown


@pytest.mark.parametrize(
    "body",
    [
        "raise ValueError(url)",
        "raise ValueError(f'no user {url.split(chr(58))[2]} there')",
        "raise KeyError(url)",
        "raise SystemExit(url)",
        "return url",
        "return {url: 1}",
        "return {'table': [url]}",
    ],
)
def test_a_url_that_a_plugin_repeats_is_not_shown(distributions: Distributions, body: str) -> None:
    """The password is not shown either if the plugin parses the URL wrongly."""
    distributions.install("redicts-x", WORKING.replace('return {"table": url.partition("://")[2]}', body))
    shown = refused(URL)
    assert SECRET not in shown
    assert "redicts-x 0.3" in shown


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return [CodecPlugin", "return [CodecPlugin"),
        ("self.settings = settings", "raise OSError(settings.key.get_secret_value())"),
        (
            "    key: SecretStr | None = None",
            "    key: SecretStr\n    def model_post_init(self, _): raise ValueError(self.key.get_secret_value())",
        ),
    ],
    ids=["wrong field", "open", "validator"],
)
@pytest.mark.parametrize("setting", ["codec", "accept"])
def test_the_keys_of_codecs_are_not_repeated(distributions: Distributions, setting: str, old: str, new: str) -> None:
    """The settings of a codec are as secret as those of a backend."""
    distributions.install("redicts-x", CODEC.replace(old, new), codecs={"upper": "redicts_x"})
    codec: dict[str, Any] = {"name": "upper", "key": SECRET}
    if old == new:
        codec["level"] = SECRET
        codec["kye"] = SECRET
    shown = refused({"backend": "memory", setting: codec if setting == "codec" else [codec]})
    assert SECRET not in shown
    assert "redicts-x 0.3" in shown


@pytest.mark.parametrize(
    "cfg",
    [
        {"pasword": SECRET},
        {"password": [SECRET]},
        {"password": SECRET, "port": SECRET, "prot": SECRET},
        {"backend": {"name": "redis", "password": SECRET, "database": SECRET}},
        {"backend": {"name": "redis", "password": SECRET}, "host": SECRET},
        {"backend": "redsi", "password": SECRET},
        {"backend": {"password": SECRET}},
        {"backend": [SECRET]},
        {"backend": "memory", "accept": SECRET},
        {"backend": "memory", "accept": [{"key": SECRET}]},
        {"backend": "memory", "accept": [{"name": "json", "key": SECRET}]},
        {"backend": "memory", "codec": {"name": "json", "key": SECRET}},
        {"names": {"a": SECRET}},
        {"names": {f"redis://:{SECRET}@h": "x"}},
        {f"redis://:{SECRET}@localhost/0": ""},
        {"backend": {"name": "redis"}, f"redis://:{SECRET}@localhost/0": ""},
        {"backend": {f"redis://:{SECRET}@localhost/0": ""}},
        {"database": SECRET},
        {"mandatory_locks": SECRET},
        {"url": f"redis://anna:{SECRET}@localhost:port/0"},
        f"redis://anna:{SECRET}@localhost:99999/0",
        f"redsi://anna:{SECRET}@localhost/0",
        f"sqlite://anna:{SECRET}@state.db",
        f"anna:{SECRET}@localhost",
        SECRET,
    ],
)
@pytest.mark.parametrize("source", ["cfg", "environment"])
def test_a_refused_value_is_not_repeated(
    cfg: Any, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value from the program, the environment or a file is neither in the error nor in its context."""
    if source == "environment" and isinstance(cfg, str):
        monkeypatch.setenv("REDICTS_URL", cfg)
    elif source == "environment":
        path = tmp_path / "own.toml"
        path.write_text("\n".join(f"{json.dumps(name)} = {_toml(value)}" for name, value in cfg.items()))
        monkeypatch.setenv("REDICTS_CONFIG", str(path))
    assert SECRET not in refused(cfg if source == "cfg" else None)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(inner)}" for name, inner in value.items()) + "}"
    return "[" + ", ".join(map(_toml, value)) + "]" if isinstance(value, list) else json.dumps(value)


@pytest.mark.parametrize(
    "content", [f'password = "{SECRET}', f"password = {SECRET}", f"{SECRET}", f'a = 1\na = "{SECRET}"']
)
def test_a_file_that_cannot_be_read_is_not_repeated(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error about a file that is not valid TOML gives the position in it only."""
    path = tmp_path / "own.toml"
    path.write_text(content)
    monkeypatch.setenv("REDICTS_CONFIG", str(path))
    assert SECRET not in refused(None)


def test_the_current_settings_show_no_secret(distributions: Distributions) -> None:
    """No repr, text, dump, list or schema has the password of a backend or the key of a codec."""
    distributions.install("redicts-x", WORKING)
    distributions.install("redicts-y", CODEC, codecs={"upper": "redicts_y"})
    codec = {"name": "upper", "key": SECRET}
    configurations: list[Any] = [
        {"backend": "table", "password": SECRET, "codec": codec},
        {"backend": "table", "password": SECRET, "accept": [codec]},
        {"host": "127.0.0.1", "port": free_port(), "password": SECRET, "retries": 0},
        f"redis://anna:{SECRET}@127.0.0.1:{free_port()}/0?".rstrip("?"),
    ]
    for cfg in configurations:
        Pool().reload(cfg=cfg)
        settings = Pool().settings
        pool = Pool()
        shown = [repr(pool), str(pool), repr(vars(pool)), repr(settings), str(settings)]
        shown += [settings.model_dump_json(), repr(settings.model_dump()), json.dumps(settings.model_dump(mode="json"))]
        shown += [repr(pool.database()), repr(pool.database().backend), repr(settings.options), repr(settings.accept)]
        shown += [repr(installed()), json.dumps(schema())]
        assert SECRET not in "".join(shown)
        assert "*" in settings.model_dump_json()


def test_the_error_of_an_unreachable_server_does_not_show_the_password() -> None:
    """Neither a call nor a lock raises an error with a secret in it or its context."""
    Pool().reload(cfg={"host": "127.0.0.1", "port": free_port(), "password": SECRET, "retries": 0})
    for call in (root().val, Lock(Pool(), "a").acquire):
        with pytest.raises(RedictsError) as caught:
            call()
        assert SECRET not in "\n".join(all_of(caught.value))


def test_a_plugins_message_that_repeats_no_value_is_shown(distributions: Distributions) -> None:
    """The message of a third-party validator is useful, and is part of the error."""
    shown = "    def model_post_init(self, _):\n        raise ValueError('a table needs an index')\n\n    @classmethod"
    distributions.install("redicts-x", WORKING.replace("    @classmethod", shown, 1))
    with pytest.raises(SettingsError, match=r"^backend 'table' \(redicts-x 0\.3\): a table needs an index$"):
        Pool().reload(cfg={"backend": "table", "password": SECRET, "table": "leaves"})
