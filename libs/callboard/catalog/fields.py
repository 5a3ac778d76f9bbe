"""Typed reading of what `decode` gave: an absent field is Go's zero value.

`decode` has checked the types; these only tell the type checker so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from callboard.catalog.durations import format_duration, seconds
from callboard.catalog.objects import ServiceAddress, Weights

_ZEROS: tuple[object, ...] = (None, "", 0, False, [], {})


class Fields:
    """A decoded struct."""

    __slots__ = ("_values",)

    def __init__(self, values: object) -> None:
        self._values = cast("Mapping[str, object]", values or {})

    def __bool__(self) -> bool:
        """Whether any field was present."""
        return bool(self._values)

    def nonzero(self) -> bool:
        """Whether any field is something else than Go's zero value."""
        return any(value not in _ZEROS for value in self._values.values())

    def text(self, name: str) -> str:
        return cast("str", self._values.get(name, ""))

    def number(self, name: str, default: int = 0) -> int:
        return cast("int", self._values.get(name, default))

    def flag(self, name: str, default: bool = False) -> bool:
        return cast("bool", self._values.get(name, default))

    def duration_s(self, name: str) -> float:
        return seconds(self.number(name))

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(cast("list[str]", self._values.get(name, ())))

    def text_map(self, name: str) -> dict[str, str]:
        return cast("dict[str, str]", self._values.get(name, {}))

    def any(self, name: str) -> object:
        return self._values.get(name)

    def struct(self, name: str) -> Fields:
        return Fields(self._values.get(name))

    def structs(self, name: str) -> list[Fields]:
        return [Fields(each) for each in cast("list[object]", self._values.get(name, []))]

    def headers(self, name: str) -> dict[str, tuple[str, ...]]:
        values = cast("dict[str, list[str]]", self._values.get(name, {}))
        return {key: tuple(each) for key, each in values.items()}

    def addresses(self, name: str) -> dict[str, ServiceAddress]:
        """Of a map of {Address, Port}."""
        values = cast("dict[str, object]", self._values.get(name, {}))
        pairs = {key: Fields(value) for key, value in values.items()}
        return {
            key: ServiceAddress(fields.text("Address"), fields.number("Port"))
            for key, fields in pairs.items()
        }

    def weights(self, name: str, absent: int) -> Weights:
        """Of {Passing, Warning}; `absent` where only one is given, 1 and 1 for none at all."""
        if self._values.get(name) is None:
            return Weights()
        fields = self.struct(name)
        return Weights(fields.number("Passing", absent), fields.number("Warning", absent))

    def plain(self, durations: frozenset[str]) -> dict[str, object]:
        """The non-zero fields as plain JSON values, durations as Go's text."""
        return {
            name: format_duration(cast("int", value)) if name in durations else value
            for name, value in self._values.items()
            if value not in _ZEROS
        }
