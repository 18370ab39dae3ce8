"""The code that is mutated: a module, or a package with all its modules and Lua files."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redicts.contract.mutants import lua, python
from redicts.contract.mutants.mutant import Mutant, numbered

_LANGUAGES: Final = {".py": python.edits_of, ".lua": lua.edits_of}


@dataclass(frozen=True)
class Target:
    """A module or package, found without importing it."""

    name: str
    path: Path
    """The file of a module, or the directory of a package."""

    @classmethod
    def find(cls, name: str) -> Target:
        """Find a target by its dotted name. Raises :class:`ValueError` if there is no such module with a source."""
        try:
            spec = importlib.util.find_spec(name)  # imports the packages that contain it
        except (ImportError, ValueError):
            spec = None
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            raise ValueError(f"{name} must be the dotted name of a Python module or package with source files")
        path = Path(spec.origin)
        return cls(name, path.parent if spec.submodule_search_locations else path)

    def mutants(self) -> list[Mutant]:
        """Return all mutants, file by file in the order of the text. Raises :class:`SyntaxError`."""
        return [
            mutant
            for file, path in self.files()
            for mutant in numbered(file, path.read_bytes(), _LANGUAGES[path.suffix](path.read_bytes()))
        ]

    def files(self) -> Iterator[tuple[str, Path]]:
        """Yield the name and the path of each file with mutants."""
        if self.path.is_file():
            yield self.name, self.path
            return
        for path in sorted(self.path.rglob("*")):
            relative = path.relative_to(self.path)
            if path.suffix == ".py":
                yield ".".join((self.name, *relative.with_suffix("").parts)).removesuffix(".__init__"), path
            elif path.suffix in _LANGUAGES:
                yield f"{self.name}/{relative.as_posix()}", path

    def copy(self, directory: Path, changed: Callable[[str, bytes], bytes]) -> Path:
        """Copy the target into a directory, with the source of each file changed, and return the path of the copy."""
        copied = directory / self.path.name
        if self.path.is_file():
            shutil.copy2(self.path, copied)
        else:
            shutil.copytree(self.path, copied)
        for file, path in self.files():
            source = path.read_bytes()
            if (after := changed(file, source)) != source:
                target = copied if self.path.is_file() else copied / path.relative_to(self.path)
                target.unlink()
                target.write_bytes(after)
        return copied
