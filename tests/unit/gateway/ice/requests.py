"""Binding requests made by hand, and answers taken apart, for tests of the agent."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from aioice import stun

from callboard.gateway.ice import binding
from callboard.gateway.ice.credentials import Credentials
from callboard.gateway.ports import Address

TRANSACTION = bytes(range(12))
OURS = Credentials("ourufrag", "ourpassword-of-24-chars0")
OTHERS = Credentials("newufrag", "newpassword-of-24-chars0")


@dataclass(eq=False)
class Way:
    """A pair that keeps what it is told to send."""

    address: Address = field(default_factory=lambda: Address("192.0.2.1", 4711))
    reliable: bool = False
    sent: list[bytes] = field(default_factory=list)

    def send(self, data: bytes) -> bool:
        """Keep one packet."""
        self.sent.append(data)
        return True


def check(
    credentials: Credentials = OURS,
    *,
    nominate: bool = False,
    username: str | None = None,
    key: bytes | None = None,
    extra: tuple[tuple[int, bytes], ...] = (),
    behind: tuple[tuple[int, bytes], ...] = (),
    attributes: dict[str, object] | None = None,
) -> binding.Request:
    """A check with these credentials, as parsed; `extra` attributes are signed, those `behind`
    MESSAGE-INTEGRITY are not."""
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, TRANSACTION)
    message.attributes["USERNAME"] = username or f"{credentials.ufrag}:them"
    message.attributes["ICE-CONTROLLING"] = 1
    message.attributes.update(attributes or {})
    if nominate:
        message.attributes["USE-CANDIDATE"] = None
    data = add(bytes(message), *extra)
    digest = stun.message_integrity(data, credentials.key if key is None else key)
    parsed = binding.parse(add(data, (0x0008, digest), *behind))
    assert isinstance(parsed, binding.Request)
    return parsed


def add(data: bytes, *attributes: tuple[int, bytes]) -> bytes:
    """A message with more attributes."""
    for kind, value in attributes:
        padding = bytes(-len(value) % 4)
        data += struct.pack("!HH", kind, len(value)) + value + padding
    return stun.set_body_length(data, len(data) - stun.HEADER_LENGTH)


def plain(**attributes: object) -> bytes:
    """A Binding request without credentials."""
    named = {name.replace("_", "-"): value for name, value in attributes.items()}
    return bytes(stun.Message(stun.Method.BINDING, stun.Class.REQUEST, TRANSACTION, named))


def code_of(answer: bytes) -> int | None:
    """The error of an answer; None for success."""
    return stun.parse_message(answer).error_code
