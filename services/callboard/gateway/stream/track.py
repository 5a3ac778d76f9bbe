"""One rendition of one track: its packets, and what is known of it. Pure.

source ─ RTP ─► take ─► packets for those who watch       burst ─► for who joins
source ─ RTCP ─► take_rtcp                                lost ─► for who missed some
"""

from __future__ import annotations

from collections.abc import Iterable

from callboard.gateway.stream.counters import Counters
from callboard.gateway.stream.formats import Format
from callboard.gateway.stream.gop import Gop
from callboard.gateway.stream.ingest import ANY_PAYLOAD_TYPE, TAKEOVER_S, Ingest
from callboard.gateway.stream.packet import Packet
from callboard.gateway.stream.presence import OFFLINE_AFTER_S, Presence
from callboard.gateway.stream.rate import BitRate
from callboard.gateway.stream.reports import SenderReport, read
from callboard.gateway.stream.requests import KeyframeRequests
from callboard.gateway.stream.ring import Ring
from callboard.gateway.stream.timeline import Clock


class Track:
    """Ties ingest, ring, GOP cache, keyframe requests, rate and presence together."""

    def __init__(
        self,
        format: Format,
        *,
        payload_type: int = ANY_PAYLOAD_TYPE,
        takeover_s: float = TAKEOVER_S,
        offline_after_s: float = OFFLINE_AFTER_S,
        parameter_sets: Iterable[bytes] = (),
    ) -> None:
        """`payload_type` is the source's; `parameter_sets` are NAL units that its description
        gives (H.264, H.265)."""
        self.format = format
        self.presence = Presence(offline_after_s)
        self.requests = KeyframeRequests()
        self._ingest = Ingest(
            format,
            payload_type=payload_type,
            takeover_s=takeover_s,
            parameter_sets=parameter_sets,
        )
        self._ring = Ring()
        self._gop = Gop(self._ring, format.clock_rate)
        self._rate = BitRate()
        self._restarts = 0
        self._withheld = 0

    # ------------------------------------------------------------------ what the source sends

    def take(self, data: bytes, now: float) -> list[Packet]:
        """Take a packet of RTP as it came; return what goes on to viewers, in order. What cannot be
        taken is counted; nothing raises. Of a source that began anew in the midst of its pictures
        none goes on before a keyframe, which is due: `keyframe_due`."""
        packets, counters = self._ingest.take(data, now), self._ingest.counters
        if counters.restarts != self._restarts:
            self._restarts = counters.restarts
            self._gop.clear()
            if self.format.is_video:
                self.requests.remember(now)
        if not packets:
            if counters.withheld != self._withheld:
                self._withheld = counters.withheld
                self.presence.saw(now)
            return packets
        for packet in packets:
            self._ring.put(packet)
            self._gop.put(packet)
            self._rate.add(len(packet.payload), now)
            if packet.keyframe:
                self.requests.keyframe_came()
        self.presence.saw(now)
        return packets

    def take_rtcp(self, data: bytes, now: float) -> bool:
        """Take a compound packet of RTCP; whether the source says good-bye in it. What is no RTCP
        is passed over."""
        ended = False
        for said in read(data):
            if isinstance(said, SenderReport):
                self._ingest.sender_report(*said)
            elif self._ingest.ssrc in said.ssrcs:
                self._ingest.goodbye()
                self.presence.end()
                ended = True
        return ended

    def forget_source(self) -> None:
        """Who sends is about to change, or may go on: whatever SSRC comes first is taken at once,
        as a source that begins anew."""
        self._ingest.forget_source()
        self.presence.end()

    def sender_report(self, ssrc: int, ntp_time: int, timestamp: int) -> None:
        """The source says (RTCP SR): at `ntp_time`, 64 bits, its clock was at `timestamp`."""
        self._ingest.sender_report(ssrc, ntp_time, timestamp)

    # ------------------------------------------------------------------ what viewers need

    def burst(self, now: float) -> list[Packet]:
        """What a viewer is sent who joins now, before live packets: the running group of pictures
        with its timestamps drawn together. Empty if there is none, or nothing comes any more: then
        a keyframe is to be asked for."""
        return self._gop.burst() if self.presence.is_live(now) else []

    def lost(self, numbers: Iterable[int]) -> list[Packet]:
        """Those of these numbers (the track's own, not wrapped) that can be sent again."""
        return self._ring.find(numbers)

    def wants_keyframe(self, now: float) -> bool:
        """A viewer needs a keyframe. Whether to send the source a request now; the wish is kept
        until one comes: `requests.deadline`, and then `keyframe_due`."""
        return self.requests.wish(now)

    def keyframe_due(self, now: float) -> bool:
        """Whether to send the source a request now, for a wish that is kept."""
        return self.requests.due(now)

    def keyframe_asked(self, now: float) -> None:
        """The source was sent the request that was due."""
        self.requests.asked(now)

    def clock(self) -> Clock | None:
        """What sender reports for viewers are made from; None until the source has sent one since
        it began."""
        return self._ingest.clock()

    # ------------------------------------------------------------------ what is known

    @property
    def counters(self) -> Counters:
        """What happened to its packets."""
        return self._ingest.counters

    @property
    def ssrc(self) -> int | None:
        """The source's, which requests name; None before its first packet, after its good-bye, and
        once it is forgotten."""
        return self._ingest.ssrc

    @property
    def newest(self) -> int:
        """The highest number so far; -1: none."""
        return self._ring.newest

    @property
    def newest_timestamp(self) -> int:
        """The highest one so far."""
        return self._ingest.newest_timestamp

    def missing(self) -> list[int]:
        """The source's numbers, 16 bits, that have not come but still may: what to ask it for."""
        return self._ingest.missing()

    def given_up(self) -> int:
        """How many of the source's packets did not come and no longer can; it never goes down."""
        return self._ingest.lost()

    def is_live(self, now: float) -> bool:
        """Whether media comes."""
        return self.presence.is_live(now)

    def bits_per_s(self, now: float) -> float:
        """Of payload, over the last two seconds."""
        return self._rate.bits_per_s(now)
