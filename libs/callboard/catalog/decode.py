"""Request bodies and configuration values decoded as Go decodes them onto Consul's types.

Consul's clients rely on it: keys match without regard to case, a fixed list of snake_case aliases
is known, an unknown key is an error, null leaves a field alone, durations are texts or
nanoseconds. The error texts are those of Go's encoding/json, which users search for.

A `Spec` names the fields of one Go struct; `decode` gives a dict of the fields that were present
under their canonical names. Meaning (defaults, limits) is in `definitions` and `registration`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias


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


def decode(body: bytes, spec: Spec) -> dict[str, object]:
    """The fields present in a JSON body, under canonical names.

    Raises DecodeError with Consul's text: `Request decode failed: EOF`,
    `Request decode failed: json: unknown field "Frobnicate"`,
    `Request decode failed: json: cannot unmarshal string into Go struct field X.Port of type int`.
    """
    raise NotImplementedError


def decode_config(value: object, spec: Spec, path: str = "") -> dict[str, object]:
    """The fields of an already parsed configuration object, strictly typed.

    Raises DecodeError: `invalid config key ports.htp`, or `ports.http: expected int, got string`.
    """
    raise NotImplementedError
