"""One viewer: a leg for each track that was agreed on, and what its RTCP asks for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from callboard.gateway.allowance import Allowance
from callboard.gateway.fanout.joining import Audio, Joining, join
from callboard.gateway.live import LiveStream, LiveTrack, NotPlayable
from callboard.gateway.ports import Fanout, Leg, Pair, Peer
from callboard.gateway.sdp.answers import Negotiated
from callboard.gateway.sdp.codecs import VIDEO, matches
from callboard.gateway.sdp.writing import Facts
from callboard.gateway.session import feedback
from callboard.gateway.session.clocks import report_clocks
from callboard.gateway.session.downlink import Downlink
from callboard.gateway.session.renditions import RenditionChoice, Slow, Way
from callboard.gateway.session.session import Session, State
from callboard.gateway.session.switching import Switch
from callboard.gateway.stream.packet import Packet

LOOK_S = 1.0
"""Between two looks at what a viewer reports."""
REPORT_INTERVAL_S = 2.0
EARLY_REPORTS, EARLY_INTERVAL_S = 3, 0.25
"""The first ones follow quickly: a browser needs two of each track to play them in step."""
RESENT_PER_S, RESENT_AT_ONCE = 300.0, 300
"""Packets, to one viewer: a third of a stream of 8 Mbit/s. Who loses more is helped by a keyframe,
not by more on a way that is full already."""
KEYFRAMES_PER_S, KEYFRAMES_AT_ONCE = 1.0, 5
"""Wishes of one viewer that are heeded. Each keyframe costs all viewers some of their picture's
quality; who needs one says so again and again."""
FIRST_NUMBERS = 1 << 14
"""A viewer's first number is less: libsrtp and receivers begin without a rollover counter, and a
first number near 2¹⁶ would be taken for one of another cycle when the next ones come first."""


@dataclass(frozen=True, slots=True)
class _Stopped:
    """Where a viewer's numbers were when sending stopped: they go on from there, whatever the
    track did meanwhile."""

    number: int
    """The next one."""
    stamp: int
    """The last one."""
    at: float


class Outlet:
    """One track on its way to one viewer."""

    def __init__(self, live: LiveTrack, agreed: Negotiated, leg: Leg) -> None:
        self.live = live
        self.agreed = agreed
        self.leg = leg
        self.downlink = Downlink(live.track.format.clock_rate)
        self.keyframes_wanted = 0
        """PLIs and FIRs."""
        self.resent = 0
        """Packets."""
        self.not_resent = 0
        """Packets that were asked for and are not there any more, or were too many."""
        self.reports_then = 0
        self._stopped: _Stopped | None = None
        self._dropped_then = 0

    @property
    def has_lost(self) -> bool:
        """Whether packets were dropped here since it began."""
        return self.leg.dropped > self._dropped_then

    def stop(self, now: float) -> None:
        """Leave the group; remember where the numbers are."""
        leg = self.leg
        self.live.group.leave(leg)
        if leg.next_number and self._stopped is None:
            # (not the track's newest one: a burst that was being paced has not come so far)
            stamp = leg.timestamp_of(self.live.track.newest_timestamp)
            self._stopped = _Stopped(leg.next_number, stamp, now)

    def number(self, burst: Sequence[Packet], rng: random.Random, now: float) -> float:
        """Choose what the first packet's number and timestamp are: of `burst`, or the next. Returns
        by how many seconds timestamps are ahead of those before the stop."""
        leg, track = self.leg, self.live.track
        self._dropped_then = leg.dropped
        first = burst[0].sequence if burst else track.newest + 1
        stopped, self._stopped = self._stopped, None
        if stopped is None:
            leg.rebase(rng.randrange(1, FIRST_NUMBERS) - first, rng.getrandbits(32))
            return 0.0
        # the newest packet is of now; the burst before it must not reach back before the stop
        rate = track.format.clock_rate
        span = track.newest_timestamp - burst[0].timestamp if burst else 0
        elapsed = max(round((now - stopped.at) * rate), span + rate // 1000)
        leg.rebase(stopped.number - first, stopped.stamp + elapsed - track.newest_timestamp)
        return elapsed / rate - (now - stopped.at)


class Viewer(Session):
    """See the module."""

    def __init__(
        self,
        id: str,
        live: LiveStream,
        peer: Peer,
        facts: Facts,
        fanout: Fanout,
        *,
        client: str,
        now: float,
        wall: Callable[[], float],
        rng: random.Random,
        on_ended: Callable[[Session], None],
    ) -> None:
        super().__init__(id, live.name, peer, facts, client=client, now=now, on_ended=on_ended)
        self.live = live
        self.paused = False
        self.estimate = 0
        """Bits per second that the way bears, as REMB says; 0: not told."""
        self._fanout = fanout
        self._wall = wall
        self._rng = rng
        self._outlets: dict[int, Outlet] = {}
        self._joining: Joining | None = None
        self._choice = RenditionChoice(now)
        self._switch: Switch | None = None
        self.on_slow: list[Callable[[Slow | None], None]] = []
        """Called when the link has become too slow, or is fast enough again."""
        self._look_at = self._report_at = 0.0
        self._reports = 0
        self._spread = rng.uniform(0.75, 1.25)
        """Of times between reports, so that not all viewers' go out in one step."""
        self._allowance = Allowance(RESENT_PER_S, RESENT_AT_ONCE)
        self._keyframes = Allowance(KEYFRAMES_PER_S, KEYFRAMES_AT_ONCE)
        peer.on_pair = self._moved
        peer.on_writable = self._writable
        live.join(self)

    # ------------------------------------------------------------------ life

    def connected(self, now: float) -> None:
        """Make the legs and begin, in one step of the loop."""
        assert self._agreed is not None
        for agreed in self._agreed.media:
            live = self.live.tracks[agreed.track]
            if live.kind == VIDEO:
                live = self._first(self.live.renditions(VIDEO), now)
            self._outlets[agreed.ssrc] = Outlet(live, agreed, self._leg(agreed))
        self._look_at = self._report_at = now
        if not self.paused:
            self._begin(now)

    def closing(self, *, connected: bool) -> None:
        """See Session."""
        self._stop_sending()
        if connected and self._outlets:
            self._peer.send_rtcp(feedback.good_bye(self._outlets, self._facts.cname))
        for outlet in self._outlets.values():
            outlet.leg.close()
        self.live.leave(self)

    def tick(self, now: float) -> None:
        """Reports, and what became of the last second."""
        super().tick(now)
        if self.state is not State.CONNECTED or self.paused or self._bursts:
            return
        if now >= self._report_at:
            early = self._reports < EARLY_REPORTS
            interval_s = EARLY_INTERVAL_S if early else REPORT_INTERVAL_S
            self._report_at = now + interval_s * self._spread
            self._report(now)
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._choose(now)
            if self._joining is not None and self._joining.waits and self._video is not None:
                self.live.want_keyframe(self._video.live, now)  # (who was asked may not have heard)

    @property
    def _bursts(self) -> bool:
        """Whether live pictures still wait behind those that a viewer begins with. They come late
        meanwhile: told of the clocks by now, a browser would delay the sound as much, and take
        that back by small steps only."""
        joining = self._joining
        return joining is not None and not joining.live and not joining.waits

    def pause(self) -> None:
        """Send no more for now; reports go on to be read."""
        self.paused = True
        self._stop_sending()

    def resume(self, now: float) -> None:
        """Go on with what is live."""
        if self.paused:
            self.paused = False
            if self.state is State.CONNECTED:
                self._begin(now)

    def switch_to(self, live: LiveStream, now: float) -> None:
        """Watch another stream instead, whose tracks are of the same codecs. Raises NotPlayable:
        then it goes on with the one that it has."""
        found: dict[int, LiveTrack] = {}
        for ssrc, outlet in self._outlets.items():
            fitting = [
                track
                for track in live.renditions(outlet.live.kind)
                if matches(track.description.codec, outlet.agreed.codec)
            ]
            if not fitting:
                raise NotPlayable(f"stream {live.name} has no {outlet.agreed.codec.rtpmap}")
            found[ssrc] = fitting[0]
        if self.state is not State.CONNECTED:
            raise NotPlayable("the viewer is not connected yet")
        self._stop_sending()
        old, self.live, self.stream = self.live, live, live.name
        for ssrc, outlet in self._outlets.items():
            outlet.live = found[ssrc]
        self._choice = RenditionChoice(now)
        if (video := self._video) is not None:
            video.live = self._first(live.renditions(VIDEO), now)
        live.join(self)
        old.leave(self)
        if not self.paused:
            self._begin(now)

    # ------------------------------------------------------------------ what the viewer says

    def take_rtcp(self, data: bytes, now: float) -> None:
        """See Session."""
        for said in feedback.read(data):
            match said:
                case feedback.Lost():
                    self._resend(said, now)
                case feedback.KeyframeWanted():
                    self._keyframe_wanted(said.ssrc, now)
                case feedback.Received():
                    if (outlet := self._outlets.get(said.ssrc)) is not None:
                        outlet.downlink.received(said, now)
                case feedback.Estimate():
                    self.estimate = said.bits_per_second

    def _resend(self, lost: feedback.Lost, now: float) -> None:
        outlet = self._outlets.get(lost.ssrc)
        if outlet is None or self.paused:
            return
        leg, newest = outlet.leg, outlet.live.track.newest
        sent = [number for number in lost.numbers if leg.was_sent(number)]
        numbers = sent[: self._allowance.take(len(sent), now)]
        ours = [leg.sequence_of(number, newest) for number in numbers]
        packets = outlet.live.track.lost(ours)
        outlet.resent += len(packets)
        outlet.not_resent += len(lost.numbers) - len(packets)
        leg.send(packets)

    def _keyframe_wanted(self, ssrc: int, now: float) -> None:
        outlet = self._outlets.get(ssrc)
        if outlet is not None and outlet.live.kind == VIDEO:
            outlet.keyframes_wanted += 1
            if self._keyframes.take(1, now):
                self.live.want_keyframe(outlet.live, now)

    # ------------------------------------------------------------------ sending

    def _leg(self, agreed: Negotiated) -> Leg:
        return self._fanout.leg(
            self._peer.srtp,
            self._peer.pair,
            ssrc=agreed.ssrc,
            payload_type=agreed.payload_type,
            sequence=0,
            timestamp=0,
            send_time_id=agreed.send_time_id,
        )

    @property
    def _video(self) -> Outlet | None:
        return next((o for o in self._outlets.values() if o.live.kind == VIDEO), None)

    def _begin(self, now: float) -> None:
        """Send the running group of pictures, and then what comes; without one, who has seen
        pictures gets none before a keyframe."""
        self.live.flush()  # what the burst ends with is not to come again
        video = self._video
        audio = next((o for o in self._outlets.values() if o.live.kind != VIDEO), None)
        if video is None:
            if audio is not None:
                audio.number((), self._rng, now)
                audio.live.group.join(audio.leg)
            return
        burst = video.live.track.burst(now)
        after = video.live.track.newest if video.leg.next_number and not burst else None
        ahead = video.number(burst, self._rng, now)
        if not burst:
            self.live.want_keyframe(video.live, now)
        beside = None
        if audio is not None:
            # who has heard some heard this, too
            sound = [] if audio.leg.next_number else audio.live.track.burst(now)
            audio.number(sound, self._rng, now + ahead)  # or lips would be behind
            beside = Audio(audio.leg, audio.live.group, sound)
        rate = self.live.bits_per_second(now)
        wanted = video.live

        def want_keyframe() -> None:
            self.live.want_keyframe(wanted, asyncio.get_running_loop().time())

        self._joining = join(
            video.leg, video.live.group, burst, rate, want_keyframe, audio=beside, after=after
        )

    def _stop_sending(self) -> None:
        if self._joining is not None:
            self._joining.close()
            self._joining = None
        if self._switch is not None:
            self._switch.cancel()
            self._switch = None
        now = asyncio.get_running_loop().time()
        for outlet in self._outlets.values():
            outlet.stop(now)

    # ------------------------------------------------------------------ renditions

    @property
    def slow(self) -> Slow | None:
        """What the link lacks; None if it does not."""
        return self._choice.slow

    def _choose(self, now: float) -> None:
        """Judge the way of video, and go to another rendition if need be."""
        outlet = self._video
        if outlet is None:
            return
        # nobody reports on what does not come
        comes = outlet.live.track.presence.is_live(now)
        if comes and outlet.downlink.reports == outlet.reports_then:
            return
        outlet.reports_then = outlet.downlink.reports
        renditions = self.live.renditions(VIDEO)
        rates = _rates(renditions, now)
        before = self._choice.slow
        way = Way(self.estimate, outlet.downlink.fraction_lost)
        wanted = renditions[self._choice.report(way, rates, now)]
        if self._choice.slow != before:
            for tell in self.on_slow:
                tell(self._choice.slow)
        going = self._switch.new if self._switch is not None else outlet.live
        if wanted is going or self._joining is None:
            return
        if self._joining.live:
            self._go_to(outlet, wanted, now)
        elif self._joining.waits:  # for a keyframe of what is not wanted any more
            self._stop_sending()
            outlet.live = wanted
            self._begin(now)

    def _first(self, renditions: Sequence[LiveTrack], now: float) -> LiveTrack:
        """The rendition to begin with."""
        return renditions[self._choice.begin(_rates(renditions, now))]

    def _go_to(self, outlet: Outlet, wanted: LiveTrack, now: float) -> None:
        if self._switch is not None:
            self._switch.cancel()
            self._switch = None
        if wanted is outlet.live:
            return

        def moved() -> None:
            outlet.live, self._switch = wanted, None

        clock = asyncio.get_running_loop().time
        self._switch = Switch(outlet.leg, outlet.live, wanted, clock, moved)
        self.live.want_keyframe(wanted, now)

    def _moved(self, pair: Pair) -> None:
        for outlet in self._outlets.values():
            outlet.leg.move(pair)
        self._writable(pair)

    def _writable(self, pair: Pair) -> None:
        """There is room. If packets were dropped, no picture is whole before a keyframe: begin
        anew. Their numbers were not used, and so nobody asks for them."""
        if self.paused or not any(outlet.has_lost for outlet in self._outlets.values()):
            return
        self._stop_sending()
        self._begin(asyncio.get_running_loop().time())

    def _report(self, now: float) -> None:
        outlets = [outlet for outlet in self._outlets.values() if outlet.leg.packets]
        clocks = report_clocks([outlet.live.track for outlet in outlets], now, self._wall())
        sent = []
        for outlet, clock in zip(outlets, clocks, strict=True):
            if clock is None:
                continue
            leg, ntp = outlet.leg, clock.ntp
            stamp = leg.timestamp_of(clock.timestamp)
            sent.append(feedback.Sent(leg.ssrc, ntp, stamp, leg.packets, leg.octets))
            outlet.downlink.reported(ntp, now)
        if sent:
            self._reports += 1
            self._peer.send_rtcp(feedback.sender_reports(sent, self._facts.cname))

    # ------------------------------------------------------------------ what is known

    def statistics(self, now: float) -> dict[str, object]:
        """For people and programs: JSON."""
        told: dict[str, object] = {
            "session": self.id[:6],
            "client": self.client,
            "state": "paused" if self.paused else self.state.value,
            "age_s": round(now - self.created_at, 1),
        }
        if self.state is State.CONNECTED:
            pair = self._peer.pair
            told["transport"] = "tcp" if pair.reliable else "udp"
            told["address"] = f"{pair.address.host} {pair.address.port}"
            told["estimate_bits_per_second"] = self.estimate or None
            slow = self._choice.slow
            told["slow"] = None if slow is None else {"needs": slow.needs, "gets": slow.gets}
            told["tracks"] = [_statistics(outlet) for outlet in self._outlets.values()]
        return told


def _rates(renditions: Sequence[LiveTrack], now: float) -> list[float]:
    return [each.track.bits_per_s(now) for each in renditions]


def _statistics(outlet: Outlet) -> dict[str, object]:
    leg = outlet.leg
    return {
        "track": outlet.live.description.id,
        "kind": outlet.live.kind,
        "codec": outlet.agreed.codec.name,
        "packets": leg.packets,
        "octets": leg.octets,
        "dropped": leg.dropped,
        "resent": outlet.resent,
        "not_resent": outlet.not_resent,
        "keyframes_wanted": outlet.keyframes_wanted,
        **outlet.downlink.statistics(),
    }
