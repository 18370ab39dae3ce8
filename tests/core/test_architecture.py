"""Imports run one way, from the command line down to the contract, and only the driver calls a backend."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import redicts

ROOT = Path(redicts.__file__).parent

CONTRACT = {
    "redicts.core.entry_points",
    "redicts.core.hooks",
    "redicts.core.minitransaction",
    "redicts.core.names",
    "redicts.core.async_backend",
    "redicts.core.backend",
    "redicts.core.listener",
    "redicts.core.codec",
    "redicts.core.documents",
    "redicts.core.error_mapping",
    "redicts.core.foreign",
    "redicts.core.ordered_keys",
    "redicts.core.ordered_state",
    "redicts.core.plugin_settings",
    "redicts.core.sections",
    "redicts.core.urls",
    "redicts.core.watchers",
    "redicts.errors",
    "redicts.file_paths",
    "redicts.forks",
    "redicts.handles",
    "redicts.randomness",
    "redicts.reports",
    "redicts.types",
}
"""What a backend or a codec needs: the contract, the errors, names, registered types, the parsing of URLs and paths of
files, locks and handles that survive a fork, random times, and reports about stores."""

BELOW = {
    "core": set(),
    "backends": {"core"},
    "codecs": {"core"},
    "contract": {"core", "backends", "codecs"},  # the memory backend is its reference
    "plugins": {"core"},
    "config": {"core", "plugins"},
    "locks": {"core"},
    "api": {"core", "plugins", "config", "locks"},
    "aio": {"core", "config", "locks", "api"},
    "transfer": {"core", "api"},
    "migration": {"core", "api", "config", "plugins", "backends", "transfer"},
    "cli": {"core", "api", "config", "plugins", "contract", "transfer", "migration", "locks"},
}
"""The packages that each package may import, beside itself, the errors, registered types, paths of files, the locks of
forks, handles, random times, reports and the version."""

SHARED = {"errors", "file_paths", "forks", "handles", "randomness", "reports", "types", "version"}
"""The modules that all packages may import."""

CALLS = "execute|fetch|fetch_document|overwrite|overwrite_document|listen|listen_to_changes"
"""The methods of a backend that ask the store."""

CALLERS = {"core/driver.py", "aio/driver.py", "aio/adapters.py", "cli/certify.py"}
"""The drivers, the adapter of blocking backends for tasks, and the command that examines backends."""

NO_IO = {"socket", "ssl", "sqlite3", "redis", "fakeredis", "subprocess", "asyncio", "threading", "os", "pathlib", "io"}


def sources(package: str) -> list[Path]:
    """Return the source files of a package, at any depth."""
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


@cache
def imports(path: Path) -> list[str]:
    """Return the full name of each module that a file imports: at the top, in a function, or for type checking only."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [each if is_module(each) else node.module for each in inner]
    return found


