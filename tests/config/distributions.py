"""Third-party distributions with plugins, working and broken, that tests install for themselves."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from redicts.plugins.loading import loaded

WORKING = '''
"""A store in memory under another name."""

from pydantic import SecretStr

from redicts.backends.memory import MemoryBackend
from redicts.plugin import BackendPlugin, BackendSettings, hookimpl


class TableSettings(BackendSettings):
    """Where the table is."""

    table: str = "leaves"
    password: SecretStr | None = None

    @classmethod
    def fields_of_url(cls, url):
        return {"table": url.partition("://")[2]}


def open_table(settings, database):
    backend = MemoryBackend()
    backend.opened_with = settings, database
    return backend


@hookimpl
def redicts_backends():
    return [BackendPlugin("table", TableSettings, open_table, contract=1, summary="a table of ours")]
'''
"""The module of a working plugin: the backend ``table``."""

CODEC = '''
"""The codec ``upper``: JSON, with a level that has no effect."""

from pydantic import Field, SecretStr

from redicts.codecs.json import JsonCodec
from redicts.plugin import CodecPlugin, CodecSettings, hookimpl


class UpperSettings(CodecSettings):
    level: int = Field(1, ge=0)
    key: SecretStr | None = None


class Upper(JsonCodec):
    def __init__(self, settings):
        self.settings = settings

    @property
    def name(self):
        return "upper"


@hookimpl
def redicts_codecs():
    return [CodecPlugin("upper", UpperSettings, Upper, contract=1, summary="JSON again")]
'''
"""The module of a working plugin: the codec ``upper``."""


class Distributions:
    """Distributions in a directory of the import path: metadata, entry points and modules, as an installer leaves them.

    :meth:`forget` removes what was imported from there.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self._modules: set[str] = set()
        monkeypatch.syspath_prepend(str(directory))

    def install(
        self,
        name: str,
        source: str | None,
        *,
        version: str = "0.3",
        backends: Mapping[str, str] | None = None,
        codecs: Mapping[str, str] | None = None,
    ) -> str:
        """Install a distribution with one module of the same name; return the name of the module.

        ``backends`` and ``codecs`` are its entry points. By default its module offers a backend ``table``.
        """
        module = name.replace("-", "_")
        if source is not None:
            (self.directory / f"{module}.py").write_text(dedent(source), encoding="utf-8")
        self._modules.add(module)
        self.refresh()
        metadata = self.directory / f"{module}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        if backends is None and codecs is None:
            backends = {"table": module}
        lines = []
        for group, points in (("redicts.backends", backends), ("redicts.codecs", codecs)):
            lines += [f"[{group}]", *[f"{point} = {value}" for point, value in (points or {}).items()], ""]
        (metadata / "entry_points.txt").write_text("\n".join(lines))
        return module

    def uninstall(self, name: str) -> None:
        """Remove a distribution and what was imported and loaded from it."""
        module = name.replace("-", "_")
        (self.directory / f"{module}.py").unlink(missing_ok=True)
        for metadata in self.directory.glob(f"{module}-*.dist-info"):
            shutil.rmtree(metadata)
        self.forget()

    def refresh(self) -> None:
        """Let Python notice files that were changed within the same second."""
        shutil.rmtree(self.directory / "__pycache__", ignore_errors=True)
        importlib.invalidate_caches()

    def forget(self) -> None:
        """Remove what was imported and loaded."""
        self.refresh()
        for module in self._modules:
            sys.modules.pop(module, None)
        for source in [source for source in loaded if not source.builtin]:
            del loaded[source]
