"""Codecs that are each wrong in one way, and the checks that refuse them.

Each is derived from a correct codec and differs from it in what its docstring says, and in nothing else, so a refusal
is due to that.
"""

from __future__ import annotations

import hashlib
import hmac
import inspect
import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic_core import to_json

from redicts.codecs.json import JsonCodec
from redicts.contract.codecs import CodecHarness
from redicts.contract.codecs.check import same
from redicts.contract.codecs.harness import json_values
from redicts.core.codec import Codec, CorruptContent, JsonText, refuse_equal_names
from redicts.core.leaves import Packed
from redicts.core.minitransaction import Path
from tests.contract.broken.rendezvous import Gap

_Class = TypeVar("_Class", bound=type)

_SIZE: Final = 8


class SignedCodec(Codec):
    """A correct codec: JSON text after a signature over it and its path. What JSON would change is refused."""

    deterministic = True
    binds_path = True

    @property
    def name(self) -> str:
        return "signed"

    def encode(self, value: object, path: Path, /) -> bytes:
        payload = self.payload(value)
        return self.signature(path, payload) + payload

    def decode(self, data: bytes, path: Path, /) -> object:
        if not hmac.compare_digest(data[:_SIZE], self.signature(path, data[_SIZE:])):
            raise ValueError("the signature is another one")
        return self.value(data[_SIZE:])

    def payload(self, value: Any) -> bytes:
        text = json.dumps(value)
        if not same(json.loads(text), value):
            raise TypeError("this would come back as another value")
        return text.encode()

    def value(self, payload: bytes) -> object:
        return json.loads(payload)

    def signature(self, path: Path, payload: bytes) -> bytes:
        where = ascii(path).encode()
        return hmac.new(b"key", len(where).to_bytes(8, "big") + where + payload, hashlib.sha256).digest()[:_SIZE]


class PlainCodec(SignedCodec):
    """A correct codec that signs nothing, so that all bytes reach what reads them."""

    binds_path = False

    def signature(self, path: Path, payload: bytes) -> bytes:
        return b""

    def decode(self, data: bytes, path: Path, /) -> object:
        return self.value(data)


class ClassHarness(CodecHarness):
    """A codec that its class makes."""

    def __init__(self, made: Callable[[], Codec]) -> None:
        self.open = made  # type: ignore[method-assign]

    def open(self) -> Codec:  # pragma: no cover  (replaced)
        raise NotImplementedError


class JsonClassHarness(ClassHarness):
    """A codec that treats values as the codec json does, and that its class makes."""

    def values(self) -> SearchStrategy[Any]:
        return json_values() | st.tuples(json_values(), json_values())

    def given_back(self, value: Any) -> Any:
        return json.loads(json.dumps(value))


class BrokenCodec(NamedTuple):
    """One broken codec."""

    name: str
    says: str
    """The fault, in one line."""
    refused_by: tuple[str, ...]
    """The checks that must each refuse it."""
    alone: bool
    """Whether no other check refuses it."""
    harness: Callable[[], CodecHarness]
    module: str = "broken_codecs"


_register: Final[list[BrokenCodec]] = []


def broken_codec(*refused_by: str, alone: bool = False) -> Callable[[_Class], _Class]:
    """Register a codec."""

    def register(codec: _Class) -> _Class:
        says = inspect.getdoc(codec)
        assert says, f"{codec.__name__} says what is wrong with it"
        assert refused_by, f"{codec.__name__} says which checks refuse it"
        first = says.splitlines()[0]
        harness = JsonClassHarness if issubclass(codec, JsonCodec) else ClassHarness
        _register.append(BrokenCodec(codec.__name__, first, refused_by, alone, lambda: harness(codec)))
        return codec

    return register


@broken_codec("values.what_it_takes_comes_back", "values.other_values_come_back_or_are_refused")
class RoundsFloats(PlainCodec):
    """Floats keep six digits."""

    def value(self, payload: bytes) -> object:
        return json.loads(payload, parse_float=lambda text: float(f"{float(text):.6g}"))


@broken_codec("values.what_it_takes_comes_back", alone=True)
class RefusesBooleans(PlainCodec):
    """A truth value is refused, which its harness says it takes."""

    def payload(self, value: Any) -> bytes:
        if isinstance(value, bool):
            raise TypeError("no truth values")
        return super().payload(value)


