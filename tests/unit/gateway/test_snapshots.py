"""/streams/NAME/snapshot.jpg: the newest keyframe as JPEG, whatever the codec."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import aiohttp
import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.eventually import eventually
from tests.harness.in_process import running
from tests.unit.gateway.http.stand import AUDIO_TRACK, VIDEO_TRACK, Feed
from tests.unit.gateway.stream import encoded

from callboard.gateway.fanout.plain import PlainFanout
from callboard.gateway.live import LiveStream, NotPlayable, StreamDescription, Streams
from callboard.gateway.service import GatewayProgram
from callboard.gateway.session.sessions import NoSession, NotYet
from callboard.gateway.settings import GatewaySettings
from callboard.gateway.snapshots.decoding import jpeg_of
from callboard.gateway.snapshots.frames import assembled, keyframe_of
from callboard.gateway.snapshots.pictures import Pictures
from callboard.gateway.sources.picture import HEIGHT, WIDTH
from callboard.gateway.stream.formats import format_of
from callboard.gateway.stream.packet import Packet
from callboard.gateway.stream.track import Track

CODECS = sorted(encoded.DECODERS)


def joined(codec: str, frames: int) -> list[Packet]:
    """The burst of a track that has taken so many frames of a recording."""
    track = Track(format_of(codec, 90_000, is_video=True))
    for frame in encoded.video(codec).frames[:frames]:
        for data in frame.packets:
            track.take(data, 0.0)
    return track.burst(0.0)


def size_of(jpeg: bytes) -> tuple[int, int]:
    """Of a picture; it is decoded whole."""
    decoder = av.CodecContext.create("mjpeg", "r")
    (frame,) = decoder.decode(av.Packet(jpeg))
    return frame.width, frame.height


# -------------------------------------------------------------------------------- frames


@pytest.mark.parametrize("codec", CODECS)
def test_the_keyframe_of_a_burst_becomes_a_picture(codec: str) -> None:
    frame = keyframe_of(joined(codec, 12))
    assert frame is not None
    jpeg = jpeg_of(codec, assembled(codec, [packet.payload for packet in frame]))
    assert jpeg.startswith(b"\xff\xd8") and jpeg.endswith(b"\xff\xd9")
    assert size_of(jpeg) == (encoded.WIDTH, encoded.HEIGHT)


@pytest.mark.parametrize("codec", CODECS)
def test_a_keyframe_that_lacks_a_packet_is_none(codec: str) -> None:
    burst = joined(codec, 1)
    assert len(burst) > 3
    assert keyframe_of(burst) == burst
    assert keyframe_of(burst[:-1]) is None
    assert keyframe_of(burst[:1] + burst[2:]) is None
    longer = joined(codec, 2)
    assert keyframe_of(longer[: len(burst) - 1] + longer[len(burst) :]) is None
    assert keyframe_of(burst[1:]) is None and keyframe_of([]) is None


@pytest.mark.parametrize("codec", CODECS)
def test_parts_of_a_frame_without_its_beginning_are_an_error_or_no_picture(codec: str) -> None:
    payloads = [packet.payload for packet in joined(codec, 1)[2:]]
    with pytest.raises(ValueError):
        jpeg_of(codec, assembled(codec, payloads))


@given(st.sampled_from(CODECS), st.lists(st.binary(max_size=40), max_size=6))
def test_no_payloads_are_more_than_an_error(codec: str, payloads: list[bytes]) -> None:
    with contextlib.suppress(ValueError):
        assert all(assembled(codec, payloads))


@given(st.sampled_from(CODECS), st.data())
def test_no_damaged_frame_is_more_than_an_error(codec: str, data: st.DataObject) -> None:
    payloads = [packet.payload for packet in joined(codec, 1)]
    at = data.draw(st.integers(0, len(payloads) - 1))
    damaged = bytearray(payloads[at])
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, min(len(damaged), 64) - 1))] = data.draw(
            st.integers(0, 255)
        )
    with contextlib.suppress(ValueError):
        parts = assembled(codec, [*payloads[:at], bytes(damaged), *payloads[at + 1 :]])
        assert size_of(jpeg_of(codec, parts)) > (0, 0)


def test_a_picture_that_says_it_is_huge_gets_no_memory() -> None:
    (frame,) = assembled("VP8", [packet.payload for packet in keyframe_of(joined("VP8", 1)) or ()])
    huge = frame[:6] + b"\xff\x3f\xff\x3f" + frame[10:]
    with pytest.raises(ValueError, match="VP8 that cannot be decoded"):
        jpeg_of("VP8", [huge])


def test_a_codec_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ValueError, match="H261 is not decoded: VP8, "):
        assembled("H261", [b"a"])


# -------------------------------------------------------------------------------- pictures


@pytest.fixture
def streams() -> Iterator[Streams]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        yield Streams(PlainFanout(unused))


@contextlib.asynccontextmanager
async def making(pictures: Pictures) -> AsyncIterator[Pictures]:
    try:
        yield pictures
    finally:
        await pictures.stop()


class Decoder:
    """Counts, and holds everything back while it is told to."""

    def __init__(self) -> None:
        self.calls = 0
        self.at_once = self.most_at_once = 0
        self.goes_on = threading.Event()
        self.goes_on.set()

    def __call__(self, codec: str, parts: Sequence[bytes]) -> bytes:
        self.calls += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.goes_on.wait(20)
        self.at_once -= 1
        return jpeg_of(codec, parts)


def opened(streams: Streams, name: str = "test", *, on_demand: bool = False) -> Feed:
    described = StreamDescription(name, name, (VIDEO_TRACK, AUDIO_TRACK), on_demand)
    return Feed(streams.open(described, "a test"))


async def test_a_live_stream_has_a_picture_which_is_kept_for_a_while(streams: Streams) -> None:
    feed, decode = opened(streams), Decoder()
    feed.frame()
    async with making(Pictures(decode=decode)) as pictures:
        first = await pictures.of(feed.live)
        assert size_of(first) == (encoded.WIDTH, encoded.HEIGHT)
        assert await pictures.of(feed.live) is first and decode.calls == 1
    async with making(Pictures(decode=decode, kept_s=0.0)) as pictures:
        assert await pictures.of(feed.live) == await pictures.of(feed.live)
        assert decode.calls == 3


async def test_a_picture_that_took_long_is_kept_the_less(streams: Streams) -> None:
    feed, decode = opened(streams), Decoder()
    feed.frame()
    decode.goes_on.clear()
    async with making(Pictures(decode=decode, kept_s=0.2)) as pictures:
        asked = asyncio.create_task(pictures.of(feed.live))
        started_at = asyncio.get_running_loop().time()
        assert await eventually(lambda: asyncio.get_running_loop().time() > started_at + 0.3)
        decode.goes_on.set()
        await asked
        await pictures.of(feed.live)
        assert decode.calls == 2


async def test_who_asks_together_shares_one_picture_and_streams_take_turns(
    streams: Streams,
) -> None:
    feeds, decode = [opened(streams, name) for name in "abc"], Decoder()
    decode.goes_on.clear()
    for feed in feeds:
        feed.frame()
    async with making(Pictures(decode=decode)) as pictures:
        asked = [asyncio.create_task(pictures.of(feed.live)) for feed in feeds for _ in range(5)]
        assert await eventually(lambda: decode.calls == 1)
        decode.goes_on.set()
        assert len(set(map(id, await asyncio.gather(*asked)))) == 3
        assert (decode.calls, decode.most_at_once) == (3, 1)


async def test_who_does_not_wait_takes_nobody_elses_picture(streams: Streams) -> None:
    feed, decode = opened(streams), Decoder()
    feed.frame()
    decode.goes_on.clear()
    async with making(Pictures(decode=decode)) as pictures:
        leaves, stays = (asyncio.create_task(pictures.of(feed.live)) for _ in range(2))
        assert await eventually(lambda: decode.calls == 1)
        leaves.cancel()
        await asyncio.gather(leaves, return_exceptions=True)
        decode.goes_on.set()
        assert (await stays).startswith(b"\xff\xd8")


async def test_without_a_keyframe_the_source_is_asked_and_waited_for(streams: Streams) -> None:
    feed = opened(streams)
    feed.sent = 1
    feed.frame()
    assert not feed.keyframes_wanted
    async with making(Pictures()) as pictures:
        asked = asyncio.create_task(pictures.of(feed.live))
        assert await eventually(lambda: feed.keyframes_wanted == ["video"])
        feed.sent = encoded.KEYFRAME_EVERY
        feed.frame()
        assert (await asked).startswith(b"\xff\xd8")


async def test_a_source_without_keyframes_is_waited_for_no_longer_than_told(
    streams: Streams,
) -> None:
    feed = opened(streams)
    feed.sent = 1
    feed.frame()
    async with making(Pictures(within_s=0.1)) as pictures:
        with pytest.raises(TimeoutError, match=r"no keyframe of test came in 0\.1 s"):
            await pictures.of(feed.live)


async def test_nothing_is_started_for_a_picture(streams: Streams) -> None:
    feed, wanted = opened(streams, on_demand=True), list[bool]()
    feed.live.on_wanted = wanted.append
    async with making(Pictures()) as pictures:
        with pytest.raises(NotYet, match="nobody watches stream test, and it is not started"):
            await pictures.of(feed.live)
        with pytest.raises(NotYet, match="no picture of stream off: nothing has come yet"):
            await pictures.of(opened(streams, "off").live)
        assert not wanted
        feed.frame()
        assert (await pictures.of(feed.live)).startswith(b"\xff\xd8")


async def test_stream_that_cannot_be_played_says_why_it_has_no_picture(streams: Streams) -> None:
    broken = streams.open(StreamDescription("broken", "B", (), problem="it has B-frames"), "a test")
    async with making(Pictures()) as pictures:
        with pytest.raises(NotPlayable, match="no picture of stream broken: it has B-frames"):
            await pictures.of(broken)


async def test_sound_has_no_picture_and_garbage_is_none(streams: Streams) -> None:
    sound = streams.open(StreamDescription("sound", "Sound", (AUDIO_TRACK,)), "a test")
    garbage = opened(streams, "garbage")
    async with making(Pictures()) as pictures:
        with pytest.raises(NoSession, match="stream sound has no picture"):
            await pictures.of(sound)
        _take_garbage(garbage.live)
        with pytest.raises(NotPlayable, match="VP8 that cannot be decoded"):
            await pictures.of(garbage.live)


def _take_garbage(live: LiveStream) -> None:
    """What says that it is a keyframe of VP8, and is not."""
    now = asyncio.get_running_loop().time()
    head = b"\x80\xe0\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01"
    live.take("video", head + b"\x10" + bytes(60), now)


async def test_a_stop_ends_who_waits(streams: Streams) -> None:
    feed = opened(streams)
    feed.sent = 1
    feed.frame()
    pictures = Pictures()
    asked = asyncio.create_task(pictures.of(feed.live))
    assert await eventually(lambda: feed.keyframes_wanted)
    await pictures.stop()
    with pytest.raises(asyncio.CancelledError):
        await asked


# -------------------------------------------------------------------------------- by HTTP


@contextlib.asynccontextmanager
async def served(token: Path | None = None) -> AsyncIterator[tuple[GatewayProgram, str]]:
    """A gateway, and the URL of its streams."""
    settings = GatewaySettings(port=0, media_port=0, pattern=True, whep_token=token)
    async with running(GatewayProgram(settings)) as gateway:
        yield gateway, f"http://127.0.0.1:{gateway.servers[0].port}/streams"


class Watcher:
    """Somebody who watches, for the stream."""

    def end(self, reason: str) -> None:
        """See live.Watcher."""


async def _without_keyframes(feed: Feed) -> None:
    while True:
        feed.sent += not feed.sent % encoded.KEYFRAME_EVERY
        feed.frame()
        await asyncio.sleep(0.1)


def _is_online(gateway: GatewayProgram, name: str) -> bool:
    live = gateway.streams.find(name)
    return live is not None and live.online


@pytest.mark.slow
async def test_a_snapshot_is_an_answer_of_its_own_type_or_says_why_not() -> None:
    async with served() as (gateway, streams), aiohttp.ClientSession() as client:

        async def ask(name: str) -> tuple[int, str, str | None, bytes]:
            async with client.get(f"{streams}/{name}/snapshot.jpg") as answer:
                after = answer.headers.get("Retry-After")
                return answer.status, answer.content_type, after, await answer.read()

        status, _, after, text = await ask("test-pattern")
        assert (status, after) == (409, "2") and text.startswith(b"nobody watches stream test-p")
        assert (await ask("nobody"))[0] == 404
        live = gateway.streams.find("test-pattern")
        assert live is not None
        live.join(Watcher())
        assert await eventually(lambda: live.online)
        status, kind, _, jpeg = await ask("test-pattern")
        assert (status, kind, size_of(jpeg)) == (200, "image/jpeg", (WIDTH, HEIGHT))
        sending = asyncio.create_task(_without_keyframes(opened(gateway.streams, "stuck")))
        assert await eventually(lambda: _is_online(gateway, "stuck"))
        status, _, after, text = await ask("stuck")
        sending.cancel()
        assert (status, after) == (503, "5")
        assert text == b"no keyframe of stuck came in 3 s\n"


async def test_a_picture_needs_the_token_that_watching_needs(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("watch-me")
    async with served(tmp_path / "token") as (gateway, streams), aiohttp.ClientSession() as client:
        opened(gateway.streams, "test").frame()
        url = f"{streams}/test/snapshot.jpg"
        for headers, status in (({}, 401), ({"Authorization": "Bearer watch-me"}, 200)):
            async with client.get(url, headers=headers) as answer:
                assert answer.status == status
