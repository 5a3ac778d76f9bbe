"""A gateway in the test's own loop: real media port, fan-out, sessions and HTTP; media that was
recorded as its source; players of aiortc."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtcpByePacket
from tests.harness.webrtc_client import WebRtcClient, loopback_only
from tests.unit.gateway.stream.encoded import opus, video

from callboard.gateway.fanout.choosing import open_fanout
from callboard.gateway.http.application import Gateway
from callboard.gateway.http.bearer import Bearer
from callboard.gateway.http.ice_servers import IceServers
from callboard.gateway.live import LiveStream, StreamDescription, Streams, TrackDescription
from callboard.gateway.peer.peer import BrowserPeer
from callboard.gateway.peer.transports import MediaTransports
from callboard.gateway.sdp.codecs import AUDIO, VIDEO, Codec
from callboard.gateway.session.sessions import SessionLimits, Sessions
from callboard.gateway.sources.rtp import RtpSender
from callboard.serve import Request, Server
from callboard.serve.resources import Door

VIDEO_TRACK = TrackDescription("video", Codec(VIDEO, "VP8", 90_000))
AUDIO_TRACK = TrackDescription("audio", Codec(AUDIO, "opus", 48_000, 2))
FRAME_S = 0.04
HEADER_BYTES = 12


class Transports(MediaTransports):
    """Remembers its peers."""

    made: list[BrowserPeer]

    def peer(self) -> BrowserPeer:
        peer = super().peer()
        self.made = [*getattr(self, "made", ()), peer]
        return peer


class Clock:
    """The loop's, which a test may put forward."""

    ahead_s = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead_s


@dataclass
class Reply:
    """An answer of the gateway."""

    status: int
    headers: Mapping[str, str]
    links: list[str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Stand:
    """What a test has."""

    transports: Transports
    streams: Streams
    sessions: Sessions
    origin: str
    client: aiohttp.ClientSession
    clock: Clock
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        content_type: str | None = None,
        **headers: str,
    ) -> Reply:
        """One request; underscores of header names are hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if content_type is not None:
            named["Content-Type"] = content_type
        async with self.client.request(
            method, self.origin + path, data=body, headers=named, skip_auto_headers=["Content-Type"]
        ) as answer:
            links = answer.headers.getall("Link", [])
            return Reply(answer.status, answer.headers, links, await answer.read())

    def stream(
        self, name: str = "test", *tracks: TrackDescription, on_demand: bool = False
    ) -> Feed:
        """Open a stream with media to feed it."""
        described = StreamDescription(
            name, name.title(), tracks or (VIDEO_TRACK, AUDIO_TRACK), on_demand
        )
        return Feed(self.streams.open(described, "a test"))

    async def playing(self, name: str = "test") -> Feed:
        """A stream that is fed from now on, at its own pace."""
        feed = self.stream(name)
        self.tasks.append(asyncio.get_running_loop().create_task(feed.run()))
        return feed


class Feed:
    """A source: recorded VP8 and Opus, over and over."""

    def __init__(self, live: LiveStream, seed: int = 1) -> None:
        self.live = live
        self.keyframes_wanted: list[str] = []
        live.on_keyframe_wanted = self.keyframes_wanted.append
        rng = random.Random(seed)
        self._videos = {
            track: RtpSender(96, 90_000, rng)
            for track, each in live.tracks.items()
            if each.kind == VIDEO
        }
        self._audio = RtpSender(111, 48_000, rng)
        self._frames = [
            [packet[HEADER_BYTES:] for packet in frame.packets]
            for frame in video("VP8", size_max=1200).frames
        ]
        self._sounds = [
            packet[HEADER_BYTES:] for frame in opus().frames for packet in frame.packets
        ]
        self.sent = 0
        """Frames."""

    def frame(self) -> None:
        """One picture, and the sound that goes with it."""
        now = asyncio.get_running_loop().time()
        payloads = self._frames[self.sent % len(self._frames)]
        for track, sender in self._videos.items():
            for packet in sender.packets(payloads, self.sent * 3600, marker=True):
                self.live.take(track, packet, now)
        if "audio" in self.live.tracks:
            for half in range(2):
                at = 2 * self.sent + half
                sound = [self._sounds[at % len(self._sounds)]]
                for packet in self._audio.packets(sound, at * 960, marker=False):
                    self.live.take("audio", packet, now)
        self.sent += 1

    def report(self, wall: float) -> None:
        """Sender reports."""
        now = asyncio.get_running_loop().time()
        for track, sender in self._videos.items():
            self.live.take_rtcp(track, sender.report(self.sent * 3600, wall), now)
        self.live.take_rtcp("audio", self._audio.report(self.sent * 1920, wall), now)

    def ceases(self, track: str) -> None:
        """Send no more of one rendition."""
        del self._videos[track]

    def good_bye(self) -> bytes:
        """The end of the video's source (RTCP BYE)."""
        ssrc = self.live.tracks["video"].track.ssrc
        assert ssrc is not None
        return bytes(RtcpByePacket([ssrc]))

    def followed_by(self) -> Feed:
        """Another source of the same stream, with numbers and a clock of its own."""
        return Feed(self.live, seed=2)

    async def run(self) -> None:
        """At the pace of the recording."""
        while True:
            self.frame()
            await asyncio.sleep(FRAME_S)