@broken_codec("values.other_values_come_back_or_are_refused", alone=True)
class TakesAnything(PlainCodec):
    """What it does not know is stored as its repr."""

    def payload(self, value: Any) -> bytes:
        text = json.dumps(value, default=repr)
        refuse_equal_names(value, text)
        return text.encode()


@broken_codec("values.other_values_come_back_or_are_refused")
class RefusesWithLookupError(PlainCodec):
    """What it does not know raises KeyError."""

    def payload(self, value: Any) -> bytes:
        try:
            return super().payload(value)
        except TypeError:
            raise KeyError(type(value)) from None


@broken_codec("values.other_values_come_back_or_are_refused")
class CutsIntegers(PlainCodec):
    """Integers keep 64 bits."""

    def value(self, payload: bytes) -> object:
        return json.loads(payload, parse_int=lambda text: (int(text) + 2**63) % 2**64 - 2**63)


@broken_codec("values.other_values_come_back_or_are_refused")
class ReplacesSurrogates(PlainCodec):
    """Text that UTF-8 does not know becomes question marks."""

    def payload(self, value: Any) -> bytes:
        super().payload(value)
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


@broken_codec("values.no_entry_is_lost", alone=True)
class LosesEntries(JsonCodec):
    """Keys become text, and of two that become the same text one is lost."""

    @staticmethod
    def encode(value: object, _path: Path = (), /) -> bytes:
        try:
            return JsonCodec.encode(value)
        except ValueError:
            return JsonCodec.encode(json.loads(json.dumps(value)))


@broken_codec("values.large_values_come_back", alone=True)
class RefusesLargeValues(PlainCodec):
    """More than 64 KiB are refused."""

    def payload(self, value: Any) -> bytes:
        payload = super().payload(value)
        if len(payload) > 2**16:
            raise ValueError("too large")
        return payload


@broken_codec("values.deep_values_come_back_or_are_refused", alone=True)
class RefusesDeepValues(PlainCodec):
    """More than twenty levels are refused."""

    def payload(self, value: Any) -> bytes:
        payload = super().payload(value)
        if b"[" * 20 in payload:
            raise ValueError("too deep")
        return payload


@broken_codec("capabilities.bytes_are_bound_to_their_path")
class RefusesOddPaths(SignedCodec):
    """A path that is no ASCII cannot be signed."""

    def signature(self, path: Path, payload: bytes) -> bytes:
        "".join(path).encode("ascii")
        return super().signature(path, payload)


@broken_codec("capabilities.its_name_fits_an_envelope", alone=True)
class HasNoName(PlainCodec):
    """Its name has a blank and a line end."""

    @property
    def name(self) -> str:
        return "my codec\n"


@broken_codec("capabilities.equal_values_have_equal_bytes", alone=True)
class CountsCalls(PlainCodec):
    """Each call adds a number of its own, though it declares that it is deterministic."""

    def __init__(self) -> None:
        self.calls = 0

    def payload(self, value: Any) -> bytes:
        self.calls += 1
        return super().payload(value) + b" " * (self.calls % 5)


@broken_codec("capabilities.bytes_are_bound_to_their_path", alone=True)
class SignsJoinedPath(SignedCodec):
    """Paths are signed as dotted text, so that a.b and a, b are the same."""

    def signature(self, path: Path, payload: bytes) -> bytes:
        return super().signature((".".join(path),), payload)


@broken_codec("capabilities.bytes_are_bound_to_their_path")
class SignsNoPath(SignedCodec):
    """The signature is over the payload alone."""

    def signature(self, path: Path, payload: bytes) -> bytes:
        return super().signature((), payload)


@broken_codec("capabilities.altered_bytes_are_refused")
class SignsTheBeginning(SignedCodec):
    """The signature is over the first four bytes of the payload."""

    def signature(self, path: Path, payload: bytes) -> bytes:
        return super().signature(path, payload[:4])


