"""What gateway and sidecar say to each other of leases. Pure; the standard library.

| request | answer |
|---|---|
| POST /leases `Asked` | 201 `Granted`; 400, 404, 409 not playable (yet), 413, 503 too many |
| PUT /leases/ID | 200 `Renewed`; 404: there is no such lease (any more) |
| DELETE /leases/ID | 200; 404 |
| POST /leases/ID/start, /pause, /seek `Seek` | 200 `Progress`; 404; 409: not with this stream |
| POST /streams/NAME/keyframe | 202; 404 |

RTP and RTCP of a track go to its one port (RFC 5761), at the address that the request comes from,
and RTCP is answered to where they come from. A lease lasts LASTS_S unless it is renewed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum

from callboard.media.streams import NAME, TRACK, TRACKS_MAX

LASTS_S = 10.0
REQUEST_BYTES_MAX = 4096
ANSWER_BYTES_MAX = 4096
POSITION_MAX_S = 1e6
"""11 days: no film is longer."""


class BadMessage(ValueError):
    """A message that is none; the text says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a lease."""

    stream: str
    ports: Mapping[str, int]
    """By the tracks' IDs; tracks that are not named are not sent."""

    def to_json(self) -> bytes:
        """As it is sent."""
        return _to_json(self)

    @staticmethod
    def from_json(body: bytes) -> Asked:
        """Read one. Raises BadMessage."""
        told = _object(body)
        stream, ports = told.get("stream"), told.get("ports")
        if not isinstance(stream, str) or not NAME.fullmatch(stream):
            raise BadMessage("stream: the name of a stream is wanted")
        if not isinstance(ports, dict) or not 0 < len(ports) <= TRACKS_MAX:
            raise BadMessage("ports: an object of tracks and their ports is wanted")
        for track, port in ports.items():
            if not TRACK.fullmatch(track):
                raise BadMessage(f"ports: there is no track {track[:80]!r}")
            if type(port) is not int or not 0 < port < 65536:
                raise BadMessage(f"ports: no port for {track}")
        return Asked(stream, ports)


class State(Enum):
    """How far a film is that is played for one viewer."""

    PLAYING = "playing"
    PAUSED = "paused"
    ENDED = "ended"
    """It was sent to its end; `start` begins anew, `seek` goes back."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a film is that is played for one viewer."""

    state: State
    position_s: float
    duration_s: float
    """0: not known."""

    def to_json(self) -> bytes:
        """As it is sent."""
        return json.dumps(progress_fields(self)).encode()

    @staticmethod
    def from_json(body: bytes) -> Progress:
        """Read one. Raises BadMessage."""
        return _progress(_object(body))


@dataclass(frozen=True, slots=True)
class Granted:
    """A lease that was taken."""

    lease: str
    """Its ID; nobody guesses one."""
    lasts_s: float

    def to_json(self) -> bytes:
        """As it is sent."""
        return _to_json(self)

    @staticmethod
    def from_json(body: bytes) -> Granted:
        """Read one. Raises BadMessage."""
        told = _object(body)
        lease = told.get("lease")
        if not isinstance(lease, str) or not 0 < len(lease) <= 256:
            raise BadMessage("lease: its ID is wanted")
        return Granted(lease, _seconds(told, "lasts_s"))


@dataclass(frozen=True, slots=True)
class Renewed:
    """A lease that goes on."""

    lasts_s: float
    progress: Progress | None = None
    """Of a film that is played for one viewer."""

    def to_json(self) -> bytes:
        """As it is sent."""
        told: dict[str, object] = {"lasts_s": self.lasts_s}
        return json.dumps(told | (progress_fields(self.progress) if self.progress else {})).encode()

    @staticmethod
    def from_json(body: bytes) -> Renewed:
        """Read one. Raises BadMessage."""
        told = _object(body)
        return Renewed(_seconds(told, "lasts_s"), _progress(told) if "state" in told else None)


@dataclass(frozen=True, slots=True)
class Seek:
    """A wish to go elsewhere in a film."""

    position_s: float
    """From its begin; it goes on with the keyframe at it, or the last one before it."""

    def to_json(self) -> bytes:
        """As it is sent."""
        return _to_json(self)

    @staticmethod
    def from_json(body: bytes) -> Seek:
        """Read one. Raises BadMessage."""
        return Seek(_seconds(_object(body), "position_s"))


def progress_fields(progress: Progress) -> dict[str, object]:
    """As JSON has them."""
    return asdict(progress) | {"state": progress.state.value}


def _progress(told: Mapping[str, object]) -> Progress:
    try:
        state = State(told.get("state"))
    except ValueError:
        raise BadMessage("state: one of playing, paused, ended is wanted") from None
    return Progress(state, _seconds(told, "position_s"), _seconds(told, "duration_s"))


def _to_json(message: Asked | Granted | Seek) -> bytes:
    return json.dumps(asdict(message)).encode()


def _object(body: bytes) -> dict[str, object]:
    if len(body) > REQUEST_BYTES_MAX:
        raise BadMessage(f"more than {REQUEST_BYTES_MAX} octets")
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as problem:
        raise BadMessage(f"no JSON: {problem}") from None
    if not isinstance(told, dict):
        raise BadMessage("an object is wanted")
    return told


def _seconds(told: Mapping[str, object], key: str) -> float:
    value = told.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise BadMessage(f"{key}: seconds are wanted")
    if not (math.isfinite(value) and 0 <= value <= POSITION_MAX_S):
        raise BadMessage(f"{key}: from 0 to {POSITION_MAX_S:.0f} seconds")
    return float(value)
