"""One publisher (WHIP): its packets go into a stream, requests for what is missing go back."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aiortc.rtp import RtcpReceiverInfo, RtcpRrPacket

from callboard.gateway.live import LiveStream, LiveTrack, Streams
from callboard.gateway.ports import Peer
from callboard.gateway.sdp.answers import Answer
from callboard.gateway.sdp.codecs import VIDEO
from callboard.gateway.sdp.writing import Facts
from callboard.gateway.session import feedback
from callboard.gateway.session.reception import Asking, Block, Reception
from callboard.gateway.session.session import Session, State

REPORT_INTERVAL_S = 1.0
ESTIMATE_BITS_MIN, ESTIMATE_BITS_MAX = 500_000, 2_500_000
"""What a publisher is told that the way bears. Without being told more, a browser would stay at the
few hundred kbit/s it begins with."""
LOSSY, CLEAN = 0.1, 0.02
"""Fractions lost: from the first on the estimate falls, below the second it grows."""

_HEADER = struct.Struct("!2xHII")


@dataclass(slots=True)
class _Source:
    """One SSRC that sends a track."""

    live: LiveTrack
    reception: Reception
    asking: Asking = field(default_factory=Asking)
    missing_then: int = 0


class Publisher(Session):
    """See the module."""

    def __init__(
        self,
        id: str,
        live: LiveStream,
        streams: Streams,
        peer: Peer,
        facts: Facts,
        *,
        client: str,
        clock: Callable[[], float],
        rng: random.Random,
        on_ended: Callable[[Session], None],
    ) -> None:
        super().__init__(id, live.name, peer, facts, client=client, now=clock(), on_ended=on_ended)
        self.live = live
        self.estimate = ESTIMATE_BITS_MAX
        self._streams = streams
        self._clock = clock
        self._own = rng.randrange(1, 1 << 32)
        self._tracks: dict[int, str] = {}
        self._sources: dict[int, _Source] = {}
        self._wished: set[str] = set()
        """Tracks of which keyframes were wanted before we could ask."""
        self._report_at = 0.0

    # ------------------------------------------------------------------ life

    def agree(self, agreed: Answer, ufrag: str, fingerprints: Sequence[str]) -> None:
        """See Session. Media is taken from now on: a browser sends as soon as DTLS is through, and
        nominates later."""
        super().agree(agreed, ufrag, fingerprints)
        self._tracks = {each.payload_type: each.track for each in agreed.media}
        self.live.on_keyframe_wanted = self._ask_for_keyframe

    def connected(self, now: float) -> None:
        """See Session."""
        self._tell_estimate()
        wished, self._wished = self._wished, set()
        for track in wished:
            self._ask_for_keyframe(track)

    def closing(self, *, connected: bool) -> None:
        """See Session."""
        self._streams.close(self.live, f"the publisher has gone: {self.reason}", self._clock())

    def tick(self, now: float) -> None:
        """See Session."""
        super().tick(now)
        if self.state is not State.CONNECTED:
            return
        for source in self._sources.values():
            self._ask_for_missing(source, now)
        if now >= self._report_at:
            self._report_at = now + REPORT_INTERVAL_S
            self._report(now)

    def silent_s(self, now: float) -> float:
        """How long it has sent nothing, since it is connected."""
        if self.connected_at is None:
            return 0.0
        return now - max(self.connected_at, self.live.heard_at)

    # ------------------------------------------------------------------ what comes

    def take_rtp(self, data: bytes, now: float) -> None:
        """See Session. Tracks are told apart by payload type: it is negotiated, and each
        section's own in a bundle (RFC 8843, 9.2)."""
        track = self._tracks.get(data[1] & 0x7F) if len(data) > _HEADER.size else None
        if track is None:
            return
        self.live.take(track, data, now)
        number, timestamp, ssrc = _HEADER.unpack_from(data)
        live = self.live.tracks[track]
        if ssrc != live.track.ssrc:
            return
        source = self._sources.get(ssrc)
        if source is None:
            source = self._begin(live, ssrc)
        source.reception.take(number, timestamp, now)
        missing = live.track.counters.missing
        if missing != source.missing_then and self.state is State.CONNECTED:
            source.missing_then = missing
            self._ask_for_missing(source, now)

    def take_rtcp(self, data: bytes, now: float) -> None:
        """See Session."""
        named: set[str] = set()
        for said in feedback.read(data):
            if isinstance(said, feedback.Clock):
                named |= self._tracks_of((said.ssrc,))
                if (source := self._sources.get(said.ssrc)) is not None:
                    source.reception.take_report(said.ntp, now)
            elif isinstance(said, feedback.GoodBye):
                named |= self._tracks_of(said.ssrcs)
        for track in named:
            self.live.take_rtcp(track, data, now)

    def _tracks_of(self, ssrcs: tuple[int, ...]) -> set[str]:
        known = (self._sources.get(ssrc) for ssrc in ssrcs)
        found = {source.live.description.id for source in known if source is not None}
        if self._agreed is not None:  # a report may come before its source's first packet
            found |= {each.track for each in self._agreed.media if each.ssrc in ssrcs}
        return found

    def _begin(self, live: LiveTrack, ssrc: int) -> _Source:
        for other, source in list(self._sources.items()):
            if source.live is live:
                del self._sources[other]
        reception = Reception(ssrc, live.track.format.clock_rate)
        made = _Source(live, reception, missing_then=live.track.counters.missing)
        self._sources[ssrc] = made
        return made

    # ------------------------------------------------------------------ what goes back

    def _ask_for_missing(self, source: _Source, now: float) -> None:
        wanted = source.asking.due(source.live.track.missing(), now)
        if wanted:
            ssrc = source.reception.ssrc
            self._peer.send_rtcp(feedback.resend_request(self._own, ssrc, wanted))

    def _ask_for_keyframe(self, track: str) -> bool:
        """Whether there is whom to ask."""
        ssrc = self.live.tracks[track].track.ssrc
        if self.state is not State.CONNECTED:
            self._wished.add(track)
            return False
        if ssrc is None:
            return False
        self._peer.send_rtcp(feedback.keyframe_request(self._own, ssrc))
        return True

    def _report(self, now: float) -> None:
        blocks = [source.reception.block(now) for source in self._sources.values()]
        if not blocks:
            return
        fractions = [
            block.fraction_lost / 256
            for block, source in zip(blocks, self._sources.values(), strict=True)
            if source.live.kind == VIDEO
        ]
        self.estimate = next_estimate(self.estimate, max(fractions, default=0.0))
        report = RtcpRrPacket(ssrc=self._own, reports=[_info(block) for block in blocks])
        self._peer.send_rtcp(bytes(report))
        self._tell_estimate()

    def _tell_estimate(self) -> None:
        ssrcs = list(self._sources) or [
            each.ssrc for each in (self._agreed.media if self._agreed else ()) if each.ssrc
        ]
        if ssrcs:
            self._peer.send_rtcp(feedback.estimate(self._own, self.estimate, ssrcs))

    def statistics(self, now: float) -> dict[str, object]:
        """For people and programs: JSON."""
        return {
            "session": self.id[:6],
            "client": self.client,
            "state": self.state.value,
            "age_s": round(now - self.created_at, 1),
            "estimate_bits_per_second": self.estimate,
            "tracks": [
                {
                    "track": source.live.description.id,
                    "received": source.reception.received,
                    "lost": source.reception.lost,
                    "asked_for_again": source.asking.asked,
                    "jitter_ms": round(1000 * source.reception.jitter_s, 1),
                }
                for source in self._sources.values()
            ],
        }


def next_estimate(estimate: int, fraction_lost: float) -> int:
    """What a publisher is told next: less where much is lost, up to the most where nothing is."""
    if fraction_lost > LOSSY:
        estimate = round(estimate * (1 - fraction_lost / 2))
    elif fraction_lost < CLEAN:
        estimate = round(estimate * 1.08)
    return max(ESTIMATE_BITS_MIN, min(estimate, ESTIMATE_BITS_MAX))


def _info(block: Block) -> RtcpReceiverInfo:
    return RtcpReceiverInfo(
        ssrc=block.ssrc,
        fraction_lost=block.fraction_lost,
        packets_lost=block.lost,
        highest_sequence=block.highest_number,
        jitter=block.jitter,
        lsr=block.last_report,
        dlsr=block.delay,
    )