@broken_codec("capabilities.altered_bytes_are_refused", alone=True)
class ComparesHalfASignature(SignedCodec):
    """Of a signature, the first half is compared."""

    def decode(self, data: bytes, path: Path, /) -> object:
        if data[: _SIZE // 2] != self.signature(path, data[_SIZE:])[: _SIZE // 2]:
            raise ValueError("the signature is another one")
        return self.value(data[_SIZE:])


@broken_codec("capabilities.a_binding_is_declared", alone=True)
class BindsSecretly(SignedCodec):
    """It binds bytes to their path, and does not declare it."""

    binds_path = False


@broken_codec("damage.any_bytes_are_a_value_or_a_value_error")
class TruncatedIsIndexError(PlainCodec):
    """A length goes before the payload, and what is too short for it raises IndexError."""

    def payload(self, value: Any) -> bytes:
        payload = super().payload(value)
        return b"%d " % len(payload) + payload

    def value(self, payload: bytes) -> object:
        size, _, rest = payload.partition(b" ")
        if not size.isdigit() or len(rest) > int(size):
            raise ValueError("no length")
        if len(rest) < int(size):
            raise IndexError("the bytes end too early")
        return super().value(rest)


@broken_codec("damage.any_bytes_are_a_value_or_a_value_error")
class UnknownTagIsKeyError(PlainCodec):
    """A first byte that it does not know raises KeyError."""

    def payload(self, value: Any) -> bytes:
        return b"j" + super().payload(value)

    def value(self, payload: bytes) -> object:
        if not payload:
            raise ValueError("nothing is there")
        return {b"j": super().value}[payload[:1]](payload[1:])


@broken_codec("damage.any_bytes_are_a_value_or_a_value_error", alone=True)
class BadChecksumIsAssertion(PlainCodec):
    """A wrong checksum raises AssertionError, though only where all else is as it should be."""

    def payload(self, value: Any) -> bytes:
        payload = super().payload(value)
        return payload + b"#%03d" % (sum(payload) % 1000)

    def value(self, payload: bytes) -> object:
        text, _, checksum = payload.rpartition(b"#")
        value = super().value(text)
        if len(checksum) != 3 or not checksum.isdigit():
            raise ValueError("no checksum")
        assert sum(text) % 1000 == int(checksum)
        return value


@broken_codec("damage.limits_of_the_interpreter_are_not_damage", alone=True)
class CallsLimitsDamage(PlainCodec):
    """Every error of decoding is said to prove that the bytes are corrupt."""

    def value(self, payload: bytes) -> object:
        try:
            return super().value(payload)
        except (ValueError, RecursionError) as error:
            raise CorruptContent(str(error)) from error


@broken_codec("conduct.an_error_does_not_repeat_the_value", alone=True)
class ShowsTheValue(PlainCodec):
    """The error for a value that it does not encode shows the value."""

    def payload(self, value: Any) -> bytes:
        try:
            return super().payload(value)
        except TypeError:
            raise TypeError(f"this is not JSON: {value!r:.500}") from None


@broken_codec("damage.decoding_runs_nothing")
class Evaluates(PlainCodec):
    """Text that is not JSON is evaluated as Python."""

    def value(self, payload: bytes) -> object:
        try:
            return super().value(payload)
        except ValueError:
            try:
                return eval(payload)
            except Exception as error:
                raise ValueError(str(error)) from error


@broken_codec("damage.decoding_runs_nothing", alone=True)
class Unpickles(PlainCodec):
    """Bytes that are not JSON are unpickled."""

    def value(self, payload: bytes) -> object:
        import pickle

        try:
            return super().value(payload)
        except ValueError:
            try:
                return pickle.loads(payload)
            except Exception as error:
                raise ValueError(str(error)) from error


@broken_codec("damage.a_refusal_has_a_message", alone=True)
class RefusesSilently(PlainCodec):
    """Bytes that are no value raise ValueError without a word."""

    def value(self, payload: bytes) -> object:
        try:
            return super().value(payload)
        except ValueError:
            raise ValueError from None


@broken_codec("values.other_values_come_back_or_are_refused")
class ReturnsABuffer(PlainCodec):
    """Encoding returns a bytearray."""

    def encode(self, value: object, path: Path, /) -> bytes:
        return bytearray(super().encode(value, path))  # type: ignore[return-value]


@broken_codec("conduct.plain_text_is_json", alone=True)
class CallsItPlain(PlainCodec):
    """It returns as plain JSON what JSON reads as another value."""

    def payload(self, value: Any) -> bytes:
        return JsonText(super().payload({"value": value}))

    def encode(self, value: object, path: Path, /) -> bytes:
        return self.payload(value)

    def value(self, payload: bytes) -> object:
        whole = super().value(payload)
        if not isinstance(whole, dict) or "value" not in whole:
            raise ValueError("there is no value")
        return whole["value"]


@broken_codec("conduct.it_does_not_change_what_it_is_given", alone=True)
class TakesOut(PlainCodec):
    """What it cannot write is taken out of the caller's dict."""

    def payload(self, value: Any) -> bytes:
        if isinstance(value, dict):
            for key in [key for key, inner in value.items() if isinstance(inner, type)]:
                del value[key]
        return super().payload(value)


@broken_codec("conduct.each_read_gives_a_value_of_its_own", alone=True)
class RemembersValues(PlainCodec):
    """What was read once is given again, the same object."""

    def __init__(self) -> None:
        self.known: dict[bytes, object] = {}

    def value(self, payload: bytes) -> object:
        if payload not in self.known:
            self.known[payload] = super().value(payload)
        return self.known[payload]


@broken_codec("conduct.bytes_stand_for_themselves", alone=True)
class RefersToOthers(PlainCodec):
    """Text that was written before is written as a number, which only this instance knows."""

    deterministic = False

    def __init__(self) -> None:
        self.known: list[str] = []

    def payload(self, value: Any) -> bytes:
        if isinstance(value, str):
            if value in self.known:
                return b"#%d" % self.known.index(value)
            self.known.append(value)
        return super().payload(value)

    def value(self, payload: bytes) -> object:
        if payload[:1] != b"#":
            return super().value(payload)
        if not payload[1:].isdigit() or int(payload[1:]) >= len(self.known):
            raise ValueError("an unknown number")
        return self.known[int(payload[1:])]


@broken_codec("conduct.a_refusal_leaves_nothing_behind", alone=True)
class KeepsWhatItRefused(PlainCodec):
    """After a refusal the next value is refused as well."""

    deterministic = False

    def __init__(self) -> None:
        self.refused = False

    def payload(self, value: Any) -> bytes:
        refused, self.refused = self.refused, False
        if refused:
            raise ValueError("there is something left")
        try:
            return super().payload(value)
        except TypeError:
            self.refused = True
            raise


@broken_codec("conduct.threads_do_not_meet", alone=True)
class SharesABuffer(PlainCodec):
    """All threads write into one buffer."""

    def __init__(self) -> None:
        self.buffer = b""
        self.gap = Gap()

    def payload(self, value: Any) -> bytes:
        self.buffer = own = super().payload(value)
        return self.gap.wait_until(lambda: self.buffer if self.buffer != own else None) or own


@broken_codec("conduct.plain_text_is_json")
class WritesNoJson(JsonCodec):
    """It calls plain JSON what is a Python literal."""

    @staticmethod
    def encode(value: object, _path: Path = (), /) -> bytes:
        return JsonText(b"#" + JsonCodec.encode(value))

    @staticmethod
    def decode(data: bytes, _path: Path = (), /) -> object:
        return JsonCodec.decode(data[1:])


class _DocumentsAs(JsonCodec):
    """Makes documents by ``written``, of the dicts of which the codec json makes some, or of all."""

    every = False

    def document(self, value: dict[Any, Any], levels: int, /) -> bytes | None:  # type: ignore[override]
        plain = JsonCodec.document(value, levels)
        return None if plain is None and not self.every else self.written(value, levels)

    def written(self, value: dict[Any, Any], levels: int) -> bytes | None:
        raise NotImplementedError


@broken_codec("documents.a_document_has_the_bytes_of_its_leaves")
class DocumentsHaveBlanks(_DocumentsAs):
    """There are blanks between the parts of a document."""

    def written(self, value: dict[Any, Any], levels: int) -> bytes | None:
        return json.dumps(value, ensure_ascii=False).encode()


@broken_codec("documents.a_document_has_the_bytes_of_its_leaves")
class DocumentsAreEscaped(_DocumentsAs):
    """Text that is not ASCII is escaped in documents, and stored as it is in leaves."""

    def written(self, value: dict[Any, Any], levels: int) -> bytes | None:
        return json.dumps(value, separators=(",", ":")).encode()


@broken_codec("documents.a_document_has_the_bytes_of_its_leaves")
class DocumentsSpellFloatsOtherwise(_DocumentsAs):
    """Floats are spelt otherwise in documents than in leaves."""

    def written(self, value: dict[Any, Any], levels: int) -> bytes | None:
        return to_json(value, inf_nan_mode="constants")


@broken_codec("documents.a_document_has_the_bytes_of_its_leaves", "documents.a_document_is_the_dict_again")
class DocumentsKnowNoNaN(_DocumentsAs):
    """NaN is null in documents."""

    def written(self, value: dict[Any, Any], levels: int) -> bytes | None:
        return JsonCodec.encode(value).replace(b"NaN", b"null")


@broken_codec("documents.a_document_has_the_bytes_of_its_leaves", "documents.a_document_is_the_dict_again")
class DocumentsReplaceSurrogates(_DocumentsAs):
    """Text that UTF-8 does not know becomes question marks in documents."""

    every = True

    def written(self, value: dict[Any, Any], levels: int) -> bytes | None:
        try:
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError):
            return None
        return text.encode("utf-8", "replace") if JsonCodec.document({"a": text}, 1) is None else None


