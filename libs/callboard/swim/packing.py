"""MessagePack as Go's old codec speaks it, with limits and typed getters.

The old specification has one kind of raw string and no "bin"; Go's field names are the keys.
Strings of the newer specification are understood. Everything that comes from outside is checked
here: whatever is wrong raises DecodeError, and nothing allocates more than a small multiple of
the bytes received.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgpack

ARRAY_ITEMS_MAX = 8192
"""The longest array understood: msgpack allocates an array before it has seen its items."""

MAP_ITEMS_MAX = 65536
"""The largest map understood (serf sends one with an entry per member)."""

INTEGER_MAX = 2**64 - 1


class DecodeError(ValueError):
    """Bytes from outside that are not a message: the sender's fault; never ours."""


def pack(value: object) -> bytes:
    """Encode a value; bytes and str both become raw strings."""
    return bytes(msgpack.packb(value, use_bin_type=False))


def unpack(data: bytes | memoryview) -> object:
    """Decode exactly one value; strings come as bytes. Raises DecodeError."""
    try:
        return msgpack.unpackb(
            data,
            raw=True,
            strict_map_key=False,
            max_array_len=ARRAY_ITEMS_MAX,
            max_map_len=MAP_ITEMS_MAX,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as problem:
        raise DecodeError(f"not MessagePack: {problem}") from None


def unpack_map(data: bytes | memoryview) -> Fields:
    """Decode exactly one map of Go field names. Raises DecodeError."""
    return fields(unpack(data))


def fields(value: object) -> Fields:
    """Take a decoded value as a map of Go field names. Raises DecodeError."""
    if not isinstance(value, dict):
        raise DecodeError(f"a map was expected, not {type(value).__name__}")
    return Fields(value)


def text(value: object) -> str:
    """A raw string as UTF-8 text. Raises DecodeError."""
    if not isinstance(value, bytes):
        raise DecodeError(f"a string was expected, not {type(value).__name__}")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise DecodeError("a string is not UTF-8") from None


def integer(value: object, maximum: int = INTEGER_MAX) -> int:
    """An integer in 0..maximum. Raises DecodeError."""
    if type(value) is not int or not 0 <= value <= maximum:
        raise DecodeError(f"an integer in 0..{maximum} was expected")
    return value


class Fields:
    """A decoded map whose values are checked as they are taken; a missing one is Go's zero."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[object, object]) -> None:
        self._values = values

    def all(self) -> Mapping[object, object]:
        """Everything, as decoded."""
        return self._values

    def get(self, name: str) -> object:
        """The value as decoded; None when missing or nil."""
        return self._values.get(name.encode())

    def text(self, name: str) -> str:
        """A string; "" when missing."""
        value = self.get(name)
        return "" if value is None else text(value)

    def raw(self, name: str, bytes_max: int | None = None) -> bytes:
        """A byte string; b"" when missing. Raises DecodeError above `bytes_max`."""
        value = self.get(name)
        if value is None:
            return b""
        if not isinstance(value, bytes):
            raise DecodeError(f"{name} must be a byte string")
        if bytes_max is not None and len(value) > bytes_max:
            raise DecodeError(f"{name} has {len(value)} bytes, the most is {bytes_max}")
        return value

    def integer(self, name: str, maximum: int = INTEGER_MAX) -> int:
        """An integer in 0..maximum; 0 when missing."""
        value = self.get(name)
        return 0 if value is None else integer(value, maximum)

    def signed(self, name: str) -> int:
        """An integer of either sign; 0 when missing."""
        value = self.get(name)
        if value is None:
            return 0
        if type(value) is not int:
            raise DecodeError(f"{name} must be an integer")
        return value

    def flag(self, name: str) -> bool:
        """A boolean; False when missing."""
        value = self.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise DecodeError(f"{name} must be a boolean")
        return value

    def items(self, name: str) -> list[object]:
        """An array; empty when missing or nil."""
        value = self.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise DecodeError(f"{name} must be an array")
        return value

    def entries(self, name: str) -> Mapping[object, object]:
        """A map; empty when missing or nil."""
        value = self.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise DecodeError(f"{name} must be a map")
        return value
