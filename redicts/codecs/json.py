"""The codec ``json``: stores what ``json.dumps`` accepts as plain JSON text."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Collection, Sequence
from json.encoder import encode_basestring
from json.scanner import make_scanner
from typing import Any, Final

from redicts.core.codec import Codec, CodecPlugin, CorruptContent, TruncatedContent, refuse_equal_names
from redicts.core.foreign import is_interrupt
from redicts.core.hooks import hookimpl
from redicts.core.minitransaction import Path


def refused(value: object) -> object:
    """Raise the ``TypeError`` for a value that JSON lacks, which names a codec that may take it.

    It looks at the names of types only: code of the value must not run.
    """
    kind = type(value)
    names = {each.__name__ for each in kind.__mro__}
    if names & _OF_MSGPACK:
        advice = 'the codec msgpack takes it: set "codec": "msgpack" in the settings, or store it as text'
    elif "BaseModel" in names or any("__dataclass_fields__" in vars(each) for each in kind.__mro__):
        advice = 'the codec models takes it: set "codec": "models" in the settings, and register the type'
    else:
        advice = "store it as text or numbers, or choose a codec that takes it, such as pickle, in the settings"
    raise TypeError(f"Object of type {kind.__name__} is not JSON serializable; {advice}")


_OF_MSGPACK: Final = frozenset({"bytes", "bytearray", "memoryview", "date", "datetime"})

_CONSTANTS: Final = {None: b"null", True: b"true", False: b"false"}
_dumps: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=refused).encode
_dumps_ascii: Final = json.JSONEncoder(separators=(",", ":"), default=refused).encode
_decoder: Final = json.JSONDecoder()
_UNENDED: Final = "Unterminated string"
_FEW: Final = 8
"""Larger dicts are written by pydantic if it can, in two thirds of the time."""
_KEYS: Final = frozenset({str})
_FLAT: Final[frozenset[type]] = frozenset({int, str, bool, type(None)})
_FLAT_TREE: Final = _FLAT | {dict}
_LEAVES: Final[frozenset[type]] = _FLAT | {float, list}
"""The types of leaves that JSON gives back unchanged."""
_TREE: Final = _LEAVES | {dict}
_SHORT: Final = 64
"""Longer texts are parsed by pydantic, which takes half the time. ``json`` parses what pydantic refuses, for instance
lone surrogates and deeply nested texts."""
_WORTH: Final = 100_000
"""How many bytes or entries ``json`` handles in its stead, if nothing else has imported pydantic: importing it takes as
long as these, and all the rest of a short command."""
_MARK: Final = 2**62 + int.from_bytes(os.urandom(8), "big") // 4
"""A number that no stored text can contain but by chance, because it is drawn in this process and never leaves it."""
_BETWEEN: Final = b",%d," % _MARK
_scan: Final = make_scanner(_decoder)  # type: ignore[arg-type]  # any object with these settings will do


def _first_from_json(data: bytes) -> Any:
    """Parse a text with pydantic once that is worth its import; else raise ``ValueError``, as for what it refuses."""
    if not _use_pydantic(len(data)):
        raise ValueError
    return from_json(data)


def _first_to_json(value: Any) -> bytes:
    return to_json(value) if _use_pydantic(len(value)) else _dumps(value).encode()


def _use_pydantic(size: int) -> bool:
    """Return whether pydantic is to be used, and use it from then on."""
    global from_json, to_json, _handled  # noqa: PLW0603  (each call passes here, so nothing may stand between)
    _handled += size
    if _handled < _WORTH and "pydantic_core" not in sys.modules:
        return False
    from pydantic_core import from_json, to_json  # noqa: PLC0415  (see _WORTH)

    return True


_handled = 0
from_json, to_json = _first_from_json, _first_to_json
if "pydantic_core" in sys.modules:
    _use_pydantic(0)


class JsonCodec(Codec):
    """Writes plain JSON text in UTF-8, which any program can read.

    Like ``json.dumps``, it accepts NaN, the infinities and integers of any size, and turns tuples into lists. Text with
    lone surrogates, which UTF-8 cannot encode, is written with escapes.
    """

    deterministic = True

    @property
    def name(self) -> str:
        """``json``."""
        return "json"

    @staticmethod
    def encode(value: object, _path: Path = (), /) -> bytes:
        """Return the JSON text of a value, with a fast path for plain numbers and texts, which most leaves are."""
        kind = type(value)
        if kind is int:
            return str(value).encode()
        if value is None or kind is bool:
            return _CONSTANTS[value]  # type: ignore[index]  # these three are its keys
        if kind is dict and len(value) > _FEW and _is_flat(value):  # type: ignore[arg-type]  # it is one
            with contextlib.suppress(ValueError):  # lone surrogates
                return to_json(value)
        try:
            if kind is str:
                return encode_basestring(value).encode()  # type: ignore[arg-type]  # it is one
            text = _dumps(value)
            if '{"' in text:
                refuse_equal_names(value, text)
            return text.encode()
        except UnicodeEncodeError:
            return _dumps_ascii(value).encode()

    @staticmethod
    def document(value: dict[Any, Any], levels: int, /) -> bytes | None:
        """Return the JSON text of a dict, or ``None`` if a leaf is not of a JSON type or has a lone surrogate."""
        if not value or not _is_node(value, levels):
            return None
        try:
            if _are_plain(value.values(), levels, _FLAT, _FLAT_TREE):
                return to_json(value)
            if not _are_plain(value.values(), levels, _LEAVES, _TREE):
                return None
            text = _dumps(value)
            if '[{"' in text or ',{"' in text:  # a dict in a list
                refuse_equal_names(value, text)
            return text.encode()
        except (TypeError, ValueError, RecursionError) as error:
            if is_interrupt(error):
                raise
            return None

    @staticmethod
    def decode(data: bytes, _path: Path = (), /) -> object:
        """Return the value of a JSON text."""
        if data.isdigit() and (data[0] != 0x30 or len(data) == 1):  # JSON has no leading zeros
            return int(data)
        if len(data) > _SHORT:
            try:  # not by suppress, which takes a tenth of the time
                return from_json(data)
            except ValueError:
                pass
        try:
            text = data.decode()
            value, end = _scan(text, 0)
        except UnicodeDecodeError as error:
            raise CorruptContent(str(error)) from error
        except (StopIteration, json.JSONDecodeError):
            end = -1
        return value if end == len(text) else _whole(text)

    @staticmethod
    def decode_all(texts: Sequence[bytes], /) -> list[object] | None:
        """Return the values of several texts by one call of the parser, in a fifth of the time."""
        return _parsed(texts) if len(texts) >= _FEW else None


def _parsed(texts: Sequence[bytes]) -> list[object] | None:
    """Parse texts as the elements of one list; return ``None`` unless each of them is one valid text.

    Texts that are not valid may be parts of a valid list: ``[1`` and ``2]``, or ``1,2``. So the mark is an element
    between each two. If every mark is an element of the list itself, no text begins a list, a dict or a string that
    another one ends. If there is exactly one element between two marks, no text is empty or has two values.
    """
    try:
        items = from_json(b"[%b]" % _BETWEEN.join(texts))
    except ValueError:
        return None
    values: list[object] = items[::2]
    return values if items[1::2] == [_MARK] * (len(texts) - 1) and len(values) == len(texts) else None


def _is_flat(value: dict[object, object]) -> bool:
    """Tell whether pydantic writes a dict with the same bytes as ``json``: it holds no floats, and here no dicts."""
    return _KEYS.issuperset(map(type, value)) and _FLAT.issuperset(map(type, value.values()))


def _is_node(value: dict[Any, Any], levels: int) -> bool:
    """Tell whether a dict can be an inner node: its keys are non-empty text, and it is not nested too deep."""
    return levels > 0 and "" not in value and _KEYS.issuperset(map(type, value))


def _are_plain(values: Collection[object], levels: int, leaves: frozenset[type], tree: frozenset[type]) -> bool:
    """Tell whether all values of a node are of these types, at any depth, and its dicts are nodes."""
    if leaves.issuperset(map(type, values)):
        return True
    if not tree.issuperset(map(type, values)):
        return False
    for inner in values:
        if (
            type(inner) is dict
            and inner
            and not (_is_node(inner, levels - 1) and _are_plain(inner.values(), levels - 1, leaves, tree))
        ):
            return False
    return True


def _whole(text: str) -> object:
    """Return the value of a text that may have whitespace around it, or raise an error."""
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith(_UNENDED):
            raise TruncatedContent(str(error)) from error
        raise CorruptContent(str(error)) from error


codec: Final = JsonCodec()


@hookimpl
def redicts_codecs() -> list[CodecPlugin]:
    """Offer this codec."""
    harness = "redicts.contract.codecs:AsJsonHarness"
    summary = "plain JSON text, which any program can read"
    return [CodecPlugin("json", None, lambda _: codec, contract=1, summary=summary, harness=harness)]
