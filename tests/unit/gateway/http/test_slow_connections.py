"""A viewer by TCP who stops reading and goes on: sound at once, the picture from a keyframe on."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from aiortc.rtp import RtcpRtpfbPacket
from tests.harness.capabilities import require
from tests.harness.eventually import eventually
from tests.harness.webrtc_client import FramedRelay, WebRtcClient
from tests.unit.gateway.http import stand as stands
from tests.unit.gateway.http.stand import Stand, ssrc_of, standing

from callboard.gateway.fanout.build import build
from callboard.gateway.fanout.native import NativeFanout
from callboard.gateway.mux.pairs import MuxPair
from callboard.gateway.ports import Address
from callboard.gateway.sdp.codecs import AUDIO, VIDEO
from callboard.gateway.session.viewer import Viewer
from callboard.gateway.sources.rtp import RtpSender

KEY, DELTA = b"\x10\x00", b"\x10\x01"
"""How the first packet of a frame of VP8 begins."""
KEY_BYTES, DELTA_BYTES, SOUND_BYTES = 1000, 1100, 100
"""Of payload: what is encrypted is told apart by its length."""
GROUP = 25
"""Frames, of one packet each."""


@pytest.fixture(params=["native", "plain"], autouse=True)
def fanout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both ways of sending."""
    if request.param == "native":  # (a stand's own is the other one)
        require("linux", "cc")
        library = tmp_path / "_fanout.so"
        assert build(library)
        monkeypatch.setattr(stands, "open_fanout", lambda sock, prefer: NativeFanout(sock, library))


class Source:
    """Frames and sounds that tell their numbers; it does what it wants with wishes."""

    def __init__(self, stand: Stand) -> None:
        self.live = stand.stream().live
        self.wishes: list[str] = []
        self.live.on_keyframe_wanted = self.wishes.append
        self.frames = 0
        self.keys: set[int] = set()
        rng = random.Random(5)
        self._video, self._audio = RtpSender(96, 90_000, rng), RtpSender(111, 48_000, rng)

    def send(self, *, key: bool = False) -> None:
        """A frame, and a sound."""
        now, n = asyncio.get_running_loop().time(), self.frames
        self.frames += 1
        if key:
            self.keys.add(n)
        begin, size = (KEY, KEY_BYTES) if key else (DELTA, DELTA_BYTES)
        frame = (begin + n.to_bytes(4, "big")).ljust(size, b"\0")
        for packet in self._video.packets([frame], n * 3600, marker=True):
            self.live.take("video", packet, now)
        sound = n.to_bytes(4, "big").ljust(SOUND_BYTES, b"\1")
        for packet in self._audio.packets([sound], n * 1920, marker=False):
            self.live.take("audio", packet, now)

    def group(self) -> None:
        """A keyframe, and what follows it."""
        for place in range(GROUP):
            self.send(key=place == 0)