@cache
def is_module(name: str) -> bool:
    """Tell whether a dotted name is a module of this package."""
    path = ROOT.parent / Path(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def ours(path: Path) -> list[str]:
    """Return the modules of this package that a file imports."""
    return [name for name in imports(path) if name.split(".")[0] == "redicts"]


def label(path: Path) -> str:
    """Return how a test is called that is about one file."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("package", BELOW)
def test_a_package_imports_only_what_is_below_it(package: str) -> None:
    """Imports run one way, and what a package may import is in the table."""
    allowed = {package, *BELOW[package], *SHARED}
    for path in sources(package):
        above = {name for name in ours(path) if name.split(".")[1:2] and name.split(".")[1] not in allowed}
        # The command line catches a module of its own extra that is missing.
        assert above - {"redicts"} == set(), label(path)


def test_every_package_is_in_the_table() -> None:
    """A new package has a place in the order."""
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(BELOW)


def test_no_module_draws_from_the_state_that_programs_seed() -> None:
    """Only the suite for authors of backends, which has a seed of its own, and one module import ``random``."""
    drawing = [path for path in ROOT.rglob("*.py") if "random" in imports(path) and "contract" not in path.parts]
    assert drawing == [ROOT / "randomness.py"]


@pytest.mark.parametrize("path", sources("core"), ids=label)
def test_core_does_no_io(path: Path) -> None:
    """A module of core imports nothing that does I/O."""
    assert {name.split(".")[0] for name in imports(path)} & NO_IO == set()


@pytest.mark.parametrize("path", [*sources("backends"), *sources("codecs")], ids=label)
def test_backends_and_codecs_import_the_contract_only(path: Path) -> None:
    """A backend or codec imports the contract, the errors, and its own modules."""
    family = path.relative_to(ROOT).parts[0]
    strangers = {name for name in ours(path) if name not in CONTRACT and not name.startswith(f"redicts.{family}.")}
    assert strangers == set()


@pytest.mark.parametrize("path", [path for family in ("backends", "codecs") for path in sources(family)], ids=label)
def test_backends_do_not_import_each_other(path: Path) -> None:
    """A backend imports no other one; the simulated Redis server is the Redis backend on another connection."""
    family, own = path.relative_to(ROOT).with_suffix("").parts[:2]
    known = {name.split(".")[2] for name in ours(path) if name.startswith(f"redicts.{family}.")}
    assert known <= ({"fakeredis", "redis"} if own == "fakeredis" else {own})


def test_the_contract_imports_nothing_else() -> None:
    """What a backend is written against depends on nothing else of this package."""
    for name in CONTRACT:
        path = ROOT.parent / Path(*name.split(".")).with_suffix(".py")
        assert set(ours(path)) <= CONTRACT, name


def test_only_the_driver_calls_a_backend() -> None:
    """Everything that reaches a backend is a request that the driver carries out, but where backends are examined."""
    for package in set(BELOW) - {"backends", "contract"}:
        for path in sources(package):
            if label(path) not in CALLERS:
                assert re.findall(rf"backend\.(?:{CALLS})\(", path.read_text(encoding="utf-8")) == [], label(path)


def test_no_modules_import_each_other() -> None:
    """No cycle of imports, nor one for type checking: modules could not be understood one after another."""
    graph = {
        ".".join(("redicts", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): ours(path)
        for path in ROOT.rglob("*.py")
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"a cycle: {' -> '.join((*above, name))}"
        if name not in done:
            for imported in graph.get(name, []):
                visit(imported, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def modules(package: ModuleType) -> Iterator[ModuleType]:
    """Yield the public modules of a package that can be imported with what the tests have installed."""
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.rpartition(".")[2].startswith("_"):
            yield importlib.import_module(found.name)


@pytest.mark.parametrize("module", [redicts, *modules(redicts)], ids=lambda module: module.__name__)
def test_every_public_name_is_documented(module: ModuleType) -> None:
    """Modules, classes, functions, methods and properties without an underscore have a docstring of their own."""
    missing = [] if module.__doc__ else [module.__name__]
    for name, value in vars(module).items():
        if name.startswith("_") or not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        if value.__module__ != module.__name__:
            continue
        missing += undocumented(f"{module.__name__}.{name}", value)
    assert missing == []


def undocumented(name: str, value: object) -> list[str]:
    """Return the names of what has no docstring: an object itself, and what is public in a class."""
    missing = [] if value.__doc__ and not value.__doc__.startswith(f"{getattr(value, '__name__', '')}(") else [name]
    if inspect.isclass(value):
        for inner, member in vars(value).items():
            wrapped = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
            if inner.startswith("_") or not (inspect.isfunction(wrapped) or isinstance(wrapped, property)):
                continue
            if not inspect.getdoc(getattr(value, inner)):
                missing.append(f"{name}.{inner}")
    return missing


def test_every_listed_name_is_documented() -> None:
    """Each name in ``redicts.__all__`` exists, is listed once and in order, and says what it is."""
    assert list(redicts.__all__) == sorted(set(redicts.__all__))
    for name in redicts.__all__:
        value = getattr(redicts, name)
        if name == "ABSENT":
            assert type(value).__doc__
        else:
            assert undocumented(name, value) == []


def test_every_error_is_drawn_in_the_tree() -> None:
    """The tree at the top of the errors shows each class, and every class is public."""
    errors = importlib.import_module("redicts.errors")
    assert errors.__doc__
    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, Exception):
            assert f" {name} " in f"{errors.__doc__} ".replace("\n", " ")
            assert name in redicts.__all__
            assert issubclass(value, redicts.RedictsError)
