"""A WHEP server that does what a test wants: it refuses, inverts the offer, falls silent, dies.

It is made of aiortc, so that the player meets another server than ours: one that is not ICE-lite,
wants candidates, and cannot restart ICE. The live page is served beside it, as by the file server.
"""

from __future__ import annotations

import asyncio
import fractions
import re
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
from aiohttp import web
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from tests.harness.webrtc_client import loopback_only

from callboard import fileserver
from callboard.fileserver.entries import CSP
from callboard.gateway.sources.picture import HEIGHT, RATE, SAMPLE_RATE, SAMPLES, WIDTH, picture
from callboard.gateway.sources.picture import sound as sound_of

PAGE = Path(fileserver.__file__).with_name("web")
NAME, TITLE = "test-pattern", "Opus/VP8 live stream coming from gstreamer"
SDP, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
NO_KEYFRAME = b"\x10\x00\x00" + bytes(600)
"""Says that it is one (RFC 6386, 9.1), and lacks the start code: nothing can be decoded from it."""


class Source:
    """What the pictures and the sound of all sessions do."""

    def __init__(self) -> None:
        self.sends = asyncio.Event()
        """Cleared: neither comes."""
        self.sends.set()
        self.frozen = False
        """Pictures come that nobody can decode; the sound goes on."""
        self.pictures = 0
        """Handed to encoders; a busy machine makes fewer than RATE a second."""


class Pictures(MediaStreamTrack):
    """The test pattern, as long as the source sends."""

    kind = "video"

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self._number = 0
        self._begun = asyncio.get_running_loop().time()

    async def recv(self) -> Any:
        """The next picture, at its time."""
        loop = asyncio.get_running_loop()
        self._number += 1
        await asyncio.sleep(self._begun + self._number / RATE - loop.time())
        await self._source.sends.wait()
        self._number = max(self._number, int((loop.time() - self._begun) * RATE))
        pts, time_base = self._number * 90_000 // RATE, fractions.Fraction(1, 90_000)
        if self._source.frozen:
            packet = av.Packet(NO_KEYFRAME)
            packet.pts, packet.time_base = pts, time_base
            return packet
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for plane, drawn in zip(frame.planes, picture(self._number), strict=True):
            width = len(drawn) // plane.height
            padding = bytes(plane.line_size - width)
            rows = (drawn[at : at + width] + padding for at in range(0, len(drawn), width))
            plane.update(b"".join(rows))
        frame.pts, frame.time_base = pts, time_base
        self._source.pictures += 1
        return frame


