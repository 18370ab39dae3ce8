"""Mutants of a backend's code: the mutations of both languages, and the command that runs the checks on them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import pytest

from redicts.cli import main
from redicts.contract.mutants import Equivalents, Target, lua, python
from redicts.contract.mutants.mutant import Mutant, numbered
from redicts.contract.mutants.probes import Probes

TINY = '''
"""A backend with one fault that no check refuses, and one number that does not matter."""

from redicts.backends.memory import MemoryBackend
from redicts.contract import Harness, SharedBackend


class Tiny(MemoryBackend):
    busy = False
    calls = 0

    def execute(self, transaction, /):
        while self.busy:
            pass
        self.calls += 1
        return super().execute(transaction)

    def unused(self):
        return self.calls


class TinyHarness(Harness):
    networked = False

    def __init__(self):
        self.store = Tiny()

    def open(self):
        return SharedBackend(self.store)
'''

EQUIVALENT = """
[[equivalent]]
reason = "Nothing reads how many calls there were."
mutants = [
    { at = "tiny:Tiny.exec*", before = "1" },
    { at = "tiny:Tiny.execute", before = "self.callers += 1" },
]
"""


def mutations(source: str, language: object = python) -> set[tuple[str, str, str]]:
    """Return kind, piece and replacement of each mutation."""
    text = textwrap.dedent(source).encode()
    found = numbered("m", text, language.edits_of(text))  # type: ignore[attr-defined]
    return {(mutant.edit.kind, mutant.before, mutant.after) for mutant in found}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", {("compare", "a < b", "a <= b"), ("compare", "a < b", "a >= b")}),
        ("x = a is not None", {("compare", "a is not None", "a is None")}),
        ("n = 7", {("constant", "7", "8"), ("constant", "7", "(6)")}),
        ("n = 5000", {("constant", "5000", "5001"), ("constant", "5000", "2500")}),
        ("x = a or b", {("boolean", "a or b", text) for text in ("a and b", "(a)", "(b)")}),
        ("if a:\n    b = c", {("condition", "a", "not (a)")}),
        ("if not a:\n    b = c", {("condition", "not a", "bool(a)")}),
        ("a.b = c", {("remove", "a.b = c", "pass")}),
        ("x = f(a, b)", {("arguments", "a, b", "b, a")}),
        ("x = f(a, k=b)", {("keyword", ", k=b", "")}),
        ("x = f(k=(b), j=c)", {("keyword", "k=(b),", ""), ("keyword", ", j=c", "")}),
        ("x = min(a, b)", {("call", "min", "max")}),
        ("x = a - b", {("arithmetic", "a - b", "a + b")}),
        ("def f():\n    return a", {("return", "a", "None")}),
        ("with a:\n    b = c", {("with", "a", '__import__("contextlib").nullcontext()')}),
        ("try:\n    a = b\nexcept E:\n    c = d", {("handler", "c = d", "raise")}),
        ('x = "SELECT a WHERE b <= c"', {("compare", 'WHERE b <= c"', 'WHERE b < c"')}),
    ],
)
def test_python_is_mutated(source: str, expected: set[tuple[str, str, str]]) -> None:
    """Each kind of mutation changes one piece of Python."""
    assert mutations(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""',
        'def f():\n    """A docstring."""',
        'def __repr__(self):\n    return "x" + y',
        'x: "int | None"',
        'log.debug("n is %d", n + 1)',
        '__all__ = ["a"]',
        'x = {n: "the disk is full"}',
    ],
)
def test_what_the_contract_does_not_define_is_not_mutated(source: str) -> None:
    """Docstrings, annotations, texts for people and logging have no mutants."""
    assert mutations(source) == set()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("local x = a == b", {("compare", "local x = a == b", "local x = a ~= b")}),
        ("local n = 7", {("constant", "7", "8"), ("constant", "7", "(6)")}),
        ("local s = 'text' -- not 'this' < 1", {("constant", "'text'", "''")}),
        ("local x = a or b", {("boolean", "local x = a or b", "local x = a and b")}),
        ("local x = not a", {("condition", "not a", "a")}),
        (
            "if a or b then c = d end",
            {
                ("boolean", "if a or b then c = d end", "if a and b then c = d end"),
                ("condition", "a or b", "not (a or b)"),
            },
        ),
        ("local function f(x)\n  change(x)\nend", {("remove", "change(x)", "")}),
        ("local function f(x, y)\n  return x\nend", {("return", "x", "nil")}),
        ("local x = f(a, b.c)", {("arguments", "a, b.c", "b.c, a")}),
        ("local x = a\n  .. f(b)", set()),
        ("local x = #a - b", {("arithmetic", "local x = #a - b", "local x = #a + b")}),
        ("local x = -b", set()),
        ("--[[ a < b ]] local x = [==[ 1 ]] ]==]", {("constant", "[==[ 1 ]] ]==]", "''")}),
    ],
)
def test_lua_is_mutated(source: str, expected: set[tuple[str, str, str]]) -> None:
    """Each kind of mutation changes one piece of Lua, and none changes comments or parts of a statement."""
    assert mutations(source, lua) == expected


def test_mutants_of_our_own_code_are_valid() -> None:
    """A random mutant of a backend is still Python, or still Lua."""
    lua51 = pytest.importorskip("lupa.lua51")
    load = lua51.LuaRuntime(encoding="latin-1").eval(
        "function(text) local _, wrong = loadstring(text) return wrong end"
    )
    for target in map(Target.find, ("redicts.backends.memory", "redicts.backends.sqlite", "redicts.backends.redis")):
        sources = {file: path.read_bytes() for file, path in target.files()}
        for mutant in random.Random(1).sample(target.mutants(), 25):
            source = mutant.edit.applied(sources[mutant.file])
            if mutant.file.endswith(".lua"):
                assert load(source.decode("latin-1")) is None, mutant
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", SyntaxWarning)
                    compile(source, mutant.file, "exec")


def test_a_mutant_keeps_its_identifier_when_other_lines_change() -> None:
    """The identifier is made of the function and the text of the piece, and not of its line."""
    source = b"def f(a):\n    return a < 1\n"
    before = numbered("m", source, python.edits_of(source))
    moved = b"import os\n\n\ndef g():\n    return 3\n\n\n" + source
    after = [mutant for mutant in numbered("m", moved, python.edits_of(moved)) if mutant.edit.function == "f"]
    assert [mutant.id for mutant in before] == [mutant.id for mutant in after]
    assert [mutant.line for mutant in before] != [mutant.line for mutant in after]


def test_an_entry_needs_a_reason() -> None:
    """An entry of equivalent mutants without a reason, or with a field that is unknown, is refused."""
    mutants = [{"at": "m:f"}]
    for entry in ({"mutants": mutants}, {"reason": "none"}, {"reason": "none", "mutants": mutants, "line": "3"}):
        with pytest.raises(ValueError, match="an entry must"):
            Equivalents([entry])
    for mutant in ({"before": "1"}, {"at": "m:f", "line": "3"}, {"at": "m:f", "before": 1}, "m:f"):
        with pytest.raises(ValueError, match="a mutant must"):
            Equivalents([{"reason": "none", "mutants": [mutant]}])


def tiny(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command on the tiny backend."""
    (directory / "tiny.py").write_text(TINY, encoding="utf-8")
    (directory / "equivalent.toml").write_text(EQUIVALENT, encoding="utf-8")
    command = [sys.executable, "-W", "error", "-m", "redicts", "mutants", "--harness", "tiny:TinyHarness"]
    command += ["--module", "tiny", "--only", "tiny:Tiny.execute", "--check", "counters.*", "--timeout", "0.3"]
    command += ["--equivalents", "equivalent.toml", "--jobs", "2", *options]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_lists_survivors(tmp_path: Path) -> None:
    """The command tells refused, hanging, equivalent and surviving mutants from each other, and writes nothing else."""
    done = tiny(tmp_path, "--report", "report.json")
    assert done.returncode == 1, done.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    found = {(mutant["kind"], mutant["before"], mutant["after"]): mutant["outcome"] for mutant in report["mutants"]}
    assert found == {
        ("condition", "self.busy", "not (self.busy)"): "hung",
        ("remove", "self.calls += 1", "pass"): "surviving",
        ("arithmetic", "self.calls += 1", "self.calls -= 1"): "surviving",
        ("constant", "1", "2"): "equivalent",
        ("constant", "1", "(0)"): "equivalent",
        ("return", "super().execute(transaction)", "None"): "refused",
    }
    assert "| tiny | 13 | 6 | 1 | 1 | 2 | 2 |" in done.stdout
    assert "(line 15, remove): 'self.calls += 1' -> 'pass'" in done.stdout
    assert "an equivalent mutant no longer exists: tiny:Tiny.execute, 'self.callers += 1'" in done.stderr
    assert (tmp_path / "tiny.py").read_text(encoding="utf-8") == TINY
    assert sorted(os.listdir(tmp_path)) in (
        ["equivalent.toml", "report.json", "tiny.py"],
        ["__pycache__", "equivalent.toml", "report.json", "tiny.py"],
    )


