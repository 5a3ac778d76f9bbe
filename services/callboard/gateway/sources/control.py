"""A sidecar's control port: what it sends, leases of it, and films that are played for one viewer.
What is said is in `callboard.media`."""

from __future__ import annotations

import ssl
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar
from urllib.parse import quote

from callboard.gateway.film import NotSteered
from callboard.gateway.live import StreamDescription, TrackDescription
from callboard.gateway.sdp.codecs import Codec
from callboard.gateway.sources.asking import Asking, reason_in
from callboard.gateway.sources.instances import Instance
from callboard.gateway.sources.keeping import ControlError, LeaseUnknown
from callboard.gateway.sources.sidecars import Listed
from callboard.media.leases import Asked, BadMessage, Granted, Progress, Renewed, Seek
from callboard.media.streams import BadListing, Stream, parse_listing
from callboard.pki.live import Judge

LASTS_MIN_S = 1.0
"""A lease that lasts less could not be kept."""

_T = TypeVar("_T")


class Controls:
    """Makes control clients, all with one identity."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, source: str = "") -> None:
        """See Asking."""
        self._tls = tls
        self._source = source
        self._made: weakref.WeakSet[Control] = weakref.WeakSet()

    def connect(self, instance: Instance) -> Control:
        """One for an instance; to be closed by who asks for it."""
        made = Control(Asking(instance, tls=self._tls, source=self._source))
        self._made.add(made)
        return made

    def judge(self, judge: Judge) -> None:
        """Leave sidecars whose certificate (DER) is not accepted any more."""
        for each in tuple(self._made):
            each.judge(judge)


class Control:
    """A `Sidecar` of `sidecars`."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self.judge = asking.judge

    async def close(self) -> None:
        """See Sidecar."""
        await self._asking.close()

    async def streams(self) -> Sequence[Listed]:
        """See Sidecar."""
        return parse_streams(await self._ask("GET", "/streams"))

    async def take(self, stream: str, ports: Mapping[str, int]) -> tuple[str, float]:
        """See Leasing."""
        asked = Asked(stream, dict(ports)).to_json()
        granted = _read(Granted.from_json, await self._ask("POST", "/leases", asked))
        return granted.lease, max(LASTS_MIN_S, granted.lasts_s)

    async def renew(self, lease: str) -> float:
        """See Leasing."""
        return max(LASTS_MIN_S, (await self._renewed(lease)).lasts_s)

    async def release(self, lease: str) -> None:
        """See Leasing."""
        await self._ask("DELETE", _path(lease))

    async def progress(self, lease: str) -> Progress:
        """See Leasing."""
        told = (await self._renewed(lease)).progress
        if told is None:
            raise NotSteered("it is no film")
        return told

    async def start(self, lease: str) -> Progress:
        """See Leasing."""
        return await self._steer(lease, "start")

    async def pause(self, lease: str) -> Progress:
        """See Leasing."""
        return await self._steer(lease, "pause")

    async def seek(self, lease: str, position_s: float) -> Progress:
        """See Leasing."""
        return await self._steer(lease, "seek", Seek(position_s).to_json())

    async def _renewed(self, lease: str) -> Renewed:
        return _read(Renewed.from_json, await self._ask("PUT", _path(lease), b""))

    async def _steer(self, lease: str, verb: str, body: bytes = b"") -> Progress:
        answer = await self._ask("POST", f"{_path(lease)}/{verb}", body)
        return _read(Progress.from_json, answer)

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        status, answer = await self._asking.request(method, path, body)
        if status == 404 and path.startswith("/leases/"):
            raise LeaseUnknown(reason_in(status, answer))
        if status == 409 and path.startswith("/leases/"):
            raise NotSteered(reason_in(status, answer))
        if status not in (200, 201, 204):
            raise ControlError(reason_in(status, answer))
        return answer


def _path(lease: str) -> str:
    return f"/leases/{quote(lease, safe='')}"


def parse_streams(answer: bytes) -> list[Listed]:
    """What an answer to GET /streams lists. Raises ControlError."""
    return [_listed(stream) for stream in _read(parse_listing, answer)]


def _listed(stream: Stream) -> Listed:
    tracks = tuple(
        TrackDescription(
            track.id,
            Codec(
                track.kind, track.codec, track.clock_rate, track.channels, dict(track.parameters)
            ),
            track.payload_type,
        )
        for track in stream.tracks
    )
    described = StreamDescription(
        stream.name,
        stream.title or stream.name,
        tracks,
        stream.on_demand or stream.per_viewer,
        stream.problem or ("" if tracks else "it has no track"),
        dict(stream.attributes),
    )
    return Listed(described, stream.per_viewer)


def _read(parse: Callable[[bytes], _T], answer: bytes) -> _T:
    try:
        return parse(answer)
    except (BadListing, BadMessage) as problem:
        raise ControlError(f"an answer that is none: {problem}") from None