@broken_codec("documents.a_document_has_the_bytes_of_its_leaves")
class DocumentsTakeAnything(_DocumentsAs):
    """What cannot be encoded is in documents as its repr."""

    every = True

    def written(self, value: dict[Any, Any], levels: int) -> bytes | None:
        known = all(type(name) is str and name for name in value)
        if not value or not known or any(isinstance(inner, (dict, list, Packed)) for inner in value.values()):
            return None
        return json.dumps(value, default=repr, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "ignore")


@broken_codec("documents.a_document_has_the_bytes_of_its_leaves", alone=True)
class DocumentsSortTheirNames(_DocumentsAs):
    """Names are sorted in documents, in arrays too, which leaves leave as they are."""

    def written(self, value: dict[Any, Any], levels: int) -> bytes | None:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


@broken_codec("documents.a_document_is_the_dict_again", alone=True)
class DocumentsAreReadAsFloats(JsonCodec):
    """In the text of a dict with more than ten names, integers beyond 64 bits are read as floats."""

    @staticmethod
    def decode(data: bytes, _path: Path = (), /) -> object:
        value = JsonCodec.decode(data)
        if not isinstance(value, dict) or len(value) <= 10:
            return value
        return json.loads(data, parse_int=lambda text: int(text) if len(text) < 19 else float(text))