def test_a_mutant_needs_the_checks_that_execute_it(tmp_path: Path) -> None:
    """No check runs on a mutant of code that none executes, and with ``--most`` only the first ones, at least one."""
    done = tiny(tmp_path, "--only", "tiny:Tiny.unused", "--most", "0.001", "--report", "report.json")
    assert done.returncode == 1, done.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    checks = {(mutant["at"], mutant["outcome"]): mutant.get("checks") for mutant in report["mutants"]}
    assert checks["tiny:Tiny.unused", "surviving"] == 0
    assert checks["tiny:Tiny.execute", "surviving"] == 1


def test_a_mutant_may_declare_other_capabilities(tmp_path: Path) -> None:
    """A mutant is examined by the checks that do not run on the original too, since it may declare less."""
    report = tmp_path / "report.json"
    # A process of its own: in this one, the plugin `memory` may be loaded, with the original.
    command = [sys.executable, "-m", "redicts", "mutants", "--module", "redicts.backends.memory", "memory"]
    only = ["--only", "redicts.backends.memory:", "--check", "undeclared.*", "--report", str(report)]
    assert subprocess.run([*command, *only], capture_output=True, timeout=60, check=False).returncode == 1
    mutants = json.loads(report.read_text(encoding="utf-8"))["mutants"]
    [refused] = [mutant["refused_by"] for mutant in mutants if mutant["before"] == "documents=True,"]
    assert refused == "undeclared.a_document_is_refused"


