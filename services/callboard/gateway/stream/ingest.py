"""The one ingest stage of a track: packets of RTP in, the stream's packets out. Pure.

What comes out is numbered without a jump, of one clock, without padding and header extensions, no
longer than viewers' paths carry, and has parameter sets before keyframes. What cannot be passed on
is dropped and counted; nothing that comes from outside raises.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from callboard.gateway.stream.counters import Counters
from callboard.gateway.stream.formats import Format
from callboard.gateway.stream.numbering import DROPOUT_MAX, WINDOW, Numbering
from callboard.gateway.stream.packet import PAYLOAD_BYTES_MAX, Packet
from callboard.gateway.stream.parametersets import ParameterSets
from callboard.gateway.stream.timeline import Clock, Timeline
from callboard.media.rtp import BadPacket, RtpPacket, parse

TAKEOVER_S = 2.0
"""For so long a source may be silent before another SSRC takes its place."""
ANY_PAYLOAD_TYPE = -1


class _Held(NamedTuple):
    """A packet whose number is far away: taken when the next one goes on from there."""

    packet: RtpPacket
    now: float
    after_silence: bool
    """Nothing had come for so long that no packet is a late one."""

    def precedes(self, packet: RtpPacket) -> bool:
        """Whether the other one has the next number."""
        return self.packet.sequence + 1 & 0xFFFF == packet.sequence


class _Report(NamedTuple):
    """A sender report of an SSRC that has not sent yet."""

    ssrc: int
    ntp_time: int
    timestamp: int


class Ingest:
    """Turns a source's packets into a track's."""

    def __init__(
        self,
        format: Format,
        *,
        payload_type: int = ANY_PAYLOAD_TYPE,
        takeover_s: float = TAKEOVER_S,
        parameter_sets: Iterable[bytes] = (),
    ) -> None:
        """`parameter_sets`: NAL units that the description gives (H.264, H.265)."""
        self.counters = Counters()
        self.ssrc: int | None = None
        """The source's; None before its first packet, after its good-bye, and once forgotten."""
        self._gone: int | None = None
        """The SSRC that has said good-bye: packets of it may still be on the way."""
        self._format = format
        self._payload_type = payload_type
        self._takeover_s = takeover_s
        self._begins_keyframe = format.begins_keyframe
        rules = format.parameter_sets
        self._sets = None if rules is None else ParameterSets(rules, parameter_sets)
        self._sets_of: int | None = None
        """The SSRC that has sent them."""
        self._numbering = Numbering()
        self._timeline = Timeline(format.clock_rate)
        self._heard_at = float("-inf")
        self._held: _Held | None = None
        self._report: _Report | None = None
        self._frame = -1
        """The source's timestamp of the frame that was counted last."""
        self._withholds = False
        """The source began anew: its pictures refer to some that viewers have not, until a
        keyframe."""

    @property
    def newest_timestamp(self) -> int:
        """Ours, the highest so far."""
        return self._timeline.newest

    @property
    def next_sequence(self) -> int:
        """Ours, of the next packet."""
        return self._numbering.next

    def missing(self) -> list[int]:
        """The source's numbers that were passed over and may still come, the oldest first: what to
        ask for again (NACK)."""
        return self._numbering.missing()

    def lost(self) -> int:
        """How many of the source's numbers have not come, or came too late, and no longer can: it
        never goes down."""
        counters = self.counters
        return counters.missing - counters.reordered - len(self._numbering.missing())

    def take(self, data: bytes, now: float) -> list[Packet]:
        """Take a packet as it came; return what goes on, in order."""
        try:
            packet = parse(data)
        except BadPacket:
            self.counters.garbage += 1
            return []
        if packet.ssrc != self.ssrc:
            if not self._takes_over(packet, now):
                return []
            self._restart(packet, now)
        if self._withholds and not self._begins(packet, now):
            return []
        silent = now - self._heard_at >= self._takeover_s
        self._heard_at = now
        ahead = self._numbering.ahead(packet.sequence)
        if ahead == 0:
            if self._held is not None:
                self._drop_held()
            return self._take_next(packet, now)
        if 0 < ahead < DROPOUT_MAX:
            self._drop_held()
            self.counters.missing += ahead
            self._numbering.pass_over(ahead)
            return self._take_next(packet, now)
        if -WINDOW <= ahead < 0 and not silent and not self._begins_anew(packet):
            return self._take_late(packet, ahead)
        return self._take_wild(packet, now, after_silence=silent)

    def goodbye(self) -> None:
        """The source sends no more (RTCP BYE): another SSRC needs not wait."""
        self._gone, self.ssrc = self.ssrc, None

    def forget_source(self) -> None:
        """Who sends is about to change, or may go on: whatever SSRC comes first is the next."""
        self._gone = self.ssrc = None

    def sender_report(self, ssrc: int, ntp_time: int, timestamp: int) -> None:
        """The source says (RTCP SR): at `ntp_time`, 64 bits, its clock was at `timestamp`."""
        if ssrc == self.ssrc:
            self._timeline.report(ntp_time, timestamp)
        else:
            self._report = _Report(ssrc, ntp_time, timestamp)

    def clock(self) -> Clock | None:
        """What a sender report for viewers is made from; None until one has come since the source
        began."""
        return self._timeline.clock

    # ------------------------------------------------------------------ who is the source

    def _takes_over(self, packet: RtpPacket, now: float) -> bool:
        if self._is_other_type(packet):
            self.counters.payload_type += 1
            return False
        is_open = self.ssrc is None and packet.ssrc != self._gone
        if not is_open and now - self._heard_at < self._takeover_s:
            self.counters.foreign += 1
            return False
        return True

    def _restart(self, packet: RtpPacket, now: float) -> None:
        """Another source begins with this packet."""
        if self._numbering.next:
            self._count_restart()
        self.ssrc, self._gone = packet.ssrc, None
        self._drop_held()
        self._numbering.begin(packet.sequence)
        self._timeline.begin(packet.timestamp, now)
        if self._sets is not None and packet.ssrc != self._sets_of:
            self._sets.forget()
            self._sets_of = packet.ssrc
        report, self._report = self._report, None
        if report is not None and report.ssrc == packet.ssrc:
            self._timeline.report(report.ntp_time, report.timestamp)

    def _begins_anew(self, packet: RtpPacket) -> bool:
        held = self._held
        return held is not None and held.after_silence and held.precedes(packet)

    def _take_wild(self, packet: RtpPacket, now: float, *, after_silence: bool) -> list[Packet]:
        """A stray packet, or the first one after the source numbered anew (RFC 3550, A.1)."""
        held = self._held
        if held is None or not held.precedes(packet):
            self._drop_held()
            self._held = _Held(packet, now, after_silence)
            return []
        self._held = None
        self._count_restart()
        self._numbering.begin(held.packet.sequence)
        self._timeline.begin(held.packet.timestamp, held.now)
        made = []
        for each, at in ((held.packet, held.now), (packet, now)):
            if not self._withholds or self._begins(each, at):
                made += self._take_next(each, at)
        return made

    def _count_restart(self) -> None:
        self.counters.restarts += 1
        self._withholds = self._format.is_video

    def _begins(self, packet: RtpPacket, now: float) -> bool:
        """Whether pictures that were withheld go on with this packet. One that does not takes none
        of our numbers, so nobody asks for it again."""
        self._heard_at = now
        payload, sets = packet.payload, self._sets
        if not payload or self._is_other_type(packet):
            self._count_empty(packet)
            return False
        if not (self._begins_keyframe(payload) if sets is None else sets.begins(payload)):
            self.counters.withheld += 1
            if sets is not None:
                sets.look(payload, packet.timestamp)  # it may bring some
            return False
        self._withholds = False
        self._numbering.begin(packet.sequence)
        return True

    def _drop_held(self) -> None:
        if self._held is not None:
            self._held = None
            self.counters.wild += 1

    def _is_other_type(self, packet: RtpPacket) -> bool:
        return packet.payload_type != self._payload_type != ANY_PAYLOAD_TYPE

    # ------------------------------------------------------------------ what goes on

    def _take_next(self, packet: RtpPacket, now: float) -> list[Packet]:
        """The packet that was expected."""
        payload, counters = packet.payload, self.counters
        if not payload or self._is_other_type(packet):
            self._count_empty(packet)
            self._numbering.advance(0)
            return []
        timestamp = self._timeline.take(packet.timestamp, now)
        if timestamp is None:
            counters.jumps += 1
            timestamp = self._timeline.begin(packet.timestamp, now)
        if packet.timestamp != self._frame or not self._format.is_video:
            self._frame = packet.timestamp
            counters.frames += 1
        if self._sets is not None:
            keyframe, before = self._sets.look(payload, packet.timestamp)
            if before or len(payload) > PAYLOAD_BYTES_MAX:
                return self._several(packet, timestamp, keyframe, list(before))
        else:
            keyframe = self._begins_keyframe(payload)
            if len(payload) > PAYLOAD_BYTES_MAX:
                return self._several(packet, timestamp, keyframe, [])
        counters.packets += 1
        counters.octets += len(payload)
        counters.keyframes += keyframe
        number = self._numbering.next
        self._numbering.advance(1)
        return [Packet(number, timestamp, packet.marker, payload, keyframe)]

    def _several(
        self, packet: RtpPacket, timestamp: int, keyframe: bool, before: list[bytes]
    ) -> list[Packet]:
        """Packets for one that must be split, or that parameter sets go before."""
        counters = self.counters
        parts = self._parts(packet.payload)
        if not parts:
            counters.oversize += 1
            self._numbering.advance(1)  # a gap: a decoder must not take the frame for whole
            return []
        counters.packets += 1
        counters.octets += len(packet.payload)
        counters.keyframes += keyframe
        counters.split += len(parts) > 1
        counters.inserted += len(before)
        number = self._numbering.next
        self._numbering.advance(len(before) + len(parts))
        made = self._numbered(packet, number, timestamp, before + parts)
        if keyframe:
            made[0] = replace(made[0], keyframe=True)
        return made

    def _parts(self, payload: bytes) -> list[bytes] | None:
        if len(payload) <= PAYLOAD_BYTES_MAX:
            return [payload]
        return self._format.split(payload, PAYLOAD_BYTES_MAX)

    def _numbered(
        self, packet: RtpPacket, number: int, timestamp: int, payloads: list[bytes]
    ) -> list[Packet]:
        """The marker ends a frame of video, so it is the last part's; of audio it begins a spurt of
        talk (RFC 3551, 4.1), so it is the first one's."""
        is_video, per_tick = self._format.is_video, self._format.bytes_per_tick
        marked = number + (len(payloads) - 1 if is_video else 0)
        made = []
        for own, payload in enumerate(payloads, number):
            marker = packet.marker and own == marked
            made.append(Packet(own, timestamp, marker, payload, not is_video))
            timestamp += len(payload) // per_tick if per_tick else 0
        return made

    def _take_late(self, packet: RtpPacket, ahead: int) -> list[Packet]:
        """A packet that is behind: others have been passed on that come after it."""
        counters, payload = self.counters, packet.payload
        number = self._numbering.fill(ahead)
        if number is None:
            counters.duplicate += 1
            return []
        timestamp = self._timeline.take_late(packet.timestamp)
        if timestamp is None or len(payload) > PAYLOAD_BYTES_MAX:
            counters.late += 1  # there is one number for it, and not more
            return []
        counters.reordered += 1
        if not payload or self._is_other_type(packet):
            self._count_empty(packet)
            # Its number stands: so it goes on as what it is, or viewers would ask for it.
            return [Packet(number, timestamp, False, b"")]
        if self._sets is not None:
            keyframe, _ = self._sets.look(payload, packet.timestamp, late=True)
        else:
            keyframe = self._begins_keyframe(payload)
        counters.packets += 1
        counters.octets += len(payload)
        counters.keyframes += keyframe
        return [Packet(number, timestamp, packet.marker, payload, keyframe)]

    def _count_empty(self, packet: RtpPacket) -> None:
        if self._is_other_type(packet):
            self.counters.payload_type += 1
        else:
            self.counters.padding += 1