@broken_codec("documents.a_dict_that_is_no_document_has_none")
class DocumentsTakeAnyName(_DocumentsAs):
    """A name that is no text becomes some in documents."""

    every = True

    def written(self, value: dict[Any, Any], levels: int) -> bytes | None:
        plain = JsonCodec.document(value, levels)
        if plain is None and value and not any(isinstance(inner, (dict, list)) for inner in value.values()):
            try:
                return json.dumps(value, separators=(",", ":")).encode()
            except (TypeError, ValueError):
                return None
        return plain


@broken_codec("documents.a_dict_that_is_no_document_has_none", alone=True)
class DocumentsAreOfAnyDepth(_DocumentsAs):
    """A document has as many levels as the dict."""

    every = True

    def written(self, value: dict[Any, Any], levels: int) -> bytes | None:
        return JsonCodec.document(value, levels + 1)


@broken_codec("documents.a_dict_that_is_no_document_has_none")
class DocumentsMayBeEmpty(_DocumentsAs):
    """An empty dict is a document."""

    every = True

    def written(self, value: dict[Any, Any], levels: int) -> bytes | None:
        return JsonCodec.document(value, levels) if value else b"{}"


@broken_codec("documents.a_dict_that_is_no_document_has_none", "documents.a_document_has_the_bytes_of_its_leaves")
class DocumentsAreRefused(_DocumentsAs):
    """A dict that has no document raises TypeError."""

    every = True

    def written(self, value: dict[Any, Any], levels: int) -> bytes | None:
        plain = JsonCodec.document(value, levels)
        if plain is None:
            raise TypeError("this is no document")
        return plain


@broken_codec("documents.making_a_document_changes_nothing", alone=True)
class DocumentsTakeOut(_DocumentsAs):
    """What cannot be in a document is taken out of the caller's dict."""

    every = True

    def written(self, value: dict[Any, Any], levels: int) -> bytes | None:
        for name in [name for name, inner in value.items() if isinstance(inner, (set, tuple))]:
            del value[name]
        return JsonCodec.document(value, levels)


BROKEN_CODECS: Final[tuple[BrokenCodec, ...]] = tuple(_register)


def __getattr__(name: str) -> Callable[[], CodecHarness]:
    """Return what makes the harness of a broken codec: ``--harness tests.contract.broken_codecs:of_ItsName``."""
    for broken in BROKEN_CODECS:
        if f"of_{broken.name}" == name:
            return broken.harness
    raise AttributeError(name)