PROBED = b'''"""The text."""
from __future__ import annotations
def f(a):
    """The text of f."""
    if a:
        b = 1
    elif a is None:
        b = 2
    else:
        b = 3
    try:
        return b
    finally:
        a = 0
class C:
    n = 1
    def g(self):
        return 4
'''


def test_probes_tell_what_was_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probed copy does what the original does, and its probes name the statements that were executed."""
    (tmp_path / "probed.py").write_bytes(PROBED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("REDICTS_PROBES", "")
    target = Target.find("probed")
    found = Probes(target)
    found.start(tmp_path)
    module: dict[str, Any] = {}
    exec(compile(found.probed("probed", PROBED), "probed", "exec"), module)
    assert module["__doc__"] == "The text."
    assert module["f"].__doc__ == "The text of f."
    assert (module["f"](None), module["C"]().n) == (2, 1)
    executed = set(found.executed())
    lines = {each.line for each in target.mutants() if found.number_of(each) in executed}
    missed = {each.line for each in target.mutants() if found.number_of(each) not in executed}
    assert (lines, missed) == ({5, 7, 8, 12, 14, 16}, {6, 10, 18})


def test_a_sample_is_drawn_by_its_seed(capsys: pytest.CaptureFixture[str]) -> None:
    """The same seed draws the same mutants, and ``--list`` runs none."""
    listed = []
    for seed in ("1", "1", "2"):
        assert main(["mutants", "--module", "redicts.backends.memory", "--list", "--sample", "3", "--seed", seed]) == 0
        listed.append(capsys.readouterr().out)
    assert listed[0] == listed[1] != listed[2]
    assert [len(text.splitlines()) for text in listed] == [3, 3, 3]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["memory", "--module", "no.such"], "must be the dotted name of a Python module"),
        (["memory", "--module", "redicts.backends.memory", "--check", "no.such"], "there is no such check"),
        (["memory", "--module", "redicts.version", "--only", "nothing"], "no mutant is selected"),
        (["nosuch", "--module", "redicts.version"], "the backend itself must pass the checks"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong use exits with 2 and says what is wrong."""
    assert main(["mutants", *arguments]) == 2
    assert said in capsys.readouterr().err


SPAWNING = """
import multiprocessing
import os
import sys
from pathlib import Path

from redicts.contract.mutants import substitute


def value():
    import original
    return original.VALUE


if __name__ == "__main__":
    import original
    assert original.VALUE == 1
    substitute.install("original", Path("copy/original.py").absolute())
    print(value())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        import original
        print(pool.apply(original.value))
"""


def test_spawned_processes_import_the_mutant(tmp_path: Path) -> None:
    """A process that a check spawns imports the mutated module too."""
    module = "VALUE = 1\ndef value():\n    return VALUE\n"
    (tmp_path / "original.py").write_text(module, encoding="utf-8")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "original.py").write_text(module.replace("1", "2"), encoding="utf-8")
    (tmp_path / "spawning.py").write_text(SPAWNING, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "spawning.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["2", "2"], done.stderr
    assert not (tmp_path / "original.py").read_text(encoding="utf-8").startswith("VALUE = 2")


def test_a_mutant_is_shown_in_one_line() -> None:
    """A mutant is shown with its function, line, kind, piece and replacement."""
    source = b"def f(a):\n    return g(\n        a,\n        1,\n    )\n"
    mutants: list[Mutant] = numbered("m", source, python.edits_of(source))
    [swapped] = [str(mutant) for mutant in mutants if mutant.edit.kind == "arguments"]
    assert swapped == f"{swapped[:8]} m:f (line 3, arguments): 'a, 1' -> '1, a'"
