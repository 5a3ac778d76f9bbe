"""Request bodies and configuration values decoded as Go decodes them onto Consul's types.

Consul's clients rely on it: keys match without regard to case, a fixed list of snake_case aliases
is known, an unknown key is an error, null leaves a field alone, durations are texts or
nanoseconds. The error texts are those of Go's encoding/json, which users search for.

A `Spec` names the fields of one Go struct; `decode` gives a dict of the fields that were present
under their canonical names. Meaning (defaults, limits) is in `definitions` and `registration`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

from callboard.catalog.durations import DurationError, parse_duration


class DecodeError(ValueError):
    """The body or value cannot be decoded; `str()` is the whole text for the client."""


Kind: TypeAlias = "Scalar | ListOf | MapOf | Spec | StringOrList"


@dataclass(frozen=True, slots=True)
class Scalar:
    """One JSON value that is not a container."""

    go_type: str
    kind: Literal["string", "integer", "boolean", "duration", "any", "float"]
    minimum: int = 0
    maximum: int = 0


@dataclass(frozen=True, slots=True)
class ListOf:
    """A JSON array of one kind."""

    item: Kind


@dataclass(frozen=True, slots=True)
class MapOf:
    """A JSON object with free keys."""

    value: Kind


@dataclass(frozen=True, slots=True)
class StringOrList:
    """A string or an array of strings; decodes to a list (configuration files)."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One Go struct: canonical field name → kind, and other spellings of fields."""

    name: str
    fields: dict[str, Kind]
    aliases: dict[str, str] = field(default_factory=dict)
    """Alias in lower case → canonical name. Case variants of a field need no alias."""
    go_type: str = ""
    """What Go calls a whole value of it; "" = the name in package structs."""
    lenient: bool = False
    """Keys that no field has are passed over, as where Consul decodes by itself."""
    by_key: dict[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        keys = {name.lower(): name for name in self.fields}
        keys.update(self.aliases)
        object.__setattr__(self, "by_key", keys)


STRING = Scalar("string", "string")
INTEGER = Scalar("int", "integer", -(1 << 63), (1 << 63) - 1)
UNSIGNED = Scalar("uint64", "integer", 0, (1 << 64) - 1)
FLOAT = Scalar("float64", "float")
BOOLEAN = Scalar("bool", "boolean")
DURATION = Scalar("time.Duration", "duration")
"""Decodes to int nanoseconds."""
ANYTHING = Scalar("interface {}", "any")
STRINGS = ListOf(STRING)
STRING_MAP = MapOf(STRING)


class Mismatch(Exception):
    """A value of another type than the field's: (place in the document, JSON value, Go type)."""

    def __init__(self, struct: str, path: str, found: str, go_type: str) -> None:
        super().__init__(path)
        self.struct = struct
        self.path = path
        self.found = found
        self.go_type = go_type


class UnknownField(Exception):
    """A key no field has: (the path above it, the key as written)."""

    def __init__(self, path: str, key: str) -> None:
        super().__init__(path)
        self.path = path
        self.key = key


def decode(body: bytes, spec: Spec) -> dict[str, object]:
    """The fields present in a JSON body, under canonical names.

    Raises DecodeError with Consul's text: `Request decode failed: EOF`,
    `Request decode failed: json: unknown field "Frobnicate"`,
    `Request decode failed: json: cannot unmarshal string into Go struct field X.Port of type int`.
    """
    try:
        value = parse(body)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ValueError(
                f"json: cannot unmarshal {_json_type(value)} into Go value of type {_go_type(spec)}"
            )
        return _struct(value, spec, "")
    except UnknownField as unknown:
        raise DecodeError(
            f'Request decode failed: json: unknown field "{unknown.key}"'
        ) from unknown
    except Mismatch as mismatch:
        field_path = _MAP_KEY.sub("", mismatch.path)  # Go names fields, and no keys of maps
        raise DecodeError(
            f"Request decode failed: json: cannot unmarshal {mismatch.found} into Go struct field"
            f" {mismatch.struct}.{field_path} of type {mismatch.go_type}"
        ) from mismatch
    except ValueError as error:
        raise DecodeError(f"Request decode failed: {error}") from error


def decode_config(value: object, spec: Spec, path: str = "") -> dict[str, object]:
    """The fields of an already parsed configuration object, strictly typed.

    Raises DecodeError: `invalid config key ports.htp`, or `ports.http: expected int, got string`.
    """
    try:
        if not isinstance(value, dict):
            raise Mismatch(spec.name, path, _json_type(value), "object")
        return _struct(value, spec, path)
    except UnknownField as unknown:
        place = _join(unknown.path, unknown.key).replace("\0", "")
        raise DecodeError(f"invalid config key {place}") from unknown
    except Mismatch as mismatch:
        place = mismatch.path.replace("\0", "") or spec.name
        wanted = _GO_STRUCT.sub("object", mismatch.go_type)  # (files are no Go programs)
        raise DecodeError(f"{place}: expected {wanted}, got {mismatch.found}") from mismatch
    except DurationError as error:
        raise DecodeError(f"{path or spec.name}: {error}") from error


def parse(body: bytes) -> object:
    """The first JSON value of a body; what follows it is ignored, as Go's decoder does.

    Raises ValueError with Go's text (`EOF`, `unexpected EOF`, `invalid character 'x' …`).
    """
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise ValueError("exceeded max depth") from None
    except msgspec.DecodeError as error:
        text = str(error)
    except UnicodeDecodeError:
        raise ValueError("invalid UTF-8 in string") from None
    if not body.strip():
        raise ValueError("EOF")
    if (wrong := _wrong_scalar(body)) is not None:
        raise ValueError(wrong)
    if "truncated" in text:
        raise ValueError("unexpected EOF")
    found = _POSITION.search(text)
    if found is None:
        raise ValueError(text)
    position = int(found.group(1))
    if "trailing characters" in text and 1 < position <= len(body):
        return parse(body[: position - 1])  # msgspec counts to behind the first one too many
    if "escape" in text:
        position -= 1  # msgspec counts to behind the wrong one
    character = _quoted(body[position : position + 1].decode("latin-1") or "EOF")
    context = next((go for ours, go in _CONTEXTS if ours in text), "in literal")
    if "invalid number" in text:
        context = _NUMBER_CONTEXTS.get(body[position - 1 : position].lower(), context)
    raise ValueError(f"invalid character '{character}' {context}")


def _wrong_scalar(body: bytes) -> str | None:
    """Go's text for a literal, number or string that is none; msgspec tells these apart from
    nothing else. None for other mistakes."""
    text = body.decode("utf-8", "replace")
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        at, control = error.pos, error.msg.startswith("Invalid control character")
    except (RecursionError, ValueError):
        return None
    else:
        return None
    if control:
        return f"invalid character '{_quoted(text[at])}' in string literal"
    if text[at : at + 1] == "-" and text[at + 1 : at + 2]:
        return f"invalid character '{_quoted(text[at + 1])}' in numeric literal"
    literal = next((each for each in ("true", "false", "null") if text[at : at + 1] == each[0]), "")
    for found, expected in zip(text[at : at + len(literal)], literal, strict=False):
        if found != expected:
            place = f"in literal {literal} (expecting '{expected}')"
            return f"invalid character '{_quoted(found)}' {place}"
    return None


def _quoted(character: str) -> str:
    """A character as Go quotes it in its errors."""
    if character == "'":
        return "\\'"
    return character if character.isprintable() else character.encode("unicode_escape").decode()


_GO_STRUCT = re.compile(r"structs\.\w+")
_MAP_KEY = re.compile(r"\.?\x00[^\x00]*\x00")
_POSITION = re.compile(r"\(byte (\d+)\)")
_CONTEXTS = (
    ("expected ':'", "after object key"),
    ("expected ',' or '}'", "after object key:value pair"),
    ("expected ',' or ']'", "after array element"),
    ("object keys", "looking for beginning of object key string"),
    ("expected '\"'", "looking for beginning of object key string"),
    ("trailing comma in object", "looking for beginning of object key string"),
    ("trailing comma in array", "looking for beginning of value"),
    ("unicode escape", "in \\u hexadecimal character escape"),
    ("invalid escape character", "in string escape code"),
    ("invalid number", "in exponent of numeric literal"),
    ("invalid character", "looking for beginning of value"),
)
_NUMBER_CONTEXTS = {
    b"0": "after object key:value pair",
    b".": "after decimal point in numeric literal",
}
"""By the character before the wrong one: nothing follows a leading 0."""


def _struct(value: dict[object, object], spec: Spec, path: str) -> dict[str, object]:
    fields: dict[str, object] = {}
    for key, item in value.items():
        name = spec.by_key.get(str(key).lower())
        if name is None and spec.lenient:
            continue
        if name is None:
            raise UnknownField(path, str(key))
        if item is not None:
            fields[name] = _value(item, spec.fields[name], spec.name, _join(path, str(key)))
    return fields


def _value(value: object, kind: Kind, struct: str, path: str) -> object:
    if isinstance(kind, Scalar):
        return _scalar(value, kind, struct, path)
    if isinstance(kind, Spec):
        if not isinstance(value, dict):
            raise Mismatch(struct, path, _json_type(value), _go_type(kind))
        return _struct(value, kind, path)
    if isinstance(kind, MapOf):
        if not isinstance(value, dict):
            raise Mismatch(struct, path, _json_type(value), _go_type(kind))
        return {
            str(key): _value(item, kind.value, struct, _join(path, f"\0{key}\0"))
            for key, item in value.items()
            if item is not None or kind.value is ANYTHING
        }
    if isinstance(kind, StringOrList):
        kind, value = STRINGS, [value] if isinstance(value, str) else value
    if not isinstance(value, list):
        raise Mismatch(struct, path, _json_type(value), _go_type(kind))
    # A null element of a list is Go's zero value.
    return [
        _zero(kind.item) if item is None else _value(item, kind.item, struct, path)
        for item in value
    ]


def _scalar(value: object, kind: Scalar, struct: str, path: str) -> object:
    if kind.kind == "any":
        return value
    if kind.kind == "string" and isinstance(value, str):
        return value
    if kind.kind == "boolean" and isinstance(value, bool):
        return value
    if kind.kind == "duration" and isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if kind.kind == "float":
            return float(value)
        if kind.kind == "duration" and abs(value) < 1 << 63:
            return int(value)
        if kind.kind == "integer":
            if isinstance(value, int) and kind.minimum <= value <= kind.maximum:
                return value
            raise Mismatch(struct, path, f"number {value}", kind.go_type)
    raise Mismatch(struct, path, _json_type(value), kind.go_type)


def _zero(kind: Kind) -> object:
    if isinstance(kind, Scalar):
        return {"string": "", "boolean": False, "any": None}.get(kind.kind, 0)
    return [] if isinstance(kind, ListOf | StringOrList) else {}


def _json_type(value: object) -> str:
    """What Go calls a JSON value in its errors."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "null" if value is None else "array" if isinstance(value, list) else "object"


def _go_type(kind: Kind) -> str:
    if isinstance(kind, Scalar):
        return kind.go_type
    if isinstance(kind, Spec):
        return kind.go_type or f"structs.{kind.name}"
    if isinstance(kind, MapOf):
        return f"map[string]{_go_type(kind.value)}"
    return "[]string" if isinstance(kind, StringOrList) else f"[]{_go_type(kind.item)}"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
