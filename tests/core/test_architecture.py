"""Arrows run one way: front to core to the words of the contract; backends and codecs know the words only."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import redicts

ROOT = Path(redicts.__file__).parent

WORDS = {
    "redicts.core.entry_points",
    "redicts.core.hooks",
    "redicts.core.minitransaction",
    "redicts.core.backend",
    "redicts.core.listener",
    "redicts.core.codec",
    "redicts.core.documents",
    "redicts.errors",
    "redicts.forks",
    "redicts.types",
}
"""What those who write a backend or a codec need: the contract's words, the errors, registered types, and locks that
survive a fork."""

NO_IO = {"socket", "ssl", "sqlite3", "redis", "fakeredis", "subprocess", "asyncio", "threading", "os", "pathlib", "io"}


def sources(package: str) -> list[Path]:
    """Return the source files of a package, at any depth."""
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


def imports(path: Path, *, for_typing: bool = True) -> Iterator[str]:
    """Yield the full name of each module that a file imports, at the top or in a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typing_only and not for_typing:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if is_module(inner) else node.module


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


@pytest.mark.parametrize("path", sources("core"), ids=label)
def test_core_knows_no_backend_no_codec_and_no_front(path: Path) -> None:
    """A module of core imports core and the errors only, and nothing that does I/O."""
    allowed = {name for name in ours(path) if name.startswith("redicts.core.") or name == "redicts.errors"}
    assert set(ours(path)) == allowed
    assert {name.split(".")[0] for name in imports(path)} & NO_IO == set()


@pytest.mark.parametrize("path", [*sources("backends"), *sources("codecs")], ids=label)
def test_backends_and_codecs_know_the_words_only(path: Path) -> None:
    """A backend or codec imports the contract's words, the errors, and its own parts."""
    family = path.relative_to(ROOT).parts[0]
    strangers = {name for name in ours(path) if name not in WORDS and not name.startswith(f"redicts.{family}.")}
    assert strangers == set()


@pytest.mark.parametrize("path", [path for family in ("backends", "codecs") for path in sources(family)], ids=label)
def test_backends_do_not_know_each_other(path: Path) -> None:
    """A backend imports no other one; the simulated Redis server is the Redis backend on another connection."""
    family, own = path.relative_to(ROOT).with_suffix("").parts[:2]
    known = {name.split(".")[2] for name in ours(path) if name.startswith(f"redicts.{family}.")}
    assert known <= ({"fakeredis", "redis"} if own == "fakeredis" else {own})


def test_the_words_know_nothing_but_words() -> None:
    """What a backend is written against depends on nothing else of this package."""
    for name in WORDS:
        path = ROOT.parent / Path(*name.split(".")).with_suffix(".py")
        assert set(ours(path)) <= WORDS, name


@pytest.mark.parametrize("part", ["core", "backends", "codecs", "contract", "errors.py", "forks.py"])
def test_what_is_below_does_not_know_the_front(part: str) -> None:
    """Core, stores, codecs and their certification work without the proxies, the pool and the public names."""
    for path in [ROOT / part] if part.endswith(".py") else sources(part):
        above = [
            name
            for name in ours(path)
            if name.startswith(("redicts.api", "redicts.locks", "redicts.config", "redicts.plugins", "redicts.cli"))
        ]
        assert above + [name for name in ours(path) if name == "redicts"] == [], path


def test_there_are_no_cycles_of_imports() -> None:
    """Modules that import each other could not be imported, or understood, one after another."""
    graph = {
        ".".join(("redicts", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): [
            name for name in imports(path, for_typing=False) if name.split(".")[0] == "redicts"
        ]
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