class Sound(MediaStreamTrack):
    """The beeps that belong to it."""

    kind = "audio"

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self._number = 0
        self._begun = asyncio.get_running_loop().time()

    async def recv(self) -> Any:
        """The next 20 ms, at their time."""
        loop = asyncio.get_running_loop()
        self._number += 1
        await asyncio.sleep(self._begun + self._number * SAMPLES / SAMPLE_RATE - loop.time())
        await self._source.sends.wait()
        frame = av.AudioFrame("s16", "stereo", SAMPLES)
        frame.planes[0].update(sound_of(self._number))
        frame.pts, frame.sample_rate = self._number * SAMPLES, SAMPLE_RATE
        frame.time_base = fractions.Fraction(1, SAMPLE_RATE)
        return frame


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of the player's."""

    method: str
    path: str
    headers: dict[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class Refusing:
    """What a POST is answered with instead."""

    status: int
    text: str = ""
    retry_after_s: int | None = None


@dataclass
class Served:
    """One session."""

    id: str
    pc: RTCPeerConnection
    ufrag: str = ""
    """The player's."""
    etag: str = field(default_factory=lambda: f'"{secrets.token_hex(4)}"')
    slow: dict[str, int] | None = None

    def drop_packets(self, one_in: int) -> None:
        """Lose the same packets however often they are sent."""
        dtls = self.pc.getTransceivers()[0].sender.transport
        send = dtls._send_rtp

        async def lossy(data: bytes) -> None:
            if int.from_bytes(data[2:4], "big") % one_in:
                await send(data)

        dtls._send_rtp = lossy  # type: ignore[method-assign]  # nothing else stands in its way


class WhepStand:
    """The server; `port` once it serves."""

    def __init__(self) -> None:
        self.source = Source()
        self.port = 0
        self.asked: list[Asked] = []
        self.sessions: dict[str, Served] = {}
        self.refusals: deque[Refusing] = deque()
        """For the next POSTs, in turn."""
        self.kinds: tuple[str, ...] = ("video", "audio")
        self.inverts = False
        """406: the server makes the offer (draft-ietf-wish-whep-03, 4.2)."""
        self.unplayable = False
        """... of a codec that no browser has."""
        self.token = ""
        """Who does not show it is refused."""
        self.links: list[str] = []
        """ICE servers, as Link fields."""
        self.problem = ""
        """Why the stream is not playable."""
        self.down = False
        """Every connection is closed without an answer."""
        self.trickled = 0
        """Candidates that came by PATCH."""
        self._closing: set[asyncio.Task[None]] = set()

    def url(self, path: str = "live/") -> str:
        """Of a page."""
        return f"http://127.0.0.1:{self.port}/{path}"

    def count(self, method: str) -> int:
        """Requests of a method below /whep/."""
        return sum(one.method == method and "/whep/" in one.path for one in self.asked)

    @property
    def session(self) -> Served:
        """The newest one."""
        return list(self.sessions.values())[-1]

    async def kill(self) -> None:
        """As a process dies: no good-bye, no answer, and nothing is known afterwards."""
        self.down = True
        sessions = list(self.sessions.values())
        self.sessions.clear()
        for each in sessions:
            await each.pc.getTransceivers()[0].sender.transport.transport.stop()
            self._close_later(each.pc)

    def revive(self) -> None:
        """Answer again."""
        self.down = False

    def forget(self) -> None:
        """Know no session any more, and send nothing to any."""
        for each in self.sessions.values():
            self._close_later(each.pc)
        self.sessions.clear()

    def _close_later(self, pc: RTCPeerConnection) -> None:
        task = asyncio.get_running_loop().create_task(pc.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """End all sessions."""
        self.source.sends.set()
        self.forget()
        await asyncio.gather(*self._closing, return_exceptions=True)

    # ------------------------------------------------------------------ answers

    async def whep(self, request: web.Request) -> web.Response:
        """The endpoint of a stream, and its sessions."""
        body = await request.text()
        self.asked.append(Asked(request.method, request.path, dict(request.headers), body))
        shown = request.headers.get("Authorization")
        if self.token and request.method != "OPTIONS" and shown != f"Bearer {self.token}":
            return web.Response(status=401, text="the token is not right\n")
        id = request.match_info.get("id", "")
        if request.method == "OPTIONS":
            return self._with_links(web.Response(status=204, headers={"Accept-Post": SDP}))
        if not id:
            return await self._post(body)
        served = self.sessions.get(id)
        if served is None:
            return web.Response(status=404, text="there is no such session\n")
        if request.method == "PATCH":
            return await self._patch(request, served, body)
        if request.method == "DELETE":
            del self.sessions[id]
            self._close_later(served.pc)
        return web.Response(status=200 if request.method == "DELETE" else 204)

    def _with_links(self, answer: web.Response) -> web.Response:
        for link in self.links:
            answer.headers.add("Link", link)
        return answer

    async def _post(self, offer: str) -> web.Response:
        if self.refusals:
            refusing = self.refusals.popleft()
            after = refusing.retry_after_s
            headers = {} if after is None else {"Retry-After": str(after)}
            return web.Response(status=refusing.status, text=refusing.text, headers=headers)
        servers = RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        served = Served(secrets.token_hex(8), RTCPeerConnection(servers), _ufrag(offer))
        tracks = {"video": Pictures, "audio": Sound}
        if self.inverts:
            for kind in self.kinds:
                served.pc.addTrack(tracks[kind](self.source))
            made = await served.pc.createOffer()
        else:
            await served.pc.setRemoteDescription(_description(offer, "offer"))
            for transceiver in served.pc.getTransceivers():
                if transceiver.kind in self.kinds:
                    transceiver.sender.replaceTrack(tracks[transceiver.kind](self.source))
                    transceiver.direction = "sendonly"
                else:
                    transceiver.direction = "inactive"
            made = await served.pc.createAnswer()
        with loopback_only():
            await served.pc.setLocalDescription(made)
        self.sessions[served.id] = served
        text = served.pc.localDescription.sdp
        if self.unplayable:
            text = text.replace("VP8/90000", "H999/90000").replace("H264/90000", "H998/90000")
        headers = {"Location": f"{NAME}/{served.id}", "ETag": served.etag}
        answer = web.Response(
            status=406 if self.inverts else 201, text=text, headers=headers, content_type=SDP
        )
        return self._with_links(answer)

    async def _patch(self, request: web.Request, served: Served, body: str) -> web.Response:
        if request.content_type == SDP:
            served.ufrag = _ufrag(body)
            await served.pc.setRemoteDescription(_description(body, "answer"))
            return web.Response(status=204, headers={"ETag": served.etag})
        if request.headers.get("If-Match") not in (served.etag, "*"):
            return web.Response(status=412)
        if _ufrag(body) != served.ufrag:
            return web.Response(status=422, text="ICE is not restarted here\n")
        self.trickled += body.count("a=candidate:")
        return web.Response(status=204)

    async def streams(self, request: web.Request) -> web.Response:
        """The list, or one of it."""
        told: dict[str, Any] = {
            "name": NAME,
            "title": TITLE,
            "state": "not playable" if self.problem else "live",
            "playable": not self.problem,
            "reason": self.problem,
            "on_demand": False,
            "viewers": len(self.sessions),
            "attributes": {},
            "tracks": [{"id": kind, "kind": kind, "codec": kind} for kind in self.kinds],
        }
        if "name" not in request.match_info:
            return web.json_response([told])
        told["sessions"] = [
            {"session": each.id[:6], "slow": each.slow} for each in self.sessions.values()
        ]
        return web.json_response(told)

    async def page(self, request: web.Request) -> web.StreamResponse:
        """A file of the page."""
        name = request.match_info["name"] or "index.html"
        path = PAGE / "live" / name
        if not path.is_file() or path.parent.name != "live":
            raise web.HTTPNotFound
        return web.FileResponse(path, headers={"Content-Security-Policy": CSP})

    @web.middleware
    async def dies(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Close the connection of whoever asks a server that is down."""
        if self.down and request.transport is not None:
            request.transport.abort()
        return await handler(request)


def _ufrag(sdp: str) -> str:
    found = re.search(r"^a=ice-ufrag:(\S+)", sdp, re.M)
    return found[1] if found else ""


def _description(sdp: str, kind: str) -> RTCSessionDescription:
    """Without candidates: aioice would ask the network for the names that browsers hide them by,
    and it learns the address from their checks."""
    lines = sdp.splitlines()
    kept = [one for one in lines if not one.startswith(("a=candidate:", "a=end-of-candidates"))]
    return RTCSessionDescription("\r\n".join([*kept, ""]), kind)


@asynccontextmanager
async def whep_stand() -> AsyncIterator[WhepStand]:
    """A server at loopback, until the block's end."""
    stand = WhepStand()
    app = web.Application(middlewares=[stand.dies])
    app.router.add_get("/live/{name:[^/]*}", stand.page)
    app.router.add_get("/media/streams", stand.streams)
    app.router.add_get("/media/streams/{name}", stand.streams)
    app.router.add_route("*", f"/media/whep/{NAME}", stand.whep)
    app.router.add_route("*", f"/media/whep/{NAME}/{{id}}", stand.whep)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        stand.port = runner.addresses[0][1]
        yield stand
    finally:
        await stand.close()
        await runner.cleanup()


__all__ = ["NAME", "TITLE", "Asked", "Refusing", "Served", "WhepStand", "whep_stand"]
