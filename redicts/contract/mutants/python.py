"""Mutations of Python source, found in its syntax tree and applied to its text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from redicts.contract.mutants import sql
from redicts.contract.mutants.mutant import Edit

_COMPARISONS: Final[dict[type[ast.cmpop], tuple[str, ...]]] = {
    ast.Lt: ("<", "<=", ">="),
    ast.LtE: ("<=", "<", ">"),
    ast.Gt: (">", ">=", "<="),
    ast.GtE: (">=", ">", "<"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
"""For each operator its text, and the texts that replace it: the boundary and the opposite."""

_ARITHMETIC: Final[dict[type[ast.operator], tuple[str, str]]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "+"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}

_FUNCTIONS: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}

_LOGGING: Final = {"debug", "info", "warning", "warn", "error", "exception", "log"}
"""Methods of loggers and warnings, whose texts the contract does not define."""

_UNSEEN: Final = {"__repr__", "__str__"}
"""Functions for people, which the contract does not define."""

_PROSE: Final = 4
"""The number of words from which a text that is not SQL is one for people."""

_LARGE: Final = 100
"""The number from which a number is halved instead of reduced by one."""


def edits_of(source: bytes) -> list[Edit]:
    """Return the mutations of a Python source. Raises :class:`SyntaxError` if it is not Python."""
    finder = _Finder(source)
    finder.visit(ast.parse(source))
    return finder.edits


class _Finder(ast.NodeVisitor):
    """Collects mutations. Positions of nodes are lines and bytes, so the source is kept as bytes."""

    def __init__(self, source: bytes) -> None:
        self.edits: Final[list[Edit]] = []
        self._source: Final = source
        self._lines: Final = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._names: Final[list[str]] = []
        self._texts_matter = True

    def _add(self, kind: str, start: int, end: int, after: bytes | str) -> None:
        replacement = after.encode() if isinstance(after, str) else after
        if replacement != self._source[start:end]:
            self.edits.append(Edit(kind, ".".join(self._names), start, end, replacement))

    def _range(self, node: ast.expr | ast.stmt | ast.keyword) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._lines[node.lineno - 1] + node.col_offset, self._lines[node.end_lineno - 1] + node.end_col_offset

    def _piece(self, node: ast.expr) -> bytes:
        start, end = self._range(node)
        return self._source[start:end]

    def _replace(self, kind: str, node: ast.expr | ast.stmt, after: bytes | str) -> None:
        self._add(kind, *self._range(node), after)

    # Definitions ----------------------------------------------------------------------------------------------------

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        with self._inside(node.name):
            self._visit_all(node.body)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if node.name in _UNSEEN:
            return
        with self._inside(node.name):
            self._visit_all([each for each in (*node.args.defaults, *node.args.kw_defaults) if each is not None])
            self._visit_all(node.body)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    @contextmanager
    def _inside(self, name: str) -> Iterator[None]:
        self._names.append(name)
        yield
        self._names.pop()

    def _visit_all(self, nodes: Sequence[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    # Statements -----------------------------------------------------------------------------------------------------

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant) and not _is_logging(node.value):  # a docstring
            self._remove(node)
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = {each.id for each in node.targets if isinstance(each, ast.Name)}
        if names & {"__all__", "__slots__"}:
            return
        if not names:
            self._remove(node)  # a name that is not assigned is an error at once
        self._visit_all([*node.targets, node.value])

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._remove(node)
        old, new = _ARITHMETIC.get(type(node.op), ("", ""))
        if old:
            self._between("arithmetic", node.target, node.value, f"{old}=", f"{new}=")
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        self._remove(node)

    def visit_Break(self, node: ast.Break) -> None:
        self._replace("remove", node, "continue")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._replace("remove", node, "break")

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not isinstance(node.value, ast.Constant):
            self._replace("return", node.value, "None")
            self.visit(node.value)
        elif isinstance(node.value, ast.Constant):
            self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._remove(node)
        if node.exc is not None:
            before, self._texts_matter = self._texts_matter, False
            self.visit(node.exc)
            self._texts_matter = before

    def visit_Assert(self, node: ast.Assert) -> None:
        """Leave what only the type checker and readers need."""

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self._negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self._replace("with", item.context_expr, '__import__("contextlib").nullcontext()')
        self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> None:
        for handler in node.handlers:
            start, end = self._range(handler.body[0])[0], self._range(handler.body[-1])[1]
            self._add("handler", start, end, "raise")
        self.generic_visit(node)

    def _remove(self, node: ast.stmt) -> None:
        self._replace("remove", node, "pass")

    def _negate(self, test: ast.expr) -> None:
        simple = isinstance(test, ast.Compare) and len(test.ops) == 1
        if not simple and not (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)):
            self._replace("condition", test, b"not (" + self._piece(test) + b")")

    # Expressions ----------------------------------------------------------------------------------------------------

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._negate(test)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._replace("condition", node, b"bool(" + self._piece(node.operand) + b")")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, operands, operands[1:]):
            old, *others = _COMPARISONS[type(operator)]
            for new in others:
                self._between("compare", left, right, old, new)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        whole, start = self._piece(node), self._range(node)[0]
        for left, right in zip(node.values, node.values[1:]):
            at = self._word(old, self._range(left)[1], self._range(right)[0]) - start
            self._replace("boolean", node, whole[:at] + new.encode() + whole[at + len(old) :])
        for left_out in node.values:
            pieces = [b"(" + self._piece(each) + b")" for each in node.values if each is not left_out]
            self._replace("boolean", node, f" {old} ".encode().join(pieces))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        old, new = _ARITHMETIC.get(type(node.op), ("", ""))
        if old and not isinstance(node.left, ast.JoinedStr) and self._texts_matter:
            self._between("arithmetic", node.left, node.right, old, new)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        if _is_logging(node):
            return
        if isinstance(function, ast.Name) and function.id in {"TypeVar", "cast", "getattr", "isinstance", "super"}:
            self._visit_all([each for each in node.args if not isinstance(each, ast.Constant)])
            return
        if isinstance(function, ast.Name) and function.id in _FUNCTIONS:
            self._replace("call", function, _FUNCTIONS[function.id])
        else:
            self._swap(node)
        for keyword in node.keywords:
            if keyword.arg is not None:
                self._drop(node, keyword)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._replace("constant", node, repr(not value))
        elif isinstance(value, int):
            self._replace("constant", node, str(value + 1))
            self._replace("constant", node, f"({value - 1})" if value < _LARGE else str(value // 2))
        elif isinstance(value, float):
            self._replace("constant", node, repr(value * 2 + 1))
            self._replace("constant", node, "0.0" if value else "0.5")
        elif isinstance(value, (str, bytes)) and self._texts_matter:
            if sql.is_sql(self._piece(node)):
                self._mutate_sql(node)
            elif len(value.split()) < _PROSE:
                prefix = "b" if isinstance(value, bytes) else ""
                self._replace("constant", node, f'{prefix}""' if value else f'{prefix}"x"')

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        if sql.is_sql(self._piece(node)):
            self._mutate_sql(node)

    # Text -----------------------------------------------------------------------------------------------------------

    def _word(self, word: str, start: int, end: int) -> int:
        """Return where an operator is between two operands; parentheses and comments may be there as well."""
        gap = re.sub(rb"#[^\n]*", lambda found: b" " * len(found[0]), self._source[start:end])
        pattern = re.escape(word).replace(r"\ ", r"\s+")
        found = re.search((rf"\b{pattern}\b" if word[0].isalpha() else pattern).encode(), gap)
        assert found is not None
        return start + found.start()

    def _between(self, kind: str, left: ast.expr, right: ast.expr, old: str, new: str) -> None:
        """Replace the operator between two operands."""
        (start, end), (resumed, last) = self._range(left), self._range(right)
        at, source = self._word(old, end, resumed), self._source
        self._add(kind, start, last, source[start:at] + new.encode() + source[at + len(old) : last])

    def _swap(self, call: ast.Call) -> None:
        if len(call.args) < 2 or not self._texts_matter or any(isinstance(each, ast.Starred) for each in call.args[:2]):
            return
        (first, second), source = call.args[:2], self._source
        (start, middle), (resumed, end) = self._range(first), self._range(second)
        if not any(isinstance(each, ast.GeneratorExp) for each in (first, second)):
            self._add("arguments", start, end, source[resumed:end] + source[middle:resumed] + source[start:middle])

    def _drop(self, call: ast.Call, keyword: ast.keyword) -> None:
        start, end = self._range(keyword)
        if comma := re.match(rb"\s*,", self._source[end:]):
            end += comma.end()
        elif len(call.args) + len(call.keywords) > 1:
            start = self._source.rindex(b",", 0, start)
        self._add("keyword", start, end, b"")

    def _mutate_sql(self, node: ast.Constant | ast.JoinedStr) -> None:
        start, _ = self._range(node)
        for kind, first, last, replaced in sql.edits_of(self._piece(node)):
            self._add(kind, start + first, start + last, replaced)


def _is_logging(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LOGGING