class Relay(FramedRelay):
    """Gives the client its turn after each packet: its socket holds but a hundred."""

    async def _read(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._flows.wait():
                length = int.from_bytes(await self._reader.readexactly(2), "big")
                packet = await self._reader.readexactly(length)
                if self._client is not None and self._front is not None:
                    self._front.sendto(packet, self._client)
                await asyncio.sleep(0)


@dataclass
class Watching:
    """A viewer by TCP."""

    source: Source
    relay: FramedRelay
    client: WebRtcClient
    viewer: Viewer
    pair: MuxPair
    """The gateway's end of the connection."""
    ssrcs: dict[str, int]

    def numbers(self, kind: str) -> list[int]:
        """Which frames or sounds came, in the order of arrival."""
        newest = self.client.received[self.ssrcs[kind]].newest
        begin = 2 if kind == VIDEO else 0
        return [int.from_bytes(packet.payload[begin : begin + 4], "big") for packet in newest]

    def ahead_s(self, kind: str, number: int) -> float:
        """How far a frame's or sound's timestamp is from that of the first one, beyond its own
        time."""
        newest = self.client.received[self.ssrcs[kind]].newest
        stamps = dict(zip(self.numbers(kind), (packet.timestamp for packet in newest), strict=True))
        rate, first = (90_000 if kind == VIDEO else 48_000), GROUP - 1
        return ((stamps[number] - stamps[first]) & 0xFFFFFFFF) / rate - (number - first) * 0.04

    async def overflow(self, send: Callable[[], None]) -> int:
        """Read no more until packets are dropped; returns how many frames there were before."""
        self.relay.stall()

        def sent_to_no_avail() -> int:
            before = self.source.frames
            send()
            return before if self.pair.overflowed else 0

        return await eventually(sent_to_no_avail, interval_s=0)

    def told(self, kind: str) -> dict[str, int]:
        """What the gateway counts."""
        tracks = self.viewer.statistics(asyncio.get_running_loop().time())["tracks"]
        assert isinstance(tracks, list)
        found: dict[str, int] = next(track for track in tracks if track["kind"] == kind)
        return found

    def check_no_gap(self, kind: str) -> None:
        """What came is numbered without a gap, and no timestamp goes back."""
        received = self.client.received[self.ssrcs[kind]]
        assert all((b - a) & 0xFFFF == 1 for a, b in pairwise(received.sequences))
        assert all((b - a) & 0xFFFFFFFF < 1 << 31 for a, b in pairwise(received.timestamps))


@asynccontextmanager
async def watching() -> AsyncIterator[Watching]:
    """A viewer that has seen the first frames."""
    async with standing() as stand:
        source = Source(stand)
        source.group()
        relay = await Relay.open("127.0.0.1", stand.transports.port)
        client = await WebRtcClient.open(video="recvonly", audio="recvonly")
        try:
            reply = await stand.ask("POST", "/whep/test", client.offer, "application/sdp")
            await client.accept(reply.text, relay=relay)
            await client.connected()
            ssrcs = {kind: ssrc_of(reply.text, kind) for kind in (AUDIO, VIDEO)}
            (viewer,), (peer,) = stand.sessions.viewers("test"), stand.transports.made
            pair: MuxPair = peer.pair  # type: ignore[assignment] # the media port made it
            seen = Watching(source, relay, client, viewer, pair, ssrcs)
            assert await eventually(lambda: seen.numbers(VIDEO)[-1] == GROUP - 1)
            yield seen
        finally:
            await client.close()
            await relay.close()


def ends_with(watching: Watching, kind: str, number: int) -> Callable[[], bool]:
    """Whether that one has come, for `eventually`."""
    return lambda: watching.numbers(kind)[-1] == number


async def test_the_picture_goes_on_with_the_running_group_of_pictures() -> None:
    async with watching() as seen:
        source = seen.source
        await seen.overflow(source.group)
        source.group()
        source.group()
        newest = source.frames - 1
        key = max(source.keys)
        seen.relay.flow()
        assert await eventually(ends_with(seen, VIDEO, newest))
        source.send()
        assert await eventually(ends_with(seen, VIDEO, newest + 1))
        frames = seen.numbers(VIDEO)
        jump = next(at for at, (a, b) in enumerate(pairwise(frames), 1) if b != a + 1)
        assert frames[jump:] == list(range(key, newest + 2)), "from the keyframe on, each once"
        assert frames[jump - 1] < key - GROUP, "there were others, which are lost"
        assert source.wishes == []
        assert await eventually(ends_with(seen, AUDIO, newest + 1))
        lag_s = seen.ahead_s(VIDEO, newest + 1) - seen.ahead_s(AUDIO, newest + 1)
        assert abs(lag_s) < 0.005, "lips and voice go together before a report says how"
        seen.check_no_gap(VIDEO)
        seen.check_no_gap(AUDIO)
        assert not seen.pair.overflowed


async def test_without_a_group_the_picture_waits_for_the_sources_next_keyframe() -> None:
    """Though the source ignores what it is asked for, as OBS does."""
    async with watching() as seen:
        source = seen.source
        await seen.overflow(source.send)
        for _ in range(600):
            source.send()
        seen.relay.flow()
        assert await eventually(lambda: not seen.pair.overflowed)
        assert source.wishes == ["video"]
        source.send()
        assert await eventually(ends_with(seen, AUDIO, source.frames - 1)), "sound goes on"
        last = seen.numbers(VIDEO)[-1]
        for _ in range(5):
            source.send()
            assert await eventually(ends_with(seen, AUDIO, source.frames - 1))
        assert seen.numbers(VIDEO)[-1] == last, "no picture could be decoded"
        key = source.frames
        for place in range(5):
            source.send(key=place == 0)
            assert await eventually(ends_with(seen, VIDEO, key + place))
        frames = seen.numbers(VIDEO)
        assert frames[frames.index(last) :] == [last, *range(key, key + 5)]
        seen.check_no_gap(VIDEO)
        seen.check_no_gap(AUDIO)


async def test_a_source_that_sends_no_keyframe_is_asked_again() -> None:
    async with watching() as seen:
        await seen.overflow(seen.source.send)
        for _ in range(600):
            seen.source.send()
        seen.relay.flow()
        assert await eventually(lambda: len(seen.source.wishes) >= 3)


async def test_what_the_connection_dropped_is_not_sent_again() -> None:
    async with watching() as seen:
        await seen.overflow(seen.source.group)
        seen.source.group()
        seen.source.group()
        assert (dropped := seen.told(VIDEO)["dropped"]) > GROUP
        last = seen.client.received[seen.ssrcs[VIDEO]].sequences[-1] + seen.told(VIDEO)["packets"]
        lost = [number & 0xFFFF for number in range(last - 300, last + 300)]
        nack = bytes(RtcpRtpfbPacket(1, 1, seen.ssrcs[VIDEO], lost))
        seen.viewer.take_rtcp(nack, asyncio.get_running_loop().time())
        assert seen.told(VIDEO)["resent"] == 0
        assert seen.told(VIDEO)["dropped"] == dropped
        seen.relay.flow()
        assert await eventually(ends_with(seen, VIDEO, seen.source.frames - 1))
        resent = seen.told(VIDEO)["resent"]
        seen.viewer.take_rtcp(nack, asyncio.get_running_loop().time())
        assert seen.told(VIDEO)["resent"] - resent <= GROUP, "what came after it alone"


async def test_a_connection_that_overflows_again_and_again_begins_with_a_keyframe_each_time() -> (
    None
):
    async with watching() as seen:
        for _ in range(3):
            await seen.overflow(seen.source.group)
            seen.source.group()
            seen.source.group()
            seen.relay.flow()
            assert await eventually(ends_with(seen, VIDEO, seen.source.frames - 1))
        frames = seen.numbers(VIDEO)
        begun = [b for a, b in pairwise(frames) if b != a + 1]
        assert len(begun) == 3 and seen.source.keys.issuperset(begun)
        seen.check_no_gap(VIDEO)
        seen.check_no_gap(AUDIO)


async def test_a_paused_viewer_whose_connection_drains_gets_nothing_until_it_goes_on() -> None:
    async with watching() as seen:
        await seen.overflow(seen.source.group)
        seen.viewer.pause()
        seen.source.group()
        seen.source.group()
        seen.relay.flow()
        assert await eventually(lambda: not seen.pair.overflowed)
        sent = seen.told(VIDEO)["packets"], seen.told(AUDIO)["packets"]
        seen.source.send()
        assert (seen.told(VIDEO)["packets"], seen.told(AUDIO)["packets"]) == sent
        seen.viewer.resume(asyncio.get_running_loop().time())
        assert await eventually(ends_with(seen, VIDEO, seen.source.frames - 1))
        begun = [b for a, b in pairwise(seen.numbers(VIDEO)) if b != a + 1]
        assert seen.source.keys.issuperset(begun) and len(begun) == 1
        seen.check_no_gap(VIDEO)


class Kept:
    """Another way, which keeps what goes by it."""

    reliable = True
    address = Address("127.0.0.1", 9)

    def __init__(self) -> None:
        self.sizes: list[int] = []
        """Of packets of video."""

    def send(self, data: bytes) -> bool:
        if data[1] & 0x7F < 72 or data[1] & 0x7F > 76:
            self.sizes += [len(data)] * (len(data) > 2 * SOUND_BYTES)
        return True


async def test_another_way_begins_with_a_keyframe_if_the_first_had_no_room() -> None:
    async with watching() as seen:
        await seen.overflow(seen.source.group)
        seen.source.group()
        other = Kept()
        seen.viewer._peer.on_pair(other)
        assert await eventually(lambda: len(other.sizes) == GROUP)
        assert other.sizes.index(min(other.sizes)) == 0 and len(set(other.sizes)) == 2


async def test_another_way_goes_on_at_once_if_nothing_was_dropped() -> None:
    async with watching() as seen:
        other = Kept()
        seen.viewer._peer.on_pair(other)
        seen.source.send()
        assert len(other.sizes) == 1


async def test_room_that_nothing_was_dropped_for_changes_nothing() -> None:
    async with watching() as seen:
        sent = seen.told(VIDEO)["packets"]
        seen.viewer._peer.on_writable(seen.pair)
        assert (seen.told(VIDEO)["packets"], seen.source.wishes) == (sent, [])
