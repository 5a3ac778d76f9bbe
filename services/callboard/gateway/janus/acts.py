"""What the pure protocol wants done with media."""

from __future__ import annotations

from dataclasses import dataclass

from callboard.gateway.session.asker import Asker


@dataclass(frozen=True, slots=True)
class Call:
    """One PeerConnection of a handle; a handle has several, one after the other."""

    session: int
    handle: int
    serial: int


@dataclass(frozen=True, slots=True)
class Watch:
    """Make an offer: then `Protocol.offered`, or `refused`."""

    call: Call
    stream: str
    asker: Asker


@dataclass(frozen=True, slots=True)
class Accept:
    """Take the answer to it: then `up`, or `refused`."""

    call: Call
    sdp: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Send nothing for now."""

    call: Call


@dataclass(frozen=True, slots=True)
class Resume:
    """Send again."""

    call: Call


@dataclass(frozen=True, slots=True)
class SwitchTo:
    """Send another stream: then `switched`, or `refused`."""

    call: Call
    stream: str


@dataclass(frozen=True, slots=True)
class HangUp:
    """End it."""

    call: Call
    reason: str


Act = Watch | Accept | Pause | Resume | SwitchTo | HangUp
