"""Mutations of Lua source, found in its tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from redicts.contract.mutants.mutant import Edit

_TOKEN: Final = re.compile(
    rb"""
    (?P<space>\s+|--\[(?P<level>=*)\[.*?\](?P=level)\]|--[^\n]*)
  | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\[(?P<long>=*)\[.*?\](?P=long)\])
  | (?P<number>0[xX][0-9a-fA-F]+|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)
  | (?P<name>[A-Za-z_]\w*)
  | (?P<symbol>\.\.\.|\.\.|==|~=|<=|>=|[-+*/%^\#<>=(){}\[\];:,.])
    """,
    re.VERBOSE | re.DOTALL,
)

_COMPARISONS: Final = {b"<", b"<=", b">", b">=", b"==", b"~="}
_ARITHMETIC: Final = {b"+", b"-", b"*", b"/"}

_OPERATORS: Final[dict[bytes, tuple[bytes, ...]]] = {
    b"<": (b"compare", b"<=", b">="),
    b"<=": (b"compare", b"<", b">"),
    b">": (b"compare", b">=", b"<="),
    b">=": (b"compare", b">", b"<"),
    b"==": (b"compare", b"~="),
    b"~=": (b"compare", b"=="),
    b"and": (b"boolean", b"or"),
    b"or": (b"boolean", b"and"),
    b"+": (b"arithmetic", b"-"),
    b"-": (b"arithmetic", b"+"),
    b"*": (b"arithmetic", b"/"),
    b"/": (b"arithmetic", b"*"),
}
"""For each operator the kind of mutation, and the operators that replace it."""

_WORDS: Final = {b"true": b"false", b"false": b"true", b"min": b"max", b"max": b"min"}

_OPENING: Final = {b"if": b"then", b"elseif": b"then", b"while": b"do"}
_BLOCKS: Final = {b"if", b"do", b"function", b"repeat"}
_KEYWORDS: Final = {
    *_BLOCKS,
    *(b"and", b"break", b"else", b"elseif", b"end", b"false", b"for", b"in", b"local", b"nil", b"not", b"or"),
    *(b"return", b"then", b"true", b"until", b"while"),
}
_CONTINUED: Final = {*_COMPARISONS, *(b"+", b"-", b"*", b"/", b"%", b"..", b"=", b"(", b"[", b"{", b",", b".", b":")}
_LARGE: Final = 100
"""The number from which a number is halved instead of reduced by one."""


class Token(NamedTuple):
    """One token, or what lies between two, with its range."""

    kind: str
    text: bytes
    start: int
    end: int
    line: int


def tokens_of(source: bytes) -> list[Token]:
    """Return the tokens of a Lua source without spaces and comments. Raises :class:`ValueError` if it is not Lua."""
    tokens, position, line = [], 0, 1
    while position < len(source):
        found = _TOKEN.match(source, position)
        if found is None:
            raise ValueError(f"line {line}: {source[position : position + 20]!r} is not Lua")
        kind = next(name for name in ("space", "string", "number", "name", "symbol") if found[name] is not None)
        if kind != "space":
            tokens.append(Token(kind, found[0], position, found.end(), line))
        line += found[0].count(b"\n")
        position = found.end()
    return tokens


def edits_of(source: bytes) -> list[Edit]:
    """Return the mutations of a Lua source. Raises :class:`ValueError` if it is not Lua."""
    tokens = tokens_of(source)
    edits: list[Edit] = []
    for index, function in enumerate(_functions(tokens)):
        found = (*_of_token(source, tokens, index), *_of_condition(source, tokens, index))
        found += (*_of_line(tokens, index), *_of_call(source, tokens, index))
        edits += [Edit(kind, function, start, end, after) for kind, start, end, after in found]
    return edits


_Found = tuple[str, int, int, bytes]


def _functions(tokens: list[Token]) -> Iterator[str]:
    """Yield for each token the name of the function that contains it."""
    blocks: list[str] = []
    for index, token in enumerate(tokens):
        if token.kind == "name" and token.text in {b"end", b"until"} and blocks:
            blocks.pop()
        yield ".".join(name for name in blocks if name)
        if token.kind == "name" and token.text in _BLOCKS:
            following = tokens[index + 1 : index + 2]
            named = token.text == b"function" and following and following[0].kind == "name"
            blocks.append(following[0].text.decode() if named else "")


def _of_token(source: bytes, tokens: list[Token], index: int) -> Iterator[_Found]:
    kind, text, start, end, _ = tokens[index]
    if kind == "number":
        for after in _other_numbers(text):
            yield "constant", start, end, after
    elif kind == "string":
        yield "constant", start, end, b"''" if len(text) > 2 else b"'x'"
    elif text == b"not":
        following = tokens[index + 1]
        yield "condition", start, following.end, following.text
    elif text in _OPERATORS and (text not in _ARITHMETIC or _is_operand(tokens[index - 1])):
        which, *others = _OPERATORS[text]
        for after in others:
            yield which.decode(), *_with_operands(source, tokens, index, after)
    elif text in _WORDS:
        yield "constant", start, end, _WORDS[text]


def _other_numbers(text: bytes) -> list[bytes]:
    number = float(int(text, 16)) if text[:2].lower() == b"0x" else float(text)
    return [b"%d" % (number + 1), b"%d" % (number / 2) if number >= _LARGE else b"(%d)" % (number - 1)]


def _is_operand(token: Token) -> bool:
    return token.kind in {"number", "string"} or token.text in {b")", b"]"} or _is_identifier(token)


def _is_identifier(token: Token) -> bool:
    return token.kind == "name" and token.text not in _KEYWORDS


def _with_operands(source: bytes, tokens: list[Token], index: int, after: bytes) -> tuple[int, int, bytes]:
    """Return an edit of an operator that shows what is around it, on the same line."""
    token = tokens[index]
    first = max(0, index - 6)
    while tokens[first].line != token.line:
        first += 1
    last = min(len(tokens) - 1, index + 6)
    while tokens[last].line != token.line:
        last -= 1
    start, end = tokens[first].start, tokens[last].end
    return start, end, source[start : token.start] + after + source[token.end : end]


def _of_condition(source: bytes, tokens: list[Token], index: int) -> Iterator[_Found]:
    """Yield the negation of a condition that is more than one comparison."""
    opening = tokens[index].text if tokens[index].kind == "name" else b""
    if opening not in _OPENING:
        return
    last = index + 1
    while tokens[last].text != _OPENING[opening]:
        last += 1
    condition = tokens[index + 1 : last]
    texts = [token.text for token in condition]
    compared = sum(text in _COMPARISONS for text in texts)
    if {b"and", b"or"} & set(texts) or not (compared or texts[0] == b"not"):
        start, end = condition[0].start, condition[-1].end
        yield "condition", start, end, b"not (" + source[start:end] + b")"


def _of_line(tokens: list[Token], index: int) -> Iterator[_Found]:
    """Yield the removal of a line that is one assignment or call, and of the value of a ``return`` in one line."""
    token = tokens[index]
    line = [token]
    while index + len(line) < len(tokens) and tokens[index + len(line)].line == token.line:
        line.append(tokens[index + len(line)])
    texts = [each.text for each in line]
    if token.text == b"return" and token.kind == "name":
        ends = [at for at, text in enumerate(texts) if text in {b"end", b"else"}] or [len(texts)]
        value = line[1 : ends[0]]
        if value and [each.text for each in value] != [b"nil"] and _is_balanced(value):
            yield "return", value[0].start, value[-1].end, b"nil"
        return
    follows_line = index > 0 and tokens[index - 1].line != token.line and tokens[index - 1].text not in _CONTINUED
    goes_on = index + len(line) < len(tokens) and tokens[index + len(line)].text in _CONTINUED
    statement = _is_identifier(token) and not set(texts) & (_BLOCKS | {b"end", b"return", b"then", b"else"})
    if statement and follows_line and not goes_on and texts[-1] not in _CONTINUED and _is_balanced(line):
        start, end = token.start, line[-1].end
        yield "remove", start, end, b""


def _is_balanced(line: list[Token]) -> bool:
    depth = 0
    for token in line:
        if token.kind == "symbol":
            depth += (token.text in {b"(", b"[", b"{"}) - (token.text in {b")", b"]", b"}"})
            if depth < 0:
                return False
    return depth == 0


def _of_call(source: bytes, tokens: list[Token], index: int) -> Iterator[_Found]:
    """Yield a call with its first two arguments swapped, if both are simple."""
    if tokens[index].text != b"(" or not _is_identifier(tokens[index - 1]) or tokens[index - 2].text == b"function":
        return
    first = _simple_argument(tokens, index + 1)
    if first and tokens[index + 1 + first].text == b",":
        at = index + 2 + first
        second = _simple_argument(tokens, at)
        if second and tokens[at + second].text in {b",", b")"}:
            a, b = (tokens[index + 1].start, tokens[index + first].end), (tokens[at].start, tokens[at + second - 1].end)
            swapped = source[b[0] : b[1]] + source[a[1] : b[0]] + source[a[0] : a[1]]
            yield "arguments", a[0], b[1], swapped


def _simple_argument(tokens: list[Token], index: int) -> int:
    """Return how many tokens a name, a field, a number or a text takes here, or 0 if there is something else."""
    if tokens[index].kind in {"number", "string"}:
        return 1
    if not _is_identifier(tokens[index]):
        return 0
    taken = 1
    while tokens[index + taken].text == b"." and tokens[index + taken + 1].kind == "name":
        taken += 2
    return taken
