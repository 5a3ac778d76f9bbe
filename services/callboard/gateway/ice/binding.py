"""Binding requests and their answers (RFC 8489), on aioice's codec.

What comes is anybody's bytes: `parse` gives None for whatever is not a message of STUN, and raises
nothing. What goes is written here, since the codec cannot write UNKNOWN-ATTRIBUTES.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from aioice import stun

from callboard.gateway.ports import Address

MESSAGE_BYTES_MAX = 1500
"""Checks of browsers have some 100 bytes; what is longer is not parsed."""

_HEADER = struct.Struct("!HHI12s")
_ATTRIBUTE = struct.Struct("!HH")
_BINDING_REQUEST = 0x0001
_BINDING_SUCCESS = 0x0101
_BINDING_ERROR = 0x0111
_MESSAGE_INTEGRITY = 0x0008
_ERROR_CODE = 0x0009
_UNKNOWN_ATTRIBUTES = 0x000A
_XOR_MAPPED_ADDRESS = 0x0020
_FINGERPRINT = 0x8028
_COMPREHENSION_OPTIONAL = 0x8000
_KNOWN = frozenset({*stun.ATTRIBUTES_BY_TYPE, _UNKNOWN_ATTRIBUTES})

REASONS = {
    400: "Bad Request",
    401: "Unauthenticated",
    420: "Unknown Attribute",
    487: "Role Conflict",
}
"""RFC 8489, 14.8; RFC 8445, 16.1."""


@dataclass(frozen=True, slots=True)
class Request:
    """A Binding request."""

    message: stun.Message
    unknown: tuple[int, ...]
    """Types of attributes that must be understood, and are not (RFC 8489, 6.3.1)."""

    @property
    def transaction(self) -> bytes:
        """Its transaction ID."""
        return self.message.transaction_id

    @property
    def username(self) -> str | None:
        """As sent, `ours:theirs`; None without the attribute."""
        value = self.message.attributes.get("USERNAME")
        return value if isinstance(value, str) else None

    @property
    def protected(self) -> bool:
        """Whether it has MESSAGE-INTEGRITY, right or wrong."""
        return "MESSAGE-INTEGRITY" in self.message.attributes

    @property
    def has_fingerprint(self) -> bool:
        """Whether it has a FINGERPRINT (a wrong one does not parse)."""
        return "FINGERPRINT" in self.message.attributes

    @property
    def nominates(self) -> bool:
        """USE-CANDIDATE (RFC 8445, 7.1.2)."""
        return "USE-CANDIDATE" in self.message.attributes

    @property
    def from_controlled(self) -> bool:
        """Whether its sender takes itself for the controlled agent, as we are."""
        return "ICE-CONTROLLED" in self.message.attributes

    def made_with(self, key: bytes) -> bool:
        """Whether MESSAGE-INTEGRITY is that of this key."""
        return self.message.check_message_integrity(key)


@dataclass(frozen=True, slots=True)
class Mapped:
    """A server's answer to a Binding request of ours."""

    transaction: bytes
    address: Address | None
    """As the server saw us; None if it refused, or did not say."""


def parse(data: bytes) -> Request | Mapped | None:
    """Read a datagram; None for what is neither a Binding request nor an answer to one.

    Indications are None, too: nothing is answered to them, and they prove nothing.
    """
    if not _could_be_stun(data):
        return None
    kind = data[0] << 8 | data[1]
    unknown = _unknown_attributes(data)
    if unknown is None:
        return None
    try:
        message = stun.parse_message(data)
    except Exception:  # the codec raises what its unpacking of the bytes raises
        return None
    if kind == _BINDING_REQUEST:
        return Request(message, unknown)
    mapped = message.attributes.get("XOR-MAPPED-ADDRESS") if kind == _BINDING_SUCCESS else None
    return Mapped(message.transaction_id, Address(*mapped) if mapped is not None else None)


def _could_be_stun(data: bytes) -> bool:
    """What a glance tells, so that floods of noise cost little (RFC 8489, 5)."""
    if not stun.HEADER_LENGTH <= len(data) <= MESSAGE_BYTES_MAX or len(data) % 4:
        return False
    kind, length, cookie, _ = _HEADER.unpack_from(data)
    return (
        cookie == stun.COOKIE
        and length == len(data) - stun.HEADER_LENGTH
        and kind in (_BINDING_REQUEST, _BINDING_SUCCESS, _BINDING_ERROR)
    )


def _unknown_attributes(data: bytes) -> tuple[int, ...] | None:
    """Those behind MESSAGE-INTEGRITY are nobody's word and do not count (RFC 8489, 14.5). None if
    an attribute ends behind the message, which the codec does not mind."""
    unknown = []
    signed = True
    at = stun.HEADER_LENGTH
    while at < len(data):
        kind, length = _ATTRIBUTE.unpack_from(data, at)
        signed = signed and kind != _MESSAGE_INTEGRITY
        if signed and kind < _COMPREHENSION_OPTIONAL and kind not in _KNOWN:
            unknown.append(kind)
        at += _ATTRIBUTE.size + length + stun.padding_length(length)
    return tuple(unknown) if at == len(data) else None


def request(transaction: bytes) -> bytes:
    """A Binding request to a STUN server: without credentials, with FINGERPRINT."""
    return _message(_BINDING_REQUEST, transaction, (), key=None, fingerprint=True)


def success(request: Request, seen: Address, key: bytes | None) -> bytes:
    """The answer that tells the sender its own address, as seen here."""
    mapped = stun.pack_xor_address((seen.host, seen.port), request.transaction)
    return _answer(request, _BINDING_SUCCESS, ((_XOR_MAPPED_ADDRESS, mapped),), key)


def error(request: Request, code: int, key: bytes | None) -> bytes:
    """The answer that refuses, with a code of `REASONS`; 420 names what was not understood."""
    attributes = [(_ERROR_CODE, stun.pack_error_code((code, REASONS[code])))]
    if code == 420:
        kinds = request.unknown
        attributes.append((_UNKNOWN_ATTRIBUTES, struct.pack(f"!{len(kinds)}H", *kinds)))
    return _answer(request, _BINDING_ERROR, attributes, key)


def _answer(
    request: Request, kind: int, attributes: Sequence[tuple[int, bytes]], key: bytes | None
) -> bytes:
    fingerprint = key is not None or request.has_fingerprint
    return _message(kind, request.transaction, attributes, key=key, fingerprint=fingerprint)


def _message(
    kind: int,
    transaction: bytes,
    attributes: Sequence[tuple[int, bytes]],
    *,
    key: bytes | None,
    fingerprint: bool,
) -> bytes:
    body = b"".join(_attribute(*attribute) for attribute in attributes)
    message = _HEADER.pack(kind, len(body), stun.COOKIE, transaction) + body
    if key is not None:
        message = _add(message, _MESSAGE_INTEGRITY, stun.message_integrity(message, key))
    if fingerprint:
        checksum = struct.pack("!I", stun.message_fingerprint(message))
        message = _add(message, _FINGERPRINT, checksum)
    return message


def _add(message: bytes, kind: int, value: bytes) -> bytes:
    longer = message + _attribute(kind, value)
    return stun.set_body_length(longer, len(longer) - stun.HEADER_LENGTH)


def _attribute(kind: int, value: bytes) -> bytes:
    padding = bytes(stun.padding_length(len(value)))
    return _ATTRIBUTE.pack(kind, len(value)) + value + padding