class Player:
    """A WHEP client of aiortc that decodes what comes."""

    def __init__(self, kinds: Iterable[str] = (AUDIO, VIDEO)) -> None:
        configuration = RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        self.connection = RTCPeerConnection(configuration)
        self.frames = {AUDIO: 0, VIDEO: 0}
        self._tasks: list[asyncio.Task[None]] = []
        self.connection.on("track", self._begin)
        for kind in kinds:
            self.connection.addTransceiver(kind, direction="recvonly")

    async def offer(self) -> str:
        """What is posted."""
        offer = await self.connection.createOffer()
        with loopback_only():
            await self.connection.setLocalDescription(offer)
        return str(self.connection.localDescription.sdp)

    async def answer(self, offer: str) -> str:
        """Accept an offer of the gateway."""
        await self.connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        answer = await self.connection.createAnswer()
        with loopback_only():
            await self.connection.setLocalDescription(answer)
        return str(self.connection.localDescription.sdp)

    async def accept(self, answer: str) -> None:
        """Take the gateway's answer."""
        await self.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def statistics(self, kind: str) -> Mapping[str, int]:
        """packetsReceived, packetsLost, …, of the tracks of a kind."""
        for each in (await self.connection.getStats()).values():
            if each.type == "inbound-rtp" and each.kind == kind:
                return {
                    "packetsReceived": each.packetsReceived,
                    "packetsLost": each.packetsLost,
                    "jitter": each.jitter,
                }
        return {"packetsReceived": 0, "packetsLost": 0, "jitter": 0}

    def _begin(self, track: MediaStreamTrack) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(self._play(track)))

    async def _play(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                await track.recv()
                self.frames[track.kind] += 1

    async def close(self) -> None:
        """Leave."""
        await self.connection.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def watching(
    stand: Stand, name: str = "test", kinds: Iterable[str] = (AUDIO, VIDEO)
) -> AsyncIterator[tuple[Player, Reply]]:
    """A player of a stream, connected or about to be."""
    player = Player(kinds)
    try:
        offer = await player.offer()
        reply = await stand.ask("POST", f"/whep/{name}", offer, "application/sdp")
        assert reply.status == 201, reply.body
        await player.accept(reply.text)
        yield player, reply
    finally:
        await player.close()


@asynccontextmanager
async def receiving(
    stand: Stand, name: str = "test", kinds: Iterable[str] = (AUDIO, VIDEO)
) -> AsyncIterator[tuple[WebRtcClient, Reply]]:
    """A client that keeps what comes, connected. (aiortc takes no answer that rejects a kind.)"""
    directions = {kind: "recvonly" if kind in kinds else None for kind in (AUDIO, VIDEO)}
    client = await WebRtcClient.open(**directions)
    try:
        reply = await stand.ask("POST", f"/whep/{name}", client.offer, "application/sdp")
        assert reply.status == 201, reply.body
        await client.accept(reply.text)
        await client.connected()
        yield client, reply
    finally:
        await client.close()


def ssrc_of(description: str, kind: str) -> int:
    """The SSRC that a description of ours gives to a track."""
    section = next(part for part in description.split("m=") if part.startswith(kind))
    return int(section.split("a=ssrc:")[1].split()[0])


@asynccontextmanager
async def standing(
    *,
    limits: SessionLimits | None = None,
    watch_token: str = "",
    publish_token: str = "",
    ice_servers: IceServers | None = None,
    allowed_origins: Iterable[str] = (),
    frame_ancestors: str = "*",
    proxied: bool = False,
) -> AsyncIterator[Stand]:
    """A gateway; `proxied`: its listener is a known proxy's."""
    clock = Clock()
    transports = Transports("127.0.0.1", 0, clock=clock, sweep_interval_s=0.05)
    await transports.start()
    fanout = open_fanout(transports.socket, prefer="plain")
    streams = Streams(fanout)
    sessions = Sessions(streams, transports, fanout, limits)
    await sessions.start()
    gateway = Gateway(
        sessions,
        watching=Bearer(watch_token) if watch_token else None,
        publishing=Bearer(publish_token) if publish_token else None,
        ice_servers=ice_servers,
        allowed_origins=allowed_origins,
        frame_ancestors=frame_ancestors,
    )
    api = gateway.api(Door(proxy=lambda request: proxied and _is_forwarded(request)))
    server = Server(api.app, handlers=api.before, host="127.0.0.1", port=0)
    await server.start()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as client:
        origin = f"http://127.0.0.1:{server.port}"
        stand = Stand(transports, streams, sessions, origin, client, clock)
        try:
            yield stand
        finally:
            for task in stand.tasks:
                task.cancel()
            await asyncio.gather(*stand.tasks, return_exceptions=True)
            await server.stop(1.0)
            await sessions.stop()
            await transports.stop()


def _is_forwarded(request: Request) -> bool:
    return "x-forwarded-for" in request.headers
